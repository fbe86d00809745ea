"""``test._test_multiprocessing`` with every import of multiprocessing one of ``shmkit.multiprocessing``.

Its source is rewritten before it is compiled, the programs within that it starts included, in parents and children.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

_IMPORT = re.compile(
    r"\bfrom multiprocessing\b"
    r"|\bimport (?P<others>(?:\w+, )*)multiprocessing(?P<submodule>\.[a-z_.]+)?(?P<alias> as \w+)?\b"
)


def _ours(found: re.Match[str]) -> str:
    if found[0].startswith("from"):
        return "from shmkit.multiprocessing"
    others, submodule, alias = found["others"], found["submodule"], found["alias"]
    before = f"import {others.removesuffix(', ')}; " if others else ""
    if submodule is None or alias:
        module = f"shmkit.multiprocessing{submodule or ''}"
        return before + (f"import {module}{alias}" if alias else "from shmkit import multiprocessing")
    return before + f"import shmkit.multiprocessing{submodule}; from shmkit import multiprocessing"


def rewrite(source: str) -> str:
    """The source with our imports."""
    return _IMPORT.sub(_ours, source)


def load(name: str) -> ModuleType:
    """Imports the module `name` so."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(rewrite(Path(spec.origin).read_text()), spec.origin, "exec"), vars(module))
    sys.modules[name.rpartition(".")[0]].__dict__[name.rpartition(".")[2]] = module
    return module
