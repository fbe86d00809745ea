"""Where ``shmkit.h`` is: the header with which a C or C++ program is one end of a ring.

``cc $(python -m shmkit.include) program.c`` compiles such a program.
"""

from __future__ import annotations

import os

__all__ = ["get_include"]


def get_include() -> str:
    """The folder that ``shmkit.h`` is in, for the compiler's ``-I``."""
    return os.path.dirname(os.path.abspath(__file__))
