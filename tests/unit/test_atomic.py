"""AtomicInt64, AtomicUInt64 and AtomicFlag: values and orders; waiting and places have files of their own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmkit

ORDERS = ("relaxed", "acquire", "release", "acq_rel", "seq_cst")
LOAD = {"relaxed", "acquire", "seq_cst"}
STORE = {"relaxed", "release", "seq_cst"}
# Each operation of an integer, and the orders that it can have.
CALLS: dict[str, tuple[tuple[int, ...], set[str]]] = {
    "load": ((), LOAD),
    "store": ((3,), STORE),
    "exchange": ((3,), set(ORDERS)),
    "add": ((3,), set(ORDERS)),
    "sub": ((3,), set(ORDERS)),
    "and_": ((3,), set(ORDERS)),
    "or_": ((3,), set(ORDERS)),
    "xor": ((3,), set(ORDERS)),
    "compare_exchange": ((5, 3), set(ORDERS)),
}
AFTER = {"load": 5, "store": 3, "exchange": 3, "add": 8, "sub": 2, "and_": 1, "or_": 7, "xor": 6, "compare_exchange": 3}
FLAG_CALLS = {"test_and_set": set(ORDERS), "test": LOAD, "clear": STORE}
KINDS = (shmkit.AtomicInt64, shmkit.AtomicUInt64)
RANGES = {shmkit.AtomicInt64: (-(2**63), 2**63 - 1), shmkit.AtomicUInt64: (0, 2**64 - 1)}


class Element:
    """An element of an AtomicArray under the face of one atomic."""

    def __init__(self, array: shmkit.AtomicArray, where: int) -> None:
        self.array, self.where = array, where

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: getattr(self.array, name)(self.where, *args, **options)


def element_of(dtype: str) -> Callable[[int], Any]:
    def make(value: int = 0) -> Element:
        array = shmkit.AtomicArray(shmkit.zeros(5, dtype))
        array[3] = value
        return Element(array, 3)

    return make


MAKERS: dict[str, Any] = {
    "AtomicInt64": shmkit.AtomicInt64,
    "AtomicUInt64": shmkit.AtomicUInt64,
    "an int64 element": element_of("int64"),
    "a uint64 element": element_of("uint64"),
}
BOUNDS = {what: RANGES[KINDS["u" in what.lower()]] for what in MAKERS}


@pytest.fixture(params=MAKERS)
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [None, *ORDERS])
@pytest.mark.parametrize("call", CALLS)
def test_each_operation_in_each_order(what: str, call: str, order: str | None) -> None:
    """It answers the value before and does its work, or refuses an order that C11 does not admit, without doing it."""
    args, admitted = CALLS[call]
    word = MAKERS[what](5)
    options = {} if order is None else {"order": order}
    if order is not None and order not in admitted:
        with pytest.raises(ValueError, match=f"got '{order}'"):
            getattr(word, call)(*args, **options)
        assert word.load() == 5
        return
    answer = getattr(word, call)(*args, **options)
    assert answer == {"store": None, "compare_exchange": (True, 5)}.get(call, 5)
    assert word.load() == AFTER[call]


@pytest.mark.parametrize("failure", [None, *ORDERS])
@pytest.mark.parametrize("order", ORDERS)
def test_compare_exchange_in_each_pair_of_orders(what: str, order: str, failure: str | None) -> None:
    """It stores or tells what it saw; the order of a failure is that of a load."""
    word = MAKERS[what](5)
    if failure is not None and failure not in LOAD:
        with pytest.raises(ValueError, match=f"fails is one of .* got '{failure}'"):
            word.compare_exchange(5, 6, order, failure)
        assert word.load() == 5
        return
    assert word.compare_exchange(4, 6, order, failure) == (False, 5)
    assert word.compare_exchange(5, 6, order, failure) == (True, 5)
    assert word.load() == 6


@pytest.mark.parametrize("order", ["", "SEQ_CST", "consume", "seq", None, 4, b"seq_cst"])
def test_an_order_that_does_not_exist(what: str, order: Any) -> None:
    """A ValueError that lists those that do; nothing is stored.  Only `failure` may be None."""
    word = MAKERS[what](5)
    for call, (args, _) in CALLS.items():
        with pytest.raises(ValueError, match=r"'relaxed'.*'seq_cst': got "):
            getattr(word, call)(*args, order=order)
    assert word.load() == 5


def test_an_order_is_known_by_its_value(what: str) -> None:
    """Not by the identity of the text."""
    assert MAKERS[what](5).load(f"seq_{str.lower('CST')}") == 5


def test_the_bounds_can_be_held(what: str) -> None:
    """The least and the greatest value come back as they went in."""
    for value in BOUNDS[what]:
        word = MAKERS[what](value)
        assert word.load() == value
        assert word.exchange(0) == value
        assert word.compare_exchange(0, value) == (True, 0)
        assert word.compare_exchange(value, 0) == (True, value)


@pytest.mark.parametrize("call", [call for call in CALLS if call != "load"])
def test_a_value_out_of_range(what: str, call: str) -> None:
    """OverflowError, before anything is stored; of compare_exchange's both values."""
    word = MAKERS[what](5)
    least, most = BOUNDS[what]
    for bad in (least - 1, most + 1, 10**30, -(10**30)):
        for args in [(bad,)] if call != "compare_exchange" else [(5, bad), (bad, 5)]:
            with pytest.raises(OverflowError, match=str(bad)):
                getattr(word, call)(*args)
        with pytest.raises(OverflowError):
            word.wait(bad, 0)
    assert word.load() == 5


