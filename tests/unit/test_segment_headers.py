"""Attaching believes nothing that it has not checked; every refusal names the segment, the rule and the value."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import shmkit
from shmkit import Segment, _header
from support import Processes


@pytest.fixture
def path(name: str) -> Path:
    return Path("/dev/shm", name)


@pytest.fixture
def whole(name: str, path: Path) -> bytes:
    """The bytes of a good segment of 100 bytes, whose name may be used again."""
    with Segment.create(name, 100) as segment:
        content = path.read_bytes()
        segment.unlink()
    return content


def refused(name: str, path: Path, content: bytes) -> str:
    """What attaching says of a file with that content."""
    path.write_bytes(content)
    try:
        with pytest.raises(shmkit.LayoutMismatch, match=name) as caught:
            Segment.attach(name)
    finally:
        path.unlink()
    return str(caught.value)


def changed(content: bytes, at: int, form: str, value: int) -> bytes:
    return content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :]


@pytest.mark.parametrize("size", [0, 1, 8, 64, 255, 256, 4095, 4096, 4195])
def test_a_truncated_segment_is_refused(name: str, path: Path, whole: bytes, size: int) -> None:
    """At whatever byte it ends."""
    assert "bytes" in refused(name, path, whole[:size])


def test_the_untouched_bytes_are_accepted(name: str, path: Path, whole: bytes) -> None:
    """So that the refusals below are for what was changed."""
    path.write_bytes(whole)
    with Segment.attach(name) as segment:
        assert segment.size == 100
        segment.unlink()


@pytest.mark.parametrize(
    ("at", "form", "value", "rule"),
    [
        (0, "<Q", 0, "magic"),
        (0, "<Q", 0x1234, "magic"),
        (8, "<I", 2, "layout version 1: got 2"),
        (8, "<I", 0, "layout version 1: got 0"),
        (12, "<I", 0, "header's size"),
        (12, "<I", 4095, "header's size"),
        (12, "<I", 2**31, "header's size"),
        (16, "<Q", 101, "truncated: got 4096 . 101 bytes in 4196"),
        (16, "<Q", 2**64 - 4096, "truncated"),
        (24, "<I", 0, "kind"),
        (24, "<I", 77, "kind"),
        (28, "<I", 0x80, "flags"),
        (32, "<Q", 0, "identity"),
        (64, "<I", 65537, "meta text must fit"),
        (64, "<I", 3841, "meta text must fit"),
        (64, "<I", 2**32 - 1, "meta text must fit"),
        (64, "<I", 5, "meta text must spell a dict"),
    ],
)
def test_a_field_out_of_bounds_is_refused(
    name: str, path: Path, whole: bytes, at: int, form: str, value: int, rule: str
) -> None:
    """Each by its own rule."""
    said = refused(name, path, changed(whole, at, form, value))
    assert rule.replace(" . ", " + ") in said


@pytest.mark.parametrize(
    "text",
    [
        b"[1]",
        b"{1: 2}",
        b"{'a': __import__('os')}",
        b"{'a': 1+1}",
        b"{'a': " + b"-" * 3000 + b"1}",
        b"{'a': " + b"[" * 3000 + b"]" * 3000 + b"}",
        b"{'a': 'x",
        b"\xff\xfe",
        b"{'a': f'{1}'}",
        b"{'a': b'\\x00'}}",
        b"(" * 40 + b")" * 40,
        b"\0" * 20,
    ],
)
def test_a_hostile_meta_text_is_refused(name: str, path: Path, whole: bytes, text: bytes) -> None:
    """It is a dict of plain values, or nothing; it is never run."""
    header_size = -(-(256 + len(text)) // 4096) * 4096
    content = changed(changed(whole, 64, "<I", len(text)), 12, "<I", header_size)
    content = content[:256] + text + bytes(header_size - 256 - len(text)) + bytes(100)
    assert "meta text must spell a dict" in refused(name, path, content)


@pytest.mark.parametrize("made", ["array", "bytes"])
def test_the_kind_has_to_be_the_one_that_is_wanted(name: str, made: str) -> None:
    """An array is no ring, and bytes are no array."""
    if made == "array":
        shmkit.create(name, 3, "i4")
        with pytest.raises(shmkit.LayoutMismatch, match="must hold a ring: got an array"):
            Segment._attach(name, kind=_header.KIND_RING)
    else:
        Segment.create(name, 100).close()
        with pytest.raises(shmkit.LayoutMismatch, match="must hold an array: got bytes"):
            shmkit.attach(name)
    shmkit.unlink(name)


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (os.mkdir, "a directory"),
        (os.mkfifo, "a FIFO"),
        (_make_socket, "a socket"),
        (lambda path: os.symlink("/dev/zero", path), "a symbolic link"),
        (lambda path: os.symlink("/nowhere", path), "a symbolic link"),
    ],
    ids=["directory", "fifo", "socket", "link", "dangling-link"],
)
@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("raw", [False, True])
def test_what_is_no_file_is_refused(
    name: str, path: Path, make: Callable[[Path], None], what: str, readonly: bool, raw: bool
) -> None:
    """At once, and without waiting for the other end of a FIFO."""
    make(path)
    try:
        with pytest.raises(shmkit.LayoutMismatch, match=f"got {what} .*{name}"):
            Segment.attach(name, readonly=readonly, raw=raw)
        with pytest.raises(shmkit.SegmentExists):
            Segment.create(name, 10)
    finally:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_a_foreign_segment_is_refused_with_a_hint(name: str, path: Path) -> None:
    """Memory without a header can be attached to as such."""
    assert "raw=True" in refused(name, path, os.urandom(8192))


def test_an_empty_raw_segment_is_refused(name: str, path: Path) -> None:
    """There is nothing to map."""
    path.touch()
    try:
        with pytest.raises(shmkit.LayoutMismatch, match="at least one byte"):
            Segment.attach(name, raw=True)
    finally:
        path.unlink()


def test_a_segment_without_permission_says_whose_it_is(name: str, process: Processes) -> None:
    """A mode that forbids, read-only files for writers: each its own words."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"""
