"""Deques, ordered and default dicts, counters: encoded without pickle, they arrive as from a pickle."""

from __future__ import annotations

import collections
import copyreg
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmkit import PickleRefused
from shmkit._codec import decode, encode
from support.codec import as_pickle, change_every_byte, code, through

PICKLE, MADE, EXTENDED, FILLED = 23, 30, 32, 33

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="they are pickled where there is no GIL"
)


class Plain:
    class Inner:
        pass


def row() -> list[int]:
    return [0]


def shape(item: Any) -> Any:
    """All that can be told of an item but identity, in a form that compares."""
    kind = type(item)
    if kind is deque:
        return kind, item.maxlen, [shape(one) for one in item]
    if kind is defaultdict:
        return kind, item.default_factory, [(shape(key), shape(value)) for key, value in item.items()]
    if kind in (OrderedDict, Counter, dict):
        return (
            kind,
            dict(vars(item)) if kind is not dict else None,
            [(shape(key), shape(value)) for key, value in item.items()],
        )
    if kind in (list, tuple):
        return kind, [shape(one) for one in item]
    return kind, item


NATIVE = [
    (deque(), EXTENDED), (deque([1, "a", None]), EXTENDED), (deque([1, 2, 3], 2), EXTENDED),
    (deque(maxlen=0), EXTENDED),
    (deque(range(2500), 2100), EXTENDED), (deque([deque([1]), [deque()]]), EXTENDED),
    (OrderedDict(), FILLED), (OrderedDict(b=1, a=[2]), FILLED), (OrderedDict({(1, 2): OrderedDict(x=1)}), FILLED),
    (defaultdict(None, {1: 2}), FILLED), (defaultdict(list, {"a": [1]}), FILLED), (defaultdict(int), FILLED),
    (defaultdict(Plain, {1: 2}), FILLED), (defaultdict(Plain.Inner), FILLED), (defaultdict(deque), FILLED),
    (defaultdict(Decimal, {Decimal(1): Decimal(2)}), FILLED),
    (Counter("abca"), MADE), (Counter(), MADE), (Counter({1: -5, (2,): 0}), MADE), (Counter(a=[1]), MADE),
]  # fmt: skip


@pytest.mark.parametrize(("item", "how"), NATIVE, ids=repr)
def test_without_pickle_as_with_it(item: Any, how: int) -> None:
    assert code(item) == how
    for one in (item, [item, (item,)], {"a": item}, (1, item)):
        assert shape(through(one)) == shape(as_pickle(one)) == shape(one)


@pytest.mark.parametrize("item", [int, Plain, Plain.Inner, deque, type(None)])
def test_a_class_for_itself_is_pickled(item: Any) -> None:
    assert code(item) == code([item]) == PICKLE
    assert through(item) is as_pickle(item) is item


def test_the_order_of_an_ordered_dict_is_its_own() -> None:
    item = OrderedDict.fromkeys("abc")
    item.move_to_end("a")
    assert list(through(item)) == list(as_pickle(item)) == ["b", "c", "a"]


def test_what_arrives_goes_on_as_before() -> None:
    bounded = through(deque([1, 2], 2))
    bounded.append(3)
    assert list(bounded) == [2, 3]
    lists = through(defaultdict(list))
    lists["a"].append(1)
    assert lists == {"a": [1]}
    counted = through(Counter("aab"))
    counted.update("b")
    assert counted["missing"] == 0
    assert counted == {"a": 2, "b": 2}


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.sampled_from([int, list, Plain])
)  # fmt: skip
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    leaves,
    lambda inner: (
        st.builds(deque, st.lists(inner, max_size=4), st.none() | st.integers(0, 5))
        | st.builds(OrderedDict, st.dictionaries(keys, inner, max_size=3))
        | st.builds(
            defaultdict, st.sampled_from([None, int, list, deque, Plain]), st.dictionaries(keys, inner, max_size=3)
        )
        | st.builds(Counter, st.dictionaries(keys, st.integers(), max_size=3))
        | st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=15,
)


@given(values)
def test_as_pickle_has_it(item: Any) -> None:
    assert shape(through(item)) == shape(as_pickle(item))


def identities(item: Any) -> list[bool]:
    """Which of the members of a container are one object."""
    members = list(item.values() if isinstance(item, dict) else item)
    return [one is other for one in members for other in members]


@pytest.mark.parametrize("kind", [deque, OrderedDict, defaultdict, Counter, list, dict])
@pytest.mark.parametrize("shared", [[1], {}, deque([1]), OrderedDict(a=1), defaultdict(int), Counter("a")], ids=repr)
def test_a_mutable_object_that_comes_twice_stays_one(kind: Any, shared: Any) -> None:
    members = [shared, [], shared, {}]
    item = kind() if kind in (deque, list) else None
    if item is not None:
        item.extend(members)
    else:
        item = kind()
        item.update(dict(enumerate(members)))
    got = through(item)
    assert identities(got) == identities(as_pickle(item)) == identities(item)
    assert shape(got) == shape(item)
    twice = through([item, item])
    assert twice[0] is twice[1]


def test_one_that_holds_itself() -> None:
    line: deque[Any] = deque([1])
    line.append(line)
    got = through(line)
    assert type(got) is deque
    assert got[1] is got
    ordered: OrderedDict[str, Any] = OrderedDict()
    ordered["me"] = [ordered]
    assert (got := through(ordered))["me"][0] is got
    default: defaultdict[str, Any] = defaultdict(list)
    default["me"] = default
    assert (got := through(default))["me"] is got


