"""Arrays, looked into: dtype and shape, and the numbers themselves, read piece by piece."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shmkit._describe import restore
from shmkit.sizes import MOST
from shmkit.survey.details import Details

if TYPE_CHECKING:
    import numpy.typing as npt

    from shmkit.survey.heading import Heading
    from shmkit.survey.reading import Reading

__all__ = ["Form", "details", "form_of", "plane", "sample", "statistics"]

# Arrays of up to this many bytes are read whole; of larger ones, this much is read in pieces of _PIECE.
_WHOLE = 32 * 2**20
_PIECE = 2**16
# The longest row that a picture is drawn from.
_ROW = 8 * 2**20
# A plane that is so many times as long as it is wide has a picture of other proportions.
_LONG = 8


class Form(NamedTuple):
    """What the description of an array says, once it has been checked."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def words(self) -> str:
        """Its dtype and shape, as one says them."""
        dtype = "record" if self.dtype.names else str(self.dtype)
        return f"{dtype} {'×'.join(map(str, self.shape)) or 'scalar'}"


def form_of(heading: Heading) -> Form | str:
    """The array's form; or, in words, what is wrong with its description."""
    assert heading.header is not None
    meta = heading.meta
    if not meta:
        return "anonymous: its dtype and shape travel with the references to it"
    descr, shape, fortran = meta.get("descr"), meta.get("shape"), meta.get("fortran_order")
    if type(shape) is not tuple or not all(type(side) is int and 0 <= side <= MOST for side in shape):
        return f"the shape must be a tuple of sizes: got {shape!r}"
    if type(fortran) is not bool:
        return f"fortran_order must be True or False: got {fortran!r}"
    if type(descr) not in (str, list):
        return f"the dtype must be described by text or a list: got {descr!r}"
    try:
        form = Form(_dtype(descr if isinstance(descr, str) else repr(descr)), shape, fortran)
    except (ValueError, TypeError) as error:
        return str(error)
    if form.nbytes > heading.header.payload_size:
        return f"the array must fit into its {heading.header.payload_size} bytes: got {form.nbytes}"
    return form


@lru_cache(maxsize=256)
def _dtype(text: str) -> np.dtype[Any]:
    return restore(text.encode())


def details(reading: Reading, heading: Heading) -> Details:
    """Its form."""
    if not heading.meta:
        return Details("", {"readable": False})
    form = form_of(heading)
    if isinstance(form, str):
        return Details(form, {"readable": False})
    facts = {
        "readable": True,
        "dtype": str(form.dtype),
        "shape": list(form.shape),
        "order": "F" if form.fortran else "C",
        "nbytes": form.nbytes,
    }
    return Details(form.words, facts)


def sample(reading: Reading, at: int, form: Form) -> tuple[npt.NDArray[Any], bool]:
    """Elements of the array, in one dimension, and whether these are all; of a huge one, pieces from all over it."""
    item = form.dtype.itemsize
    if item == 0 or form.nbytes == 0:
        return np.empty(0, form.dtype), True
    if form.nbytes <= _WHOLE:
        raw = reading.read(at, form.nbytes)
        return np.frombuffer(raw[: len(raw) // item * item], form.dtype), True
    length = max(_PIECE // item, 1)
    pieces = max(_WHOLE // (length * item), 1)
    last = form.nbytes // item - length
    starts = sorted({last * piece // max(pieces - 1, 1) for piece in range(pieces)})
    raw = b"".join(reading.read(at + start * item, length * item) for start in starts)
    return np.frombuffer(raw[: len(raw) // item * item], form.dtype), False


def statistics(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Minimum, maximum, mean and the count of NaNs; fewer of those where the dtype has no such thing."""
    kind = values.dtype.kind
    if values.size == 0 or kind not in "biufc":
        return {}
    if kind == "b":
        # Any byte but zero is true, also where a program that is not NumPy wrote it.
        true = int(np.count_nonzero(values.view(np.uint8)))
        return {"true": true, "false": int(values.size) - true}
    found: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        if kind in "fc":
            finite = values[np.isfinite(values)]
            found["nan"] = int(np.count_nonzero(np.isnan(values)))
            found["infinite"] = int(values.size - finite.size) - found["nan"]
            values = np.abs(finite) if kind == "c" else finite
        if values.size == 0:
            return found
        wide = np.longdouble if values.dtype.itemsize > 8 else np.float64
        plain = (lambda value: value.item()) if kind in "iu" else float
        what = "modulus_" if kind == "c" else ""
        return {
            f"{what}min": plain(values.min()),
            f"{what}max": plain(values.max()),
            f"{what}mean": float(values.mean(dtype=wide)),
            f"{what}std": float(values.std(dtype=wide)),
            "zeros": int(values.size - np.count_nonzero(values)),
            **found,
        }


def plane(reading: Reading, at: int, form: Form, rows: int, columns: int) -> npt.NDArray[Any] | None:
    """The array's first plane, thinned out to at most ``rows`` × ``columns``, for a picture of it.

    It keeps its proportions, unless it is so long or wide that little would be seen of it.  Two dimensions; three where
    the last is that of colours.  None where it has no two dimensions, or rows too long.
    """
    if form.dtype.kind not in "biuf" or len(form.shape) < 2 or 0 in form.shape or rows < 1 or columns < 1:
        return None
    # In Fortran's order it is, byte for byte, the transposed array in C's.
    shape = form.shape[::-1] if form.fortran else form.shape
    colours = not form.fortran and len(shape) >= 3 and shape[-1] in (3, 4) and form.dtype == np.uint8
    inner = shape[-3:] if colours else shape[-2:]
    if form.fortran:
        rows, columns = columns, rows
    high, wide = inner[0], inner[1]
    row_bytes = math.prod(inner[1:]) * form.dtype.itemsize
    if row_bytes > _ROW:
        return None
    if high <= _LONG * wide and wide <= _LONG * high:
        thinned = max(high / rows, wide / columns, 1.0)
        rows, columns = max(1, round(high / thinned)), max(1, round(wide / thinned))
    picked = [high * row // min(rows, high) for row in range(min(rows, high))]
    columns_picked = [wide * column // min(columns, wide) for column in range(min(columns, wide))]
    found = []
    for row in picked:
        raw = reading.read(at + row * row_bytes, row_bytes)
        if len(raw) < row_bytes:
            return None
        found.append(np.frombuffer(raw, form.dtype).reshape(inner[1:])[columns_picked])
    picture = np.array(found)
    return picture.T if form.fortran else picture
