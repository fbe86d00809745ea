"""NumPy's scalars, dtypes of every kind, and which objects stay one object, in items of queues."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit._codec import decode, encode

CODE_PICKLE = 23


def through(item: object, pickles: bool = True) -> Any:
    head, body = encode(item)
    return decode(head, body, pickles)


ALL_SCALARS: list[Any] = [
    *(np.dtype(letter).type(1) for letter in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"),
    np.datetime64("2020-01-01"), np.datetime64("2020-01-01T00:00:00.5", "ns"), np.datetime64("NaT", ("s", 3)),
    np.timedelta64(7, "ms"), np.frombuffer(bytes(8), "m8")[0], np.str_("é😀"), np.str_("x" * 600), np.bytes_(b"a\x00b"),
    np.void(b"\x01\x02\x03"), np.zeros(1, [("a", ">i4"), ("b", "U3")])[0],
]  # fmt: skip


@pytest.mark.parametrize("item", ALL_SCALARS, ids=lambda item: repr(item)[:30])
def test_scalars_arrive_without_pickle(item: Any) -> None:
    """With their type, their dtype and its unit."""
    for got in (through(item, False), through((item, 1), False)[0]):
        assert type(got) is type(item)
        assert got.dtype == item.dtype
        assert got.tobytes() == item.tobytes()


@pytest.mark.parametrize("item", [np.str_("a\x00"), np.bytes_(b"a\x00\x00"), np.str_(""), np.bytes_(b"")], ids=repr)
def test_a_text_that_numpy_would_trim_arrives_as_pickle_has_it(item: Any) -> None:
    assert through(item) == pickle.loads(pickle.dumps(item))


class Kelvin(np.float64):
    pass


def test_a_subclass_of_a_scalar_is_pickled() -> None:
    """Which makes of it what NumPy has it make."""
    assert type(through(Kelvin(3))) is type(pickle.loads(pickle.dumps(Kelvin(3))))
    with pytest.raises(shmkit.PickleRefused):
        through(Kelvin(3), False)


WITHOUT_PICKLE: list[Any] = [
    "f8", ">f8", "S5", "U5", ">U5", "M8[ns]", ">M8[7D]", "m8", "V3", "g", "e", "G",
    [("a", "i4")], [("a", "i4"), ("b", ">f8", (2, 2)), ("c", "U5")],
    [("a", [("b", "i2"), ("c", "M8[us]")]), ("d", "?")],
    {"names": ["a", "b"], "formats": ["i4", "f8"], "offsets": [4, 16], "itemsize": 32},
    [(("title", "a"), "i4")],
]  # fmt: skip
PICKLED: list[Any] = [
    np.dtype("f8", metadata={"unit": "m"}),
    np.dtype([("a", np.dtype("f8", metadata={"unit": "m"}))]),
    np.dtype([("a", "i1"), ("b", "f8")], align=True),
]


@pytest.mark.parametrize("size", [0, 3, 3000])
@pytest.mark.parametrize("kind", WITHOUT_PICKLE + PICKLED, ids=str)
def test_dtypes_arrive_as_they_were(kind: Any, size: int) -> None:
    """Those that text can describe are not pickled: they arrive where pickles are refused."""
    kind = np.dtype(kind)
    for _ in range(3):
        found = through(np.zeros(size, kind), kind in PICKLED)
        assert found.dtype == kind
        assert found.dtype.metadata == kind.metadata
        assert found.dtype.isalignedstruct == kind.isalignedstruct
        if kind.names:
            assert found.dtype.fields == kind.fields
            assert found.dtype[0].metadata == kind[0].metadata


def test_an_equal_dtype_that_differs_is_not_taken_for_it() -> None:
    """Metadata and alignment are no part of what makes dtypes equal."""
    plain, with_unit = np.dtype([("a", "f8")]), np.dtype([("a", np.dtype("f8", metadata={"unit": "m"}))])
    aligned = np.dtype([("a", "f8")], align=True)
    for _ in range(2):
        for kind in (plain, with_unit, aligned):
            found = through(np.zeros(2, kind)).dtype
            assert found["a"].metadata == kind["a"].metadata
            assert found.isalignedstruct == kind.isalignedstruct


@pytest.mark.parametrize("nested", [False, True])
def test_fields_that_are_renamed_in_place(nested: bool) -> None:
    """By the sender: the new names arrive.  By a receiver: nobody else sees it."""
    inner = np.dtype([("x", "i4")])
    kind = np.dtype([("a", inner), ("b", "i4")]) if nested else np.dtype([("a", "i4"), ("b", "i4")])
    array = np.zeros(3, kind)
    found = through(array)
    found.dtype.names = ("mine", "too")
    if nested:
        found.dtype[0].names = ("inner",)
    assert through(array).dtype == kind
    kind.names = ("new", "names")
    assert through(array).dtype.names == ("new", "names")
    if nested:
        kind[0].names = ("deep",)
        assert through(array).dtype[0].names == ("deep",)


@pytest.mark.parametrize("kind", ["S0", "U0", "V0"])
def test_elements_without_bytes(kind: str) -> None:
    array = np.zeros(3, [("a", kind), ("b", "i4")])["a"]
    found = through(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_arrays_of_objects_are_pickled() -> None:
    for array in (np.array([1, "a", None], object), np.zeros(2, [("a", object), ("b", "i4")])):
        assert encode(array)[0][0] in (CODE_PICKLE, 24)
        with pytest.raises(shmkit.PickleRefused):
            through(array, False)
        assert (through(array) == array).all()


# --------------------------------------------------------------------------------------------------- one object twice


def pairs() -> list[tuple[str, Any]]:
    shared_list, array, buffer = [1], np.zeros(3), bytearray(b"x")
    record = np.zeros(1, [("a", "i4")])[0]
    in_tuple, in_array_tuple = ([1],), (np.zeros(3),)
    deep = ((([1],),),)
    return [
        ("a list", [shared_list, shared_list]),
        ("an array", (array, array)),
        ("a large array", [np.zeros(5000)] * 2),
        ("a bytearray", {"a": buffer, "b": buffer}),
        ("a record", [record, record]),
        ("what is in a tuple", [in_tuple, in_tuple]),
        ("an array in a tuple", (in_array_tuple, in_array_tuple)),
        ("what is deep in tuples", [deep, (1, deep)]),
        ("a shared array", [shmkit.zeros(3)] * 2),
    ]


def mutable(item: Any) -> Any:
    while type(item) is tuple:
        item = item[-1]
    return item


@pytest.mark.parametrize("number", range(len(pairs())), ids=[name for name, _ in pairs()])
def test_what_can_be_changed_and_comes_twice_is_one_object(number: int) -> None:
    """As pickle keeps it, however it is reached."""
    _, item = pairs()[number]
    found = through(item)
    first, second = found.values() if isinstance(found, dict) else found
    assert mutable(first) is mutable(second)


def test_what_comes_once_is_not_pickled() -> None:
    """Nor is what comes twice and cannot be changed."""
    text, number, pair = "x" * 50, 10**30, (1, 2)
    for item in ([text, text], (number, number), [pair, pair], [[1], [1]], ([1], {"a": [1]}), [pair, [pair]]):
        assert through(item, False) == item


def test_equal_arrays_that_are_not_the_same_stay_apart() -> None:
    found = through([np.zeros(3), np.zeros(3)], False)
    assert found[0] is not found[1]
    found[0][:] = 1
    assert not found[1].any()
