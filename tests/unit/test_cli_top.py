"""``shmkit top``: rates that are right, a screen that fits, keys that work, and watched programs that do not notice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import shmkit
from support import Processes
from support.terminal import Terminal, without_escapes
from unit.cli_support import SHMKIT, program_says, removed_at_end, shmkit_says

TOP = [*SHMKIT, "top", "--interval", "0.2"]


def stream(name: str, size: int) -> None:
    """Sends until it is killed."""
    ring = shmkit.Ring.attach(name, role="producer")
    while True:
        ring.send(b"x" * size)
        time.sleep(0.001)


def sink(name: str) -> None:
    """Receives until it is killed."""
    ring = shmkit.Ring.attach(name, role="consumer")
    while True:
        ring.recv()


@pytest.fixture
def busy(name: str, process: Processes, wait_until: Callable[..., Any]) -> Iterator[str]:
    """A ring that records of 100 bytes go through."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        process(stream, name, 100)
        process(sink, name)
        wait_until(lambda: ring.statistics().received > 10)
        yield name


def screens(written: str) -> list[str]:
    """What was drawn, one picture after the other."""
    return [without_escapes(part).replace("\r", "") for part in written.split("\x1b[H")[1:]]


def test_once_prints_one_table(busy: str, name: str) -> None:
    """With rates that are not zero, and who sends and receives."""
    said = shmkit_says("top", "--once", "--interval", "0.2", busy)
    assert (said.status, said.err) == (0, "")
    title, line = said.out.splitlines()
    assert title.split() == [
        "NAME", "KIND", "FILL", "WAITING", "SENT/s", "RECV/s", "BYTES/s", "SLEEPS/s", "ASLEEP", "ENDS"
    ]  # fmt: skip
    row = re.match(rf"{busy} +ring +\S+ +\d+% +[\d.k]+ +([\d.k]+) +([\d.k]+) +([\d.]+ (?:KiB|B)) ", line)
    assert row, line
    assert row[1] != "0"
    assert row[2] != "0"
    assert re.search(r"\d+ → \d+$", line)


