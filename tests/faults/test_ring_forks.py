"""A forked child of a ring's end never acts for its parent."""

from __future__ import annotations

import pytest

import shmkit
from support import Processes


def as_child(ring: shmkit.Ring, view: shmkit.RecordView, slot: shmkit.Reservation) -> None:
    """What the parent holds is void here, and its roles are taken."""
    assert not view.valid
    view.release()
    with pytest.raises(ValueError, match="committed or aborted"):
        slot.commit()
    with pytest.raises(shmkit.RoleTaken, match="producer"):
        ring.try_send(b"child")
    with pytest.raises(shmkit.RoleTaken, match="consumer"):
        ring.try_recv()
    ring.close()


def test_a_child_cannot_release_commit_or_close_for_its_parent(process: Processes) -> None:
    """View, reservation and both roles are as they were when the child has ended."""
    with shmkit.Ring.create(capacity=4096) as ring:
        ring.send(b"held")
        view = ring.recv_view()
        slot = ring.reserve(4)
        child = process(as_child, ring, view, slot)
        child.join(30)
        assert child.exitcode == 0
        assert view.valid
        assert bytes(view.buf) == b"held"
        slot.buf[:] = b"sent"
        slot.commit()
        view.release()
        assert ring.recv(timeout=30) == b"sent"
