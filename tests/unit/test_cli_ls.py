"""``shmkit ls`` and ``shmkit inspect`` on a live system, with crashed, foreign, corrupt and busy objects about."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import posix_ipc
import pytest

import shmkit
from shmkit.cli import inspect, picture, table
from shmkit.cli.ls import _columns
from shmkit.survey import arrays
from support import Processes
from support.terminal import Terminal, without_escapes
from unit.cli_support import (
    SHMKIT,
    make_leased_and_die,
    make_named_and_die,
    receive_and_die,
    removed_at_end,
    shmkit_says,
    take_and_die,
)

SHM = Path("/dev/shm")


class Scene(NamedTuple):
    """Names of what is about, and the pids of the dead."""

    ring: str
    lock: str
    array: str
    left: str
    corrupt: str
    semaphore: str
    sysv: str
    dead: dict[str, int | None]


@pytest.fixture
def scene(make_name: Callable[[], str], process: Processes) -> Iterator[Scene]:
    """Something of everything."""
    ring, lock, array, left, corrupt, semaphore, sysv = (make_name() for _ in range(7))
    with removed_at_end(ring, lock, array, left, corrupt, f"sem.{semaphore}"):
        stream = shmkit.Ring.create(ring, "64 KiB", role="producer")
        stream.send(b"x" * 100)
        shmkit.Lock.create(lock)
        bad = shmkit.Segment.create(corrupt, 4096)
        with open(SHM / corrupt, "r+b") as file:
            file.seek(16)
            file.write((2**40).to_bytes(8, "little"))
        segment = shmkit.Segment.create(sysv, 5000, backing="sysv")
        posix_ipc.Semaphore("/" + semaphore, posix_ipc.O_CREX, initial_value=1).close()
        dead = {}
        # The leased one last: whoever makes another segment may collect it.
        for target, name in (
            (receive_and_die, ring),
            (take_and_die, lock),
            (make_named_and_die, array),
            (make_leased_and_die, left),
        ):
            child = process(target, name)
            child.join()
            dead[name] = child.pid
        yield Scene(ring, lock, array, left, corrupt, semaphore, sysv, dead)
        segment.unlink()
        del stream, bad


def lines_by_name(text: str) -> dict[str, str]:
    return {line.split()[0]: line for line in text.splitlines() if line.split()}


def objects(*arguments: str) -> dict[str, Any]:
    said = shmkit_says("ls", "--json", *arguments)
    assert said.status == 0
    assert json.loads(said.out)["schema"] == 1
    return {each["address"]: each for each in json.loads(said.out)["objects"]}


# ── ls ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ls_shows_the_living_the_dead_and_the_foreign(scene: Scene) -> None:
    """One line each, with what is to be said of it."""
    said = shmkit_says("ls")
    assert (said.status, said.err) == (0, "")
    lines = lines_by_name(said.out)
    assert re.search(rf"\bring\b.*dead consumer {scene.dead[scene.ring]}; <1% full, 1 waiting$", lines[scene.ring])
    assert re.search(rf"\block\b.*dead holder {scene.dead[scene.lock]}$", lines[scene.lock])
    assert re.search(rf"\barray\b.* {scene.dead[scene.array]} dead .*float32 3×4$", lines[scene.array])
    assert lines[scene.left].endswith("left behind (shmkit gc)")
    assert "corrupt: header and payload must fit" in lines[scene.corrupt]
    assert re.search(r"\bsemaphore\b.*value 1$", lines[f"sem:{scene.semaphore}"])
    assert re.search(r"\bbytes\b", lines[f"sysv:{scene.sysv}"])
    assert said.out.splitlines()[0].split()[:6] == ["NAME", "KIND", "SIZE", "MEMORY", "AGE", "CREATOR"]


def test_ls_says_the_same_in_json(scene: Scene) -> None:
    """By address, with everything that is known."""
    found = objects()
    assert found[scene.ring]["dead"] == [f"consumer {scene.dead[scene.ring]}"]
    assert found[scene.ring]["details"]["producer"]["state"] == "alive"
    assert found[scene.lock]["details"]["primitive"] == "Lock"
    assert found[scene.array]["creator"] == {
        "pid": scene.dead[scene.array], "uid": os.geteuid(), "alive": False, "command": None
    }  # fmt: skip
    assert found[scene.left]["leased"] is False
    assert found[scene.corrupt]["state"] == "corrupt"
    assert found[f"sem:{scene.semaphore}"]["shmkit"] is False
    assert found[f"sysv:{scene.sysv}"]["attached"] == 1


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--kind", "ring"], {"ring"}),
        (["--kind", "lock"], {"lock"}),
        (["--kind", "LOCK,ring"], {"lock", "ring"}),
        (["--kind", "lock", "--kind", "ring"], {"lock", "ring"}),
        (["--kind", "sync"], {"lock"}),
        (["--kind", "semaphore"], {"sem"}),
        (["--kind", "sysv"], {"sysv"}),
        (["--kind", "array"], {"array", "left"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_ls_shows_what_is_asked_for(arguments: list[str], wanted: set[str], scene: Scene) -> None:
    """By kind, primitive or backing; of this scene, exactly those."""
    names = {
        "ring": scene.ring, "lock": scene.lock, "array": scene.array, "left": scene.left,
        "sem": f"sem:{scene.semaphore}", "sysv": f"sysv:{scene.sysv}",
    }  # fmt: skip
    found = objects(*arguments)
    assert {word for word, name in names.items() if name in found} == wanted


def test_ls_takes_patterns(scene: Scene) -> None:
    """Of addresses, names and paths; one that nothing has is said, and status 1."""
    assert list(objects(scene.ring)) == [scene.ring]
    assert list(objects(f"{scene.ring[:-1]}?")) == [scene.ring]
    assert list(objects(f"/dev/shm/{scene.ring}")) == [scene.ring]
    assert set(objects(scene.ring, scene.lock)) == {scene.ring, scene.lock}
    said = shmkit_says("ls", scene.ring, "nothing-of-that-name")
    assert said.status == 1
    assert said.err == "shmkit: nothing is called 'nothing-of-that-name'\n"
    assert scene.ring in said.out


@pytest.mark.parametrize("order", ["name", "kind", "size", "memory", "age", "creator"])
def test_ls_sorts(order: str, scene: Scene) -> None:
    """By any column that it offers, and the other way round."""
    value: Callable[[dict[str, Any]], Any] = {
        "name": lambda each: each["address"],
        "kind": lambda each: (each["details"].get("primitive") or each["kind"]).lower(),
        "size": lambda each: -(each["size"] or 0),
        "memory": lambda each: -(each["resident"] or 0),
        "age": lambda each: each["created"] or each["changed"],
        "creator": lambda each: (each["creator"] or {}).get("pid") or 0,
    }[order]
    values = [value(each) for each in objects("--sort", order).values()]
    assert values == sorted(values)
    values = [value(each) for each in objects("--sort", order, "--reverse").values()]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_ls_fits_the_terminal(columns: int, scene: Scene) -> None:
    """No line is longer; at 80 columns the names of kinds, sizes, creators and users are whole."""
    with Terminal([*SHMKIT, "ls"], columns) as terminal:
        assert terminal.wait() == 0
    lines = without_escapes(terminal.written).replace("\r", "").splitlines()
    # Narrower than that no name could be told from another.
    assert max(map(len, lines)) <= max(columns, 54)
    titles = lines[0].split("  ")
    assert "NAME" in titles[0]
    if columns == 80:
        for title in ("KIND", "SIZE", "MEMORY", "CREATOR", "USED BY", "NOTES"):
            assert title in lines[0]
    if columns == 200:
        assert all(column.title in lines[0] for column in _columns())
    assert lines[-1].endswith("left behind (shmkit gc)")


def test_ls_of_nothing_says_so(process: Processes) -> None:
    """On a system without any; and where none is of that kind."""
    said = shmkit_says("ls", "--kind", "barrier")
    assert said.status == 0
    assert said.out.startswith(("No shared memory", "None of "))


def test_ls_lists_ten_thousand(make_name: Callable[[], str]) -> None:
    """Each of them, once."""
    base = make_name()
    names = [f"{base}-{number}" for number in range(10000)]
    with shmkit.Segment.create(base, 64) as segment:
        pattern = (SHM / base).read_bytes()
        segment.unlink()
    try:
        for name in names:
            (SHM / name).write_bytes(pattern)
        found = objects(f"{base}-*")
        assert set(found) == set(names)
        assert {each["state"] for each in found.values()} == {"whole"}
    finally:
        for name in names:
            (SHM / name).unlink(missing_ok=True)


@pytest.mark.parametrize("pid", ["7", "4711", "4194304"])
def test_ls_at_80_columns_has_what_matters_whatever_the_pids(pid: str) -> None:
    """Those of a machine that counts to the most that there can be, too."""
    texts = ["camera-front-left", "semaphore", "17.9 MiB", "18.1 MiB", "7 min", f"{pid} dead", "python", f"{pid} +1"]
    texts += ["posix", "0600", "root", "held by somebody who is dead"]
    head, line = table.format_table(_columns(), [[table.Cell(text) for text in texts]], 80).splitlines()
    for title in ("KIND", "SIZE", "MEMORY", "CREATOR", "USED BY", "NOTES"):
        assert title in head
    assert max(len(head), len(line)) <= 80


# ── inspect ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_inspect_shows_a_rings_counters_and_ends(scene: Scene) -> None:
    """And who has died."""
    said = shmkit_says("inspect", scene.ring)
    assert said.status == 0
    for words in (
        r"capacity +64 KiB \(65536 bytes\)",
        r"waiting +1 record\n",
        r"sent +1 record, 100 B",
        rf"who +process {os.getpid()}, alive",
        rf"who +process {scene.dead[scene.ring]}, which has died",
        r"first bytes of the payload, which begins at 4096\n  00000000  00 00 01 00",
    ):
        assert re.search(words, said.out), words


def test_inspect_shows_a_locks_word(scene: Scene) -> None:
    """Who holds it, and that he is dead."""
    said = shmkit_says("inspect", scene.lock)
    assert said.status == 0
    assert f"held by {scene.dead[scene.lock]}, which has died" in said.out
    assert re.search(r"holder alive +no", said.out)
    assert re.search(r"what +Lock\n", said.out)


def test_only_what_is_wrong_is_red(name: str) -> None:
    """A lock that somebody holds is none."""
    with removed_at_end(name):
        with shmkit.Lock.create(name), Terminal([*SHMKIT, "inspect", name], 80) as terminal:
            assert terminal.wait() == 0
        assert f"held by {os.getpid()}" in without_escapes(terminal.written)
        assert "\x1b[31m" not in terminal.written


def test_a_ring_has_the_size_that_its_records_may_take(name: str) -> None:
    """Not that of its counters, too."""
    with removed_at_end(name):
        shmkit.Ring.create(name, "64 KiB").close()
        assert shmkit_says("ls", name).out.splitlines()[1].split()[:4] == [name, "ring", "64", "KiB"]


def test_inspect_of_a_corrupt_one_says_which_rule_it_breaks(scene: Scene) -> None:
    """And is status 1."""
    said = shmkit_says("inspect", scene.corrupt)
    assert said.status == 1
    assert re.search(r"state +corrupt\n +trouble +header and payload must fit", said.out)
    plain = json.loads(shmkit_says("inspect", scene.corrupt, "--json").out)
    assert plain["state"] == "corrupt"


def test_inspect_finds_what_has_no_plain_name(scene: Scene, tmp_path: Path) -> None:
    """SysV segments, semaphores, files, and names with a slash as shm_open has them."""
    assert re.search(r"attached +1 time\n", shmkit_says("inspect", f"sysv:{scene.sysv}").out)
    assert re.search(r"value +1\n", shmkit_says("inspect", f"sem:{scene.semaphore}").out)
    assert shmkit_says("inspect", "/" + scene.ring).out == shmkit_says("inspect", f"posix:{scene.ring}").out
    path = tmp_path / "stored"
    shmkit.create(path, (2, 2), backing="file")
    assert re.search(r"dtype +float64", shmkit_says("inspect", str(path)).out)


def test_inspect_shows_anonymous_memory_by_process_and_descriptor(process: Processes) -> None:
    """As ls calls it."""
    code = "import shmkit; array = shmkit.ones((600, 1000)); lock = shmkit.Lock(); print(flush=True); input()"
    program = process.python(code, stdin=-1)
    assert program.stdout is not None
    program.stdout.readline()
    found = objects(f"memfd:{program.pid}/*")
    assert {each["kind"] for each in found.values()} == {"array", "sync"}
    for address in found:
        assert shmkit_says("inspect", address).status == 0


@pytest.mark.parametrize(
    ("shape", "dtype", "order"),
    [
        ((), "float64", "C"),
        ((0, 4), "int32", "C"),
        ((7,), "uint8", "C"),
        ((1,), "float32", "C"),
        ((30, 40), "float32", "C"),
        ((30, 40), "int16", "F"),
        ((30, 40, 3), "uint8", "C"),
        ((5, 30, 40), "complex128", "C"),
        ((2, 3, 30, 40), "bool", "C"),
        ((30, 40), "S7", "C"),
        ((30, 40), "datetime64[s]", "C"),
        ((9,), [("a", "<i4"), ("b", "<f8", (2,))], "C"),
        ((30, 40), ">f4", "C"),
        ((1, 1), "float64", "C"),
        ((3, 1000), "float16", "C"),
        ((1000, 3), "uint64", "F"),
    ],
    ids=str,
)
def test_inspect_shows_arrays_of_every_kind(shape: tuple[int, ...], dtype: Any, order: Any, name: str) -> None:
    """Its form as it was made, statistics as NumPy has them, and never a failure."""
    with removed_at_end(name):
        array = shmkit.create(name, shape, dtype, order=order)
        if array.dtype.kind in "biufc":
            array[...] = np.arange(array.size).reshape(shape).astype(dtype)
        said = shmkit_says("inspect", name)
        assert (said.status, said.err) == (0, "")
        assert re.search(rf"shape +{' × '.join(map(str, shape)) or re.escape('()')}\n", said.out)
        plain = json.loads(shmkit_says("inspect", name, "--json").out)
        assert plain["details"]["shape"] == list(shape)
        assert plain["details"]["order"] == order
        statistics = plain["statistics"]
        assert statistics["complete"] is True
        if array.dtype.kind in "iuf" and array.size:
            assert statistics["min"] == pytest.approx(float(array.min()))
            assert statistics["max"] == pytest.approx(float(array.max()))
            assert statistics["mean"] == pytest.approx(float(array.mean(dtype=float)))
        with Terminal([*SHMKIT, "inspect", name], 80) as terminal:
            assert terminal.wait() == 0
        assert "Traceback" not in terminal.written


def test_statistics_tell_what_is_no_number(name: str) -> None:
    """NaNs and infinities are counted, and left out of the rest."""
    with removed_at_end(name):
        array = shmkit.create(name, (6,))
        array[:] = [1, 2, 3, np.nan, np.inf, -np.inf]
        found = json.loads(shmkit_says("inspect", name, "--json").out)["statistics"]
        assert (found["nan"], found["infinite"]) == (1, 2)
        assert (found["min"], found["max"], found["mean"]) == (1, 3, 2)
        array[:] = np.nan
        found = json.loads(shmkit_says("inspect", name, "--json").out)["statistics"]
        assert found == {"nan": 6, "infinite": 0, "complete": True}


def test_a_huge_array_is_looked_at_in_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From all over it; and that is said."""
    monkeypatch.setattr(arrays, "_WHOLE", 2**20)
    with removed_at_end(name):
        array = shmkit.create(name, (2**20,), "float64")
        array[:] = np.linspace(0, 1, array.size)
        said = shmkit_says("inspect", name)
        assert "statistics of a sample\n" in said.out
        found = json.loads(shmkit_says("inspect", name, "--json").out)["statistics"]
        assert found["complete"] is False
        assert found["mean"] == pytest.approx(0.5, abs=0.05)
        assert (found["min"], found["max"]) == (0, 1)


