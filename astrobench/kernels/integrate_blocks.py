"""Integrate a range of pixels block by block: load, sort, screen, judge the few that may lose a sample, combine.

One compiled function for every rule, combination and sample type; sample types differ only where they are loaded.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels import integrate_inputs as inputs
from astrobench.kernels import integrate_lanes as lanes
from astrobench.kernels import integrate_pixel as pixel
from astrobench.kernels import integrate_screens as screens
from astrobench.kernels import reject, sortnet
from astrobench.kernels.integrate_inputs import (
    MAX,
    MEDIAN,
    MIN,
    SUM,
    Apart,
    Column,
    Combining,
    Frames,
    Noise,
    Plan,
    Planes,
    Rule,
    Samples,
    Work,
)
from astrobench.kernels.reject import GESD, MAD, MINMAX, MODEL, NONE, PERCENTILE, SIGMA, WINSORIZED
from astrobench.kernels.sortnet import LANES, Floats, Index, inlined

INF = np.float32(np.inf)
NAN = np.float32(np.nan)


@inlined
def prepare(
    samples: Samples, frames: Frames, apart: Apart, work: Work, column: Column, block: Floats, start: int, m: int,
    keep_raw: bool,
) -> None:  # fmt: skip
    """Leave out what is uncovered or saturated, put judged values in place; returns the unsorted samples."""
    n = frames.gain.size
    raw = work.raw
    if apart.sharing:
        for k in range(n):
            weight = frames.weight[k]
            for p in range(m):
                w = apart.share[np.uintp(k * apart.share_step + start + p)]
                covered = (w > np.float32(0)) & (w < INF)
                y = block[k, p]
                block[k, p] = y if covered else INF
                work.weights[k, p] = weight * w if covered else np.float32(0)
    if apart.judging:
        for k in range(n):
            for p in range(m):
                x = apart.judged[np.uintp(k * apart.judged_step + start + p)]
                y = block[k, p]
                good = (y < INF) & (abs(x) < INF)
                raw[k, p] = y if good else INF
                block[k, p] = x if good else INF
            for p in range(m, LANES):
                raw[k, p] = INF
    if frames.saturating:
        pixel.leave_out_saturated(samples, frames, apart, work.saturated, column, block, start, m)
    if keep_raw and not apart.judging:
        for k in range(n):
            for p in range(LANES):
                raw[k, p] = block[k, p]


@inlined
def describe(work: Work, block: Floats, flat: Floats, n: int, plan: Plan, sorting: bool, merging: bool) -> bool:
    """Sort the block where needed; count, ends, median and moments of every lane. True where nothing is missing."""
    if not sorting:
        lanes.count_valid(block, n, work.valid)
        lanes.extremes(block, n, work.lowest, work.highest)
        return False
    full = True
    if sortnet.sort_block(flat, plan.steps, plan.early, plan.rows, n, not merging):
        full = lanes.sorted_marks(block, n, work.valid, work.lowest, work.highest, work.median)
    else:
        sortnet.median_of_halves(flat, plan.rows, n, work.median, work.lowest, work.highest)
        for p in range(LANES):
            work.valid[p] = n
    lanes.moments(block, n, work.median, work.sum1, work.sum2)
    return full


@inlined
def screen(work: Work, block: Floats, flat: Floats, n: int, rule: Rule, noise: Noise) -> None:
    """Flag the lanes where the rule may reject a sample."""
    low = np.float32(rule.low)
    high = np.float32(rule.high)
    floor = np.float32(rule.floor)
    flag = work.flag
    valid = work.valid
    median = work.median
    reached = work.reached
    number = rule.number
    if number == SIGMA or number == MAD or number == WINSORIZED:  # noqa: SIM109
        screens.reach(
            work.lowest, work.highest, median, valid, low, high, floor, reject.KEEP_DEVIATION, reached
        )
    if number == SIGMA:
        screens.screen_sigma(valid, work.sum1, work.sum2, reached, flag)
    elif number == MAD:
        screens.screen_mad(block, n, valid, median, reached, work.used, flag)
    elif number == WINSORIZED:
        screens.screen_winsorized(
            block, n, valid, median, work.sum1, work.sum2, reached, work.total, work.result, flag
        )
    elif number == GESD:
        for p in range(LANES):
            if work.limits_for[p] != valid[p]:
                work.limits_for[p] = valid[p]
                for i in range(rule.limits2.shape[1]):
                    work.limits2[i, p] = rule.limits2[valid[p], i]
        screens.screen_gesd(
            flat, valid, median, work.lowest, work.highest, work.sum1, work.sum2, work.limits2, floor * floor,
            rule.limits2.shape[1], work.gesd_floats, work.gesd_ints, flag,
        )  # fmt: skip
    elif number == PERCENTILE:
        screens.screen_percentile(valid, median, work.lowest, work.highest, low, high, flag)
    elif number == MODEL:
        screens.screen_model(
            work.raw, n, valid, median, low, high, noise.sky32, noise.floor32, noise.slope32,
            np.float32(noise.share), flag,
        )  # fmt: skip
    else:
        for p in range(LANES):
            flag[p] = number == MINMAX


@inlined
def cut_ranks(work: Work, block: Floats, n: int, rule: Rule) -> tuple[Index, Index]:
    """Reject fixed counts in every lane of a full block; returns how many in all and how many at the low end.

    Lanes where that would part equal samples stay flagged.
    """
    first, last = reject.minmax(n, int(rule.low), int(rule.high))
    screens.screen_ranks(block, n, first, last, work.flag)
    lanes.run_moments(block, first, last, work.median, work.sum1, work.sum2)
    for p in range(LANES):
        work.lowest[p] = block[first, p]
        work.highest[p] = block[last, p]
    return n - 1 - last + first, first


@inlined
def combine_lanes(
    work: Work, block: Floats, raw: Floats, n: int, cut: Index, sorting: bool, frames: Frames, noise: Noise,
    combining: Combining,
) -> None:  # fmt: skip
    """Value, variance and weight of every lane as if it lost nothing more."""
    method = combining.method
    times = np.float64(n) if method == SUM else 1.0
    result = work.result
    spread = work.spread
    if frames.weighted:
        lanes.weighted_sums(raw, n, work.weights, work.sums)
        lanes.weighted_results(work.sums, times, work.total, result, spread)
    elif not sorting:
        lanes.plain_sums(raw, n, work.sums)
        lanes.plain_results(work.sums, work.valid, times, work.total, result, spread)
    else:
        lanes.sorted_results(
            work.valid, cut, work.median, work.sum1, work.sum2, times, work.total, result, spread
        )
    if method == MEDIAN and frames.weighted:
        for p in range(LANES):
            work.used[p] = np.int32(work.sums[3, p])
        lanes.weighted_median(
            block, raw, work.weights, n, work.valid, work.sums, work.first, work.last, work.reached, result
        )
    elif method == MEDIAN:
        for p in range(LANES):
            result[p] = work.median[p]
            work.used[p] = work.valid[p]
    if noise.known:
        lanes.known_variance(
            raw, work.weights, n, frames.weighted, result, np.float32(1.0 / times), noise.sky32, noise.floor32,
            noise.slope32, np.float32(noise.share), work.spare, spread,
        )  # fmt: skip
    if method == MEDIAN:
        for p in range(LANES):
            spread[p] *= np.float32(combining.median_factors[work.used[p]])
    elif method == MIN:
        for p in range(LANES):
            result[p] = work.lowest[p]
            spread[p] = NAN
    elif method == MAX:
        for p in range(LANES):
            result[p] = work.highest[p]
            spread[p] = NAN


@inlined
def write_lanes(
    work: Work, out: Planes, start: int, m: int, unit: np.float32, equal_weight: np.float32, cut: Index,
    first_cut: Index,
) -> None:  # fmt: skip
    """Write a block's results; one array a loop, which the compiler turns into copies of whole vectors."""
    for p in range(m):
        out.value[np.uintp(start + p)] = work.result[p]
    for p in range(m):
        out.variance[np.uintp(start + p)] = work.spread[p] * unit
    for p in range(m):
        out.weight[np.uintp(start + p)] = work.total[p] * equal_weight
    for p in range(m):
        out.lower[np.uintp(start + p)] = work.lowest[p]
    for p in range(m):
        out.upper[np.uintp(start + p)] = work.highest[p]
    for p in range(m):
        out.coverage[np.uintp(start + p)] = work.valid[p]
    for p in range(m):
        out.low[np.uintp(start + p)] = first_cut
    for p in range(m):
        out.high[np.uintp(start + p)] = cut - first_cut


