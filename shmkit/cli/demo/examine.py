"""What a worker computes on a frame: a checksum of every byte, a histogram, edges, and a small picture of the edges.

The same function serves every transport, and the collector calls it once per photograph to know what must come back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESULT", "THUMBNAIL", "checksum", "examine"]

THUMBNAIL = (72, 108)

# Every eighth pixel of every eighth row: enough for light and edges, and little enough that moving the frame matters.
STEP = 8

# The weights of red, green and blue in ITU-R BT.601, in 256ths.
LUMA = np.array([77, 150, 29], np.uint16)

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

    scratch = _scratch(pixels.shape)
    np.copyto(scratch.sample, pixels[::STEP, ::STEP])
    np.matmul(scratch.sample, LUMA, out=scratch.luminance)
    np.right_shift(scratch.luminance, 8, out=scratch.luminance)
    np.copyto(scratch.bins, scratch.luminance)
    record["luminance"] = scratch.luminance.mean()
    record["histogram"] = np.bincount(scratch.bins.ravel(), minlength=256)

    light = scratch.luminance.view(np.int16)
    np.abs(np.subtract(light[1:, 1:], light[:-1, 1:], out=scratch.down), out=scratch.down)
    np.abs(np.subtract(light[1:, 1:], light[1:, :-1], out=scratch.across), out=scratch.across)
    edges = np.add(scratch.down, scratch.across, out=scratch.down)
    record["edge_energy"] = edges.mean()
    record["edges"] = _shrink(edges)
    return result


class _Scratch(NamedTuple):
    sample: NDArray[np.uint16]
    luminance: NDArray[np.uint16]
    bins: NDArray[np.intp]
    down: NDArray[np.int16]
    across: NDArray[np.int16]


@lru_cache
def _scratch(shape: tuple[int, ...]) -> _Scratch:
    """Memory for frames of one shape.  Kept, so that the page faults that are counted are those of the transport."""
    rows, columns = (-(-length // STEP) for length in shape[:2])
    between = (rows - 1, columns - 1)
    return _Scratch(
        np.empty((rows, columns, 3), np.uint16),
        np.empty((rows, columns), np.uint16),
        np.empty((rows, columns), np.intp),
        np.empty(between, np.int16),
        np.empty(between, np.int16),
    )


def _shrink(edges: NDArray[np.int16]) -> NDArray[np.uint8]:
    """The strongest edge in each cell of a THUMBNAIL-sized grid."""
    rows = np.arange(THUMBNAIL[0]) * edges.shape[0] // THUMBNAIL[0]
    columns = np.arange(THUMBNAIL[1]) * edges.shape[1] // THUMBNAIL[1]
    strongest = np.maximum.reduceat(np.maximum.reduceat(edges, rows, axis=0), columns, axis=1)
    return np.minimum(strongest, 255).astype(np.uint8)
