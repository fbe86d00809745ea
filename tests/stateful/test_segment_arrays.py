"""Arrays of any dtype, shape and strides in a segment, beside the same arrays of plain memory."""

from __future__ import annotations

import pickle
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as npst

import shmkit
from shmkit import Segment, SharedArray

SIZE = 400

plain_dtypes = st.one_of(
    npst.scalar_dtypes(),
    npst.byte_string_dtypes(min_len=1, max_len=5),
    npst.unicode_string_dtypes(min_len=1, max_len=3),
)
dtypes = st.one_of(
    plain_dtypes,
    npst.array_dtypes(plain_dtypes, max_size=3),
    npst.nested_dtypes(plain_dtypes, max_leaves=3).filter(lambda dtype: dtype.subdtype is None),
)
shapes = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
orders = st.sampled_from(["C", "F"])


def bytes_of(array: np.ndarray) -> bytes:
    """The bytes of its elements, in its order; not by way of values, of which some (NaN) equal nothing."""
    return np.ascontiguousarray(array).tobytes()


@given(data=st.data(), dtype=dtypes, shape=shapes, order=orders)
def test_a_view_of_a_segment_is_numpys_view_of_the_same_bytes(
    data: st.DataObject, dtype: np.dtype, shape: tuple[int, ...], order: Any
) -> None:
    """Offsets, strides in any direction, orders: the same elements, or a ValueError where NumPy refuses too."""
    offset = data.draw(st.integers(-8, SIZE + 8))
    strides = data.draw(
        st.one_of(st.none(), st.tuples(*[st.integers(-64, 64) for _ in shape]).map(tuple) if shape else st.none())
    )
    content = bytearray(np.random.default_rng(offset & 0xFF).bytes(SIZE))
    # Every byte is a bool's 0 or 1, or a code point: not all bit patterns are values.
    content[:] = bytes(byte % 2 for byte in content)
    with Segment.create(None, SIZE) as segment:
        segment.buf[:] = content
        try:
            mine = segment.ndarray(shape, dtype, offset, strides, order)
        except ValueError:
            return
        plain = np.ndarray(shape, dtype, content, offset, strides, order)
        assert (mine.shape, mine.dtype, mine.strides) == (plain.shape, plain.dtype, plain.strides)
        assert mine.flags.writeable
        assert mine.flags.aligned or not plain.flags.aligned or offset % 8
        assert bytes_of(mine.view(np.ndarray)) == bytes_of(plain)


@given(dtype=dtypes.filter(lambda dtype: "U" not in str(dtype.descr)), shape=shapes, order=orders, data=st.data())
def test_a_shared_array_is_numpys_array_after_any_indexing_and_pickle(
    dtype: np.dtype, shape: tuple[int, ...], order: Any, data: st.DataObject
) -> None:
    """Made, indexed, transposed, pickled: the same elements as a plain one, in the same memory as before."""
    mine = shmkit.zeros(shape, dtype, order)
    raw = np.frombuffer(mine.segment.buf, "u1")[: mine.nbytes]
    # Bytes that are a value of every drawn dtype: a bool is 0 or 1 (and text would be code points).
    raw[:] = np.arange(mine.nbytes) % 2
    plain = np.ndarray(shape, dtype, raw.tobytes(), order=order)
    assert (mine.shape, mine.dtype, mine.flags.f_contiguous) == (plain.shape, plain.dtype, plain.flags.f_contiguous)
    index = data.draw(npst.basic_indices(plain.shape, allow_newaxis=True, allow_ellipsis=True))
    view, model = mine[index], plain[index]
    if not isinstance(view, np.ndarray):
        return
    assert type(view) is SharedArray
    axes = data.draw(st.permutations(range(view.ndim)))
    view, model = view.transpose(axes), model.transpose(axes)
    assert (view.shape, view.strides if view.size else None) == (model.shape, model.strides if model.size else None)
    assert bytes_of(view.view(np.ndarray)) == bytes_of(model)
    found = pickle.loads(pickle.dumps(view))
    assert (found.shape, found.dtype) == (view.shape, view.dtype)
    assert bytes_of(found.view(np.ndarray)) == bytes_of(model)
    assert found.size == 0 or np.shares_memory(found, mine)


@given(
    index=npst.integer_array_indices((3, 4), result_shape=npst.array_shapes(max_dims=2, max_side=3)),
    mask=npst.arrays(bool, (3, 4)),
)
def test_fancy_indexing_makes_plain_copies(index: Any, mask: np.ndarray) -> None:
    """As NumPy defines it, and so not shared."""
    mine = shmkit.array(np.arange(12).reshape(3, 4))
    plain = np.arange(12).reshape(3, 4)
    for key in (index, mask):
        found = mine[key]
        assert type(found) is not SharedArray
        assert np.array_equal(found, plain[key])
