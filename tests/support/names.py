"""Names for segments that no other test, session or program uses, and that tell whose they are."""

from __future__ import annotations

import itertools
import os
import secrets

PREFIX = "shmkit-test"
# Children inherit the session's pid, so that what they create is recognised as this session's.
SESSION = os.environ.setdefault("SHMKIT_TEST_SESSION", str(os.getpid()))

_count = itertools.count()


def unique_name(hint: str = "x") -> str:
    """A new name, valid for every backing that takes one (for files: within a folder)."""
    return f"{PREFIX}-{SESSION}-{hint[:40]}-{next(_count)}-{secrets.token_hex(4)}"


def belongs_to_another_session(name: str) -> bool:
    """Whether the name was made by ``unique_name`` in another run of the tests."""
    return name.startswith(f"{PREFIX}-") and not name.startswith(f"{PREFIX}-{SESSION}-")
