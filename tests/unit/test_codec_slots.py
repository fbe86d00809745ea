"""Instances of classes with slots: encoded without pickle, they arrive as pickle would have them arrive."""

from __future__ import annotations

import abc
import gc
import pickle
import sys
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmkit import PickleRefused, RecordCorrupt
from shmkit._codec import decode, encode
from support.codec import as_pickle, code, through

PICKLE, SLOTS, STATED = 23, 28, 29
T = TypeVar("T")

pytestmark = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="instances are pickled where there is no GIL"
)


@dataclass(slots=True)
class Job:
    number: Any = 1
    ratio: Any = 2.5
    more: Any = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Frozen:
    number: Any = 1
    inner: Any = None


@dataclass(slots=True)
class Longer(Job):
    name: Any = "three"


class Node:
    __slots__ = ("__hidden", "__weakref__", "left", "right")

    def __init__(self, left: Any = None, right: Any = None) -> None:
        self.left, self.right, self.__hidden = left, right, [left]

    def hidden(self) -> Any:
        return self.__hidden


class Abstract(abc.ABC, Generic[T]):
    __slots__ = ("value",)

    @abc.abstractmethod
    def do(self) -> None: ...


class Concrete(Abstract[int]):
    __slots__ = ("other",)

    def __init__(self) -> None:
        self.value, self.other = 1, 2

    def do(self) -> None: ...


class Outer:
    class Inner:
        __slots__ = ("a",)

        def __init__(self) -> None:
            self.a = 5


def names_of(item: Any) -> list[str]:
    slots = [getattr(base, "__slots__", ()) for base in type(item).__mro__]
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some)]
    return [f"_{type(item).__name__}{name}" if name == "__hidden" else name for name in names if name != "__weakref__"]


def seen(item: Any, known: dict[int, int] | None = None) -> Any:
    """All that can be told of it, and which of what it has is one object."""
    known = {} if known is None else known
    if isinstance(item, (list, tuple)):
        if isinstance(item, list):
            if id(item) in known:
                return known[id(item)]
            known[id(item)] = len(known)
        return type(item), [seen(value, known) for value in item]
    if hasattr(type(item), "__slots__"):
        if id(item) in known:
            return known[id(item)]
        known[id(item)] = len(known)
        return type(item), [(name, seen(getattr(item, name, "nothing"), known)) for name in names_of(item)]
    return type(item), repr(item)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Job(), SLOTS), (Longer(more=[Job()]), SLOTS), (Node(1, Node("a", b"b")), SLOTS), (Concrete(), SLOTS),
        (Outer.Inner(), SLOTS), (Frozen(1, Frozen()), STATED), (Job(1, Frozen(2, (Node(),)), [Job()]), SLOTS),
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_without_pickle_as_with_it(item: Any, expected: int) -> None:
    assert code(item) == expected
    assert seen(through(item)) == seen(as_pickle(item)) == seen(item)
    assert seen(through((item, [item, 1]))) == seen(as_pickle((item, [item, 1])))
    assert type(item.__class__) is type(through(item).__class__)


VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.builds(Job, inner, inner, st.lists(inner, max_size=3))
        | st.builds(Longer, inner, inner, inner, inner)
        | st.builds(Frozen, inner, inner)
        | st.builds(Node, inner, inner)
        | st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | inner.map(lambda value: [value, value])
    ),
    max_leaves=20,
)


@given(VALUES)
def test_as_pickle_has_it(item: Any) -> None:
    assert seen(through(item)) == seen(as_pickle(item))


def test_what_comes_twice_and_what_holds_itself() -> None:
    one = Job()
    first, second = through([one, one])
    assert first is second
    got = through([Node(one, one.more), one])
    assert got[0].left is got[1]
    assert got[0].right is got[1].more
    node = Node()
    node.left = node
    got = through(node)
    assert got.left is got
    held = [Node()]
    held[0].right = held
    got = through(held)
    assert got[0].right is got


def test_a_slot_without_a_value() -> None:
    job = Job()
    del job.ratio
    assert code(job) == PICKLE
    assert not hasattr(through(job), "ratio")
    frozen = Frozen()
    object.__delattr__(frozen, "inner")
    with pytest.raises(AttributeError):
        pickle.dumps(frozen)
    with pytest.raises(AttributeError):
        encode(frozen)


class Empty:
    __slots__ = ()


class WithDict:
    __slots__ = ("__dict__", "a")

    def __init__(self) -> None:
        self.a, self.b = 1, 2


class WithState:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1

    def __getstate__(self) -> Any:
        return (None, {"a": 2})


