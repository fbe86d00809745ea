"""A pool none of whose workers comes to be ready: the standard library's starts others for ever, ours says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import shmkit
import shmkit.multiprocessing
from support import wait_until

METHODS = ["fork", "forkserver", pytest.param("spawn", marks=pytest.mark.soak)]


def fails() -> None:
    raise SystemExit(3)  # as quiet as an end can be


def fails_at_first(tries: Path) -> None:
    with tries.open("a") as file:
        file.write("x")
    if tries.stat().st_size <= 5:
        raise SystemExit(3)


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_that_always_fails(method: str) -> None:
    """Tasks end, those that come later too, with how the workers did; no more of them are started."""
    context: Any = shmkit.multiprocessing.get_context(method)
    with context.Pool(2, fails) as pool:
        result = pool.map_async(abs, range(10))
        with pytest.raises(shmkit.WorkerDied, match=r"10 workers in a row .* exited with status 3 .* initializer"):
            result.get(60)
        with pytest.raises(shmkit.WorkerDied, match="in a row"):
            pool.apply_async(abs, (1,)).get(60)
        with pytest.raises(shmkit.WorkerDied, match="in a row"):
            next(pool.imap(abs, range(3)))
        wait_until(lambda: not any(worker.is_alive() for worker in list(pool._pool)))
        pool.close()
        pool.join()


def test_an_initializer_that_fails_at_first(tmp_path: Path) -> None:
    """Others are started, as ever."""
    context: Any = shmkit.multiprocessing.get_context("fork")
    tries = tmp_path / "tries"
    with context.Pool(1, fails_at_first, (tries,)) as pool:
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
    assert tries.stat().st_size >= 6
