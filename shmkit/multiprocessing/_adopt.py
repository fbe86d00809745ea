"""Having one of the standard library's classes make instances of its replacement, by whatever name it is called.

``shmkit.install()`` replaces one method of a class, its ``__init__``: the new one turns the instance, which is still
empty, into one of the replacement, a subclass, and has that initialise it.  So it does not matter who bound the class,
or derived from it, and when.  What was made before stays what it is, and so does what was made meanwhile when the
method is put back: each instance has its own class, and is pickled by that.  A derived class that counts on the inside
of what it is derived from stays what it is, too.

Of a function it is the code that is replaced, for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

from shmkit.multiprocessing._derived import calls_by_name

__all__ = ["adopt", "release"]

_variants: dict[tuple[type, type], type] = {}
_KEPT = "_shmkit_original_init"
_KEPT_CODE = "_shmkit_original_code"


def adopt(theirs: type, load: Callable[[], type], made: Callable[[], None] | None = None) -> None:
    """Has ``theirs(…)``, and whatever calls ``theirs.__init__``, make a ``load()``, which is asked for only then.

    ``made()`` counts it.
    """
    if _KEPT in vars(theirs):
        return
    original: Callable[..., None] = theirs.__init__  # type: ignore[misc]

    @wraps(original)
    def initialise(self: Any, /, *args: Any, **options: Any) -> None:
        replacement: Any = load()
        kind: Any = type(self)
        if issubclass(kind, replacement) or not _stands_for(replacement, kind, theirs):
            original(self, *args, **options)
            return
        self.__class__ = replacement if kind is theirs else _variant(kind, replacement)
        if made is not None:
            made()
        replacement.__init__(self, *args, **options)

    setattr(theirs, _KEPT, vars(theirs).get("__init__"))
    theirs.__init__ = initialise  # type: ignore[misc]


def _stands_for(replacement: Any, kind: type, theirs: type) -> bool:
    """Whether it can be what a class is that is the other, or derived from that."""
    if kind is not theirs and calls_by_name(kind, theirs, replacement):
        return False
    return not hasattr(replacement, "_stands_for") or replacement._stands_for(kind)


def adopt_pipe(theirs: FunctionType, counted: bool = False) -> None:
    """Has ``multiprocessing.connection.Pipe``, by whatever name it is called, make ours, and perhaps count it."""
    if _KEPT_CODE not in vars(theirs):
        setattr(theirs, _KEPT_CODE, theirs.__code__)
        theirs.__code__ = (_counted_pipe if counted else _pipe).__code__


def _pipe(duplex: bool = True) -> Any:
    # In the other function's place: it sees that one's globals.
    from shmkit.multiprocessing.connection import Pipe

    return Pipe(duplex)


def _counted_pipe(duplex: bool = True) -> Any:
    from shmkit.multiprocessing._statistics import add
    from shmkit.multiprocessing.connection import Pipe

    add("Pipe")
    return Pipe(duplex)


def release(theirs: Any) -> None:
    """Has it make its own again."""
    if _KEPT_CODE in vars(theirs):
        theirs.__code__ = vars(theirs).pop(_KEPT_CODE)
    if _KEPT not in vars(theirs):
        return
    original = vars(theirs)[_KEPT]
    if original is None:
        del theirs.__init__
    else:
        theirs.__init__ = original
    delattr(theirs, _KEPT)


def _variant(kind: type, replacement: type) -> type:
    """`kind`, a subclass of what is replaced, as one of the replacement."""
    made = _variants.get((kind, replacement))
    if made is None:
        attributes = {
            "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__,
            "__reduce_ex__": _reduce_ex, "_shmkit_variant": (kind, replacement),
        }  # fmt: skip
        made = _variants.setdefault((kind, replacement), type(kind.__name__, (kind, replacement), attributes))
    return made


def _reduce_ex(self: Any, protocol: int) -> Any:
    """As the class does; but it is not found by its name, which is that of the class it was made from."""
    made: Any = type(self)
    found = super(made, self).__reduce_ex__(protocol)
    if isinstance(found, tuple) and len(found) > 1 and found[1][:1] == (made,):
        kind, replacement = made._shmkit_variant
        return (_make, (kind, replacement, *found[1][1:]), *found[2:])
    return found


def _make(kind: type, replacement: type, *args: Any) -> Any:
    made = _variant(kind, replacement)
    return made.__new__(made, *args)
