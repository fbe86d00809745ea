"""The calls that docs/howto/migrate.md sends people to exist, and take these arguments."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from typing import Any

import pytest

import shmkit
from support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "howto" / "migrate.md").read_text()
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and "before" not in line]
# What a row calls an object that it has got before.
OBJECTS: dict[str, Any] = {"q": shmkit.Queue, "queue": shmkit.Queue, "array": shmkit.SharedArray}


def calls() -> list[str]:
    """Every snippet of the right column that is a call, or a name with a dot."""
    snippets = [snippet for row in ROWS for snippet in re.findall(r"`([^`]+)`", row[-1])]
    return [snippet for snippet in snippets if re.match(r"(shmkit|Segment|Queue|q|array)\b.*[.(]", snippet)]


def named(node: ast.expr) -> Any:
    """What a dotted name means, in the words of the page."""
    if isinstance(node, ast.Name):
        return shmkit if node.id == "shmkit" else OBJECTS.get(node.id) or getattr(shmkit, node.id)
    if isinstance(node, ast.Attribute):
        owner = named(node.value)
        if inspect.ismodule(owner) and not hasattr(owner, node.attr):
            return importlib.import_module(f"{owner.__name__}.{node.attr}")
        return getattr(owner, node.attr)
    if isinstance(node, ast.Call):
        made = named(node.func)
        # What a class's create and attach give is one of its own.
        return named(node.func.value) if isinstance(node.func, ast.Attribute) and not inspect.isclass(made) else made
    raise AssertionError(f"neither a name nor a call: {ast.unparse(node)}")


def test_there_are_rows_for_every_library() -> None:
    """As the page promises."""
    titles = " ".join(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    for library in (
        "multiprocessing.Queue",
        "shared_memory",
        "faster-fifo",
        "posix_ipc",
        "SharedArray",
        "PyTorch",
    ):
        assert library in titles
    assert len(calls()) > 25


@pytest.mark.parametrize("snippet", calls())
def test_a_new_call_exists(snippet: str) -> None:
    """With keywords that it knows; a `…` stands for what the reader has."""
    try:
        tree = ast.parse(snippet.replace("…", "a"), mode="eval")
    except SyntaxError:
        pytest.skip("is no expression")
    for call in ast.walk(tree):
        if isinstance(call, ast.Attribute):
            named(call)
        if isinstance(call, ast.Call):
            target = named(call.func)
            try:
                parameters = inspect.signature(target).parameters
            except (ValueError, TypeError):
                continue
            for keyword in call.keywords:
                assert keyword.arg in parameters, f"{snippet}: there is no {keyword.arg}"
