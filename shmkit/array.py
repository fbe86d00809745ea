"""SharedArray: an ndarray whose memory is shared, and which travels by reference.

A subclass of ndarray as ``np.memmap`` is: slices, transposes and other views of one are shared too, and pickle as a
reference of a hundred-odd bytes, in any pickler; what is computed from it, and copies, are plain ndarrays.  Whether an
array is shared is decided by where its memory is, never by its type alone.

Anonymous arrays go with the last process that uses them; their memory is kept warm for the next array of that size, as
long as no other process has seen it (``trim()`` gives it back).  ``create`` and ``attach`` share arrays by name.
"""

from __future__ import annotations

import ast
import math
import os
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from shmkit import _header, _make, _make_array
from shmkit._describe import describe, restore
from shmkit._map import Mapping, trim
from shmkit.errors import LayoutMismatch
from shmkit.segment import Segment
from shmkit.segment.base import Backing, Lifetime, segment_of
from shmkit.segment.handle import Handle, make_handle, open_handle
from shmkit.segment.trouble import check_room, explain, frees_by_trimming, label
from shmkit.sizes import MOST

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "SharedArray",
    "array",
    "asarray",
    "attach",
    "create",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "ones",
    "ones_like",
    "trim",
    "zeros",
    "zeros_like",
]

Shape = SupportsIndex | tuple[SupportsIndex, ...] | list[int]
Order = Literal["C", "F"]
LikeOrder = Literal["C", "F", "A", "K"]

# Larger arrays are neither rounded up to a size that can be used again, nor kept when they die.
RECYCLED_MOST = 64 * 2**20


def mapping_of(array: np.ndarray[Any, Any]) -> Mapping | None:
    """The mapping that an array's memory is in; None: it is in no segment."""
    base: Any = array
    while True:
        if isinstance(base, np.ndarray):
            base = base.base
        elif isinstance(base, Mapping):
            return base
        elif isinstance(base, memoryview):
            base = base.obj
        else:
            return None


class SharedArray(np.ndarray[Any, Any]):
    """An array in shared memory: made by ``shmkit.empty`` and its kin, ``create``, ``attach``, or as another's view."""

    __slots__ = ()

    # Where arrays of several types meet (in np.concatenate, say), the result is none of this one.
    __array_priority__ = -100.0

    def __new__(cls, shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> Self:
        return empty(shape, dtype, order)  # type: ignore[return-value]

    @property
    def segment(self) -> Segment | None:
        """A handle on the segment that it is in; None: its memory is not shared."""
        mapping = mapping_of(self)
        return None if mapping is None else segment_of(mapping)

    @property
    def shared(self) -> bool:
        """Whether its memory is shared."""
        return mapping_of(self) is not None

    def flush(self) -> None:
        """Returns when a file-backed array is on its disk; for memory there is nothing to do."""
        segment = self.segment
        if segment is not None:
            segment.flush()

    # ------------------------------------------------------------------------------- results that are not shared

    def __array_wrap__(self, result: np.ndarray[Any, Any], context: Any = None, return_scalar: bool = False) -> Any:
        if result is self:
            return result
        plain = result.view(np.ndarray)
        # NumPy 1 does not say when it wants a scalar: always, where there are no dimensions.
        return plain[()] if return_scalar or (not _SAYS_SCALAR and plain.ndim == 0) else plain

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _plain(super().__array_function__(func, types, args, kwargs))

    def __getitem__(self, key: Any) -> Any:
        item = _getitem(self, key)
        if type(item) is SharedArray and type(key) not in _VIEWING and mapping_of(item) is None:
            return item.view(np.ndarray)
        return item

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Any:
        return self.view(np.ndarray).__deepcopy__(memo)

    def __copy__(self) -> Any:
        return self.copy("K")

    # ---------------------------------------------------------------------------------------------------- pickle

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        mapping = mapping_of(self)
        if mapping is None or self.dtype.hasobject:
            return self.view(np.ndarray).__reduce_ex__(protocol)
        # An array without elements may point anywhere.
        return _restore, (
            make_handle(mapping),
            _make_array.offset_in(mapping, self) if self.size else 0,
            self.shape,
            None if self.flags.c_contiguous else self.strides,
            # The text of a plain dtype is a tenth of its pickle.
            self.dtype.str if self.dtype.isbuiltin == 1 and self.dtype.kind in "biufc" else self.dtype,
            self.flags.writeable,
        )

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)


