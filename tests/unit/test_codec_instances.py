"""Instances of classes and named tuples: encoded without pickle, they arrive as pickle would have them arrive."""

from __future__ import annotations

import abc
import collections
import contextlib
import copyreg
import gc
import multiprocessing
import pickle
import sys
import types
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmkit
from shmkit import PickleRefused, RecordCorrupt
from shmkit._codec import decode, encode
from support.codec import as_pickle, code, through

PICKLE, INSTANCE, NAMED = 23, 26, 27

# Without a GIL nobody can tell whether a class was changed, and pickle does it all.
gil = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="instances are pickled where there is no GIL"
)


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Derived(Plain):
    kind = "derived"

    @property
    def guarded(self) -> None:
        raise AssertionError("an attribute is set in the __dict__, past the property")


@dataclass
class Job:
    number: int = 1
    ratio: float = 2.5
    name: str = "three"
    data: bytes = b"four"
    more: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    number: int
    inner: Job


class Abstract(abc.ABC):  # noqa: B024
    def __init__(self) -> None:
        self.value = 3


class Hidden(abc.ABC):
    @abc.abstractmethod
    def do(self) -> None: ...


class Concrete(Abstract):
    class Nested:
        def __init__(self) -> None:
            self.value = 4


class Point(NamedTuple):
    x: Any
    y: Any = 0


Old = collections.namedtuple("Old", "a b")  # noqa: PYI024

PLAIN = [
    Plain(), Plain(a=1), Plain(a=1, b=2.5, c="three", d=b"four", e=None, f=True, g=(1, ("x",)), h=10**40, i=1j),
    Job(), Frozen(1, Job(2)), Concrete(), Concrete.Nested(), Derived(guarded=5, kind="own"),
    Plain(child=Plain(child=Plain(child=None))), Plain(rows=[Job(n) for n in range(30)], by={"a": Job()}),
    Plain(scalar=np.float32(2), when=np.datetime64(5, "ms"), small=np.arange(3), large=np.arange(5000.0)),
    Plain(**{f"attribute_{n}": n for n in range(300)}), Plain(**{"é": 1, "日本": 2, "": 3, "a b": 4, "\ud800": 5}),
    Plain(text="x" * 5000, data=bytearray(b"ab")),
]  # fmt: skip
TUPLES = [Point(1, "a"), Point(Point(1, 2), [3]), Old(None, b"x"), Point(np.arange(5000), Job())]


def is_same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, (Plain, Abstract, Concrete.Nested, Job, Frozen)):
        return is_same(list(vars(left).items()), list(vars(right).items()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(is_same, left, right))
    if isinstance(left, dict):
        return is_same(list(left.items()), list(right.items()))
    if isinstance(left, np.ndarray):
        flags = [(one.flags.writeable, one.flags.c_contiguous, one.flags.f_contiguous) for one in (left, right)]
        return left.dtype == right.dtype and np.array_equal(left, right) and flags[0] == flags[1]
    return repr(left) == repr(right)


@gil
@pytest.mark.parametrize("item", PLAIN + TUPLES, ids=lambda item: type(item).__name__)
def test_without_pickle_as_with_it(item: Any) -> None:
    assert code(item) == (NAMED if isinstance(item, tuple) else INSTANCE)
    assert is_same(through(item), item)
    assert is_same(through([item, (item, 1)])[0], item)


NAMES = st.text(st.characters(blacklist_characters="\0"), max_size=8)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
    | st.binary().map(bytearray) | st.floats(width=32).map(np.float32) | st.integers(0, 400).map(np.arange)
)  # fmt: skip


def _inner(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(values, max_size=4)
        | st.lists(values, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), values, max_size=4)
        | st.dictionaries(NAMES, values, max_size=5).map(lambda names: _with(Plain(), names))
        | st.dictionaries(NAMES, values, max_size=3).map(lambda names: _with(Derived(), names))
        | st.builds(Job, st.integers(), st.floats(), values, values, values)
        | st.builds(Point, values, values)
        | values.map(lambda value: [value, value])
    )


def _with(item: Any, names: dict[str, Any]) -> Any:
    vars(item).update(names)
    return item


@settings(deadline=None)
@given(st.recursive(LEAVES, _inner, max_leaves=20))
def test_as_pickle_has_it(item: Any) -> None:
    """Whatever is in whatever: what arrives is what a pickle of it is, and what is one object there is one here."""
    ours, theirs = through(item), as_pickle(item)
    assert is_same(ours, theirs)
    assert list(_sharing(ours)) == list(_sharing(theirs))


