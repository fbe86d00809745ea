"""``shmkit bench``: every way is measured by every pattern, and what goes wrong is said."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shmkit.cli.bench import calls, contenders, harness, report, suite, terminal
from shmkit.cli.bench import patterns as p
from shmkit.cli.bench.face import Channel, Contender, Job
from support import REPOSITORY, Processes, wait_until
from support.terminal import Terminal, without_escapes
from unit.cli_support import program_says, shmkit_says

PATTERNS: list[tuple[type[p.Pattern], list[int]]] = [
    (p.RoundTrip, [8]),
    (p.OneByOne, [8]),
    (p.Frames, [1024, 100_000]),
    (p.FrameTrips, [100_000]),
    (p.WakeUp, [8]),
    (p.Objects, [64]),
    (p.Crowd, [64]),
    (p.Cycles, [1 << 20]),
    (p.Attaches, [1 << 20]),
    (p.Tasks, [0, 8192]),
]
AGAINST = "os.pipe,shmkit.Ring,unix://"
LITTLE = ("--only", "round trip", "--sizes", "8", "--rounds", "1", "--quick", "--against", "ring://,shmkit.Ring")
# Whom the library itself, or what it needs, brings along; others are tried in bench/.
KNOWN = [one for one in suite.EVERYBODY if one.family != "peer"]


@pytest.mark.parametrize("contender", KNOWN, ids=lambda one: one.name)
def test_every_way_is_measured(contender: Contender, process: Processes) -> None:
    """By each pattern that it knows; every message is checked by the pattern."""
    if contender.missing():
        pytest.skip(str(contender.missing()))
    # In a child: some libraries keep memory for as long as their process lives.
    child = process(_measured, contender.name)
    child.join()
    assert child.exitcode == 0


def _measured(name: str) -> None:
    (contender,) = (one for one in KNOWN if one.name == name)
    tried = 0
    with harness.no_helpers_left():
        for kind, sizes in PATTERNS:
            for size in sizes:
                pattern, job = kind(0.002), Job(size, max(1 << 16, 4 * size))
                pattern.laps = False
                if contender.supports(pattern, job):
                    found = harness.run_cell(contender, pattern, job, watchdog=30)
                    assert found.error is None, (pattern.title(job), found.error)
                    assert found.seconds > 0
                    assert found.count >= 1
                    tried += 1
    assert tried


def test_who_is_woken_late_finds_all() -> None:
    """A topic's publisher waits for nobody, and what was overtaken would be waited for in vain."""
    (contender,) = (one for one in KNOWN if one.name == "shmkit.Topic")
    pattern = p.WakeUp(0.5)
    channel = contender.channel(Job(8), pattern)
    sent = int(pattern.seconds / pattern.gap)
    try:
        with channel.receiver().end as receiver, channel.sender().end as sender:
            for number in range(sent):
                sender.publish(struct.pack("<q", number))
            assert [struct.unpack("<q", receiver.recv())[0] for _ in range(sent)] == list(range(sent))
    finally:
        channel.close()


