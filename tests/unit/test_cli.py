"""The command line as a whole: help, exit statuses, pipes, colours, Ctrl-C; never a traceback for a user's mistake."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkit
from shmkit import cli
from shmkit.cli import table, words
from shmkit.cli.completion import SHELLS
from support import Processes
from support.terminal import Terminal, without_escapes
from unit.cli_support import NOBODY, SHMKIT, program_says, removed_at_end, shmkit_says, user_says

READ_ONLY = (["ls"], ["ls", "--json"], ["doctor"], ["gc", "--dry-run"], ["top", "--once", "--interval", "0.05"])

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")


# ── help and mistakes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    """Which fit 80 columns, and begin as one would type them."""
    said = shmkit_says(command, "--help")
    assert said.status == 0
    assert "examples:\n" in said.out
    examples = said.out.partition("examples:\n")[2].splitlines()
    assert examples
    assert all(line.startswith(f"  shmkit {command}") for line in examples if line)
    assert max(map(len, said.out.splitlines())) <= 80


def test_the_help_names_commands_and_exit_statuses() -> None:
    """One line per command."""
    said = shmkit_says("--help")
    assert said.status == 0
    for command in cli.COMMANDS:
        assert re.search(rf"^    {command} +\S", said.out, re.MULTILINE)
    for status in ("0    it went well", "1    trouble", "2    the command line", "130  interrupted"):
        assert status in said.out


def test_the_version_is_the_packages() -> None:
    """And the program's name."""
    assert shmkit_says("--version") == (0, f"shmkit {shmkit.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["ls", "--nonsense"],
        ["ls", "--sort", "nonsense"],
        ["ls", "--kind", "nonsense"],
        ["inspect"],
        ["inspect", "x", "--bytes", "many"],
        ["inspect", "x", "--bytes", "-1"],
        ["inspect", "x", "--bytes", "1 TiB"],
        ["rm"],
        ["top", "--interval", "0"],
        ["top", "--interval", "nan"],
        ["top", "--interval", "soon"],
        ["top", "--count", "0"],
        ["top", "--count", "-3"],
        ["top", "--once", "--count", "3"],
        ["completion", "cmd.exe"],
    ],
)
def test_a_command_line_that_cannot_be_understood_is_status_2(arguments: list[str]) -> None:
    """With the usage, or what would have been right, on standard error; nothing on standard output."""
    said = shmkit_says(*arguments)
    assert said.status == 2
    assert not said.out
    assert "shmkit" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "nothing-of-that-name"],
        ["inspect", ""],
        ["inspect", "\0"],
        ["inspect", "../etc/passwd"],
        ["inspect", "/nowhere/at/all"],
        ["inspect", "/dev/null"],
        ["inspect", "/tmp"],
        ["inspect", "."],
        ["inspect", "x" * 5000],
        ["inspect", "sysv:"],
        ["inspect", "sysv:#999999999999999999999"],
        ["inspect", "sysv:0xnonsense"],
        ["inspect", "memfd:1"],
        ["inspect", "memfd:99999999/99"],
        ["inspect", "sem:nothing"],
        ["inspect", "mq:nothing"],
        ["inspect", "\x1b[31mred"],
        ["rm", "nothing-of-that-name"],
        ["rm", ""],
        ["rm", "nothing*"],
        ["rm", "-f", "--foreign", "/dev/null"],
        ["gc", "--folder", "/nowhere/at/all"],
        ["ls", "nothing-of-that-name"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("unicode_escape").decode(),
)
def test_a_name_that_nothing_has_is_a_line_on_standard_error(arguments: list[str]) -> None:
    """Status 1; also for names that nothing can have."""
    said = shmkit_says(*arguments)
    if arguments[:2] == ["rm", "-f"]:
        assert said.status in (0, 1)
        assert os.path.exists(arguments[-1])
    else:
        assert said.status == 1
        assert re.fullmatch(r"shmkit: [^\n]+\n", said.err)
    assert "[Errno" not in said.err
    assert "\x1b" not in said.err


def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(name: str) -> None:
    """Whatever is like it."""
    with removed_at_end(name):
        shmkit.Segment.create(name, 100)
        assert f"there is {name!r}" in shmkit_says("inspect", name[:-3]).err


