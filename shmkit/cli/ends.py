"""Where the messages of a shell pipeline come from and go to: channels, queues and topics, by their addresses."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from shmkit import channel
from shmkit.channel import QueueReceiver
from shmkit.channel.url import EXAMPLES
from shmkit.cli.command import CommandError, words_of
from shmkit.errors import Empty, EndOfStream, Full, NoPeer, PeerDied, SegmentExists, SegmentNotFound, ShutDown
from shmkit.waiting import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmkit import Publisher, Queue, Subscriber
    from shmkit.channel import Channel, Server

__all__ = ["Opening", "Sink", "Source", "open_sink", "open_source"]

# Either end of these may listen; of the other channels, who listens receives.
_EITHER = ("unix", "tcp")
_QUEUE_OPTIONS = ("backpressure", "capacity", "maxsize")
_TOPIC_OPTIONS = ("slot_size", "slots")
_KINDS = {"ring": "ring", "heap": "queue", "topic": "topic"}


class Opening(NamedTuple):
    """How an end is opened: ``listen`` is None where it is not said, ``wait`` is for the other end (None: for ever)."""

    listen: bool | None = None
    wait: float | None = None
    key: bytes | None = None
    leased: bool = False
    replay: bool = True
    follow: bool = False
    latest: bool = False


# ── what messages come from ─────────────────────────────────────────────────────────────────────────────────────────


class Source(ABC):
    """``lasts``: its senders do not say when they have finished, so what is there now is all, unless one follows it."""

    lasts = False

    @abstractmethod
    def take(self, timeout: float | None) -> Any:
        """The next message.  TimeoutError; EndOfStream: there will be no more; PeerDied."""

    @property
    def lost(self) -> int:
        """How many were overtaken before they could be taken."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Let go."""


class _FromChannel(Source):
    def __init__(self, channel: Channel, lasts: bool) -> None:
        self._channel = channel
        self.lasts = lasts

    def take(self, timeout: float | None) -> Any:
        return self._channel.recv(timeout)

    def close(self) -> None:
        self._channel.close(0.0)