class WithSetState:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1

    def __setstate__(self, state: Any) -> None:
        self.a = state[1]["a"] + 1


class WithNew:
    __slots__ = ("a",)

    def __new__(cls) -> Any:
        made = object.__new__(cls)
        made.a = 1
        return made


class WithSetAttr:
    __slots__ = ("a",)

    def __init__(self) -> None:
        object.__setattr__(self, "a", 1)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value + 1)


class Shadowed(Node):
    __slots__ = ()

    @property
    def left(self) -> Any:  # type: ignore[override]
        return None

    @left.setter
    def left(self, value: Any) -> None:
        pass


class Integer(int):
    __slots__ = ()


class Sized(tuple[int, ...]):
    __slots__ = ()


class OwnState(Frozen):
    __slots__ = ()

    def __getstate__(self) -> Any:  # type: ignore[override]
        return [7, 8]


@pytest.mark.parametrize(
    "item",
    [Empty(), WithDict(), WithState(), WithSetState(), WithNew(), WithSetAttr(), Shadowed(), Integer(5), Sized((1, 2)),
     OwnState()],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_what_has_ways_of_its_own_arrives_as_from_a_pickle(item: Any) -> None:
    got, expected = through([item])[0], as_pickle([item])[0]
    assert seen(got) == seen(expected)
    assert getattr(got, "__dict__", None) == getattr(expected, "__dict__", None)


def test_a_class_that_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(Node()) == SLOTS
    sent = encode(Node(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(Node, "__reduce__", lambda self: (Job, (7,)), raising=False)
        assert through(Node()).number == 7
    assert code(Node()) == SLOTS
    with monkeypatch.context() as patch:
        patch.setattr(Node, "__setstate__", lambda self, state: object.__setattr__(self, "left", state), raising=False)
        left = decode(*sent).left
        assert left == (None, {"_Node__hidden": [1], "left": 1, "right": 2})
    with monkeypatch.context() as patch:
        patch.setattr(Node, "__setattr__", lambda self, name, value: object.__setattr__(self, name, [value]))
        assert decode(*sent).left == [1]
    with monkeypatch.context() as patch:
        patch.setattr(Node, "left", property(lambda self: 5))
        with pytest.raises(AttributeError):
            decode(*sent)
    assert decode(*sent).left == 1
    assert through(Node(1, 2)).hidden() == [1]


def test_a_class_that_is_another_one_where_it_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, frozen = encode(Job(1, 2, 3)), encode(Frozen(1, 2))

    class Other:
        __slots__ = ("more", "number", "ratio", "x")

    class Loose:
        pass

    class Mute:
        def __init__(self) -> None:
            raise AssertionError("nobody calls it")

    module = sys.modules[__name__]
    monkeypatch.setattr(module, "Job", Other)
    got = decode(*sent)
    assert type(got) is Other
    assert (got.number, got.ratio, got.more) == (1, 2, 3)
    for kind in (Loose, Mute):
        monkeypatch.setattr(module, "Job", kind)
        assert vars(decode(*sent)) == {"number": 1, "ratio": 2, "more": 3}
    monkeypatch.setattr(module, "Job", int)
    with pytest.raises(AttributeError):
        decode(*sent)
    monkeypatch.setattr(module, "Frozen", Longer)
    with pytest.raises(pickle.UnpicklingError, match="state is not a dictionary"):  # as pickle has it
        decode(*frozen)
    monkeypatch.undo()
    assert decode(*sent) == Job(1, 2, 3)
    assert decode(*frozen) == Frozen(1, 2)


def test_what_a_collector_sees_is_whole() -> None:
    """Instances are the collector's while their values are decoded: it may look at them at any time."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            assert through(Job([1], (2, [3]), [Node([], {})])).more[0].right == {}
    finally:
        gc.set_threshold(*before)


def test_memory_that_others_may_write_to() -> None:
    with pytest.raises(PickleRefused):
        decode(*encode(Job()), False)


def test_every_byte_changed() -> None:
    head, _ = encode(Frozen(1, Job(2, "x", [3])))
    for at in range(len(head)):
        for value in {0, 1, 28, 29, 127, 128, 255, head[at] ^ 1, head[at] ^ 32} - {head[at]}:
            changed = bytearray(head)
            changed[at] = value
            try:
                decode(bytes(changed), None)
            except (RecordCorrupt, PickleRefused, AttributeError, ModuleNotFoundError, TypeError, ValueError):
                pass
            except pickle.UnpicklingError:
                pass
