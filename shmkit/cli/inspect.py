"""Look into one object: what its header says, its counters, who uses it, and its first bytes.

An array is shown by its statistics and as a small picture.  It is read, not attached to: nobody can tell.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmkit.survey import SharedObject
    from shmkit.survey.arrays import Form
    from shmkit.survey.reading import Reading

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "look into one segment, ring, lock or array"

EXAMPLES = """\
  shmkit inspect camera0                a ring: its counters, and both ends
  shmkit inspect picture --bytes 256    an array, with its first 256 bytes
  shmkit inspect memfd:1234/7           anonymous memory, as shmkit ls calls it
  shmkit inspect camera0 --json"""

_BYTES = 64
_SIZES = ("limit", "in_use", "slot_size")
_PICTURE = 20  # lines, at most
_BAD_STATES = ("broken", "corrupt", "half made", "lost", "other version", "unknown kind", "unreadable")
_Section = tuple[str, list[tuple[str, str]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``shmkit inspect``."""
    parser.add_argument("name", metavar="NAME", help="as shmkit ls shows it")
    parser.add_argument("--bytes", type=_count, default=_BYTES, metavar="N", help=f"first bytes, default: {_BYTES}")
    parser.add_argument("--no-picture", action="store_true", help="draw no picture of an array")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _count(text: str) -> int:
    from shmkit.sizes import parse_size

    try:
        number = parse_size(text)
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if number > 2**24:
        raise argparse.ArgumentTypeError(f"at most 16 MiB are shown: got {text}")
    return number


def run(options: argparse.Namespace) -> int:
    """Show it; 1 if it is corrupt."""
    from shmkit.errors import SegmentPermission
    from shmkit.survey import SCHEMA, Survey
    from shmkit.survey.addresses import open_object, resolve

    survey = Survey()
    found = resolve(survey, options.name)
    reading: Reading | None = None
    if found.kind in ("semaphore", "queue"):
        _more_of(found)
    else:
        try:
            reading = open_object(found)
        except SegmentPermission:
            if not options.json:
                _print_sections(_sections(found))
            raise
    try:
        form, statistics, complete = _array(found, reading)
        first = b"" if reading is None else reading.read(found.payload_at, options.bytes)
        if options.json:
            plain = {"schema": SCHEMA, **found.as_json(), "header_bytes": found.payload_at, "first_bytes": first.hex()}
            if form is not None:
                plain["statistics"] = {**statistics, "complete": complete}
            print(json.dumps(plain, indent=2))
        else:
            sections = [*_sections(found)]
            if form is not None:
                sections += _array_sections(form, statistics, complete)
            _print_sections(sections)
            if form is not None and reading is not None and not options.no_picture:
                from shmkit.cli.picture import draw

                draw(reading, found.payload_at, form, _PICTURE)
            _print_bytes(first, found.payload_at)
    finally:
        if reading is not None:
            reading.close()
    return 1 if found.state == "corrupt" else 0


def _more_of(found: SharedObject) -> None:
    """What a queue can hold, which only an open one tells."""
    if found.backing != "posix queue" or not isinstance(found.name, str):
        return
    import posix_ipc

    try:
        queue = posix_ipc.MessageQueue(f"/{found.name}", read=True, write=False)
    except (posix_ipc.Error, OSError, ValueError):
        return
    try:
        found.details.facts.update(
            messages=queue.current_messages, most_messages=queue.max_messages, message_size=queue.max_message_size
        )
    finally:
        queue.close()


def _array(found: SharedObject, reading: Reading | None) -> tuple[Form | None, dict[str, Any], bool]:
    from shmkit.survey import arrays, heading

    if reading is None or found.kind != "array" or not found.details.facts.get("readable"):
        return None, {}, True
    form = arrays.form_of(heading.look(reading))
    if isinstance(form, str):
        return None, {}, True
    values, complete = arrays.sample(reading, found.payload_at, form)
    return form, arrays.statistics(values), complete


# ------------------------------------------------------------------------------------------------------------ sections


