"""Changes to files and folders, told by the kernel; and what becomes of it where no watches are left."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit.files import Change, Watcher, wait_for_file, watching
from shmkit.waiting import Deadline
from support import Processes, wait_until

WATCHDOG = 30.0


def told(watcher: Watcher, kind: str) -> Change:
    """The next change of that kind."""
    while True:
        change = watcher.wait(WATCHDOG)
        if change.kind == kind:
            return change


def test_a_folder_tells_what_happens_to_its_files(tmp_path: Path) -> None:
    """Made, written, renamed, removed: in that order, each with its path."""
    with Watcher(tmp_path) as watcher:
        assert watcher.try_wait() is None
        file = tmp_path / "file"
        file.write_text("text")
        file.rename(tmp_path / "other")
        (tmp_path / "other").unlink()
        (tmp_path / "folder").mkdir()
        kinds = ["created", "modified", "written", "moved_from", "moved_to", "deleted", "created"]
        came = [watcher.wait(WATCHDOG) for _ in kinds]
        assert [change.kind for change in came] == kinds
        assert [Path(change.path).name for change in came[2:6]] == ["file", "file", "other", "other"]
        assert came[-1] == Change("created", str(tmp_path / "folder"), True)


def test_a_file_tells_what_happens_to_it(tmp_path: Path) -> None:
    """Down to its end, after which it is not watched any more."""
    file = tmp_path / "file"
    file.write_text("")
    with Watcher(file) as watcher:
        with file.open("a") as writer:
            writer.write("more")
        assert told(watcher, "written").path == str(file)
        file.chmod(0o600)
        assert told(watcher, "attributes").path == str(file)
        file.unlink()
        assert told(watcher, "gone").path == str(file)
        wait_until(lambda: watcher.try_wait() or not watcher.paths)
        assert watcher.paths == []


def test_only_what_is_asked_for_is_told(tmp_path: Path) -> None:
    """By kinds."""
    file = tmp_path / "file"
    file.write_text("")
    with Watcher(tmp_path, kinds={"opened", "deleted"}) as watcher:
        file.read_text()
        file.unlink()
        assert [watcher.wait(WATCHDOG).kind for _ in range(2)] == ["opened", "deleted"]
    with pytest.raises(ValueError, match="'made'"):
        Watcher(tmp_path, kinds={"made"})


def test_what_is_watched_can_change(tmp_path: Path) -> None:
    """Added and removed while it watches."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with Watcher(one) as watcher:
        watcher.add(other)
        assert sorted(watcher.paths) == sorted([str(one), str(other)])
        watcher.remove(one)
        (one / "file").touch()
        (other / "file").touch()
        assert watcher.wait(WATCHDOG).path == str(other / "file")
        with pytest.raises(KeyError):
            watcher.remove(one)


def test_waiting_and_its_end(tmp_path: Path) -> None:
    """TimeoutError; then what happens is told, by select, iteration and coroutines as well."""
    with Watcher(tmp_path, kinds={"created"}) as watcher:
        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            watcher.wait(0.01)
        (tmp_path / "a").touch()
        assert select.select([watcher], [], [], WATCHDOG)[0] == [watcher]
        assert next(iter(watcher)).path.endswith("a")

        async def follow() -> list[str]:
            with pytest.raises(TimeoutError):
                await watcher.wait_async(0.01)
            found = []
            (tmp_path / "b").touch()
            async for change in watcher:
                found.append(Path(change.path).name)
                if len(found) == 2:
                    return found
                asyncio.get_running_loop().call_soon((tmp_path / "c").touch)
            return found

        assert asyncio.run(follow()) == ["b", "c"]
    assert watcher.closed
    with pytest.raises(shmkit.Closed):
        watcher.wait(0)


def test_what_cannot_be_watched(tmp_path: Path) -> None:
    """A missing path is named."""
    with pytest.raises(FileNotFoundError, match="missing"):
        Watcher(tmp_path / "missing")