# ── pipes, files, terminals ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("arguments", [*READ_ONLY, ["--help"], ["ls", "--help"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_trouble(arguments: list[str], process: Processes) -> None:
    """``| head``: nothing on standard error, and no status of failure."""
    read, write = os.pipe()
    os.close(read)
    program = process.popen([*SHMKIT, *arguments], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, complaint = program.communicate(timeout=60)
    assert complaint == ""
    assert program.returncode == 0


@pytest.mark.parametrize("arguments", READ_ONLY, ids=" ".join)
def test_a_full_disk_is_a_line_on_standard_error(arguments: list[str], process: Processes) -> None:
    """What was to be written is lost, and that is said."""
    with open("/dev/full", "w") as full:
        program = process.popen([*SHMKIT, *arguments], stdout=full, stderr=subprocess.PIPE)
        _, complaint = program.communicate(timeout=60)
    assert complaint == "shmkit: standard output: No space left on device\n"
    assert program.returncode == 1


@pytest.mark.parametrize("arguments", READ_ONLY, ids=" ".join)
def test_a_closed_standard_output_is_no_trouble(arguments: list[str], process: Processes) -> None:
    """``>&-``: there is nobody to be told anything."""
    line = " ".join([*SHMKIT, *arguments]) + " >&-"
    program = process.popen(["/bin/sh", "-c", line], stderr=subprocess.PIPE)
    _, complaint = program.communicate(timeout=60)
    assert "Traceback" not in complaint
    assert program.returncode in (0, 1)


@pytest.mark.parametrize("arguments", READ_ONLY, ids=" ".join)
def test_there_are_no_colours_but_on_a_terminal(arguments: list[str], process: Processes) -> None:
    """Also where somebody asks for them in the environment of a pipe."""
    said = program_says(process, *arguments)
    assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["colours", "NO_COLOR", "dumb"])
def test_colours_are_for_terminals_that_want_them(env: dict[str, str], name: str) -> None:
    """Bold is no colour."""
    pytest.importorskip("rich")
    with removed_at_end(name):
        shmkit.create(name, (3, 4))
        with Terminal([*SHMKIT, "ls"], 80, env=env) as terminal:
            assert terminal.wait() == 0
        colours = re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[25];[\d;]+)m", terminal.written)
        assert bool(colours) == (env == {})
        if "TERM" in env:
            assert "\x1b[" not in terminal.written


@pytest.fixture
def without_rich(tmp_path: Path) -> dict[str, str]:
    """An environment in which rich cannot be imported."""
    (tmp_path / "rich.py").write_text("raise ImportError('there is no rich')\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("command", [["ls"], ["doctor"], ["inspect", "{name}"]], ids=" ".join)
def test_without_rich_it_is_the_same_text(command: list[str], name: str, without_rich: dict[str, str]) -> None:
    """Plain, and as wide as the terminal."""
    pytest.importorskip("rich")
    with removed_at_end(name):
        shmkit.Ring.create(name, "64 KiB")
        arguments = [*SHMKIT, *(word.format(name=name) for word in command)]
        with Terminal(arguments, 200) as rich, Terminal(arguments, 200, env=without_rich) as plain:
            assert rich.wait() == plain.wait() == 0
        assert "\x1b" not in plain.written
        changes = r"\d+ s\b|[\d.]+ [KMG]iB|→|->|\s+"
        seen = [re.sub(changes, " ", without_escapes(each.written)) for each in (rich, plain)]
        assert seen[0].split()[:20] == seen[1].split()[:20]


def test_a_locale_without_these_letters_spells_them(name: str, process: Processes) -> None:
    """ASCII only: nothing is lost, and nothing fails."""
    with removed_at_end(name):
        shmkit.create(name, (3, 4), "float32")
        for arguments in (["ls", name], ["inspect", name], ["top", "--once", "--interval", "0.05"], ["doctor"]):
            said = program_says(process, *arguments, env={"PYTHONIOENCODING": "ascii"})
            assert said.status == 0, said.err
            assert said.out.isascii()
            assert "\\" not in said.out, "as wide as with the letters, so that columns stay"


@pytest.mark.parametrize("evil", ["\x1b[31mred\x1b[0m", "new\nline", "\r\b", "\u202egpj"])
def test_names_that_strangers_chose_are_shown_and_not_obeyed(evil: str, name: str) -> None:
    """No escape sequence, no line break, no change of direction reaches the terminal."""
    path = Path("/dev/shm") / f"{name}{evil}"
    path.write_bytes(b"raw")
    try:
        for arguments in (["ls"], ["ls", f"{name}*"], ["inspect", f"{name}{evil}"], ["rm", f"{name}{evil}"]):
            said = shmkit_says(*arguments)
            assert "Traceback" not in said.err
            assert all(line.isprintable() for line in (said.out + said.err).splitlines())
    finally:
        path.unlink()


def test_a_name_that_is_no_text_is_shown_and_found(name: str, process: Processes) -> None:
    """Bytes that are no UTF-8."""
    path = os.path.join(b"/dev/shm", name.encode() + b"\xff\xfe")
    with open(path, "wb"):
        pass
    try:
        said = program_says(process, "ls")
        assert said.status == 0
        assert r"\udcff\udcfe" in said.out
        assert program_says(process, "ls", "--json").status == 0
        assert program_says(process, "inspect", os.fsdecode(path)).status == 0
        assert program_says(process, "rm", "-f", "--foreign", os.fsdecode(path)).status == 0
        assert not os.path.exists(path)
    finally:
        if os.path.exists(path):
            os.unlink(path)


# ── Ctrl-C ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ctrl_c_ends_it_with_one_line_and_130(process: Processes) -> None:
    """Without a traceback."""
    program = process.popen(
        [*SHMKIT, "top", "--json", "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, complaint = program.communicate(timeout=60)
    assert complaint == "shmkit: interrupted\n"
    assert program.returncode == 130


# ── other users ─────────────────────────────────────────────────────────────────────────────────────────────────────


@as_root
def test_every_command_answers_an_ordinary_user(name: str, make_name: Callable[[], str]) -> None:
    """Beside objects of another user, some of which may be read: never a traceback, and nothing is removed."""
    secret, open_to_all, lock = name, make_name(), make_name()
    with removed_at_end(secret, open_to_all, lock):
        shmkit.create(secret, (3, 4))
        shmkit.create(open_to_all, (3, 4), mode=0o644)
        shmkit.Lock.create(lock, mode=0o666)
        sysv = shmkit.Segment.create(make_name(), 5000, backing="sysv", mode=0o600)
        try:
            for arguments in READ_ONLY:
                said = user_says(NOBODY, *arguments)
                assert said.status == 0, said
                assert not said.err
            said = user_says(NOBODY, "ls")
            lines = {line.split()[0]: line for line in said.out.splitlines() if line}
            assert "not to be read: it is user 0's, mode 0600" in lines[secret]
            assert "float64 3×4" in lines[open_to_all]
            assert f"sysv:{sysv.name}" not in lines
            assert secret not in user_says(NOBODY, "ls", "--mine").out
            said = user_says(NOBODY, "inspect", secret)
            assert said.status == 1
            assert "it is user 0's, mode 0600" in said.err
            assert user_says(NOBODY, "inspect", open_to_all).status == 0
            for each in (secret, open_to_all):
                said = user_says(NOBODY, "rm", "-f", "--foreign", each)
                assert said.status == 1
                assert re.fullmatch(r"shmkit: [^\n]+\n", said.err)
                assert os.path.exists(f"/dev/shm/{each}")
            assert user_says(NOBODY, "gc").out == "The dead left nothing.\n"
        finally:
            sysv.unlink()


@as_root
def test_a_user_sees_what_the_neighbours_processes_do_not_show(name: str) -> None:
    """Whom the lock's word names, and that others do not show what they use."""
    with removed_at_end(name):
        lock = shmkit.Lock.create(name, mode=0o666)
        lock.acquire()
        said = user_says(NOBODY, "inspect", name)
        assert f"held by {os.getpid()}" in said.out
        assert "do not show it" in said.out or "none that show it" in said.out or str(os.getpid()) in said.out
        lock.release()


# ── tables and words ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_fits_its_terminal() -> None:
    """What matters least goes first; then what may be shortened is; what is wide takes two columns."""
    columns = [table.Column("NAME", least=6), table.Column("N", right=True), table.Column("EXTRA", goes=1)]
    rows = [
        [table.Cell("a-rather-long-name"), table.Cell("1"), table.Cell("something")],
        [table.Cell("幅の広い"), table.Cell("22"), table.Cell("")],
    ]
    assert table.format_table(columns, rows, None).splitlines() == [
        "NAME                 N  EXTRA",
        "a-rather-long-name   1  something",
        "幅の広い            22",
    ]
    assert table.format_table(columns, rows, 24).splitlines()[1] == "a-rather…   1  something"
    narrow = table.format_table(columns, rows, 12).splitlines()
    assert narrow == ["NAME       N", "a-rathe…   1", "幅の広い  22"]
    assert table.format_table(columns, rows, 3).splitlines()[0].startswith("NAME")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3600, "1 h"), (86400 * 3, "3 d"), (-5, "0 s")]
)
def test_ages_are_said_in_a_word(seconds: float, said: str) -> None:
    """To one unit."""
    assert words.age(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (0.25, "0.2"), (950, "950"), (999.9, "1.00k"), (12345, "12.3k"), (1e6, "1.00M"), (123e9, "123G")],
)
def test_counts_are_short(number: float, said: str) -> None:
    """Three digits and a letter."""
    assert words.count(number) == said