def _sections(found: SharedObject) -> Iterator[_Section]:
    from shmkit.cli.words import age, clean, short_size

    what = found.kind
    limit = found.details.facts.get("limit")
    primitive = found.details.facts.get("primitive")
    if isinstance(primitive, str):
        what = primitive
    elif isinstance(found.details.facts.get("queue"), str):
        what = "queue, in a heap of its own"
    if not found.ours:
        what = f"{found.kind}, not shmkit's" if found.state == "foreign" else "not to be read"
    lines = [("what", what)]
    if found.state not in ("whole", "foreign"):
        lines.append(("state", found.state))
    if found.trouble:
        lines.append(("trouble", clean(found.trouble)))
    lines.append(("backing", found.backing))
    if found.path and found.backing != "sysv":
        lines.append(("path", clean(found.path)))
    if found.id is not None:
        lines.append(("id", str(found.id)))
    if found.lifetime:
        until = "until it is unlinked" if found.lifetime == "named" else "until its last user has gone"
        lines.append(("lifetime", f"{found.lifetime}: {until}"))
    if isinstance(limit, int):
        # It has addresses for many times that.
        lines.append(("size", f"at most {short_size(limit)}"))
    elif found.size is not None:
        lines.append(("size", _size(found.size)))
    if found.resident is not None:
        lines.append(("resident", short_size(found.resident)))
    lines.append(("mode", f"{found.mode:04o}, user {found.uid}"))
    if found.created or found.changed:
        when = found.created or found.changed
        verb = "created" if found.created else "changed"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
        lines.append((verb, f"{stamp}, {age(time.time() - when)} ago"))
    if found.creator is not None and found.creator.pid is not None:
        lines.append(("creator", _creator(found)))
    lines += _users(found)
    yield clean(found.address), lines
    yield from _facts(found)


def _size(nbytes: int) -> str:
    from shmkit.cli.words import short_size

    return f"{nbytes} bytes" if nbytes < 1024 else f"{short_size(nbytes)} ({nbytes} bytes)"


def _creator(found: SharedObject) -> str:
    from shmkit.cli.words import clean

    creator = found.creator
    assert creator is not None
    if creator.alive:
        return f"{creator.pid}, {clean(creator.command or 'alive')}"
    return f"{creator.pid}, {'perhaps another process by now' if creator.alive is None else 'dead'}"


def _users(found: SharedObject) -> Iterator[tuple[str, str]]:
    from shmkit.cli.words import clean

    users = [f"{user.pid} {clean(user.command)}" for user in found.users]
    if not found.users_known:
        users.append("perhaps more, which do not show it" if users else "none that show it")
    yield "used by", "; ".join(users) or "nobody"
    if found.attached is not None:
        yield "attached", _many(found.attached, "time")
    if found.leased is not None:
        yield "leases", "some are held" if found.leased else "none is held"


def _facts(found: SharedObject) -> Iterator[_Section]:
    facts = found.details.facts
    if found.kind == "ring" and facts.get("readable"):
        yield from _ring(facts)
    elif found.kind == "sync":
        for cell in facts.get("cells", ()):
            # How often it was taken is a recursive lock's; what a death brings, a word that explains itself.
            left_out = ("at", "cell", "recovers", "depth" if cell["cell"] == "Lock" else "")
            said = {_said(key): _plain(value) for key, value in cell.items() if key not in left_out}
            if "recovers" in cell:
                said["holder's death"] = "frees it" if cell["recovers"] else "is told to the next holder"
            yield f"{cell['cell']} at {cell['at']}", list(said.items())
        if "value" in facts:
            yield str(facts["primitive"]), [("value", str(facts["value"]))]
    elif facts and found.kind != "array":
        plain = {key: value for key, value in facts.items() if key not in ("readable", "queues", "producer")}
        lines = [(_said(key), _size(value) if key in _SIZES else _plain(value)) for key, value in plain.items()]
        if isinstance(facts.get("producer"), dict):
            lines.append(("publisher", _fate(facts["producer"])))
        yield found.kind, lines
        for number, queue in enumerate(facts.get("queues", ()), 1):
            yield f"queue {number}", [(_said(key), _plain(value)) for key, value in queue.items()]
    elif found.details.words and not found.ours:
        from shmkit.cli.words import clean

        yield "likely", [("made by", clean(found.details.words))]


