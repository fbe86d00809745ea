"""Semaphores with a name, shmkit's own, POSIX and System V, by one face; then what each of the kernel's has alone."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import posix_ipc
import pytest
import sysv_ipc

import shmkit
from shmkit import PosixSemaphore, SysVSemaphore
from shmkit.semaphore.posix import POSIX_MOST, unlink_posix
from shmkit.semaphore.sysv import SYSV_MOST, unlink_sysv
from support import Processes, wait_until
from unit import semaphore_children as children

WATCHDOG = 60.0
KINDS: dict[str, Any] = {"own": shmkit.Semaphore, "posix": PosixSemaphore, "sysv": SysVSemaphore}
MOST = {"own": 2**31 - 1, "posix": POSIX_MOST, "sysv": SYSV_MOST}
compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(params=KINDS)
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(which: str) -> Any:
    return KINDS[which]


@pytest.fixture
def make(kind: Any, name: str) -> Any:
    """Makes one under the test's name; it goes with the test."""
    made: list[Any] = []

    def create(value: int = 1, **options: Any) -> Any:
        made.append(kind.create(name, value, **options))
        return made[-1]

    yield create
    while made:
        made.pop().close()
        with contextlib.suppress(shmkit.SegmentNotFound):
            kind.attach(name).unlink()


# ── one face ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_created_attached_and_unlinked(kind: Any, name: str) -> None:
    """With the exceptions that a caller would catch anyway."""
    for missing in (kind.attach, lambda name: pickle.loads(pickle.dumps(kind.create(name)))):
        if missing is kind.attach:
            with pytest.raises(FileNotFoundError) as caught:
                missing(name)
            assert type(caught.value) is shmkit.SegmentNotFound
    made = kind.create(name, 3)
    assert (type(made), made.name, made.get_value(), made.closed) == (kind, name, 3, False)
    with pytest.raises(FileExistsError) as exists:
        kind.create(name)
    assert type(exists.value) is shmkit.SegmentExists
    found, again = kind.attach(name), kind.create_or_attach(name, 3)
    travelled = pickle.loads(pickle.dumps(found))
    assert made.acquire()
    assert [one.get_value() for one in (found, again, travelled)] == [2, 2, 2]
    made.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(name)
    new = kind.create_or_attach(name, 7)
    assert new.get_value() == 7
    new.unlink()
    for one in (made, found, again, travelled, new):
        one.close()
        one.close()
        assert one.closed


def test_permits_are_taken_and_given(make: Any) -> None:
    """As many as there are; then False, and not before the time is up."""
    semaphore = make(2)
    assert not semaphore.locked()
    assert semaphore.acquire() is True
    assert semaphore.acquire(True, 5) is True
    assert semaphore.locked()
    assert semaphore.acquire(False) is False
    for timeout in (0, 0.0, -1, -math.inf, 1e-9, 1e-6, 0.003, 0.2):
        begun = time.monotonic()
        assert semaphore.acquire(timeout=timeout) is False
        assert time.monotonic() - begun >= timeout
    assert semaphore.release() is None
    assert semaphore.get_value() == 1
    semaphore.release(4)
    assert semaphore.get_value() == 5
    with semaphore as entered:
        assert entered is True
        assert semaphore.get_value() == 4
    with pytest.raises(KeyError), semaphore:
        raise KeyError
    assert semaphore.get_value() == 5
    assert semaphore.acquire(timeout=10**400)


def test_arguments_that_cannot_be(make: Any, kind: Any, which: str, name: str) -> None:
    """ValueError or TypeError, and nothing is changed or made."""
    semaphore = make(2)
    for bad in ("1", [], b"1"):
        with pytest.raises(TypeError):
            semaphore.acquire(timeout=bad)
    with pytest.raises(ValueError, match="nan"):
        semaphore.acquire(timeout=math.nan)
    for bad in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match="one or more"):
            semaphore.release(bad)
    for bad in (1.0, "1", None):
        with pytest.raises(TypeError):
            semaphore.release(bad)
    assert semaphore.get_value() == 2
    semaphore.unlink()
    for bad in (-1, MOST[which] + 1, 10**30):
        with pytest.raises(shmkit.InvalidPermits, match=f"from 0 to {MOST[which]}"):
            kind.create(name, bad)
    for bad in (1.0, "1", None):
        with pytest.raises(TypeError):
            kind.create(name, bad)
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(name)