class Line(deque):  # type: ignore[type-arg]
    pass


class Ordered(OrderedDict):  # type: ignore[type-arg]
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, (value, "set"))


class Default(defaultdict):  # type: ignore[type-arg]
    pass


class Counted(Counter):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "item",
    [Line([1, 2], 5), Ordered(a=1), Default(list, a=[1]), Counted("aa"), defaultdict(row, a=1)],
    ids=lambda item: type(item).__name__,
)
def test_others_arrive_as_from_a_pickle(item: Any) -> None:
    assert code(item) == PICKLE
    got, expected = through(item), as_pickle(item)
    assert type(got) is type(expected)
    assert got == expected
    assert getattr(got, "default_factory", None) is getattr(expected, "default_factory", None)


def test_attributes_of_an_ordered_dict_arrive_and_those_of_a_counter_do_not() -> None:
    ordered: Any = OrderedDict(a=1)
    ordered.note = "kept"
    assert code(ordered) == PICKLE
    assert through(ordered).note == as_pickle(ordered).note == "kept"
    del ordered.note
    assert vars(through(ordered)) == vars(as_pickle(ordered)) == {}
    counted: Any = Counter("a")
    counted.note = "lost"
    assert vars(through(counted)) == vars(as_pickle(counted)) == {}


@pytest.mark.parametrize("item", [deque([memoryview(b"x")]), defaultdict(lambda: 0), OrderedDict(a=memoryview(b"x"))])
def test_what_pickle_refuses(item: Any) -> None:
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        as_pickle(item)
    with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
        encode(item)


def test_a_read_only_array_in_one_stays_so() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert code(deque([array])) == PICKLE
    assert not through(deque([array]))[0].flags.writeable


def test_a_class_that_is_not_found() -> None:
    class Local:
        pass

    for item in (Local, defaultdict(Local)):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            encode(item)
    for kind in (type(None), type(...), type(NotImplemented)):
        item = defaultdict(kind)
        assert code(item) == PICKLE
        assert through(item).default_factory is as_pickle(item).default_factory is kind


class Recorder:
    """Notes what pickle does to it."""

    def __init__(self, *arguments: Any) -> None:
        self.done: list[Any] = [("made", arguments)]

    def extend(self, values: Any) -> None:
        self.done.append(("extend", list(values)))

    def append(self, value: Any) -> None:
        self.done.append(("append", value))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.done.append((key, value))


@pytest.mark.parametrize(
    ("name", "item"),
    [
        *[("deque", deque(range(size), 5000)) for size in (0, 1, 2, 999, 1000, 1001, 2001)],
        ("OrderedDict", OrderedDict.fromkeys(range(1001), 1)), ("defaultdict", defaultdict(int, {1: 2, 3: 4})),
        ("Counter", Counter("ab")),
    ],
)  # fmt: skip
def test_another_class_in_its_place_is_called_as_by_pickle(
    monkeypatch: pytest.MonkeyPatch, name: str, item: Any
) -> None:
    sent, pickled = encode(item), ForkingPickler.dumps(item)
    assert code(item) != PICKLE
    monkeypatch.setattr(collections, name, Recorder)
    assert decode(*sent).done == ForkingPickler.loads(pickled).done
    with pytest.raises(pickle.PicklingError):
        encode(item)


def test_a_reducer_that_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (deque, OrderedDict, defaultdict, Counter):
        with monkeypatch.context() as patch:
            patch.setitem(copyreg.dispatch_table, kind, lambda item: (str, ("registered",)))
            assert through(kind()) == as_pickle(kind()) == "registered"
        assert through(kind()) == kind()


def test_a_factory_that_is_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    item = defaultdict(Plain)
    assert through(item).default_factory is Plain
    Plain.__qualname__ = "Other"
    try:
        with pytest.raises(pickle.PicklingError):
            encode(item)
    finally:
        Plain.__qualname__ = "Plain"
    assert code(item) == FILLED
    sent = encode(item)
    monkeypatch.setattr(sys.modules[__name__], "Plain", Recorder)
    assert decode(*sent).default_factory is Recorder
    monkeypatch.delattr(sys.modules[__name__], "Plain")
    with pytest.raises(AttributeError):
        decode(*sent)


def nested(kind: Any, depth: int) -> Any:
    item: Any = 1
    for _ in range(depth):
        item = kind(item)
    return item


@pytest.mark.parametrize("depth", [10, 22, 23, 24, 25, 40])
def test_one_in_another(depth: int) -> None:
    for kind in (lambda item: deque([item]), lambda item: OrderedDict(a=item), lambda item: defaultdict(list, a=item)):
        item = nested(kind, depth)
        assert shape(through(item)) == shape(as_pickle(item))


def test_memory_that_others_may_write_to() -> None:
    for item in (deque([1]), OrderedDict(a=1), defaultdict(int), Counter("a"), [deque()]):
        with pytest.raises(PickleRefused):
            decode(*encode(item), False)


def test_every_byte_changed() -> None:
    for item in (deque([1, "a"], 5), OrderedDict(a=1), defaultdict(int, a=1), Counter("a")):
        change_every_byte(item, (0, 1, 26, 30, 32, 33, 34, 127, 128, 255))
