"""Pools of processes: the standard library's, shmkit's, and other people's."""

from __future__ import annotations

import concurrent.futures
import ctypes
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from shmkit.cli.bench.face import Channel, Contender, Job

__all__ = ["POOLS"]

_WORKERS = 2
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """What every worker does first: a pool whose owner is killed leaves nobody behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Pool(Channel):
    """Made in the child that sends; ``runs(work, arguments)`` is the map of it."""

    def __init__(self, make: Callable[[], tuple[Callable[..., Iterable[Any]], Callable[[], Any]]]) -> None:
        self.make = make
        # Where joblib puts arrays, and leaves them when its process is killed.
        self.folder = tempfile.mkdtemp(prefix="shmkit-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)

    def sender(self) -> Any:
        os.environ["JOBLIB_TEMP_FOLDER"] = self.folder
        os.environ["PYTHONWARNINGS"] = "ignore"  # of loky's helper, about what a killed process has left
        # The measured process is a daemon's like, so that it ends with its parent; those may not have children.
        multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
        self.runs, self.end = self.make()
        return self

    def receiver(self) -> Any:
        self.end = lambda: None
        return self

    def leave(self) -> None:
        self.end()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Pool(Contender):
    """``make`` returns the pool's map, and what ends it."""

    kinds = frozenset({"tasks"})

    def __init__(
        self,
        name: str,
        family: str,
        make: Callable[[], tuple[Callable[..., Iterable[Any]], Callable[[], Any]]],
        *,
        module: str | None = None,
        arrays_only: bool = False,
    ) -> None:
        self.name, self.family, self.make = name, family, make
        self.module = self.package = module
        self.arrays_only = arrays_only

    def supports(self, pattern: Any, job: Job) -> bool:
        return super().supports(pattern, job) and not (self.arrays_only and not job.size)

    def channel(self, job: Job, pattern: Any) -> Channel:
        return _Pool(self.make)


def _serial() -> Any:
    return map, lambda: None


def _pool(of: Any) -> Any:
    pool = of.get_context("fork").Pool(_WORKERS, end_with_parent)

    def run(work: Any, arguments: Any) -> Any:
        return pool.map(work, arguments, chunksize=1)

    return run, pool.terminate


def _stdlib_pool() -> Any:
    return _pool(multiprocessing)


def _our_pool() -> Any:
    from shmkit import multiprocessing as ours

    return _pool(ours)


def _executor() -> Any:
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(_WORKERS, context, end_with_parent)
    return pool.map, pool.shutdown


def _executor_installed() -> Any:
    import shmkit

    shmkit.install()
    return _executor()


def _our_executor() -> Any:
    import shmkit

    pool = shmkit.Executor(_WORKERS, initializer=end_with_parent)
    return pool.map, pool.shutdown


def _threads() -> Any:
    pool = concurrent.futures.ThreadPoolExecutor(_WORKERS)
    return pool.map, pool.shutdown


def _loky() -> Any:
    import loky

    pool = loky.ProcessPoolExecutor(_WORKERS, initializer=end_with_parent)
    return pool.map, pool.shutdown


def _joblib() -> Any:
    import joblib
    from joblib.externals.loky import get_reusable_executor

    parallel = joblib.Parallel(n_jobs=_WORKERS, batch_size=1)
    parallel.__enter__()

    def run(work: Any, arguments: Any) -> Iterator[Any]:
        return iter(parallel(joblib.delayed(work)(argument) for argument in arguments))

    def end() -> None:
        parallel.__exit__(None, None, None)
        # It would keep its workers for the next one.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)

    # Each worker ends with this process, which may be killed.
    list(parallel(joblib.delayed(_tie)() for _ in range(64 * _WORKERS)))
    return run, end


def _tie() -> None:
    end_with_parent()
    time.sleep(0.001)


class OurExecutor(Pool):
    """Where there is one."""

    def missing(self) -> str | None:
        try:
            import shmkit

            return None if hasattr(shmkit, "Executor") else "this shmkit has no Executor"
        except ImportError as error:
            return f"shmkit is not installed: {error}"


POOLS: list[Contender] = [
    Pool("shmkit Pool", "shmkit", _our_pool, module="shmkit"),
    OurExecutor("shmkit.Executor", "shmkit", _our_executor),
    Pool("Executor, install()", "shmkit", _executor_installed, module="shmkit"),
    Pool("mp.Pool", "stdlib", _stdlib_pool),
    Pool("ProcessPoolExecutor", "stdlib", _executor),
    Pool("2 threads", "stdlib", _threads),
    Pool("a loop", "stdlib", _serial),
    Pool("loky", "peer", _loky, module="loky"),
    Pool("joblib", "peer", _joblib, module="joblib"),
]