@pytest.mark.parametrize("bad", ["", "a/b", "a\0b", "x" * 300, "/", None, 1.5, b"x", True])
def test_names_that_cannot_be(kind: Any, which: str, bad: Any) -> None:
    """ValueError or TypeError from whatever takes a name."""
    if which == "sysv" and bad in ("a/b", "/"):
        return  # text that is hashed may be any
    for call in (kind.create, kind.attach, kind.create_or_attach):
        with pytest.raises((ValueError, TypeError)):
            call(bad)


def test_there_is_a_most(make: Any, which: str) -> None:
    """ReleasedTooOften, which says how many; all or nothing."""
    semaphore = make(MOST[which])
    for n in (1, 2, MOST[which]):
        with pytest.raises(shmkit.ReleasedTooOften, match=str(MOST[which])):
            semaphore.release(n)
    assert semaphore.get_value() == MOST[which]
    assert semaphore.acquire()
    with pytest.raises(shmkit.ReleasedTooOften):
        semaphore.release(2)
    semaphore.release()
    assert semaphore.get_value() == MOST[which]


def test_a_closed_handle(make: Any, name: str) -> None:
    """Closed from everything, and it says so; the name stays."""
    semaphore = make()
    assert "value=1" in repr(semaphore)
    assert repr(name) in repr(semaphore)
    semaphore.close()
    assert repr(semaphore).endswith(": closed>")
    calls: list[Callable[[], Any]] = [semaphore.acquire, semaphore.release, semaphore.get_value, semaphore.locked]
    for call in (*calls, semaphore.__enter__, lambda: pickle.dumps(semaphore)):
        with pytest.raises(shmkit.Closed):
            call()


def test_closing_ends_a_wait_of_another_thread(make: Any) -> None:
    """Closed at the end of the slice; the memory of the semaphore stays until then."""
    semaphore = make(0)
    ends: list[type] = []

    def wait() -> None:
        try:
            semaphore.acquire()
        except Exception as error:
            ends.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    semaphore.close()
    for thread in threads:
        thread.join(WATCHDOG)
    assert ends == [shmkit.Closed] * 3


def test_it_guards(make: Any, start_method: BaseContext, process: Processes) -> None:
    """Processes that add to one number, one at a time, lose nothing."""
    semaphore, total = make(), shmkit.zeros(1, "int64")
    workers = [process(children.guard, semaphore, total, 200, context=start_method) for _ in range(3)]
    children.guard(semaphore, total, 200)
    for worker in workers:
        worker.join(WATCHDOG)
        assert worker.exitcode == 0
    assert total[0] == 800
    assert semaphore.get_value() == 1


def test_a_release_elsewhere_wakes(make: Any, start_method: BaseContext, process: Processes) -> None:
    """Another process may release what it never acquired."""
    semaphore = make(0)
    worker = process(children.give, semaphore, 3, context=start_method)
    for _ in range(3):
        assert semaphore.acquire(timeout=WATCHDOG)
    worker.join(WATCHDOG)
    assert worker.exitcode == 0


def test_a_killed_waiter_takes_no_permit(make: Any, process: Processes) -> None:
    """It was waiting when it died: whoever comes next gets the permit."""
    semaphore = make(0)
    for _ in range(3):
        waiter = process(children.take_and_vanish, semaphore)
        assert not semaphore.acquire(timeout=0.01)
        waiter.kill()
        waiter.join()
        semaphore.release()
        assert semaphore.acquire(timeout=WATCHDOG)
    assert semaphore.get_value() == 0


def test_a_killed_holder_is_forgotten(make: Any, process: Processes) -> None:
    """Without undo its permit is gone, whoever counts."""
    semaphore, taken = make(2), shmkit.Event()
    holder = process(children.take_and_wait, semaphore, taken)
    assert taken.wait(WATCHDOG)
    holder.kill()
    holder.join()
    assert semaphore.get_value() == 1