class _Broken(Channel):
    """Sends what was not sent, or ends its process."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends
        self.reader, self.writer = os.pipe()

    def sender(self) -> Any:
        return self

    receiver = sender

    def send(self, message: bytes) -> None:
        if self.ends:
            os._exit(3)
        os.write(self.writer, bytes(len(message)))

    def recv(self) -> bytes:
        return os.read(self.reader, 64)

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        os.write(self.writer, struct.pack("<8d", 17, *array[1:8]))

    def arrays(self, count: int) -> Any:
        for _ in range(count):
            yield np.frombuffer(os.read(self.reader, 64))

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


class _Breaks(Contender):
    name = "broken"
    kinds = frozenset({"one by one", "frames"})

    def __init__(self, ends: bool) -> None:
        self.ends = ends

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Broken(self.ends)


@pytest.mark.parametrize(
    ("kind", "ends", "words"),
    [
        (p.OneByOne, False, "lost, doubled, torn or out of order"),
        (p.Frames, False, "does not begin and end with its number"),
        (p.OneByOne, True, "died: exit code 3"),
    ],
)
def test_a_wrong_message_and_a_dead_process_are_told(kind: type[p.Pattern], ends: bool, words: str) -> None:
    """No hang, and no figure."""
    found = harness.run_cell(_Breaks(ends), kind(0.01), Job(64))
    assert words in str(found.error)


def _way(name: str) -> Contender:
    return next(one for one in contenders.WAYS if one.name == name)


@pytest.mark.parametrize(("name", "least", "most"), [("os.pipe", 4.0, 4.0), ("mp.Queue", 8.0, 1000.0)])
def test_system_calls_are_counted(name: str, least: float, most: float, process: Processes) -> None:
    """A round trip through two pipes is two writes and two reads; the thread of a queue counts too."""
    if reason := calls.why_not():
        pytest.skip(reason)
    child = process(_counted, name, least, most)
    child.join()
    assert child.exitcode == 0


def _counted(name: str, least: float, most: float) -> None:
    found = harness.traced_cell(_way(name), p.RoundTrip(0.01), Job(8))
    assert found is not None
    assert least <= found <= most


def _row(name: str, group: str, rounds: list[float], **more: Any) -> report.Row:
    return report.Row(name, group, more.pop("copies", True), "throughput", 64, rounds, 1e-6, **more)


def test_the_table_names_the_best_and_leaves_the_failed_for_last() -> None:
    """What moves no bytes is not the best, but is compared."""
    rows = [
        _row("slow", "kernel", [4e-6, 2e-6], calls=2.0, sleeps=0.5),
        _row("fast", "kernel", [1e-6]),
        _row("none", "shmkit", [5e-7], copies=False),
        _row("bad", "kernel", [], error="no"),
        _row(report.MEMCPY, "limit", [1e-8]),
    ]
    lines = report.table(rows, None, None).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["memcpy", "none", "fast", "slow", "bad"]
    assert "best" in lines[2]
    for words in ("3.00 µs", "67 %", "2.0", "0.5", "3.0 ×"):
        assert words in lines[3]
    assert "failed" in lines[4]
    assert all(len(line) <= 80 for line in report.table(rows, 80, None).splitlines())


@pytest.mark.parametrize(
    ("against", "names"),
    [
        ("os.pipe,unix socket", ["os.pipe", "UNIX socket"]),
        ("UNIX socket, seqpacket,os.pipe", ["UNIX socket, seqpacket", "os.pipe"]),
        ("UNIX socket seqpacket, mp.Pipe", ["UNIX socket, seqpacket", "mp.Pipe"]),
        ("SharedMemory,semaphores,SharedMemory", ["SharedMemory, semaphores", "SharedMemory"]),
        ("sharedmemory , ,shmkit.empty,warm pool", ["SharedMemory", "shmkit.empty, warm pool"]),
    ],
)
def test_names_with_commas_are_chosen(against: str, names: list[str]) -> None:
    """By a list with commas; the longest name is meant."""
    assert [one.name for name in suite.named(against) for one in suite.knows(name)] == names


def test_everybody_has_a_name_of_his_own() -> None:
    """Which chooses him alone; whom there is to choose is told without doubling anybody."""
    for one in suite.EVERYBODY:
        assert suite.knows(one.name)[0] is one
        assert suite.named(one.name) == [suite.named(one.name)[0]]
    said = shmkit_says("bench", "--against", "carrier pigeon").err
    listed = " ".join(said.split()).partition("there are ")[2].split("; ")
    assert len(listed) == len(set(listed)) > 30
    assert {"SharedMemory", "SharedMemory, semaphores", "UNIX socket, seqpacket"} <= set(listed)


def test_a_terminal_names_whom_it_does_not_draw() -> None:
    """Whoever was asked for is drawn; then the usual ones, then the fastest."""
    pytest.importorskip("plotext")
    usual = ["shmkit.Ring", "shmkit.Queue", "mp.Queue", "mp.Pipe", "os.pipe", "unix://", "pyzmq", "faster-fifo"]
    rows = [
        _row(name, "kernel", [seconds])._replace(size=size)
        for at, name in enumerate([*usual, "slow", "pipe:", "fast"])
        for size, seconds in ((64, 1e-6), (4096, 1e-6 / (1 + at)))
    ]
    drawn = terminal.draw(rows, 80, colours=False, wanted=["pipe:"])
    assert drawn is not None
    assert "size of a message; both axes are logarithmic" in drawn
    picture, _, left = " ".join(drawn.split()).partition("No room for ")
    assert left == "faster-fifo; fast; slow: --plot FILE.png has all."
    assert all(f" {name}" in picture for name in ["pipe:", *usual[:7]])
    assert all(len(line) <= 80 for line in drawn.splitlines())
    few = terminal.draw([row for row in rows if row.mechanism in usual], 80, colours=False)
    assert few is not None
    assert "No room" not in few


def test_a_run_that_was_written_is_read_again() -> None:
    """With everything that tables and pictures need."""
    rows = [
        _row("slow", "kernel", [4e-6, 2e-6], calls=2.0, extra={"balance": 0.9}),
        _row("bad", "peer", [], error="no"),
    ]
    assert report.from_json(json.loads(json.dumps(report.as_json(rows, {})))) == rows


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.234e-9, "1.23 ns"), (99.96e-9, "100 ns"), (1e-6, "1.00 µs"), (0.25, "250 ms"), (12, "12.0 s")],
)
def test_times_have_three_digits(seconds: float, words: str) -> None:
    """And the unit that fits."""
    assert report.span(seconds) == words


def test_the_command_measures_and_draws(tmp_path: Path, process: Processes) -> None:
    """A table for people; JSON and a picture where they are asked for; and all of it again from the JSON."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotext")
    arguments = ("bench", "--sizes", "8,4KiB", "--rounds", "1", "--quick", "--against", AGAINST, "--only")
    stored = str(tmp_path / "a.json")
    said = program_says(process, *arguments, "round trip,throughput", "--json", stored)
    assert (said.status, said.err) == (0, "")
    for words in (
        "Round trip, 8 B",
        "Throughput, 4 KiB",
        "× MEMCPY",
        "Round trip, all sizes, time",
        "all sizes, bytes a second",
    ):
        assert words in said.out
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert {row["mechanism"] for row in results} >= {"shmkit.Ring", "unix://", "os.pipe", "memcpy"}
    again = program_says(process, "bench", "--from", stored, "--plot", str(tmp_path / "a.svg"))
    assert (again.status, again.out) == (0, said.out)
    picture = (tmp_path / "a.svg").read_text()
    assert picture.startswith("<?xml")
    assert picture.count("<!-- size of a message -->") >= 2
    assert "All axes are logarithmic." in picture
    drawn = program_says(process, "bench", "--from", stored, "--plot", "-")
    assert "higher is better" in drawn.out
    assert "R shmkit.Ring" in drawn.out
    assert all(len(line) <= 80 for line in drawn.out[drawn.out.index("lower is better") :].splitlines())


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_sees_how_far_it_is(rich: bool) -> None:
    """A bar, or per cent, of what is measured now, which is wiped away at the end."""
    if rich:
        pytest.importorskip("rich")
    hide = "" if rich else "sys.modules['rich'] = sys.modules['rich.progress'] = None; "
    program = f"import sys; {hide}from shmkit.cli import main; sys.exit(main())"
    with Terminal([sys.executable, "-c", program, "bench", *LITTLE], columns=120) as terminal:
        terminal.read(lambda text: re.search(r"\d+ ?% .*(shmkit\.Ring|ring://)", without_escapes(text)))
        assert "Round trip, 8 B" not in terminal.written
        assert ("━" in terminal.written) is rich
        assert terminal.wait() == 0
        said = without_escapes(terminal.written.rpartition("\x1b[K" if not rich else "\x1b[2K")[2])
    assert "Round trip, 8 B" in said
    assert "━" not in said


