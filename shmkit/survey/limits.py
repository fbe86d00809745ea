"""What the system allows: limits of System V and POSIX IPC, of this process, and its cores."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from shmkit.sizes import format_size
from shmkit.survey import system_v
from shmkit.survey.machine import Check, Finding, Machine

__all__ = ["CHECKS"]

# Beyond, "no limit" is what the kernel means.
_ENDLESS = 2**60


def _sysv(machine: Machine) -> Iterator[Finding]:
    largest, pages, most = (machine.number(f"/proc/sys/kernel/{name}") for name in ("shmmax", "shmall", "shmmni"))
    if largest is None or most is None:
        yield Finding("note", "SysV", "this kernel has no System V IPC: backing='sysv' is not to be had")
        return
    segments = system_v.rows("shm")
    total = None if pages is None or pages > _ENDLESS // 4096 else pages * resource.getpagesize()
    text = (
        f"{len(segments)} of at most {most} segments; the largest {_size(largest)}, "
        f"all together {_size(total)} (shmmni, shmmax, shmall)"
    )
    if len(segments) * 5 >= most * 4:
        yield Finding("warning", "SysV segments", text, f"shmkit gc, ipcs -m, or sysctl kernel.shmmni={most * 4}")
    elif largest < 2**30:
        yield Finding("note", "SysV segments", text, "for larger ones: sysctl kernel.shmmax=… kernel.shmall=…")
    else:
        yield Finding("ok", "SysV segments", text)
    sem = machine.numbers("/proc/sys/kernel/sem")
    if len(sem) == 4:
        sets = len(system_v.rows("sem"))
        text = f"{sets} of at most {sem[3]} sets; {sem[0]} in a set, {sem[1]} in all"
        full = sets * 5 >= sem[3] * 4
        remedy = f'ipcs -s, or sysctl kernel.sem="{sem[0]} {sem[1]} {sem[2]} {sem[3] * 4}"' if full else ""
        yield Finding("warning" if full else "ok", "SysV semaphores", text, remedy)
    queues, size, message = (machine.number(f"/proc/sys/kernel/{name}") for name in ("msgmni", "msgmnb", "msgmax"))
    if queues is not None and size is not None and message is not None:
        used = len(system_v.rows("msg"))
        text = f"{used} of at most {queues} queues of {_size(size)}; a message has at most {_size(message)}"
        full = used * 5 >= queues * 4
        remedy = f"ipcs -q, or sysctl kernel.msgmni={queues * 4}" if full else ""
        yield Finding("warning" if full else "ok", "SysV queues", text, remedy)


def _mqueue(machine: Machine) -> Iterator[Finding]:
    folder = "/proc/sys/fs/mqueue"
    most, messages, size = (machine.number(f"{folder}/{name}") for name in ("queues_max", "msg_max", "msgsize_max"))
    if most is None or messages is None or size is None:
        yield Finding("note", "POSIX queues", "this kernel has no POSIX message queues")
        return
    bound = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[0]
    text = f"at most {most}, each of {messages} messages of {_size(size)}; {_size(bound)} per user (RLIMIT_MSGQUEUE)"
    yield Finding("ok", "POSIX queues", text)
    if not os.path.ismount(machine.root / "dev/mqueue"):
        remedy = "mkdir -p /dev/mqueue; mount -t mqueue none /dev/mqueue (as root)"
        yield Finding("note", "/dev/mqueue", "not mounted: shmkit ls does not see POSIX queues", remedy)


def _process(machine: Machine) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{_count(soft)} (hard limit {_count(hard)}); each anonymous array, and each ring, keeps one"
    few = soft != resource.RLIM_INFINITY and soft < 4096
    remedy = f"ulimit -n {hard if hard != resource.RLIM_INFINITY else 65536}" if few else ""
    yield Finding("warning" if few and soft < 256 else "note" if few else "ok", "open files", text, remedy)
    for name, what, option in (("RLIMIT_FSIZE", "largest file", "f"), ("RLIMIT_AS", "address space", "v")):
        soft = resource.getrlimit(getattr(resource, name))[0]
        if soft != resource.RLIM_INFINITY:
            text = f"{format_size(soft)} ({name}): no segment of this process is larger"
            yield Finding("warning", what, text, f"ulimit -{option} unlimited")
    locked = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    yield Finding("ok", "locked memory", f"{_size(locked)} (RLIMIT_MEMLOCK; shmkit locks none)")
    maps = machine.number("/proc/sys/vm/max_map_count")
    if maps is not None:
        few = maps < 65530
        remedy = "sysctl vm.max_map_count=262144" if few else ""
        yield Finding("warning" if few else "ok", "mappings", f"at most {maps} per process (vm.max_map_count)", remedy)


def _cores(machine: Machine) -> Iterator[Finding]:
    own, all_cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    text = f"{own} of {all_cores}" if own != all_cores else f"{own}"
    quota = (machine.text("/sys/fs/cgroup/cpu.max") or "").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
        share = int(quota[0]) / int(quota[1])
        text += f", of which the control group allows {share:.3g}"
        own = min(own, int(share) or 1)
    if own == 1:
        remedy = "two processes that exchange messages take turns on one core: docker run --cpus=2, taskset -c 0,1"
        yield Finding("note", "cores", text, remedy)
    else:
        yield Finding("ok", "cores", text)


def _size(nbytes: int | None) -> str:
    return "without limit" if nbytes is None or nbytes < 0 or nbytes >= _ENDLESS else format_size(nbytes)


def _count(number: int) -> str:
    return "without limit" if number < 0 or number >= _ENDLESS else str(number)


CHECKS: tuple[Check, ...] = (_sysv, _mqueue, _process, _cores)
