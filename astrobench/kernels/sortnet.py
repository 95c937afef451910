"""Sort the samples of many pixels at once: min/max networks along the frames, vector lanes across pixels.

A block holds ``LANES`` pixels side by side, one row per frame. Sorting along the rows needs only
``minps``/``maxps`` on whole rows, so there is no data-dependent branch and the CPU's vector width is used in
full. Single compare-exchanges would load and store every row again each time; the steps here ("sort 16 rows",
"merge two sorted runs of 8") keep their rows in registers, 2.5 times faster at 30 frames.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 128  # pixels per block: 32 rows of 64 float32 = 8 KB, 128 rows = 32 KB, within a first-level cache

# Decorator of the functions compiled into a kernel. They allocate nothing, so reference counts of their arguments
# need no keeping (a tenth of the whole time), and nobody calls them from Python, so they need no wrappers.
_options: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
part: Callable[..., Any] = njit(nogil=True, error_model="numpy", **_options)
# The same for what is called at one place with many arguments: passing those would cost more than the work.
inlined: Callable[..., Any] = njit(nogil=True, error_model="numpy", inline="always", **_options)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]
# numba takes a constant int for a type of its own and compiles what it is given to once more: hence np.int64(0)
Index = int | np.int64

INF = np.float32(np.inf)
ZERO = np.float32(0)

EXCHANGE, SORT8, SORT16, MERGE16 = range(4)


def _pick(context: Any, condition: Any, a: Any, b: Any) -> Any:
    """``a if condition else b`` without a branch: both exist already, one type, one select instruction.

    The optimiser would make the same of a branch, after twice the time for the whole network.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(condition, a, a), generate


pick: Callable[..., Any] = intrinsic(_pick)  # the compiler fills in the context

# 19 comparators for 8 rows (Knuth, The Art of Computer Programming 3, section 5.3.4)
_SORT8_PAIRS = [
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3),
    (4, 5), (6, 7), (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
]  # fmt: skip

# 60 comparators for 16 rows (Green 1969; Knuth 3, section 5.3.4)
_SORT16_PAIRS = [
    (0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15), (0, 2), (1, 3), (4, 6), (5, 7), (8, 10),
    (9, 11), (12, 14), (13, 15), (0, 4), (1, 5), (2, 6), (3, 7), (8, 12), (9, 13), (10, 14), (11, 15), (0, 8),
    (1, 9), (2, 10), (3, 11), (4, 12), (5, 13), (6, 14), (7, 15), (5, 10), (6, 9), (3, 12), (13, 14), (4, 8),
    (7, 11), (1, 2), (1, 4), (7, 13), (2, 8), (11, 14), (2, 4), (5, 6), (9, 10), (11, 13), (3, 8), (7, 12), (6, 8),
    (10, 12), (3, 5), (7, 9), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (6, 7), (8, 9),
]  # fmt: skip


def _odd_even_merge(first: int, count: int, stride: int, pairs: list[tuple[int, int]]) -> None:
    """Append Batcher's odd-even merge of two sorted halves (Knuth 3, 5.3.4, algorithm M)."""
    if 2 * stride < count:
        _odd_even_merge(first, count, 2 * stride, pairs)
        _odd_even_merge(first + stride, count, 2 * stride, pairs)
        pairs.extend((i, i + stride) for i in range(first + stride, first + count - stride, 2 * stride))
    else:
        pairs.append((first, first + stride))


def _merge16_pairs() -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    _odd_even_merge(0, 16, 1, pairs)
    return pairs


