"""Segments of every backing: made, found, viewed, closed, unlinked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import Segment


@dataclass
class Named:
    """A name that nobody else uses, with what is needed to make and find a segment of that name."""

    name: Any
    backing: str

    def create(self, size: int | str = 100, **options: Any) -> Segment:
        return Segment.create(self.name, size, backing=self.backing, **options)

    def attach(self, **options: Any) -> Segment:
        return Segment.attach(self.name, backing=self.backing, **options)

    def unlink(self, missing_ok: bool = False) -> None:
        shmkit.unlink(self.name, missing_ok, backing=self.backing)


@pytest.fixture(params=["posix", "file", "sysv"])
def named(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Named]:
    """Each backing that has names, in turn.  The name is removed afterwards."""
    place = Named(str(tmp_path / name) if request.param == "file" else name, request.param)
    yield place
    place.unlink(missing_ok=True)


@pytest.fixture(params=["memfd", "posix", "file", "sysv"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[Segment]:
    """A segment of each backing, of 1000 bytes."""
    names = {"memfd": None, "posix": name, "file": tmp_path / name, "sysv": name}
    segment = Segment.create(names[request.param], 1000, backing=request.param)
    yield segment
    segment.close()
    segment.unlink(missing_ok=True)


def test_a_new_segment_is_zeros_of_exactly_that_size(segment: Segment) -> None:
    """Whatever pages it takes, its size is what was asked for."""
    assert segment.size == 1000
    assert bytes(segment.buf) == bytes(1000)


def test_a_segment_says_what_it_is(segment: Segment) -> None:
    """Kind, creator, lifetime: named ones live until they are unlinked, anonymous ones while somebody uses them."""
    assert segment.kind == "bytes"
    assert segment.creator_pid == os.getpid()
    assert segment.lifetime == ("leased" if segment.backing == "memfd" else "named")
    assert not segment.readonly
    assert segment.backing in repr(segment)


def test_what_one_writes_the_other_reads(named: Named) -> None:
    """Two attachments are one memory."""
    with named.create() as one, named.attach() as other:
        one.buf[3:6] = b"abc"
        assert bytes(other.buf[:8]) == b"\0\0\0abc\0\0"
        assert other.size == 100
        assert (other.name, other.backing) == (one.name, one.backing)


def test_create_fails_if_the_name_is_taken(named: Named) -> None:
    """And leaves the segment of that name alone."""
    with named.create() as segment:
        segment.buf[0] = 7
        with pytest.raises(shmkit.SegmentExists, match=named.name) as caught:
            named.create()
        assert isinstance(caught.value, FileExistsError)
        with named.attach() as again:
            assert again.buf[0] == 7


def test_attach_fails_if_there_is_no_such_name(named: Named) -> None:
    """SegmentNotFound is a FileNotFoundError."""
    with pytest.raises(shmkit.SegmentNotFound, match=named.name) as caught:
        named.attach()
    assert isinstance(caught.value, FileNotFoundError)


def test_create_or_attach_does_either(named: Named) -> None:
    """The first one makes it, the others find it."""
    with Segment.create_or_attach(named.name, "100 B", backing=named.backing) as one:
        with Segment.create_or_attach(named.name, 100, backing=named.backing) as other:
            one.buf[0] = 9
            assert other.buf[0] == 9


def test_create_or_attach_wants_the_size_that_is_there(named: Named) -> None:
    """An old segment of another size is no surprise later."""
    with named.create(), pytest.raises(shmkit.LayoutMismatch, match="must hold 200 bytes: got 100"):
        Segment.create_or_attach(named.name, 200, backing=named.backing)


def test_a_named_segment_outlives_its_handles(named: Named) -> None:
    """It lives until it is unlinked, like a file."""
    with named.create() as segment:
        segment.buf[:5] = b"still"
    with named.attach() as segment:
        assert bytes(segment.buf[:5]) == b"still"


def test_unlink_removes_the_name_and_not_the_memory(named: Named) -> None:
    """Who has it mapped keeps it; a new one of that name is another."""
    with named.create() as old:
        old.unlink()
        with pytest.raises(shmkit.SegmentNotFound):
            named.attach()
        with named.create() as new:
            new.buf[0] = 1
            assert old.buf[0] == 0
            old.buf[0] = 2
            assert new.buf[0] == 1


def test_unlink_works_after_close(named: Named) -> None:
    """As with the standard library's shared memory."""
    segment = named.create()
    segment.close()
    segment.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        segment.unlink()
    segment.unlink(missing_ok=True)


