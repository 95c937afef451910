"""Work on one block of pixels: load it, describe its sorted samples, combine them lane by lane.

A block is (rows, LANES) float32, one row per frame and one lane per pixel; a missing sample is +inf. All loops
run over whole rows, so they vectorise. Nothing here uses fast-math: every lane gives the same bits wherever in
the image it lies, and on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.integrate_inputs import FLOAT32, UINT16, Frames, Samples
from astrobench.kernels.sortnet import LANES, Doubles, Flags, Floats, Ints, part, pick

INF = np.float32(np.inf)
NAN = np.float32(np.nan)
ZERO = np.float32(0)
ONE = np.float32(1)
HALF_WEIGHT_ROUNDING = 1e-12  # relative: cumulative weights this close to one half count as exactly half


@part
def native(stored: np.uint16) -> np.uint16:
    """Undo FITS storage of unsigned 16-bit numbers: big-endian, offset by 32768."""
    swapped = np.uint16((stored >> np.uint16(8)) | np.uint16(stored << np.uint16(8)))
    return np.uint16(swapped ^ np.uint16(0x8000))


@part
def load_blocks(
    samples: Samples, frames: Frames, n: int, begin: int, end: int, count: int, rows: int, blocks: Floats
) -> None:
    """Normalise the samples of ``count`` blocks: two roundings, as numpy does, so that masks can be rebuilt.

    Several blocks at once, because a block is only half a kilobyte of each frame: too short for the hardware to
    see a stream and fetch ahead.
    """
    floats = samples.floats
    words = samples.words
    for k in range(n):
        g = frames.gain[k]
        o = frames.offset[k]
        for c in range(count):
            start = begin + c * LANES
            m = max(0, min(LANES, end - start))
            at = k * samples.step + start
            row = c * rows + k
            if samples.kind == FLOAT32:
                for p in range(m):
                    y = floats[np.uintp(at + p)] * g + o
                    blocks[row, p] = pick(abs(y) < INF, y, INF)
            elif samples.kind == UINT16:
                for p in range(m):
                    blocks[row, p] = np.float32(words[np.uintp(at + p)]) * g + o
            else:
                for p in range(m):
                    blocks[row, p] = np.float32(native(words[np.uintp(at + p)])) * g + o
            for p in range(m, LANES):
                blocks[row, p] = INF


@part
def raw_sample(samples: Samples, i: int) -> np.float32:
    """One sample as recorded, float32."""
    if samples.kind == FLOAT32:
        return np.float32(samples.floats[i])
    if samples.kind == UINT16:
        return np.float32(samples.words[i])
    return np.float32(native(samples.words[i]))


@part
def count_valid(block: Floats, n: int, valid: Ints) -> None:
    """Count the valid samples per lane of an unsorted or sorted block."""
    for p in range(LANES):
        valid[p] = 0
    for k in range(n):
        for p in range(LANES):
            valid[p] += pick(block[k, p] < INF, np.int32(1), np.int32(0))


@part
def extremes(block: Floats, n: int, lowest: Floats, highest: Floats) -> None:
    """Smallest and largest valid sample per lane of an unsorted block (NaN where none); padding is passed over."""
    for p in range(LANES):
        lowest[p] = INF
        highest[p] = -INF
    for k in range(0, n, 2):
        for p in range(LANES):
            x = block[k, p]
            y = block[k + 1, p]
            low = pick(x < y, x, y)
            x = pick(x < INF, x, -INF)
            y = pick(y < INF, y, -INF)
            high = pick(x > y, x, y)
            a = lowest[p]
            b = highest[p]
            lowest[p] = pick(low < a, low, a) + ZERO  # see `sortnet._exchanges`
            highest[p] = pick(high > b, high, b) + ZERO
    for p in range(LANES):
        some = lowest[p] < INF
        lowest[p] = pick(some, lowest[p], NAN)
        highest[p] = pick(some, highest[p], NAN)


@part
def sorted_marks(block: Floats, n: int, valid: Ints, lowest: Floats, highest: Floats, median: Floats) -> bool:
    """Count, ends and median of every lane of a sorted block (NaN where nothing is valid)."""
    full = True
    for p in range(LANES):
        full &= block[n - 1, p] < INF
    if full:
        a = (n - 1) >> 1
        b = n >> 1
        for p in range(LANES):
            valid[p] = n
            lowest[p] = block[0, p]
            highest[p] = block[n - 1, p]
            median[p] = np.float32(0.5) * (block[a, p] + block[b, p])
        return True
    count_valid(block, n, valid)
    for p in range(LANES):
        v = valid[p]
        if v > 0:
            lowest[p] = block[0, p]
            highest[p] = block[v - 1, p]
            median[p] = np.float32(0.5) * (block[(v - 1) >> 1, p] + block[v >> 1, p])
        else:
            lowest[p] = np.nan
            highest[p] = np.nan
            median[p] = np.nan
    return False


@part
def moments(block: Floats, n: int, median: Floats, sum1: Floats, sum2: Floats) -> None:
    """Sum d and d*d about the median. Four rows a turn keep the sums in registers; padding adds nothing."""
    for p in range(LANES):
        sum1[p] = ZERO
        sum2[p] = ZERO
    for k in range(0, n, 4):
        for p in range(LANES):
            c = median[p]
            d0 = pick(block[k, p] < INF, block[k, p] - c, ZERO)
            d1 = pick(block[k + 1, p] < INF, block[k + 1, p] - c, ZERO)
            d2 = pick(block[k + 2, p] < INF, block[k + 2, p] - c, ZERO)
            d3 = pick(block[k + 3, p] < INF, block[k + 3, p] - c, ZERO)
            sum1[p] = sum1[p] + ((d0 + d1) + (d2 + d3))
            sum2[p] = sum2[p] + ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3))


@part
def plain_sums(block: Floats, n: int, sums: Doubles) -> None:
    """Float64 sums of valid samples of an unsorted block; rows come in pairs, padding adds nothing."""
    sum_y = sums[1]
    sum_yy = sums[2]
    for p in range(LANES):
        sum_y[p] = 0.0
        sum_yy[p] = 0.0
    for k in range(0, n, 2):
        for p in range(LANES):
            y = np.float64(pick(block[k, p] < INF, block[k, p], ZERO))
            z = np.float64(pick(block[k + 1, p] < INF, block[k + 1, p], ZERO))
            sum_y[p] += y + z
            sum_yy[p] += y * y + z * z


@part
def weighted_sums(block: Floats, n: int, weight: Floats, sums: Doubles) -> None:
    """Float64 sums over the valid samples of an unsorted block: w, w y, w y y and the count of w above 0."""
    sum_w = sums[0]
    sum_wy = sums[1]
    sum_wyy = sums[2]
    used = sums[3]
    for p in range(LANES):
        sum_w[p] = 0.0
        sum_wy[p] = 0.0
        sum_wyy[p] = 0.0
        used[p] = 0.0
    for k in range(0, n, 2):
        for p in range(LANES):
            a = block[k, p] < INF
            b = block[k + 1, p] < INF
            y = np.float64(pick(a, block[k, p], ZERO))
            z = np.float64(pick(b, block[k + 1, p], ZERO))
            v = pick(a, weight[k, p], ZERO)
            w = pick(b, weight[k + 1, p], ZERO)
            vy = np.float64(v) * y
            wz = np.float64(w) * z
            sum_w[p] += np.float64(v) + np.float64(w)
            sum_wy[p] += vy + wz
            sum_wyy[p] += vy * y + wz * z
            used[p] += pick(v > ZERO, 1.0, 0.0) + pick(w > ZERO, 1.0, 0.0)


@part
def run_moments(block: Floats, first: int, last: int, median: Floats, sum1: Floats, sum2: Floats) -> None:
    """Sum d and d*d about the median over the sorted rows ``first`` to ``last``."""
    for p in range(LANES):
        sum1[p] = ZERO
        sum2[p] = ZERO
    for k in range(first, last + 1):
        for p in range(LANES):
            d = block[k, p] - median[p]
            sum1[p] += d
            sum2[p] += d * d


@part
def count_outside(
    block: Floats, n: int, m: int, low: Floats, high: Floats, flag: Flags, rejected: NDArray[np.int64]
) -> None:
    """Count the samples outside [low, high] per frame of an unsorted block; flagged lanes are left out."""
    for k in range(n):
        count = np.int32(0)
        for p in range(m):
            y = block[k, p]
            outside = (y < low[p]) | ((y > high[p]) & (y < INF))
            count += pick(outside & (not flag[p]), np.int32(1), np.int32(0))
        rejected[k] += count


@part
def sorted_results(
    valid: Ints, cut: int, median: Floats, sum1: Floats, sum2: Floats, times: float, total: Floats, result: Floats,
    spread: Floats,
) -> None:  # fmt: skip
    """Count, mean (or sum) and variance of the mean from float32 sums about the median."""
    for p in range(LANES):
        v = np.float32(valid[p] - cut)
        mean = sum1[p] / v
        squares = sum2[p] - sum1[p] * mean
        squares = pick(squares > ZERO, squares, ZERO)
        total[p] = v
        result[p] = median[p] + mean
        spread[p] = squares / ((v - ONE) * v)
    if times != 1.0:
        for p in range(LANES):
            mean = sum1[p] / total[p]
            result[p] = np.float32((np.float64(median[p]) + np.float64(mean)) * times)


@part
def plain_results(sums: Doubles, valid: Ints, times: float, total: Floats, result: Floats, spread: Floats) -> None:
    """Count, mean (or sum) and variance of the mean from float64 sums."""
    for p in range(LANES):
        v = np.float64(valid[p])
        mean = sums[1, p] / v
        squares = sums[2, p] - sums[1, p] * mean
        squares = pick((squares > 0.0) & (v > 1.0), squares, 0.0)
        total[p] = np.float32(v)
        result[p] = np.float32(mean * times)
        spread[p] = np.float32(squares / ((v - 1.0) * v))


@part
def weighted_results(sums: Doubles, times: float, total: Floats, result: Floats, spread: Floats) -> None:
    """Weight, weighted mean (or sum) and variance of the mean from float64 sums."""
    for p in range(LANES):
        w = sums[0, p]
        used = sums[3, p]
        mean = sums[1, p] / w
        squares = sums[2, p] - sums[1, p] * mean
        squares = pick((squares > 0.0) & (used > 1.0), squares, 0.0)
        total[p] = np.float32(w)
        result[p] = np.float32(mean * times)
        spread[p] = np.float32(squares / ((used - 1.0) * w))


@part
def known_variance(
    block: Floats, weight: Floats, n: int, weighted: bool, result: Floats, times: float, sky: Floats, floor: Floats,
    slope: Floats, share: float, total: Floats, spread: Floats,
) -> None:  # fmt: skip
    """Variance of the mean of samples of known noise: sum w^2 var / (sum w)^2, of an unsorted block."""
    for p in range(LANES):
        total[p] = ZERO
        spread[p] = ZERO
    for k in range(n):
        sky_k = sky[k]
        floor_k = floor[k]
        slope_k = slope[k]
        for p in range(LANES):
            signal = result[p] * times - sky_k
            signal = pick(signal > ZERO, signal, ZERO)
            variance = floor_k + slope_k * signal + (share * signal) * (share * signal)
            w = pick(weighted, weight[k, p], ONE)
            w = pick(block[k, p] < INF, w, ZERO)
            total[p] += w
            spread[p] += w * w * variance
    for p in range(LANES):
        spread[p] = spread[p] / (total[p] * total[p])


@part
def _weight_up_to(block: Floats, weight: Floats, n: int, limit: Floats, out: Doubles) -> None:
    """Float64 weight per lane of the samples not above ``limit``."""
    for p in range(LANES):
        out[p] = 0.0
    for k in range(0, n, 2):
        for p in range(LANES):
            v = pick(block[k, p] <= limit[p], weight[k, p], ZERO)
            w = pick(block[k + 1, p] <= limit[p], weight[k + 1, p], ZERO)
            out[p] += np.float64(v) + np.float64(w)


@part
def weighted_median(
    ordered: Floats, block: Floats, weight: Floats, n: int, valid: Ints, sums: Doubles, first: Ints, last: Ints,
    limit: Floats, result: Floats,
) -> None:  # fmt: skip
    """Mean of the lower and upper weighted median of every lane: bisection over its sorted samples.

    ``ordered`` is the block sorted, ``block`` the same unsorted; ``sums[0]`` holds the weight of each lane;
    ``first``, ``last``, ``limit`` and ``sums[1]`` are scratch.
    """
    below = sums[1]
    for p in range(LANES):
        first[p] = 0
        last[p] = max(valid[p] - 1, 0)
    left = n
    while left > 0:
        for p in range(LANES):
            limit[p] = ordered[(first[p] + last[p]) >> 1, p]
        _weight_up_to(block, weight, n, limit, below)
        for p in range(LANES):
            low = first[p]
            high = last[p]
            middle = np.int32((low + high) >> 1)
            enough = below[p] >= 0.5 * sums[0, p] * (1.0 - HALF_WEIGHT_ROUNDING)
            last[p] = pick(enough, middle, high)
            above = pick(middle < high, middle + np.int32(1), high)
            first[p] = pick(enough, low, np.int32(above))
        left >>= 1
    for p in range(LANES):
        limit[p] = ordered[first[p], p]
        result[p] = INF
    _weight_up_to(block, weight, n, limit, below)
    for k in range(n):
        for p in range(LANES):
            y = block[k, p]
            y = pick((y > limit[p]) & (weight[k, p] > ZERO), y, INF)
            z = result[p]
            result[p] = pick(y < z, y, z) + ZERO  # see `sortnet._exchanges`
    for p in range(LANES):
        exact = below[p] <= 0.5 * sums[0, p] * (1.0 + HALF_WEIGHT_ROUNDING)
        both = np.float32(0.5) * (limit[p] + result[p])
        result[p] = pick(exact & (result[p] < INF), both, limit[p])
        if valid[p] == 0 or not sums[0, p] > 0.0:
            result[p] = NAN