class _FromMany(Source):
    """One end after the other, each until its sender has gone."""

    def __init__(self, accept: Callable[[float | None], Channel], close: Callable[[], None]) -> None:
        self._accept = accept
        self._close = close
        self._channel: Channel | None = None

    def take(self, timeout: float | None) -> Any:
        deadline = Deadline(timeout)
        while True:
            if self._channel is None:
                self._channel = self._accept(deadline.left_or_none())
            try:
                return self._channel.recv(deadline.left_or_none())
            except EndOfStream:
                self._leave()
            except PeerDied:
                self._leave()
                raise

    def _leave(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close(0.0)

    def close(self) -> None:
        self._leave()
        self._close()


class _Followed(Source):
    """Beyond the end of one sender: another one may come.  A death is told once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._told = False

    def take(self, timeout: float | None) -> Any:
        deadline = Deadline(timeout)
        pause = 0.001
        while True:
            try:
                value = self._source.take(deadline.left_or_none())
            except EndOfStream:
                pass
            except PeerDied:
                if not self._told:
                    self._told = True
                    raise
            else:
                self._told = False
                return value
            if deadline.passed:
                raise TimeoutError
            time.sleep(min(pause, deadline.left()))
            pause = min(pause * 1.5, 0.05)

    @property
    def lost(self) -> int:
        return self._source.lost

    def close(self) -> None:
        self._source.close()


class _FromQueue(Source):
    lasts = True

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def take(self, timeout: float | None) -> Any:
        try:
            return self._queue.get(True, timeout)
        except Empty:
            raise TimeoutError from None
        except ShutDown as error:
            raise EndOfStream(str(error)) from None

    def close(self) -> None:
        self._queue.close()


class _FromTopic(Source):
    lasts = True

    def __init__(self, subscriber: Subscriber, latest: bool) -> None:
        self._subscriber = subscriber
        self._latest = latest

    def take(self, timeout: float | None) -> Any:
        if self._latest and self._subscriber.pending > 1:
            return self._subscriber.latest(timeout)
        return self._subscriber.recv(timeout)

    @property
    def lost(self) -> int:
        return 0 if self._latest else self._subscriber.lost

    def close(self) -> None:
        self._subscriber.close()


# ── what messages go to ─────────────────────────────────────────────────────────────────────────────────────────────


class Sink(ABC):
    """Takes messages."""

    @abstractmethod
    def put(self, value: Any, timeout: float | None) -> None:
        """Hand over a message.  TimeoutError: there was no room; Broken, ShutDown: nobody will take any."""

    @abstractmethod
    def try_put(self, value: Any) -> bool:
        """The same without waiting; False: there is no room."""

    @abstractmethod
    def close(self, linger: float) -> None:
        """Let go: who receives gets all, and then the end."""


class _ToChannel(Sink):
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def put(self, value: Any, timeout: float | None) -> None:
        self._channel.send(value, timeout)

    def try_put(self, value: Any) -> bool:
        return self._channel.try_send(value)

    def close(self, linger: float) -> None:
        self._channel.close(linger)


class _ToQueue(Sink):
    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def put(self, value: Any, timeout: float | None) -> None:
        try:
            self._queue.put(value, True, timeout)
        except Full as error:
            raise TimeoutError(str(error)) from None

    def try_put(self, value: Any) -> bool:
        try:
            self._queue.put(value, False)
        except Full:
            return False
        return True

    def close(self, linger: float) -> None:
        self._queue.close()


class _ToTopic(Sink):
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def put(self, value: Any, timeout: float | None) -> None:
        self._publisher.publish(value)

    def try_put(self, value: Any) -> bool:
        self._publisher.publish(value)
        return True

    def close(self, linger: float) -> None:
        self._publisher.close()


# ── from an address ─────────────────────────────────────────────────────────────────────────────────────────────────


def open_source(address: str, how: Opening, otherwise: str | None = None) -> Source:
    """What messages are received from; a plain name that nothing has is of the scheme ``otherwise``.

    CommandError says what is wrong with the address, or what came of it.
    """
    scheme = _scheme(address, otherwise)
    url = address if address.startswith(f"{scheme}:") else f"{scheme}://{address}"
    if scheme == "queue":
        _no_ends(url, how)
        return _FromQueue(_found(lambda name: _queue(url, name, {}, how, False), url, how, ()))
    if scheme == "topic":
        _no_ends(url, how)
        source: Source = _FromTopic(_found(lambda name: _subscriber(name, how), url, how, ()), how.latest)
        return _Followed(source) if how.follow else source
    if how.latest:
        raise CommandError(f"{url}: --latest is for topics", usage=True)
    if how.listen is False and scheme not in _EITHER:
        raise CommandError(f"{url}: who connects sends, so a receiver cannot", usage=True)
    options = _options_of(scheme, how)
    if scheme == "file" and not how.replay and "start=" not in url:
        options["start"] = "end"
    if scheme == "file":
        source = _FromChannel(_made("listen", url, how, options), lasts=True)
        return _Followed(source) if how.follow else source
    if how.listen is False:
        return _FromChannel(_made("connect", url, how, options), lasts=False)
    return _again_and_again(scheme, url, how, options) if how.follow else _listening(url, how, options)


def open_sink(address: str, how: Opening, otherwise: str | None = None) -> Sink:
    """What messages are sent to, as `open_source`."""
    scheme = _scheme(address, otherwise)
    url = address if address.startswith(f"{scheme}:") else f"{scheme}://{address}"
    if scheme == "queue":
        _no_ends(url, how)
        name, options = _parts(url, _QUEUE_OPTIONS)
        return _ToQueue(_tried(url, lambda: _queue(url, name, options, how, True)))
    if scheme == "topic":
        _no_ends(url, how)
        name, options = _parts(url, _TOPIC_OPTIONS)
        return _ToTopic(_tried(url, lambda: _publisher(name, options, how)))
    if how.listen and scheme not in _EITHER:
        raise CommandError(f"{url}: who listens receives, so a sender cannot", usage=True)
    return _ToChannel(_made("listen" if how.listen else "connect", url, how, _options_of(scheme, how)))


def _listening(url: str, how: Opening, options: dict[str, Any]) -> Source:
    return _FromChannel(_made("listen", url, how, options), lasts=False)


def _again_and_again(scheme: str, url: str, how: Opening, options: dict[str, Any]) -> Source:
    """One sender after the other."""
    if scheme in _EITHER:
        server: Server = _made("serve", url, how, options)
        return _FromMany(server.accept, server.close)
    # A message queue stays meanwhile, with what has come into it.
    between = {"keep": True} if scheme in ("mq", "sysvmq") and "keep=" not in url else {}
    first: list[Channel] = [_made("listen", url, how, {**options, **between})]
    queue = first[0].queue if between and isinstance(first[0], QueueReceiver) else None

    def accept(timeout: float | None) -> Channel:
        if first:
            return first.pop()
        made: Channel = _made("listen", url, how, {**options, **between})
        return made

    def close() -> None:
        for unused in first:
            unused.close(0.0)
        if queue is not None:
            with contextlib.suppress(SegmentNotFound):
                queue.unlink()

    return _FromMany(accept, close)


def _scheme(address: str, otherwise: str | None) -> str:
    """What kind of a thing an address means; of a plain name, what has it."""
    scheme, colon, _ = address.partition(":")
    if colon and scheme in (*EXAMPLES, "queue", "topic"):
        return scheme
    if "://" in address:
        known = ", ".join(f"{each}://" for each in (*EXAMPLES, "queue", "topic") if each != "pipe")
        raise CommandError(f"{address!r} is no address: it begins with one of {known}", usage=True)
    if "/" in address or not address:
        path = os.path.abspath(address)
        hint = f": of a file it is file://{path}, of a FIFO fifo://{path}, of a socket unix://{path}" if address else ""
        raise CommandError(f"{address!r} is no address{hint}", usage=True)
    from shmkit.segment import posix
    from shmkit.survey import heading
    from shmkit.survey.reading import open_file

    name = unquote(address.partition("?")[0])
    try:
        reading, _ = open_file(f"{posix.FOLDER}/{name}")
        with reading:
            kind = heading.look(reading).kind
    except PermissionError:
        who = f"user {os.geteuid()}"
        raise CommandError(f"{name!r} is not to be read by {who}: shmkit inspect {name} says whose it is") from None
    except (OSError, ValueError):
        if otherwise is None:
            raise CommandError(
                f"there is no ring, queue or topic {name!r}: as an address (ring://{name}, queue://{name}, "
                f"topic://{name}, …) it can be made, or waited for"
            ) from None
        return otherwise
    if kind not in _KINDS:
        raise CommandError(f"{name!r} is no ring, queue or topic: shmkit inspect {name} says what it is")
    return _KINDS[kind]


def _no_ends(url: str, how: Opening) -> None:
    if how.listen is not None:
        raise CommandError(f"{url} has nobody who listens or connects: leave that out", usage=True)


def _parts(url: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    parts = urlsplit(url)
    name = unquote(parts.netloc + parts.path)
    if not name or "/" in name or "\0" in name:
        raise CommandError(f"{url!r} is no address: it is written {parts.scheme}://NAME", usage=True)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for option in options:
        if option not in known:
            raise CommandError(f"{url!r} has no option {option!r}: there are {', '.join(known)}", usage=True)
    return name, options


def _options_of(scheme: str, how: Opening) -> dict[str, Any]:
    if how.key is not None and scheme == "tcp":
        return {"key": how.key}
    if scheme == "tcp":
        raise CommandError("tcp needs a key that both sides know: --key-file FILE", usage=True)
    return {}


def _made(verb: str, url: str, how: Opening, options: dict[str, Any]) -> Any:
    if verb == "connect":
        options = {**options, "timeout": how.wait}
    made = _tried(url, lambda: getattr(channel, verb)(url, **options))
    if ":0" in url and made.url != url:
        print(f"shmkit: listening at {made.url}", file=sys.stderr, flush=True)
    return made


def _tried(url: str, make: Callable[[], Any]) -> Any:
    """What ``make`` makes; what is wrong with the address, or with what it means, as the user's or system's trouble."""
    try:
        return make()
    except (NoPeer, TimeoutError) as error:
        raise CommandError(words_of(error) or f"nobody is at {url}") from None
    except (ValueError, TypeError) as error:
        raise CommandError(str(error), usage=True) from None
    except OSError as error:
        words = words_of(error)
        raise CommandError(words if url in words else f"{url}: {words}") from None


def _found(attach: Callable[[str], Any], url: str, how: Opening, options: tuple[str, ...]) -> Any:
    """What has that name, which is waited for."""
    name, _ = _parts(url, options)
    deadline = Deadline(how.wait)
    pause = 0.001
    while True:
        try:
            return _tried(url, lambda: _here(attach, name))
        except _NotHere:
            if deadline.passed:
                kind = urlsplit(url).scheme
                raise CommandError(f"there is no {kind} {name!r}") from None
        time.sleep(min(pause, deadline.left()))
        pause = min(pause * 1.5, 0.05)


class _NotHere(Exception):
    pass


def _here(attach: Callable[[str], Any], name: str) -> Any:
    try:
        return attach(name)
    except SegmentNotFound:
        raise _NotHere from None


def _queue(url: str, name: str, options: dict[str, str], how: Opening, make: bool) -> Queue:
    from shmkit import Queue

    if not make:
        return Queue.attach(name)
    given: dict[str, Any] = dict(options)
    if "maxsize" in given:
        given["maxsize"] = _number(url, "maxsize", given["maxsize"])
    lifetime: Any = "leased" if how.leased else "named"
    queue: Queue = _attached_or_made(lambda: Queue.attach(name), lambda: Queue.create(name, lifetime=lifetime, **given))
    return queue


def _publisher(name: str, options: dict[str, str], how: Opening) -> Publisher:
    from shmkit import Publisher

    given: dict[str, Any] = dict(options)
    if "slots" in given:
        given["slots"] = _number(f"topic://{name}", "slots", given["slots"])
    lifetime = "leased" if how.leased else "named"
    publisher: Publisher = _attached_or_made(
        lambda: Publisher.attach(name), lambda: Publisher.create(name, lifetime=lifetime, **given)
    )
    return publisher


def _subscriber(name: str, how: Opening) -> Subscriber:
    from shmkit import Subscriber

    return Subscriber.attach(name, replay=how.replay)


def _attached_or_made(attach: Callable[[], Any], make: Callable[[], Any]) -> Any:
    while True:
        with contextlib.suppress(SegmentNotFound):
            return attach()
        # Somebody else may be faster.
        with contextlib.suppress(SegmentExists):
            return make()


def _number(url: str, option: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{url}: option {option!r} is a number: got {text!r}") from None
