"""The demo: real photographs, every frame verified, and nothing left behind however it ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the demo's photographs are decoded by Pillow (shmkit[demo])")
pytest.importorskip("xxhash", reason="the demo's frames are verified by xxhash (shmkit[demo])")

from shmkit.cli import demo, main
from shmkit.cli.command import CommandError
from shmkit.cli.demo import photographs, pipeline, progress, transport
from shmkit.cli.demo.examine import RESULT, examine
from shmkit.cli.demo.report import as_json, copies_explained, ratio, table
from shmkit.cli.demo.stages import Plan
from support import Processes, alive

Photographs = list[photographs.Photograph]

TRANSPORTS = tuple(transport.TRANSPORTS.values())
METHODS = ("fork", "spawn", "forkserver")
PLAN = Plan(warm_up=4, frames=13, seconds=None)

# A program that runs the demo for a minute over the transport named first, started as its second argument says.  Once
# frames have gone all the way round, it says so.
PROGRAM = """
import sys
from contextlib import contextmanager
from shmkit.cli import main
from shmkit.cli.demo import progress
@contextmanager
def show_progress(label, total):
    yield lambda verified: verified == 5 and print("streaming", flush=True)
progress.show_progress = show_progress
over, method = sys.argv[1:]
sys.exit(main(["demo", "--seconds", "60", "--size", "eighth", "--no-plot", "--over", over, "--start-method", method]))
"""

each_transport = pytest.mark.parametrize("over", TRANSPORTS, ids=lambda over: over.name)
each_word = pytest.mark.parametrize("over", transport.TRANSPORTS)
each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def small() -> Photographs:
    """All photographs, an eighth of their width."""
    return photographs.load(photographs.AUTHORS, "eighth")


def run(over: transport.Transport, images: Photographs, plan: Plan = PLAN, **options: Any) -> pipeline.Outcome:
    return pipeline.run_pipeline(over, images, plan, **options)


# ── the photographs ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_there_are_photographs_of_several_megapixels_with_author_and_licence() -> None:
    """Each file is installed, has at least four megapixels, and LICENSE.md names it and its author."""
    from PIL import Image

    folder = Path(photographs.__file__).parent / "photographs"
    licence = (folder / "LICENSE.md").read_text()
    assert {path.stem for path in folder.glob("*.jpg")} == set(photographs.AUTHORS)
    for path in folder.glob("*.jpg"):
        with Image.open(path) as image:
            assert image.width * image.height > 4e6
        (row,) = (line for line in licence.splitlines() if line.startswith(f"| `{path.name}`"))
        assert photographs.AUTHORS[path.stem].split()[0] in row
        assert "[CC" in row


def test_a_smaller_size_is_the_same_photograph_with_less_detail() -> None:
    """Half and eighth have that fraction of the width, and the same light."""
    (half,) = photographs.load(["fig"], "half")
    (eighth,) = photographs.load(["fig"], "eighth")
    assert half.pixels.shape == (870, 1286, 3)
    assert eighth.pixels.shape == (218, 322, 3)
    assert abs(half.pixels.mean() - eighth.pixels.mean()) < 1


# ── what a worker computes ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_single_flipped_bit_changes_the_checksum(small: Photographs) -> None:
    """Wherever it is, also between the pixels that the histogram looks at."""
    pixels = small[0].pixels.copy()
    before = examine(0, pixels)["checksum"][0]
    pixels[101, 203, 1] ^= 1
    assert examine(0, pixels)["checksum"][0] != before


def test_an_even_grey_frame_has_one_luminance_and_no_edges() -> None:
    """The numbers are what anybody would expect of such a frame."""
    (record,) = examine(7, np.full((160, 240, 3), 100, np.uint8))
    assert (record["sequence"], record["height"], record["width"]) == (7, 160, 240)
    assert record["luminance"] == 100
    assert record["histogram"][100] == record["histogram"].sum() == 20 * 30
    assert record["edge_energy"] == 0
    assert not record["edges"].any()


def test_an_edge_is_found_where_it_is() -> None:
    """A frame that is black on the left and white on the right has its edge in the middle."""
    pixels = np.zeros((720, 1080, 3), np.uint8)
    pixels[:, 540:] = 255
    edges = examine(0, pixels)["edges"][0]
    columns = np.flatnonzero(edges.max(axis=0))
    assert edges.max() == 255
    assert 53 <= columns.min() <= columns.max() <= 55


# ── the pipeline ────────────────────────────────────────────────────────────────────────────────────────────────────


@each_method
@each_transport
def test_every_frame_arrives_and_is_verified(over: transport.Transport, method: str, small: Photographs) -> None:
    """Over each transport, however processes start; the outcome counts what was measured."""
    told: list[int] = []
    outcome = run(over, small, start_method=method, progress=told.append)
    assert told == list(range(1, 18))
    assert (outcome.verified, outcome.frames) == (17, 13)
    assert outcome.nbytes == sum(small[number % 5].pixels.nbytes for number in range(4, 17))
    assert outcome.cpu > 0
    assert outcome.seconds > 0
    assert 0 < outcome.computing_per_frame < outcome.cpu_per_frame
    assert len(outcome.results) == len(small)
    for photograph, result in zip(small, outcome.results, strict=True):
        seen, wanted = result.copy(), examine(0, photograph.pixels)
        seen["sequence"] = 0
        assert seen.tobytes() == wanted.tobytes()


@each_transport
def test_a_time_can_be_given_instead_of_a_number(over: transport.Transport, small: Photographs) -> None:
    """All that the producer sent in that time is verified."""
    outcome = run(over, small, Plan(warm_up=4, frames=None, seconds=0.2))
    assert outcome.frames > 0
    assert outcome.verified == outcome.frames + 4


class TamperedFrames(transport.QueueFrames):
    """Sends what ``tamper`` makes of a frame; nothing where it makes None."""

    tamper: Callable[[int, np.ndarray], tuple[int, np.ndarray] | None]

    def send(self, sequence: int, pixels: np.ndarray) -> None:
        tampered = self.tamper(sequence, pixels)
        if tampered is not None:
            super().send(*tampered)


class TamperedTransport(transport.QueueTransport):
    def __init__(self, tamper: Callable[[int, np.ndarray], tuple[int, np.ndarray] | None]) -> None:
        self.tamper = tamper

    def frame_link(self, context: Any, largest: int) -> transport.QueueFrames:
        link = TamperedFrames(context.Queue(maxsize=2))
        link.tamper = self.tamper
        return link


def flip_a_bit(sequence: int, pixels: np.ndarray) -> tuple[int, np.ndarray]:
    if sequence == 9:
        pixels = pixels.copy()
        pixels[5, 5, 0] ^= 1
    return sequence, pixels


def lose_one(sequence: int, pixels: np.ndarray) -> tuple[int, np.ndarray] | None:
    return None if sequence == 9 else (sequence, pixels)


def lose_the_last(sequence: int, pixels: np.ndarray) -> tuple[int, np.ndarray] | None:
    return None if sequence == 16 else (sequence, pixels)


def exchange_numbers(sequence: int, pixels: np.ndarray) -> tuple[int, np.ndarray]:
    return {9: 11, 11: 9}.get(sequence, sequence), pixels


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (flip_a_bit, r"frame 9 \(sunset\) is not what was sent: checksum differ"),
        (lose_one, r"frame 9 \(sunset\) is not what was sent: sequence, checksum.* number 11"),
        (lose_the_last, r"the producer sent 13 frames, 12 came back"),
        (exchange_numbers, r"frame 9 \(sunset\) is not what was sent: sequence differ.* number 11"),
    ],
)
def test_a_frame_that_is_not_what_was_sent_is_found(
    tamper: Callable[[int, np.ndarray], tuple[int, np.ndarray] | None], complaint: str, small: Photographs
) -> None:
    """One bit, one frame more or less, or the order: the collector says which frame, and what of it."""
    with pytest.raises(CommandError, match=complaint):
        run(TamperedTransport(tamper), small, start_method="fork")


# ── when a process dies ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stage", ["producer", "worker 0", "worker 1"])
@each_method
@each_transport
def test_a_killed_process_ends_the_pipeline_with_its_name(
    over: transport.Transport, method: str, stage: str, small: Photographs
) -> None:
    """SIGKILL of any stage: an error that names it, and no process, segment or descriptor is left."""

    def kill(verified: int) -> None:
        if verified == 6:
            (victim,) = (child for child in multiprocessing.active_children() if child.name == stage)
            victim.kill()

    plan = Plan(warm_up=4, frames=None, seconds=60)
    with pytest.raises(CommandError, match=rf"{stage} \(process \d+\) was killed by SIGKILL"):
        run(over, small, plan, start_method=method, progress=kill)
    assert not multiprocessing.active_children()


def test_the_command_fails_when_a_worker_is_killed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, and one line on standard error."""

    @contextmanager
    def deadly(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        def kill(verified: int) -> None:
            if verified == 5:
                next(child for child in multiprocessing.active_children() if child.name == "worker 1").kill()

        yield kill

    monkeypatch.setattr(progress, "show_progress", deadly)
    assert main(["demo", "--seconds", "60", "--size", "eighth", "--no-plot"]) == 1
    assert re.fullmatch(r"shmkit: the demo's worker 1 \(process \d+\) was killed by .*\n", capsys.readouterr().err)


def wait_for_the_end_of(family: list[int], wait_until: Callable[..., Any]) -> None:
    try:
        wait_until(lambda: not any(alive(pid) for pid in family))
    except AssertionError:
        left = [pid for pid in family if alive(pid)]
        pytest.fail(f"still there: {[Path(f'/proc/{pid}/stat').read_text() for pid in left]}")


def streaming(program: subprocess.Popen[str]) -> list[int]:
    """The program's children, once each of them has done some work; the test's own time-out is the watchdog."""
    assert program.stdout is not None
    assert "streaming\n" in program.stdout  # reads as far as that line, or to the end
    return descendants(program.pid)


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [grandchild for child in children for grandchild in [child, *descendants(child)]]


@each_method
@each_word
def test_ctrl_c_ends_everything_with_one_line(
    over: str, method: str, process: Processes, wait_until: Callable[..., Any]
) -> None:
    """Ctrl-C reaches every process of the terminal's group: all go, without a traceback, and nothing is left."""
    program = process.python(PROGRAM, over, method, stderr=subprocess.PIPE, start_new_session=True)
    family = streaming(program)
    assert len(family) >= 3
    os.killpg(program.pid, signal.SIGINT)
    _, complaint = program.communicate(timeout=60)
    assert complaint == "shmkit: interrupted\n"
    assert program.returncode == 130
    wait_for_the_end_of(family, wait_until)


@each_word
def test_ctrl_c_is_answered_while_processes_start(
    over: str, process: Processes, wait_until: Callable[..., Any]
) -> None:
    """The same at the first instant at which there is a child."""
    program = process.python(PROGRAM, over, "spawn", stderr=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: descendants(program.pid))
    family = descendants(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, complaint = program.communicate(timeout=60)
    assert complaint == "shmkit: interrupted\n"
    assert program.returncode == 130
    wait_for_the_end_of(family, wait_until)


@each_method
@each_word
def test_no_process_outlives_a_killed_demo(
    over: str, method: str, process: Processes, wait_until: Callable[..., Any]
) -> None:
    """SIGKILL of the collector: the kernel tells the others, and they go too."""
    program = process.python(PROGRAM, over, method, stderr=subprocess.PIPE, start_new_session=True)
    family = streaming(program)
    assert len(family) >= 3
    program.kill()
    program.communicate(timeout=60)
    wait_for_the_end_of(family, wait_until)


# ── what is reported ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def outcomes(small: Photographs) -> list[pipeline.Outcome]:
    return [run(over, small, Plan(warm_up=2, frames=6, seconds=None), start_method="fork") for over in TRANSPORTS]


def test_the_table_has_every_run_and_its_factor(outcomes: list[pipeline.Outcome]) -> None:
    """Each figure with its unit, in lines that a terminal has room for; the copies are explained one by one."""
    text = table(outcomes)
    for words in (*(over.name for over in TRANSPORTS), "frames/s", "GB/s", "CPU", "copies", "faults", "verified"):
        assert words in text
    assert max(map(len, text.splitlines())) == 80
    copies = len(outcomes[-1].copies)
    assert re.search(rf"copies of each frame( +1 +{copies}\.0 ×){{2}} +{copies}\n", text)
    assert copies_explained(outcomes[-1]).count("\n") == copies >= 5
    assert [copies_explained(run).count("\n") for run in outcomes[:-1]] == [1, 1]


def test_figures_of_any_size_stand_apart_in_the_table(outcomes: list[pipeline.Outcome]) -> None:
    """A factor of thousands does not run into its figure, and the lines are as long as ever."""
    few = [replace(run, minor_faults=1) for run in outcomes[:-1]]
    text = table([*few, replace(outcomes[-1], minor_faults=6 * 9000)])
    assert re.search(r"page faults per frame( +0\.2 +54,000 ×){2} +9,000\.0\n", text)
    assert max(map(len, text.splitlines())) == 80


@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_the_table_has_factors_where_there_is_something_to_compare_with(
    chosen: list[int], outcomes: list[pipeline.Outcome]
) -> None:
    """Not without multiprocessing's run, and not of that alone."""
    text = table([outcomes[number] for number in chosen])
    head, *lines = text.splitlines()
    assert head.split() == [TRANSPORTS[number].name for number in chosen]
    assert len({len(line) for line in [head, *lines[:9]]}) == 1
    assert ("×" in text) == (len(chosen) == 2 and 2 in chosen)


def test_a_factor_says_how_many_times_better() -> None:
    """More frames or less CPU time, it is above one when the first is better; nothing is divided by zero."""
    assert ratio(30, 10, more_is_better=True) == 3
    assert ratio(10, 30, more_is_better=False) == 3
    assert ratio(0, 30, more_is_better=False) is None
    assert ratio(30, 0, more_is_better=True) is None


def test_json_can_be_read_by_a_program(outcomes: list[pipeline.Outcome], small: Photographs) -> None:
    """Plain numbers in SI units, survivors of a round trip."""
    read = json.loads(json.dumps(as_json(small, outcomes)))
    assert [entry["transport"] for entry in read["runs"]] == [over.name for over in TRANSPORTS]
    assert all(entry["frames"] == 6 and entry["frames_verified"] == 8 for entry in read["runs"])
    assert set(read["photographs"]) == set(photographs.AUTHORS)


@pytest.mark.parametrize(
    ("names", "over"),
    [(list(photographs.AUTHORS), list(transport.TRANSPORTS)), (["fig"], ["ring"])],
    ids=["all", "one"],
)
def test_the_picture_is_a_png(names: list[str], over: list[str], tmp_path: Path, process: Processes) -> None:
    """``python -m shmkit demo`` draws one as large as a screen, and not empty, of all or of one of them."""
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (shmkit[demo])")
    from PIL import Image

    path = tmp_path / "demo.png"
    wanted = [word for name in names for word in ("--photograph", name)]
    command = [sys.executable, "-m", "shmkit", "demo", "--frames", "5", "--size", "eighth", "--over", ",".join(over)]
    program = process.popen([*command, "--output", path, *wanted], stdout=subprocess.PIPE)
    output, _ = program.communicate(timeout=100)
    assert program.returncode == 0
    assert output.endswith(f"Picture: {path}\n")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("L")))) > 100


