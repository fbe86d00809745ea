"""A file imports only from below: DESIGN.md's house, as a table."""

from __future__ import annotations

import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

from support.sources import edges, files, inside, targets

# Floor → its steps, lowest first.  A file imports from lower floors and from lower steps of its own floor, never from
# its own step.  Each step beyond a floor's first is argued where it stands.  A folder is one entry: its files may
# import each other, as long as they do so without a circle.
FLOORS: dict[int, list[list[str]]] = {
    0: [
        [
            *["_layout.h", "_atomics.h", "_process.h", "_lease.h", "_failpoint.h", "_copy.h"],
            *["errors", "sizes", "_ending", "_foreign", "waiting", "include", "_plain_view"],
        ],
        ["_awaiting"],  # for an event loop, what a descriptor says
        # a futex word is an atomic word; a file has a layout, and points to fail at; a forked child is a process; what
        # goes over a wire is laid out; an alarm has a deadline; a mode is a whole number
        ["_futex.h", "_file.h", "_fork.h", "_catch.h", "_poll.h", "_wire.h", "_owned", "alarm", "_modes"],
        ["_wait.h", "_turn.h", "_holding.h"],  # parking is a futex wait; what a mapping owns is a file and a generation
        ["_member.h", "_cell.h"],  # a member's lease is a lease; a cell is laid out
        ["_gate.h", "_word.h"],  # many who wait on one word, or for one
        ["_lock.h", "_semaphore.h", "_event.h"],  # words that are waited for at gates, and that name members
        ["_condition.h", "_rwlock.h", "_barrier.h"],  # go with a lock, bear a lock's word, have a lock in them
        ["_rwlock_wait.h"],  # how that is waited for
        ["_watch.h"],  # beside a gate, a way to be told of what gates tell
        ["_heap_layout.h"],  # has a lock's cell in it
        ["_heap.h", "_pair_meet.h"],  # blocks whose words name members; one who hands a message over is a member
        ["_heap_take.h", "_heap_touch.h"],  # how they are found, and mapped
        ["_queue_rings.h", "_pair.h"],  # queues are blocks of a heap, and pipes' messages are …
        ["_cells.h"],  # … and hand blocks on
        ["_queue_done.h"],  # … and counts what is done, and dropped
        ["_sweep.h"],  # knows what the dead can leave in either
        ["_queue_wait.h"],  # how queues, and memory, are waited for
        ["_topic_layout.h"],  # has a lock's cell in it
        ["_topic.h"],  # whose publisher is a lock's holder
        ["_ring_bell.h"],  # rung, or told of
        ["_ring.h"],  # C, so that the sanitizers' drivers run it without Python: it knows words, leases and waiting
        ["_ring_roles.h"],  # the roles of those who use it
        ["_program_ring.h"],  # a C program's hold on a ring
        ["_program.h"],  # what it does with it
        ["_core", "_core_fields", "_core_numpy"],  # declare the headers to Cython, and therefore stand on them
        ["_core_topic", "_core_watch", "_core_socket", "_core_signals", "_core_types", "_core_copy"],
        ["_core_heap"],  # those of heaps and queues, in terms of it
        ["_core_pair"],  # those of pipes, in terms of heaps
    ],
    1: [
        ["_map", "_describe", "_buffers"],
        ["_header"],  # what a mapping's first bytes say of it
        ["_make"],  # makes what a Mapping then owns
        ["_make_array"],  # … and arrays in it, with NumPy, which that does without
        ["segment"],  # a segment owns a Mapping
        ["array"],  # an array lies in a segment
    ],
    2: [
        ["_membership", "_deadline", "_tally"],  # who this process is, until when it waits, and how long it did
        ["_primitive"],  # what all primitives have in common
        ["_lock", "_sem", "_event", "_atomic"],
        # go with a lock, are recovered like one, have one in them; and many atomics, or words of tasks
        ["_condition", "_rwlock", "_barrier", "_atomic_array", "_claims"],
    ],
    3: [
        ["_record", "_ring_watch", "statistics"],
        ["_end"],  # waits, with a descriptor too
        ["_send", "_awaited"],  # an end that writes records; one in an event loop
        ["_ring_awaited"],  # an end that writes records, in an event loop too
        ["_ring"],  # and hands them out
    ],
    # Objects: bytes on one hand, memory on the other, and queues, which need both.
    4: [
        ["_codes", "_heap_size", "_heap_trouble", "_watch", "_wire"],
        ["_heap"],  # says what is wrong with it
        ["_pair_tie"],  # lies in a heap
        ["_pickling", "_shared"],  # know the codes; what a reference to a shared array says
        ["_dtypes", "_instances", "_reading"],  # some of which are pickled; as it would do; bytes that codes say
        # what arrays are made of; instances that are made by a call; what is in an item that nobody reads
        ["_decode_arrays", "_makers", "_references"],
        ["_decode", "_writing"],  # everything else; copies arrays
        ["_encode_arrays"],  # writes
        ["_encode"],
        # a queue lies in a heap, and so do a pipe's messages; what becomes of an item, for Python
        ["_topic_end", "_queue_end", "_pair_end", "_codec"],
        ["_subscriber", "_queue_put", "_queue_named", "_pair"],
        ["_publisher"],  # makes subscribers
        ["_queue"],  # adds getting to putting
        ["queue"],  # the standard library's words
    ],
    # Mechanisms of the kernel, behind the words of the floors below.
    5: [
        ["files", "_turns", "_catcher", "_plain", "_arriving"],
        ["_parts", "_ahead"],  # where a value's bytes lie; the first bytes of the next one
        ["_outgoing"],  # has a turn for each way
        ["_small"],  # receives, too
        ["semaphore", "_fields", "pipe", "socket", "log", "mqueue", "signals"],  # names that appear, logs that grow
        [
            "survey",
            "fifo",
            "descriptors",
        ],  # a survey looks at all floors below; a FIFO is a pipe with a name; one is a process
        ["channel"],  # the face of all of them
    ],
    # The package itself: the public names, gathered from all floors below.
    # Before: what is replaced, the standard library's face, and what puts that into the standard library's place.
    6: [
        ["_replaced", "_tasks", "_future"],
        ["_working", "_line"],  # do tasks; a pool's are sent there too
        ["_executing"],  # sends them
        ["executor"],  # the standard library's words
        ["multiprocessing"],
        ["install"],
        ["__init__"],
    ],
    7: [["cli"], ["__main__"]],
}

