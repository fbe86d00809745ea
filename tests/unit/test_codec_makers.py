"""Objects of the standard library that pickle makes by a call: encoded without pickle, they arrive as from a pickle."""

# ruff: noqa: DTZ001  (times without a zone are what is tested)

from __future__ import annotations

import datetime as dt
import enum
import fractions
import pathlib
import pickle
import sys
import uuid
import zoneinfo
from decimal import Decimal
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmkit import PickleRefused
from shmkit._codec import decode, encode
from support.codec import as_pickle, change_every_byte, code, through

PICKLE, MADE, SET_UP = 23, 30, 31

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="they are pickled where there is no GIL"
)


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    BOTH = (1, "green")


class Number(enum.IntEnum):
    ONE = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Stubborn(enum.Enum):
    ONE = 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (list, ())


class Outer:
    class Inner(enum.Enum):
        A = 1


UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2), "east")
MADE_ONES = [
    dt.datetime(2024, 2, 29, 1, 2, 3, 4), dt.datetime(2024, 10, 27, 2, fold=1),
    dt.datetime(1, 1, 1, tzinfo=UTC), dt.datetime(9999, 12, 31, tzinfo=EAST), dt.date(2024, 2, 29),
    dt.time(1, 2, 3, 4, UTC), dt.timedelta(-5, 3, 1), UTC, EAST, Decimal("1.50"), Decimal("sNaN"),
    Decimal("-Infinity"), Decimal(10) ** 400, Decimal("1" * 5000), fractions.Fraction(-1, 3),
    fractions.Fraction(10**40, 7),
    pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath(), pathlib.Path("/tmp/x y"), pathlib.PureWindowsPath("c:/a"),
    range(5), range(10, -10, -3), range(10**30), slice(1, None, "x"), slice(None, [1], 2.5), uuid.UUID(int=2**127 + 5),
]  # fmt: skip


@pytest.mark.parametrize("item", MADE_ONES, ids=repr)
def test_without_pickle_as_with_it(item: Any) -> None:
    assert code(item) == (SET_UP if isinstance(item, uuid.UUID) else MADE)
    for one in (item, [item, (item,)], {"a": item}):
        got, expected = through(one), as_pickle(one)
        assert repr(got) == repr(expected) == repr(one)
        assert type(got) is type(expected)
    if not isinstance(item, slice) and "sNaN" not in repr(item):
        assert hash(through(item)) == hash(item)
        assert repr(through({item: 1, (item, 2): 3})) == repr({item: 1, (item, 2): 3})
        assert through({item}) == {item}
    if isinstance(item, dt.datetime):
        assert through(item).fold == item.fold


@pytest.mark.parametrize("item", [*Colour, *Number, *Access, Access.READ | Access.WRITE, Outer.Inner.A], ids=repr)
def test_members_of_enumerations(item: Any) -> None:
    for one in (item, [item, item], {"a": item}, {item: 1}):
        assert repr(through(one)) == repr(as_pickle(one)) == repr(one)
    assert through(item) is item


def test_members_need_no_pickle() -> None:
    # What answers with a function, as some releases do for some, is pickled.
    for item in (*Colour, Outer.Inner.A):
        said = item.__reduce_ex__(5)
        assert code(item) == (MADE if said[0] is type(item) else PICKLE)
        assert code([item, item]) == (15 + 1 if said[0] is type(item) else PICKLE)


@given(
    st.recursive(
        st.datetimes(timezones=st.none() | st.just(UTC)) | st.dates() | st.timedeltas() | st.decimals() | st.fractions()
        | st.uuids() | st.sampled_from(Colour) | st.integers() | st.text()
        | st.builds(range, st.integers(-9, 9), st.integers(-9, 9)) | st.builds(slice, st.integers()),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)  # fmt: skip
def test_as_pickle_has_it(item: Any) -> None:
    assert repr(through(item)) == repr(as_pickle(item))


class Day(dt.date):
    pass


class Text(str, enum.Enum):
    A = "a"


@pytest.mark.parametrize(
    "item",
    [Day(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), slice(len), Text.A,
     slice(memoryview(b"x"))],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_others_arrive_as_from_a_pickle(item: Any) -> None:
    try:
        expected = as_pickle(item)
    except TypeError:
        with pytest.raises(TypeError):
            encode(item)
        return
    got = through(item)
    assert type(got) is type(expected)
    assert repr(got) == repr(expected)


def test_one_that_says_how_it_is_pickled() -> None:
    assert through(Stubborn.ONE) == []


def test_another_class_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    item = dt.date(2024, 1, 2)
    sent = encode(item)

    class Other:
        def __init__(self, *arguments: Any) -> None:
            self.arguments = arguments

    monkeypatch.setattr(dt, "date", Other)
    assert decode(*sent).arguments == item.__reduce__()[1]
    with pytest.raises(pickle.PicklingError):
        encode(item)


class Unhashable(type):
    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Unhashable):
    __slots__ = ()
    __reduce__ = None  # type: ignore[assignment]


def test_a_class_that_cannot_be_looked_for() -> None:
    with pytest.raises(TypeError):
        as_pickle(Odd())
    with pytest.raises(TypeError):
        encode(Odd())


def test_an_enumeration_that_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code(Colour.GREEN)
    # Some versions of Python pickle a member as an attribute of its class.
    assert (before == MADE) == (Colour.GREEN.__reduce_ex__(pickle.HIGHEST_PROTOCOL)[0] is Colour)
    with monkeypatch.context() as patch:
        patch.setattr(Colour, "__reduce_ex__", lambda self, protocol: (str, ("changed",)))
        assert through(Colour.GREEN) == as_pickle(Colour.GREEN) == "changed"
    assert through(Colour.GREEN) is Colour.GREEN
    with monkeypatch.context() as patch:
        green = Colour.GREEN
        patch.setattr(sys.modules[__name__], "Colour", Access)
        with pytest.raises(pickle.PicklingError):
            encode(green)
    assert code(Colour.GREEN) == before


def test_a_reducer_that_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ForkingPickler._extra_reducers, Decimal, lambda item: (str, ("registered",)))  # type: ignore[attr-defined]
    assert through(Decimal(5)) == "registered"


def test_memory_that_others_may_write_to() -> None:
    for item in (Decimal(1), uuid.uuid4(), Colour.RED):
        with pytest.raises(PickleRefused):
            decode(*encode(item), False)


def test_every_byte_changed() -> None:
    for item in (Decimal(1), uuid.UUID(int=5), dt.datetime(2024, 1, 1), range(3)):
        change_every_byte(item, (0, 1, 30, 31, 127, 128, 255))
