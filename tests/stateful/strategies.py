"""What hypothesis draws for rings: dtypes, arrays, records, capacities."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Powers of two, as small as rings get: the laps are short and the pads many.
capacities = st.sampled_from([1024, 2048, 4096])


def plain_dtypes() -> st.SearchStrategy[np.dtype]:
    return st.one_of(
        hnp.scalar_dtypes(),
        hnp.byte_string_dtypes(min_len=1, max_len=8),
        hnp.unicode_string_dtypes(min_len=1, max_len=4),
    )


def dtypes() -> st.SearchStrategy[np.dtype]:
    """Any dtype without Python objects: scalars of both byte orders, text, datetimes, structures of those."""
    return st.one_of(
        plain_dtypes(),
        hnp.array_dtypes(subtype_strategy=plain_dtypes(), max_size=4),
        hnp.nested_dtypes(subtype_strategy=plain_dtypes(), max_leaves=4).filter(lambda dtype: dtype.subdtype is None),
    )


@st.composite
def arrays(draw: st.DrawFn, most: int = 48) -> np.ndarray:
    """Arrays of at most `most` elements, of any shape, order and stride.  What they hold is drawn as bytes."""
    dtype = draw(dtypes())
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6).filter(lambda s: np.prod(s) <= most))
    count = int(np.prod(shape))
    # Every bit pattern is a value to a ring, but NumPy copies a bool as 0 or 1 and text as code points.
    seed = draw(st.integers(0, 2**32 - 1))
    flat = np.zeros(count, dtype)
    if not _has_constrained_bytes(dtype):
        flat = np.frombuffer(np.random.default_rng(seed).bytes(count * dtype.itemsize), dtype, count).copy()
    elif count:
        flat = draw(hnp.arrays(dtype, count))
    array = flat.reshape(shape, order=draw(st.sampled_from("CF")))
    if array.ndim and draw(st.booleans()):
        axes = draw(st.permutations(range(array.ndim)))
        step = draw(st.sampled_from([1, 1, -1, 2]))
        array = array.transpose(axes)[::step]
    return array


def _has_constrained_bytes(dtype: np.dtype) -> bool:
    base = dtype.base
    if base.names is not None:
        return True
    return base.kind in "bUV" or base.itemsize == 0


def payloads(most: int) -> st.SearchStrategy[bytes]:
    """Bytes of up to `most`, the sizes around multiples of 8 and around the most being likely; cheap to shrink."""
    sizes = st.one_of(
        st.integers(0, 64),
        st.integers(0, most),
        st.integers(0, 8).map(lambda less: max(most - less, 0)),
        st.sampled_from([most // 2, most // 2 - 8, most // 4]),
    )
    return st.builds(lambda size, fill: bytes([fill]) * size, sizes, st.integers(0, 255))