def test_pictures_show_what_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A gradient becomes darker and lighter letters; the transposed one the transposed picture."""
    with removed_at_end(name):
        array = shmkit.create(name, (40, 60))
        array[...] = np.arange(60)[None, :]
        said = shmkit_says("inspect", name)
        lines = said.out.partition("picture\n")[2].partition("first bytes")[0].splitlines()
        assert len(lines) == 20
        assert len(set(lines)) == 1
        shades = [picture._SHADES.index(letter) for letter in lines[0][2:]]
        assert shades == sorted(shades)
        assert {shades[0], shades[-1]} == {0, len(picture._SHADES) - 1}
        assert "\npicture\n" not in shmkit_says("inspect", name, "--no-picture").out


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_few_numbers_are_shown_as_they_are(order: Any, name: str) -> None:
    """A picture of them would say less."""
    with removed_at_end(name):
        array = shmkit.create(name, (3, 4), "float32", order=order)
        array[1] = [7.5, 0, -1, np.nan]
        said = shmkit_says("inspect", name).out.partition("values\n")[2].partition("first bytes")[0]
        assert said.split("\n") == [
            "  [[ 0.   0.   0.   0. ]", "   [ 7.5  0.  -1.   nan]", "   [ 0.   0.   0.   0. ]]", ""
        ]  # fmt: skip
        assert "values" not in shmkit_says("inspect", name, "--no-picture").out


def test_a_picture_in_colours_has_the_pixels_of_the_array(name: str) -> None:
    """Two rows to a line, on a terminal that has them."""
    pytest.importorskip("rich")
    with removed_at_end(name):
        array = shmkit.create(name, (2, 3, 3), "uint8")
        array[...] = [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]]
        with Terminal([*SHMKIT, "inspect", name], 80, env={"COLORTERM": "truecolor"}) as terminal:
            assert terminal.wait() == 0
        assert "38;2;255;0;0;48;2;1;2;3m▀" in terminal.written
        assert "38;2;0;0;255;48;2;7;8;9m▀" in terminal.written


def test_bars_are_as_high_as_their_part() -> None:
    """From least to most; a part without a number is empty."""
    assert picture.bars(np.arange(8), 8) == "▁▂▃▄▅▆▇█"
    assert picture.bars(np.array([0.0, np.nan, 1.0]), 3) == "▁ █"
    assert picture.bars(np.array([5.0, 5.0]), 2, block=False) == "=="
    assert picture.bars(np.array([1.0]), 8) == ""
    assert picture.bars(np.array([-1e308, 1e308]), 2) == "▁█"


def test_the_first_bytes_are_as_many_as_asked_for(name: str) -> None:
    """A size, with a unit or without; none, if none."""
    with removed_at_end(name):
        segment = shmkit.Segment.create(name, 5000)
        segment.buf[:5] = b"Hello"
        assert "|Hello..." in shmkit_says("inspect", name, "--bytes", "8").out
        assert "first bytes" not in shmkit_says("inspect", name, "--bytes", "0").out
        assert (
            len(
                bytes.fromhex(json.loads(shmkit_says("inspect", name, "--bytes", "1 KiB", "--json").out)["first_bytes"])
            )
            == 1024
        )
        assert len(shmkit_says("inspect", name, "--bytes", "16 MiB").out) > 5000


def test_a_picture_has_the_proportions_of_the_array(name: str) -> None:
    """A square is a square; what is very long fills the lines that there are."""
    with removed_at_end(name):
        for shape, drawn in (
            ((100, 100), (40, 40)),
            ((200, 100), (40, 20)),
            ((50, 100), (32, 64)),
            ((1000, 3), (40, 3)),
        ):
            shmkit.create(name, shape)
            found = seen_array(name)
            assert found == drawn
            shmkit.unlink(name)


def seen_array(name: str) -> tuple[int, ...]:
    from shmkit.survey import Survey, arrays, heading
    from shmkit.survey.addresses import open_object, resolve

    found = resolve(Survey(), name)
    with open_object(found) as reading:
        form = arrays.form_of(heading.look(reading))
        assert not isinstance(form, str)
        picture = arrays.plane(reading, found.payload_at, form, 40, 64)
    assert picture is not None
    return picture.shape


def test_what_is_long_goes_on_below_itself() -> None:
    """Where the terminal ends; and stays a line elsewhere."""
    text = "; ".join(f"{number} python" for number in range(100, 130))
    wrapped = inspect._wrapped(text, 60, 12).split("\n")
    assert max(map(len, wrapped)) <= 60
    assert all(line.startswith(" " * 12) for line in wrapped[1:])
    assert " ".join(" ".join(wrapped).split()) == text
    assert inspect._wrapped(text, None, 12) == text


def test_a_queue_is_called_one_and_has_the_size_that_it_may_take(name: str) -> None:
    """Not that of the addresses that it has; and what is open is no trouble."""
    with removed_at_end(name):
        shmkit.Queue.create(name, capacity="1 MiB").close()
        with Terminal([*SHMKIT, "inspect", name], 80) as terminal:
            assert terminal.wait() == 0
        said = without_escapes(terminal.written)
        assert "queue, in a heap of its own" in said
        assert re.search(r"size +at most 1 MiB", said)
        assert "\x1b[31mopen" not in terminal.written
