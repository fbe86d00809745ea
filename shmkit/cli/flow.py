"""Messages from a source to standard output, and from standard input to sinks: what cat, tee, pub and sub share.

A signal that ends programs, and a reader of standard output that leaves, end this one as they end coreutils': silently,
and by that signal; but what is open is closed first, so that the other end sees an end and no death.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from shmkit.channel import LINGER
from shmkit.cli.command import TIME_IS_UP, TROUBLE, CommandError, discard_output, words_of
from shmkit.cli.ends import Opening, Sink, Source, open_sink
from shmkit.cli.formats import Format, Message, format_of
from shmkit.errors import Broken, EndOfStream, PeerDied, ShmkitError, ShutDown
from shmkit.waiting import Deadline

if TYPE_CHECKING:
    import argparse
    from types import FrameType

__all__ = [
    "as_coreutils",
    "format_of_options",
    "messages_of_arguments",
    "messages_of_input",
    "opening_of",
    "receive",
    "send_to",
]

# So often it is looked whether anybody still reads standard output.
_LOOK = 0.2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# ── what the options say ──────────────────────────────────────────────────────────────────────────────────────────────


def opening_of(options: argparse.Namespace, **more: Any) -> Opening:
    """How the options have an end opened."""
    key = None
    if options.key_file is not None:
        try:
            with open(options.key_file, "rb") as file:
                key = file.read().rstrip(b"\r\n")
        except OSError as error:
            raise CommandError(f"--key-file {options.key_file}: {words_of(error)}") from None
    return Opening(options.listen, options.wait, key, **more)


def format_of_options(options: argparse.Namespace) -> Format:
    """How the options have messages told apart."""
    return format_of(options.format, options.null)


# ── ends of a process ───────────────────────────────────────────────────────────────────────────────────────────────


class _Signalled(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _NobodyReads(BaseException):
    pass


def as_coreutils(work: Callable[[], int]) -> int:
    """What ``work`` returns; unless a signal ends it, or nobody reads its output: then the process ends by that."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            # What was to be ignored from the start (nohup, a shell's background) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _raise_signalled)
    try:
        try:
            return work()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    except _Signalled as ended:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        return _end_by(ended.number)
    except _NobodyReads:
        return _end_by(signal.SIGPIPE)


def _raise_signalled(number: int, frame: FrameType | None) -> None:
    # A second one does not wait until all is closed.
    for each in _ENDING:
        if signal.getsignal(each) is _raise_signalled:
            signal.signal(each, signal.SIG_DFL)
    raise _Signalled(number)


