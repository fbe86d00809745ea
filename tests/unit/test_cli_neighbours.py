"""Every command as an ordinary user runs it, whose name no table has, beside another user's objects.

Some of those may be read, some may not; some of everybody's are in use, some were left by the dead.  Whatever a command
is asked to do, nothing of the neighbour's changes, and the answer is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

import shmkit
from support import Processes
from support.users import become, home_of
from unit.cli_support import Said, removed_at_end

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")

SHM = Path("/dev/shm")
UID = 54321

BUSY = """
import sys
import shmkit

ring, lock, array, queue, topic = sys.argv[1:]
stream = shmkit.Ring.create(ring, "64 KiB", role="producer")
stream.send(b"one line")
held = shmkit.Lock.create(lock)
held.acquire()
kept = shmkit.create(array, (3, 4))
jobs = shmkit.Queue.create(queue)
jobs.put(b"a job")
publisher = shmkit.Publisher.create(topic, slots=4, slot_size=1000)
publisher.publish(b"news")
print("ready", flush=True)
sys.stdin.read()
"""

KILLED = """
import os
import sys
import shmkit

leased = shmkit.create(sys.argv[1], (100,), lifetime="leased")
named = shmkit.create(sys.argv[2], (100,))
os.kill(os.getpid(), 9)
"""

POOL = """
import multiprocessing
import sys

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(abs, [-1, -2]))
    sys.exit(3)
"""


class User:
    """Somebody who is not root, with a home and nothing else."""

    def __init__(self, process: Processes, home: Path) -> None:
        self.home = home
        self._process = process
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        if "PYTHONPATH" in os.environ:
            self._environment["PYTHONPATH"] = os.environ["PYTHONPATH"]

    def runs(self, *words: str, **options: object) -> subprocess.Popen[str]:
        return self._process.popen(
            [sys.executable, *words],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.home, **options},
            env=self._environment,
            preexec_fn=lambda: become(UID),
        )

    def says(self, *words: str, text: str | None = None) -> Said:
        program = self.runs(*words, stdin=subprocess.DEVNULL if text is None else subprocess.PIPE)
        out, err = program.communicate(text, timeout=100)
        return Said(program.returncode, out, err)

    def shmkit(self, *words: str, text: str | None = None) -> Said:
        said = self.says("-m", "shmkit", *words, text=text)
        assert "Traceback" not in said.err, said
        return said


class Village(NamedTuple):
    """``own``: what the user has; ``theirs``: what root has, by what it is."""

    user: User
    own: dict[str, str]
    theirs: dict[str, str]


def of_root() -> dict[str, object]:
    """All that could be told to have changed, of everything that is root's."""
    found: dict[str, object] = {}
    for path in SHM.iterdir():
        status = path.lstat()
        if status.st_uid == 0:
            # A queue's file has more holes than there is memory.
            with path.open("rb") as file:
                content = hashlib.sha256(file.read(1 << 20)).hexdigest()
            found[path.name] = status.st_ino, status.st_mode, status.st_size, status.st_blocks, content
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    # Its id, mode, size, and how many are attached to it.
    found["System V"] = [(row[1], row[2], row[3], row[6]) for row in rows if row[7] == "0"]
    return found


@pytest.fixture
def user(process: Processes) -> Iterator[User]:
    """With an empty home."""
    home = home_of(UID)
    yield User(process, home)
    process.end()
    shutil.rmtree(home)


