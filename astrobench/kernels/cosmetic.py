"""Find hot and cold pixels in a single light frame, leaving stars alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA

Mask = NDArray[np.bool_]

HOT_SIGMA, COLD_SIGMA = 7.0, 7.0  # a fainter fault is left to rejection or a dark
# Share of a pixel's excess that its eight neighbours must show on average to be a star: one of FWHM 1.8 px
# centred on a red pixel gives 0.30 when white and 0.15 when red and blue are 1.6 and 0.4 times green.
STAR_SHARE = 0.1


def find_bad_pixels(raw: NDArray[Any], hot: float = HOT_SIGMA, cold: float = COLD_SIGMA) -> Mask:
    """Mark pixels that are too bright or too dark for the light around them.

    Parameters
    ----------
    raw : array (H, W), uint16 or float32
        A mosaic of any order, or a mono frame; NaN = no data. At least 8 x 8.
    hot, cold : float
        Least deviation [sigma of one pixel at the local level].

    Returns
    -------
    array (H, W) bool
        True = bad. A cosmic ray of one pixel is marked too. Two rows and columns at the edges are skipped.

    Raises
    ------
    ValueError
        Another shape or type.

    Notes
    -----
    A pixel is compared with the median of the 24 pixels of its phase in 9 x 9 (every second row and column),
    as Siril's automatic detection does. Sigma comes from second differences of the
    frame and grows with the root of the level over the frame's, as photon noise does. A star of FWHM 1.8 px
    or more lights the pixels beside it whatever their colour: a hot pixel is one whose eight neighbours, each
    against the median of its own phase, show on average less than a tenth of its excess.
    """
    if raw.ndim != 2 or min(raw.shape) < 8 or raw.dtype not in (np.uint16, np.float32):
        raise ValueError(f"raw must be (H, W) uint16 or float32, 8 x 8 or more, not {raw.shape} {raw.dtype}")
    raw = np.ascontiguousarray(raw)
    mask = np.zeros(raw.shape, np.bool_)
    level, sigma = _level_and_noise(raw)
    if sigma > 0:
        _find(raw, level, sigma, float(hot), float(cold), mask)
    return mask


def repair(raw: NDArray[Any], bad: Mask) -> NDArray[Any]:
    """Copy a frame with each bad pixel replaced by the median of its good neighbours of the same phase.

    Parameters
    ----------
    raw : array (H, W), uint16 or float32
    bad : array (H, W) bool

    Returns
    -------
    array (H, W)
        Of the type of `raw`. The up to eight neighbours lie at distance 2; without a good one a pixel keeps its
        value.
    """
    if raw.shape != bad.shape or bad.dtype != np.bool_:
        raise ValueError(f"bad must be bool of shape {raw.shape}, not {bad.dtype} {bad.shape}")
    fixed = raw.copy()
    height, width = raw.shape
    for y, x in np.argwhere(bad):
        rows = slice(max(y % 2, y - 2), min(height, y + 3), 2)
        columns = slice(max(x % 2, x - 2), min(width, x + 3), 2)
        around = raw[rows, columns][~bad[rows, columns]].astype(np.float64)
        around = around[np.isfinite(around)]
        if around.size:
            middle = np.median(around)
            fixed[y, x] = np.rint(middle) if raw.dtype == np.uint16 else middle
    return fixed


def _level_and_noise(raw: NDArray[Any]) -> tuple[float, float]:
    """Median level and sigma of one pixel, from a sixteenth of the rows."""
    rows = raw[1::16].astype(np.float32)
    second = 2 * rows[:, 2:-2] - rows[:, :-4] - rows[:, 4:]
    second, rows = second[np.isfinite(second)], rows[np.isfinite(rows)]
    if second.size == 0:
        return 0.0, 0.0
    sigma = MAD_TO_SIGMA * np.median(np.abs(second)) / np.sqrt(6.0)
    # integer data of little noise would give 0 or a step of a digit
    least = 0.5 if raw.dtype == np.uint16 else 0.0
    return float(np.median(rows)), float(max(sigma, least))


@njit(nogil=True, cache=True, error_model="numpy")
def _phase_median(raw: Any, y: int, x: int, reach: int, values: Any) -> float:
    """Median of the pixels of the phase of (y, x) within `reach` steps of 2, without (y, x) itself."""
    height, width = raw.shape
    count = 0
    for j in range(-reach, reach + 1):
        for i in range(-reach, reach + 1):
            b, a = y + 2 * j, x + 2 * i
            if (i != 0 or j != 0) and 0 <= a < width and 0 <= b < height:
                value = float(raw[b, a])
                if value == value:
                    k = count
                    while k > 0 and values[k - 1] > value:
                        values[k] = values[k - 1]
                        k -= 1
                    values[k] = value
                    count += 1
    if count == 0:
        return float(np.nan)
    return float(0.5 * (values[(count - 1) // 2] + values[count // 2]))


@njit(nogil=True, cache=True, error_model="numpy")
def _is_alone(raw: Any, y: int, x: int, excess: float, values: Any) -> bool:
    """Whether the neighbours of any colour show too little of the excess for a star."""
    total, count = 0.0, 0
    for j in range(-1, 2):
        for i in range(-1, 2):
            if i != 0 or j != 0:
                beside = float(raw[y + j, x + i]) - _phase_median(raw, y + j, x + i, 2, values)
                if beside == beside:
                    total += beside
                    count += 1
    return count > 0 and total < STAR_SHARE * excess * count


@njit(nogil=True, cache=True, error_model="numpy")
def _find(raw: Any, level: float, sigma: float, hot: float, cold: float, mask: Any) -> None:
    height, width = raw.shape
    values = np.empty(25)
    suspect = np.empty(width, np.bool_)
    # a suspect must exceed its four nearest of the same phase; half the limit leaves room for their noise
    up, down = np.float32(0.5 * hot * sigma), np.float32(0.5 * cold * sigma)
    for y in range(2, height - 2):
        here, above, below = raw[y], raw[y - 2], raw[y + 2]
        found = 0
        for x in range(2, width - 2):
            a, b = np.float32(here[x - 2]), np.float32(here[x + 2])
            c, d = np.float32(above[x]), np.float32(below[x])
            value = np.float32(here[x])
            high = (value > a + up) & (value > b + up) & (value > c + up) & (value > d + up)
            low = (value < a - down) & (value < b - down) & (value < c - down) & (value < d - down)
            suspect[x] = high | low
            found += int(high | low)
        if found == 0:
            continue
        for x in range(2, width - 2):
            if suspect[x]:
                middle = _phase_median(raw, y, x, 2, values)
                noise = sigma * np.sqrt(max(1.0, middle / level)) if level > 0 else sigma
                excess = float(raw[y, x]) - middle
                if excess > hot * noise:
                    mask[y, x] = _is_alone(raw, y, x, excess, values)
                elif excess < -cold * noise:
                    mask[y, x] = True
