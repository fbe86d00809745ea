"""What a survey finds: one SharedObject each, however the kernel keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shmkit import _header
from shmkit.survey.details import Details

if TYPE_CHECKING:
    from shmkit.survey.heading import Heading
    from shmkit.survey.processes import Process, Processes

__all__ = ["SCHEMA", "Creator", "SharedObject", "creator_of", "lifetime_of"]

# Of as_json: goes up when a field changes its meaning or goes; a new field alone does not raise it.
SCHEMA = 1


@dataclass(frozen=True)
class Creator:
    """Who made it; ``alive`` is None where nobody can tell.  A pid that is another process's by now is a dead one's."""

    pid: int | None
    uid: int
    alive: bool | None
    command: str | None


@dataclass(frozen=True)
class SharedObject:
    """A segment, or a semaphore or message queue of the kernel's, as it was at the moment of the survey."""

    address: str
    """What the command line calls it."""
    backing: str
    """One of "posix", "sysv", "file", "memfd", "posix semaphore", "sysv semaphore", "posix queue", "sysv queue"."""
    kind: str
    """What it holds: "array", "ring", … of shmkit's; "raw", "semaphore", "queue" of others'; "?": it cannot be told."""
    state: str
    """"whole"; "in the making", "half made" (its maker died); "other version", "unknown kind", "corrupt"; "foreign"; or
    "unreadable" (it is another user's)."""
    trouble: str | None
    """What is wrong with it, in words."""
    size: int | None
    """Bytes: of shmkit's, those that can be used; of others', all; of a message queue, those that wait in it."""
    resident: int | None
    """Bytes of memory that it takes now."""
    lifetime: str | None
    """"named" or "leased", of shmkit's."""
    mode: int
    uid: int
    created: float | None
    """When it was made, in seconds since 1970; None: nobody says."""
    changed: float
    """When the kernel last saw it change."""
    creator: Creator | None
    users: tuple[Process, ...]
    """The processes that were seen to have it mapped or open."""
    users_known: bool
    """Whether these are all; otherwise some processes do not show what they use."""
    attached: int | None
    """Of SysV segments, how often it is attached, by whomever; the kernel counts."""
    leased: bool | None
    """Whether a process holds a lease on it; None: it has no leases, or nobody can tell."""
    details: Details
    name: str | int | None = None
    path: str | None = None
    device: int = 0
    inode: int = 0
    id: int | None = None
    """Of SysV's: the kernel's number for it."""
    identity: int = 0
    payload_at: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is shmkit's."""
        return self.state not in ("foreign", "unreadable")

    @property
    def whole(self) -> bool:
        """Whether its header can be believed."""
        return self.state == "whole"

    @property
    def unused(self) -> bool:
        """Whether nobody was seen to use it: nobody at all, if ``users_known``."""
        return not self.users and not self.attached and not self.leased

    @property
    def dead(self) -> tuple[str, ...]:
        """Who is gone that had a part in it: ends of rings, holders of locks."""
        return self.details.dead

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values; docs/command-line.md says what each means."""
        creator = self.creator
        return {
            "address": self.address,
            "name": self.name,
            "backing": self.backing,
            "kind": self.kind,
            "state": self.state,
            "trouble": self.trouble,
            "shmkit": self.ours,
            "size": self.size,
            "resident": self.resident,
            "lifetime": self.lifetime,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "created": self.created,
            "changed": self.changed,
            "creator": creator
            and {"pid": creator.pid, "uid": creator.uid, "alive": creator.alive, "command": creator.command},
            "users": [user._asdict() for user in self.users],
            "users_known": self.users_known,
            "attached": self.attached,
            "leased": self.leased,
            "path": self.path,
            "inode": self.inode or None,
            "id": self.id,
            "dead": list(self.dead),
            "words": self.details.words,
            "details": self.details.facts,
        }


def lifetime_of(seen: Heading, backing: str) -> str | None:
    """How long it lives, as its header says; None: it is not known."""
    if seen.header is None or seen.state == "corrupt":
        return None
    return "leased" if backing == "memfd" or seen.header.flags & _header.LEASED else "named"


def creator_of(seen: Heading, processes: Processes) -> Creator | None:
    """Who made it, as its header says."""
    head = seen.header
    if head is None or seen.state == "corrupt":
        return None
    # The start time guards against a pid that is another process's by now.
    start = processes.start(head.creator_pid)
    alive = None if processes.hides(head.creator_pid) else start == head.creator_start != 0
    process = processes.get(head.creator_pid) if alive else None
    return Creator(head.creator_pid, head.creator_uid, alive, process.command if process else None)
