"""Children that start after install() or uninstall(), and objects that were made on the other side of it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pytest

import shmkit
from shmkit._replaced import groups
from shmkit.install import installed
from support import Processes


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    shmkit.uninstall()


def made_here() -> dict[str, str]:
    """Which package makes what, in this process."""
    receiver, sender = multiprocessing.Pipe()
    with receiver, sender:
        made = [multiprocessing.Lock(), multiprocessing.Event(), multiprocessing.SimpleQueue(), receiver]
        return {type(one).__name__: type(one).__module__.partition(".")[0] for one in made}


def answer(queue: Any, lock: Any, connection: Any) -> None:
    if multiprocessing.current_process().name != "grandchild":
        child = multiprocessing.Process(target=answer, args=(queue, lock, connection), name="grandchild")
        child.start()
        child.join()
    with lock:
        queue.put((sorted(installed()), made_here()))
        connection.send("sent")


def tools(context: BaseContext) -> tuple[Any, Any, Any, Any]:
    receiver, sender = context.Pipe(duplex=False)
    return context.SimpleQueue(), context.Lock(), receiver, sender


def check(package: str, context: BaseContext, made: tuple[Any, Any, Any, Any], process: Processes) -> None:
    """A child and its child make that package's, and all three use what was `made`."""
    queue, lock, receiver, sender = made
    with receiver, sender:
        process(answer, queue, lock, sender, context=context)
        for _ in range(2):
            assert receiver.poll(60)
            assert receiver.recv() == "sent"
            found, makes = queue.get()
            assert found == (sorted(groups()) if package == "shmkit" else [])
            assert set(makes.values()) == {package}
    with lock:
        pass
    queue.close()


def test_after_uninstall_children_are_plain(start_method: BaseContext, process: Processes) -> None:
    """Those of a fork server too that started while all was installed."""
    shmkit.install()
    check("shmkit", start_method, tools(start_method), process)
    shmkit.uninstall()
    check("multiprocessing", start_method, tools(start_method), process)


def test_what_was_made_while_installed_goes_to_plain_children(start_method: BaseContext, process: Processes) -> None:
    shmkit.install()
    made = tools(start_method)
    shmkit.uninstall()
    assert {type(one).__module__.partition(".")[0] for one in made} == {"shmkit"}
    check("multiprocessing", start_method, made, process)


def test_what_was_made_before_goes_to_children_that_install(start_method: BaseContext, process: Processes) -> None:
    made = tools(start_method)
    shmkit.install()
    assert {type(one).__module__.partition(".")[0] for one in made} == {"multiprocessing"}
    check("shmkit", start_method, made, process)


# Imported by the fork server, and nowhere else: it sees what a child has from its first moment on.
WITNESS = """
import os, sys

seen = []
os.register_at_fork(after_in_child=lambda: seen.append(sorted(name for name in sys.modules if "shmkit.multi" in name)))
"""
SERVED = """
import multiprocessing as mp, sys

def tell(queue):
    queue.put(sys.modules["witness"].seen[-1])

if __name__ == "__main__":
    import shmkit
    shmkit.install()
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["witness"])
    queue = context.SimpleQueue()
    child = context.Process(target=tell, args=(queue,))
    child.start()
    print(*queue.get())
    child.join()
"""


def test_a_fork_server_imports_once_for_all(tmp_path: Path) -> None:
    """What the program uses by then, and nothing else: no child of the server has to; the program's list counts too."""
    (tmp_path / "witness.py").write_text(WITNESS)
    (tmp_path / "served.py").write_text(SERVED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "served.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "shmkit.multiprocessing.queues" in done.stdout.split()
    assert "shmkit.multiprocessing.managers" not in done.stdout.split()


def test_a_fork_server_that_is_to_come_is_told_by_install_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = forkserver._forkserver
    own = ["__main__", "array", "shmkit.multiprocessing.queues"]
    monkeypatch.setattr(server, "_preload_modules", own)
    shmkit.install()
    multiprocessing.SimpleQueue().close()
    multiprocessing.spawn.get_preparation_data("child")
    assert server._preload_modules[:3] == own
    assert "shmkit.multiprocessing.queues" in server._preload_modules[3:]
    shmkit.uninstall()
    assert server._preload_modules is own
    assert own == ["__main__", "array", "shmkit.multiprocessing.queues"]
