"""The photographs that the demo streams: decoded once, from the JPEG files beside this module.

Who took them and what may be done with them stands in ``photographs/LICENSE.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AUTHORS", "SIZES", "Photograph", "load"]

AUTHORS = {
    "brook": "Aitzol Berasategi",
    "dandelion": "Clemens Engelhardt",
    "fig": "Trevor “Freespace”",
    "peaks": "Aitzol Berasategi",
    "sunset": "Aitzol Berasategi",
}

# Divisors of width and height.
SIZES = {"full": 1, "half": 2, "quarter": 4, "eighth": 8}


@dataclass(frozen=True)
class Photograph:
    """One decoded photograph; ``pixels`` is (height, width, 3) bytes of red, green and blue."""

    name: str
    author: str
    pixels: NDArray[np.uint8]

    @property
    def megapixels(self) -> float:
        """Pixels, in millions."""
        height, width = self.pixels.shape[:2]
        return float(height * width / 1e6)


def load(names: Iterable[str], size: str = "full") -> list[Photograph]:
    """Decode the photographs of these names."""
    return [Photograph(name, AUTHORS[name], _decode(name, SIZES[size])) for name in names]


def _decode(name: str, divisor: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    with (files(__package__) / "photographs" / f"{name}.jpg").open("rb") as stream, Image.open(stream) as image:
        # A JPEG decoder can leave out the finest detail at no cost; with divisor 1 this changes nothing.
        image.draft("RGB", (image.width // divisor, image.height // divisor))
        return np.array(image.convert("RGB"))
