"""A survey of this machine's shared memory: read, not used, so that nobody who uses it can tell.

``Survey().objects()`` finds what there is, ``leftovers`` what the dead left, ``Watch().look()`` how fast streams go,
``findings`` what of this machine stands in the way.  The command line is built on it; other programs may be, too.
"""

from __future__ import annotations

from shmkit.survey.details import Details, Gauge
from shmkit.survey.find import Survey
from shmkit.survey.findings import findings
from shmkit.survey.leftovers import Leftover, leftovers
from shmkit.survey.machine import Finding
from shmkit.survey.objects import SCHEMA, Creator, SharedObject
from shmkit.survey.processes import Process
from shmkit.survey.watch import Rate, Watch

__all__ = [
    "SCHEMA",
    "Creator",
    "Details",
    "Finding",
    "Gauge",
    "Leftover",
    "Process",
    "Rate",
    "SharedObject",
    "Survey",
    "Watch",
    "findings",
    "leftovers",
]