@inlined
def judge_sorted(
    samples: Samples, frames: Frames, rule: Rule, column: Column, count: int, q: int, origin: float, middle: Index
) -> tuple[Index, Index]:
    """Surviving run of one pixel's sorted samples by any rule but the noise model."""
    first = np.int64(0)
    last = count - 1
    for _ in range(2):
        if rule.number == GESD:
            first, last = reject.gesd(
                column.ordered, column.judged, count, rule.limits, count, rule.floor, origin, middle,
                column.running1, column.running2,
            )  # fmt: skip
        elif rule.number == MINMAX:
            first, last = reject.minmax(count, int(rule.low), int(rule.high))
        elif rule.number != NONE:
            first, last = reject.clip_iterated(
                rule.number, column.ordered, column.judged, count, rule.low, rule.high, rule.passes, rule.floor,
                origin, middle, column.running1, column.running2,
            )  # fmt: skip
        if first >= 0:
            break
        pixel.gather_plain(samples, frames, q, column.judged)
    return first, last


@inlined
def judge_lanes(
    samples: Samples, frames: Frames, apart: Apart, rule: Rule, noise: Noise, combining: Combining, work: Work,
    column: Column, block: Floats, start: int, m: int, out: Planes, rejected: NDArray[np.int64],
) -> None:  # fmt: skip
    """Judge the flagged pixels exactly and, where one loses a sample, write its results anew."""
    ordered = column.ordered
    simple = not (apart.sharing or apart.judging or frames.saturating)
    ranked = rule.number != MODEL
    method = combining.method
    averaging = method != MEDIAN and method != MIN and method != MAX
    times = np.float64(frames.gain.size) if method == SUM else 1.0
    unit = times * times * (1.0 if noise.known else combining.truncation)
    for p in range(m):
        if not (work.flag[p] or combining.every or work.saturated[p] > 0):
            continue
        q = start + p
        count = np.int64(work.valid[p])
        column.judged[0] = np.nan
        if not (simple and ranked):
            pixel.gather(samples, frames, apart, q, column)
        origin = 0.0
        middle = np.int64(0)
        first = np.int64(0)
        last = count - 1
        below = np.int64(0)
        above = np.int64(0)
        if count > 0:
            origin, middle = reject.take_column(block, p, count, ordered, column.running1, column.running2)
        if not ranked:
            below, above = reject.model(
                ordered, column.judged, column.code, count, rule.low, rule.high, rule.passes, noise.sky,
                noise.floor, noise.slope, noise.share, column.scratch,
            )  # fmt: skip
            last = count - 1 - below - above
        elif count > 0:
            first, last = judge_sorted(samples, frames, rule, column, count, q, origin, middle)
            below = first
            above = count - 1 - last
        if below + above + work.saturated[p] == 0 and not combining.every:
            continue
        split = (first > 0 and ordered[first - 1] == ordered[first]) or (
            last < count - 1 and ordered[last + 1] == ordered[last]
        )
        direct = simple and ranked and not split
        if direct and not frames.weighted:
            pixel.count_cut(samples, frames, q, block[first, p], block[last, p], below + above, rejected)
            if noise.known:
                pixel.gather_plain(samples, frames, q, column.judged)
            value, spread = pixel.combine_run(column, first, last, origin, middle, noise, combining)
            weight = np.float64(last - first + 1)
        elif direct and averaging and not noise.known:
            value, spread, weight = pixel.combine_cut(
                samples, frames, q, block[first, p], block[last, p], rejected
            )
        else:
            if simple and ranked:
                pixel.gather(samples, frames, apart, q, column)
            if ranked and below + above > 0:
                pixel.mark_rejected(column, count, first, last, rule.number == MINMAX)
            pixel.count_codes(column.code, rejected)
            value, spread, weight = pixel.combine_codes(
                column, first, last, frames.weighted, apart.judging, noise, combining
            )
        out.value[q] = np.float32(value * times)
        out.variance[q] = np.float32(spread * unit)
        out.weight[q] = np.float32(weight * combining.equal_weight)
        out.coverage[q] = count + work.saturated[p]
        out.low[q] = below
        out.high[q] = above + work.saturated[p]
        if count > 0:
            out.lower[q] = np.float32(ordered[first])
            out.upper[q] = np.float32(ordered[last])


