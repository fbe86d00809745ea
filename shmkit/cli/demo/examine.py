"""What a worker computes on a frame: a checksum of every byte, a histogram, edges, and a small picture of the edges.

The same function serves every transport, and the collector calls it once per photograph to know what must come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RESULT", "THUMBNAIL", "checksum", "examine"]

THUMBNAIL = (72, 108)

# Every eighth pixel of every eighth row: enough for light and edges, and little enough that moving the frame matters.
STEP = 8

RESULT = np.dtype(
    [
        ("sequence", "<u8"),
        ("checksum", "<u8"),
        ("height", "<u4"),
        ("width", "<u4"),
        ("luminance", "<f4"),  # mean, 0 to 255
        ("edge_energy", "<f4"),  # mean step between neighbours, 0 to 510
        ("histogram", "<u4", (256,)),  # of the luminance
        ("edges", "<u1", THUMBNAIL),
    ]
)


def checksum(pixels: NDArray[np.uint8]) -> int:
    """XXH3 of every byte of the frame."""
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(cast("bytes", pixels.data))


def examine(sequence: int, pixels: NDArray[np.uint8]) -> NDArray[np.void]:
    """Look at one frame; one RESULT."""
    result = np.zeros(1, RESULT)
    record = result[0]
    record["sequence"] = sequence
    record["checksum"] = checksum(pixels)
    record["height"], record["width"] = pixels.shape[:2]

    sample = pixels[::STEP, ::STEP].astype(np.uint16)
    # The weights of ITU-R BT.601, in 256ths.
    luminance = (sample[..., 0] * 77 + sample[..., 1] * 150 + sample[..., 2] * 29) >> 8
    record["luminance"] = luminance.mean()
    record["histogram"] = np.bincount(luminance.ravel(), minlength=256)

    steps = luminance.astype(np.int16)
    edges = np.abs(steps[1:, 1:] - steps[:-1, 1:]) + np.abs(steps[1:, 1:] - steps[1:, :-1])
    record["edge_energy"] = edges.mean()
    record["edges"] = _shrink(edges)
    return result


def _shrink(edges: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The strongest edge in each cell of a THUMBNAIL-sized grid."""
    rows = np.arange(THUMBNAIL[0]) * edges.shape[0] // THUMBNAIL[0]
    columns = np.arange(THUMBNAIL[1]) * edges.shape[1] // THUMBNAIL[1]
    strongest = np.maximum.reduceat(np.maximum.reduceat(edges, rows, axis=0), columns, axis=1)
    return np.minimum(strongest, 255).astype(np.uint8)
