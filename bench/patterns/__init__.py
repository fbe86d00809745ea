"""The timed loops: those of ``shmkit bench``, and those of locks."""

from __future__ import annotations

from limits import compiled
from patterns.locks import *  # noqa: F403
from shmkit.cli.bench import machine
from shmkit.cli.bench.patterns import *  # noqa: F403
from shmkit.cli.bench.patterns import checks

checks.use(compiled)
machine.use_probe(compiled.line_ns)
