"""Draws the pictures of the documentation: ``python docs/drawings/draw.py`` writes them beside this file.

A picture is a function that returns a ``Sheet``.  Coordinates are pixels, y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

INK, FAINT, PAPER = "#1f2933", "#7b8794", "#fbfbf8"
BLUE, ORANGE, GREEN, GREY, RED = "#2f6fb3", "#e08b27", "#4c9f70", "#d9dde2", "#c0392b"
PALE = {BLUE: "#cfe0f2", ORANGE: "#f8dfc0", GREEN: "#d2ead9", GREY: "#eef0f2", RED: "#f3d0cb"}


class Sheet:
    """An SVG under construction."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="Helvetica, Arial, sans-serif" font-size="14">\n<title>{escape(title)}</title>\n'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 10 5 0 10z" fill="{INK}"/></marker></defs>\n'
        )
        self._parts = [f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>']

    def box(self, x: float, y: float, width: float, height: float, colour: str = GREY, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{PALE[colour]}" '
            f'stroke="{FAINT if colour == GREY else colour}"{dash}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "middle",
        colour: str = INK,
        size: int = 14,
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="bold"' if bold else ""
        for number, line in enumerate(words.split("\n")):
            self._parts.append(
                f'<text x="{x:g}" y="{y + number * (size + 4):g}" text-anchor="{anchor}" fill="{colour}" '
                f'font-size="{size}"{weight}>{escape(line)}</text>'
            )

    def line(
        self, points: list[tuple[float, float]], *, tip: bool = False, colour: str = INK, dashed: bool = False
    ) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        marks = (' marker-end="url(#tip)"' if tip else "") + (' stroke-dasharray="5 4"' if dashed else "")
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{marks}/>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.line([(x1, y1), (x2, y2)], tip=True)

    def sector(self, x: float, y: float, inner: float, outer: float, start: float, stop: float, colour: str) -> None:
        """A piece of a ring; angles in degrees, 0 at the top, clockwise."""
        a, b = (math.radians(angle - 90) for angle in (start, stop))
        large = int(stop - start > 180)
        corners = [
            (r * math.cos(t) + x, r * math.sin(t) + y) for r, t in ((outer, a), (outer, b), (inner, b), (inner, a))
        ]
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
        self._parts.append(
            f'<path d="M{ax:.1f} {ay:.1f}A{outer} {outer} 0 {large} 1 {bx:.1f} {by:.1f}L{cx:.1f} {cy:.1f}'
            f'A{inner} {inner} 0 {large} 0 {dx:.1f} {dy:.1f}Z" fill="{PALE[colour]}" '
            f'stroke="{FAINT if colour == GREY else colour}"/>'
        )

    def cross(self, x: float, y: float) -> None:
        for sign in (1, -1):
            self._parts.append(
                f'<path d="M{x - 7:g} {y - 7 * sign:g}L{x + 7:g} {y + 7 * sign:g}" stroke="{RED}" stroke-width="3"/>'
            )

    def __str__(self) -> str:
        return self._head + "\n".join(self._parts) + "\n</svg>\n"


def ring() -> Sheet:
    """One producer, one consumer, records of any size between head and tail."""
    sheet = Sheet(760, 360, "A ring: records between head and tail, free room beyond")
    x, y, inner, outer = 380, 180, 86, 140

    def at(angle: float, radius: float) -> tuple[float, float]:
        turned = math.radians(angle - 90)
        return x + radius * math.cos(turned), y + radius * math.sin(turned)

    spans = [
        (300, 345, BLUE),
        (345, 400, BLUE),
        (400, 412, BLUE),
        (412, 468, BLUE),
        (468, 520, ORANGE),
        (520, 660, GREY),
    ]
    for start, stop, colour in spans:
        sheet.sector(x, y, inner, outer, start, stop, colour)
    for angle, words in ((322, "7"), (372, "8"), (406, "9"), (440, "10"), (494, "11")):
        px, py = at(angle, (inner + outer) / 2)
        sheet.text(px, py + 5, words)
    sheet.text(*at(590, 113), "free")
    for angle in (300, 468):
        sheet.line([at(angle, inner - 6), at(angle, outer + 14)], colour=INK)
    sheet.text(at(300, 160)[0] - 4, at(300, 160)[1] + 10, "head", bold=True, anchor="end")
    sheet.text(at(468, 160)[0] + 6, at(468, 160)[1] + 8, "tail", bold=True, anchor="start")
    sheet.text(x, y - 8, "capacity\na power of two", size=13, colour=FAINT)
    sheet.box(24, 60, 150, 52, GREEN)
    sheet.text(99, 82, "consumer", bold=True)
    sheet.text(99, 101, "stores head alone", size=12)
    sheet.box(586, 262, 150, 52, ORANGE)
    sheet.text(661, 284, "producer", bold=True)
    sheet.text(661, 303, "stores tail alone", size=12)
    sheet.arrow(586, 288, *at(494, outer + 2))
    sheet.arrow(*at(318, outer + 2), 176, 92)
    sheet.text(740, 40, "blue: records that were committed;\nwhole, and the consumer's", anchor="end", size=12)
    sheet.text(740, 84, "orange: being written;\nnobody else sees it before tail moves", anchor="end", size=12)
    sheet.text(
        24,
        300,
        "Whoever is killed has not\nmoved its word: nothing\nis torn, nothing is lost.",
        anchor="start",
        size=12,
    )
    return sheet


def heap() -> Sheet:
    """What a queue hands on: cells in order, and blocks that belong to one at a time."""
    sheet = Sheet(760, 350, "A queue and the heap behind it: an array is copied once, and then its block changes hands")
    for left, name, colour in ((24, "producer", ORANGE), (606, "consumer", GREEN)):
        sheet.box(left, 24, 130, 56, colour)
        sheet.text(left + 65, 57, name, bold=True)
    sheet.text(380, 34, "the queue: a ring of cells", bold=True)
    words = ["", "“ok”", "●", "3.5", "●", ""]
    for number, word in enumerate(words):
        left = 210 + number * 58
        sheet.box(left, 48, 54, 40, BLUE if word else GREY)
        sheet.text(left + 27, 73, word)
    sheet.text(
        380, 242, "small items stand in their cell; of larger ones the cell names the block", size=12, colour=FAINT
    )
    sheet.arrow(606, 60, 560, 60)
    sheet.arrow(154, 60, 206, 60)
    sheet.text(583, 50, "get", size=12)
    sheet.text(180, 50, "put", size=12)
    sheet.text(24, 176, "the heap:\nblocks of\nall sizes", anchor="start", bold=True)
    blocks = [
        (120, 90, ORANGE, "held by the\nproducer"),
        (214, 120, BLUE, "queued"),
        (338, 60, GREY, "free"),
        (402, 150, BLUE, "queued"),
        (556, 60, GREY, "free"),
        (620, 116, GREEN, "held by the\nconsumer"),
    ]
    for left, width, colour, word in blocks:
        sheet.box(left, 160, width, 60, colour)
        sheet.text(left + width / 2, 194 - 9 * word.count("\n"), word, size=12)
    sheet.line([(353, 88), (353, 128), (274, 128), (274, 158)], tip=True)
    sheet.line([(469, 88), (469, 158)], tip=True)
    sheet.line([(65, 80), (65, 140), (165, 140), (165, 158)], tip=True)
    sheet.text(70, 132, "copies once", anchor="start", size=12)
    sheet.line([(678, 80), (678, 158)], tip=True)
    sheet.text(672, 132, "an array, no copy", anchor="end", size=12)
    steps = ["free", "held", "queued", "held", "free"]
    notes = ["take", "put", "get", "the last view goes"]
    colours = [GREY, ORANGE, BLUE, GREEN, GREY]
    for number, step in enumerate(steps):
        left = 50 + number * 150
        sheet.box(left, 262, 76, 30, colours[number])
        sheet.text(left + 38, 282, step, size=13)
        if number < 4:
            sheet.arrow(left + 78, 277, left + 148, 277)
            sheet.text(left + 113, 268, notes[number].split()[0] if number < 3 else "let go", size=12)
    sheet.text(
        380,
        324,
        "Each step is one compare-and-swap on one word, so whoever is killed leaves a block in one of these states.",
        size=12,
    )
    return sheet


def lifetimes() -> Sheet:
    """Who keeps shared memory, and when it goes."""
    sheet = Sheet(
        760, 420, "Lifetimes: anonymous and leased memory goes with its last process, named memory when it is unlinked"
    )
    sheet.text(24, 34, "time →", anchor="start", size=12, colour=FAINT)
    rows = [
        ("anonymous", "shmkit.zeros(…)\nRing.create()", 640, "the kernel\nfrees it"),
        ("leased", 'create(name,\nlifetime="leased")', 640, "its name\ngoes, too"),
        ("named", "create(name)", 736, "until unlink(),\nas a file"),
    ]
    for number, (kind, made, until, why) in enumerate(rows):
        top = 56 + number * 118
        sheet.text(24, top + 22, kind, anchor="start", bold=True)
        sheet.text(24, top + 42, made, anchor="start", size=12, colour=FAINT)
        sheet.box(170, top, 260, 26, ORANGE)
        sheet.text(180, top + 18, "process A makes it", anchor="start", size=12)
        sheet.cross(430, top + 13)
        sheet.box(300, top + 32, 340, 26, GREEN)
        sheet.text(310, top + 50, "process B attaches, and outlives A", anchor="start", size=12)
        sheet.cross(640, top + 45)
        sheet.box(170, top + 66, until - 170, 22, BLUE)
        sheet.text(180, top + 82, "the memory", anchor="start", size=12)
        sheet.text(652, top + (12 if number == 2 else 76), why, anchor="start", size=12)
    sheet.cross(40, 398)
    sheet.text(
        56,
        403,
        "kill -9, a crash, or an orderly end: it makes no difference to any of the three",
        anchor="start",
        size=12,
    )
    return sheet


def topic() -> Sheet:
    """One publisher, subscribers at their own pace."""
    sheet = Sheet(760, 290, "A topic: one publisher that never waits, subscribers each at their own place")
    sheet.box(24, 24, 130, 52, ORANGE)
    sheet.text(89, 55, "publisher", bold=True)
    values = [
        ("12", GREY),
        ("13", BLUE),
        ("14", BLUE),
        ("15", BLUE),
        ("16", BLUE),
        ("17", BLUE),
        ("18", BLUE),
        ("19", ORANGE),
    ]
    for number, (word, colour) in enumerate(values):
        left = 190 + number * 68
        sheet.box(left, 104, 64, 48, colour, dashed=colour == GREY)
        sheet.text(left + 32, 133, word)
    sheet.text(222, 170, "overwritten", size=12, colour=FAINT)
    sheet.text(698, 170, "being written", size=12, colour=FAINT)
    sheet.line([(154, 50), (698, 50), (698, 102)], tip=True)
    sheet.text(430, 42, "writes the next value over the oldest, whoever has or has not read it", size=12)
    who = [
        (222, "too slow", "lost == 1, goes on at 13"),
        (426, "recv()", "each value, in order"),
        (630, "latest()", "the newest, always"),
    ]
    for x, name, word in who:
        sheet.box(x - 90, 214, 180, 52, RED if name == "too slow" else GREEN)
        sheet.text(x, 236, f"subscriber: {name}", size=13, bold=True)
        sheet.text(x, 255, word, size=12)
        sheet.line([(x, 154 if x > 222 else 176), (x, 212)], tip=True)
    return sheet


def lease() -> Sheet:
    """What keeps the lock that says that a process lives."""
    sheet = Sheet(760, 300, "A lease: a lock that belongs to an open file, which a mapped page keeps open")
    sheet.box(24, 44, 190, 150, ORANGE)
    sheet.text(119, 34, "process A", bold=True)
    sheet.box(44, 62, 150, 44, BLUE)
    sheet.text(119, 89, "the memory, mapped", size=12)
    sheet.box(44, 122, 150, 56, GREEN)
    sheet.text(119, 146, "one more page,\nwhich forks leave out", size=12)
    sheet.box(286, 122, 136, 56, GREY)
    sheet.text(354, 146, "an open file,\nwithout descriptor", size=12)
    sheet.arrow(194, 150, 284, 150)
    sheet.text(240, 140, "keeps open", size=12)
    sheet.box(500, 44, 236, 150, GREY)
    sheet.text(618, 34, "the segment's file", bold=True)
    sheet.box(516, 62, 204, 44, BLUE)
    sheet.text(618, 89, "header and payload", size=12)
    sheet.line([(516, 114), (720, 114)], colour=FAINT, dashed=True)
    sheet.text(618, 132, "beyond its end, nothing is stored", size=12, colour=FAINT)
    sheet.box(516, 142, 204, 36, RED)
    sheet.text(618, 165, "one byte, locked", size=12, bold=True)
    sheet.arrow(422, 150, 514, 158)
    sheet.text(460, 136, "has the lock", size=12)
    sheet.box(500, 230, 236, 46, GREEN)
    sheet.text(618, 250, "process B asks the kernel:", size=12, bold=True)
    sheet.text(618, 267, "is that byte locked?", size=12)
    sheet.arrow(618, 230, 618, 180)
    sheet.cross(40, 232)
    sheet.text(
        58,
        236,
        "kill -9, exit or exec: the page goes,\nso the open file goes, so the lock goes.\n"
        "Stopped or slow: all three stay.",
        anchor="start",
        size=12,
    )
    return sheet


def handshake() -> Sheet:
    """Why neither side misses the other: two stores, two looks, one order."""
    sheet = Sheet(760, 330, "Announce, look again, park: whichever store comes first, the other side's look finds it")
    panels = (
        (24, "the record comes before the second look", True),
        (392, "the record comes after the second look", False),
    )
    for left, title, early in panels:
        sheet.text(left + 172, 34, title, bold=True, size=13)
        sheet.text(left + 74, 60, "consumer", bold=True, size=12, colour=GREEN)
        sheet.text(left + 270, 60, "producer", bold=True, size=12, colour=ORANGE)
        rows = (72, 166, 118, 212) if early else (72, 118, 166, 212)
        announce, look, store, bell = rows
        for x, bottom in ((left + 74, look), (left + 270, bell)):
            sheet.line([(x, 68), (x, bottom)], colour=FAINT, dashed=True)
        for top, at, words, colour in (
            (announce, 74, "bell := 1", GREEN),
            (look, 74, "look at tail", GREEN),
            (store, 270, "tail := new", ORANGE),
            (bell, 270, "look at the bell", ORANGE),
        ):
            sheet.box(left + at - 62, top, 124, 30, colour)
            sheet.text(left + at, top + 20, words, size=12)
        if early:
            sheet.line([(left + 208, store + 18), (left + 138, look + 12)], tip=True, colour=BLUE)
            sheet.text(left + 176, look + 26, "finds it", size=12, colour=BLUE)
            sheet.text(left + 74, 234, "does not sleep", size=12, bold=True)
            sheet.text(left + 270, 268, "at worst a wake-up\nfor nobody", size=12)
        else:
            sheet.line([(left + 136, announce + 18), (left + 206, bell + 10)], tip=True, colour=BLUE)
            sheet.text(left + 150, 186, "finds it", size=12, colour=BLUE)
            sheet.text(left + 74, 168, "nothing: sleeps", size=12, bold=True)
            sheet.line([(left + 208, 264), (left + 140, 264)], tip=True)
            sheet.text(left + 270, 268, "wakes it", size=12, bold=True)
            sheet.text(left + 74, 268, "goes on", size=12, bold=True)
    sheet.text(
        380,
        318,
        "All four are in one order (seq), so one of the two looks comes after the other side's store.",
        size=12,
    )
    return sheet


def segment() -> Sheet:
    """What lies in a segment, and what the payload is by its kind."""
    sheet = Sheet(760, 426, "A segment: a header that says what it is, the payload, and locks beyond the end")
    top = 44
    for left, width, colour, words in (
        (24, 176, GREEN, "header\nmagic, sizes, kind, creator"),
        (200, 96, GREEN, "text\ndtype, shape"),
        (296, 270, BLUE, "payload\nfrom the second page on"),
        (590, 146, RED, "lease bytes\nlocks alone, no memory"),
    ):
        sheet.box(left, top, width, 52, colour, dashed=colour == RED)
        first, second = words.split("\n")
        sheet.text(left + width / 2, top + 21, first, bold=True, size=13)
        sheet.text(left + width / 2, top + 40, second, size=11)
    sheet.text(24, 34, "byte 0", anchor="start", size=12, colour=FAINT)
    sheet.text(200, 34, "256", anchor="start", size=12, colour=FAINT)
    sheet.text(296, 34, "4096", anchor="start", size=12, colour=FAINT)
    sheet.text(590, 34, "from 2⁶¹ on", anchor="start", size=12, colour=FAINT)
    sheet.text(578, 76, "…", size=16)
    sheet.line([(296, 98), (110, 128)], colour=FAINT, dashed=True)
    sheet.line([(566, 98), (736, 128)], colour=FAINT, dashed=True)
    rows: tuple[tuple[str, tuple[tuple[str, int, str], ...]], ...] = (
        ("array", (("its elements, as NumPy lays them out", 626, BLUE),)),
        (
            "ring",
            (
                ("sizes", 56, GREY),
                ("tail", 56, ORANGE),
                ("head", 56, GREEN),
                ("bells, roles, counters", 160, GREY),
                ("records: 4096 bytes on, and round", 298, BLUE),
            ),
        ),
        (
            "queue",
            (
                ("sizes, members", 120, GREY),
                ("a word for each block: who holds it", 236, GREEN),
                ("blocks: cells and items", 270, BLUE),
            ),
        ),
        (
            "topic",
            (
                ("publisher, newest", 140, ORANGE),
                ("slot", 80, BLUE),
                ("slot", 80, BLUE),
                ("slot", 80, BLUE),
                ("… each begins with its number", 246, BLUE),
            ),
        ),
        (
            "lock, …",
            (
                ("a cell of 128 bytes: kind, word, gate", 250, GREEN),
                ("further cells, if it is your own segment", 376, GREY),
            ),
        ),
    )
    for number, (kind, parts) in enumerate(rows):
        y = 134 + number * 50
        sheet.text(24, y + 24, kind, anchor="start", bold=True, size=13)
        left = 110
        for words, width, colour in parts:
            sheet.box(left, y, width, 38, colour)
            sheet.text(left + width / 2, y + 24, words, size=12)
            left += width
    sheet.text(
        24,
        396,
        "orange: stored by who sends; green: by who makes it, receives, or holds.\n"
        "What different processes store lies 128 bytes apart.",
        anchor="start",
        size=12,
        colour=FAINT,
    )
    return sheet


def death() -> Sheet:
    """A lock whose holder is killed, and its heir."""
    sheet = Sheet(760, 280, "A lock whose holder is killed goes to one of those who wait, and says so")
    sheet.text(24, 30, "time →", anchor="start", size=12, colour=FAINT)
    for number, name in enumerate(("process A", "process B", "process C")):
        sheet.text(24, 68 + number * 66, name, anchor="start", bold=True)
    sheet.box(110, 46, 190, 34, ORANGE)
    sheet.text(205, 68, "holds the lock", size=12)
    sheet.cross(300, 63)
    sheet.text(316, 67, "kill -9", anchor="start", size=12, colour=RED)
    sheet.box(150, 112, 190, 34, GREY, dashed=True)
    sheet.text(245, 134, "waits", size=12)
    sheet.box(340, 112, 210, 34, RED)
    sheet.text(445, 127, "OwnerDied: it holds the lock,", size=11)
    sheet.text(445, 141, "and repairs what it guards", size=11)
    sheet.box(550, 112, 70, 34, ORANGE)
    sheet.text(585, 134, "goes on", size=12)
    sheet.line([(550, 104), (550, 162)], colour=INK)
    sheet.text(550, 98, "recover()", size=12, bold=True)
    sheet.line([(620, 104), (620, 162)], colour=INK)
    sheet.text(620, 98, "release()", size=12, bold=True)
    sheet.box(190, 178, 430, 34, GREY, dashed=True)
    sheet.text(405, 200, "waits", size=12)
    sheet.box(620, 178, 116, 34, ORANGE)
    sheet.text(678, 200, "holds the lock", size=12)
    sheet.line([(300, 80), (338, 110)], tip=True)
    sheet.text(326, 92, "the kernel says so", anchor="start", size=11, colour=FAINT)
    sheet.text(
        24,
        248,
        "Exactly one is told of each death.  release() without recover(): NotRecoverable, for all, from then on.\n"
        'Lock(on_owner_death="recover"): nobody is told, and B simply has the lock.',
        anchor="start",
        size=12,
    )
    return sheet


PICTURES: dict[str, Callable[[], Sheet]] = {
    "ring": ring,
    "heap": heap,
    "lifetimes": lifetimes,
    "topic": topic,
    "lease": lease,
    "handshake": handshake,
    "segment": segment,
    "death": death,
}


def main() -> None:
    """Writes all of them."""
    for name, picture in PICTURES.items():
        (Path(__file__).parent / f"{name}.svg").write_text(str(picture()), encoding="utf-8")


if __name__ == "__main__":
    main()
