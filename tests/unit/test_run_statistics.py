"""``shmkit run --stats``: each figure is what the page says that it is, summed over all processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from shmkit._codec import encode
from support import alive, wait_until

METHODS = ["fork", "spawn", "forkserver"]
MIB = 1 << 20
HEAD_MOST = 200  # bytes that say what an array is, whose it is, and what is to be done with it


def run(path: Path, code: str, *words: str | Path) -> dict[str, float]:
    """What it says of a program."""
    path = path / "the_program.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "shmkit", "run", "--stats", path, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    lines.remove("shmkit: accelerated, in all processes together:")
    counted = (line.split(maxsplit=1) for line in lines)
    return {re.split("[:,]", words)[0]: float(count.replace(",", "")) for count, words in counted}


QUEUES = """
import multiprocessing as mp, sys

def echo(queue, simple):
    for _ in range(7):
        simple.put(queue.get())

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    queue, simple = mp.Queue(), mp.SimpleQueue()
    child = mp.Process(target=echo, args=(queue, simple))
    child.start()
    for number in range(5):
        queue.put(number)
    queue.put({"key": 2.5})
    queue.put(bytes(1 << 20))
    for _ in range(7):
        simple.get()
    queue.put("what nobody gets")
    child.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_queues(tmp_path: Path, method: str) -> None:
    said = run(tmp_path, QUEUES, method)
    assert said["messages"] == 14
    sent = [*range(5), {"key": 2.5}, bytes(MIB)]
    assert said["bytes in them"] == 2 * sum(len(head) + len(body or b"") for head, body in map(encode, sent))
    assert said["copies saved"] == 2
    assert 2 * MIB <= said["bytes in those"] <= 2 * (MIB + HEAD_MOST)
    assert said["Queue"] == said["SimpleQueue"] == 1


PIPES = """
import multiprocessing as mp, sys
import numpy as np

def echo(end):
    end.send(end.recv())
    end.send_bytes(end.recv_bytes())
    end.send_bytes(end.recv_bytes())
    end.send(end.recv())

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    ours, theirs = mp.Pipe()
    child = mp.Process(target=echo, args=(theirs,))
    child.start()
    ours.send({"key": [1, 2]})
    ours.recv()
    for size in (100, 1 << 20):
        ours.send_bytes(bytes(size))
        ours.recv_bytes()
    ours.send(np.zeros(1 << 17))
    ours.recv()
    ours.send_bytes(b"what nobody receives")
    child.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_pipes(tmp_path: Path, method: str) -> None:
    said = run(tmp_path, PIPES, method)
    assert said["messages"] == 8
    assert said["copies saved"] == 4
    array = said["bytes in those"] / 2 - MIB
    assert MIB <= array <= MIB + HEAD_MOST
    assert said["bytes in them"] == 2 * (len(ForkingPickler.dumps({"key": [1, 2]})) + 100 + MIB + array)
    assert said["Pipe"] == 1


LEFT = """
import multiprocessing as mp, os, signal, sys, threading

def work(queue, events):
    assert queue.get() == 1
    events[0].set()
    events[1].wait()
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    assert queue.get() == 2

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    queue, events = mp.Queue(), (mp.Event(), mp.Event())
    mp.Process(target=work, args=(queue, events)).start()
    queue.put(1)
    queue.put(2)
    events[0].wait()
    threading.Timer(0.1, events[1].set).start()
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("how", "messages"), [("joined at exit", 2), ("killed", 1)])
def test_children_that_end_last(tmp_path: Path, how: str, messages: int, method: str) -> None:
    """Those that multiprocessing waits for when the program is over are waited for; killed ones have counted, too."""
    assert run(tmp_path, LEFT, method, how)["messages"] == messages


POOL = """
import multiprocessing as mp, sys
import numpy as np

def same(array):
    return array

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    with mp.Pool(2, maxtasksperchild=int(sys.argv[2]) or None) as pool:
        pool.map(same, [np.zeros(1 << 17) for _ in range(10)], chunksize=1)
        pool.close()
        pool.join()
"""

EXECUTOR = """
import multiprocessing as mp, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np

def same(array):
    return array

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp.get_context(sys.argv[1])) as executor:
        list(executor.map(same, [np.zeros(1 << 17) for _ in range(10)]))
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "code", "most"), [("Pool", POOL, 0), ("Pool", POOL, 1), ("ProcessPoolExecutor", EXECUTOR, 0)]
)
def test_pools(tmp_path: Path, name: str, code: str, most: int, method: str) -> None:
    """Tasks and answers, and nothing that a pool says to its workers beside them, nor a task that was sent again."""
    said = run(tmp_path, code, method, str(most))
    assert said["messages"] == 20
    assert said["copies saved"] == 20
    assert 20 * MIB <= said["bytes in those"] <= said["bytes in them"] <= 20 * (MIB + HEAD_MOST)
    assert said[name] == 1


NOTHING = """
import multiprocessing as mp

if __name__ == "__main__":
    assert mp.Lock().acquire(timeout=10)
    queue = mp.Queue()
    assert queue.empty()
    receiver, sender = mp.Pipe(False)
    assert not receiver.poll()
    with mp.Pool(1):
        pass
