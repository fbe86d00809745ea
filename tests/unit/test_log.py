"""Logs: records are there whole or not at all, whatever happened to the file or the writer."""

from __future__ import annotations

import os
import pickle
import random
import re
import signal
import threading
import tracemalloc
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import channel
from shmkit.log import LogReader, LogRecord, LogWriter
from shmkit.log.layout import RECORD, RECORDS_AT, record_size
from support import Processes
from support.interrupting import interrupted

WATCHDOG = 30.0
RECORDS = [b"", b"a", b"eight by", b"x" * 100, bytes(range(256)), b"the last"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write(path: Path, records: list[bytes] = RECORDS) -> None:
    with LogWriter(path) as log:
        for record in records:
            log.append(record)


def read(path: Path, **options: Any) -> list[bytes]:
    with LogReader(path, **options) as log:
        return list(log)


def bounds(records: list[bytes] = RECORDS) -> list[int]:
    """Where each record ends."""
    found = [RECORDS_AT]
    for record in records:
        found.append(found[-1] + record_size(len(record)))
    return found


def test_records_are_replayed_in_order(path: Path) -> None:
    """As often as one likes, each with its number."""
    write(path)
    for _ in range(2):
        assert read(path) == RECORDS
    with LogReader(path) as log:
        assert list(log.records()) == [LogRecord(number, data) for number, data in enumerate(RECORDS)]
        assert log.next_sequence == len(RECORDS)
        log.seek(2)
        assert log.read(0) == RECORDS[2]
        log.seek(2**40)
        with pytest.raises(shmkit.EndOfStream):
            log.read(0)
    assert read(path, start=4) == RECORDS[4:]


def test_a_next_writer_goes_on_where_the_last_one_left(path: Path) -> None:
    """Numbers too."""
    write(path)
    with LogWriter(path) as log:
        assert log.repaired is None
        assert log.next_sequence == len(RECORDS)
        assert log.append(b"more") == len(RECORDS)
        assert log.append([b"in ", bytearray(b"three "), memoryview(b"parts")]) == len(RECORDS) + 1
        assert log.append_many([b"1", b"2"]) == len(RECORDS) + 2
    assert read(path) == [*RECORDS, b"more", b"in three parts", b"1", b"2"]


def test_the_log_cut_at_every_byte(path: Path, tmp_path: Path) -> None:
    """Every complete record is replayed, the torn one is reported, and the next writer goes on after the last whole."""
    write(path)
    text = path.read_bytes()
    ends = bounds()
    assert len(text) == ends[-1]
    cut = tmp_path / "cut"
    for size in range(RECORDS_AT, len(text) + 1):
        cut.write_bytes(text[:size])
        cut.chmod(0o600)
        # Padding is no part of a record: it is whole without.
        whole = sum(start + RECORD.size + len(data) <= size for start, data in zip(ends, RECORDS, strict=False))
        torn = (ends[whole], size - ends[whole], whole) if size > ends[whole] else None
        with LogReader(cut) as log:
            assert list(log) == RECORDS[:whole]
            assert log.tail == torn
        with LogWriter(cut) as writer:
            assert writer.repaired == torn
            assert writer.append(b"after the crash") == whole
        assert read(cut) == [*RECORDS[:whole], b"after the crash"]


def test_a_head_cut_at_every_byte(path: Path, tmp_path: Path) -> None:
    """It is said that this is no log, or the log is made anew; never is something else overwritten."""
    LogWriter.create(path)
    text = path.read_bytes()
    cut = tmp_path / "cut"
    for size in [*range(80), 512, 1024, 4095]:
        cut.write_bytes(text[:size])
        cut.chmod(0o600)
        with LogWriter(cut) as writer:
            writer.append(b"first")
        assert read(cut) == [b"first"]


def test_any_byte_spoilt(path: Path, tmp_path: Path) -> None:
    """No record is other than it was: RecordCorrupt names the place, or the last one is taken for torn."""
    write(path)
    text = path.read_bytes()
    spoilt = tmp_path / "spoilt"
    ends = bounds()
    for at in range(RECORDS_AT, len(text)):
        data = bytearray(text)
        data[at] ^= 0x41
        spoilt.write_bytes(data)
        spoilt.chmod(0o600)
        number = next(number for number, end in enumerate(ends[1:]) if at < end)
        with LogReader(spoilt) as log:
            came: list[bytes] = []
            try:
                came.extend(log)
            except shmkit.RecordCorrupt as error:
                assert f"byte {ends[number]}" in str(error)
                assert came == RECORDS[:number]
            else:
                # Padding, or the last one.
                assert came in (RECORDS, RECORDS[:-1])
        assert read(spoilt, skip_corrupt=True) in (RECORDS, RECORDS[:number] + RECORDS[number + 1 :])


def test_random_spoils(path: Path, tmp_path: Path) -> None:
    """Whatever stands in the file: records that were there, or an error of those that are promised."""
    write(path)
    text = path.read_bytes()
    chance = random.Random(7)
    spoilt = tmp_path / "spoilt"
    for _ in range(500):
        data = bytearray(text)
        for _ in range(chance.randrange(1, 6)):
            where = chance.randrange(len(data))
            data[where : where + chance.randrange(1, 20)] = chance.randbytes(chance.randrange(0, 20))
        spoilt.write_bytes(data[: chance.randrange(len(data) + 1)])
        spoilt.chmod(0o600)
        try:
            assert set(read(spoilt)) <= set(RECORDS)
        except (shmkit.RecordCorrupt, shmkit.LayoutMismatch, shmkit.SegmentNotFound):
            continue


def test_a_length_that_lies_takes_no_memory(path: Path) -> None:
    """A header is believed with its checksum only, and as far as the file goes."""
    write(path, [b"one"])
    with path.open("r+b") as file:
        file.seek(RECORDS_AT)
        header = bytearray(file.read(RECORD.size))
        header[0:8] = (2**60).to_bytes(8, "little")
        file.seek(RECORDS_AT)
        file.write(header)
    assert read(path) == []


def test_what_is_no_log_is_left_alone(path: Path) -> None:
    """A text, a folder, a device, nothing."""
    path.write_text("my diary")
    path.chmod(0o600)
    for call in (LogWriter, LogReader):
        with pytest.raises(shmkit.LayoutMismatch, match="no log"):
            call(path)
    assert path.read_text() == "my diary"
    with pytest.raises(shmkit.SegmentNotFound):
        LogReader(path.with_name("missing"))
    with pytest.raises(ValueError, match="regular"):
        LogReader("/dev/null")


def test_a_log_that_others_can_write_to_is_refused(path: Path) -> None:
    """Unless that is wanted: what a channel reads from it is unpickled."""
    write(path)
    path.chmod(0o666)
    for call in (LogWriter, LogReader):
        with pytest.raises(shmkit.Refused, match="0666"):
            call(path)
    with pytest.raises(shmkit.Refused):
        channel.listen(f"file://{path}")
    assert read(path, trust=True) == RECORDS


def test_one_appends(path: Path) -> None:
    """RoleTaken names the process that does; any number read."""
    with LogWriter(path) as log:
        with pytest.raises(shmkit.RoleTaken, match=str(os.getpid())):
            LogWriter(path)
        log.append(b"x")
        with LogReader(path) as one, LogReader(path) as other:
            assert one.read(WATCHDOG) == other.read(WATCHDOG) == b"x"
            with pytest.raises(TimeoutError):
                one.read(0.01)
            assert one.try_read() is None
    with pytest.raises(shmkit.Closed):
        log.append(b"y")


def test_a_record_that_is_finished_while_it_is_looked_at_is_not_corrupt(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer was slow, so that the record seemed torn at two looks, and then fast: both records are there."""
    from shmkit.log import reader as reading

    write(path, [b"first", b"slow" * 1000, b"fast"])
    whole = path.read_bytes()
    end_of_slow = bounds([b"first", b"slow" * 1000, b"fast"])[2]
    with LogWriter(path):  # somebody appends
        path.write_bytes(whole[: end_of_slow - 100])
        find_whole = reading.find_whole

        def finished(*args: Any) -> int:
            path.write_bytes(whole)
            return find_whole(*args)

        monkeypatch.setattr(reading, "find_whole", finished)
        with LogReader(path) as log:
            assert log.try_read() == b"first"
            assert log.try_read() is None
            assert log.try_read() == b"slow" * 1000
            assert log.try_read() == b"fast"


def test_a_reader_follows(path: Path) -> None:
    """It waits for what comes, and is told of the end."""
    LogWriter.create(path)

    def append() -> None:
        with LogWriter(path) as log:
            for record in RECORDS * 20:
                log.append(record)

    with LogReader(path) as log:
        thread = threading.Thread(target=append)
        thread.start()
        for record in RECORDS * 20:
            assert log.read(WATCHDOG) == record
        with pytest.raises(shmkit.EndOfStream):
            log.read(WATCHDOG)
        thread.join(WATCHDOG)


def test_a_killed_writer(path: Path, process: Processes) -> None:
    """Every record that it appended is whole; then PeerDied, until another writer comes."""
    program = process.python(
        dedent("""
        import sys
        from shmkit.log import LogWriter
        log = LogWriter(sys.argv[1])
        number = 0
        while True:
            log.append(number.to_bytes(4, "little") * (number % 500 + 1))
            number += 1
            if number == 1000:
                print("many", flush=True)
        """),
        path,
    )
    assert program.stdout is not None
    program.stdout.readline()
    with LogReader(path) as log:
        for number in range(500):
            assert log.read(WATCHDOG) == number.to_bytes(4, "little") * (number % 500 + 1)
        program.send_signal(signal.SIGKILL)
        program.wait()
        number = 500
        with pytest.raises(shmkit.PeerDied):
            while True:
                assert log.read(WATCHDOG) == number.to_bytes(4, "little") * (number % 500 + 1)
                number += 1
        with LogWriter(path) as writer:
            assert writer.append(b"next") == number
            assert log.read(WATCHDOG) == b"next"


def test_a_full_disk(path: Path, process: Processes) -> None:
    """NoSpace says how much there is, and the log is as before."""
    program = process.python(
        dedent("""
        import resource, sys, shmkit
        from shmkit.log import LogWriter
        log = LogWriter(sys.argv[1])
        log.append(b"small")
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        for _ in range(2):
            try:
                log.append(bytes(100_000))
            except shmkit.NoSpace as error:
                print(error)
        log.append(b"fits")
        log.close()
        """),
        path,
        text=True,
    )
    output, _ = program.communicate(timeout=WATCHDOG)
    assert program.returncode == 0
    said = r"at most 8 KiB \(RLIMIT_FSIZE: raise it with ulimit -f or resource.setrlimit\); the log is as before"
    assert len(re.findall(said, output)) == 2, output
    assert read(path) == [b"small", b"fits"]


def test_dropping_gives_room_back_and_keeps_numbers(path: Path) -> None:
    """Readers that have not come that far go on with what is left, and count what they lost."""
    records = [bytes([number]) * 20_000 for number in range(50)]
    write(path, records)
    with LogReader(path) as behind:
        assert behind.read(0) == records[0]
        used = path.stat().st_blocks
        with LogWriter(path) as log:
            assert log.drop_before(40) == 40
            assert log.drop_before(40) == 0
            assert log.first_sequence == 40
            with pytest.raises(ValueError, match="up to 49"):
                log.drop_before(51)
        assert path.stat().st_blocks < used
        assert behind.read(0) == records[40]
        assert behind.lost == 39
    with LogReader(path) as log:
        assert [record.sequence for record in log.records()] == list(range(40, 50))
    assert read(path) == records[40:]


@pytest.mark.parametrize("sync", [True, False, 0.0, 10.0])
def test_syncing(path: Path, sync: bool | float) -> None:
    """However often; and flush."""
    with LogWriter(path, sync=sync) as log:
        for record in RECORDS:
            log.append(record)
        log.flush()
    assert read(path) == RECORDS


def append_in_a_child(log: LogWriter) -> type[Exception] | None:
    """What a forked child gets."""
    pid = os.fork()
    if not pid:
        try:
            log.append(b"child")
        except shmkit.Closed:
            os._exit(7)
        os._exit(0)
    return shmkit.Closed if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 else None


def test_a_forked_child_does_not_append(path: Path) -> None:
    """The parent is the writer, and stays so."""
    with LogWriter(path) as log:
        log.append(b"parent")
        assert append_in_a_child(log) is shmkit.Closed
        log.append(b"again")
    assert read(path) == [b"parent", b"again"]


def test_a_channel_replays_objects(path: Path) -> None:
    """From the first one on, from a number on, or only what comes."""
    url = f"file://{path}"
    with channel.connect(url) as sender:
        for number in range(5):
            sender.send({"number": number})
    with channel.listen(url) as receiver:
        assert [value["number"] for value in receiver] == list(range(5))
    with channel.listen(url, start=3) as receiver:
        assert [value["number"] for value in receiver] == [3, 4]
        again = pickle.loads(pickle.dumps(receiver))
        with again, pytest.raises(shmkit.EndOfStream):
            again.recv(0)
    with channel.listen(f"{url}?start=end") as receiver, channel.connect(url) as sender:
        sender.send("new")
        assert receiver.recv(WATCHDOG) == "new"


@pytest.mark.parametrize("at", [0, 1, 4, 8, 17, 30, 3000, 4064, 20_000, 300_000, 799_999])
def test_a_large_message_that_is_spoilt_is_not_given_out(path: Path, at: int) -> None:
    """Wherever in it: it is received straight to where it stays, and counts only if its checksum is right."""
    one, other = np.arange(100_000.0), np.arange(100_000.0) * 2
    with channel.connect(f"file://{path}") as sender:
        sender.send(one)
        sender.send(other)
    text = bytearray(path.read_bytes())
    text[RECORDS_AT + RECORD.size + at] ^= 0x41
    path.write_bytes(text)
    for call in ("recv", "recv_bytes", "try_recv"):
        with channel.listen(f"file://{path}") as receiver, pytest.raises(shmkit.RecordCorrupt, match="record 0"):
            getattr(receiver, call)()
    with channel.listen(f"file://{path}?skip_corrupt=yes") as receiver:
        received = receiver.recv(WATCHDOG)
        assert np.array_equal(received, other)
        assert received.flags.owndata


def test_a_large_message_that_is_being_written(path: Path) -> None:
    """It is waited for, whatever of it is there, also where it is more than the reader takes."""
    with channel.connect(f"file://{path}") as sender:
        sender.send("first")
        size = path.stat().st_size
        sender.send(np.arange(100_000.0))
        whole = path.read_bytes()
        sizes = [size + 10, size + 40, size + 5000, size + 400_000, len(whole) - 1]
        for most in (2**30, 1000):
            with channel.listen(f"file://{path}", max_message=most) as receiver:
                assert receiver.recv(WATCHDOG) == "first"
                for cut in sizes:
                    os.truncate(path, cut)
                    assert receiver.try_recv("not yet") == "not yet"
                    path.write_bytes(whole)
                if most == 1000:
                    with pytest.raises(shmkit.RecordTooLarge):
                        receiver.recv(WATCHDOG)
                else:
                    assert np.array_equal(receiver.recv(WATCHDOG), np.arange(100_000.0))
                assert receiver.try_recv("end") == "end"


def test_a_large_message_goes_into_a_buffer_at_once(path: Path) -> None:
    """The reader takes no memory for it; one that is too long for the buffer stays."""
    array = np.arange(100_000.0)
    with channel.connect(f"file://{path}") as sender:
        sender.send(array)
        sender.send(array)
    with channel.listen(f"file://{path}") as receiver:
        buffer = np.zeros(120_000)
        tracemalloc.start()
        try:
            assert receiver.recv_into(buffer, WATCHDOG) == array.nbytes
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        assert np.array_equal(buffer[:100_000], array)
        assert not buffer[100_000:].any()
        with pytest.raises(ValueError, match="does not fit"):
            receiver.recv_into(bytearray(5000), WATCHDOG)
        assert np.array_equal(receiver.recv(WATCHDOG), array)


def test_what_is_whole_of_a_spoilt_log_is_copied_to_a_new_one(path: Path) -> None:
    """Nobody appends to the spoilt one, and its writer is told what to do instead."""
    write(path)
    text = bytearray(path.read_bytes())
    text[bounds()[3] + RECORD.size + 5] ^= 1
    path.write_bytes(text)
    with pytest.raises(shmkit.RecordCorrupt, match=r"record 3 .*skip_corrupt=True reads on there"):
        read(path)
    for append in (LogWriter, lambda path: channel.connect(f"file://{path}")):
        with pytest.raises(shmkit.RecordCorrupt, match=r"LogReader\(path, skip_corrupt=True\), to a new log"):
            append(path)
    copy = path.with_name("copy")
    with LogReader(path, skip_corrupt=True) as old, LogWriter(copy) as new:
        for record in old:
            new.append(record)
        assert old.skipped == 1
    whole = RECORDS[:3] + RECORDS[4:]
    assert read(copy) == whole
    with LogWriter(copy) as log:
        assert log.append(b"more") == len(whole)


@pytest.mark.parametrize("cut", range(1, 6))
def test_the_end_is_behind_a_record_whose_padding_is_cut(path: Path, cut: int) -> None:
    """It is whole: who starts at the end does not receive it, and the next record follows it."""
    url = f"file://{path}"
    write(path, [b"first", b"abc"])
    os.truncate(path, path.stat().st_size - cut)
    with LogReader(path) as log:
        log.seek(2**62)
        assert log.next_sequence == 2
        log.seek(1)
        assert log.try_read() == b"abc"
    with channel.listen(f"{url}?start=end") as receiver, channel.connect(url) as sender:
        sender.send("new")
        assert receiver.recv(WATCHDOG) == "new"


def test_bad_arguments(path: Path) -> None:
    """Each is named."""
    with pytest.raises((TypeError, ValueError)):
        LogWriter(path, sync="often")  # type: ignore[arg-type]
    with LogWriter(path) as log:
        with pytest.raises(TypeError):
            log.append("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="contiguous"):
            log.append(memoryview(b"abcdef")[::2])
        assert log.append(b"well") == 0
        for wrong in ("a", 1.5, None, True):
            with pytest.raises(TypeError, match=r"the number of a record is a whole number: got "):
                log.drop_before(wrong)  # type: ignore[arg-type]
    assert read(path) == [b"well"]
    for wrong in ("a", 1.5, True):
        with pytest.raises(TypeError, match=r"the number of a record is a whole number: got "):
            LogReader(path, wrong)  # type: ignore[arg-type]
    with LogReader(path) as reader, pytest.raises(TypeError, match="got 'a', a str"):
        reader.seek("a")  # type: ignore[arg-type]


def test_following_is_told_by_the_kernel(tmp_path: Path) -> None:
    """Who waits wakes for a record, a writer's end and a writer's death; where no watches are left, a little later."""
    path = tmp_path / "log"
    with LogWriter(path) as writer, LogReader(path) as reader:
        threading.Timer(0.05, writer.append, (b"one",)).start()
        assert reader.read(WATCHDOG) == b"one"
        assert reader._hint is not None
        assert reader._hint.told
        threading.Timer(0.05, writer.close).start()
        with pytest.raises(shmkit.EndOfStream):
            reader.read(WATCHDOG)


def test_a_forked_reader_has_a_watch_of_its_own(tmp_path: Path, process: Processes) -> None:
    """What is told the parent is told the child as well."""
    path = tmp_path / "log"
    with LogWriter(path) as writer, LogReader(path) as reader:
        with pytest.raises(TimeoutError):
            reader.read(0.01)

        def child() -> None:
            os._exit(0 if reader.read(WATCHDOG) == b"one" and reader._hint.told else 1)  # type: ignore[union-attr]

        forked = process(child)
        writer.append(b"one")
        assert reader.read(WATCHDOG) == b"one"
        forked.join(WATCHDOG)
        assert forked.exitcode == 0


@pytest.mark.parametrize("call", ["append", "append_many", "flush", "drop_before", "close"])
def test_a_handler_does_not_wait_for_the_call_that_it_interrupts(path: Path, call: str) -> None:
    """At whichever line of it: it is served, or told; where it closes, the call is done first."""
    arguments = {"append": [b"handler"], "append_many": [[b"handler"]], "drop_before": [0]}.get(call, [])
    told: list[Any] = []
    while True:
        with LogWriter(path) as log:
            with interrupted(("log/writer.py",), len(told) + 1, partial(getattr(log, call), *arguments)) as came:
                try:
                    log.append(b"a record")
                except shmkit.Closed:
                    assert call == "close"
            assert log.closed == (call == "close" and bool(came))
        with LogReader(path) as reader:
            assert set(reader) <= {b"a record", b"handler"}
            with pytest.raises(shmkit.EndOfStream):
                reader.read(WATCHDOG)
        if not came:
            break
        told += came
    assert len(told) > 10
    errors = [error for error in told if isinstance(error, Exception)]
    assert all(isinstance(error, RuntimeError) and "in use by this very thread" in str(error) for error in errors)
    assert bool(errors) == (call != "close")


def test_a_child_that_is_forked_while_a_thread_appends_does_not_wait(path: Path) -> None:
    """It is told that the log is its parent's, though the thread that had its turn is not there to give it."""
    with LogWriter(path) as log:
        taken: list[Any] = []
        thread = threading.Thread(target=lambda: taken.append(log._begin()))
        thread.start()
        thread.join()
        assert append_in_a_child(log) is shmkit.Closed
        taken[0].give()
