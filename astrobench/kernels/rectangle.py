"""Find the largest upright rectangle inside a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def largest_rectangle(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the largest all-true rectangle of a mask.

    Row by row the mask becomes a histogram of column heights, and the largest rectangle under a histogram is
    found with a stack in one pass, O(H W) in all.

    Parameters
    ----------
    inside : (H, W) bool

    Returns
    -------
    y0, y1, x0, x1 : int
        The rectangle is ``inside[y0:y1, x0:x1]``; all zero when nothing is true. Of equals the first is taken.
    """
    height, width = inside.shape
    columns = np.zeros(width + 1, np.int64)
    best, area = (0, 0, 0, 0), 0
    for y in range(height):
        columns[:-1] = np.where(inside[y], columns[:-1] + 1, 0)
        open_at: list[tuple[int, int]] = []
        for x, tall in enumerate(columns.tolist()):
            start = x
            while open_at and open_at[-1][1] >= tall:
                start, high = open_at.pop()
                if high * (x - start) > area:
                    area = high * (x - start)
                    best = (y + 1 - high, y + 1, start, x)
            open_at.append((start, tall))
    return best
