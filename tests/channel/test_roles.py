"""Other processes listen, receive and answer, on every kind of channel; test_face has those that send."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from channel import ends, roles
from channel.ends import KINDS, WATCHDOG, Kind
from channel.test_face import under_every_start_method
from shmkit import channel
from support import REPOSITORY, Processes

PROGRAM = "import sys; from channel import roles; roles.program(*sys.argv[1:])"


@under_every_start_method([kind for kind in KINDS if not kind.paired])
def test_a_child_listens(kind: Kind, start_method: BaseContext, process: Processes, tmp_path: Path, name: str) -> None:
    """It receives what is sent to where it listens, and answers, if the channel is duplex."""
    here, there = start_method.Pipe(duplex=False)
    with here, there:
        url = ends.address(kind, tmp_path, name)
        child = process(roles.listen_and_answer, kind, url, there.send, context=start_method)
        assert here.poll(WATCHDOG)
        with ends.connect(kind, here.recv()) as sender:
            roles.ask(sender, kind.most)
    child.join(WATCHDOG)
    assert child.exitcode == 0


@under_every_start_method([kind for kind in KINDS if kind.paired and kind.duplex])
def test_a_child_answers(kind: Kind, start_method: BaseContext, process: Processes) -> None:
    """Through the end that it was given."""
    ours, theirs = channel.pair(kind.url)
    child = process(roles.answer, theirs, kind.most, context=start_method)
    theirs.close()
    with ours:
        roles.ask(ours, kind.most)
    child.join(WATCHDOG)
    assert child.exitcode == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.paired], ids=str)
def test_an_unrelated_program_receives_and_answers(
    kind: Kind, process: Processes, tmp_path: Path, make_name: Callable[[], str]
) -> None:
    """Where it connects, if the channel is duplex, and where it listens."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), *sys.path])}
    with ExitStack() as stack:
        ours = ""
        if kind.duplex:
            asker = stack.enter_context(ends.listen(kind, ends.address(kind, tmp_path, make_name())))
            ours = asker.url
        program = process.python(PROGRAM, kind.name, ours, ends.address(kind, tmp_path, make_name()), env=env)
        if kind.duplex:
            asker.meet(WATCHDOG)
            roles.ask(asker, kind.most)
        assert program.stdout is not None
        with ends.connect(kind, program.stdout.readline().strip()) as sender:
            roles.ask(sender, kind.most)
        assert program.wait(WATCHDOG) == 0
