"""The command line as tests run it: in this process, as a program, and as another user."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import shmkit
from shmkit.cli import build_parser, main
from support import Processes

PR_SET_DUMPABLE = 4
NOBODY = 65534
SHMKIT = [sys.executable, "-m", "shmkit"]


class Said(NamedTuple):
    """What a command line answered."""

    status: int
    out: str
    err: str


def shmkit_says(*arguments: str) -> Said:
    """Runs it here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(arguments))
        except SystemExit as end:
            status = int(end.code or 0)
    return Said(status, *(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)))  # type: ignore[attr-defined]


def program_says(process: Processes, *arguments: str, env: Mapping[str, str] | None = None, **options: object) -> Said:
    """Runs it as a program of its own."""
    environment = {**os.environ, **(env or {})}
    program = process.popen(
        [*SHMKIT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options
    )
    out, err = program.communicate(timeout=60)
    return Said(program.returncode, out, err)


def user_says(uid: int, *arguments: str) -> Said:
    """Runs it in a child that has become that user for good."""
    # What the command imports may lie where only this user can read.
    build_parser()
    shmkit_says("ls", "nothing-of-that-name")
    shmkit_says("inspect", "nothing-of-that-name")
    shmkit_says("doctor", "--json")
    read_out, write_out = os.pipe()
    read_err, write_err = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.dup2(write_out, 1)
            os.dup2(write_err, 2)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            # As after an exec: its own files of /proc are its own.
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            try:
                status = main(list(arguments))
            except SystemExit as end:
                status = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(write_out)
    os.close(write_err)
    with open(read_out) as out, open(read_err) as err:
        said = out.read(), err.read()
    return Said(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *said)


@contextlib.contextmanager
def removed_at_end(*names: str) -> Iterator[None]:
    """Removes what may still have these names."""
    try:
        yield
    finally:
        for name in names:
            shmkit.unlink(name, missing_ok=True)


@contextlib.contextmanager
def objects_of_every_kind(make_name: Callable[[], str]) -> Iterator[list[str]]:
    """The names of a ring, a lock, an array, bytes, a queue and a topic, all of them in use."""
    names = [make_name() for _ in range(6)]
    with removed_at_end(*names), contextlib.ExitStack() as open_here:
        ring = open_here.enter_context(shmkit.Ring.create(names[0], "64 KiB"))
        ring.send(b"x" * 1000)
        lock = shmkit.Lock.create(names[1])
        lock.acquire()
        array = shmkit.create(names[2], (30, 40), "uint8")
        open_here.enter_context(shmkit.Segment.create(names[3], 100))
        queue = shmkit.Queue.create(names[4])
        queue.put("x")
        open_here.callback(queue.close)
        publisher = open_here.enter_context(shmkit.Publisher.create(names[5], slots=2, slot_size=1000))
        publisher.publish("x")
        yield names
        lock.release()
        del array


def take_and_die(name: str) -> None:
    """Holds the lock of that name, and is killed."""
    lock = shmkit.Lock.attach(name)
    lock.acquire()
    os.kill(os.getpid(), 9)


def receive_and_die(name: str) -> None:
    """Becomes the consumer of that ring, and is killed."""
    ring = shmkit.Ring.attach(name, role="consumer")
    assert ring is not None
    os.kill(os.getpid(), 9)


def make_leased_and_die(name: str) -> None:
    """Makes a leased array, and is killed."""
    array = shmkit.create(name, (100,), lifetime="leased")
    array[0] = 1
    os.kill(os.getpid(), 9)


def make_named_and_die(name: str) -> None:
    """Makes an array that lives until it is unlinked, and is killed."""
    shmkit.create(name, (3, 4), "float32")
    os.kill(os.getpid(), 9)
