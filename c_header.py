"""Makes ``shmkit/include/shmkit.h`` of the package's own headers, so that the protocol is written once.

``_program.h`` and what it includes, lowest first, go into one file; every name that they define gets the prefix
``shmkit_`` or ``SHMKIT_``.  ``setup.py`` calls this at each build; ``python c_header.py`` does it by itself.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent / "shmkit"
TARGET = HERE / "include" / "shmkit.h"
TOP = "_program.h"

PREAMBLE = """\
/* shmkit.h: one end of a shmkit ring, for C (C11) and C++ (C++17) programs on Linux.  One file, and no library.
 *
 *     shmkit_producer_t out;                                 a ring has one producer and one consumer, each a process
 *     if (shmkit_producer_attach(&out, "frames") != SHMKIT_OK) …
 *     shmkit_producer_send(&out, bytes, nbytes, 1.0);        seconds; SHMKIT_WAIT_FOREVER
 *     shmkit_producer_close(&out);
 *
 *     shmkit_consumer_t in;
 *     shmkit_record_t record;
 *     shmkit_consumer_attach(&in, "frames");
 *     while (shmkit_consumer_recv_view(&in, &record, SHMKIT_WAIT_FOREVER) == SHMKIT_OK) {
 *         … record.data, record.nbytes, record.array …      read where it lies
 *         shmkit_consumer_release(&in, &record);
 *     }
 *     shmkit_consumer_close(&in);
 *
 * What is for programs stands in the last part, "_program.h".  The rest is the protocol, and may change with any
 * version; what is in shared memory has a number (SHMKIT_LAYOUT_VERSION), and both sides must have the same.
 *
 * It needs what _GNU_SOURCE declares: include it before any system header, or compile with -D_GNU_SOURCE (g++ does).
 * Made from shmkit's own headers when it is built; do not edit it.  */
#ifndef SHMKIT_H
#define SHMKIT_H

#ifndef _GNU_SOURCE
#ifdef _FEATURES_H
#error "include shmkit.h before the system's headers, or compile with -D_GNU_SOURCE"
#endif
#define _GNU_SOURCE
#endif
"""

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"(\w+\.h)"[^\n]*\n', re.MULTILINE)
_GNU = re.compile(r"^#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n", re.MULTILINE)
_GUARD = re.compile(r"\A(/\*.*?\*/\n)#ifndef (\w+)\n#define \2\n(.*)#endif\n\Z", re.DOTALL)
# What is not renamed: comments, strings, the names of system headers.
_PIECE = re.compile(r'(/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|<[\w/]+\.h>)', re.DOTALL)
_DEFINED = (
    re.compile(r"^#[ \t]*define[ \t]+(\w+)", re.MULTILINE),
    re.compile(r"^}[ \t]*(\w+);", re.MULTILINE),  # typedef struct { … } name;
    re.compile(r"^typedef [^\n{]*\(\*(\w+)\)", re.MULTILINE),
    re.compile(r"\bstatic (?:inline |ALWAYS_INLINE )?(?:const )?\w+ \*?(\w+)\("),
    re.compile(r"^static (?!inline)[^\n(=]*?\b(\w+)(?:\[\w+\])?;", re.MULTILINE),
    re.compile(r"\bstatic inline [\w#]+ (\w+)##bits\("),
)
_ENUM = re.compile(r"typedef enum \{(.*?)\}", re.DOTALL)
# Those of the system, which the headers define where it is too old to know them.
_SYSTEM = re.compile(r"_GNU_SOURCE|F_|MFD_|O_|AT_|RENAME_")


def gather(name: str, done: list[str]) -> list[str]:
    """``name`` and what it includes, each after what it needs."""
    if name not in done:
        for below in _INCLUDE.findall((HERE / name).read_text()):
            gather(below, done)
        done.append(name)
    return done


def code_of(text: str) -> str:
    """The text without its comments and strings."""
    return "".join(_PIECE.split(text)[::2])


def defined(text: str) -> set[str]:
    """Every name that the headers would put into a program."""
    code = code_of(text)
    names = {name for pattern in _DEFINED for name in pattern.findall(code)}
    for body in _ENUM.findall(code):
        names.update(re.findall(r"^\s*(\w+)", body, re.MULTILINE))
    for stem in [name for name in names if name.endswith("_u")]:
        names.update(f"{stem}{bits}" for bits in (16, 32, 64))
    return {name for name in names if not _SYSTEM.match(name) and not name.lower().startswith("shmkit")}


def prefixed(name: str) -> str:
    """As programs see it."""
    return f"SHMKIT_{name}" if name.isupper() else f"shmkit_{name}"


def renamed(text: str, names: set[str]) -> str:
    """The text with the names prefixed: all of them in code, in comments those that are not words as well."""

    def any_of(some: set[str]) -> re.Pattern[str]:
        return re.compile(r"\b(" + "|".join(sorted(some, key=len, reverse=True)) + r")\b")

    every, told = any_of(names), any_of({name for name in names if "_" in name})
    pieces = _PIECE.split(text)
    for at, piece in enumerate(pieces):
        if at % 2 == 0:
            pieces[at] = every.sub(lambda found: prefixed(found[1]), piece)
        elif piece.startswith("/*"):
            pieces[at] = told.sub(lambda found: prefixed(found[1]), piece)
    return "".join(pieces)


def make() -> str:
    """The header's text."""
    parts = []
    for name in gather(TOP, []):
        found = _GUARD.match((HERE / name).read_text())
        if found is None:
            raise ValueError(f"{name} must be a comment and an include guard around all of it")
        body = _GNU.sub("", _INCLUDE.sub("", found[1] + found[3]))
        parts.append(f"/* ==== {name} {'=' * (108 - len(name))} */\n\n{body.strip()}\n")
    text = "\n".join(parts)
    return f"{PREAMBLE}\n{renamed(text, defined(text))}\n#endif\n"


def write() -> Path:
    """Writes it, if it is not there as it should be, and says where."""
    text = re.sub(r"\n{3,}", "\n\n", make())
    if not TARGET.exists() or TARGET.read_text() != text:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(text)
    return TARGET


if __name__ == "__main__":
    print(write())