def _sharing(item: Any, seen: dict[int, int] | None = None) -> Iterator[int]:
    """For each mutable object, in the order in which it is met, which one it is."""
    seen = {} if seen is None else seen
    if isinstance(item, (list, dict, bytearray, np.ndarray, Plain, Job)):
        again = id(item) in seen
        yield seen.setdefault(id(item), len(seen))
        if again:
            return
    if isinstance(item, (list, tuple)):
        for value in item:
            yield from _sharing(value, seen)
    elif isinstance(item, (dict, Plain, Job)):
        for value in (item if isinstance(item, dict) else vars(item)).values():
            yield from _sharing(value, seen)


def test_what_comes_twice_and_what_holds_itself() -> None:
    one = Plain(a=[1])
    first, second = through([one, one])
    assert first is second
    shared = Plain(b=one.__dict__["a"], c=one)
    got = through(shared)
    assert got.b is got.c.a
    one.me = one
    assert through(one).me is not one
    got = through(one)
    assert got.me is got
    names: dict[str, Any] = {"n": [1]}
    left, right = Plain(), Plain()
    left.__dict__ = right.__dict__ = names
    a, b = through((left, right))
    assert a.n is b.n
    left.own = names
    ours, theirs = through(left), as_pickle(left)
    assert (ours.own["n"] is ours.n, ours.own is vars(ours)) == (
        theirs.own["n"] is theirs.n,
        theirs.own is vars(theirs),
    )


@gil
def test_names_of_attributes_are_interned() -> None:
    name = str(b"not_interned_yet", "ascii")
    got = through(_with(Plain(), {name: 1}))
    assert next(iter(vars(got))) is sys.intern("not_interned_yet")


class WithState(Plain):
    def __setstate__(self, state: Any) -> None:
        self.came = state


class WithGetState(Plain):
    def __getstate__(self) -> Any:
        return {"instead": 1}


class WithReduce(Plain):
    def __reduce__(self) -> Any:
        return Plain, ()


class WithReduceEx(Plain):
    def __reduce_ex__(self, protocol: Any) -> Any:
        return Plain, ()


class WithNewArguments(Plain):
    def __new__(cls, *args: int) -> WithNewArguments:  # noqa: PYI034
        made = super().__new__(cls)
        made.args = args  # type: ignore[attr-defined]
        return made

    def __getnewargs__(self) -> Any:
        return (7,)


class WithNewKeywords(Plain):
    def __new__(cls, **keywords: int) -> WithNewKeywords:  # noqa: PYI034
        made = super().__new__(cls)
        made.keywords = keywords  # type: ignore[attr-defined]
        return made

    def __getnewargs_ex__(self) -> Any:
        return (), {"k": 1}


class WithGetAttr(Plain):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class WithOther(Plain):
    @property
    def __class__(self) -> Any:
        return Plain


class WithSlots:
    __slots__ = ("__dict__", "a", "b")

    def __init__(self) -> None:
        self.a, self.c = 1, 3


class Trouble(Exception):
    pass


class Items(dict):  # type: ignore[type-arg]
    pass


class OtherPoint(Point):
    pass


class Turned(NamedTuple):
    x: int
    y: int

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        return iter((self[1], self[0]))


