"""Claims: a task that is offered is run by one worker, or withdrawn, and by nobody else, whatever is said twice."""

from __future__ import annotations

import threading
from multiprocessing.context import BaseContext
from typing import Any

import pytest

import shmkit
from shmkit._claims import PLACES_MOST, Claims
from support import Processes

WORKERS = 3


def test_one_task() -> None:
    """Offered, claimed, answered, settled."""
    claims = Claims(4)
    ticket = claims.offer()
    assert claims.used == 1
    assert claims.holder(ticket) == 0
    assert claims.claim(ticket, 7)
    assert claims.holder(ticket) == 7
    assert not claims.claim(ticket, 8)
    assert not claims.withdraw(ticket)
    assert not claims.was_answered(ticket)
    claims.answer(ticket, 7)
    assert claims.was_answered(ticket)
    assert claims.holder(ticket) == -1
    claims.settle(ticket)
    assert claims.used == 0


def test_a_task_that_is_withdrawn_is_claimed_by_nobody() -> None:
    claims = Claims(1)
    ticket = claims.offer()
    assert claims.withdraw(ticket)
    assert not claims.withdraw(ticket)
    assert not claims.claim(ticket, 1)
    assert claims.holder(ticket) == -1


def test_there_are_so_many_places() -> None:
    """No ticket then is 0; a place that is settled is another task's."""
    claims = Claims(3)
    tickets = [claims.offer() for _ in range(3)]
    assert len(set(tickets)) == 3
    assert all(tickets)
    assert claims.offer() == 0
    claims.settle(tickets[1])
    again = claims.offer()
    assert again
    assert again not in tickets


def test_an_old_ticket_says_nothing_of_the_places_new_task() -> None:
    """Who comes late, with whatever, changes nothing."""
    claims = Claims(1)
    old = claims.offer()
    assert claims.claim(old, 1)
    claims.settle(old)
    new = claims.offer()
    claims.answer(old, 1)
    assert not claims.claim(old, 2)
    assert not claims.withdraw(old)
    assert not claims.was_answered(old)
    assert claims.holder(old) == -1
    assert claims.holder(new) == 0
    assert claims.claim(new, 1)
    claims.answer(old, 1)
    assert claims.holder(new) == 1


@pytest.mark.parametrize("places", [0, -1, PLACES_MOST + 1])
def test_a_table_has_so_many_places(places: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {PLACES_MOST} places: got {places}"):
        Claims(places)


def test_a_ticket_of_another_table() -> None:
    with pytest.raises(ValueError, match="has no place for ticket 4099"):
        Claims(2).claim(4096 + 3, 1)


def claim_all(claims: Claims, tickets: list[int], worker: int, won: Any) -> None:
    for place, ticket in enumerate(tickets):
        if claims.claim(ticket, worker):
            won.add(place)


def test_processes_claim(start_method: BaseContext, process: Processes) -> None:
    """Each task is won once."""
    claims = Claims(500)
    tickets = [claims.offer() for _ in range(500)]
    won = shmkit.AtomicArray(shmkit.zeros(500, "int64"))
    children = [
        process(claim_all, claims, tickets, worker, won, context=start_method) for worker in range(1, 1 + WORKERS)
    ]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert list(won) == [1] * 500
    assert {claims.holder(ticket) for ticket in tickets} <= set(range(1, 1 + WORKERS))


def test_threads_claim_and_withdraw() -> None:
    """Likewise, while others withdraw."""
    claims = Claims(1000)
    tickets = [claims.offer() for _ in range(1000)]
    won: list[list[int]] = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def run(worker: int) -> None:
        start.wait()
        for ticket in tickets:
            if claims.claim(ticket, worker) if worker else claims.withdraw(ticket):
                won[worker].append(ticket)

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ticket for each in won for ticket in each) == sorted(tickets)
