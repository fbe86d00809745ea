"""The page that compares the mechanisms is what its generator makes of the stored run."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest

from support import REPOSITORY

FIGURES = REPOSITORY / "docs" / "figures"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(FIGURES / "draw.py"))


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIGURES / "run.json").read_text(encoding="utf-8"))
    return found


def test_the_page_is_what_is_made_of_the_stored_run(generator: dict[str, Any], told: dict[str, Any]) -> None:
    """``python docs/figures/draw.py`` was run after the last change of it, and of the run."""
    page = (REPOSITORY / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert page == generator["page"](told), "run docs/figures/draw.py: docs/choosing.md is stale"


def test_every_mechanism_was_measured(generator: dict[str, Any], told: dict[str, Any]) -> None:
    """No line of the page without figures, unless it has none by nature."""
    measured = {found["mechanism"] for found in told["results"] if found["seconds"] is not None}
    assert {kind.by for kind in generator["KINDS"] if kind.by} <= measured


def test_every_address_has_a_line(generator: dict[str, Any]) -> None:
    """A new kind of channel is compared, too."""
    from shmkit.channel.url import EXAMPLES

    names = " ".join(kind.name for kind in generator["KINDS"])
    assert all(f"`{scheme}:" in names for scheme in EXAMPLES)


def test_a_sentence_and_the_table_say_the_same(generator: dict[str, Any], told: dict[str, Any]) -> None:
    """How much slower `unix://` is than a ring; and no time stands for another size without saying so."""
    found = {row["mechanism"]: row["seconds"] for row in told["results"] if _of_a_mebibyte(row)}
    ratio = found["unix://"] / found["shmkit.Ring"]
    page = generator["page"](told)
    times = f"{ratio:.0f}" if ratio >= 9.5 else f"{ratio:.1f}"
    assert f" {times} times as long through `unix://`" in page
    line = next(line for line in page.splitlines() if line.startswith("| [`SharedArray`]"))
    assert "(1 KiB);" in line


def _of_a_mebibyte(row: dict[str, Any]) -> bool:
    return bool(row["pattern"] == "throughput" and row["size"] == 1 << 20)


def test_the_pictures_are_there() -> None:
    """And the pages show them."""
    for name in ("libraries", "mechanisms", "others"):
        assert (FIGURES / f"{name}.png").stat().st_size > 10_000