@pytest.mark.parametrize(
    "item",
    [
        WithState(a=1), WithGetState(a=1), WithReduce(a=1), WithReduceEx(a=1), WithNewArguments(),
        WithNewKeywords(), WithSlots(), Trouble("x"), Items(a=1), OtherPoint(1, 2), Turned(1, 2),
        types.SimpleNamespace(a=1), Plain(__setstate__=3), Plain(__reduce_ex__=lambda protocol: (list, ())),
        Plain(**{"a\0b": 1}), _with(Plain(), {5: 1}), {Point(1, 2): 3}, {Old(1, 2)}, Plain,
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_what_has_ways_of_its_own_is_pickled(item: Any) -> None:
    try:
        expected = as_pickle(item)
    except Exception as error:
        with pytest.raises(type(error)):
            through(item)
        return
    assert code(item) == PICKLE
    got = through(item)
    assert type(got) is type(expected)
    if not isinstance(item, type):
        assert repr(getattr(got, "__dict__", None)) == repr(getattr(expected, "__dict__", None))
    for slot in getattr(type(item), "__slots__", ()):
        assert getattr(got, slot, None) == getattr(expected, slot, None)
    if isinstance(got, tuple):
        assert got[:] == expected[:]


@pytest.mark.parametrize(
    "item",
    [WithGetAttr(a=1), Plain(function=len), Plain(view=memoryview(b"x"))],
    ids=["__getattr__", "a function", "a memoryview"],
)
def test_more_that_is_pickled(item: Any) -> None:
    try:
        expected = as_pickle(item)
    except TypeError as error:
        with pytest.raises(TypeError, match=str(error)):
            encode(item)
    else:
        assert code(item) == PICKLE
        assert vars(through(item)) == vars(expected)


def test_an_array_that_cannot_be_written_to_stays_so() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    item = Plain(array=array)
    assert code(item) == PICKLE
    assert not through(item).array.flags.writeable


@gil
def test_a_class_that_is_made_with_new_alone() -> None:
    """Neither __init__ nor anything else of the class's runs; a __new__ of its own does, without arguments."""
    calls: list[Any] = []

    def new(cls: Any, *args: Any) -> Any:
        calls.append(("new", args))
        return object.__new__(cls)

    def init(self: Any) -> None:
        calls.append("init")

    def set_attribute(self: Any, name: str, value: Any) -> None:
        calls.append(name)

    with _class("Counted", {"__new__": new, "__init__": init, "__setattr__": set_attribute}) as kind:
        item = kind()
        vars(item)["a"] = 1
        calls.clear()
        assert code(item) == INSTANCE
        got = through(item)
        ours = list(calls)
        calls.clear()
        expected = as_pickle(item)
        assert ours == calls == [("new", ())]
        assert vars(got) == vars(expected) == {"a": 1}


@contextlib.contextmanager
def _class(name: str, body: dict[str, Any] | None = None, bases: tuple[Any, ...] = ()) -> Iterator[Any]:
    """A class of this module's, for a while."""
    kind = type(name, bases, {"__module__": __name__, "__qualname__": name, **(body or {})})
    globals()[name] = kind
    try:
        yield kind
    finally:
        globals().pop(name, None)


@gil
def test_a_class_that_is_changed() -> None:
    with _class("Base") as base, _class("Changing", bases=(base,)) as kind:
        item = kind()
        item.a = 1
        for _ in range(3):
            assert code(item) == INSTANCE
        base.__getstate__ = lambda self: {"instead": 2}
        assert code(item) == PICKLE
        assert vars(through(item)) == {"instead": 2}
        del base.__getstate__
        assert code(item) == INSTANCE
        sent = encode(item)
        base.__setstate__ = lambda self, state: vars(self).update(state, more=3)
        assert vars(decode(*sent)) == {"a": 1, "more": 3}
        del base.__setstate__
        assert vars(decode(*sent)) == {"a": 1}
        kind.__qualname__ = "Missing"
        with pytest.raises(pickle.PicklingError):
            encode(item)
        kind.__qualname__ = "Changing"
        assert code(item) == INSTANCE
        kind.__module__ = "no.such.module"
        with pytest.raises(pickle.PicklingError):
            encode(item)
        kind.__module__ = __name__
        assert code(item) == INSTANCE


@gil
@pytest.mark.parametrize("where", ["forking", "copyreg", "override", "replaced", "extension"])
def test_a_reducer_that_is_registered_later(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _class("Registered") as kind:
        item = kind()
        assert code(item) == INSTANCE

        def reduce(found: Any) -> Any:
            return Plain, ()

        if where == "forking":
            monkeypatch.setitem(ForkingPickler._extra_reducers, kind, reduce)  # type: ignore[attr-defined]
        elif where == "copyreg":
            monkeypatch.setitem(copyreg.dispatch_table, kind, reduce)
        elif where == "override":
            monkeypatch.setattr(
                ForkingPickler,
                "reducer_override",
                lambda self, found: reduce(found) if type(found) is kind else NotImplemented,
                raising=False,
            )
        elif where == "replaced":

            class Replaced(ForkingPickler):
                def reducer_override(self, found: Any) -> Any:
                    return reduce(found) if type(found) is kind else NotImplemented

            monkeypatch.setattr(multiprocessing.reduction, "ForkingPickler", Replaced)
        else:
            copyreg.add_extension(__name__, "Registered", 12345)
        try:
            assert code(item) == PICKLE
            assert type(through(item)) is (kind if where == "extension" else Plain)
        finally:
            if where == "extension":
                copyreg.remove_extension(__name__, "Registered", 12345)
            monkeypatch.undo()
        assert code(item) == INSTANCE


def test_a_class_that_is_not_found_raises_in_the_caller() -> None:
    class Local:
        pass

    with pytest.raises((AttributeError, pickle.PicklingError)):
        encode(Local())
    with _class("Twice") as first:
        item = first()
        encode(item)
        with _class("Twice"):
            with pytest.raises(pickle.PicklingError):  # it is not the same object
                encode(item)
    with pytest.raises(pickle.PicklingError):  # it is gone
        encode(item)


def test_a_class_that_the_receiver_does_not_find() -> None:
    """It raises there as pickle does, and what comes after it arrives."""
    queue = shmkit.Queue()
    with _class("Vanishing") as kind:
        for item in (kind(), Point(1, 2), Plain(inner=kind())):
            queue.put(item)
    queue.put("next")
    with pytest.raises(AttributeError, match="Vanishing"):
        queue.get()
    assert queue.get() == Point(1, 2)
    with pytest.raises(AttributeError, match="Vanishing"):
        queue.get()
    assert queue.get() == "next"


@gil
def test_a_class_that_is_another_one_where_it_arrives() -> None:
    """Whatever has the name makes the instance."""
    with _class("Remade") as kind:
        item = kind()
        item.a = 1
        sent = encode(item)
        pickled = ForkingPickler.dumps(item)
    for body in ({"b": 2}, {"__setstate__": lambda self, state: None}, {"__new__": object.__new__}):
        with _class("Remade", body) as kind:
            got = decode(*sent)
            assert type(got) is kind
            assert vars(got) == vars(ForkingPickler.loads(pickled))
    with _class("Remade", {"__slots__": ("b",)}):
        for load in (lambda: decode(*sent), lambda: ForkingPickler.loads(pickled)):
            with pytest.raises(AttributeError, match="__dict__"):
                load()
    with _class("Remade", bases=(Hidden,)):
        for load in (lambda: decode(*sent), lambda: ForkingPickler.loads(pickled)):
            with pytest.raises(TypeError, match="abstract"):
                load()
    globals()["Remade"] = len  # not a class
    try:
        for load in (lambda: decode(*sent), lambda: ForkingPickler.loads(pickled)):
            with pytest.raises(pickle.UnpicklingError):
                load()
    finally:
        del globals()["Remade"]


@gil
def test_a_module_is_imported_where_it_is_not_yet(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "instances_apart.py").write_text(
        "class Apart:\n    def __getattr__(self, name): raise AttributeError(name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    text = b"instances_apart\0Apart\0a"
    for _ in range(2):
        sys.modules.pop("instances_apart", None)
        got = decode(bytes([INSTANCE, len(text)]) + text + b"\x04\x05")
        assert type(got).__module__ == "instances_apart"
        assert vars(got) == {"a": 5}
    del sys.modules["instances_apart"]


def test_no_class_is_kept_alive() -> None:
    with _class("Passing") as kind:
        item = kind()
        item.a = 1
        through(item)
        gone = weakref.ref(kind)
    del item, kind
    gc.collect()
    assert gone() is None


@gil
def test_classes_at_the_same_address() -> None:
    """A class that stands where another one stood is asked anew."""
    for number in range(3000):
        body = {"__getstate__": lambda self: {"state": 1}} if number % 2 else {}
        with _class("Recycled", body) as kind:
            item = kind()
            item.a = number
            assert code(item) == (PICKLE if number % 2 else INSTANCE)
            assert vars(through(item)) == ({"state": 1} if number % 2 else {"a": number})


def test_memory_that_others_may_write_to() -> None:
    for item in (Job(), Point(1, 2), [1, Plain(a=Job())]):
        with pytest.raises(PickleRefused):
            decode(*encode(item), False)


def test_every_byte_changed_and_every_length() -> None:
    """An error, or some object; the names are of modules that exist, or of none."""
    for item in (Job(), Point(1, "a"), Plain(a=Plain(b=[1, Point(2, 3)]), c=np.arange(4))):
        head, body = encode(item)
        for cut in range(len(head)):
            with contextlib.suppress(Exception):
                repr(decode(head[:cut], body))
        for at in range(len(head)):
            for value in {0, 1, 127, 128, 255, head[at] ^ 1, head[at] ^ 32} - {head[at]}:
                with contextlib.suppress(Exception):
                    repr(decode(head[:at] + bytes([value]) + head[at + 1 :], body))
    for text in (b"", b"\0", b"no name", b"\0\0", b"\xff\0x", b"builtins\0", b"builtins\0object", b"builtins\0int\0a",
                 b"builtins\0int.__add__", b"sys\0__dict__", b"a" * 900):  # fmt: skip
        for what in (INSTANCE, NAMED):
            for tail in (b"", b"\x01", b"\x00", b"\x05" * 30):
                size = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
                with contextlib.suppress(Exception):
                    repr(decode(bytes([what]) + size + text + tail))
    deep = b"".join(bytes([INSTANCE, len(text)]) + text for text in [f"{__name__}\0Plain\0a".encode()] * 30)
    with pytest.raises(RecordCorrupt, match="deep"):
        decode(deep + b"\x01")


def _echo(there: Any, back: Any) -> None:
    while (item := there.get(timeout=60)) is not None:
        back.put(item)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_from_process_to_process(method: str) -> None:
    context = multiprocessing.get_context(method)
    there, back = shmkit.Queue(), shmkit.Queue()
    child = context.Process(target=_echo, args=(there, back), daemon=True)
    child.start()
    for item in PLAIN + TUPLES:
        there.put(item)
    there.put(None)
    for item in PLAIN + TUPLES:
        assert is_same(back.get(timeout=60), item)
    child.join(60)
    assert child.exitcode == 0
