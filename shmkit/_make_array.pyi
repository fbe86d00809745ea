from typing import Any, TypeVar

import numpy as np

from shmkit._map import Mapping

_Array = TypeVar("_Array", bound=np.ndarray[Any, Any])

def check_dtype(dtype: Any) -> np.dtype[Any]: ...
def offset_in(mapping: Mapping, array: np.ndarray[Any, Any]) -> int: ...
def take_array(
    kind: type[_Array],
    shape: Any,
    dtype: Any,
    order: str,
    zero: bool,
    recyclable_most: int,
) -> _Array | None: ...
def array_bytes(shape: Any, itemsize: int) -> int: ...
def fits(shape: Any, itemsize: int, offset: int, strides: tuple[int, ...] | None, size: int) -> bool: ...
