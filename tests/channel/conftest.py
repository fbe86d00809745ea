"""A fork server whose children need not import shmkit each: tests here start some fifty of them."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import forkserver

import pytest


@pytest.fixture(scope="package", autouse=True)
def _forkserver_that_knows_shmkit() -> Iterator[None]:
    """One of this folder's own; other tests have one whose children begin with nothing."""
    server = forkserver._forkserver  # type: ignore[attr-defined]
    before = server._preload_modules
    server._stop()
    server.set_forkserver_preload(["numpy", "shmkit"])
    yield
    server._stop()
    server.set_forkserver_preload(before)
