"""Whose `multiprocessing` a kill meets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import shmkit


@pytest.fixture(params=["stdlib", "drop-in", "install"])
def face(request: pytest.FixtureRequest) -> Iterator[str]:
    """The standard library's, ours beside it, and ours in its place."""
    if request.param == "install":
        shmkit.install()
    yield request.param
    shmkit.uninstall()
