"""Every Python block of the documentation runs as it stands, and every picture is what the code beside it draws."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

from docs.pages import PAGES, Block, blocks_of
from support import REPOSITORY, Processes

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
DRAWINGS = REPOSITORY / "docs" / "drawings"


def test_there_are_blocks() -> None:
    """The pattern finds what it looks for, and hardly any is not run."""
    assert len(BLOCKS) >= 25
    assert sum(block.skipped is not None for block in BLOCKS) <= 3


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs(block: Block, tmp_path: Path, process: Processes) -> None:
    """As a program, in an empty folder: status 0, and nothing on standard error."""
    if block.skipped is not None:
        pytest.skip(block.skipped)
    program_file = tmp_path / "program.py"
    program_file.write_text(block.code)
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    program = process.python(
        program_file,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONWARNINGS": "ignore::DeprecationWarning"},
    )
    output, complaint = program.communicate(timeout=60)
    assert complaint == "", complaint
    assert program.returncode == 0, output


def test_a_picture_is_what_the_code_draws() -> None:
    """``python docs/drawings/draw.py`` was run after the last change of it."""
    pictures = runpy.run_path(str(DRAWINGS / "draw.py"))["PICTURES"]
    assert {path.stem for path in DRAWINGS.glob("*.svg")} == set(pictures)
    for name, picture in pictures.items():
        assert (DRAWINGS / f"{name}.svg").read_text(encoding="utf-8") == str(picture()), f"run draw.py: {name} is stale"


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_a_link_leads_somewhere(page: Path) -> None:
    """Each relative link is to a file that there is, and to a heading in it."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if target.startswith(("http", "mailto")):
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors_of(there), f"{page.name} links to {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The headings, as GitHub and MyST make anchors of them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_a_test_that_a_page_names_is_there(page: Path) -> None:
    """And so is every other file of the repository: a promise without its test is none."""
    for named in re.findall(r"`((?:tests|models|bench|examples|shmkit)/[\w./-]+)`", page.read_text()):
        assert (REPOSITORY / named).exists(), f"{page.name} names {named}"


def test_every_page_is_in_the_site() -> None:
    """Somebody who starts at the index can reach it."""
    listed = set()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), re.DOTALL):
            names = [line for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    there = {page.resolve() for page in (REPOSITORY / "docs").rglob("*.md")} - {REPOSITORY / "docs" / "index.md"}
    assert there == listed, f"list them in a toctree of docs/index.md: {sorted(map(str, there ^ listed))}"
