"""SIGKILL of who drops an item, puts one, or shuts a queue: `join` waits for what was got and not done, and no more.

A child is killed where it passes a failpoint; the parent then gets what is left, declares that done, and joins.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from support import PACKAGE, REPOSITORY, Processes

PROGRAM = """
import os, signal, sys
import shmkit
from support.processes import die_with_parent

WATCHDOG = 30.0

def killed_at(point, act):
    pid = os.fork()
    if pid == 0:
        os.environ["SHMKIT_FAILPOINT"] = point
        act()
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert ended in (0, -signal.SIGKILL), ended
    return ended != 0

def rest(queue):
    items = []
    try:
        while True:
            items.append(queue.get(timeout=0))
    except (shmkit.Empty, shmkit.ShutDown):
        return items

die_with_parent()
point, size, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
item = b"x" * size
"""

DROPS = """
queue = shmkit.JoinableQueue(2, backpressure="drop_oldest")
queue.put((1, item))
queue.put((2, item))
killed = killed_at(point, lambda: queue.put((3, item)))
queue.heap.collect()
left = rest(queue)
numbers = [number for number, _ in left]
assert numbers in ([1, 2], [2], [2, 3]), numbers
for _ in left:
    queue.task_done()
"""

PUTS = """
queue = shmkit.JoinableQueue()
queue.put((1, item))
killed = killed_at(point, lambda: queue.put((2, item)))
queue.heap.collect()
left = rest(queue)
assert [number for number, _ in left] in ([1], [1, 2])
for _ in left:
    queue.task_done()
"""

SHUTS = """
queue = shmkit.JoinableQueue()
for number in range(3):
    queue.put((number, item))
queue.get()
killed = killed_at(point, lambda: queue.shutdown(immediate=True))
if killed:
    try:
        queue.put(1)
    except shmkit.ShutDown:
        pass  # nobody gets what is left
    else:
        raise SystemExit("never shut")
queue.task_done()
"""

JOINS = """
assert queue._join(WATCHDOG), f"join waits for what nobody has: {queue.statistics()}"
queue.heap.collect()
said = queue.statistics()
assert said["items"] == 0, said
assert said["heap"]["blocks_queued"] == 0, said
assert said["heap"]["blocks_held"] == 1 + queue.rings, said
if how == "drops":
    for number in range(5):
        queue.put(number)
    assert not queue._join(0)
    assert rest(queue) == [3, 4]
    queue.task_done()
    assert not queue._join(0)
    queue.task_done()
    assert queue._join(0)
    try:
        queue.task_done()
    except ValueError:
        pass
    else:
        raise SystemExit("more were done than put")
print(int(killed))
"""

HOW = {"drops": DROPS, "puts": PUTS, "shuts": SHUTS}


def failpoints(header: str) -> list[str]:
    return sorted(set(re.findall(r'FAILPOINT\("([a-z.]+)"\)', (PACKAGE / header).read_text())))


Trial = Callable[[str, str, int], bool]


@pytest.fixture
def trial(process: Processes, debug_env: dict[str, str]) -> Trial:
    """Whether the child passed the point, once all promises were kept."""

    def run(how: str, point: str, size: int) -> bool:
        env = {**debug_env, "PYTHONPATH": f"{debug_env['PYTHONPATH']}:{REPOSITORY / 'tests'}"}
        text = PROGRAM + HOW[how] + JOINS
        program = process.python(text, point, str(size), how, env=env, stderr=subprocess.PIPE)
        output, complaints = program.communicate(timeout=60)
        assert program.returncode == 0, complaints
        return bool(int(output))

    return run


@pytest.mark.parametrize("size", [10, 1000])
@pytest.mark.parametrize("point", [*failpoints("_queue_done.h"), "queue.taken", "queue.head"])
def test_whoever_drops_an_item_is_killed_and_it_counts_once(trial: Trial, point: str, size: int) -> None:
    """What was dropped is done, and what was not is there; room, blocks and counts are right afterwards."""
    assert trial("drops", point, size) or (point, size) == ("drop.held", 10)


@pytest.mark.parametrize("point", ["queue.claimed", "queue.tail", "queue.item", "queue.queued"])
def test_whoever_puts_is_killed_and_nobody_waits_for_its_task(trial: Trial, point: str) -> None:
    """The task was counted, and its item never came."""
    assert trial("puts", point, 1000)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("point", ["queue.taken", "drop.named", "drop.counted", "drop.held", "drop.freed"])
def test_whoever_shuts_a_queue_is_killed_and_what_was_in_it_counts_as_done(trial: Trial, point: str, skip: int) -> None:
    """Whoever joins removes the rest."""
    assert trial("shuts", f"{point}:{skip}", 1000)