@pytest.fixture
def village(user: User, process: Processes, make_name: Callable[[], str]) -> Iterator[Village]:
    """Living and dead users of two kinds; at the end, nothing of root's has changed."""
    own = {what: make_name() for what in ("ring", "lock", "array", "queue", "topic", "left", "named")}
    theirs = {what: make_name() for what in ("secret", "shown", "open", "lock", "queue", "topic", "left", "sysv")}
    with removed_at_end(*own.values(), *(theirs[what] for what in theirs if what != "sysv")), ExitStack() as here:
        secret = here.enter_context(shmkit.Ring.create(theirs["secret"], "64 KiB"))
        open_to_all = here.enter_context(shmkit.Ring.create(theirs["open"], "64 KiB", mode=0o666))
        for ring in (secret, open_to_all):
            ring.send(b"a secret")
        shown = shmkit.create(theirs["shown"], (3, 4), mode=0o644)
        lock = shmkit.Lock.create(theirs["lock"], mode=0o666)
        here.enter_context(lock)
        queue = shmkit.Queue.create(theirs["queue"])
        here.callback(queue.close)
        queue.put("a secret")
        here.enter_context(shmkit.Publisher.create(theirs["topic"], slots=4, slot_size=1000)).publish("a secret")
        segment = shmkit.Segment.create(theirs["sysv"], 5000, backing="sysv", mode=0o600)
        here.callback(segment.unlink)
        busy = user.runs(
            *("-c", BUSY, *(own[what] for what in ("ring", "lock", "array", "queue", "topic"))), stdin=subprocess.PIPE
        )
        assert busy.stdout is not None
        assert busy.stdout.readline() == "ready\n"
        assert user.runs("-c", KILLED, own["left"], own["named"]).wait(60) == -signal.SIGKILL
        # Last: whoever makes another segment may collect it.
        killed = process.python(KILLED, theirs["left"], theirs["left"] + "-named")
        assert killed.wait(60) == -signal.SIGKILL
        before = of_root()
        assert {theirs["left"], theirs["secret"], theirs["lock"]} <= before.keys()
        yield Village(user, own, theirs)
        assert of_root() == before
        assert busy.poll() is None, "the user's own program has ended"
        shmkit.unlink(theirs["left"] + "-named")
        del shown


# ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ls_tells_ones_own_and_the_neighbours(village: Village) -> None:
    """What may be read is told; of the rest, whose it is."""
    user, own, theirs = village
    said = user.shmkit("ls")
    assert (said.status, said.err) == (0, "")
    lines = {line.split()[0]: line for line in said.out.splitlines()}
    for what, words in (
        ("ring", "1 waiting"),
        ("lock", r"held by \d+"),
        ("array", "float64 3×4"),
        ("queue", "1 item waits"),
        ("topic", "1 published"),
        ("left", r"left behind \(shmkit gc\)"),
        ("named", "dead .*float64 100"),
    ):
        assert re.search(words, lines[own[what]]), lines[own[what]]
    for what in ("secret", "queue", "topic", "left"):
        assert lines[theirs[what]].endswith("not to be read: it is user 0's, mode 0600")
    assert "float64 3×4" in lines[theirs["shown"]]
    assert "1 waiting" in lines[theirs["open"]]
    assert f"held by {os.getpid()}" in lines[theirs["lock"]]
    assert f"sysv:{theirs['sysv']}" not in lines
    mine = {each["address"] for each in json.loads(user.shmkit("ls", "--json", "--mine").out)["objects"]}
    assert mine == set(own.values())


def test_inspect_shows_what_may_be_read(village: Village) -> None:
    """Its own, and what is open to all; of the rest, whose it is, as trouble."""
    user, own, theirs = village
    for name, words in (
        (own["ring"], "waiting +1 record, *"),
        (own["lock"], "holder alive +yes"),
        (own["left"], r"creator +\d+, dead"),
        (theirs["shown"], "mode +0644, user 0"),
        (theirs["lock"], f"held by {os.getpid()}"),
    ):
        said = user.shmkit("inspect", name)
        assert (said.status, said.err) == (0, ""), said
        assert re.search(words.removesuffix(", *"), said.out), said.out
    for what in ("secret", "queue", "topic", "left"):
        said = user.shmkit("inspect", theirs[what])
        assert said.status == 1
        assert said.err == f"shmkit: {theirs[what]}: it is user 0's, mode 0600\n"
        assert "secret" not in said.out.replace(theirs[what], "")
    # Its header, which has its name, is not to be read: it is found by the key that the name gives.
    said = user.shmkit("inspect", f"sysv:{theirs['sysv']}")
    assert said.status == 1
    assert re.fullmatch(r"shmkit: sysv:0x[0-9a-f]+: it is user 0's, mode 0600\n", said.err)


