"""Turn the words of a FITS file into numbers of this machine."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, error_model="numpy")
def swap_unsigned(words: NDArray[np.uint16], out: NDArray[np.uint16]) -> None:
    """Turn big-endian signed words with BZERO = 32768 into uint16: swap the bytes, turn the top bit.

    One pass; numpy needs two and 1.3 times the CPU (1.14 against 0.9 ms for a Seestar sub with reading).

    Parameters
    ----------
    words, out : (n,) uint16
        `words` as they lie in the file, taken as little-endian.
    """
    for i in range(words.size):
        word = words[i]
        out[i] = ((word >> np.uint16(8)) | (word << np.uint16(8))) ^ np.uint16(0x8000)
