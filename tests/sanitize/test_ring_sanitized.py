"""The ring's core with both ends as threads on one mapping, under ThreadSanitizer, AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest

from sanitize.compiling import HERE
from sanitize.sanitizing import ADDRESS, THREAD, run_sanitized

SOURCE = HERE / "ring_threads.c"
RECORDS = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the drivers are compiled into."""
    return tmp_path_factory.mktemp("drivers")


@pytest.mark.parametrize("capacity", [1024, 65536])
@pytest.mark.parametrize("sanitizer", [THREAD, ADDRESS], ids=["thread", "address-undefined"])
def test_two_threads_on_one_ring_give_a_sanitizer_nothing_to_say(
    folder: Path, sanitizer: tuple[str, ...], capacity: int
) -> None:
    """Records of all sizes, batches, views, waits and hand-overs: no race, no stray access, all of them whole."""
    done = run_sanitized(SOURCE, folder, sanitizer, arguments=(capacity, RECORDS, capacity))
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stderr == ""


@pytest.mark.parametrize("capacity", [1024, 65536])
@pytest.mark.parametrize("function", ["ring_publish", "ring_release_to"])
def test_a_relaxed_publication_does_not_escape_the_thread_sanitizer(folder: Path, function: str, capacity: int) -> None:
    """The planted faults prove that the test above can fail."""
    done = run_sanitized(SOURCE, folder, THREAD, "-DMUTANTS", arguments=(capacity, RECORDS, capacity, function))
    assert done.returncode != 0
    assert "data race" in done.stderr