STORM = """
import signal, sys, time, shmkit
kind, name = sys.argv[1:]
semaphore = getattr(shmkit, kind).attach(name)
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
begun = time.monotonic()
answer = semaphore.acquire(timeout=0.3)
spent = time.monotonic() - begun
signal.setitimer(signal.ITIMER_REAL, 0)
print(answer, spent >= 0.3, len(seen) > 3)
"""


def test_a_timeout_holds_in_a_storm_of_signals(make: Any, kind: Any, name: str, process: Processes) -> None:
    """Signals neither end a wait nor prolong it without bound."""
    semaphore = make(0)
    output, _ = process.python(STORM, kind.__name__, name).communicate(timeout=WATCHDOG)
    assert output.split() == ["False", "True", "True"]
    assert semaphore.get_value() == 0


INTERRUPT = """
import signal, sys, shmkit
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
kind, name = sys.argv[1:]
semaphore = getattr(shmkit, kind).attach(name)
try:
    print("waiting", flush=True)
    semaphore.acquire()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_wait(make: Any, kind: Any, name: str, process: Processes) -> None:
    """Out of a wait without a time-out, wherever it comes; no permit is taken."""
    semaphore = make(0)
    for _ in range(3):
        program = process.python(INTERRUPT, kind.__name__, name)
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        output, _ = program.communicate(timeout=WATCHDOG)
        assert output == "interrupted\n"
    semaphore.release()
    assert semaphore.acquire(False)


# ── POSIX ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_posix_name_has_a_slash_that_is_no_part_of_it(name: str) -> None:
    """Both forms are the same, and sem_open's is the one with it."""
    made = PosixSemaphore.create(f"/{name}", mode=0o640)
    assert made.name == name
    assert PosixSemaphore.attach(name).get_value() == 1
    other = posix_ipc.Semaphore(f"/{name}")
    other.acquire()
    assert made.locked()
    other.close()
    unlink_posix(name)
    with pytest.raises(shmkit.SegmentNotFound):
        unlink_posix(name)
    unlink_posix(name, missing_ok=True)
    assert not Path(f"/dev/shm/sem.{name}").exists()
    made.release()
    assert made.acquire(False)


def test_there_is_no_constructor() -> None:
    """TypeError that says what to call."""
    for kind in (PosixSemaphore, SysVSemaphore):
        with pytest.raises(TypeError, match="create"):
            kind()


# ── System V ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sysv_semaphore_goes_by_key_or_text(name: str) -> None:
    """Text means the key that it is hashed to, whatever its letters."""
    made = SysVSemaphore.create(name, 2)
    assert SysVSemaphore.attach(made.key).id == made.id
    assert sysv_ipc.Semaphore(made.key).value == 2
    unlink_sysv(made.key)
    with pytest.raises(shmkit.SegmentNotFound):
        unlink_sysv(name)
    unlink_sysv(name, missing_ok=True)
    for call in (made.acquire, made.release, made.get_value, made.unlink):
        with pytest.raises(shmkit.SegmentNotFound, match="removed"):
            call()
    assert repr(made).endswith(": removed>")
    for bad in (0, -1, 2**31):
        with pytest.raises(ValueError, match="key"):
            SysVSemaphore.create(bad)


def test_a_removed_sysv_semaphore_ends_waits(name: str) -> None:
    """SegmentNotFound, as there is nothing to wait for any more."""
    made = SysVSemaphore.create(name, 0)
    ends: list[str] = []

    def wait() -> None:
        try:
            made.acquire()
        except shmkit.SegmentNotFound as error:
            ends.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    made.unlink()
    thread.join(WATCHDOG)
    assert len(ends) == 1


def test_a_pickle_is_of_one_semaphore(name: str) -> None:
    """Not of the next one that has its key."""
    made = SysVSemaphore.create(name, undo=True)
    text = pickle.dumps(made)
    assert pickle.loads(text).undo is True
    made.unlink()
    following = SysVSemaphore.create(name)
    with pytest.raises(shmkit.SegmentNotFound, match="another one"):
        pickle.loads(text)
    following.unlink()


