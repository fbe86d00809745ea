"""The memory of what has a buffer, unless it holds references to objects: ``_buffers.pyx``, for Python."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["of_objects", "plain_view"]

_NAMES = re.compile(":[^:]*:")


def of_objects(data: Any) -> TypeError:
    """What is raised where it does."""
    return TypeError(
        f"bytes are sent, and received, and what has a buffer of them: got {type(data).__name__} of objects, which are "
        "addresses in this process"
    )


def plain_view(data: Any) -> memoryview:
    """``memoryview(data)``; TypeError: it has no buffer, or one of objects."""
    if getattr(getattr(data, "dtype", None), "hasobject", False):
        raise of_objects(data)
    view = memoryview(data)
    if "O" in view.format and "O" in _NAMES.sub("", view.format):
        raise of_objects(data)
    return view
