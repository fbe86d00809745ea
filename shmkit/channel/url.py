"""Addresses of channels: ``scheme:place?option=value``.

::

    ring://name               pipe:                     fifo:///path
    unix:///path              unix://@name              tcp://host:port
    mq://name                 sysvmq://name-or-key      file:///path
"""

from __future__ import annotations

import re
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
    "sysvmq": "sysvmq://name-or-key or sysvmq:///path",
    "file": "file:///path",
}


# Only TCP has ports: a colon is a part of a name, or of a path.
_SHAPE = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*):(?://)?(?P<place>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)


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
    shape = _SHAPE.fullmatch(url)
    scheme = shape["scheme"].lower() if shape else ""
    if shape is None or scheme not in EXAMPLES:
        raise _wrong(url, f"there is no scheme {scheme!r}" if scheme else "it has no scheme")
    if shape["fragment"]:
        raise _wrong(url, f"what comes after the # ({shape['fragment']!r}) means nothing")
    options: dict[str, str] = {}
    for name, value in parse_qsl(shape["query"] or "", keep_blank_values=True):
        if name in options:
            raise _wrong(url, f"it says twice what option {name!r} is")
        options[name] = value
    example = EXAMPLES[scheme]
    if scheme == "tcp":
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _wrong(url, str(error)) from None
        if parts.path not in ("", "/") or parts.username is not None:
            raise _wrong(url, f"it is written {example}")
        if port is None or not parts.hostname:
            raise _wrong(url, "a TCP address has a host and a port (0, to listen at any)")
        return Address(url, "tcp", "", parts.hostname, port, options)
    if "%00" in url or "\0" in url:
        raise _wrong(url, "it has a zero byte")
    place = unquote(shape["place"])
    if scheme in ("fifo", "file") and place and not place.startswith("/"):
        raise _wrong(url, f"the path is absolute, after two more slashes: {example}")
    if scheme == "unix" and place and not place.startswith(("/", "@")):
        raise _wrong(url, f"the path is absolute, after two more slashes, or a name comes after an @: {example}")
    if place == "@":
        raise _wrong(url, f"a name comes after the @: {example}")
    if scheme in ("ring", "mq") and "/" in place:
        raise _wrong(url, f"a name has no slash: {example}")
    if scheme == "pipe" and place:
        raise _wrong(url, "a pipe has no name")
    return Address(url, scheme, place, "", 0, options)
