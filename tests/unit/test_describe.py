"""dtypes as text, and back: nothing that cannot be restored is described, nothing hostile is restored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmkit._describe import DESCRIPTION_LIMIT, describe, restore
from stateful.strategies import dtypes

POINT = np.dtype([("x", "<f8"), ("y", ">f4"), ("label", "S5")])

TEXTS = {
    b"|b1": np.dtype(bool),
    b"<f8": np.dtype(float),
    b">i4": np.dtype(">i4"),
    b"|S5": np.dtype("S5"),
    b"<U3": np.dtype("U3"),
    b"|V7": np.dtype("V7"),
    b"<c16": np.dtype(complex),
    b"<M8[ns]": np.dtype("M8[ns]"),
    b"<m8[25s]": np.dtype("m8[25s]"),
    b"[('x', '<f8'), ('y', '>f4'), ('label', '|S5')]": POINT,
    b"[('where', [('x', '<f8'), ('y', '>f4'), ('label', '|S5')]), ('pixels', '<u2', (2, 3))]": np.dtype(
        [("where", POINT), ("pixels", "<u2", (2, 3))]
    ),
    b"[('a', '|u1'), ('', '|V7'), ('b', '<f8')]": np.dtype([("a", "u1"), ("b", "f8")], align=True),
}


@pytest.mark.parametrize("text", TEXTS, ids=bytes.decode)
def test_the_text_is_that_of_an_npy_header(text: bytes) -> None:
    """As NumPy writes it into .npy files, so that any NumPy reads it."""
    assert describe(TEXTS[text]) == text
    assert restore(text) == TEXTS[text]
    assert restore(text).itemsize == TEXTS[text].itemsize


@given(dtype=dtypes())
def test_what_is_described_is_restored(dtype: np.dtype) -> None:
    """Equal in every field, offset and byte order."""
    restored = restore(describe(dtype))
    assert restored == dtype
    assert (restored.itemsize, restored.names, restored.isalignedstruct) == (dtype.itemsize, dtype.names, False)


def test_metadata_and_alignment_flags_are_no_part_of_the_bytes() -> None:
    """They are dropped without a warning."""
    assert restore(describe(np.dtype("f8", metadata={"unit": "m"}))).metadata is None
    described = describe(np.dtype([("a", "i4")], metadata={"unit": "m"}))
    assert restore(described).metadata is None


def test_a_title_stays() -> None:
    """A field's title is part of its name."""
    titled = np.dtype([(("a title", "a"), "i4"), ("b", "i4")])
    assert restore(describe(titled)) == titled


UNDESCRIBABLE = {
    "objects": np.dtype(object),
    "structures with objects": np.dtype([("a", "i4"), ("b", [("c", "O")])]),
    "nothing": np.dtype("V0"),
    "strings without length": np.dtype("S"),
    "text without length": np.dtype("U"),
    "a structure of nothing": np.dtype([]),
    "overlapping fields": np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
    "too many fields": np.dtype([(f"field {n:04}", "f8") for n in range(1000)]),
}
if hasattr(getattr(np, "dtypes", None), "StringDType"):
    UNDESCRIBABLE["variable strings"] = np.dtypes.StringDType()


@pytest.mark.parametrize("kind", UNDESCRIBABLE)
def test_what_cannot_be_restored_is_not_described(kind: str) -> None:
    """TypeError that shows the dtype or says how long its description is."""
    with pytest.raises(TypeError, match=r"dtype"):
        describe(UNDESCRIBABLE[kind])


def test_fields_that_stand_out_of_order_arrive_or_are_refused() -> None:
    """Never as something else."""
    shuffled = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]})
    try:
        text = describe(shuffled)
    except TypeError:
        return
    assert restore(text) == shuffled


HOSTILE = [
    b"",
    b"x",
    b"O",
    b"|O",
    b"|O8",
    b"\xff\xfe",
    b"<f8\0",
    b"<f3",
    b"|V0",
    b"|S0",
    b"<U0",
    b"|S99999999999999999999",
    b"|V-5",
    b"<M8[parsec]",
    b"<M8[99999999999999999999s]",
    b"(2,2)i2",
    b"(10000000000,)f8",
    b"__import__('os').abort()",
    b"[",
    b"[]",
    b"[1]",
    b"[(1, 2)]",
    b"[('a', 'O')]",
    b"[('a', '|u1'), ('a', '|u1')]",
    b"[('a', [('b', '|O')])]",
    b"[('a', '<f8', (-1,))]",
    b"[('a', '<f8', (9999999999, 9999999999))]",
    b"[('a', '<f8', 2**70)]",
    b"[('a', __import__('os').abort())]",
    b"[('a', lambda: 0)]",
    b"[" * 10_000,
    b"[" * 90 + b"('a', 'u1')" + b"]" * 90,
    b"[" + b"-" * 10_000 + b"1]",
    b"[" + b"(" * 5000 + b")" * 5000 + b"]",
    b"[('a', '<f8')]" + b" " * DESCRIPTION_LIMIT,
    b"<f8" + b" " * DESCRIPTION_LIMIT,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:24]))
def test_a_hostile_text_is_an_error_and_nothing_else(text: bytes) -> None:
    """ValueError that shows the text's beginning: it is parsed, never run."""
    with pytest.raises(ValueError, match="dtype"):
        restore(text)


@given(
    text=st.one_of(st.binary(max_size=40), st.text("[](),'<>|f8iuSUVMmO0123456789 abc", max_size=60).map(str.encode))
)
def test_any_text_at_all_is_a_dtype_without_objects_or_an_error(text: bytes) -> None:
    """ValueError, or a dtype whose elements have bytes and no pointers."""
    try:
        dtype = restore(text)
    except ValueError:
        return
    assert dtype.itemsize > 0
    assert not dtype.hasobject
    assert dtype.subdtype is None


def test_what_is_restored_can_be_renamed_without_anybody_noticing() -> None:
    """dtype.names may be assigned in place; the next one that comes is as it was sent."""
    text = b"[('a', '<i4'), ('b', '<i4')]"
    mine = restore(text)
    mine.names = ("x", "y")
    assert restore(text).names == ("a", "b")
    assert describe(mine) == b"[('x', '<i4'), ('y', '<i4')]"
    mine.names = ("p", "q")
    assert describe(mine) == b"[('p', '<i4'), ('q', '<i4')]"
    assert describe(np.dtype([("a", "i4"), ("b", "i4")])) == text


def test_more_dtypes_than_are_remembered_are_all_right() -> None:
    """The caches are bounded, and only caches."""
    for size in range(1, 1500):
        dtype = np.dtype(f"S{size}")
        assert restore(describe(dtype)) == dtype
    assert describe(np.dtype("S1")) == b"|S1"
