from typing import Any

import numpy as np

DESCRIPTION_LIMIT: int

def describe(dtype: np.dtype[Any]) -> bytes: ...
def restore(text: bytes) -> np.dtype[Any]: ...

class Memo: ...
