"""An array as a small picture in the terminal: blocks of colour where there are colours, letters where there are none.

One dimension is a line of bars; of more, the first plane is shown, thinned out.  A few numbers are shown as they are.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from shmkit.cli.table import show_title, use_rich, width_of_terminal
from shmkit.survey import arrays

if TYPE_CHECKING:
    import numpy.typing as npt

    from shmkit.survey.arrays import Form
    from shmkit.survey.reading import Reading

__all__ = ["bars", "draw"]

_MOST = 64  # columns of a picture
_FEW = 64  # numbers, of which a picture would say less than they do
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*#@"
_SHADES = " .:-=+*#%@"
# Black to yellow through violet and red, as the eye orders them: colours of a map, not of things.
_MAP = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float64)


def draw(reading: Reading, at: int, form: Form, lines: int) -> None:
    """Prints the picture on standard output, in at most so many lines; nothing where there is nothing to see."""
    width = min((width_of_terminal() or 80) - 2, _MOST)
    if form.dtype.kind in "biufc" and len(form.shape) < 3 and 0 < math.prod(form.shape) <= _FEW:
        _print_values(reading, at, form, width)
        return
    if form.dtype.kind not in "biuf" or form.nbytes == 0:
        return
    if len(form.shape) < 2:
        values, _ = arrays.sample(reading, at, form)
        line = bars(values, width, _can_say(_BARS))
        if line:
            show_title("picture")
            print(f"  {line}")
        return
    picture = arrays.plane(reading, at, form, 2 * lines, width)
    if picture is None:
        return
    title = "picture"
    if len(form.shape) > (3 if picture.ndim == 3 else 2):
        title += " of its first plane"
    show_title(title)
    if use_rich():
        _draw_colours(picture)
    else:
        _draw_letters(picture)


def _print_values(reading: Reading, at: int, form: Form, width: int) -> None:
    values, _ = arrays.sample(reading, at, form)
    if values.size < math.prod(form.shape):
        return
    if form.dtype.kind == "b":
        values = values.view(np.uint8) != 0
    shaped = values.reshape(form.shape, order="F" if form.fortran else "C")
    show_title("values")
    for line in np.array2string(shaped, max_line_width=width, precision=6, threshold=_FEW).splitlines():
        print(f"  {line}".rstrip())


def bars(values: npt.NDArray[Any], width: int, block: bool = True) -> str:
    """A line of bars, each for the mean of its part of the values."""
    if values.size < 2 or width < 1:
        return ""
    parts = np.array_split(values.astype(np.float64), min(width, values.size))
    with np.errstate(all="ignore"):
        means = np.array([part[np.isfinite(part)].mean() if np.isfinite(part).any() else np.nan for part in parts])
    heights = (_scaled(means) * 7.999).astype(int)
    letters = _BARS if block else _PLAIN_BARS
    return "".join(" " if np.isnan(mean) else letters[height] for mean, height in zip(means, heights, strict=True))


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """From 0 to 1, least to most; what is no number is 0."""
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    if finite.size == 0:
        return np.zeros(wide.shape)
    least, most = finite.min(), finite.max()
    with np.errstate(all="ignore"):
        # Halves, since the range of floats is wider than a float.
        scaled = (wide / 2 - least / 2) / (most / 2 - least / 2) if most > least else np.full(wide.shape, 0.5)
    clipped: npt.NDArray[np.float64] = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    return clipped


def _colours(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if picture.ndim == 3:
        return picture[..., :3].astype(np.uint8)
    place = _scaled(picture) * (len(_MAP) - 1)
    low = np.minimum(place.astype(int), len(_MAP) - 2)
    part = (place - low)[..., None]
    mixed: npt.NDArray[np.float64] = _MAP[low] * (1 - part) + _MAP[low + 1] * part
    return mixed.astype(np.uint8)


def _draw_colours(picture: npt.NDArray[Any]) -> None:
    """Two rows of pixels in a line: the upper is the letter's colour, the lower its background."""
    from rich.color import Color
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console()
    if console.no_color or not console.color_system or not _can_say("▀"):
        _draw_letters(picture)
        return
    pixels = _colours(picture)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text("  ")
        for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
        console.print(line, no_wrap=True, crop=True)


def _draw_letters(picture: npt.NDArray[Any]) -> None:
    grey = picture[..., :3].mean(axis=-1) if picture.ndim == 3 else picture
    # A letter is about twice as high as it is wide.
    scaled = _scaled(grey)[::2]
    for row in (scaled * (len(_SHADES) - 0.001)).astype(int):
        print("  " + "".join(_SHADES[place] for place in row).rstrip())


def _can_say(letters: str) -> bool:
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