@pytest.mark.parametrize(
    ("nbytes", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (2**40, "1 TiB"), (None, "–")],
)
def test_sizes_are_short(nbytes: int | None, said: str) -> None:
    """Three digits and a unit."""
    assert words.short_size(nbytes) == said


# ── completion ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_a_script(shell: str) -> None:
    """Of every command and option."""
    pytest.importorskip("shtab", reason="completion scripts are written by shtab (shmkit[cli])")
    said = shmkit_says("completion", shell)
    assert said.status == 0
    for command in cli.COMMANDS:
        assert command in said.out


def test_bash_completes_commands_options_and_names(name: str, process: Processes) -> None:
    """In a real bash: what the tab key would offer."""
    pytest.importorskip("shtab", reason="completion scripts are written by shtab (shmkit[cli])")
    script = shmkit_says("completion", "bash").out
    asked = """
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=(); _shtab_shmkit; echo "${COMPREPLY[*]}"; }
complete_line shmkit in
complete_line shmkit ls --mi
complete_line shmkit inspect """
    with removed_at_end(name):
        shmkit.create(name, (3,))
        program = process.popen(["bash", "-c", script + asked + name[:-2]], stdout=subprocess.PIPE)
        output, _ = program.communicate(timeout=60)
    assert output.splitlines() == ["inspect", "--mine", name]


def test_completion_without_shtab_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert shmkit_says("completion", "bash") == (1, "", "shmkit: completion needs shtab: pip install 'shmkit[cli]'\n")