def test_top_gc_doctor_and_include_answer(village: Village) -> None:
    """Streams that may be seen; the dead's belongings, but the neighbour's; findings; a folder."""
    user, own, theirs = village
    said = user.shmkit("top", "--once", "--interval", "0.05")
    assert (said.status, said.err) == (0, "")
    streams = {line.split()[0] for line in said.out.splitlines()[1:] if line}
    assert streams == {own["ring"], own["queue"], own["topic"], theirs["open"]}
    for address in (theirs["secret"], f"sysv:{theirs['sysv']}"):
        said = user.shmkit("top", "--once", "--interval", "0.05", own["ring"], address)
        assert (said.status, own["ring"] in said.out) == (1, True)
        assert re.fullmatch(r"shmkit: \S+ is not to be read: it is user 0's, mode 0600\n", said.err), said.err
    said = user.shmkit("gc", "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert re.match(
        rf"would remove {own['left']} \([^)]*\): it is leased, its maker \(process \d+\) has died", said.out
    )
    assert theirs["left"] not in said.out
    assert user.shmkit("doctor", "--quiet").status in (0, 1)
    said = user.says("-m", "shmkit.include", "--path")
    assert (said.status, said.err) == (0, "")
    assert Path(said.out.strip(), "shmkit.h").is_file()


# ── removing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gc_and_rm_remove_ones_own(village: Village) -> None:
    """By name and by pattern; the neighbour's stays, whatever the options, and that is told and is status 1."""
    user, own, theirs = village
    said = user.shmkit("gc")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"removed {own['left']} ")
    assert user.shmkit("gc") == (0, "The dead left nothing.\n", "")
    assert user.shmkit("rm", "-f", own["named"]) == (0, f"removed {own['named']}\n", "")
    for what, options in (("secret", ["--foreign"]), ("secret", []), ("shown", []), ("open", ["--foreign"])):
        said = user.shmkit("rm", "-f", *options, theirs[what])
        assert (said.status, said.out) == (1, "")
        assert re.fullmatch(rf"shmkit: [^\n]*{theirs[what]}[^\n]*\n", said.err)
    for options in ([], ["--foreign"]):
        said = user.shmkit("rm", "-f", *options, f"sysv:{theirs['sysv']}")
        assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    said = user.shmkit("rm", "-f", "--foreign", "*")
    assert said.status == 1
    removed = re.findall(r"^removed (\S+), still in use by \d+ \(python", said.out, re.MULTILINE)
    assert set(removed) == {own[what] for what in ("ring", "lock", "array", "queue", "topic")}
    kept = re.findall(
        rf"^shmkit: segment '([^']+)': .*(?:Operation not permitted|user {UID} may not)", said.err, re.MULTILINE
    )
    assert set(kept) >= {name for what, name in theirs.items() if what != "sysv"}
    assert len(kept) == len(said.err.splitlines()) == len(theirs) + 1


# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_go_through_ones_own_and_not_the_neighbours(village: Village) -> None:
    """cat, pub, sub and tee; what is another user's is refused, with the reason."""
    user, own, theirs = village
    assert user.shmkit("cat", own["ring"], "--count", "1") == (0, "one line\n", "")
    assert user.shmkit("cat", own["topic"], "--count", "1") == (0, "news\n", "")
    assert user.shmkit("pub", f"queue://{own['queue']}", "another") == (0, "", "")
    assert user.shmkit("sub", f"queue://{own['queue']}", "--count", "2").out == "a job\nanother\n"
    said = user.shmkit("tee", f"file://{user.home}/log", text="a\nb\n")
    assert (said.status, said.out, said.err) == (0, "a\nb\n", "")
    assert user.shmkit("cat", f"file://{user.home}/log") == (0, "a\nb\n", "")
    for what in ("secret", "queue", "topic"):
        said = user.shmkit("cat", theirs[what], "--timeout", "0.1")
        words = f"{theirs[what]!r} is not to be read by user {UID}: shmkit inspect {theirs[what]} says whose it is"
        assert said == (1, "", f"shmkit: {words}\n")
    for arguments in (
        ["cat", theirs["open"], "--timeout", "0.1"],
        ["sub", f"queue://{theirs['queue']}", "--timeout", "0.1"],
        ["pub", f"topic://{theirs['topic']}", "x"],
        ["pub", theirs["queue"], "x"],
        ["pub", f"ring://{theirs['open']}", "x", "--wait", "0.1"],
        ["tee", f"file://{theirs['secret']}/log"],
        ["tee", "file:///etc/nothing-of-ours"],
    ):
        said = user.shmkit(*arguments, text="x\n")
        assert said.status in (1, 2), (arguments, said)
        assert re.fullmatch(r"shmkit: [^\n]+\n", said.err), (arguments, said)
        assert "owner=" not in said.err, "that is for programs"
        assert not os.path.exists("/etc/nothing-of-ours")


