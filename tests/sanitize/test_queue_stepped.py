"""SIGKILL, or a long stop, at every instant of every operation of heaps and queues."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.stepping import needs_x86, run_stepper, step, stepper

SOURCE = HERE / "queue_step.c"
OPERATIONS = ["put-body", "get", "take", "take-large", "drop", "drop-large", "drop-cold"]
# One state of many, of those that take their time.
BRIEFLY = [
    ("put", "with_dead_producer_claimed"),
    ("put-linking", "with_a_last_cell"),
    ("sweep-consumers", "with_dead_consumer_held"),
    ("sweep-droppers", "with_dead_dropper_named"),
    ("let-go", "with_a_body_first"),
    ("let-go", "with_dead_dropper_named"),
]
LONG = {
    "put": ["with_nothing", "with_some", "with_dead_consumer_held", "with_a_skip", "with_an_orphan"],
    "put-relinking": ["with_a_last_cell_and_a_ring"],
    "put-after-dead-makers": ["with_dead_maker_named", "with_dead_maker_linked"],
    "sweep-producers": ["with_dead_producer_claimed", "with_dead_producer_item", "with_dead_producer_queued"],
    "sweep-consumers": ["with_dead_consumer_taken", "with_dead_consumer_head"],
    "sweep-droppers": ["with_dead_dropper_counted", "with_dead_dropper_held", "with_dead_dropper_freed"],
    "let-go": [
        "with_nothing",
        "with_some",
        "with_a_link",
        "with_dead_consumer_held",
        "with_an_orphan",
        "with_dead_dropper_counted",
        "with_dead_dropper_held",
        "with_dead_dropper_freed",
    ],
    "sweep-makers": [
        "with_dead_maker_taken",
        "with_dead_maker_named",
        "with_dead_maker_given",
        "with_dead_maker_formatted",
        "with_dead_maker_linked",
        "with_a_dead_remaker",
    ],
    "sweep-all": ["with_dead_of_all_kinds", "with_dead_producer_tail", "with_dead_maker_new"],
    "trim": ["with_blocks", "with_some"],
    "make": ["with_nothing"],
}

pytestmark = needs_x86


def step_state(folder: Path, operation: str, state: str) -> None:
    done = run_stepper(stepper(SOURCE, folder), operation, state)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    assert state in done.stdout


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_or_a_stop_at_any_instant_loses_no_item_and_no_block(folder: Path, operation: str) -> None:
    """Survivors go on; each item comes once; the heap is empty, and the queue as good as new."""
    step(SOURCE, folder, operation)


@pytest.mark.parametrize(("operation", "state"), BRIEFLY)
def test_a_kill_or_a_stop_at_any_instant_in_one_state(folder: Path, operation: str, state: str) -> None:
    """The same, of what takes longer, in one of the states that the soak tries."""
    step_state(folder, operation, state)


def test_a_cell_that_is_ready_before_its_block_does_not_escape_the_stepper(folder: Path) -> None:
    """The planted fault proves that the tests above can fail."""
    step(SOURCE, folder, "put-badly", found="get says")


def test_an_item_that_is_dropped_before_it_is_counted_does_not_escape_the_stepper(folder: Path) -> None:
    """Likewise: whoever waits until all is done would wait for ever."""
    step(SOURCE, folder, "let-go-badly", found="tasks are not done")


def test_a_look_whether_all_is_done_sees_one_instant(folder: Path) -> None:
    """Whatever is put, got and done meanwhile: if one task or another was never done, it does not say that all were."""
    step(SOURCE, folder, "is-done", everywhere=True)


@pytest.mark.soak
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("operation", "state"), [(operation, state) for operation in LONG for state in LONG[operation]]
)
def test_a_kill_or_a_stop_at_any_instant_in_every_state(folder: Path, operation: str, state: str) -> None:
    """The same, after deaths of all kinds, and of those who sweep."""
    step_state(folder, operation, state)
