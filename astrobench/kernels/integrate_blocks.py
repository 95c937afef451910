"""Integrate a range of pixels block by block: load, sort, screen, judge the few that may lose a sample, combine.

One compiled function for every rule, combination and sample type: sample types differ only in `load_row`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels import integrate_lanes as lanes
from astrobench.kernels import integrate_pixel as pixel
from astrobench.kernels import reject, sortnet
from astrobench.kernels.integrate_pixel import MAX, MEAN, MEDIAN, MIN, REJECTED, SATURATED, SUM
from astrobench.kernels.reject import GESD, MAD, MINMAX, MODEL, NONE, PERCENTILE, SIGMA, WINSORIZED
from astrobench.kernels.sortnet import LANES

INF = np.float32(np.inf)
NAN = np.float32(np.nan)
ROWS_TOGETHER = 256  # rows loaded at once: 128 KB, within a second-level cache
SCRATCH_ROWS = 10  # lanes of float32 beside the samples


def make_scratch(frames: int, rows: int, removals: int) -> tuple[NDArray[Any], ...]:
    """Working memory of `integrate_range`; one per thread. ``removals`` is the width of the gesd table."""
    even = frames + frames % 2
    loaded = rows * max(1, ROWS_TOGETHER // rows)
    floats = np.full((loaded + SCRATCH_ROWS + 2 * even + removals, LANES), np.inf, np.float32)
    return (
        floats.reshape(-1)[: loaded * LANES],
        floats,
        np.zeros((6, frames), np.float64),
        np.zeros((4, LANES), np.float64),
        np.zeros((6, LANES), np.int32),
        np.zeros(4 * LANES, np.int32),
        np.zeros(7 * LANES, np.float32),
        np.zeros(LANES, np.bool_),
        np.zeros(frames, np.int8),
    )


def _digest() -> int:
    """Number that changes with the text of every file compiled into the kernel.

    numba's cache only looks at the file of the cached function itself.
    """
    text = b"".join(Path(str(m.__file__)).read_bytes() for m in (lanes, pixel, reject, sortnet))
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")


def _build(source_digest: int) -> Callable[..., Any]:
    """Compile lazily; the digest is a closure value, so it enters the key of numba's cache."""

    @njit(nogil=True, cache=True, error_model="numpy", _nrt=False)
    def integrate_range(
        begin, end, data, frames, judging, rule_of, model, combining, tables, plan, scratch, out, rejected
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
        limits, limits2, median_factor, sky32, noise_floor32, noise_slope32 = tables
        steps, rows, early = plan
        value, variance, coverage, low_count, high_count, weight_sum, lower, upper = out

        n = gain.size
        k_low32 = np.float32(k_low)
        k_high32 = np.float32(k_high)
        floor32 = np.float32(floor)
        share32 = np.float32(noise_share)
        sorting = rule != NONE or combine == MEDIAN or every
        simple = not (sharing or judging_apart or saturating)
        plain = simple and not weighted
        keep_raw = sorting and (weighted or noisy or rule == MODEL or rule == MINMAX)
        times = np.float64(n) if combine == SUM else 1.0
        unit = times * times * (1.0 if noisy else truncation)
        unit32 = np.float32(unit)
        equal_weight32 = np.float32(equal_weight)
        most = limits.shape[1]

        flat_blocks, floats32, floats64, sums, ints, work_ints, work_floats, flag, code = scratch
        together = max(1, ROWS_TOGETHER // rows)
        base = together * rows
        at = base + SCRATCH_ROWS
        n_even = n + (n & 1)
        raw = floats32[at : at + n_even]
        weights = floats32[at + n_even : at + 2 * n_even]
        lane_limits = floats32[at + 2 * n_even :]
        lowest = floats32[base]
        highest = floats32[base + 1]
        median = floats32[base + 2]
        reached = floats32[base + 3]
        sum1 = floats32[base + 4]
        sum2 = floats32[base + 5]
        total = floats32[base + 6]
        result = floats32[base + 7]
        spread = floats32[base + 8]
        valid = ints[0]
        saturated = ints[1]
        limits_for = ints[2]
        near = ints[3]
        int1 = ints[4]
        int2 = ints[5]
        near_sums = floats32[base + 9]
        frame_y = floats64[0]
        frame_judged = floats64[1]
        frame_weight = floats64[2]
        column = floats64[3]
        scratch1 = floats64[4]
        scratch2 = floats64[5]
        for p in range(LANES):
            saturated[p] = 0
            limits_for[p] = -1
        for k in range(n):
            for p in range(LANES):
                weights[k, p] = weight[k]
        for p in range(LANES):
            weights[n_even - 1, p] = weight[n - 1] if n_even == n else np.float32(0)

        for p0 in range(begin, end, LANES):
            m = min(LANES, end - p0)
            turn = ((p0 - begin) // LANES) % together
            if turn == 0:
                lanes.load_blocks(
                    kind, floats, words, step, n, p0, end, together, rows, gain, offset, floats32
                )
            block = floats32[turn * rows : (turn + 1) * rows]
            flat = flat_blocks[turn * rows * LANES : (turn + 1) * rows * LANES]
            if sharing:
                for k in range(n):
                    weight_k = weight[k]
                    for p in range(m):
                        w = share[np.uintp(k * share_step + p0 + p)]
                        covered = (w > np.float32(0)) & (w < INF)
                        y = block[k, p]
                        block[k, p] = y if covered else INF
                        weights[k, p] = weight_k * w if covered else np.float32(0)
            if judging_apart:
                for k in range(n):
                    for p in range(m):
                        x = judged[np.uintp(k * judged_step + p0 + p)]
                        y = block[k, p]
                        good = (y < INF) & (abs(x) < INF)
                        raw[k, p] = y if good else INF
                        block[k, p] = x if good else INF
                    for p in range(m, LANES):
                        raw[k, p] = INF
            if saturating:
                pixel.leave_out_saturated(
                    data, frames, judging, p0, m, block, saturated, frame_y, frame_judged, frame_weight, code
                )
            source = raw if keep_raw or judging_apart else block
            if keep_raw and not judging_apart:
                for k in range(n):
                    for p in range(LANES):
                        raw[k, p] = block[k, p]

            full = False
            if sorting:
                merged = sortnet.sort_block(flat, steps, early, rows, n, rule == NONE and not (every or weighted))
                if merged:
                    full = lanes.sorted_marks(block, n, valid, lowest, highest, median)
                else:
                    sortnet.median_of_halves(flat, rows, n, median, lowest, highest)
                    for p in range(LANES):
                        valid[p] = n
                lanes.moments(block, n, median, sum1, sum2)
            else:
                lanes.count_valid(block, n, valid)
                lanes.extremes(block, n, lowest, highest)

            cut = np.int64(0)  # samples that every unflagged lane loses, and those among them at the low end
            first_cut = np.int64(0)
            if rule == SIGMA or rule == MAD or rule == WINSORIZED:
                lanes.reach(
                    lowest, highest, median, valid, k_low32, k_high32, floor32, reject.KEEP_DEVIATION, reached
                )
            if rule == SIGMA:
                lanes.screen_sigma(valid, sum1, sum2, reached, flag)
            elif rule == MAD:
                lanes.screen_mad(block, n, valid, median, reached, near, flag)
            elif rule == WINSORIZED:
                lanes.screen_winsorized(
                    block, n, valid, median, sum1, sum2, reached, total, result, flag
                )
            elif rule == GESD:
                for p in range(LANES):
                    if limits_for[p] != valid[p]:
                        limits_for[p] = valid[p]
                        for i in range(most):
                            lane_limits[i, p] = limits2[valid[p], i]
                lanes.screen_gesd(
                    flat, valid, median, lowest, highest, sum1, sum2, lane_limits, floor32 * floor32, most,
                    work_floats, work_ints, flag,
                )  # fmt: skip
            elif rule == PERCENTILE:
                lanes.screen_percentile(valid, median, lowest, highest, k_low32, k_high32, flag)
            elif rule == MODEL:
                lanes.screen_model(
                    raw, n, valid, median, k_low32, k_high32, sky32, noise_floor32, noise_slope32, share32, flag
                )
            elif rule == MINMAX and full and combine != MEDIAN and not weighted and not noisy:
                first_cut, last = reject.minmax(n, int(k_low), int(k_high))
                cut = n - 1 - last + first_cut
                lanes.screen_ranks(block, n, first_cut, last, flag)
                lanes.run_moments(block, first_cut, last, median, sum1, sum2)
                for p in range(LANES):
                    lowest[p] = block[first_cut, p]
                    highest[p] = block[last, p]
            else:
                for p in range(LANES):
                    flag[p] = rule == MINMAX

            if weighted:
                lanes.weighted_sums(source, n, weights, sums)
                lanes.weighted_results(sums, times, total, result, spread)
            elif not sorting:
                lanes.plain_sums(source, n, sums)
                lanes.plain_results(sums, valid, times, total, result, spread)
            else:
                lanes.sorted_results(valid, cut, median, sum1, sum2, times, total, result, spread)
            if combine == MEDIAN and weighted:
                for p in range(LANES):
                    near[p] = np.int32(sums[3, p])
                lanes.weighted_median(block, source, weights, n, valid, sums, int1, int2, reached, result)
            elif combine == MEDIAN:
                for p in range(LANES):
                    result[p] = median[p]
                    near[p] = valid[p]
            if noisy:
                lanes.known_variance(
                    source, weights, n, weighted, result, np.float32(1.0 / times), sky32, noise_floor32,
                    noise_slope32, share32, near_sums, spread,
                )  # fmt: skip
            if combine == MEDIAN:
                for p in range(LANES):
                    spread[p] *= np.float32(median_factor[near[p]])
            elif combine == MIN or combine == MAX:
                for p in range(LANES):
                    result[p] = lowest[p] if combine == MIN else highest[p]
                    spread[p] = NAN

            # one array a loop: the compiler turns each into copies of whole vectors
            for p in range(m):
                value[np.uintp(p0 + p)] = result[p]
            for p in range(m):
                variance[np.uintp(p0 + p)] = spread[p] * unit32
            for p in range(m):
                weight_sum[np.uintp(p0 + p)] = total[p] * equal_weight32
            for p in range(m):
                lower[np.uintp(p0 + p)] = lowest[p]
            for p in range(m):
                upper[np.uintp(p0 + p)] = highest[p]
            for p in range(m):
                coverage[np.uintp(p0 + p)] = valid[p]
            for p in range(m):
                low_count[np.uintp(p0 + p)] = first_cut
            for p in range(m):
                high_count[np.uintp(p0 + p)] = cut - first_cut
            if cut > 0:
                lanes.count_outside(source, n, m, lowest, highest, flag, rejected)

            for p in range(m):
                if not (flag[p] or every or saturated[p] > 0):
                    continue
                q = p0 + p
                v = np.int64(valid[p])
                frame_judged[0] = np.nan
                if not simple or rule == MODEL:
                    pixel.gather(data, frames, judging, q, frame_y, frame_judged, frame_weight, code)
                origin = 0.0
                middle = np.int64(0)
                first = np.int64(0)
                last = v - 1
                below = np.int64(0)
                above = np.int64(0)
                if v > 0:
                    origin, middle = reject.take_column(block, p, v, column, scratch1, scratch2)
                if rule == MODEL:
                    below, above = reject.model(
                        column, frame_judged, code, v, k_low, k_high, passes, sky, noise_floor, noise_slope,
                        noise_share, scratch1,
                    )  # fmt: skip
                    last = v - 1 - below - above
                elif v > 0:
                    for _ in range(2):
                        if rule == GESD:
                            first, last = reject.gesd(
                                column, frame_judged, v, limits, v, floor, origin, middle, scratch1, scratch2
                            )
                        elif rule == MINMAX:
                            first, last = reject.minmax(v, int(k_low), int(k_high))
                        elif rule != NONE:
                            first, last = reject.clip_iterated(
                                rule, column, frame_judged, v, k_low, k_high, passes, floor, origin, middle,
                                scratch1, scratch2,
                            )  # fmt: skip
                        if first >= 0:
                            break
                        pixel.gather_plain(data, frames, q, frame_judged)
                    below = first
                    above = v - 1 - last
                if not every and below + above + saturated[p] == 0:
                    continue
                low_count[q] = below
                high_count[q] = above + saturated[p]
                coverage[q] = v + saturated[p]
                if v > 0:
                    lower[q] = np.float32(column[first])
                    upper[q] = np.float32(column[last])
                split = v > 0 and (
                    (first > 0 and column[first - 1] == column[first])
                    or (last < v - 1 and column[last + 1] == column[last])
                )
                if plain and rule != MODEL and not split:
                    pixel.count_cut(data, frames, q, block[first, p], block[last, p], below + above, rejected)
                    if noisy:
                        pixel.gather_plain(data, frames, q, frame_judged)
                    r, s = pixel.combine_run(
                        combine, column, first, last, origin, middle, scratch1, scratch2, frame_judged, model,
                        median_factor,
                    )  # fmt: skip
                    w = np.float64(last - first + 1)
                elif simple and weighted and not (split or noisy or combine != MEAN and combine != SUM) and rule != MODEL:
                    r, s, w = pixel.combine_cut(data, frames, q, block[first, p], block[last, p], rejected)
                else:
                    if simple and rule != MODEL:
                        pixel.gather(data, frames, judging, q, frame_y, frame_judged, frame_weight, code)
                    if rule != MODEL and below + above > 0:
                        pixel.mark_rejected(column, frame_judged, code, v, first, last, rule == MINMAX)
                    for k in range(n):
                        rejected[k] += np.int64(code[k] == REJECTED or code[k] == SATURATED)
                    r, s, w = pixel.combine_one(
                        frame_y, frame_weight, code, combine, weighted, column, first, last, judging_apart,
                        model, median_factor, scratch1,
                    )  # fmt: skip
                value[q] = np.float32(r * times)
                variance[q] = np.float32(s * unit)
                weight_sum[q] = np.float32(w * equal_weight)

    compiled: Callable[..., Any] = integrate_range
    return compiled


integrate_range = _build(_digest())
