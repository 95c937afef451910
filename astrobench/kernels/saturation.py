"""Find the pixels that any frame shows saturated, quickly: almost always there are few of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def saturated_pixels(samples: NDArray[Any], swapped: bool, levels: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the pixels with at least one sample at or above the saturation level of its frame.

    Parameters
    ----------
    samples : (N, P) float32 or uint16
    swapped : bool
        uint16 samples are as FITS stores them (big-endian, top bit turned).
    levels : (N,) float64
        inf: this frame never saturates.
    """
    marks = np.zeros(samples.shape[1], np.uint8)
    if samples.dtype == np.float32:
        for row, level in zip(samples, levels.astype(np.float32), strict=True):
            if np.isfinite(level):
                _mark_floats(np.ascontiguousarray(row), level, marks)
    else:
        # a level between two integers is reached by the next one
        whole = np.clip(np.ceil(levels), 0, 65536).astype(np.int64)
        for row, level in zip(samples.view(np.uint16), whole, strict=True):
            if level <= 65535:
                _mark_words(np.ascontiguousarray(row), swapped, np.uint16(level), marks)
    return np.flatnonzero(marks)


# One frame a call: a whole cube would be compiled again for every layout that its rows can have.
@njit(nogil=True, cache=True, error_model="numpy")
def _mark_words(row: NDArray[np.uint16], swapped: bool, level: np.uint16, marks: NDArray[np.uint8]) -> None:
    if swapped:
        for p in range(row.size):
            v = np.uint16(
                np.uint16(row[p] >> np.uint16(8)) | np.uint16(row[p] << np.uint16(8))
            ) ^ np.uint16(0x8000)
            marks[p] |= np.uint8(v >= level)
    else:
        for p in range(row.size):
            marks[p] |= np.uint8(row[p] >= level)


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_floats(row: NDArray[np.float32], level: np.float32, marks: NDArray[np.uint8]) -> None:
    for p in range(row.size):
        marks[p] |= np.uint8(row[p] >= level)