def test_the_command_prints_figures_and_succeeds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With --json, standard output is JSON alone, and the exit status 0 says that every frame was verified."""
    arguments = ["demo", "--frames", "5", "--size", "eighth", "--photograph", "fig", "--no-plot"]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert [entry["frames"] for entry in json.loads(captured.out)["runs"]] == [5, 5, 5]
    assert not captured.err
    assert main(arguments) == 0
    assert "frames verified" in capsys.readouterr().out


def test_what_frames_travel_over_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """In any order and with spaces; each runs once, and multiprocessing last."""
    arguments = ["demo", "--frames", "5", "--size", "eighth", "--photograph", "fig", "--no-plot", "--json", "--over"]
    assert main([*arguments, "multiprocessing, ring,ring"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [entry["transport"] for entry in runs] == ["shmkit.Ring", "multiprocessing.Queue"]


@pytest.mark.parametrize("words", ["carrier pigeon", "", "ring,"])
def test_what_frames_cannot_travel_over_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error that says what there is."""
    with pytest.raises(SystemExit) as refused:
        main(["demo", "--over", words])
    assert refused.value.code == 2
    *_, missing = words.split(",")
    assert f"--over: there is no {missing!r}: there are ring, queue, multiprocessing\n" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without Pillow the demo says what to install; the command line itself works."""
    monkeypatch.setattr(demo, "find_spec", lambda module: None if module == "PIL" else object())
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "shmkit: the demo needs PIL: pip install 'shmkit[demo]'\n"


def test_a_picture_that_has_no_place_is_refused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong folder is an error before anything runs, in one line."""
    pytest.importorskip("matplotlib", reason="the picture is drawn by matplotlib (shmkit[demo])")
    assert main(["demo", "--output", str(tmp_path / "nowhere" / "demo.png")]) == 1
    assert capsys.readouterr() == ("", f"shmkit: there is no folder for the picture: {tmp_path / 'nowhere'}\n")


def test_progress_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written where standard error is a file or a pipe."""
    with progress.show_progress("shmkit.Ring", 3) as tell:
        tell(1)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("with_rich", [True, False])
def test_progress_counts_on_a_terminal(
    with_rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With rich or without, a terminal shows how many frames are verified."""
    if with_rich:
        pytest.importorskip("rich")
        monkeypatch.setenv("TERM", "xterm")
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.show_progress("shmkit.Ring", 3) as tell:
        for verified in (1, 2, 3):
            tell(verified)
    written = capsys.readouterr().err
    assert "shmkit.Ring" in written
    assert re.search(r"3(/| of )3", written)


def test_a_result_record_has_no_padding() -> None:
    """Results are compared byte by byte, so every byte of one must mean something."""
    assert RESULT.itemsize == sum(RESULT[name].itemsize for name in RESULT.names or ())