_getitem = np.ndarray.__getitem__
# Indices that make views (or scalars), never copies.
_VIEWING = frozenset({int, slice, type(None), type(Ellipsis)})
_SAYS_SCALAR = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def _plain(result: Any) -> Any:
    """``result`` without a SharedArray that is not shared."""
    if type(result) is SharedArray:
        return result if mapping_of(result) is not None else result.view(np.ndarray)
    if type(result) in (tuple, list):
        return type(result)(_plain(item) for item in result)
    return result


def _plain_method(name: str) -> Any:
    method = getattr(np.ndarray, name)

    def plain(self: SharedArray, *args: Any, **kwargs: Any) -> Any:
        return _plain(method(self, *args, **kwargs))

    plain.__name__, plain.__qualname__, plain.__doc__ = name, f"SharedArray.{name}", method.__doc__
    return plain


# The methods whose result is a new array, at least sometimes.
for _name in (
    "argmax",
    "argmin",
    "argpartition",
    "argsort",
    "astype",
    "byteswap",
    "choose",
    "compress",
    "conj",
    "conjugate",
    "copy",
    "cumprod",
    "cumsum",
    "diagonal",
    "dot",
    "flatten",
    "ravel",
    "repeat",
    "reshape",
    "round",
    "searchsorted",
    "take",
    "trace",
):
    setattr(SharedArray, _name, _plain_method(_name))


def _restore(
    handle: Handle,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    dtype: np.dtype[Any] | str,
    writeable: bool,
) -> SharedArray:
    """What a pickle calls: the array that another process (or this one) referred to."""
    dtype = np.dtype(dtype)
    mapping = open_handle(handle)
    if not _make_array.fits(shape, dtype.itemsize, offset, strides, mapping.payload_size):
        raise ValueError(f"a reference to an array beyond its {mapping.payload_size} bytes: {shape!r} at {offset}")
    array = _over(mapping, shape, dtype, offset, strides)
    if not writeable:
        array.flags.writeable = False
    return array


def _over(
    mapping: Mapping,
    shape: Any,
    dtype: np.dtype[Any],
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
    order: Order = "C",
) -> SharedArray:
    buffer: Any = mapping  # it is one, which NumPy's stubs learn of in Python 3.12
    made: SharedArray = np.ndarray.__new__(
        SharedArray,
        shape,
        dtype,
        buffer,
        offset,
        strides,
        order,
    )
    return made


# ------------------------------------------------------------------------------------------------------- anonymous


def _memory(shape: Any, kind: np.dtype[Any]) -> Mapping:
    """Memory for an array of that shape."""
    nbytes = _make_array.array_bytes(shape, kind.itemsize)

    def take() -> Mapping:
        if nbytes > RECYCLED_MOST:
            check_room(None, nbytes, None)
        try:
            return _make.take_memory(nbytes, RECYCLED_MOST)
        except OSError as error:
            raise explain(error, None, nbytes) from None

    try:
        return take()
    except OSError as error:
        if not frees_by_trimming(error):
            raise
    return take()


def _new(shape: Any, dtype: npt.DTypeLike, order: Order, zero: bool) -> SharedArray:
    """The long way: for arrays that are too large to be recycled, and for errors that want words."""
    kind = _make_array.check_dtype(dtype)
    mapping = _memory(shape, kind)
    if zero:
        mapping.zero()
    return _over(mapping, shape, kind, order=order)