def test_unlink_of_a_handle_spares_a_later_segment_of_that_name(named: Named) -> None:
    """The handle's own segment has gone; what has its name now is somebody else's."""
    old = named.create()
    named.unlink()
    with named.create() as new:
        with pytest.raises(shmkit.SegmentNotFound):
            old.unlink()
        with named.attach() as found:
            found.buf[0] = 5
            assert new.buf[0] == 5


def test_unlink_by_name_says_when_there_is_none(named: Named) -> None:
    """Unless told that this is all right."""
    with pytest.raises(shmkit.SegmentNotFound):
        named.unlink()
    named.unlink(missing_ok=True)


def test_a_readonly_attachment_cannot_be_written(named: Named) -> None:
    """Neither through its buffer nor through an array."""
    with named.create() as segment, named.attach(readonly=True) as reader:
        assert reader.readonly
        assert reader.buf.readonly
        assert not reader.ndarray(10, "u1").flags.writeable
        with pytest.raises(TypeError):
            reader.buf[0] = 1
        segment.buf[0] = 4
        assert reader.buf[0] == 4


def test_close_is_idempotent_and_ends_the_handle(segment: Segment) -> None:
    """What was known of it can still be asked."""
    segment.close()
    segment.close()
    assert segment.closed
    assert segment.size == 1000
    for use in (lambda: segment.buf, lambda: segment.ndarray(1), segment.flush):
        with pytest.raises(shmkit.Closed, match="closed"):
            use()


def test_a_with_block_closes(segment: Segment) -> None:
    """Also when it ends by an exception."""
    with pytest.raises(KeyError), segment:
        raise KeyError
    assert segment.closed


@pytest.mark.parametrize(
    "view",
    [
        lambda segment: segment.buf,
        lambda segment: segment.buf[10:20],
        lambda segment: np.frombuffer(segment.buf, "u1"),
        lambda segment: np.ndarray((1000,), "u1", segment.buf),
        lambda segment: segment.ndarray(1000, "u1")[::2],
        lambda segment: memoryview(segment.ndarray(1000, "u1")),
    ],
    ids=["buf", "slice", "frombuffer", "ndarray-of-buf", "ndarray", "memoryview-of-ndarray"],
)
def test_a_view_survives_close(segment: Segment, view: Callable[[Segment], Any]) -> None:
    """Close never raises for a live view, and never pulls memory from under it."""
    segment.buf[:] = bytes(range(250)) * 4
    seen = view(segment)
    before = bytes(seen)
    segment.close()
    assert bytes(seen) == before
    np.asarray(seen)[...] = 1
    assert set(bytes(seen)) == {1}


def test_the_memory_goes_with_the_last_view(segment: Segment) -> None:
    """Not before, not later."""
    array = segment.ndarray(1000, "u1")
    address = array.__array_interface__["data"][0]
    slice_of_it = array[5:]
    segment.close()
    del array
    assert _is_mapped(address)
    del slice_of_it
    assert not _is_mapped(address)


def _is_mapped(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if start <= address < end:
            # Private memory, which may come to stand there afterwards, has no inode.
            return line.split()[4] != "0"
    return False


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_the_mode_is_exact_whatever_the_umask(named: Named, mode: int) -> None:
    """0600 unless asked otherwise, and what was asked is what it gets."""
    before = os.umask(0o077)
    try:
        named.create(mode=mode).close()
    finally:
        os.umask(before)
    assert _mode(named) == mode


def test_the_default_mode_is_private_under_an_open_umask(named: Named) -> None:
    """Nobody else may look."""
    before = os.umask(0)
    try:
        named.create().close()
    finally:
        os.umask(before)
    assert _mode(named) == 0o600


def _mode(named: Named) -> int:
    if named.backing == "file":
        return os.stat(named.name).st_mode & 0o7777
    (found,) = [info for info in Segment.list() if info.name == named.name]
    return found.mode


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 10, "backing": "floppy"}, "backing must be"),
        ({"size": 10, "lifetime": "ever"}, "lifetime must be"),
        ({"size": 10, "mode": 0o1600}, "mode must be"),
        ({"size": 10, "mode": 0o200}, "mode must be"),
        ({"size": -1}, "must not be negative"),
        ({"size": "10 parsecs"}, "unit must be"),
        ({"size": 0, "raw": True}, "raw segment has at least one byte"),
        ({"size": 10, "lifetime": "named"}, "memfd has no name"),
        ({"size": 10, "name": "x", "backing": "memfd"}, "memfd has no name"),
        ({"size": 10, "backing": "file"}, "needs a path"),
        ({"size": 10, "name": "x", "hugepages": True}, "hugepages"),
        ({"size": 10, "name": "x", "raw": True, "lifetime": "leased"}, "raw segment has no header"),
        ({"size": 10, "name": "a/b"}, "no slash"),
        ({"size": 10, "name": ""}, "neither empty"),
        ({"size": 10, "name": ".."}, "neither empty"),
        ({"size": 10, "name": "a\0b"}, "NUL"),
        ({"size": 10, "name": "x" * 256}, "at most 255 bytes"),
        ({"size": 10, "name": "shmkit.lease.1"}, "shmkit's own"),
        ({"size": 10, "name": 0, "backing": "sysv"}, "number from 1"),
        ({"size": 10, "name": "", "backing": "sysv"}, "1 to 255 letters"),
        ({"size": 10, "backing": "sysv", "lifetime": "named"}, "no key"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    """A ValueError that says the rule and the value, before anything is made."""
    with pytest.raises(ValueError, match=message):
        Segment.create(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"size": 1.5}, {"size": None}, {"size": 10, "name": 7}, {"size": 10, "name": 1.5, "backing": "sysv"}, {}],
)
def test_a_wrong_type_is_a_type_error(arguments: dict[str, Any]) -> None:
    """Before anything is made."""
    with pytest.raises(TypeError):
        Segment.create(**arguments)