def test_a_lost_change_is_told(tmp_path: Path) -> None:
    """The kernel keeps so many, and says that there were more."""
    with open("/proc/sys/fs/inotify/max_queued_events") as text:
        most = int(text.read())
    if most > 70000:
        pytest.skip(f"so many changes wait here: {most}")
    file, other = tmp_path / "file", tmp_path / "other"
    file.touch()
    with Watcher(tmp_path) as watcher:
        for _ in range(most // 2 + 10):  # two changes that differ, so that the kernel does not make one of them
            file.rename(other)
            file, other = other, file
        assert told(watcher, "overflow") == Change("overflow", "", False)


def test_a_forked_child_does_not_take_the_parents_changes(tmp_path: Path, process: Processes) -> None:
    """Closed, there; here all goes on."""
    with Watcher(tmp_path) as watcher:

        def child() -> None:
            try:
                watcher.wait(0)
            except shmkit.Closed as error:
                os._exit(0 if "forked child" in str(error) else 1)
            os._exit(2)

        forked = process(child)
        forked.join(WATCHDOG)
        assert forked.exitcode == 0
        (tmp_path / "file").touch()
        assert watcher.wait(WATCHDOG).kind == "created"


class Exhausted:
    """The C library, as it is when no watches (or watchers) are left."""

    def __init__(self, real: Any, number: int) -> None:
        self._real, self._number = real, number

    def inotify_init1(self, flags: int) -> int:
        return self._refuse() if self._number == errno.EMFILE else int(self._real.inotify_init1(flags))

    def inotify_add_watch(self, *_: object) -> int:
        return self._refuse()

    def _refuse(self) -> int:
        import ctypes

        ctypes.set_errno(self._number)
        return -1


@pytest.mark.parametrize(
    ("number", "limit", "kind"),
    [(errno.ENOSPC, "max_user_watches", shmkit.NoSpace), (errno.EMFILE, "max_user_instances", OSError)],
)
def test_a_limit_is_named(
    number: int, limit: str, kind: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which, its value, and how to raise it; and waiting for a file goes on without the kernel's help."""
    monkeypatch.setattr(watching, "_libc", Exhausted(watching._libc, number))
    with pytest.raises(kind, match=f"fs.inotify.{limit} is [0-9]+.*/proc/sys/fs/inotify.*sysctl") as caught:
        Watcher(tmp_path)
    assert caught.value.errno == number
    threading.Timer(0.05, (tmp_path / "file").touch).start()
    wait_for_file(tmp_path / "file", WATCHDOG)


def test_waiting_for_a_file(tmp_path: Path) -> None:
    """It is there at once, later, or not; links count, and so does a folder that comes only later."""
    file = tmp_path / "file"
    with pytest.raises(TimeoutError, match="file"):
        wait_for_file(file, 0.01)
    threading.Timer(0.05, file.touch).start()
    wait_for_file(file, WATCHDOG)
    wait_for_file(file, 0)
    late = tmp_path / "folder" / "late"

    def make() -> None:
        late.parent.mkdir()
        late.symlink_to("nowhere")

    threading.Timer(0.05, make).start()
    wait_for_file(late, WATCHDOG)


def test_a_hint_ends_a_pause_at_once(tmp_path: Path) -> None:
    """Only what bears the name does; who forgets the kernel's word would wait for half a second each."""
    with watching.Hint.of_name(tmp_path / "wanted") as hint:
        for _ in range(30):
            hint.pause(Deadline(0.0))  # the pauses have grown
        begin = time.monotonic()
        threading.Timer(0.02, (tmp_path / "other").touch).start()
        threading.Timer(0.1, (tmp_path / "wanted").touch).start()
        hint.pause(Deadline(WATCHDOG))
        assert (tmp_path / "wanted").exists() or time.monotonic() - begin >= 0.4


@pytest.mark.parametrize("kind", ["ring", "fifo", "unix"])
def test_connecting_waits_for_a_name_to_appear(kind: str, tmp_path: Path, name: str) -> None:
    """Whoever listens comes later; with and without the kernel's word."""
    url = {"ring": f"ring://{name}", "fifo": f"fifo://{tmp_path}/fifo", "unix": f"unix://{tmp_path}/socket"}[kind]
    found: list[Any] = []
    connecting = threading.Thread(target=lambda: found.append(shmkit.connect(url, timeout=WATCHDOG)))
    connecting.start()
    with shmkit.listen(url) as inbox:
        connecting.join(WATCHDOG)
        found[0].send("hello", WATCHDOG)
        assert inbox.recv(WATCHDOG) == "hello"
        found[0].close()
    with pytest.raises(shmkit.NoPeer):
        shmkit.connect(url, timeout=0.01)