def test_no_terminal_sees_no_bar(process: Processes) -> None:
    """Neither on stdout nor on stderr."""
    said = program_says(process, "bench", *LITTLE)
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("On ")
    assert not set("\r\x1b━") & set(said.out)


def test_runs_of_the_suite_are_compared(tmp_path: Path, process: Processes) -> None:
    """pytest-benchmark saves what bench/ has measured, and compares the next run with it."""
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed: make bench has it")
    if not (REPOSITORY / "bench").is_dir():
        pytest.skip("there is no bench/ here")
    # Of the same isolation: the package is where it is for this test.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    run = [sys.executable, *flags, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run += ["bench/test_round_trip.py", "-k", "default_waiting and cores-os.pipe", "--bench-repetitions=1"]
    run += [f"--benchmark-storage=file://{tmp_path}"]
    # What tells that this test runs among others in parallel, where pytest-benchmark does nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    for more in ("--benchmark-save=first", "--benchmark-compare=0001"):
        program = process.popen([*run, more], cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = program.communicate(timeout=60)[0]
        assert program.returncode == 0, said
        assert "passed" in said
    assert list(tmp_path.glob("*/0001_first.json"))
    assert "(0001_first)" in said
    assert "(NOW)" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_interrupted_leaves_nothing(number: signal.Signals, process: Processes) -> None:
    """Neither processes nor what has a name."""
    program = "from shmkit.cli import main; main()"
    arguments = ("bench", "--only", "round trip", "--sizes", "8", "--rounds", "1000", "--against", "ring://")
    bench = process.python(program, *arguments, stderr=subprocess.DEVNULL)
    named = f"*shmkit-bench-{bench.pid}-*"
    wait_until(lambda: any(Path("/dev/shm").glob(named)))
    bench.send_signal(number)
    assert bench.wait(30) == (130 if number == signal.SIGINT else -signal.SIGTERM)
    assert not list(Path("/dev/shm").glob(named))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--against", "carrier pigeon"), "there is no 'carrier pigeon'"),
        (("--only", "gossip"), "there is no pattern 'gossip'"),
        (("--only", "create", "--against", "os.pipe,shmkit.Ring"), "no part in create for os.pipe, shmkit.Ring"),
        (("--sizes", "4"), "8 bytes to 1 GiB"),
        (("--sizes", "12"), "numbers of 8 bytes"),
        (("--sizes", "many"), "many"),
        (("--rounds", "0"), "must be positive"),
        (("--plot", "picture.doc"), "a picture is a .png"),
        (("--plot", "/nowhere/at/all.png"), "there is no folder"),
        (("--json", "/nowhere/at/all.json"), "there is no folder"),
        (("--from", "/nowhere/at/all.json"), "cannot be read"),
        (("--from", __file__), "not what shmkit bench --json has written"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(arguments: tuple[str, ...], words: str) -> None:
    """In a line, without a traceback."""
    said = shmkit_says("bench", *arguments)
    assert words in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