def _end_by(number: int) -> int:
    """Ends this process by a signal, for whoever waits for it to see."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # What could not be written is not tried again.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    return 128 + number


class _Output:
    """Standard output: messages are written at once where nothing more is here, and together where more is."""

    def __init__(self) -> None:
        self._stream: BinaryIO = sys.stdout.buffer
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError, ValueError):
            self._poll = select.poll()
            self._poll.register(self._stream.fileno(), 0)

    def write(self, parts: Iterable[Any]) -> None:
        with self._readers():
            for part in parts:
                self._stream.write(part)

    def flush(self) -> None:
        with self._readers():
            self._stream.flush()

    def look(self) -> None:
        """Notices that nobody reads any more, before there is anything to write."""
        if self._poll is not None and self._poll.poll(0):
            raise _NobodyReads

    @contextlib.contextmanager
    def _readers(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise _NobodyReads from None
        except OSError as error:
            discard_output()  # what is still to be written would fail again, at the end
            raise CommandError(f"standard output: {words_of(error)}") from None


# ── to standard output ──────────────────────────────────────────────────────────────────────────────────────────────


def receive(
    source: Source, form: Format, options: argparse.Namespace, follow: bool, already: int = 0
) -> tuple[int, int]:
    """Write what comes, until the end; the exit status, and how many messages there were, ``already`` among them."""
    output = _Output()
    received = already
    try:
        while options.count is None or received < options.count:
            status = _receive_one(source, form, options, follow, output)
            if status is None:
                received += 1
            elif status >= 0:
                return status, received
    finally:
        # What was taken is shown, also where what came next could not be.
        if not isinstance(sys.exc_info()[1], _NobodyReads):
            output.flush()
        if source.lost:
            print(f"shmkit: {source.lost} messages were overtaken before they could be read", file=sys.stderr)
    return 0, received


def _receive_one(
    source: Source, form: Format, options: argparse.Namespace, follow: bool, output: _Output
) -> int | None:
    """The status that this is the end with; None: a message was written; negative: there was none, but go on."""
    try:
        output.write(form.write(_next(source, options.timeout, follow, output)))
    except (EndOfStream, _Enough):
        return 0
    except PeerDied as error:
        output.flush()
        print(f"shmkit: {words_of(error)}", file=sys.stderr, flush=True)
        # All that there is of a log has been read, whoever wrote it.
        return -1 if follow else 0 if source.lasts else TROUBLE
    except TimeoutError:
        output.flush()
        print(f"shmkit: no message within {options.timeout:g} s", file=sys.stderr)
        return TIME_IS_UP
    return None


class _Enough(Exception):
    pass


def _next(source: Source, timeout: float | None, follow: bool, output: _Output) -> Any:
    try:
        return source.take(0)
    except TimeoutError:
        if source.lasts and not follow:
            raise _Enough from None
    output.flush()
    deadline = Deadline(timeout)
    while True:
        output.look()
        try:
            return source.take(min(_LOOK, deadline.left()))
        except TimeoutError:
            if deadline.passed:
                raise


# ── from standard input ─────────────────────────────────────────────────────────────────────────────────────────────


def messages_of_input(form: Format) -> Iterator[Message]:
    """What comes in, message by message."""
    # Without standard input there is nothing on it.
    stream: BinaryIO = io.BytesIO() if sys.stdin is None else sys.stdin.buffer
    messages = form.read(stream)
    while True:
        try:
            message = next(messages)
        except StopIteration:
            return
        except OSError as error:
            raise CommandError(f"standard input: {words_of(error)}") from None
        yield message


def messages_of_arguments(form: Format, words: Sequence[str]) -> list[Message]:
    """What the command line gives, one message each."""
    messages = []
    for word in words:
        data = os.fsencode(word)
        try:
            messages.append(Message(form.parse(data), data))
        except ValueError as error:
            raise CommandError(f"message {word!r} is {error}", usage=True) from None
    return messages


def send_to(
    addresses: Sequence[str],
    messages: Iterable[Message],
    how: Opening,
    options: argparse.Namespace,
    *,
    copy: bool = False,
    otherwise: str | None = None,
) -> int:
    """Hand each message to all addresses, and to standard output if ``copy``; the exit status.

    An address that nobody receives from any more is left, and the others go on.
    """
    sinks: dict[str, Sink] = {}
    linger = 0.0
    try:
        for address in addresses:
            if address not in sinks:
                sinks[address] = open_sink(address, how, otherwise)
        status = _send(sinks, messages, options, _Output() if copy else None)
        linger = LINGER
    finally:
        closed = [_closed(address, sink, linger) for address, sink in sinks.items()]
    return status if all(closed) else TROUBLE


def _closed(address: str, sink: Sink, linger: float) -> bool:
    try:
        sink.close(linger)
    except (ShmkitError, OSError) as error:
        print(f"shmkit: {address}: {words_of(error)}", file=sys.stderr)
        return False
    return True


def _send(
    sinks: dict[str, Sink], messages: Iterable[Message], options: argparse.Namespace, output: _Output | None
) -> int:
    left = dict(sinks)
    dropped = 0
    for sent, message in enumerate(messages, 1):
        if output is not None:
            output.write([message.raw])
            output.flush()
        for address, sink in list(left.items()):
            taken = _put(address, sink, message, options)
            dropped += taken is False
            if taken is None:
                del left[address]
        if (not left and output is None) or sent == options.count:
            break
    if dropped:
        print(f"shmkit: {dropped} messages were dropped: there was no room for them", file=sys.stderr)
    return 0 if len(left) == len(sinks) else TROUBLE


def _put(address: str, sink: Sink, message: Message, options: argparse.Namespace) -> bool | None:
    """Whether it was taken; None: nobody is there any more."""
    try:
        if options.drop:
            return sink.try_put(message.value)
        sink.put(message.value, options.timeout)
    except TimeoutError:
        raise CommandError(f"{address} had no room within {options.timeout:g} s", status=TIME_IS_UP) from None
    except (Broken, ShutDown) as error:
        print(f"shmkit: {address}: {words_of(error)}", file=sys.stderr, flush=True)
        return None
    except (ShmkitError, OSError, TypeError, ValueError) as error:
        raise CommandError(f"{address}: {words_of(error)}") from None
    return True
