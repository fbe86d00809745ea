"""Arrays and large bytes take the short way through streams: it says the same as the long one."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

import shmkit
from channel.ends import WATCHDOG, digest, same
from channel.test_small import frame, raw_and_end, streams
from shmkit.channel.frame import HEADER, TAKEN_BACK

VALUES: list[Any] = [
    np.arange(10),
    np.arange(512.0),
    np.zeros((3, 5000), order="F"),
    np.arange(9000).astype("S5"),
    np.ones(2000, [("a", "i4"), ("b", ">f8")]),
    np.arange(6000).reshape(2, 3000),
    np.arange(6000).reshape(3000, 2),
    np.arange(6000).reshape(3000, 2).astype("M8[s]"),
    np.ones(()),
    np.empty((0, 3)),
    np.arange(12000)[::2],
    bytes(range(256)) * 300,
    bytes(4080),
]


@streams
def test_arrays_are_the_same_by_either_way(url: str) -> None:
    """Sent and received by each way, those of one size and several shapes after each other; counted alike."""
    one, other = shmkit.pair(url)
    with one, other:
        one.send("greeted")
        assert other.recv(WATCHDOG) == "greeted"
        other.send("greeted")
        assert one.recv(WATCHDOG) == "greeted"
        for value in VALUES:
            for sending in (5.0, 5):
                for receiving in (5.0, 5):
                    one.send(value, sending)
                    found = other.recv(receiving)
                    assert same(found, value)
                    if isinstance(value, np.ndarray):
                        assert found.shape == value.shape
                        assert found.flags.owndata
        assert one.statistics().bytes_sent == other.statistics().bytes_received
        assert one.statistics().sent == other.statistics().received == 4 * len(VALUES) + 1


def test_elements_begin_at_a_multiple_of_16_bytes() -> None:
    """In what goes through a pipe, by either way, whatever dtype and shape are; and no frame says how it was sent."""
    kinds = ["u1", "<f8", ">c16", "M8[25us]", "S300", [("a", "i4"), ("long name of a field", ">f8", (2, 3))]]
    shapes: list[tuple[int, ...]] = [(), (7,), (2, 3), (1, 2, 1, 3), (1,) * 20]
    other, one = shmkit.pair("pipe:")
    with one, other:
        one.send("greeted")
        assert other.recv(WATCHDOG) == "greeted"
        fd = other.fileno()
        for kind in kinds:
            for shape in shapes:
                value = np.frombuffer(b"\xa5" * (np.dtype(kind).itemsize * int(np.prod(shape))), kind).reshape(shape)
                sent = set()
                for timeout in (5.0, 5):
                    one.send(value, timeout)
                    text = os.read(fd, 1 << 16)
                    assert text == frame(value)
                    begin = HEADER.size + HEADER.unpack_from(text)[3]
                    assert begin % 16 == 0
                    assert text[begin:-1] == value.tobytes()
                    sent.add(text)
                assert len(sent) == 1


@pytest.mark.parametrize("value", [np.arange(9.0).reshape(3, 3), np.zeros(2, [("x", "i2")]), bytes(5000)], ids=repr)
def test_what_is_large_may_come_in_pieces(value: Any) -> None:
    """Cut at every byte of what comes first and last, when the message is like the one before, and when not."""
    text = frame(value)
    raw, end = raw_and_end()
    with raw, end:
        for before in (value, np.zeros(value.nbytes if isinstance(value, np.ndarray) else 8, "u1")):
            for cut in [*range(120), *range(len(text) - 120, len(text))]:
                raw.sendall(frame(before))
                assert same(end.recv(WATCHDOG), before)
                cut = min(max(cut, 0), len(text))
                raw.sendall(text[:cut])
                later = threading.Timer(0.001, raw.sendall, (text[cut:] + frame("next"),))
                later.start()
                assert same(end.recv(WATCHDOG), value)
                assert end.recv(WATCHDOG) == "next"
                later.join()


def test_an_array_that_was_taken_back_is_passed_over() -> None:
    """It was read by the short way, and is not given out."""
    raw, end = raw_and_end()
    with raw, end:
        for _ in range(3):
            raw.sendall(frame(np.arange(2000), TAKEN_BACK) + frame(np.arange(2000)))
            assert same(end.recv(WATCHDOG), np.arange(2000))


def test_what_contradicts_itself_or_a_limit_is_said() -> None:
    """As the long way says it, before memory is taken."""
    text = frame(np.arange(2000))
    for wrong in (
        text[:8] + (2**62).to_bytes(8, "little") + text[16:],
        text[:16] + b"\xff" + text[17:],
        text[:-1] + b"?",
    ):
        raw, end = raw_and_end()
        with raw, end:
            raw.sendall(wrong)
            with pytest.raises((shmkit.RecordCorrupt, shmkit.RecordTooLarge)):
                end.recv(WATCHDOG)


@streams
def test_a_time_out_amid_an_array_takes_it_back(url: str) -> None:
    """The next message comes whole; one that is waited for in vain is received by the next call."""
    one, other = shmkit.pair(url)
    array = np.random.default_rng(1).integers(0, 255, 9_000_000, "u1")
    with one, other:
        one.send("greeted")
        assert other.recv(WATCHDOG) == "greeted"
        for timeout in (0.0, 0.02, 0.08):
            with pytest.raises(TimeoutError, match="no room for 9000000 bytes"):
                one.send(array, timeout)
            later = threading.Thread(target=one.send, args=(array, WATCHDOG))
            later.start()
            assert digest(other.recv(WATCHDOG)) == digest(array)
            later.join()
    raw, end = raw_and_end()
    with raw, end:
        text = frame(array)
        for cut in (10, 20, 40, 5000):
            raw.sendall(text[:cut])
            for timeout in (0.001, 0.06):
                with pytest.raises(TimeoutError):
                    end.recv(timeout)
            later = threading.Thread(target=raw.sendall, args=(text[cut:],))
            later.start()
            assert digest(end.recv(WATCHDOG)) == digest(array)
            later.join()