import os, shmkit
shmkit.Segment, shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
for options in ({{}}, {{"readonly": True}}, {{"raw": True}}, {{"owner": 0}}):
    try:
        shmkit.Segment.attach({name!r}, **options)
    except shmkit.SegmentPermission as error:
        print(error.errno, error)
"""
    with Segment.create(name, 10) as segment:
        lines = process.python(code).communicate()[0].splitlines()
        segment.unlink()
    assert len(lines) == 4
    assert all(line.startswith("13 ") and name in line and "65534" in line for line in lines)


def test_another_users_segment_is_attached_to_if_it_is_accepted(name: str, process: Processes) -> None:
    """Its mode has to allow it, and the caller has to name the owner."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"""
import os, shmkit
shmkit.Segment, shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
try:
    shmkit.Segment.attach({name!r})
except shmkit.SegmentPermission as error:
    print(error)
with shmkit.Segment.attach({name!r}, owner=0) as segment:
    print(bytes(segment.buf))
try:
    shmkit.Segment.attach({name!r}, owner=1)
except shmkit.SegmentPermission as error:
    print("again")
"""
    with Segment.create(name, 3, mode=0o666) as segment:
        segment.buf[:] = b"yes"
        lines = process.python(code).communicate()[0].splitlines()
        segment.unlink()
    assert "belongs to user 0" in lines[0]
    assert "owner=0 accepts that" in lines[0]
    assert lines[1:] == ["b'yes'", "again"]


def test_a_segment_that_may_only_be_read_says_so(name: str, process: Processes) -> None:
    """The remedy is in the message."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = f"""
import os, shmkit
shmkit.Segment, shmkit.SegmentPermission  # imported while the files can be read
os.setuid(65534)
try:
    shmkit.Segment.attach({name!r}, owner=0)
except shmkit.SegmentPermission as error:
    print(error)
print(shmkit.Segment.attach({name!r}, owner=0, readonly=True).size)
"""
    with Segment.create(name, 3, mode=0o644) as segment:
        lines = process.python(code).communicate()[0].splitlines()
        segment.unlink()
    assert "readonly=True attaches to it" in lines[0]
    assert lines[1] == "3"
