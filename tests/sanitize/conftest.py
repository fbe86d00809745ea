"""What the tests that compile drivers share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the drivers are compiled into, each once."""
    return tmp_path_factory.mktemp("drivers")
