"""Combine one pixel in float64: fetch its samples in frame order, mark the rejected, give value and variance."""

import numpy as np

from astrobench.kernels.integrate_lanes import HALF_WEIGHT_ROUNDING, INF, raw_sample
from astrobench.kernels.reject import median_of_run, model_variance, run_sums, sort_upwards
from astrobench.kernels.sortnet import LANES, part

MEAN, MEDIAN, SUM, MIN, MAX = range(5)
COMBINATIONS = {"mean": MEAN, "median": MEDIAN, "sum": SUM, "min": MIN, "max": MAX}

KEPT, REJECTED, MISSING, SATURATED = range(4)  # codes of a sample


@part
def gather(data, frames, judging, q, values, judged_values, weights, code):
    """Fetch the samples of pixel ``q`` in frame order.

    Fills ``values`` (normalised), ``judged_values`` (those the rule sees, +inf where there is none), ``weights``
    and ``code``. Saturated samples are left out unless no other is valid.
    """
    kind, floats, words, step, pixels = data
    gain, offset, weight, saturation, weighted, saturating = frames
    judged, judged_step, judging_apart, share, share_step, sharing = judging
    kept = 0
    cut = 0
    for k in range(gain.size):
        x = raw_sample(kind, floats, words, np.uintp(k * step + q))
        y = x * gain[k] + offset[k]
        z = judged[np.uintp(k * judged_step + q)] if judging_apart else y
        w = weight[k]
        good = abs(y) < INF and abs(z) < INF
        if sharing:
            s = share[np.uintp(k * share_step + q)]
            good = good and s > 0 and s < INF
            w = w * s
        values[k] = np.float64(y)
        judged_values[k] = np.float64(z) if good else np.inf
        weights[k] = np.float64(w) if good else 0.0
        code[k] = KEPT if good else MISSING
        if good and saturating and x >= saturation[k]:
            code[k] = SATURATED
            cut += 1
        elif good:
            kept += 1
    if cut > 0:
        for k in range(gain.size):
            if code[k] == SATURATED:
                if kept == 0:
                    code[k] = KEPT
                else:
                    judged_values[k] = np.inf


@part
def leave_out_saturated(data, frames, judging, start, m, block, saturated, values, judged_values, weights, code):
    """Turn saturated samples of a block into missing ones and count them, unless a pixel has no others."""
    kind, floats, words, step, pixels = data
    saturation = frames[3]
    n = saturation.size
    for p in range(LANES):
        saturated[p] = 0
    for k in range(n):
        limit = saturation[k]
        for p in range(m):
            x = raw_sample(kind, floats, words, np.uintp(k * step + start + p))
            saturated[p] += np.int32(1) if (x >= limit) & (block[k, p] < INF) else np.int32(0)
    for p in range(m):
        if saturated[p] > 0:
            gather(data, frames, judging, start + p, values, judged_values, weights, code)
            saturated[p] = 0
            for k in range(n):
                block[k, p] = np.float32(judged_values[k])
                saturated[p] += np.int32(1) if code[k] == SATURATED else np.int32(0)


@part
def gather_plain(data, frames, q, values):
    """Fetch the normalised samples of pixel ``q`` in frame order, +inf where there is none."""
    kind, floats, words, step, pixels = data
    gain, offset, weight, saturation, weighted, saturating = frames
    for k in range(gain.size):
        y = raw_sample(kind, floats, words, np.uintp(k * step + q)) * gain[k] + offset[k]
        values[k] = np.float64(y) if abs(y) < INF else np.inf


@part
def count_cut(data, frames, q, low, high, left, rejected):
    """Count per frame the ``left`` valid samples of pixel ``q`` that lie outside [low, high]."""
    kind, floats, words, step, pixels = data
    gain, offset, weight, saturation, weighted, saturating = frames
    for k in range(gain.size):
        y = raw_sample(kind, floats, words, np.uintp(k * step + q)) * gain[k] + offset[k]
        if (y < low or y > high) and abs(y) < INF:
            rejected[k] += 1
            left -= 1
            if left == 0:
                break


@part
def mark_rejected(column, judged_values, code, count, first, last, high_index_first):
    """Mark the frames behind the ends of the surviving run; among equal samples by frame index."""
    low = column[first]
    high = column[last]
    low_ties = 0
    while first - low_ties > 0 and column[first - low_ties - 1] == low:
        low_ties += 1
    high_ties = 0
    while last + high_ties < count - 1 and column[last + high_ties + 1] == high:
        high_ties += 1
    frames = code.size
    for k in range(frames):
        if code[k] != KEPT:
            continue
        x = judged_values[k]
        if x < low or x > high:
            code[k] = REJECTED
        elif x == low and low_ties > 0:
            code[k] = REJECTED
            low_ties -= 1
        elif x == high and high_ties > 0 and not high_index_first:
            code[k] = REJECTED
            high_ties -= 1
    if high_index_first:
        for k in range(frames - 1, -1, -1):
            if high_ties > 0 and code[k] == KEPT and judged_values[k] == high:
                code[k] = REJECTED
                high_ties -= 1