# ── programs ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_run_runs_a_users_program(method: str, village: Village) -> None:
    """With its own exit status, and accelerated; nothing stays."""
    user, own, _ = village
    (user.home / "program.py").write_text(POOL)
    said = user.shmkit("run", "--stats", "program.py", method)
    assert (said.status, said.out) == (3, "[1, 2]\n")
    assert re.match(r"shmkit: accelerated, in all processes together:\n( +[\d.]+ .*\n)* +1 Pool\n", said.err)
    assert {name for name in os.listdir(SHM) if (SHM / name).stat().st_uid == UID} <= set(own.values())


def test_run_says_what_python_says_of_what_cannot_be_read(user: User) -> None:
    """Status 2, as Python has it."""
    for path, words in (("nothing.py", "No such file"), ("/etc/shadow", "Permission denied")):
        said = user.shmkit("run", path)
        assert (said.status, said.out) == (2, "")
        assert re.fullmatch(rf"\S+: can't open file '[^\n]*{path}': \[Errno \d+\] {words}[^\n]*\n", said.err)


def test_bench_measures_for_a_user(village: Village) -> None:
    """And leaves nothing but what it was asked to write."""
    user, own, _ = village
    said = user.shmkit(
        *("bench", "--quick", "--rounds", "1", "--sizes", "64,256KiB", "--only", "round trip,throughput,create"),
        *("--against", "shmkit.Ring,shmkit.Queue,shmkit.Segment,mp.Queue", "--json", "run.json"),
    )
    assert (said.status, said.err) == (0, "")
    results = json.loads((user.home / "run.json").read_text())["results"]
    assert {"shmkit.Ring", "shmkit.Queue", "shmkit.Segment", "mp.Queue"} <= {row["mechanism"] for row in results}
    assert not any(row.get("error") for row in results)
    assert {name for name in os.listdir(SHM) if (SHM / name).stat().st_uid == UID} <= set(own.values())
    again = user.shmkit("bench", "--from", "run.json")
    assert (again.status, again.out) == (0, said.out)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_demo_runs_for_a_user(method: str, village: Village) -> None:
    """Every frame verified, over everything; nothing but the picture is left."""
    user, own, _ = village
    pytest.importorskip("PIL")
    said = user.shmkit("demo", "--frames", "10", "--size", "eighth", "--start-method", method, "--json", "--no-plot")
    assert (said.status, said.err) == (0, "")
    assert [run["frames"] for run in json.loads(said.out)["runs"]] == [10, 10, 10]
    assert {name for name in os.listdir(SHM) if (SHM / name).stat().st_uid == UID} <= set(own.values())


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["demo", "--output", "/etc/of-ours.png"], "the picture"),
        (["bench", "--plot", "/etc/of-ours.png"], "the picture"),
        (["bench", "--json", "/etc/of-ours.json"], "the file"),
        (["bench", "--json", "/etc/passwd"], "the file"),
    ],
)
def test_where_a_user_may_not_write_is_told_before_the_work(arguments: list[str], what: str, user: User) -> None:
    """At once, in a line, without anything on standard output."""
    pytest.importorskip("matplotlib")
    said = user.shmkit(*arguments)
    assert said == (1, "", f"shmkit: {what} cannot be written: this user may not write there: {arguments[-1]}\n")
