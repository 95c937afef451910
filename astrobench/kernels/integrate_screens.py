"""Screen a block of pixels for outliers.

Can the rule reject anything in a lane? The screens work in float32 about the median, on whole rows (see
`integrate_lanes`), and lean to "yes" by `MARGIN`, which covers their rounding; the exact judges of `reject` decide.
"""

import numpy as np

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.reject import WINSOR_CLAMP, WINSOR_TO_SIGMA
from astrobench.kernels.sortnet import LANES, Flags, Floats, Ints, part, pick

INF = np.float32(np.inf)
ZERO = np.float32(0)
ONE = np.float32(1)
MARGIN = np.float32(1e-4)  # relative; sums of 300 float32 terms about the median err by less than 2e-5
LEVEL_ROUNDING = np.float32(2.5e-7)  # relative; the float32 median of an even count is off by half a step
TIE_MARGIN = np.float32(1e-5)
SPENT = np.float32(1e-3)  # of the first sum of squares: below it the running float32 sum has lost its digits
_MAD_TO_SIGMA = np.float32(MAD_TO_SIGMA)
_WINSOR_CLAMP = np.float32(WINSOR_CLAMP)
_WINSOR_TO_SIGMA = np.float32(WINSOR_TO_SIGMA)


@part
def reach(
    lowest: Floats, highest: Floats, median: Floats, valid: Ints, k_low: float, k_high: float, floor: float,
    least: int, reached: Floats,
) -> None:  # fmt: skip
    """Scale per lane below which one of the ends is rejected; 0 where nothing can be.

    An end x is rejected exactly when the scale is below |x - median| / k. Enlarged by the rounding margin.
    """
    smaller = pick(k_low < k_high, k_low, k_high)
    for p in range(LANES):
        c = median[p]
        below = (c - lowest[p]) / k_low
        above = (highest[p] - c) / k_high
        far = pick(below > above, below, above)
        far = far * (ONE + MARGIN) + LEVEL_ROUNDING * abs(c) / smaller
        live = valid[p] > least and highest[p] > lowest[p] and far > floor
        reached[p] = pick(live, far, ZERO)


@part
def screen_sigma(valid: Ints, sum1: Floats, sum2: Floats, reached: Floats, flag: Flags) -> None:
    """Flag lanes whose standard deviation is below the scale at which an end falls."""
    for p in range(LANES):
        v = np.float32(valid[p])
        variance = (sum2[p] - sum1[p] * sum1[p] / v) / (v - ONE)
        flag[p] = reached[p] > ZERO and not (variance > reached[p] * reached[p])


@part
def screen_mad(block: Floats, n: int, valid: Ints, median: Floats, reached: Floats, count: Ints, flag: Flags) -> None:
    """Flag lanes where at least half the samples lie nearer than the MAD that lets the ends stay.

    The MAD is below T exactly when the middle of the sorted deviations is: counting beats sorting them.
    """
    for p in range(LANES):
        count[p] = 0
    for k in range(0, n, 4):
        for p in range(LANES):
            c = median[p]
            t = reached[p] * (ONE / _MAD_TO_SIGMA)
            near = pick(abs(block[k, p] - c) < t, np.int32(1), np.int32(0))
            near += pick(abs(block[k + 1, p] - c) < t, np.int32(1), np.int32(0))
            near += pick(abs(block[k + 2, p] - c) < t, np.int32(1), np.int32(0))
            near += pick(abs(block[k + 3, p] - c) < t, np.int32(1), np.int32(0))
            count[p] += near
    for p in range(LANES):
        flag[p] = reached[p] > ZERO and count[p] >= (valid[p] + 1) >> 1