# Which run-time dependencies there are is a promise; what the tools of the top floor can do with an extra is not.
TOOLS = "cli/"
AT_RUN_TIME = (".py", ".pyx", ".pxd", ".h")


def place(entry: str) -> tuple[int, int] | None:
    """(floor, step) of a file named as in FLOORS, or of the folder that it is in."""
    for floor, steps in FLOORS.items():
        for step, names in enumerate(steps):
            if entry in names or entry.split("/", maxsplit=1)[0] in names:
                return floor, step
    return None


def entry_of(path: Path) -> str:
    return inside(path) if path.suffix == ".h" else inside(path.with_suffix(""))


@pytest.mark.parametrize("path", files(), ids=inside)
def test_every_file_stands_on_a_floor(path: Path) -> None:
    """A new file is given its place in FLOORS, on purpose."""
    assert place(entry_of(path)) is not None, f"{inside(path)} has no floor: give it one in tests/meta/test_floors.py"


def test_every_place_has_a_file() -> None:
    """FLOORS names nothing that does not exist."""
    exist = {entry_of(path) for path in files()} | {entry_of(path).split("/")[0] for path in files()}
    named = {name for steps in FLOORS.values() for names in steps for name in names}
    assert not named - exist


@pytest.mark.parametrize("path", files(), ids=inside)
def test_a_file_imports_only_from_below(path: Path) -> None:
    """Imports, cimports and includes go down; a .pyx to its own .pxd, and within one folder, are its own affair."""
    own = entry_of(path)
    wrong = []
    for edge in edges(path):
        for target in targets(edge):
            folder = own.split("/")[0] if "/" in own else None
            if target == own or (folder and target.split("/")[0] == folder):
                continue
            here, there = place(own), place(target)
            if here is None or there is None or there >= here:
                wrong.append(f"{inside(path)}:{edge.line} imports {target}: {there} is not below {here}")
    assert not wrong, "\n".join(wrong)


def test_no_import_runs_in_a_circle() -> None:
    """Within a folder too, whatever is imported stands without what imports it (imports for type checkers aside)."""
    graph: dict[str, set[str]] = {}
    for path in files(".py", ".pyx", ".pxd", ".h"):
        own = entry_of(path)
        checkers_only = _type_checking_lines(path)
        reached = {target for edge in edges(path) if edge.line not in checkers_only for target in targets(edge)}
        graph.setdefault(own, set()).update(reached - {own})
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, " → ".join([*trail[trail.index(node) :], node])
        if node not in done:
            for target in sorted(graph.get(node, ())):
                visit(target, (*trail, node))
            done.add(node)

    for start in sorted(graph):
        visit(start, ())


def _type_checking_lines(path: Path) -> set[int]:
    lines: set[int] = set()
    indent: int | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if indent is not None and line.strip() and len(line) - len(line.lstrip()) <= indent:
            indent = None
        if indent is not None:
            lines.add(number)
        if re.match(r"\s*if (typing\.)?TYPE_CHECKING:", line):
            indent = len(line) - len(line.lstrip())
    return lines


@pytest.mark.parametrize("path", [p for p in files(".pyx", ".pxd") if not p.name.startswith("_core")], ids=inside)
def test_only_the_core_declares_c(path: Path) -> None:
    """`cdef extern` stands in _core.pxd alone, and, for a family of headers that is large, in _core_<family>.pxd."""
    found = [
        f"{inside(path)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*cdef extern\b", line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "path", [p for p in files() if p.suffix != ".pyi" and not inside(p).startswith(TOOLS)], ids=inside
)
def test_nothing_is_imported_that_is_not_depended_on(path: Path) -> None:
    """Below the tools: the standard library, the run-time dependencies, and what Cython brings.

    Type checkers bring typing_extensions with them; nothing else reads a stub or what is for them only.
    """
    checkers_only = _type_checking_lines(path)
    declared = {re.split(r"[^\w-]", line)[0] for line in requires("shmkit") or () if "extra ==" not in line}
    allowed = {"shmkit", "cython", "cpython", "libc", "posix", *declared, *sys.stdlib_module_names}
    wrong = [
        f"{inside(path)}:{edge.line} imports {edge.module}"
        for edge in edges(path)
        if not edge.module.endswith(".h")
        and edge.module.split(".")[0] not in allowed
        and edge.line not in checkers_only
    ]
    assert not wrong, "\n".join(wrong)
