"""``shmkit doctor``: what it finds on this machine, and on machines with something wrong."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkit
from shmkit.survey import findings, limits
from shmkit.survey.machine import LEVELS, Finding, Machine
from support import Processes
from unit.cli_support import make_leased_and_die, program_says, receive_and_die, removed_at_end, shmkit_says


def subjects(found: list[Finding]) -> dict[str, Finding]:
    return {each.subject: each for each in found}


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., Machine]:
    """Makes a machine of files: path → text."""

    def make(**files: str) -> Machine:
        for path, text in files.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Machine(tmp_path)

    return make


def test_this_machine_is_looked_at() -> None:
    """Room, limits, kernel, cores: each with a level; whoever finds trouble has a remedy."""
    found = findings()
    assert {each.level for each in found} <= set(LEVELS)
    for subject in (
        "kernel",
        "anonymous memory",
        "leases",
        "/dev/shm",
        "memory",
        "SysV segments",
        "open files",
        "cores",
    ):
        assert subject in subjects(found)
    for each in found:
        assert each.level not in ("warning", "problem") or each.remedy, each


def test_it_says_so_in_text_and_json() -> None:
    """The same findings; the status is that of the problems."""
    said = shmkit_says("doctor")
    plain = json.loads(shmkit_says("doctor", "--json").out)
    assert said.status == plain["status"] == 0
    assert plain["schema"] == 1
    assert len(plain["findings"]) == len(findings())
    for each in plain["findings"]:
        assert set(each) == {"level", "subject", "text", "remedy"}
        assert each["subject"] in said.out
    assert said.out.splitlines()[-1].endswith("findings.")


@pytest.mark.parametrize(
    ("level", "arguments", "status"),
    [
        ("ok", [], 0),
        ("note", [], 0),
        ("warning", [], 0),
        ("problem", [], 1),
        ("note", ["--strict"], 0),
        ("warning", ["--strict"], 1),
        ("problem", ["--strict"], 1),
        ("problem", ["--json"], 1),
        ("problem", ["--quiet"], 1),
    ],
)
def test_the_status_is_for_scripts(
    level: str, arguments: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 if there is a problem; with --strict, a warning."""
    monkeypatch.setattr("shmkit.survey.findings", lambda: [Finding(level, "the moon", "it is full", "wait")])
    said = shmkit_says("doctor", *arguments)
    assert said.status == status
    assert ("the moon" in said.out) == (level in ("warning", "problem") or "--quiet" not in arguments)


def test_quiet_leaves_out_what_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing where all is."""
    monkeypatch.setattr("shmkit.survey.findings", lambda: [Finding("ok", "the sun", "it shines")])
    assert shmkit_says("doctor", "-q") == (0, "", "")


def test_what_the_dead_left_is_found(make_name: Callable[[], str], process: Processes) -> None:
    """Leftovers, corrupt segments, and ends whose process died; each with what to do."""
    ring, corrupt, left = make_name(), make_name(), make_name()
    with removed_at_end(ring, corrupt, left):
        shmkit.Ring.create(ring, "64 KiB")
        shmkit.Segment.create(corrupt, 4096)
        os.truncate(f"/dev/shm/{corrupt}", 300)
        for target, name in ((receive_and_die, ring), (make_leased_and_die, left)):
            process(target, name).join()
        found = subjects(findings())
        assert found["left behind"].level == "warning"
        assert found["left behind"].remedy == "shmkit gc"
        assert corrupt in found["corrupt"].text
        assert f"{ring} (consumer " in found["died at work"].text
        assert shmkit_says("doctor").status == 0
        assert shmkit_says("doctor", "--strict").status == 1
        assert shmkit_says("gc").status == 0


def test_a_small_limit_of_open_files_is_found(process: Processes) -> None:
    """Each anonymous array keeps one."""
    code = (
        "import resource, sys; from shmkit.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
        "sys.exit(main(['doctor', '-q', '--strict']))"
    )
    program = process.python(code)
    output, _ = program.communicate(timeout=60)
    assert program.returncode == 1
    assert "open files" in output
    assert "ulimit -n" in output
    assert "largest file" in output
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 200


def test_a_machine_without_shared_memory_is_a_problem(machine: Callable[..., Machine]) -> None:
    """No /dev/shm; no System V; no message queues."""
    found = subjects(findings(machine()))
    assert found["/dev/shm"].level == "problem"
    assert "mount" in found["/dev/shm"].remedy
    assert found["SysV"].level == "note"
    assert found["POSIX queues"].level == "note"
    assert found["transparent huge pages"].level == "note"


def test_limits_that_are_nearly_reached_are_found(
    machine: Callable[..., Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that raises them."""
    monkeypatch.setattr("shmkit.survey.system_v.rows", lambda table: [{}] * 9)
    made = machine(
        **{
            "proc/sys/kernel/shmmax": "18446744073692774399",
            "proc/sys/kernel/shmall": "18446744073692774399",
            "proc/sys/kernel/shmmni": "10",
            "proc/sys/kernel/sem": "32000\t1024000000\t500\t10",
            "proc/sys/kernel/msgmni": "10",
            "proc/sys/kernel/msgmnb": "16384",
            "proc/sys/kernel/msgmax": "8192",
            "proc/sys/vm/max_map_count": "1000",
        }
    )
    found = subjects([each for check in limits.CHECKS for each in check(made)])
    for subject in ("SysV segments", "SysV semaphores", "SysV queues", "mappings"):
        assert found[subject].level == "warning"
        assert "sysctl" in found[subject].remedy
    assert "kernel.shmmni=40" in found["SysV segments"].remedy


def test_a_containers_hints_are_found(machine: Callable[..., Machine]) -> None:
    """Docker, its control group's limits, and how to share memory with another container."""
    made = machine(
        **{
            ".dockerenv": "",
            "proc/self/cgroup": "0::/docker/x\n",
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 100 kB\nHugepagesize: 2048 kB\nHugePages_Total: 5\n"
            "HugePages_Free: 3\n",
            "sys/fs/cgroup/docker/x/memory.max": "1048576\n",
            "sys/fs/cgroup/memory.max": "max\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/kernel/mm/transparent_hugepage/shmem_enabled": "always within_size advise [never] deny force\n",
            "proc/sys/vm/overcommit_memory": "2\n",
        }
    )
    found = subjects(findings(made))
    assert "--ipc" in found["container"].remedy
    assert "1 MiB" in found["control group"].text
    assert found["memory"].level == "warning"
    assert found["cores"].level == "note"
    assert "0.5" in found["cores"].text
    assert found["huge pages"].text == "3 free of 5, 2 MiB each"
    assert "within_size" in found["transparent huge pages"].remedy
    assert found["overcommit"].level == "note"


def test_it_fits_the_terminal_and_hides_nothing(process: Processes) -> None:
    """A pipe gets whole lines."""
    said = program_says(process, "doctor")
    for each in findings():
        assert each.subject in said.out
