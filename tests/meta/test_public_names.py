"""What the package offers exists, says what it is, and is typed."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import shmkit
from support.sources import files, inside

PUBLIC = sorted(shmkit.__all__)


def methods(name: str) -> list[tuple[str, object]]:
    """The public attributes that the class adds, if it is one; what it overrides of NumPy's is described there."""
    owner = getattr(shmkit, name)
    if not inspect.isclass(owner):
        return []
    foreign = [base for base in owner.__mro__[1:] if base.__module__.split(".")[0] != "shmkit"]
    return [
        (attribute, value)
        for attribute, value in vars(owner).items()
        if not attribute.startswith("_") and not any(hasattr(base, attribute) for base in foreign)
    ]


def needs_words(value: object) -> bool:
    """Whether it is something that has a docstring of its own, rather than a constant."""
    return (
        callable(value)
        or isinstance(value, (property, staticmethod, classmethod))
        or inspect.isgetsetdescriptor(value)
        or inspect.ismemberdescriptor(value)
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_exists_and_has_a_docstring(name: str) -> None:
    """Each name of ``__all__`` is there; unless a constant or a module, it says what it is in words of its own."""
    value = getattr(shmkit, name)
    if isinstance(value, ModuleType) or not callable(value):
        return
    words = inspect.getdoc(value) if not inspect.isclass(value) else value.__dict__.get("__doc__")
    assert words, f"shmkit.{name} has no docstring"
    assert words.strip(), f"shmkit.{name} has no docstring"


@pytest.mark.parametrize(
    ("name", "method"), [(name, method) for name in PUBLIC for method, value in methods(name) if needs_words(value)]
)
def test_a_public_method_has_a_docstring(name: str, method: str) -> None:
    """Each public method and property of a public class says what it does (Cython's signature line is no word)."""
    words = inspect.getdoc(getattr(getattr(shmkit, name), method)) or ""
    first, _, rest = words.partition("\n")
    if first.startswith((f"{name}.{method}(", f"{method}:")):
        words = rest
    # A field of a named tuple: Python made that text up.
    assert words.strip(), f"shmkit.{name}.{method} has no docstring"
    assert not words.startswith("Alias for field number"), f"shmkit.{name}.{method} has no docstring of its own"


def test_no_public_name_is_missing_from_all() -> None:
    """What the package's ``__init__`` imports under a public name is meant to be public, and says so."""
    (path,) = [path for path in files(".py") if inside(path) == "__init__.py"]
    imported = {
        alias.asname or alias.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "shmkit")
        for alias in node.names
    }
    missing = {name for name in imported if not name.startswith("_")} - set(PUBLIC)
    assert not missing, f"imported but not in __all__: {sorted(missing)}"


@pytest.mark.parametrize("path", files(".py"), ids=inside)
def test_all_names_what_a_module_has(path: Path) -> None:
    """A module's ``__all__`` is sorted and free of strangers."""
    tree = ast.parse(path.read_text())
    named: list[str] = []
    bound: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            bound.update(targets)
            if "__all__" in targets:
                named = list(ast.literal_eval(node.value))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            bound.add(node.target.id)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            bound.add(node.name)
        else:
            for inner in ast.walk(node):
                if isinstance(inner, ast.alias):
                    bound.add((inner.asname or inner.name).split(".")[0])
                elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    bound.add(inner.id)
                elif isinstance(inner, (ast.ClassDef, ast.FunctionDef)):
                    bound.add(inner.name)
    assert len(named) == len(set(named))
    assert not set(named) - bound


@pytest.mark.parametrize("path", files(".pyx"), ids=inside)
def test_an_extension_has_a_stub(path: Path) -> None:
    """Type checkers cannot read a .pyx."""
    assert path.with_suffix(".pyi").exists(), f"{inside(path)} has no .pyi"