def _build(source_digest: int) -> Callable[..., Any]:
    """Compile lazily; the digest is a closure value, so it enters the key of numba's cache."""
    compiler: Callable[..., Any] = njit

    # nothing is allocated inside, and nobody but Python calls it
    @compiler(nogil=True, cache=True, error_model="numpy", _nrt=False, no_cfunc_wrapper=True)
    def integrate_range(
        begin: int, end: int, samples: Any, frames: Any, apart: Any, rule: Any, noise: Any, combining: Any,
        plan: Any, work: Any, column: Any, out: Any, rejected: Any,
    ) -> None:  # fmt: skip
        """Integrate pixels ``begin`` to ``end``; the groups are those of `integrate_inputs`."""
        if source_digest < 0:
            return
        n = frames.gain.size
        number = rule.number
        sorting = number != NONE or combining.method == MEDIAN or combining.every
        merging = number != NONE or combining.every or frames.weighted
        keep_raw = sorting and (frames.weighted or noise.known or number in (MODEL, MINMAX))
        ranks = number == MINMAX and combining.method != MEDIAN and not (frames.weighted or noise.known)
        times = np.float64(n) if combining.method == SUM else 1.0
        unit = np.float32(times * times * (1.0 if noise.known else combining.truncation))
        equal_weight = np.float32(combining.equal_weight)
        rows = plan.rows
        together = work.blocks.shape[0] // rows
        for start in range(begin, end, LANES):
            m = min(LANES, end - start)
            turn = ((start - begin) // LANES) % together
            if turn == 0:
                lanes.load_blocks(samples, frames, n, start, end, together, rows, work.blocks)
            block = work.blocks[turn * rows : (turn + 1) * rows]
            flat = work.flat[turn * rows * LANES : (turn + 1) * rows * LANES]
            prepare(samples, frames, apart, work, column, block, start, m, keep_raw)
            raw = work.raw if keep_raw or apart.judging else block
            full = describe(work, block, flat, n, plan, sorting, merging)
            screen(work, block, flat, n, rule, noise)
            cut = np.int64(0)
            first_cut = np.int64(0)
            if ranks and full and not combining.every:
                cut, first_cut = cut_ranks(work, block, n, rule)
            combine_lanes(work, block, raw, n, cut, sorting, frames, noise, combining)
            write_lanes(work, out, start, m, unit, equal_weight, cut, first_cut)
            if cut > 0:
                lanes.count_outside(raw, n, m, work.lowest, work.highest, work.flag, rejected)
            judge_lanes(
                samples, frames, apart, rule, noise, combining, work, column, block, start, m, out, rejected
            )

    compiled: Callable[..., Any] = integrate_range
    return compiled


def _digest() -> int:
    """Give a number that changes with the text of every file compiled into the kernel.

    numba's cache only looks at the file of the cached function itself.
    """
    text = b"".join(Path(str(m.__file__)).read_bytes() for m in (inputs, lanes, pixel, reject, screens, sortnet))
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")


integrate_range = _build(_digest())
