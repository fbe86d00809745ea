"""Whatever a user may import stands in the reference."""

from __future__ import annotations

import importlib
import re

import pytest

from support import REPOSITORY

REFERENCE = "\n".join(path.read_text() for path in sorted((REPOSITORY / "docs" / "api").glob("*.md")))
NAMED = set(re.findall(r"\.\. (?:autoclass|autofunction|py:data):: (\S+)", REFERENCE))
MODULES = (
    *("shmkit", "shmkit.descriptors", "shmkit.fifo", "shmkit.files", "shmkit.log", "shmkit.mqueue", "shmkit.pipe"),
    *("shmkit.signals", "shmkit.socket", "shmkit.survey"),
)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_described(module: str) -> None:
    """Under the name by which one imports it, or another that it has; exceptions stand there all at once."""
    from shmkit import errors

    of_module = importlib.import_module(module)
    described = [getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in NAMED]
    missing = [
        name
        for name in of_module.__all__
        if f"{module}.{name}" not in NAMED
        and not hasattr(errors, name)
        and not any(getattr(of_module, name) is each for each in described)
    ]
    assert missing == []
