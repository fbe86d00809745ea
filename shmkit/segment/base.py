"""Segment: one face for shared memory of every kind.

Who makes a segment says how long it lives: *named*, until somebody unlinks it, like a file; or *leased*, until the last
process that uses it has gone, however it went.  Closing only drops this handle: the memory stays mapped until the last
view of it has died, so nothing is ever pulled from under an array.
"""

from __future__ import annotations

import builtins
import contextlib
import os
from collections.abc import Mapping as AnyMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from shmkit import _header
from shmkit._map import Facts, Mapping
from shmkit.errors import Closed, LayoutMismatch, SegmentExists, SegmentNotFound
from shmkit.segment import collect, file, handle, header, memfd, posix, sysv
from shmkit.segment.trouble import Name, frees_by_trimming, label
from shmkit.sizes import MOST, parse_size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from shmkit.segment import listing

__all__ = ["Backing", "Lifetime", "Segment", "create_raw", "segment_of", "unlink"]

Backing = Literal["posix", "sysv", "file", "memfd"]
Lifetime = Literal["named", "leased"]


class Segment:
    """Shared memory: made with ``create``, found with ``attach``."""

    __slots__ = ("__weakref__", "_facts", "_mapping")
    _facts: Facts
    _mapping: Mapping | None

    def __init__(self) -> None:
        raise TypeError("a Segment is made by Segment.create, Segment.attach or Segment.create_or_attach")

    # ------------------------------------------------------------------------------------------- made and found

    @classmethod
    def create(
        cls,
        name: str | int | os.PathLike[str] | None = None,
        size: SupportsIndex | str | None = None,
        *,
        backing: Backing | None = None,
        mode: int = 0o600,
        lifetime: Lifetime | None = None,
        hugepages: bool = False,
        raw: bool = False,
        reserve: bool = True,
    ) -> Segment:
        """Makes a segment of ``size`` bytes (a number, or text such as ``"64 MiB"``), all zeros.

        ``backing``: "memfd", anonymous memory (the default without a name); "posix", a file of /dev/shm (the default
        with a name; made up if there is none); "file", whose name is a path, and which persists; "sysv", whose name is
        a key, or text that is hashed to one.

        ``lifetime``: "named", until it is unlinked (the default with a name); "leased", until its last process has gone
        (the default without).  ``mode`` holds exactly, whatever the umask.  ``raw`` leaves out the header, to share
        memory with other programs.  ``hugepages`` (memfd, sysv) needs pages that root has reserved.

        The memory is reserved now: ``NoSpace`` if there is too little.  With ``reserve=False`` a segment costs nothing
        until it is used, but a store into it can be a SIGBUS from the kernel, if there is no memory by then.
        """
        if size is None:
            raise TypeError("Segment.create needs a size")
        return cls._create(name, size, backing, mode, lifetime, hugepages, raw, reserve)

    @classmethod
    def _create(
        cls,
        name: object,
        size: SupportsIndex | str,
        backing: str | None = None,
        mode: int = 0o600,
        lifetime: str | None = None,
        hugepages: bool = False,
        raw: bool = False,
        reserve: bool = True,
        kind: int = _header.KIND_BYTES,
        meta: AnyMapping[str, Any] | None = None,
        init: file.Init | None = None,
    ) -> Segment:
        """``create`` for what is built on segments.

        ``init(mapping, payload_at)`` formats the payload before others see it; ``meta`` is kept with the header.
        """
        nbytes = size if type(size) is int and 0 <= size <= MOST else parse_size(size)
        if backing is None:
            backing = "memfd" if name is None else "posix"
        if lifetime is None:
            leased = name is None
        elif lifetime in ("named", "leased"):
            leased = lifetime == "leased"
        else:
            raise ValueError(f"lifetime must be 'named', 'leased' or None: got {lifetime!r}")
        if mode & ~0o777 or not mode & 0o400:
            raise ValueError(f"mode must be permission bits that let the owner read: got {mode:#o}")
        if raw and nbytes == 0:
            raise ValueError("a raw segment has at least one byte: got size 0")
        if hugepages and backing not in ("memfd", "sysv"):
            raise ValueError(f"hugepages=True goes with backing 'memfd' (no name) or 'sysv': got {backing!r}")
        collect.collect_if_due(os.path.dirname(file.path_of(name)) if backing == "file" and name is not None else None)
        arguments = (backing, name, nbytes, mode, leased, hugepages, raw, reserve, kind, meta, init)
        try:
            return segment_of(_make_mapping(*arguments))
        except OSError as error:
            if not frees_by_trimming(error):
                raise
        return segment_of(_make_mapping(*arguments))

    @classmethod
    def attach(
        cls,
        name: str | int | os.PathLike[str],
        *,
        readonly: bool = False,
        backing: Backing | None = None,
        raw: bool = False,
        owner: int | None = None,
    ) -> Segment:
        """Finds the segment ``name`` and maps it.

        Nothing is believed that was not checked: ``SegmentNotFound``, ``SegmentPermission`` if it belongs to another
        user (``owner``: one that is accepted) or its mode forbids it, ``LayoutMismatch`` if it is not a whole segment
        of this version.  ``raw`` maps any shared memory as it is.  ``readonly``: its views cannot be written to.
        """
        return cls._attach(name, readonly=readonly, backing=backing, raw=raw, owner=owner)

    @classmethod
    def _attach(
        cls,
        name: object,
        *,
        readonly: bool = False,
        backing: str | None = None,
        raw: bool = False,
        owner: int | None = None,
        kind: int | None = None,
    ) -> Segment:
        """``attach`` for what is built on segments: to one of that ``kind`` only."""
        if backing is None or backing == "posix":
            mapping = posix.attach(name, readonly, raw, owner, kind)
        elif backing == "file":
            mapping = file.attach(name, readonly, raw, owner, kind)
        elif backing == "sysv":
            mapping = sysv.attach(name, readonly, raw, owner, kind)
        elif backing == "memfd":
            raise ValueError("a memfd has no name to attach to: it is inherited, or pickled to another process")
        else:
            raise _unknown_backing(backing)
        return segment_of(mapping)

    @classmethod
    def create_or_attach(
        cls,
        name: str | int | os.PathLike[str],
        size: SupportsIndex | str,
        *,
        backing: Backing | None = None,
        mode: int = 0o600,
        lifetime: Lifetime | None = None,
        raw: bool = False,
        reserve: bool = True,
    ) -> Segment:
        """Attaches to the segment ``name``, or makes it.  ``LayoutMismatch`` if it exists with another size."""
        nbytes = parse_size(size)
        while True:
            # In this order: a segment that exists costs no reservation.
            try:
                segment = cls._attach(name, backing=backing, raw=raw)
            except SegmentNotFound:
                try:
                    return cls._create(
                        name, nbytes, backing=backing, mode=mode, lifetime=lifetime, raw=raw, reserve=reserve
                    )
                except SegmentExists:
                    continue
            if segment.size != nbytes or segment.kind not in ("bytes", "raw"):
                raise LayoutMismatch(
                    f"the segment must hold {nbytes} bytes: got {segment.size}, of kind {segment.kind!r} "
                    f"({label(segment.name)})"
                )
            return segment

    # ---------------------------------------------------------------------------------------------- what it is

    @property
    def name(self) -> Name:
        """What it is attached by: text, a SysV key, or None for anonymous memory."""
        return self._facts.name

    @property
    def size(self) -> int:
        """Bytes that can be used, exactly as asked for."""
        return self._facts.size

    @property
    def backing(self) -> str:
        """One of "posix", "sysv", "file" and "memfd"."""
        return self._facts.backing

    @property
    def kind(self) -> str:
        """What it holds: "bytes", "array", "ring", "sync" (primitives), or "raw" if it has no header to say so."""
        return "raw" if self._facts.raw else header.KINDS[self._facts.kind]

    @property
    def lifetime(self) -> str:
        """Either "named", until it is unlinked, or "leased", until its last process has gone."""
        leased = self._facts.leased or self._facts.backing == "memfd" or self._facts.name is None
        return "leased" if leased else "named"

    @property
    def readonly(self) -> bool:
        """Whether it was attached for reading only."""
        return self._facts.readonly

    @property
    def creator_pid(self) -> int | None:
        """The process that made it, which may have gone; None: a raw segment does not say."""
        return None if self._facts.raw else self._facts.creator_pid

    @property
    def closed(self) -> bool:
        """Whether this handle was closed.  Views may still be alive."""
        return self._mapping is None

    @property
    def mapping(self) -> Mapping:
        """The mapping, for what is built on segments."""
        mapping = self._mapping
        if mapping is None:
            raise Closed(f"the handle is closed ({label(self.name)})")
        return mapping

    @property
    def payload_offset(self) -> int:
        """Bytes between the segment's start and what can be used of it."""
        return self.mapping.payload_at

    @property
    def fd(self) -> int:
        """The descriptor that is kept open (of anonymous memory, and of rings, to ask leases through); -1: none."""
        return self.mapping.fd

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<shmkit.Segment {self.name!r} {self.backing} {self.kind} {self.size} bytes{state}>"

    # -------------------------------------------------------------------------------------------------- memory

    @property
    def buf(self) -> memoryview:
        """All its bytes.  A view, like any other, keeps the memory mapped."""
        return memoryview(self.mapping)

    def ndarray(
        self,
        shape: int | tuple[int, ...],
        dtype: npt.DTypeLike = float,
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
        order: Literal["C", "F"] = "C",
    ) -> np.ndarray[Any, Any]:
        """An array over its memory, without a copy; it keeps the memory mapped.

        Any dtype but object: Python objects cannot live in shared memory.  ``array.view(shmkit.SharedArray)`` is the
        same array, but pickled by reference.
        """
        import numpy as np  # not before: locks lie in segments too, and most programs that use them need no NumPy

        from shmkit import _make_array

        mapping: Any = self.mapping  # a buffer, which NumPy's stubs learn of in Python 3.12
        kind = np.dtype(dtype)
        if kind.hasobject:
            raise TypeError(f"an array of Python objects cannot live in shared memory: got dtype {kind!r}")
        problem = "it does not fit"
        try:
            if _make_array.fits(shape, kind.itemsize, offset, strides, self.size):
                made: np.ndarray[Any, Any] = np.ndarray(
                    shape,
                    kind,
                    mapping,
                    offset,
                    strides,
                    order,
                )
                return made
        except ValueError as error:
            problem = str(error)
        raise ValueError(
            f"{problem}: shape {shape!r}, dtype {kind}, offset {offset}, strides {strides} in {self.size} bytes "
            f"({label(self.name)})"
        )

    def flush(self) -> None:
        """Returns when a file has all changes on its disk; for memory there is nothing to do."""
        mapping = self.mapping
        if self._facts.backing == "file" and not mapping.readonly:
            mapping.flush()
            with contextlib.suppress(OSError):
                file.sync_folder(str(self._facts.name))

    # --------------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Drops this handle.  The memory stays mapped until its last view has died; this never raises."""
        self._mapping = None

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the name; who has it mapped keeps it.  Works after ``close`` too.  Anonymous memory has none.

        ``SegmentNotFound`` if the name has gone, or is another segment's by now; not with ``missing_ok``.
        """
        facts = self._facts
        if facts.name is None:
            return
        try:
            if facts.backing == "sysv":
                sysv.unlink_id(facts.shmid, facts.name, None if facts.path is None else os.fsdecode(facts.path))
            else:
                file.unlink_file(facts)
        except SegmentNotFound:
            if not missing_ok:
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_segment, (handle.make_handle(self.mapping),)

    @staticmethod
    def list() -> builtins.list[listing.SegmentInfo]:
        """The segments of this machine that this user may look at, whoever made them."""
        from shmkit.segment import listing

        return listing.segments()


def create_raw(name: str, size: int) -> Segment:
    """``Segment.create(name, size, raw=True)``, of a size that is an int > 0, without a step in between."""
    if size > MOST:
        parse_size(size)
    collect.collect_if_due()
    try:
        return segment_of(posix.create_raw(name, size))
    except OSError as error:
        if not frees_by_trimming(error):
            raise
    return segment_of(posix.create_raw(name, size))


def segment_of(mapping: Mapping) -> Segment:
    """A handle on what is mapped."""
    segment = Segment.__new__(Segment)
    segment._mapping = mapping
    segment._facts = mapping.facts
    return segment


def _open_segment(reference: handle.Handle) -> Segment:
    return segment_of(handle.open_handle(reference))


def _make_mapping(
    backing: str,
    name: object,
    nbytes: int,
    mode: int,
    leased: bool,
    hugepages: bool,
    raw: bool,
    reserve: bool,
    kind: int,
    meta: AnyMapping[str, Any] | None,
    init: file.Init | None,
) -> Mapping:
    """What ``Segment.create`` makes, by its backing."""
    if backing == "memfd":
        if name is not None:
            raise ValueError(f"a memfd has no name: got {name!r} (backing 'posix', 'sysv' and 'file' have)")
        if not leased:
            raise ValueError("a memfd has no name that could keep it: its lifetime is 'leased'")
        return memfd.create(nbytes, kind, header.format_meta(meta), raw, reserve, hugepages, init)
    if raw and leased and (name is not None or backing == "posix"):
        raise ValueError(
            f"a raw segment has no header to say that it is leased: it lives until it is unlinked ({name!r})"
        )
    if backing == "posix":
        if name is None:
            name = posix.generated_name()
        return posix.create(name, nbytes, kind, header.format_meta(meta), mode, leased, raw, reserve, init)
    if backing == "file":
        if name is None:
            raise ValueError("backing 'file' needs a path for a name")
        return file.create(name, nbytes, kind, header.format_meta(meta), mode, leased, raw, reserve, init)
    if backing == "sysv":
        if name is None and not leased:
            raise ValueError("a SysV segment without a name has no key to keep it by: its lifetime is 'leased'")
        return sysv.create(name, nbytes, kind, dict(meta or {}), mode, leased, raw, hugepages, init)
    raise _unknown_backing(backing)


def _unknown_backing(backing: object) -> ValueError:
    return ValueError(f"backing must be 'posix', 'sysv', 'file', 'memfd' or None: got {backing!r}")


def unlink(name: str | int | os.PathLike[str], missing_ok: bool = False, *, backing: Backing | None = None) -> None:
    """Removes the name of a segment, of shmkit or not; who has it mapped keeps it.

    ``SegmentNotFound`` if there is none, unless ``missing_ok``.
    """
    try:
        if backing is None or backing == "posix":
            posix.unlink(name)
        elif backing == "file":
            path = file.path_of(name)
            file.unlink_at(path, path)
        elif backing == "sysv":
            sysv.unlink(name)
        else:
            raise _unknown_backing(backing)
    except SegmentNotFound:
        if not missing_ok:
            raise