@part
def screen_winsorized(
    block: Floats, n: int, valid: Ints, median: Floats, sum1: Floats, sum2: Floats, reached: Floats, work1: Floats,
    work2: Floats, flag: Flags,
) -> None:  # fmt: skip
    """Flag lanes whose Winsorised sigma may be below the scale S at which an end falls; one pass, no iteration.

    Let g(t) = 1.134 sd(samples clamped to median +- t). Clamping is a contraction, so g never falls with t. The
    iteration starts at sd and clamps at 1.5 times the smallest sigma so far; if sd >= S and g(1.5 S) >= S, then
    by induction no sigma of the sequence is below S, and nothing is rejected.
    """
    for p in range(LANES):
        work1[p] = ZERO
        work2[p] = ZERO
    for k in range(0, n, 4):
        for p in range(LANES):
            c = median[p]
            t = reached[p] * _WINSOR_CLAMP
            d0 = pick(block[k, p] < INF, block[k, p] - c, ZERO)
            d1 = pick(block[k + 1, p] < INF, block[k + 1, p] - c, ZERO)
            d2 = pick(block[k + 2, p] < INF, block[k + 2, p] - c, ZERO)
            d3 = pick(block[k + 3, p] < INF, block[k + 3, p] - c, ZERO)
            d0 = pick(d0 < t, d0, t)
            d1 = pick(d1 < t, d1, t)
            d2 = pick(d2 < t, d2, t)
            d3 = pick(d3 < t, d3, t)
            d0 = pick(d0 > -t, d0, -t)
            d1 = pick(d1 > -t, d1, -t)
            d2 = pick(d2 > -t, d2, -t)
            d3 = pick(d3 > -t, d3, -t)
            work1[p] = work1[p] + ((d0 + d1) + (d2 + d3))
            work2[p] = work2[p] + ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3))
    scale = _WINSOR_TO_SIGMA * _WINSOR_TO_SIGMA
    for p in range(LANES):
        v = np.float32(valid[p])
        s = reached[p] * reached[p] * (ONE + MARGIN)
        variance = (sum2[p] - sum1[p] * sum1[p] / v) / (v - ONE)
        clamped = scale * (work2[p] - work1[p] * work1[p] / v) / (v - ONE)
        flag[p] = reached[p] > ZERO and not (variance >= s and clamped >= s)


@part
def screen_gesd(
    flat: Floats, valid: Ints, median: Floats, lowest: Floats, highest: Floats, sum1: Floats, sum2: Floats,
    limits2: Floats, floor2: float, steps: int, floats: Floats, ints: Ints, flag: Flags,
) -> None:  # fmt: skip
    """Flag lanes where some R_i may exceed lambda_i: all removals of the exact test, on float32 running sums.

    ``limits2`` (K, LANES) float32 holds lambda_i squared for each lane's own count, +inf behind its last. The
    sums stay good until an R_i exceeds its limit, and from then on the lane is flagged anyway; so are lanes
    where the two ends are about equally far, because the exact test may take the other one.

    ``floats`` (7 LANES,) and ``ints`` (4 LANES,) are scratch: one array each, at constant distances, because with
    more arrays the compiler gives up proving that they do not overlap.
    """
    for p in range(LANES):
        floats[p] = sum1[p]
        floats[p + LANES] = sum2[p]
    for p in range(LANES):
        floats[p + 2 * LANES] = lowest[p] - median[p]
        floats[p + 3 * LANES] = highest[p] - median[p]
    for p in range(LANES):
        floats[p + 4 * LANES] = sum2[p] * SPENT
        floats[p + 5 * LANES] = np.float32(valid[p])
    for p in range(LANES):
        ints[p] = p
        ints[p + LANES] = (valid[p] - np.int32(1)) * np.int32(LANES) + np.int32(p)
        ints[p + 2 * LANES] = 0
    for i in range(steps):
        for p in range(LANES):
            s1 = floats[p]
            s2 = floats[p + LANES]
            x_low = floats[p + 2 * LANES]
            x_high = floats[p + 3 * LANES]
            spent = floats[p + 4 * LANES]
            v = floats[p + 5 * LANES]
            limit = limits2[i, p]
            mean = s1 / v
            squares = s2 - s1 * mean
            below = mean - x_low
            above = x_high - mean
            far = pick(below > above, below, above)
            other = pick(below > above, above, below)
            least = floor2 * (v - ONE)
            scale = pick(squares > least, squares, least)
            certain = limit * scale * (ONE - MARGIN) - far * far * (v - ONE)
            apart = far * (ONE - TIE_MARGIN) - other
            worst = pick(certain < apart, certain, apart)
            worst = pick(worst < squares - spent, worst, squares - spent)
            doubt = pick(worst > ZERO, np.int32(0), np.int32(1))
            ints[p + 2 * LANES] |= pick(limit < INF, doubt, np.int32(0))
            d = pick(below > above, x_low, x_high)
            floats[p] = s1 - d
            floats[p + LANES] = s2 - d * d
            floats[p + 5 * LANES] = v - ONE
            low = ints[p]
            high = ints[p + LANES]
            next_low = pick(below > above, low + np.int32(LANES), low)
            next_high = pick(below > above, high, high - np.int32(LANES))
            ints[p] = next_low
            ints[p + LANES] = next_high
            fetch = pick(below > above, next_low, next_high)
            fetch = pick(next_low < next_high, fetch, np.int32(p))
            ints[p + 3 * LANES] = fetch
        for p in range(LANES):  # apart, or the compiler cannot know that the loads meet none of the stores
            floats[p + 6 * LANES] = flat[np.uintp(ints[p + 3 * LANES])]
        for p in range(LANES):
            x = floats[p + 6 * LANES] - median[p]
            from_low = ints[p + 3 * LANES] == ints[p]
            x_low = floats[p + 2 * LANES]
            x_high = floats[p + 3 * LANES]
            floats[p + 2 * LANES] = pick(from_low, x, x_low)
            floats[p + 3 * LANES] = pick(from_low, x_high, x)
    for p in range(LANES):
        flag[p] = (ints[p + 2 * LANES] != 0) & (highest[p] > lowest[p])