def empty(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> SharedArray:
    """A shared array with anything in it."""
    try:
        made = _make_array.take_array(SharedArray, shape, dtype, order, False, RECYCLED_MOST)
    except OSError:
        made = None
    return _new(shape, dtype, order, False) if made is None else made


def zeros(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> SharedArray:
    """A shared array of zeros."""
    try:
        made = _make_array.take_array(SharedArray, shape, dtype, order, True, RECYCLED_MOST)
    except OSError:
        made = None
    return _new(shape, dtype, order, True) if made is None else made


def ones(shape: Shape, dtype: npt.DTypeLike = float, order: Order = "C") -> SharedArray:
    """A shared array of ones."""
    return full(shape, 1, dtype, order)


def full(shape: Shape, fill_value: Any, dtype: npt.DTypeLike | None = None, order: Order = "C") -> SharedArray:
    """A shared array of one value; its dtype is the value's, if none is given."""
    made = empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order)
    made[...] = fill_value
    return made


def array(source: Any, dtype: npt.DTypeLike | None = None, order: LikeOrder = "K") -> SharedArray:
    """A shared copy of an array, or of whatever NumPy makes an array of."""
    if isinstance(source, np.ma.MaskedArray):
        raise TypeError("a masked array would lose its mask: share its data and its mask")
    plain = np.asarray(source, dtype=dtype)
    made = empty_like(plain, order=order)
    made[...] = plain
    return made


def asarray(source: Any, dtype: npt.DTypeLike | None = None) -> SharedArray:
    """``source`` itself, if it is an array in shared memory (and of that dtype); a shared copy otherwise."""
    if isinstance(source, np.ndarray) and mapping_of(source) is not None and dtype in (None, source.dtype):
        return source if type(source) is SharedArray else source.view(SharedArray)
    return array(source, dtype)


def empty_like(
    prototype: Any, dtype: npt.DTypeLike | None = None, order: LikeOrder = "K", shape: Shape | None = None
) -> SharedArray:
    """A shared array of another's shape, dtype and layout, unless told otherwise, with anything in it."""
    # NumPy knows how to lay it out; untouched memory costs next to nothing.
    model = np.empty_like(np.asarray(prototype), dtype, order, subok=False, shape=shape)
    kind = _make_array.check_dtype(model.dtype)
    return _over(_memory(model.shape, kind), model.shape, kind, 0, model.strides if model.size else None)


def zeros_like(
    prototype: Any, dtype: npt.DTypeLike | None = None, order: LikeOrder = "K", shape: Shape | None = None
) -> SharedArray:
    """``empty_like``, filled with zeros."""
    return full_like(prototype, 0, dtype, order, shape)


def ones_like(
    prototype: Any, dtype: npt.DTypeLike | None = None, order: LikeOrder = "K", shape: Shape | None = None
) -> SharedArray:
    """``empty_like``, filled with ones."""
    return full_like(prototype, 1, dtype, order, shape)


def full_like(
    prototype: Any,
    fill_value: Any,
    dtype: npt.DTypeLike | None = None,
    order: LikeOrder = "K",
    shape: Shape | None = None,
) -> SharedArray:
    """``empty_like``, filled with one value."""
    made = empty_like(prototype, dtype, order, shape)
    made[...] = fill_value
    return made


# ----------------------------------------------------------------------------------------------------------- named


def create(
    name: str | int | os.PathLike[str],
    shape: Shape,
    dtype: npt.DTypeLike = float,
    *,
    order: Order = "C",
    backing: Backing | None = None,
    mode: int = 0o600,
    lifetime: Lifetime | None = None,
    reserve: bool = True,
) -> SharedArray:
    """Makes an array of zeros that others find by its name.  ``backing`` and the others are those of Segment.create.

    Its dtype has to be one that text can describe: any but object, and structured ones without overlapping fields.
    """
    kind = _make_array.check_dtype(dtype)
    text = describe(kind).decode()
    nbytes = _make_array.array_bytes(shape, kind.itemsize)
    sides = tuple(map(index, shape)) if isinstance(shape, (tuple, list)) else (index(shape),)
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F': got {order!r}")
    # NumPy bounds the number of dimensions; better to hear of it before the name exists.
    np.empty((0,) * len(sides))
    meta = {
        "descr": ast.literal_eval(text) if text.startswith("[") else text,
        "fortran_order": order == "F",
        "shape": sides,
    }
    segment = Segment._create(
        name,
        nbytes,
        backing=backing,
        mode=mode,
        lifetime=lifetime,
        reserve=reserve,
        kind=_header.KIND_ARRAY,
        meta=meta,
    )
    return _over(segment.mapping, sides, kind, order=order)


def attach(
    name: str | int | os.PathLike[str],
    *,
    readonly: bool = False,
    backing: Backing | None = None,
    owner: int | None = None,
) -> SharedArray:
    """Finds the array ``name``: its shape and dtype come with it.  Raises as ``Segment.attach`` does."""
    mapping = Segment._attach(name, readonly=readonly, backing=backing, owner=owner, kind=_header.KIND_ARRAY).mapping
    meta = mapping.facts.meta or {}
    shape, fortran, descr = meta.get("shape"), meta.get("fortran_order"), meta.get("descr")
    try:
        if type(shape) is not tuple or not all(type(side) is int and 0 <= side <= MOST for side in shape):
            raise ValueError(f"the shape must be a tuple of sizes: got {shape!r}")
        if type(fortran) is not bool:
            raise ValueError(f"fortran_order must be True or False: got {fortran!r}")
        if type(descr) not in (str, list):
            raise ValueError(f"the dtype must be described by text or a list: got {descr!r}")
        kind = restore((descr if type(descr) is str else repr(descr)).encode())
        nbytes = math.prod(shape) * kind.itemsize
        if nbytes > mapping.payload_size:
            raise ValueError(f"the array must fit into its {mapping.payload_size} bytes: got {nbytes}")
        return _over(mapping, shape, kind, order="F" if fortran else "C")
    except (ValueError, TypeError) as error:
        raise LayoutMismatch(f"{error} ({label(mapping.facts.name)})") from None
