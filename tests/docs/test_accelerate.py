"""The third-party programs of "accelerate an existing program" say the same with ``shmkit run`` as without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import blocks_of
from support import REPOSITORY, Processes

PAGE = REPOSITORY / "docs" / "howto" / "accelerate.md"
PACKAGES = {"tqdm": "ProcessPoolExecutor", "emcee": "Pool"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_before_and_after(package: str, tmp_path: Path, process: Processes) -> None:
    """And shmkit's classes were used."""
    pytest.importorskip(package)
    (block,) = [block for block in blocks_of(PAGE) if package in block.code]
    path = tmp_path / "program.py"
    path.write_text(block.code)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    said = []
    for before in ([], ["-m", "shmkit", "run", "--stats"]):
        program = process.popen(
            [sys.executable, *before, path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment,
        )  # fmt: skip
        output, complaint = program.communicate(timeout=100)
        assert program.returncode == 0, complaint
        said.append(next(line for line in output.splitlines() if line.startswith("sum ")))
        assert (PACKAGES[package] in complaint) is bool(before)
    assert said[0] == said[1]