def test_the_rates_are_those_of_the_counters(name: str, process: Processes) -> None:
    """In JSON, a line per look; the counters' differences over the time between."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "1 MiB")
        program = process.popen(
            [*SHMKIT, "top", "--json", "--count", "3", "--interval", "0.3", name], stdout=subprocess.PIPE
        )
        assert program.stdout is not None
        looks = []
        for line in program.stdout:
            looks.append(json.loads(line))
            for _ in range(10):
                ring.send(b"x" * 50)
        program.wait()
        assert [look["schema"] for look in looks] == [1, 1, 1]
        (first,), (second,), (third,) = (look["streams"] for look in looks)
        assert first["sent_per_second"] == 0
        assert [each["sent"] for each in (first, second, third)] == [0, 10, 20]
        for each in (second, third):
            assert each["sent_per_second"] > 0
            assert each["bytes_per_second"] == pytest.approx(each["sent_per_second"] * 50)
            assert each["received_per_second"] == 0
        assert third["waiting"] == 20


def test_count_prints_so_many_tables(busy: str, process: Processes) -> None:
    """Each with its time, where there is more than one."""
    said = program_says(process, "top", "--count", "3", "--interval", "0.05")
    assert said.status == 0
    assert len(re.findall(r"^\d\d:\d\d:\d\d$", said.out, re.MULTILINE)) == 3
    assert said.out.count("NAME ") == 3


def test_nothing_to_watch_is_no_trouble() -> None:
    """Where no name was asked for."""
    said = shmkit_says("top", "--once", "--interval", "0.05")
    assert (said.status, said.err) == (0, "")


def test_a_name_that_nothing_can_be_told_of_is_trouble(name: str, busy: str) -> None:
    """It is not there, or no stream; what can be told of other names is told all the same."""
    other = f"{name}-array"
    with removed_at_end(other):
        shmkit.create(other, (3,))
        for arguments, lines, trouble in (
            (["nothing-of-that-name"], 0, "shmkit: nothing is called 'nothing-of-that-name'\n"),
            ([other], 0, f"shmkit: {other} is no ring, queue or topic\n"),
            ([busy, other], 2, f"shmkit: {other} is no ring, queue or topic\n"),
            (
                ["/x*", f"{name}-arr*"],
                0,
                f"shmkit: nothing is called '/x*'\nshmkit: {other} is no ring, queue or topic\n",
            ),
        ):
            said = shmkit_says("top", "--once", "--interval", "0.05", *arguments)
            assert (said.status, said.err) == (1, trouble)
            assert len(said.out.splitlines()) == lines
        said = shmkit_says("top", "--count", "2", "--json", "--interval", "0.05", other)
        assert (said.status, len(said.out.splitlines())) == (1, 2)


def test_the_dead_are_dead(name: str, process: Processes, wait_until: Callable[..., Any]) -> None:
    """An end whose process was killed."""
    with removed_at_end(name):
        ring = shmkit.Ring.create(name, "64 KiB")
        child = process(sink, name)
        wait_until(lambda: ring.statistics().consumer_pid == child.pid)
        child.kill()
        child.join()
        said = shmkit_says("top", "--once", "--interval", "0.05", name)
        assert said.out.rstrip().endswith("– → dead")
        plain = json.loads(shmkit_says("top", "--once", "--json", "--interval", "0.05", name).out)
        assert plain["streams"][0]["dead"] == [f"consumer {child.pid}"]


# ── the screen ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["rich", "plain"])
def environment(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, str]:
    """With rich and without."""
    if request.param == "rich":
        pytest.importorskip("rich")
        return {}
    (tmp_path / "rich.py").write_text("raise ImportError('there is no rich')\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 50), (60, 10)])
def test_the_screen_fits(columns: int, lines: int, busy: str, environment: dict[str, str]) -> None:
    """Title, table and keys, none of which is wider or higher than the terminal; the terminal is given back."""
    with Terminal(TOP, columns, lines, env=environment) as terminal:
        before = terminal.modes()
        terminal.read(lambda text: len(screens(text)) > 3)
        assert terminal.modes() != before
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.modes() == before
    assert terminal.written.startswith("\x1b[?1049h") or "\x1b[?1049h" in terminal.written[:200]
    assert "\x1b[?1049l" in terminal.written
    assert terminal.written.rindex("\x1b[?25h") > terminal.written.rindex("\x1b[?25l")
    for screen in screens(terminal.written)[1:3]:
        rows = screen.splitlines()
        assert len(rows) <= lines
        assert max(map(len, rows)) <= columns
        assert "shmkit top" in rows[0]
        assert "q quit" in screen
        if columns == 80:
            for title in ("NAME", "FILL", "WAITING", "SENT/s", "BYTES/s", "ENDS"):
                assert title in screen
        if columns == 200:
            assert busy in screen
            assert "ASLEEP" in screen


def test_keys_sort_pause_and_quit(busy: str, environment: dict[str, str]) -> None:
    """Each at once, not at the next look."""
    with Terminal([*SHMKIT, "top", "--interval", "0.5"], 100, 24, env=environment) as terminal:
        terminal.read(lambda text: "sort: [name]" in without_escapes(text))
        for key, words in {
            "f": "[fill]",
            "r": "[records]",
            "b": "[bytes]",
            "w": "[waiting]",
            "n": "[name]",
        }.items():
            before = len(terminal.written)
            terminal.press(key)
            terminal.read(lambda text, before=before, words=words: words in without_escapes(text[before:]))
        before = len(terminal.written)
        terminal.press(" ")
        terminal.read(lambda text: "paused" in without_escapes(text[before:]))
        before = len(terminal.written)
        terminal.press(" ")
        terminal.read(lambda text: "every 0.5 s" in without_escapes(text[before:]))
        # Keys that mean nothing, and those of several bytes, do nothing.
        terminal.press("x\x1b[A")
        terminal.press("q")
        assert terminal.wait() == 0


def test_a_terminal_that_only_goes_on_below_gets_tables(busy: str) -> None:
    """As that of an editor does; a screen would be blank there."""
    with Terminal(TOP, 100, 24, env={"TERM": "dumb"}) as terminal:
        terminal.read(lambda text: text.count("NAME ") >= 2)
        terminal.press("\x03")
        assert terminal.wait() == 130
    assert "\x1b[?1049h" not in terminal.written


def test_a_window_may_change_its_size(busy: str, environment: dict[str, str]) -> None:
    """The next picture fits it."""
    with Terminal(TOP, 120, 24, env=environment) as terminal:
        terminal.read(lambda text: len(screens(text)) > 1)
        terminal.resize(70, 12)
        before = len(screens(terminal.written))
        terminal.read(lambda text: len(screens(text)) > before + 3)
        terminal.press("q")
        terminal.wait()
    rows = screens(terminal.written)[-2].splitlines()
    assert len(rows) <= 12
    assert max(map(len, rows)) <= 70


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_give_the_terminal_back(number: int, status: int, busy: str, environment: dict[str, str]) -> None:
    """However it is ended."""
    with Terminal(TOP, env=environment) as terminal:
        before = terminal.modes()
        terminal.read(lambda text: len(screens(text)) > 2)
        os.kill(terminal.pid, number)
        assert terminal.wait() == status
        assert terminal.modes() == before
    assert "\x1b[?1049l" in terminal.written
    assert "Traceback" not in terminal.written


def test_more_streams_than_lines_are_counted(make_name: Callable[[], str], environment: dict[str, str]) -> None:
    """What does not fit is said to be there."""
    names = [make_name() for _ in range(12)]
    with removed_at_end(*names):
        rings = [shmkit.Ring.create(each, "1 KiB") for each in names]
        with Terminal(TOP, 80, 10, env=environment) as terminal:
            terminal.read(lambda text: re.search(r"… and \d+ more", without_escapes(text)))
            terminal.press("q")
            assert terminal.wait() == 0
        del rings


# ── nobody notices ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_leased_ring_goes_with_its_last_user_while_it_is_watched(name: str, process: Processes) -> None:
    """Name and memory: the watcher keeps neither."""
    ring = shmkit.Ring.create(name, "64 KiB", lifetime="leased")
    inode = os.stat(f"/dev/shm/{name}").st_ino
    watcher = process.popen([*TOP, "--json"], stdout=subprocess.PIPE)
    assert watcher.stdout is not None
    watcher.stdout.readline()
    assert name in watcher.stdout.readline()
    ring.close()
    del ring
    assert not os.path.exists(f"/dev/shm/{name}")
    for line in watcher.stdout:
        if name not in line:
            break
    held = [os.stat(f"/proc/{watcher.pid}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{watcher.pid}/fd")]
    assert inode not in held
    with open(f"/proc/{watcher.pid}/maps") as maps:
        assert name not in maps.read()


def test_a_watched_ring_makes_no_more_wake_ups(busy: str, process: Processes) -> None:
    """The watcher rings no bell, and takes no end: the two that have them go on."""
    ring = shmkit.Ring.attach(busy)
    before = ring.statistics()
    said = program_says(process, "top", "--count", "20", "--interval", "0.05", busy)
    after = ring.statistics()
    assert said.status == 0
    assert (before.producer_pid, before.consumer_pid) == (after.producer_pid, after.consumer_pid)
    assert after.received > before.received
    assert after.consumer_wakes == before.consumer_wakes
