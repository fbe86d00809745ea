"""The package's sources as the meta tests read them: which files, who imports whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .places import PACKAGE

SUFFIXES = (".py", ".pyx", ".pxd", ".pyi", ".h")

_CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<source>[\w.]+)[ \t]+c?import[ \t]+(?P<names>\([^)]*\)|[^\n#]+)"
    r"|c?import[ \t]+(?P<modules>[^\n#]+))",
    re.MULTILINE,
)
_INCLUDE = re.compile(r'^[ \t]*(?:#[ \t]*include|cdef extern from|include)[ \t]+"(?P<file>[^"]+)"', re.MULTILINE)


class Edge(NamedTuple):
    """One import: ``line`` of ``file`` names ``module`` (absolute) and, with ``from``, ``names`` of it."""

    file: Path
    line: int
    module: str
    names: tuple[str, ...]


def files(*suffixes: str) -> list[Path]:
    """The package's own text files, in order; what a build leaves beside them is not among them."""
    found = (path for path in PACKAGE.rglob("*") if path.suffix in (suffixes or SUFFIXES))
    return sorted(path for path in found if path != PACKAGE / "include" / "shmkit.h")


def inside(path: Path) -> str:
    """The path within the package, as the tests print it."""
    return path.relative_to(PACKAGE).as_posix()


def edges(path: Path) -> Iterator[Edge]:
    """Every import, cimport and include of the file, wherever it stands in it."""
    text = path.read_text()
    if path.suffix in (".py", ".pyi"):
        yield from _python_edges(path, text)
        return
    if path.suffix != ".h":
        for match in _CYTHON_IMPORT.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match["modules"]:
                for module in match["modules"].split(","):
                    yield Edge(path, line, module.split()[0], ())
            else:
                names = [part.split()[0] for part in match["names"].strip("() \n").split(",") if part.strip()]
                yield Edge(path, line, _absolute(path, match["source"]), tuple(names))
    for match in _INCLUDE.finditer(text):
        yield Edge(path, text.count("\n", 0, match.start()) + 1, match["file"], ())


def _python_edges(path: Path, text: str) -> Iterator[Edge]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Edge(path, node.lineno, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(path, "." * node.level + (node.module or ""))
            yield Edge(path, node.lineno, module, tuple(alias.name for alias in node.names))


def _absolute(path: Path, module: str) -> str:
    dots = len(module) - len(module.lstrip("."))
    if not dots:
        return module
    folder = path.parent
    for _ in range(dots - 1):
        folder = folder.parent
    return ".".join([*folder.relative_to(PACKAGE.parent).parts, *filter(None, [module[dots:]])])


def targets(edge: Edge) -> Iterator[str]:
    """The files of the package, without suffix unless a header, that the edge leads to: ``_map``, ``segment/posix``."""
    if edge.module.endswith(".h"):
        if (PACKAGE / edge.module).exists():
            yield edge.module
        return
    if edge.module.split(".")[0] != "shmkit":
        return
    parts = edge.module.split(".")[1:]
    for name in edge.names or ("",):
        found = _file([*parts, name]) if name else None
        yield found or _file(parts) or "/".join(parts)


def _file(parts: list[str]) -> str | None:
    base = PACKAGE.joinpath(*parts)
    if parts and any(base.with_suffix(suffix).exists() for suffix in (".py", ".pyx", ".pxd")):
        return "/".join(parts)
    return "/".join([*parts, "__init__"]) if (base / "__init__.py").exists() else None
