"""Children that start after install() or uninstall(), and objects that were made on the other side of it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.context import BaseContext
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
