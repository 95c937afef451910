"""Variance of a mean of samples of known noise, from what a rejection kept: cheap where it kept all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.integrate import Integrated, flat_rows, share_out

F64 = NDArray[np.float64]
RANGE = 1 << 16  # pixels that a thread takes at a time
BATCH = 2048  # touched pixels whose sums are built side by side, so that rows are read along
DARKEST = 0.25  # of the sky's variance: a pixel with less light than a vignetted corner is a defect


def mean_variance(
    samples: NDArray[Any],
    found: Integrated,
    *,
    swapped: bool,
    gain: F64,
    offset: F64,
    weight: F64,
    floor: F64,
    slope: F64,
    share: float,
    sky: float,
    times: float = 1.0,
    threads: int = 1,
) -> NDArray[np.intp]:
    """Write sum w^2 var_k / (sum w)^2 over the kept samples into ``found.variance``.

    Parameters
    ----------
    samples : (N, P) float32 or uint16
    found : Integrated
        Of a rule whose kept samples are those within ``lower`` and ``upper``, combined by the mean.
    swapped : bool
        uint16 samples are as FITS stores them.
    gain, offset, weight, floor, slope : (N,) float64
        ``var_k = floor + slope s + (share max(s, 0))^2``, s = value - sky, in normalised units. Below the sky
        there are fewer photons: without them the mean over pixels whose noise takes them below it would be
        more than their variance. At least `DARKEST` of the floor remains.
    times : float
        The value is this many means (a sum over N frames: N).
    threads : int

    Returns
    -------
    (Q,) int
        Pixels where equal samples were partly rejected: the limits do not tell which; not written.
    """
    wide = weight.astype(np.float32).astype(np.float64)
    line = (gain.astype(np.float32), offset.astype(np.float32))
    frames = (*line, wide, floor.astype(float), slope.astype(float))
    is_float = samples.dtype == np.float32
    # one compiled function for both: the array that does not apply is empty
    flat, step = flat_rows(samples if is_float else samples.view(np.uint16))
    floats = flat if is_float else np.empty(0, np.float32)
    words = np.empty(0, np.uint16) if is_float else flat
    pixels = samples.shape[1]
    odd = np.zeros(pixels, np.bool_)

    def work(begin: int) -> None:
        end = min(begin + RANGE, pixels)
        _variance_range(
            floats, words, step, swapped, begin, end, *frames, float(share), float(sky), float(times), found.value,
            found.coverage, found.low, found.high, found.lower, found.upper, found.variance, odd,
        )  # fmt: skip

    share_out(work, range(0, pixels, RANGE), threads)
    return np.flatnonzero(odd)


@njit(nogil=True, cache=True, error_model="numpy")
def _variance_range(
    floats: NDArray[np.float32],
    words: NDArray[np.uint16],
    step: int,
    swapped: bool,
    begin: int,
    end: int,
    gain: NDArray[np.float32],
    offset: NDArray[np.float32],
    weight: F64,
    floor: F64,
    slope: F64,
    share: float,
    sky: float,
    times: float,
    value: NDArray[np.float32],
    coverage: NDArray[np.uint16],
    low: NDArray[np.uint16],
    high: NDArray[np.uint16],
    lower: NDArray[np.float32],
    upper: NDArray[np.float32],
    variance: NDArray[np.float32],
    odd: NDArray[np.bool_],
) -> None:
    count = gain.size
    is_float = floats.size > 0
    all_weight = 0.0
    all_square = 0.0
    all_floor = 0.0
    all_slope = 0.0
    for k in range(count):
        w2 = weight[k] * weight[k]
        all_weight += weight[k]
        all_square += w2
        all_floor += w2 * floor[k]
        all_slope += w2 * slope[k]
    touched = np.empty(end - begin, np.int64)
    n = 0
    for p in range(begin, end):
        if coverage[p] == count and low[p] == 0 and high[p] == 0:
            s = value[p] / times - sky
            total = max(all_floor + all_slope * s, DARKEST * all_floor) + all_square * (share * max(s, 0.0)) ** 2
            variance[p] = total / (all_weight * all_weight) * times * times
        else:
            touched[n] = p
            n += 1
    sums = np.empty((5, BATCH))
    for start in range(0, n, BATCH):
        stop = min(start + BATCH, n)
        sums[:, : stop - start] = 0.0
        for k in range(count):
            w = weight[k]
            w2 = w * w
            for i in range(start, stop):
                p = touched[i]
                if is_float:
                    x = floats[k * step + p]
                else:
                    word = words[k * step + p]
                    if swapped:
                        word = np.uint16((word >> 8) | (word << 8)) ^ np.uint16(0x8000)
                    x = np.float32(word)
                # two roundings, as the rejection calculated
                y = np.float32(x * gain[k]) + offset[k]
                if y >= lower[p] and y <= upper[p]:
                    j = i - start
                    sums[0, j] += w
                    sums[1, j] += w2
                    sums[2, j] += w2 * floor[k]
                    sums[3, j] += w2 * slope[k]
                    sums[4, j] += 1.0
        for i in range(start, stop):
            p = touched[i]
            j = i - start
            kept = np.int64(coverage[p]) - np.int64(low[p]) - np.int64(high[p])
            if np.int64(sums[4, j]) != kept:
                odd[p] = True
            elif sums[0, j] > 0.0:
                s = value[p] / times - sky
                total = max(sums[2, j] + sums[3, j] * s, DARKEST * sums[2, j])
                total += sums[1, j] * (share * max(s, 0.0)) ** 2
                variance[p] = total / (sums[0, j] * sums[0, j]) * times * times
            else:
                variance[p] = np.nan