def _ring(facts: dict[str, Any]) -> Iterator[_Section]:
    from shmkit.cli.words import short_size

    capacity, used = facts["capacity"], facts["used"]
    yield (
        "ring",
        [
            ("capacity", _size(capacity)),
            ("used", f"{short_size(used)}, {100 * used / capacity:.0f}%"),
            ("waiting", _many(facts["waiting"], "record")),
            ("sent", f"{_many(facts['sent'], 'record')}, {short_size(facts['bytes_sent'])}"),
            ("received", f"{_many(facts['received'], 'record')}, {short_size(facts['bytes_received'])}"),
            ("head, tail", f"{facts['head']}, {facts['tail']}"),
        ],
    )
    for end in ("producer", "consumer"):
        part = facts[end]
        lines = [("who", _fate(part) + (", asleep" if part["asleep"] and part["state"] == "alive" else ""))]
        lines.append(("slept", _many(part["waits"], "time")))
        lines.append(("woke the other", _many(part["wakes"], "time")))
        if part["holders"] > 1:
            lines.append(("taken", _many(part["holders"], "time")))
        yield end, lines


def _fate(part: dict[str, Any]) -> str:
    who = "nobody" if part["pid"] is None else f"process {part['pid']}"
    fate: str = {
        "never": "nobody has come yet",
        "alive": f"{who}, alive",
        "died": f"{who}, which has died",
        "left": "nobody, the last one has left" if part["pid"] is None else f"{who}, which has left in order",
        "unknown": f"{who}; nobody can be asked whether it lives",
    }.get(part["state"], part["state"])
    return fate


def _array_sections(form: Form, statistics: dict[str, Any], complete: bool) -> Iterator[_Section]:
    lines = [
        ("dtype", str(form.dtype)),
        ("shape", " × ".join(map(str, form.shape)) or "()"),
        ("order", "Fortran" if form.fortran else "C"),
        ("bytes", _size(form.nbytes)),
    ]
    yield "array", lines
    if statistics:
        title = "statistics" if complete else "statistics of a sample"
        yield title, [(_said(key), _plain(value)) for key, value in statistics.items()]


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _said(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)


def _print_sections(sections: Any) -> None:
    from shmkit.cli.table import use_rich, width_of_terminal

    sections = list(sections)
    wide = max(len(label) for _, lines in sections for label, _ in lines)
    columns = width_of_terminal()
    if use_rich():
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for title, lines in sections:
            console.print(Text(title, style="bold"))
            for label, text in lines:
                style = "red" if _is_bad(label, text) else ""
                lines_of_it = _wrapped(text, columns, wide + 4)
                console.print(Text.assemble((f"  {label:<{wide}}  ", "dim"), (lines_of_it, style)), soft_wrap=True)
        return
    for title, lines in sections:
        print(title)
        for label, text in lines:
            print(f"  {label:<{wide}}  {_wrapped(text, columns, wide + 4)}")


def _is_bad(label: str, text: str) -> bool:
    # A state is anybody's: a segment's that is not whole, a lock's that is held, a queue's that is open.
    if label == "state" and text.startswith(_BAD_STATES):
        return True
    return "died" in text or text.endswith(", dead") or label == "trouble"


def _wrapped(text: str, columns: int | None, indent: int) -> str:
    """Text that goes on below itself where the terminal ends; words that are too long stay whole."""
    if columns is None or len(text) + indent <= columns or columns - indent < 20:
        return text
    lines = textwrap.wrap(text, columns - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _print_bytes(first: bytes, payload_at: int) -> None:
    from shmkit.cli.table import show_title

    if not first:
        return
    show_title("first bytes" if not payload_at else f"first bytes of the payload, which begins at {payload_at}")
    for at in range(0, len(first), 16):
        row = first[at : at + 16]
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        print(f"  {at:08x}  {left:<23}  {right:<23}  |{text}|")
