"""Addresses of channels: ``scheme:place?option=value``.

::

    ring://name               pipe:                     fifo:///path
    unix:///path              unix://@name              tcp://host:port
    mq://name                 sysvmq://name-or-key      file:///path
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["EXAMPLES", "Address", "parse_url"]

# Scheme → what its addresses look like.
EXAMPLES = {
    "ring": "ring://name",
    "pipe": "pipe:",
    "fifo": "fifo:///path",
    "unix": "unix:///path or unix://@name",
    "tcp": "tcp://host:port",
    "mq": "mq://name",
    "sysvmq": "sysvmq://name-or-key",
    "file": "file:///path",
}


class Address(NamedTuple):
    """What an address says."""

    url: str
    scheme: str
    place: str
    """A path, or a name."""
    host: str
    port: int
    options: dict[str, str]


def _wrong(url: object, why: str) -> ValueError:
    return ValueError(f"{url!r} is no address of a channel: {why}. Known are {', '.join(EXAMPLES.values())}")


def parse_url(url: str) -> Address:
    """The parts of an address; ValueError says what is wrong with it, and what there is."""
    if not isinstance(url, str):
        raise TypeError(f"the address of a channel is text such as 'ring://name': got {url!r}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _wrong(url, str(error)) from None
    if parts.scheme not in EXAMPLES:
        raise _wrong(url, f"there is no scheme {parts.scheme!r}" if parts.scheme else "it has no scheme")
    if parts.fragment:
        raise _wrong(url, f"what comes after the # ({parts.fragment!r}) means nothing")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    example = EXAMPLES[parts.scheme]
    if parts.scheme == "tcp":
        if parts.path not in ("", "/") or parts.username is not None:
            raise _wrong(url, f"it is written {example}")
        if port is None or not parts.hostname:
            raise _wrong(url, "a TCP address has a host and a port (0, to listen at any)")
        return Address(url, "tcp", "", parts.hostname, port, options)
    if "%00" in url or "\0" in url:
        raise _wrong(url, "it has a zero byte")
    place = unquote(parts.netloc + parts.path)
    if parts.scheme in ("fifo", "file") and place and not place.startswith("/"):
        raise _wrong(url, f"the path is absolute, after two more slashes: {example}")
    if parts.scheme == "unix" and place and not place.startswith(("/", "@")):
        raise _wrong(url, f"the path is absolute, after two more slashes, or a name comes after an @: {example}")
    if parts.scheme in ("ring", "mq") and "/" in place:
        raise _wrong(url, f"a name has no slash: {example}")
    if parts.scheme == "pipe" and place:
        raise _wrong(url, "a pipe has no name")
    return Address(url, parts.scheme, place, "", 0, options)
