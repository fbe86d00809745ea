"""``shmkit bench``: every mechanism is measured by both patterns, and what goes wrong is said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shmkit.cli.bench import cell, report
from shmkit.cli.bench.mechanisms import MECHANISMS, Mechanism, installed
from support import Processes
from unit.cli_support import program_says, shmkit_says


@pytest.mark.parametrize("pattern", cell.PATTERNS)
@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_every_mechanism_is_measured(mechanism: Mechanism, pattern: cell.Pattern, process: Processes) -> None:
    """With messages that are smaller and larger than what a pipe holds."""
    if not installed(mechanism):
        pytest.skip(f"{mechanism.name} is not installed")
    # In a child: some libraries keep memory for as long as their process lives.
    child = process(_measured, mechanism, pattern)
    child.join()
    assert child.exitcode == 0


def _measured(mechanism: Mechanism, pattern: cell.Pattern) -> None:
    for size in (cell.LEAST, 100_000):
        found = cell.measure(mechanism, pattern, size, 0.002)
        assert found.error is None, found.error
        assert found.seconds > 0
        assert found.messages >= 1


class _Broken:
    """Sends what was never stamped, or ends its process."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends
        self.reader, self.writer = os.pipe()

    def send(self, stamp: object) -> None:
        if self.ends:
            os._exit(3)
        os.write(self.writer, bytes(64))

    def recv(self, look: object) -> None:
        look(os.read(self.reader, 64))  # type: ignore[operator]

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.mark.parametrize(("ends", "words"), [(False, "message 1 bears"), (True, "ended before")])
def test_a_wrong_message_and_a_dead_process_are_told(ends: bool, words: str) -> None:
    """No hang, and no figure."""
    found = cell.measure(Mechanism("broken", lambda size: _Broken(ends)), "throughput", 64, 0.01)
    assert found.error is not None
    assert words in found.error


def test_the_table_names_the_best_and_leaves_the_failed_for_last() -> None:
    """What moves no bytes is not the best, but is compared."""
    rows = [
        report.Row("slow", "kernel", True, "throughput", 64, [cell.Cell(4e-6, 10, 1e-6), cell.Cell(2e-6, 10, 1e-6)]),
        report.Row("fast", "kernel", True, "throughput", 64, [cell.Cell(1e-6, 10, 1e-6)]),
        report.Row("none", "shmkit", False, "throughput", 64, [cell.Cell(5e-7, 10, 1e-6)]),
        report.Row("bad", "kernel", True, "throughput", 64, [cell.Cell(error="no")]),
        report.Row(report.MEMCPY, "limit", True, "throughput", 64, [cell.Cell(1e-8, 10, 1e-8)]),
    ]
    lines = report.table(rows, None, None).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["memcpy", "none", "fast", "slow", "bad"]
    assert "best" in lines[2]
    assert "3.00 µs" in lines[3]
    assert "67 %" in lines[3]
    assert "3.0 ×" in lines[3]
    assert "failed" in lines[4]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.234e-9, "1.23 ns"), (99.96e-9, "100 ns"), (1e-6, "1.00 µs"), (0.25, "250 ms"), (12, "12.0 s")],
)
def test_times_have_three_digits(seconds: float, words: str) -> None:
    """And the unit that fits."""
    assert report.span(seconds) == words


def test_the_command_measures_and_draws(tmp_path: Path, process: Processes) -> None:
    """A table for people; JSON and a picture where they are asked for."""
    pytest.importorskip("matplotlib")
    arguments = ("bench", "--sizes", "8,4KiB", "--rounds", "1", "--quick", "--against", "os.pipe")
    said = program_says(process, *arguments, "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.svg"))
    assert (said.status, said.err) == (0, "")
    assert "Round trip, 8 B" in said.out
    assert "Throughput, 4 KiB" in said.out
    assert "× MEMCPY" in said.out
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert {row["mechanism"] for row in results} >= {"shmkit.Ring", "os.pipe", "memcpy"}
    assert "shmkit.Ring" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--against", "carrier pigeon"), "there is no 'carrier pigeon'"),
        (("--sizes", "7"), "8 bytes to 1 GiB"),
        (("--sizes", "many"), "many"),
        (("--rounds", "0"), "must be positive"),
        (("--plot", "picture.doc"), "a picture is a .png"),
        (("--plot", "/nowhere/at/all.png"), "there is no folder"),
        (("--json", "/nowhere/at/all.json"), "there is no folder"),
    ],
)
def test_a_mistake_is_told_before_anything_is_measured(arguments: tuple[str, ...], words: str) -> None:
    """In a line, without a traceback."""
    said = shmkit_says("bench", *arguments)
    assert words in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
