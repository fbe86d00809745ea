"""Every command of docs/command-line.md does what it says there, and every field of its JSON is described."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import posix_ipc
import pytest

import shmkit
from shmkit import cli
from support import REPOSITORY, Processes
from unit.cli_support import removed_at_end, shmkit_says

PAGE = (REPOSITORY / "docs" / "command-line.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line[2:] for block in BLOCKS for line in block.splitlines() if line.startswith("$ ")]
NAMES = ("camera0", "door", "picture", "scratch", "test-1", "test-2", "psm_1a2b", "todo", "temperature", "lines")


@pytest.fixture
def scene() -> Iterator[None]:
    """What the page speaks of; its names are plain ones, which the machine's own /dev/shm may have."""
    if any(os.path.exists(f"/dev/shm/{name}") for name in (*NAMES, "sem.ready")):
        pytest.skip("somebody else's objects have the names of the documentation's")
    with removed_at_end(*NAMES, "sem.ready"):
        ring = shmkit.Ring.create("camera0", "64 KiB")
        ring.send(b"x" * 1000)
        lock = shmkit.Lock.create("door")
        lock.acquire()
        array = shmkit.create("picture", (216, 288, 3), "uint8")
        for name in ("scratch", "test-1", "test-2"):
            shmkit.Segment.create(name, 100)
        posix_ipc.SharedMemory("/psm_1a2b", posix_ipc.O_CREX, size=100).close_fd()
        semaphore = posix_ipc.Semaphore("/ready", posix_ipc.O_CREX)
        segment = shmkit.Segment.create("jobs", 100, backing="sysv")
        queue = shmkit.Queue.create("todo")
        queue.put(b"one.jpg")
        queue.close()
        with shmkit.Publisher.create("temperature") as publisher:
            publisher.publish(21.5)
        yield
        segment.unlink()
        semaphore.close()
        lock.release()
        del array


def test_the_page_has_every_command() -> None:
    """That there is, but for those that pages of their own describe."""
    for command in cli.COMMANDS:
        if command not in ("demo", "run"):
            assert any(f"shmkit {command}" in line for line in COMMANDS), command


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_works(line: str, scene: None, tmp_path: Path, process: Processes) -> None:
    """In a shell; status 0, and nothing on standard error."""
    if "completion" in line:
        pytest.importorskip("shtab", reason="completion scripts are written by shtab (shmkit[cli])")
    (tmp_path / "shmkit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shmkit "$@"\n')
    (tmp_path / "shmkit").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    program = process.popen(
        ["bash", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    output, complaint = program.communicate(timeout=60)
    assert complaint == ""
    assert program.returncode == 0
    if "--json" in line and "||" not in line:
        assert json.loads(output)["schema"] == 1


def test_every_field_of_the_json_is_described(scene: None) -> None:
    """By its name, in the page."""
    (found,) = json.loads(shmkit_says("ls", "--json", "picture").out)["objects"]
    inspected = json.loads(shmkit_says("inspect", "--json", "picture").out)
    for field in {*found, *found["creator"], *inspected} - {"schema"}:
        assert f"`{field}`" in PAGE, field
    for field in json.loads(shmkit_says("gc", "--dry-run", "--json").out).keys() - {"schema", "dry_run"}:
        assert f"`{field}`" in PAGE, field


def test_the_python_of_the_page_runs(process: Processes) -> None:
    """As it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = process.python(code)
    program.communicate(timeout=60)
    assert program.returncode == 0


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_examples_of_the_help_are_understood(command: str) -> None:
    """Each is a command line that the parser takes."""
    said = shmkit_says(command, "--help").out.partition("examples:\n")[2]
    for line in said.splitlines():
        words = re.split(r"\s{2,}|\s[|<>]", line.strip())[0]
        program = subprocess.run(
            ["bash", "-c", f'printf "%s\\n" {words}'], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert program[0] == "shmkit"
        cli.build_parser().parse_args(program[1:])