@pytest.mark.parametrize("bad", [1.0, 1.5, "1", b"1", None, [1], 1j])
def test_a_value_that_is_no_integer(what: str, bad: Any) -> None:
    """TypeError, a float too, although it has no fraction."""
    word = MAKERS[what](5)
    for call in CALLS:
        if call != "load":
            with pytest.raises(TypeError):
                getattr(word, call)(*([bad] * (2 if call == "compare_exchange" else 1)))
    with pytest.raises(TypeError):
        word.wait(bad, 0)
    assert word.load() == 5


def test_whatever_is_an_index_is_a_value(what: str) -> None:
    """True, NumPy's integers, and what has __index__."""
    import numpy as np

    class Seven:
        def __index__(self) -> int:
            return 7

    word = MAKERS[what](True)
    assert word.add(np.uint8(200)) == 1
    assert word.add(Seven()) == 201
    assert word.exchange(np.int64(3)) == 208


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [2**64, -(2**63) - 1, 1.0, "1", None])
def test_a_bad_first_value_makes_nothing(kind: Any, bad: Any, name: str) -> None:
    """Neither anonymous nor under a name nor in a segment."""
    error = OverflowError if isinstance(bad, int) else TypeError
    segment = shmkit.Segment.create(size=64)
    segment.buf[:] = b"\x07" * 64
    with pytest.raises(error):
        kind(bad)
    for make in (kind.create, kind.create_or_attach):
        with pytest.raises(error):
            make(name, bad)
    with pytest.raises(error):
        kind.create_at(segment, 8, bad)
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(name)
    assert bytes(segment.buf) == b"\x07" * 64


def test_it_wraps_around(what: str) -> None:
    """Beyond the greatest comes the least, as in C."""
    least, most = BOUNDS[what]
    word = MAKERS[what](most)
    assert word.add() == most
    assert word.sub() == least
    assert word.load() == most
    assert word.add(most) == most
    assert word.load() == (2 * most - least) % 2**64 + least


OPERATIONS = st.sampled_from(["store", "exchange", "add", "sub", "and_", "or_", "xor", "compare_exchange"])


@given(data=st.data(), steps=st.lists(st.tuples(OPERATIONS, st.sampled_from(ORDERS)), max_size=30))
def test_it_is_an_integer_modulo_two_to_the_64(what: str, data: st.DataObject, steps: list[tuple[str, str]]) -> None:
    """Against Python's own integers, taken into the range after each step."""
    least, most = BOUNDS[what]
    # Small and extreme values, so that comparisons succeed and additions wrap.
    values = st.one_of(st.integers(max(-3, least), 3), st.sampled_from([least, most]), st.integers(least, most))
    model = data.draw(values)
    word = MAKERS[what](model)
    binary = {
        "add": operator.add,
        "sub": operator.sub,
        "and_": operator.and_,
        "or_": operator.or_,
        "xor": operator.xor,
        "exchange": lambda _, value: value,
        "store": lambda _, value: value,
    }
    for call, order in steps:
        value = data.draw(values)
        if order not in CALLS[call][1]:
            order = "seq_cst"
        if call == "compare_exchange":
            expected = data.draw(st.one_of(st.just(model), values))
            assert word.compare_exchange(expected, value, order) == (expected == model, model)
            model = value if expected == model else model
            continue
        assert getattr(word, call)(value, order) == (None if call == "store" else model)
        model = (binary[call](model, value) - least) % 2**64 + least
        assert word.load() == model


# ── flags ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [None, *ORDERS])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("call", FLAG_CALLS)
def test_each_operation_of_a_flag_in_each_order(call: str, before: bool, order: str | None) -> None:
    """It does its work, or refuses an order that it cannot have."""
    flag = shmkit.AtomicFlag()
    assert not flag.test()
    if before:
        assert not flag.test_and_set()
    options = {} if order is None else {"order": order}
    if order is not None and order not in FLAG_CALLS[call]:
        with pytest.raises(ValueError, match=f"got '{order}'"):
            getattr(flag, call)(**options)
        assert flag.test() == before
        return
    answer = getattr(flag, call)(**options)
    assert answer is (None if call == "clear" else before)
    assert flag.test() is {"test": before, "clear": False, "test_and_set": True}[call]


# ── what it says of itself ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_repr_tells_kind_and_value(name: str) -> None:
    """And name, and whether it is closed."""
    assert "shmkit.AtomicInt64 at" in repr(shmkit.AtomicInt64(-7))
    assert repr(shmkit.AtomicInt64(-7)).endswith(": -7>")
    flag = shmkit.AtomicFlag.create(name)
    assert repr(name) in repr(flag)
    assert repr(flag).endswith(": clear>")
    flag.test_and_set()
    assert repr(flag).endswith(": set>")
    flag.unlink()
    flag.close()
    assert repr(flag).endswith(": closed>")


@pytest.mark.parametrize("kind", [*KINDS, shmkit.AtomicFlag])
def test_a_handle_that_was_closed_or_never_made(kind: Any) -> None:
    """Closed, or TypeError, from every method."""
    closed = kind()
    closed.close()
    closed.close()
    assert closed.closed
    calls = {"test": (), "clear": (), "test_and_set": (), "wait": (0, 0), "notify": (), "notify_all": ()}
    if kind is not shmkit.AtomicFlag:
        calls = {**{call: args for call, (args, _) in CALLS.items()}, "wait": (0, 0), "notify": (), "notify_all": ()}
    for call, args in calls.items():
        with pytest.raises(shmkit.Closed):
            getattr(closed, call)(*args)
        with pytest.raises(TypeError, match="__init__"):
            getattr(kind.__new__(kind), call)(*args)
