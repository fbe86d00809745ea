"""``shmkit.install()``: the standard ``multiprocessing``, accelerated in place, here and in every child."""

from __future__ import annotations

import multiprocessing.spawn
import os
import sys
import threading
from functools import cache, partial
from importlib import import_module

from shmkit._replaced import REPLACED, STATISTICS, Replaced, groups

# Every child that is spawned imports this file, so it has as few imports as it can do with.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["install", "installed", "uninstall"]


class _State:
    lock = threading.RLock()
    chosen: frozenset[str] = frozenset()
    own_preparation: Callable[[str], dict[str, Any]] | None = None
    own_preload: list[str] = []  # noqa: RUF012  (replaced, never changed)
    preload: list[str] | None = None  # that, and ours


def install(only: Iterable[str] | None = None) -> None:
    """Has the standard ``multiprocessing`` make shmkit's classes, in this process and in the children that it starts.

    ``only`` chooses what: any of "lock" (locks, semaphores, events, conditions, barriers), "queue", "pipe", "pool",
    "executor" (that of ``concurrent.futures``), "manager" and "shared_memory".  Called again, it adds to what is
    installed; nothing is done twice.  Whatever bound the standard library's classes, or derived from them, before, is
    reached too, as the classes themselves are changed.  Objects
    that exist stay what they are.  Raises ValueError for a word that is none of these, TypeError for what are no words.
    """
    try:
        asked = groups() if only is None else frozenset([only] if isinstance(only, (str, bytes)) else only)
    except TypeError:
        raise TypeError(f"only takes words, as in only={{'queue', 'pipe'}}: got {only!r}") from None
    if unknown := asked - groups():
        got = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(f"only takes {', '.join(map(repr, sorted(groups())))}: got {got}")
    with _State.lock:
        if not asked - _State.chosen:
            return
        if STATISTICS in os.environ:
            import_module("shmkit.multiprocessing._statistics")
        _State.chosen |= asked
        for entry in REPLACED:
            if entry.group in asked and entry.theirs in sys.modules:
                _adopt(entry)
        if _State.own_preparation is None:
            _State.own_preparation = multiprocessing.spawn.get_preparation_data
            multiprocessing.spawn.get_preparation_data = _preparation_data
            sys.meta_path.insert(0, _watcher)
            _once_per_process()


def uninstall() -> None:
    """Has the standard ``multiprocessing`` make its own classes again.  What was made meanwhile works on."""
    with _State.lock:
        if _State.own_preparation is None:
            return
        _State.chosen = frozenset()
        if multiprocessing.spawn.get_preparation_data is _preparation_data:
            multiprocessing.spawn.get_preparation_data = _State.own_preparation  # type: ignore[assignment]
        _State.own_preparation = None
        _set_preload([])
        sys.meta_path.remove(_watcher)
        for entry in REPLACED:
            if entry.theirs in sys.modules:
                from shmkit.multiprocessing._adopt import release

                release(_theirs(entry))


def installed() -> frozenset[str]:
    """What is installed in this process, in the words that ``install`` takes."""
    return _State.chosen


def _new_lock() -> None:
    # Another thread of the parent may have held it, and is not here to release it.
    _State.lock = threading.RLock()


@cache
def _once_per_process() -> None:
    os.register_at_fork(after_in_child=_new_lock)


def _theirs(entry: Replaced) -> Any:
    return getattr(sys.modules[entry.theirs], entry.name)


def _adopt(entry: Replaced) -> None:
    from shmkit.multiprocessing import _statistics
    from shmkit.multiprocessing._adopt import adopt, adopt_pipe

    theirs = _theirs(entry)
    if not isinstance(theirs, type):
        adopt_pipe(theirs, _statistics.enabled())
        return

    # Not before the first is made: an import in a module that is just being imported could run in a circle.
    @cache
    def load() -> Any:
        return getattr(import_module(f"shmkit.multiprocessing.{entry.module}"), entry.name)

    adopt(theirs, load, partial(_statistics.add, entry.name) if _statistics.enabled() else None)


# -------------------------------------------------------------------------- modules that are imported only later


class _Watcher:
    """Sees the standard library's modules as they are imported: to import them all at once would slow every child."""

    watched = frozenset(entry.theirs for entry in REPLACED)

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in self.watched:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Adopting(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Adopting:
    """A loader that adopts what it has loaded."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.own.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.own
        if module.__spec__ is not None:
            module.__spec__.loader = self.own
        self.own.exec_module(module)
        with _State.lock:
            for entry in REPLACED:
                if entry.group in _State.chosen and module.__name__ == entry.theirs:
                    _adopt(entry)


_watcher = _Watcher()

# ----------------------------------------------------------------------------------------------------- children


def _preparation_data(name: str) -> dict[str, Any]:
    """What a child that is not forked is told first; the standard library passes over what it does not know."""
    assert _State.own_preparation is not None
    data = _State.own_preparation(name)
    if _State.chosen:
        data["shmkit"] = _InChild(sorted(_State.chosen), data["sys_path"])
        _set_preload(_loaded())
    return data


def _loaded() -> list[str]:
    """What children are likely to need, as this process has needed it."""
    ours = [*dict.fromkeys(f"shmkit.multiprocessing.{entry.module}" for entry in REPLACED), "shmkit._pair"]
    return [name for name in ours if name in sys.modules]


def _set_preload(ours: list[str]) -> None:
    """Has a fork server that is still to be started import this, once, and not each of its children.

    Every child is prepared before the server is asked for it.  Behind what the program itself has there, whose list is
    left alone.
    """
    if "multiprocessing.forkserver" in sys.modules:
        server: Any = sys.modules["multiprocessing.forkserver"]._forkserver
        if server._preload_modules is not _State.preload:
            _State.own_preload = server._preload_modules
        _State.preload = [*_State.own_preload, *ours]
        server._preload_modules = _State.preload if ours else _State.own_preload


class _InChild:
    """Installs in the process that unpickles it, which has not its parent's sys.path yet, and will have it at once."""

    def __init__(self, chosen: list[str], path: list[str]) -> None:
        self.code = f"import sys; sys.path[:] = {path!r}; from shmkit.install import install; install({chosen!r})"

    def __reduce__(self) -> Any:
        return exec, (self.code,)
