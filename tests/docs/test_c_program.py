"""The C programs of docs/howto/c-program.md read what the Python beside them writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import shmkit
from support import REPOSITORY, Processes, wait_until

PAGE = (REPOSITORY / "docs" / "howto" / "c-program.md").read_text()
PROGRAMS = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_c_program_of_the_page_reads_what_python_wrote(tmp_path: Path, name: str, process: Processes) -> None:
    """Compiled as it stands, but for the names."""
    code = PROGRAMS[0]
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


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_page_s_consumer_receives_from_python(tmp_path: Path, name: str, process: Processes) -> None:
    """Compiled as the page says; frames, then the end."""
    (tmp_path / "program.c").write_text(PROGRAMS[1].replace('attach(&frames, "frames")', f'attach(&frames, "{name}")'))
    command = ["cc", f"-I{shmkit.get_include()}", "-O2", "-Wall", "-o", tmp_path / "program", tmp_path / "program.c"]
    subprocess.run([str(word) for word in command], check=True)
    with shmkit.Ring.create(name, "4 MiB", lifetime="leased") as ring:
        program = process.popen([tmp_path / "program"], stdout=subprocess.PIPE)
        wait_until(lambda: ring.statistics().consumer_pid == program.pid)  # a leased ring goes with its last user
        for rows in (480, 240):
            ring.send(np.zeros((rows, 640), "uint8"), 30)
    assert program.communicate(timeout=60)[0] == "|u1, 480 x 640\n|u1, 240 x 640\nthe other end has closed the ring\n"
