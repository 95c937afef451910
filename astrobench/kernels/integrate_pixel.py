"""Combine one pixel in float64: fetch its samples in frame order, mark the rejected, give value and variance."""

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.integrate_inputs import MAX, MEDIAN, MIN, Apart, Column, Combining, Frames, Noise, Samples
from astrobench.kernels.integrate_lanes import HALF_WEIGHT_ROUNDING, INF, raw_sample
from astrobench.kernels.reject import median_of_run, model_variance, run_sums, sort_upwards
from astrobench.kernels.sortnet import LANES, Doubles, Floats, Index, Ints, inlined, part

KEPT, REJECTED, MISSING, SATURATED = range(4)  # codes of a sample


@part
def gather(samples: Samples, frames: Frames, apart: Apart, q: int, column: Column) -> None:
    """Fetch the samples of pixel ``q`` in frame order.

    Fills ``values`` (normalised), ``judged`` (those the rule sees, +inf where there is none),
    ``weights`` and ``code``. Saturated samples are left out unless no other is valid.
    """
    kept = 0
    cut = 0
    for k in range(frames.gain.size):
        x = raw_sample(samples, np.uintp(k * samples.step + q))
        y = x * frames.gain[k] + frames.offset[k]
        z = apart.judged[np.uintp(k * apart.judged_step + q)] if apart.judging else y
        w = frames.weight[k]
        good = abs(y) < INF and abs(z) < INF
        if apart.sharing:
            s = apart.share[np.uintp(k * apart.share_step + q)]
            good = good and s > 0 and s < INF
            w = w * s
        column.values[k] = np.float64(y)
        column.judged[k] = np.float64(z) if good else np.inf
        column.weights[k] = np.float64(w) if good else 0.0
        column.code[k] = KEPT if good else MISSING
        if good and frames.saturating and x >= frames.saturation[k]:
            column.code[k] = SATURATED
            cut += 1
        elif good:
            kept += 1
    if cut > 0:
        for k in range(frames.gain.size):
            if column.code[k] == SATURATED:
                if kept == 0:
                    column.code[k] = KEPT
                else:
                    column.judged[k] = np.inf


@part
def leave_out_saturated(
    samples: Samples, frames: Frames, apart: Apart, saturated: Ints, column: Column, block: Floats, start: int,
    m: int,
) -> None:  # fmt: skip
    """Turn saturated samples of a block into missing ones and count them, unless a pixel has no others."""
    n = frames.gain.size
    for p in range(LANES):
        saturated[p] = 0
    for k in range(n):
        limit = frames.saturation[k]
        for p in range(m):
            x = raw_sample(samples, np.uintp(k * samples.step + start + p))
            saturated[p] += np.int32(1) if (x >= limit) & (block[k, p] < INF) else np.int32(0)
    for p in range(m):
        if saturated[p] > 0:
            gather(samples, frames, apart, start + p, column)
            saturated[p] = 0
            for k in range(n):
                block[k, p] = np.float32(column.judged[k])
                saturated[p] += np.int32(1) if column.code[k] == SATURATED else np.int32(0)


@part
def gather_plain(samples: Samples, frames: Frames, q: int, values: Doubles) -> None:
    """Fetch the normalised samples of pixel ``q`` in frame order, +inf where there is none."""
    for k in range(frames.gain.size):
        y = raw_sample(samples, np.uintp(k * samples.step + q)) * frames.gain[k] + frames.offset[k]
        values[k] = np.float64(y) if abs(y) < INF else np.inf


@part
def count_cut(
    samples: Samples, frames: Frames, q: int, low: float, high: float, left: int, rejected: NDArray[np.int64]
) -> None:
    """Count per frame the ``left`` valid samples of pixel ``q`` that lie outside [low, high]."""
    for k in range(frames.gain.size):
        y = raw_sample(samples, np.uintp(k * samples.step + q)) * frames.gain[k] + frames.offset[k]
        if (y < low or y > high) and abs(y) < INF:
            rejected[k] += 1
            left -= 1
            if left == 0:
                break


@part
def count_codes(code: NDArray[np.int8], rejected: NDArray[np.int64]) -> None:
    """Count per frame what one pixel's codes say was left out."""
    for k in range(code.size):
        rejected[k] += 1 if code[k] == REJECTED or code[k] == SATURATED else 0


@part
def mark_rejected(column: Column, count: int, first: Index, last: Index, high_index_first: bool) -> None:
    """Mark the frames behind the ends of the surviving run; among equal samples by frame index."""
    ordered = column.ordered
    code = column.code
    low = ordered[first]
    high = ordered[last]
    low_ties = 0
    while first - low_ties > 0 and ordered[first - low_ties - 1] == low:
        low_ties += 1
    high_ties = 0
    while last + high_ties < count - 1 and ordered[last + high_ties + 1] == high:
        high_ties += 1
    for k in range(code.size):
        if code[k] != KEPT:
            continue
        x = column.judged[k]
        if x < low or x > high:
            code[k] = REJECTED
        elif x == low and low_ties > 0:
            code[k] = REJECTED
            low_ties -= 1
        elif x == high and high_ties > 0 and not high_index_first:
            code[k] = REJECTED
            high_ties -= 1
    if high_index_first:
        for k in range(code.size - 1, -1, -1):
            if high_ties > 0 and code[k] == KEPT and column.judged[k] == high:
                code[k] = REJECTED
                high_ties -= 1


