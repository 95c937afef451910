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
        _mark_floats(samples, levels.astype(np.float32), marks)
    else:
        # a level between two integers is reached by the next one
        whole = np.minimum(np.ceil(levels), 65536).astype(np.int64)
        _mark_words(samples.view(np.uint16), swapped, whole, marks)
    return np.flatnonzero(marks)


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_words(
    words: NDArray[np.uint16], swapped: bool, levels: NDArray[np.int64], marks: NDArray[np.uint8]
) -> None:
    for k in range(words.shape[0]):
        if levels[k] > 65535:
            continue
        level = np.uint16(levels[k])
        row = words[k]
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
def _mark_floats(samples: NDArray[np.float32], levels: NDArray[np.float32], marks: NDArray[np.uint8]) -> None:
    for k in range(samples.shape[0]):
        level = levels[k]
        if not np.isfinite(level):
            continue
        row = samples[k]
        for p in range(row.size):
            marks[p] |= np.uint8(row[p] >= level)
