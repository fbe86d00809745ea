"""What of this machine stands in the way of shared memory, and how to remove it: every check, in order."""

from __future__ import annotations

from shmkit.survey import kernel, left, limits, rooms
from shmkit.survey.machine import Finding, Machine

__all__ = ["findings"]


def findings(machine: Machine | None = None) -> list[Finding]:
    """Everything that was looked at, in the order of the list."""
    machine = Machine() if machine is None else machine
    found: list[Finding] = []
    for check in (*kernel.CHECKS, *rooms.CHECKS, *limits.CHECKS, *left.CHECKS):
        found.extend(check(machine))
    return found
