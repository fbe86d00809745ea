"""The C program of docs/howto/c-program.md reads what the Python beside it writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import shmkit
from support import REPOSITORY, Processes

PAGE = (REPOSITORY / "docs" / "howto" / "c-program.md").read_text()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_program_of_the_page_reads_what_python_wrote(tmp_path: Path, name: str, process: Processes) -> None:
    """Compiled as it stands, but for the names."""
    (code,) = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "program.c").write_text(code.replace("samples-ready", f"{name}r").replace("/samples", f"/{name}"))
    command = ["cc", "-Wall", "-o", tmp_path / "program", tmp_path / "program.c", "-lrt", "-pthread"]
    subprocess.run([str(word) for word in command], check=True)
    segment = shmkit.Segment.create(name, 1000 * 8, raw=True)
    ready = shmkit.PosixSemaphore.create(f"{name}r", 0)
    try:
        program = process.popen([tmp_path / "program"], stdout=subprocess.PIPE)
        segment.ndarray((1000,), "float64")[999] = 2.5
        ready.release()
        assert program.communicate(timeout=60)[0] == "2.5\n"
    finally:
        segment.unlink()
        ready.unlink()
        ready.close()
        segment.close()