def _register_step(rows: int, pairs: list[tuple[int, int]], stride: int) -> Callable[..., Any]:
    """Make the instructions of a network over ``rows`` rows, ``stride`` rows apart, that lives in registers.

    One flat base with constant offsets: separate row views would need alias checks (40 % slower). Given to the
    optimiser as they are, because as a Python loop they would take ten times as long to compile.
    """

    def step(context: Any, flat: Any, start: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            lanes = arguments[1].type(LANES)
            with cgutils.for_range(builder, lanes) as loop:
                lane = builder.gep(array.data, [builder.add(arguments[1], loop.index)])
                places = [builder.gep(lane, [lanes.type(i * stride * LANES)]) for i in range(rows)]
                x = [builder.load(place) for place in places]
                for a, b in pairs:
                    lower = builder.select(builder.fcmp_ordered("<", x[a], x[b]), x[a], x[b])
                    x[b] = builder.select(builder.fcmp_ordered(">", x[b], x[a]), x[b], x[a])
                    x[a] = lower
                for value, place in zip(x, places, strict=True):
                    builder.store(value, place)
            return context.get_dummy_value()

        return types.void(flat, types.intp), generate

    compiled: Callable[..., Any] = intrinsic(step)
    return compiled


_sort8 = _register_step(8, _SORT8_PAIRS, 1)
_sort16 = _register_step(16, _SORT16_PAIRS, 1)
_merge_2 = _register_step(16, _merge16_pairs(), 2)
_merge_4 = _register_step(16, _merge16_pairs(), 4)
_merge_8 = _register_step(16, _merge16_pairs(), 8)


def sort_plan(frames: int) -> tuple[NDArray[np.int64], int, int]:
    """Plan the network for one number of frames.

    Parameters
    ----------
    frames : int
        Rows that hold samples; the rows behind them must hold +inf.

    Returns
    -------
    steps : (S, 4) int64
        Kind of step, first row, stride in rows, number of compare-exchanges (each two strides after the one
        before); parts that would only touch padding are left out.
    rows : int
        Rows the block needs, a power of two of at least 8.
    early : int
        Steps before the last merge; they leave each half of ``rows`` sorted.
    """
    rows = 8
    while rows < frames:
        rows *= 2
    steps = [
        (SORT16 if frames - first > 8 else SORT8, first, 1, 1) for first in range(0, frames, min(rows, 16))
    ]

    def merge(first: int, size: int, stride: int) -> None:
        count = size // stride
        if first + (count // 2) * stride >= frames:
            return
        if count == 16 and stride <= 8:
            steps.append((MERGE16, first, stride, 1))
        elif count == 2:
            steps.append((EXCHANGE, first, stride, 1))
        else:
            merge(first, size, 2 * stride)
            merge(first + stride, size, 2 * stride)
            pairs = sum(first + (i + 1) * stride < frames for i in range(1, count - 1, 2))
            steps.append((EXCHANGE, first + stride, stride, pairs))

    early = len(steps)
    size = 32
    while size <= rows:
        early = len(steps)
        for first in range(0, frames, size):
            merge(first, size, 1)
        size *= 2
    return np.array(steps, np.int64), rows, early


@part
def _exchanges(flat: Floats, start: int, distance: int, count: int) -> None:
    """Order ``count`` pairs of rows, each two distances after the one before.

    Adding `ZERO` costs nothing beside the loads. Without it the compiler sees that one of two outcomes is the value
    already there and stores only where a pair is swapped, lane by lane, which is ten times slower.
    """
    for _ in range(count):
        a = flat[start : start + LANES]
        b = flat[start + distance : start + distance + LANES]
        for p in range(LANES):
            x = a[p]
            y = b[p]
            a[p] = pick(x < y, x, y) + ZERO
            b[p] = pick(y > x, y, x) + ZERO
        start += 2 * distance


@part
def sort_block(flat: Floats, steps: NDArray[np.int64], early: int, rows: int, count: int, halves_do: bool) -> bool:
    """Sort every lane of a block upwards, in place; returns False where it stopped at two sorted halves.

    It does where ``halves_do`` and no lane lacks one of the ``count`` samples.

    Parameters
    ----------
    flat : (rows * LANES,) float32
        Row-major block; no NaN, missing samples are +inf and end at the top.
    steps : (S, 4) int64
        From `sort_plan`.
    """
    for i in range(steps.shape[0]):
        if i == early and halves_do:
            full = True
            for p in range(LANES):
                full &= flat[np.uintp((rows // 2 - 1) * LANES + p)] < np.inf
                full &= flat[np.uintp((count - 1) * LANES + p)] < np.inf
            if full:
                return False
        kind = steps[i, 0]
        start = steps[i, 1] * LANES
        stride = steps[i, 2]
        if kind == SORT16:
            _sort16(flat, start)
        elif kind == SORT8:
            _sort8(flat, start)
        elif kind == EXCHANGE:
            _exchanges(flat, start, stride * LANES, steps[i, 3])
        elif stride == 2:
            _merge_2(flat, start)
        elif stride == 4:
            _merge_4(flat, start)
        else:
            _merge_8(flat, start)
    return True


@part
def _least_of_larger(flat: Floats, half: int, count_b: int, rank: int, out: Floats) -> None:
    """Sample of one rank among two sorted lists, see `median_of_halves`."""
    for p in range(LANES):
        out[p] = INF
    for i in range(max(0, rank - count_b), min(rank, half) + 1):
        a = (i - 1) * LANES
        b = (half + rank - i - 1) * LANES
        if i == 0:
            a = b
        if i == rank:
            b = a
        for p in range(LANES):
            x = flat[np.uintp(a + p)]
            y = flat[np.uintp(b + p)]
            x = pick(x > y, x, y)
            z = out[p]
            out[p] = pick(x < z, x, z) + ZERO  # see `_exchanges`


@part
def median_of_halves(flat: Floats, rows: int, count: int, median: Floats, lowest: Floats, highest: Floats) -> None:
    """Median and ends of every lane of a block whose two halves are sorted, without merging them.

    The k-th smallest of two sorted lists A and B is the least over i + j = k of max(A_i, B_j), with A_0 and B_0
    below everything. ``count`` samples are valid in every lane and fill more than half of the rows.
    """
    half = rows // 2
    lower = (count + 1) // 2  # ranks of the two middle samples, from 1; equal where the count is odd
    upper = count // 2 + 1
    _least_of_larger(flat, half, count - half, lower, lowest)
    _least_of_larger(flat, half, count - half, upper, highest)
    for p in range(LANES):
        median[p] = np.float32(0.5) * (lowest[p] + highest[p])
    top_a = (half - 1) * LANES
    top_b = (count - 1) * LANES
    for p in range(LANES):
        x = flat[np.uintp(p)]
        y = flat[np.uintp(half * LANES + p)]
        lowest[p] = pick(x < y, x, y)
        x = flat[np.uintp(top_a + p)]
        y = flat[np.uintp(top_b + p)]
        highest[p] = pick(x > y, x, y)
