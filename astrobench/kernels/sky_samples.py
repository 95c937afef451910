"""Measure the sky in cells: robust samples that stars hardly touch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLIP_LOW, CLIP_HIGH, CLIP_PASSES = 3.0, 2.0, 6  # stars only brighten: clipped harder above
MEDIAN_ERROR = 1.25  # error of a median in units of sigma / sqrt(n): sqrt(pi / 2)
PIXELS_A_CELL = 2048  # enough for a median good to 0.028 sigma
LEAST_PIXELS = 25  # a cell with fewer clear pixels gives no sample
SMALLEST_BOX = 8  # [px]


class Samples(NamedTuple):
    """Sky samples on a grid of R x C cells.

    ``value``, its ``error`` and the ``noise`` of a pixel are (R, C) float64 [unit of the picture], NaN where
    a cell gives no sample; ``x`` (C,) and ``y`` (R,) are the centres of the cells [pixels].
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    noise: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def cell_grid(height: int, width: int, per_row: int) -> tuple[int, int, int]:
    """Return rows, columns and box size [pixels] of square cells, `per_row` along the shorter side."""
    box = max(SMALLEST_BOX, min(height, width) // per_row)
    return height // box, width // box, box


def sample_sky(plane: NDArray[np.float32], per_row: int, pixels: int = PIXELS_A_CELL) -> Samples:
    """Measure the sky in square cells: the median of what asymmetric clipping leaves.

    Parameters
    ----------
    plane : (H, W) float32
        Linear; NaN is left out.
    per_row : int
        Cells along the shorter side.
    pixels : int
        About how many pixels of a cell are looked at, evenly spread.

    Returns
    -------
    Samples
        Error = 1.25 s / sqrt(n), s the standard deviation of what is left. A cell in which less than half
        of the pixels are finite gives no sample.
    """
    height, width = plane.shape
    rows, columns, box = cell_grid(height, width, per_row)
    if rows == 0 or columns == 0:
        nothing = np.zeros((0, 0))
        return Samples(nothing, nothing, nothing, np.zeros(0), np.zeros(0))
    stride = max(1, int(np.ceil(box / np.sqrt(pixels))))
    offsets_y = (height - rows * box) // 2 + np.arange(rows) * box
    offsets_x = (width - columns * box) // 2 + np.arange(columns) * box
    inside = np.arange(stride // 2, box, stride)
    picked = plane[np.ix_((offsets_y[:, None] + inside).ravel(), (offsets_x[:, None] + inside).ravel())]
    m = inside.size
    cells = picked.reshape(rows, m, columns, m).swapaxes(1, 2).reshape(rows * columns, m * m)
    value, error, noise = (each.reshape(rows, columns) for each in _clipped_medians(np.sort(cells, axis=1)))
    half = (box - 1) / 2
    return Samples(value, error, noise, offsets_x + half, offsets_y + half)


def _clipped_medians(
    cells: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Clip the sorted pixels of every cell at -3 / +2 sigma; return median, its error and the sigma left.

    Thresholds cut a sorted list only from its ends, so two indices a cell are all the state there is.
    """
    count, size = cells.shape
    finite = np.isfinite(cells).sum(axis=1)
    zero = np.nanmin(cells) if finite.any() else np.float32(0)
    values = np.where(np.isfinite(cells), cells - zero, 0).astype(np.float64)
    ends = ((0, 0), (1, 0))
    sums = np.pad(np.cumsum(values, axis=1), ends)
    squares = np.pad(np.cumsum(values * values, axis=1), ends)
    each = np.arange(count)
    first, stop = np.zeros(count, np.intp), finite.astype(np.intp)

    def median() -> NDArray[np.float64]:
        low = np.clip((first + stop - 1) // 2, 0, size - 1)
        high = np.clip((first + stop) // 2, 0, size - 1)
        middle: NDArray[np.float64] = (values[each, low] + values[each, high]) / 2
        return middle

    for _ in range(CLIP_PASSES):
        n = np.maximum(stop - first, 1)
        mean = (sums[each, stop] - sums[each, first]) / n
        spread = np.sqrt(np.maximum((squares[each, stop] - squares[each, first]) / n - mean * mean, 0))
        middle = median()
        below = (values < (middle - CLIP_LOW * spread)[:, None]) & (np.arange(size) < finite[:, None])
        above = (values > (middle + CLIP_HIGH * spread)[:, None]) & (np.arange(size) < finite[:, None])
        new_first = np.maximum(first, below.sum(axis=1))
        new_stop = np.minimum(stop, finite - above.sum(axis=1))
        if (new_first == first).all() and (new_stop == stop).all():
            break
        first, stop = new_first, np.maximum(new_stop, new_first)
    n = np.maximum(stop - first, 1)
    mean = (sums[each, stop] - sums[each, first]) / n
    spread = np.sqrt(np.maximum((squares[each, stop] - squares[each, first]) / n - mean * mean, 0))
    good = (finite >= max(LEAST_PIXELS, size // 2)) & (stop > first)
    value = np.where(good, median() + zero, np.nan)
    return value, np.where(good, MEDIAN_ERROR * spread / np.sqrt(n), np.nan), np.where(good, spread, np.nan)