def test_attaching_to_anonymous_memory_by_name_is_refused() -> None:
    """It has none."""
    with pytest.raises(ValueError, match="no name to attach to"):
        Segment.attach("x", backing="memfd")


def test_a_leading_slash_is_no_part_of_a_posix_name(name: str) -> None:
    """shm_open's way of writing it means the same segment."""
    with Segment.create("/" + name, 10) as one:
        assert one.name == name
        with Segment.attach(name) as other:
            one.buf[0] = 3
            assert other.buf[0] == 3
        one.unlink()


def test_a_segment_may_be_empty(named: Named) -> None:
    """Zero bytes are a size too."""
    with named.create(0) as segment, named.attach() as other:
        assert len(segment.buf) == len(other.buf) == 0
        assert other.ndarray((0, 3)).shape == (0, 3)


def test_a_segment_cannot_be_made_by_its_class() -> None:
    """It has constructors with names."""
    with pytest.raises(TypeError, match=r"Segment\.create"):
        Segment()


def test_a_generated_name_can_be_attached_to() -> None:
    """POSIX memory without a given name has one nevertheless, and goes with its last user."""
    with Segment.create(None, 10, backing="posix") as one:
        assert one.lifetime == "leased"
        with Segment.attach(one.name) as other:
            one.buf[0] = 3
            assert other.buf[0] == 3
    assert not Path("/dev/shm", one.name).exists()


def test_everything_is_listed(named: Named) -> None:
    """With what it is and who made it, and whether that process lives."""
    if named.backing == "file":
        pytest.skip("files are not listed: they may be anywhere")
    with named.create(123, mode=0o640) as segment:
        (found,) = [info for info in Segment.list() if info.name == named.name]
    assert (found.backing, found.kind, found.size, found.lifetime) == (named.backing, "bytes", 123, "named")
    assert (found.mode, found.uid, found.creator_pid, found.creator_alive) == (0o640, os.geteuid(), os.getpid(), True)
    assert found.created > 1.6e9
    assert segment.closed


def test_anonymous_memory_is_listed_once() -> None:
    """However many descriptors it has."""
    with Segment.create(None, 4321) as segment:
        again = os.dup(segment.fd)
        try:
            found = [info for info in Segment.list() if info.backing == "memfd" and info.size == 4321]
        finally:
            os.close(again)
    assert [(info.name, info.lifetime, info.creator_pid) for info in found] == [(None, "leased", os.getpid())]


def test_nothing_else_is_listed(name: str) -> None:
    """Foreign files in /dev/shm are nobody's business here."""
    path = Path("/dev/shm", name)
    path.write_bytes(b"x" * 10000)
    try:
        assert name not in [info.name for info in Segment.list()]
    finally:
        path.unlink()


def test_a_file_is_made_where_unnamed_files_are_not_known(
    named: Named, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There it has a name of its own until it is whole, and none of it is left."""
    from shmkit.segment import file

    monkeypatch.setattr(file, "NAMELESS", False)
    with named.create() as one, named.attach() as other:
        one.buf[0] = 8
        assert other.buf[0] == 8
        with pytest.raises(shmkit.SegmentExists):
            named.create()
    folder = tmp_path if named.backing == "file" else Path("/dev/shm")
    assert not list(folder.glob(".shmkit-unfinished-*"))


def test_the_memory_is_aligned_to_pages(segment: Segment) -> None:
    """Whatever the header takes."""
    assert segment.ndarray(1).__array_interface__["data"][0] % 4096 == 0