@part
def weighted_median(values, weights, code, column, first, last):
    """Mean of the lower and upper weighted median of the kept samples with weight.

    ``column[first:last + 1]`` holds the kept values in ascending order, those without weight included.
    """
    half = 0.5 * weight_up_to(values, weights, code, np.inf)
    low = first
    high = last
    while low < high:
        middle = (low + high) >> 1
        if weight_up_to(values, weights, code, column[middle]) >= half * (1.0 - HALF_WEIGHT_ROUNDING):
            high = middle
        else:
            low = middle + 1
    lower = column[low]
    if weight_up_to(values, weights, code, lower) > half * (1.0 + HALF_WEIGHT_ROUNDING):
        return lower
    upper = np.inf
    for k in range(values.size):
        if code[k] == KEPT and weights[k] > 0.0 and values[k] > lower:
            upper = min(upper, values[k])
    return 0.5 * (lower + upper) if upper < np.inf else lower


@part
def weight_up_to(values, weights, code, limit):
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
def combine_cut(data, frames, q, low, high, rejected):
    """Weighted mean of the samples of pixel ``q`` within [low, high], variance and weight; counts the rest.

    Only where no rejected sample equals a kept one.
    """
    kind, floats, words, step, pixels = data
    gain, offset, weight, saturation, weighted, saturating = frames
    total = 0.0
    sum_wy = 0.0
    sum_wyy = 0.0
    used = 0
    for k in range(gain.size):
        y = raw_sample(kind, floats, words, np.uintp(k * step + q)) * gain[k] + offset[k]
        if y >= low and y <= high:
            w = np.float64(weight[k])
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


@part
def known_variance_cut(values, low, high, level, model):
    """Variance of the plain mean of the samples within [low, high], each with its frame's known noise."""
    sky, floor, slope, share, noisy = model
    total = 0.0
    square = 0.0
    for k in range(sky.size):
        if values[k] >= low and values[k] <= high:
            total += 1.0
            square += model_variance(level, sky[k], floor[k], slope[k], share)
    return square / (total * total)


@part
def combine_one(
    values, weights, code, combine, weighted, column, first, last, judging_apart, model, median_factor, work
):
    """Value, variance and weight of the kept samples of one pixel (NaN, NaN, 0 where nothing has weight)."""
    sky, floor, slope, share, noisy = model
    total = 0.0
    moment = 0.0
    used = 0
    smallest = np.inf
    largest = -np.inf
    for k in range(values.size):
        if code[k] == KEPT:
            w = weights[k] if weighted else 1.0
            if w > 0.0:
                total += w
                moment += w * values[k]
                used += 1
                smallest = min(smallest, values[k])
                largest = max(largest, values[k])
    if used == 0:
        return np.nan, np.nan, 0.0
    mean = moment / total
    value = mean
    if combine == MEDIAN:
        if judging_apart:
            kept = np.int64(0)
            for k in range(values.size):
                if code[k] == KEPT:
                    work[kept] = values[k]
                    kept += 1
            sort_upwards(work, kept)
            value = weighted_median(values, weights, code, work, np.int64(0), kept - 1)
        elif weighted:
            value = weighted_median(values, weights, code, column, first, last)
        else:
            value = median_of_run(column, first, last)
    elif combine == MIN:
        return smallest, np.nan, total
    elif combine == MAX:
        return largest, np.nan, total
    square = 0.0
    for k in range(values.size):
        if code[k] == KEPT:
            w = weights[k] if weighted else 1.0
            if w > 0.0:
                if noisy:
                    square += w * w * model_variance(value, sky[k], floor[k], slope[k], share)
                else:
                    square += w * (values[k] - mean) ** 2
    if noisy:
        variance = square / (total * total)
    elif used > 1:
        variance = square / ((used - 1) * total)
    else:
        variance = np.nan
    if combine == MEDIAN:
        variance *= median_factor[used]
    return value, variance, total


@part
def combine_run(
    combine, column, first, last, origin, middle, sum1, sum2, frame_values, model, median_factor
):
    """Value and variance of a run of sorted samples of equal weight, from `reject.take_column`."""
    n = last - first + 1
    s1, s2 = run_sums(sum1, sum2, middle, first, last)
    value = origin + s1 / n
    variance = max(s2 - s1 * s1 / n, 0.0) / ((n - 1.0) * n) if n > 1 else np.nan
    if combine == MIN:
        return column[first], np.nan
    if combine == MAX:
        return column[last], np.nan
    if combine == MEDIAN:
        value = median_of_run(column, first, last)
    if model[4]:
        variance = known_variance_cut(frame_values, column[first], column[last], value, model)
    if combine == MEDIAN:
        variance *= median_factor[n]
    return value, variance