@pytest.mark.parametrize("ending", ["killed", "vanished"])
def test_undo_gives_back_what_a_dead_process_held(
    ending: str, name: str, start_method: BaseContext, process: Processes
) -> None:
    """SIGKILL or the end of the process, under every start method; who waits gets it."""
    made, taken = SysVSemaphore.create(name, 1, undo=True), shmkit.Event()
    if ending == "killed":
        holder = process(children.take_and_wait, made, taken, context=start_method)
        assert taken.wait(WATCHDOG)
        assert not made.acquire(False)
        holder.kill()
    else:
        holder = process(children.take_and_vanish, made, context=start_method)
        holder.join(WATCHDOG)
    assert made.acquire(timeout=WATCHDOG)
    assert made.get_value() == 0
    made.release()
    assert made.get_value() == 1
    made.unlink()


def test_nobody_attaches_before_there_is_a_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """semget and the value are two steps: an attacher waits for the second, and says so if it does not come."""
    key = SysVSemaphore.create(name).key
    unlink_sysv(name)
    half = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 0)
    found: list[SysVSemaphore] = []
    thread = threading.Thread(target=lambda: found.append(SysVSemaphore.attach(name)))
    thread.start()
    half.release()
    thread.join(WATCHDOG)
    assert found[0].get_value() == 1
    half.remove()
    half = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, 0o600, 0)
    monkeypatch.setattr("shmkit.semaphore.sysv.PATIENCE", 0.01)
    for attach in (SysVSemaphore.attach, SysVSemaphore.create_or_attach):
        with pytest.raises(shmkit.NotReady, match="unlink_sysv"):
            attach(name)
    unlink_sysv(name)
    # One that is made with no permits is ready all the same.
    made = SysVSemaphore.create(name, 0)
    assert SysVSemaphore.attach(name).get_value() == 0
    made.unlink()


# ── beside programs in C ────────────────────────────────────────────────────────────────────────────────────────────

POSIX_PROGRAM = r"""
#include <fcntl.h>
#include <semaphore.h>
/* Takes one permit of the first, gives three to the second. */
int main(int argc, char **argv) {
    sem_t *first = sem_open(argv[1], 0), *second = sem_open(argv[2], 0);
    if (first == SEM_FAILED || second == SEM_FAILED || sem_wait(first) != 0)
        return 1;
    for (int i = 0; i < 3; i++)
        if (sem_post(second) != 0)
            return 2;
    return 0;
}
"""

SYSV_PROGRAM = r"""
#include <stdlib.h>
#include <sys/sem.h>
int main(int argc, char **argv) {
    int first = semget(atoi(argv[1]), 1, 0), second = semget(atoi(argv[2]), 1, 0);
    struct sembuf take = {0, -1, 0}, give = {0, 3, 0};
    if (first < 0 || second < 0 || semop(first, &take, 1) != 0)
        return 1;
    return semop(second, &give, 1) == 0 ? 0 : 2;
}
"""


@compiler
@pytest.mark.parametrize("which", ["posix", "sysv"])
def test_a_c_program_has_the_same_semaphore(
    which: str, make_name: Callable[[], str], tmp_path: Path, process: Processes
) -> None:
    """It waits for what is released here, and wakes who waits here."""
    source, binary, kind = tmp_path / "other.c", tmp_path / "other", KINDS[which]
    source.write_text(POSIX_PROGRAM if which == "posix" else SYSV_PROGRAM)
    subprocess.run(["cc", "-o", os.fspath(binary), os.fspath(source), "-pthread"], check=True)
    first, second = kind.create(make_name(), 0), kind.create(make_name(), 0)
    words = [f"/{one.name}" if which == "posix" else str(one.key) for one in (first, second)]
    other = process.popen([binary, *words])
    first.release()
    for _ in range(3):
        assert second.acquire(timeout=WATCHDOG)
    assert wait_until(lambda: other.poll() is not None)
    assert other.returncode == 0
    assert (first.get_value(), second.get_value()) == (0, 0)
    first.unlink()
    second.unlink()
