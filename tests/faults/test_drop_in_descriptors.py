"""Processes that run out of descriptors: what pipes lend is copied then, and is lent again once there are some."""

from __future__ import annotations

import os

import pytest

from faults.test_drop_in_environment import FACES, run

FEW = """
import resource, signal
import numpy as np
N = 20_000  # bytes: they fit into a pipe, so that a send of them waits for nobody
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
signal.alarm(90)
os.register_at_fork(after_in_child=lambda: signal.alarm(90))
def use_up():
    # All that are lower are taken.
    number = os.dup(0)
    os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
def restore():
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
def sent(number):
    return np.full(N, number % 256, "u1")
def lends(end, number=0):
    \"\"\"Whether what it sends lies in memory, as nobody has taken it.\"\"\"
    before = end._pair.waiting(end._side)[0]
    end.send(sent(number))
    return end._pair.waiting(end._side)[0] == before + 1
def lends_soon(sender, receiver):
    for number in range(1_000_000):
        lent = lends(sender, number)
        got = receiver.recv()
        assert got.flags.writeable and (got == sent(number)).all()
        if lent: return
    raise AssertionError("never")
def copies(sender, receiver):
    for number in range(20):
        assert not lends(sender, number)
        assert (receiver.recv() == sent(number)).all()
"""


@pytest.mark.parametrize("face", FACES)
def test_a_forked_child_lends_once_it_has_descriptors_again(face: str) -> None:
    """It takes and sends copies before that, and goes on lending after it."""
    run(
        face,
        FEW
        + """
for duplex in (False, True):
    receiver, sender = mp.Pipe(duplex)
    assert in_fork(lambda: None) == 0
    sender.send(sent(7))
    def child():
        use_up()
        assert (receiver.recv() == sent(7)).all()
        copies(sender, receiver)
        restore()
        lends_soon(sender, receiver)
        use_up()
        assert lends(sender) and lends(sender)  # what it needs for that it has
        for _ in range(2): receiver.recv()
    assert in_fork(child) == 0
    assert lends(sender)
    receiver.recv()
    receiver.close(), sender.close()
print("fine")
""",
    )


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("face", FACES)
def test_a_child_that_answers_joins_once_it_can(face: str, small: bool) -> None:
    """Whether it gets large messages, or small ones alone."""
    run(
        face,
        FEW
        + f"""
from shmkit._heap import process_heap
small = {small}
receiver, sender = mp.Pipe()
def child():
    use_up()
    while (got := receiver.recv()) is not None:
        assert type(got) is not np.ndarray or (got == sent(7)).all()
        if got is ...: restore()
        receiver.send(1)
def answered(message):
    sender.send(message)
    assert sender.recv() == 1
def beside():
    answered(1)
    answered(sent(7))
    before = process_heap().statistics()["members"]
    answered(...)
    while process_heap().statistics()["members"] == before:
        answered(1 if small else sent(7))
    sender.send(None)
    print("fine")
thread = threading.Thread(target=beside)
thread.start()
assert in_fork(child) == 0
thread.join()
""",
    )


@pytest.mark.parametrize("face", FACES)
def test_a_pipe_for_which_there_was_no_memory_lends_once_there_is(face: str) -> None:
    """As long as no other process has an end."""
    run(
        face,
        FEW
        + """
pipe = mp.Pipe()
use_up()
copies(*pipe)
restore()
lends_soon(*pipe)
def child():
    assert lends(pipe[0])
    assert (pipe[1].recv() == sent(0)).all()
assert in_fork(child) == 0
print("fine")
""",
    )


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("face", FACES)
def test_who_shares_a_pipe_without_memory_copies_for_good(face: str, used: bool) -> None:
    """What one of them made later the other would not know of."""
    run(
        face,
        FEW
        + f"""
left, right = mp.Pipe()
use_up()
if {used}: copies(left, right)
def go_on(end, number, other):
    restore()
    lends_soon(*mp.Pipe())
    end.send(sent(number))
    assert (end.recv() == sent(other)).all()
pid = os.fork()
if pid == 0:
    try:
        go_on(right, 8, 7)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
go_on(left, 7, 8)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
copies(left, right)
print("fine")
""",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root")
@pytest.mark.parametrize("face", FACES)
def test_what_a_child_has_no_way_to_it_does_not_try_again(face: str) -> None:
    """A root without /proc, though it leaves it: another pipe, which wanted descriptors, is lent through meanwhile."""
    run(
        face,
        FEW
        + """
import tempfile
folder = tempfile.mkdtemp()
lasting, passing = mp.Pipe(), mp.Pipe()
assert in_fork(lambda: None) == 0
def child():
    root = os.open("/", os.O_RDONLY)
    os.chroot(folder)
    os.chdir("/")
    copies(*lasting)
    os.fchdir(root)
    os.chroot(".")
    os.close(root)
    use_up()
    copies(*passing)
    restore()
    lends_soon(*passing)
    copies(*lasting)
assert in_fork(child) == 0
os.rmdir(folder)
print("fine")
""",
    )
