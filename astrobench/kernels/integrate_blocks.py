"""Integrate a range of pixels block by block: load, sort, screen, judge the few that may lose a sample, combine.

One compiled function for every rule, combination and sample type: sample types differ only in `load_row`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from astrobench.kernels import integrate_lanes as lanes
from astrobench.kernels import integrate_pixel as pixel
from astrobench.kernels import reject, sortnet
from astrobench.kernels.integrate_pixel import MAX, MEAN, MEDIAN, MIN, SUM
from astrobench.kernels.reject import GESD, MAD, MINMAX, MODEL, NONE, PERCENTILE, SIGMA, WINSORIZED
from astrobench.kernels.sortnet import LANES

INF = np.float32(np.inf)
NAN = np.float32(np.nan)


def _digest() -> int:
    """Number that changes with the text of every file compiled into the kernel.

    numba's cache only looks at the file of the cached function itself.
    """
    text = b"".join(Path(str(m.__file__)).read_bytes() for m in (lanes, pixel, reject, sortnet))
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")


def _build(source_digest: int) -> Callable[..., Any]:
    """Compile lazily; the digest is a closure value, so it enters the key of numba's cache."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def integrate_range(
        begin, end, data, frames, judging, rule_of, model, combining, tables, plan, out, rejected
    ):
        """Integrate pixels ``begin`` to ``end``; all arguments are tuples of arrays and numbers, see `integrate`."""
        if source_digest < 0:
            return
        kind, floats, words, step, pixels = data
        gain, offset, weight, saturation, weighted, saturating = frames
        judged, judged_step, judging_apart, share, share_step, sharing = judging
        rule, k_low, k_high, passes, floor, every = rule_of
        sky, noise_floor, noise_slope, noise_share, noisy = model
        combine, equal_weight, truncation = combining
        limits, limits2, median_factor = tables
        steps, rows, late = plan
        value, variance, coverage, low_count, high_count, weight_sum, lower, upper = out

        n = gain.size
        k_low32 = np.float32(k_low)
        k_high32 = np.float32(k_high)
        floor32 = np.float32(floor)
        sky32 = sky.astype(np.float32)
        noise_floor32 = noise_floor.astype(np.float32)
        noise_slope32 = noise_slope.astype(np.float32)
        share32 = np.float32(noise_share)
        sorting = rule != NONE or combine == MEDIAN
        unsorted_sums = weighted or not sorting
        keep_raw = unsorted_sums or rule == MODEL or noisy

        block = np.full((rows, LANES), INF, np.float32)
        flat = block.reshape(rows * LANES)
        raw = np.full((n if keep_raw and sorting else 1, LANES), INF, np.float32)
        weights = np.empty((n if weighted else 1, LANES), np.float32)
        if weighted:
            for k in range(n):
                weights[k, :] = weight[k]
        most = limits.shape[1]
        lane_limits = np.full((most if rule == GESD else 1, LANES), INF, np.float32)
        limits_for = np.full(LANES, -1, np.int32)

        valid = np.zeros(LANES, np.int32)
        saturated = np.zeros(LANES, np.int32)
        int1 = np.empty(LANES, np.int32)
        int2 = np.empty(LANES, np.int32)
        flag = np.zeros(LANES, np.bool_)
        lowest = np.empty(LANES, np.float32)
        highest = np.empty(LANES, np.float32)
        median = np.empty(LANES, np.float32)
        reached = np.empty(LANES, np.float32)
        f = np.empty((6, LANES), np.float32)
        sum1 = f[0]
        sum2 = f[1]
        d = np.zeros((6, LANES), np.float64)
        result = d[4]
        spread = d[5]
        total = np.empty(LANES, np.float64)

        frame_y = np.empty(n, np.float64)
        frame_judged = np.empty(n, np.float64)
        frame_weight = np.empty(n, np.float64)
        code = np.empty(n, np.int8)
        column = np.empty(n, np.float64)
        scratch1 = np.empty(n, np.float64)
        scratch2 = np.empty(n, np.float64)

        for p0 in range(begin, end, LANES):
            m = min(LANES, end - p0)
            for k in range(n):
                row = block[k]
                lanes.load_row(kind, floats, words, k * step + p0, m, gain[k], offset[k], row)
                for p in range(m, LANES):
                    row[p] = INF
            if saturating:
                for p in range(LANES):
                    saturated[p] = 0
                for k in range(n):
                    row = block[k]
                    for p in range(m):
                        if row[p] < INF and lanes.raw_sample(kind, floats, words, k * step + p0 + p) >= saturation[k]:
                            row[p] = INF
                            saturated[p] += 1
            if judging_apart:
                for k in range(n):
                    row = block[k]
                    other = judged[k * judged_step + p0 : k * judged_step + p0 + m]
                    for p in range(m):
                        row[p] = other[p] if row[p] < INF and abs(other[p]) < INF else INF
            if sharing:
                for k in range(n):
                    row = block[k]
                    w = share[k * share_step + p0 : k * share_step + p0 + m]
                    for p in range(m):
                        ok = w[p] > 0 and w[p] < INF
                        row[p] = row[p] if ok else INF
                        weights[k, p] = weight[k] * w[p] if ok else np.float32(0)
            if saturating:
                for p in range(m):
                    if saturated[p] > 0:
                        left = 0
                        for k in range(n):
                            left += block[k, p] < INF
                        if left == 0:
                            pixel.gather(
                                data, frames, judging, p0 + p, frame_y, frame_judged, frame_weight, code
                            )
                            saturated[p] = 0
                            for k in range(n):
                                block[k, p] = np.float32(frame_judged[k])
            source = block
            if keep_raw and sorting:
                for k in range(n):
                    row = block[k]
                    copy = raw[k]
                    for p in range(LANES):
                        copy[p] = row[p]
                source = raw

            full = False
            if sorting:
                sortnet.sort_block(flat, steps[:late])
                sortnet.sort_block(flat, steps[late:])
                full = lanes.sorted_marks(block, n, valid, lowest, highest, median)
                lanes.moments(block, n, median, sum1, sum2)
            else:
                lanes.count_valid(block, n, valid)
                lanes.extremes(block, n, lowest, highest)

            least = reject.KEEP_DEVIATION
            if rule == SIGMA or rule == MAD or rule == WINSORIZED:
                lanes.reach(lowest, highest, median, valid, k_low32, k_high32, floor32, least, reached)
            if rule == SIGMA:
                lanes.screen_sigma(valid, sum1, sum2, reached, flag)
            elif rule == MAD:
                lanes.screen_mad(block, n, valid, median, reached, int1, flag)
            elif rule == WINSORIZED:
                lanes.screen_winsorized(block, n, valid, median, sum1, sum2, reached, f[2], f[3], flag)
            elif rule == GESD:
                for p in range(LANES):
                    if limits_for[p] != valid[p]:
                        limits_for[p] = valid[p]
                        for i in range(most):
                            lane_limits[i, p] = limits2[valid[p], i]
                lanes.screen_gesd(
                    flat, valid, median, lowest, highest, sum1, sum2, lane_limits, floor32 * floor32, most,
                    f[2], f[3], int1, int2, f[4], f[5], flag,
                )  # fmt: skip
            elif rule == PERCENTILE:
                lanes.screen_percentile(valid, median, lowest, highest, k_low32, k_high32, flag)
            elif rule == MODEL:
                lanes.screen_model(
                    raw, n, valid, median, k_low32, k_high32, sky32, noise_floor32, noise_slope32, share32, flag
                )
            elif rule == MINMAX:
                flag[:] = True
            if every:
                flag[:] = True
            if saturating:
                for p in range(LANES):
                    flag[p] |= saturated[p] > 0

            if weighted:
                used = reached
                lanes.weighted_sums(source, n, weights, d[0], d[1], d[2], d[3], total)
                for p in range(LANES):
                    used[p] = np.float32(total[p])
                    total[p] = d[0, p]
                    result[p] = d[2, p] / d[0, p]
                    squares = max(d[3, p] - d[2, p] * result[p], 0.0)
                    spread[p] = squares / ((used[p] - np.float32(1)) * d[0, p])
            elif not sorting:
                lanes.plain_sums(source, n, d[0], d[1])
                for p in range(LANES):
                    v = np.float64(valid[p])
                    total[p] = v * equal_weight
                    result[p] = d[0, p] / v
                    spread[p] = max(d[1, p] - d[0, p] * result[p], 0.0) / ((v - 1.0) * v)
            else:
                for p in range(LANES):
                    v = np.float64(valid[p])
                    mean = np.float64(sum1[p]) / v
                    total[p] = v * equal_weight
                    result[p] = np.float64(median[p]) + mean
                    spread[p] = max(np.float64(sum2[p]) - np.float64(sum1[p]) * mean, 0.0) / ((v - 1.0) * v)
            if noisy:
                for p in range(m):
                    level = median[p] if combine == MEDIAN else result[p]
                    if weighted:
                        spread[p] = pixel.known_variance(source[:, p], weights[:, p], level, model)
                    else:
                        spread[p] = pixel.known_variance_equal(source[:, p], level, model)
            if combine == MEDIAN:
                for p in range(LANES):
                    result[p] = np.float64(median[p])
                    spread[p] *= median_factor[valid[p]]
            elif combine == MIN:
                for p in range(LANES):
                    result[p] = np.float64(lowest[p])
                    spread[p] = np.nan
            elif combine == MAX:
                for p in range(LANES):
                    result[p] = np.float64(highest[p])
                    spread[p] = np.nan

            unit = truncation if not noisy else 1.0
            if combine == SUM:
                unit *= n * n
            times = n if combine == SUM else 1.0
            for p in range(m):
                q = p0 + p
                v = valid[p]
                some = v > 0 and total[p] > 0.0
                value[q] = np.float32(result[p] * times) if some else NAN
                variance[q] = np.float32(spread[p] * unit) if some else NAN
                coverage[q] = v
                low_count[q] = 0
                high_count[q] = 0
                weight_sum[q] = np.float32(total[p]) if v > 0 else np.float32(0)
                lower[q] = lowest[p] if v > 0 else NAN
                upper[q] = highest[p] if v > 0 else NAN

            for p in range(m):
                if not flag[p]:
                    continue
                q = p0 + p
                v = valid[p]
                pixel.gather(data, frames, judging, q, frame_y, frame_judged, frame_weight, code)
                for i in range(v):
                    column[i] = np.float64(block[i, p])
                if not sorting:
                    column[:v] = np.sort(column[:v])
                first = 0
                last = v - 1
                below = 0
                above = 0
                if v == 0:
                    pass
                elif rule == GESD:
                    first, last = reject.gesd(column, frame_judged, v, limits[v], floor, scratch1, scratch2)
                elif rule == MINMAX:
                    first, last = reject.minmax(v, int(k_low), int(k_high))
                elif rule == PERCENTILE:
                    first, last = reject.percentile(column, frame_judged, v, k_low, k_high)
                elif rule == MODEL:
                    below, above = reject.model(
                        column, frame_judged, code, v, k_low, k_high, passes, sky, noise_floor, noise_slope,
                        noise_share, scratch1,
                    )  # fmt: skip
                    last = v - 1 - below - above
                elif rule != NONE:
                    first, last = reject.clip_iterated(
                        rule, column, frame_judged, v, k_low, k_high, passes, floor, scratch1, scratch2
                    )
                if v > 0 and rule != MODEL:
                    below = first
                    above = v - 1 - last
                    if below + above > 0:
                        pixel.mark_rejected(column, frame_judged, code, v, first, last, rule == MINMAX)
                if not every and below + above + saturated[p] == 0:
                    continue
                for k in range(n):
                    rejected[k] += code[k] == 1 or code[k] == 3
                r, s, w = pixel.combine_one(
                    frame_y, frame_weight, code, combine, weighted, column, first, last, judging_apart,
                    model, median_factor, scratch1,
                )  # fmt: skip
                value[q] = np.float32(r * times)
                variance[q] = np.float32(s * unit)
                coverage[q] = v + saturated[p]
                low_count[q] = below
                high_count[q] = above + saturated[p]
                weight_sum[q] = np.float32(w if weighted else w * equal_weight)
                if v > 0:
                    lower[q] = np.float32(column[first])
                    upper[q] = np.float32(column[last])

    compiled: Callable[..., Any] = integrate_range
    return compiled


integrate_range = _build(_digest())