@part
def screen_percentile(
    valid: Ints, median: Floats, lowest: Floats, highest: Floats, k_low: float, k_high: float, flag: Flags
) -> None:
    """Flag lanes with an end farther from the median than its share of the median."""
    for p in range(LANES):
        c = median[p]
        slack = (ONE - MARGIN) * c
        rounding = LEVEL_ROUNDING * c
        low = c - lowest[p] + rounding > k_low * slack
        high = highest[p] - c + rounding > k_high * slack
        flag[p] = valid[p] > 1 and c > ZERO and (low or high)


@part
def screen_model(
    block: Floats, n: int, valid: Ints, median: Floats, k_low: float, k_high: float, sky: Floats, floor: Floats,
    slope: Floats, share: float, flag: Flags,
) -> None:  # fmt: skip
    """Flag lanes with a sample beyond its own frame's known noise about the median. ``block`` is unsorted."""
    low2 = k_low * k_low * (ONE - MARGIN)
    high2 = k_high * k_high * (ONE - MARGIN)
    for p in range(LANES):
        flag[p] = False
    for k in range(n):
        sky_k = sky[k]
        floor_k = floor[k]
        slope_k = slope[k]
        for p in range(LANES):
            c = median[p]
            signal = c - sky_k
            signal = pick(signal > ZERO, signal, ZERO)
            variance = floor_k + slope_k * signal + (share * signal) * (share * signal)
            y = block[k, p]
            d = y - c
            k2 = pick(d > ZERO, high2, low2)
            slack = abs(d) + LEVEL_ROUNDING * abs(c)
            flag[p] |= (y < INF) & (slack * slack > k2 * variance)
    for p in range(LANES):
        flag[p] &= valid[p] > 1


@part
def screen_ranks(block: Floats, n: int, first: int, last: int, flag: Flags) -> None:
    """Flag lanes where a fixed cut of the sorted rows would separate equal samples."""
    for p in range(LANES):
        flag[p] = False
    if first > 0:
        for p in range(LANES):
            flag[p] |= block[first - 1, p] == block[first, p]
    if last < n - 1:
        for p in range(LANES):
            flag[p] |= block[last + 1, p] == block[last, p]