@part
def weight_up_to(values: Doubles, weights: Doubles, code: NDArray[np.int8], limit: float) -> float:
    """Weight of the kept samples not above ``limit``; two sums, because one would wait for itself."""
    even = 0.0
    odd = 0.0
    n = values.size
    for k in range(0, n - 1, 2):
        even += weights[k] if (values[k] <= limit) & (code[k] == KEPT) else 0.0
        odd += weights[k + 1] if (values[k + 1] <= limit) & (code[k + 1] == KEPT) else 0.0
    if n & 1:
        even += weights[n - 1] if (values[n - 1] <= limit) & (code[n - 1] == KEPT) else 0.0
    return even + odd


@part
def weighted_median(
    values: Doubles, weights: Doubles, code: NDArray[np.int8], ordered: Doubles, first: Index, last: Index
) -> float:
    """Mean of the lower and upper weighted median of the kept samples with weight.

    ``ordered[first:last + 1]`` holds the kept values in ascending order, those without weight included.
    """
    half = 0.5 * weight_up_to(values, weights, code, np.inf)
    low = first
    high = last
    while low < high:
        middle = (low + high) >> 1
        if weight_up_to(values, weights, code, ordered[middle]) >= half * (1.0 - HALF_WEIGHT_ROUNDING):
            high = middle
        else:
            low = middle + 1
    lower = ordered[low]
    if weight_up_to(values, weights, code, lower) > half * (1.0 + HALF_WEIGHT_ROUNDING):
        return float(lower)
    upper = np.inf
    for k in range(values.size):
        if code[k] == KEPT and weights[k] > 0.0 and values[k] > lower:
            upper = min(upper, values[k])
    return float(0.5 * (lower + upper) if upper < np.inf else lower)


@part
def combine_cut(
    samples: Samples, frames: Frames, q: int, low: float, high: float, rejected: NDArray[np.int64]
) -> tuple[float, float, float]:
    """Weighted mean of the samples of pixel ``q`` within [low, high], its variance and weight; counts the rest.

    Only where no rejected sample equals a kept one.
    """
    total = 0.0
    sum_wy = 0.0
    sum_wyy = 0.0
    used = 0
    for k in range(frames.gain.size):
        y = raw_sample(samples, np.uintp(k * samples.step + q)) * frames.gain[k] + frames.offset[k]
        if y >= low and y <= high:
            w = np.float64(frames.weight[k])
            wy = w * np.float64(y)
            total += w
            sum_wy += wy
            sum_wyy += wy * np.float64(y)
            used += 1 if w > 0.0 else 0
        elif abs(y) < INF:
            rejected[k] += 1
    if used == 0:
        return np.nan, np.nan, 0.0
    mean = sum_wy / total
    squares = max(sum_wyy - sum_wy * mean, 0.0)
    return mean, squares / ((used - 1.0) * total) if used > 1 else np.nan, total


@inlined
def combine_run(
    column: Column, first: Index, last: Index, origin: float, middle: int, noise: Noise, combining: Combining
) -> tuple[float, float]:
    """Value and variance of a run of sorted samples of equal weight, from `reject.take_column`.

    With known noise ``judged`` must hold the pixel's samples.
    """
    ordered = column.ordered
    if combining.method == MIN:
        return ordered[first], np.nan
    if combining.method == MAX:
        return ordered[last], np.nan
    n = last - first + 1
    s1, s2 = run_sums(column.running1, column.running2, middle, first, last)
    value = origin + s1 / n
    variance = max(s2 - s1 * s1 / n, 0.0) / ((n - 1.0) * n) if n > 1 else np.nan
    if combining.method == MEDIAN:
        value = median_of_run(ordered, first, last)
    if noise.known:
        variance = 0.0
        for k in range(noise.sky.size):
            if column.judged[k] >= ordered[first] and column.judged[k] <= ordered[last]:
                variance += model_variance(value, noise.sky[k], noise.floor[k], noise.slope[k], noise.share)
        variance /= n * n
    if combining.method == MEDIAN:
        variance *= combining.median_factors[n]
    return value, variance


@part
def combine_codes(
    column: Column, first: Index, last: Index, weighted: bool, judging: bool, noise: Noise, combining: Combining
) -> tuple[float, float, float]:
    """Value, variance and weight of the kept samples of one gathered pixel (NaN, NaN, 0 where none has weight)."""
    values = column.values
    code = column.code
    weights = column.weights
    if not weighted:
        for k in range(values.size):
            weights[k] = 1.0
    total = 0.0
    moment = 0.0
    used = 0
    smallest = np.inf
    largest = -np.inf
    for k in range(values.size):
        if code[k] == KEPT and weights[k] > 0.0:
            total += weights[k]
            moment += weights[k] * values[k]
            used += 1
            smallest = min(smallest, values[k])
            largest = max(largest, values[k])
    if used == 0:
        return np.nan, np.nan, 0.0
    if combining.method == MIN:
        return smallest, np.nan, total
    if combining.method == MAX:
        return largest, np.nan, total
    mean = moment / total
    value = mean
    if combining.method == MEDIAN:
        ordered = column.ordered
        if judging:
            ordered = column.scratch
            first = np.int64(0)
            last = np.int64(-1)
            for k in range(values.size):
                if code[k] == KEPT:
                    last += 1
                    ordered[last] = values[k]
            sort_upwards(ordered, last + 1)
        value = weighted_median(values, weights, code, ordered, first, last)
    square = 0.0
    for k in range(values.size):
        if code[k] == KEPT and weights[k] > 0.0:
            w = weights[k]
            if noise.known:
                square += w * w * model_variance(value, noise.sky[k], noise.floor[k], noise.slope[k], noise.share)
            else:
                square += w * (values[k] - mean) ** 2
    if noise.known:
        variance = square / (total * total)
    elif used > 1:
        variance = square / ((used - 1) * total)
    else:
        variance = np.nan
    if combining.method == MEDIAN:
        variance *= combining.median_factors[used]
    return value, variance, total