"""


def test_what_does_not_wait(tmp_path: Path) -> None:
    """Nothing is said of what there was none of."""
    assert run(tmp_path, NOTHING).keys() - {"s waited", "s in which workers waited for tasks"} == {
        "Lock",
        "Queue",
        "Pipe",
        "Pool",
    }


WAITS = {
    "Lock": "lock = mp.Lock(); lock.acquire(); assert not lock.acquire(timeout=0.2)",
    "Semaphore": "assert not mp.Semaphore(0).acquire(timeout=0.2)",
    "Condition": "condition = mp.Condition(); condition.acquire(); assert not condition.wait(0.2)",
    "Event": "assert not mp.Event().wait(0.2)",
    "Barrier": "raises(threading.BrokenBarrierError, lambda: mp.Barrier(2).wait(0.2))",
    "get": "put_once_asleep(); get()",
    "get in vain": "raises(queue.Empty, lambda: mp.Queue().get(timeout=0.2))",
    "put": "full = mp.Queue(1); full.put(1); raises(queue.Full, lambda: full.put(2, timeout=0.2))",
    "put large": "full = mp.Queue(1); full.put(1); raises(queue.Full, lambda: full.put(bytes(10**6), timeout=0.2))",
    "poll": "assert not receiver.poll(0.2)",
    "poll of a queue": "assert not mp.Queue()._reader.poll(0.2)",
    "recv": "send_once_asleep(); receiver.recv()",
    "join": "joinable = mp.JoinableQueue(); joinable.put(1); done_once_asleep(); joinable.join()",
}

WAITING = """
import multiprocessing as mp, os, queue, sys, threading, time

def raises(expected, call):
    try:
        call()
    except expected:
        return
    raise AssertionError(expected)

def once_asleep(name, then):
    main = threading.main_thread().ident
    def act():
        while sys._current_frames()[main].f_code.co_name != name:
            time.sleep(0.001)
        time.sleep(0.4)
        then()
    threading.Thread(target=act).start()

def send_once_asleep():
    once_asleep("recv", lambda: sender.send(1))

def put_once_asleep():
    once_asleep("get", lambda: late.put(1))

def get():
    return late.get()

def done_once_asleep():
    once_asleep("join", joinable.task_done)

if __name__ == "__main__":
    receiver, sender = mp.Pipe(False)
    late = mp.Queue()
    began = time.monotonic()
    exec(sys.argv[1])
    print("%.6f took" % (time.monotonic() - began), file=sys.stderr)
"""


@pytest.mark.parametrize("what", WAITS)
def test_time_waited(tmp_path: Path, what: str) -> None:
    """Less what is looked for before it waits; and one thread waits no longer than its call takes."""
    said = run(tmp_path, WAITING, WAITS[what])
    assert (0.39 if "asleep" in WAITS[what] else 0.19) <= said["s waited"] <= said["took"] + 0.001


CHILDREN = """
import multiprocessing as mp, sys, threading

def wait(event):
    assert not event.wait(0.2)

if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    event = mp.Event()
    waiting = [make(target=wait, args=(event,)) for make in (mp.Process, mp.Process, threading.Thread)]
    for one in waiting:
        one.start()
    for one in waiting:
        one.join()
"""


@pytest.mark.parametrize("method", METHODS)
def test_time_waited_in_all_of_them(tmp_path: Path, method: str) -> None:
    assert run(tmp_path, CHILDREN, method)["s waited"] >= 0.57


OUTLIVING = """
import os, subprocess, sys
import multiprocessing as mp

CODE = '''
import os, sys, time
{first}
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
import multiprocessing, shmkit
shmkit.install()
from multiprocessing.connection import Pipe
made = multiprocessing.Queue()
made.put(1)
receiver, sender = Pipe(False)
sender.send(bytes(1 << 20))
with multiprocessing.Lock():
    said = made.get() + len(receiver.recv())
with open(sys.argv[2], "w") as file:
    file.write(str(said))
'''

if __name__ == "__main__":
    mp.Event()
    if sys.argv[3] == "fork":
        pid = os.fork()
        if pid == 0:
            for descriptor in (0, 1, 2):
                os.close(descriptor)
                os.open(os.devnull, os.O_RDWR)
            try:
                exec(CODE.format(first=""))
            finally:
                os._exit(0)
    else:
        first = "import shmkit.multiprocessing" if sys.argv[3] == "attached" else ""
        pid = subprocess.Popen(
            [sys.executable, "-c", CODE.format(first=first), *sys.argv[1:3]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ).pid
    with open(sys.argv[4], "w") as file:
        file.write(str(pid))
"""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("how", ["fork", "attached", "late"])
def test_who_outlives_the_run_goes_on(tmp_path: Path, how: str) -> None:
    """And nothing of the run is left, whoever does, and however that one ends."""
    go, said, pid = (tmp_path / name for name in ("go", "said", "pid"))
    assert run(tmp_path, OUTLIVING, go, said, how, pid)["Event"] == 1
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("shmkit-run-")]
    go.touch()
    wait_until(lambda: not alive(int(pid.read_text())))
    assert said.read_text() == str(1 + MIB)
