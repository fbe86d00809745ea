"""Every program of examples/ runs, under fork and under spawn, and is listed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY, Processes

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, method: str, process: Processes, tmp_path: Path) -> None:
    """Status 0, something on standard output, and nothing on standard error."""
    if method == "fork":
        argv = [str(path)]
    else:
        starter = tmp_path / "starter.py"
        starter.write_text(
            "import multiprocessing, runpy, sys\n"
            f"sys.path.insert(0, {str(path.parent)!r})\n"
            "if __name__ == '__main__':\n"
            "    multiprocessing.set_start_method('spawn')\n"
            f"    import {path.stem}\n"
            f"    {path.stem}.main()\n"
        )
        argv = [str(starter)]
    program = process.popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    output, complaint = program.communicate(timeout=60)
    assert complaint == ""
    assert program.returncode == 0, output
    assert output


def test_every_example_is_listed() -> None:
    """In examples/README.md, and nothing that is not there."""
    listed = re.findall(r"\((\w+\.py)\)", (REPOSITORY / "examples" / "README.md").read_text())
    assert sorted(listed) == [path.name for path in EXAMPLES]
