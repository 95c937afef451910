"""Carry colour planes onto another pixel grid by an affine or projective transform."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Planes = NDArray[np.float32]

TAPS = {"lanczos3": 6, "bicubic": 4, "bilinear": 2, "nearest": 1}
PHASES = 1024  # kernel weights are tabulated at this many fractions of a pixel: at most 1/2048 px off
OUTSIDE, EDGE, INSIDE, RUN = 0, 1, 2, 3
SHORT_RUN = 4  # below this many columns the vector loop costs more than it gains
FAST = {"contract", "nsz", "arcp", "reassoc"}  # keeps NaN and infinity meaningful


def warp(
    planes: Planes,
    matrix: NDArray[np.float64],
    out_shape: tuple[int, int],
    kernel: str = "lanczos3",
    clamp: bool = True,
    *,
    rows: tuple[int, int] | None = None,
    out: Planes | None = None,
) -> Planes:
    """Resample planes of equal geometry on the grid of another frame.

    Parameters
    ----------
    planes : array (C, H, W) float32
        Source planes; NaN = no data.
    matrix : array (3, 3) float64
        Maps (x, y, 1) of the output to (x, y, 1) of the source, centre of the first pixel (0, 0); affine or
        projective. With `dst = T @ src` it is the inverse of T.
    out_shape : (h, w)
        Shape of the whole output grid [px].
    kernel : {'lanczos3', 'bicubic', 'bilinear', 'nearest'}
        Bicubic is the cubic convolution with a = -0.5. Weights are normalised to a sum of 1, so flat sky
        stays flat.
    clamp : bool
        Limit each result of 'lanczos3' and 'bicubic' to [low - r, high + r], low and high the extremes of the
        2 x 2 source pixels around the position and r = high - low. No dark ring remains beside a clipped star
        or a hot pixel.
    rows : (first, last), optional
        Compute only the output rows first <= y < last: one share of the work of a thread. Any division
        gives the same bits.
    out : array (C, h, w) float32, C-contiguous, optional
        Written in place, for instance one frame of a cube. Rows outside `rows` stay as they are.

    Returns
    -------
    array (C, h, w) float32
        Surface brightness is kept (not multiplied by the change of pixel area). NaN where the position lies
        outside the source frame (more than half a pixel beyond the outermost centres) or the nearest source
        pixel is NaN. Other missing samples under the kernel, and those beyond the edge, do not spread: they
        take the bilinear mean of the valid ones around the position, and the mirrored pixel, respectively.

    Raises
    ------
    ValueError
        Shapes or dtypes other than stated, an unknown kernel, rows outside the output.

    Notes
    -----
    An output row splits into runs in which the source row is constant and the source column advances by one:
    there loads are contiguous and the sum vectorises. Runs are about 1 / sin(rotation) pixels long.
    """
    if kernel not in TAPS:
        raise ValueError(f"kernel is {kernel!r}; use one of {', '.join(TAPS)}")
    if planes.ndim != 3 or planes.dtype != np.float32:
        raise ValueError(f"planes must be (C, H, W) float32, not {planes.shape} {planes.dtype}")
    if min(planes.shape[1:]) < 4:
        raise ValueError(f"planes must measure at least 4 x 4 pixels, not {planes.shape[1:]}")
    matrix = np.ascontiguousarray(matrix, np.float64)
    if matrix.shape != (3, 3):
        raise ValueError(f"matrix must be 3 x 3, not {matrix.shape}")
    shape = (planes.shape[0], int(out_shape[0]), int(out_shape[1]))
    if out is None:
        out = np.full(shape, np.nan, np.float32) if rows is not None else np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous float32 array of shape {shape}")
    first, last = rows if rows is not None else (0, shape[1])
    if not 0 <= first <= last <= shape[1]:
        raise ValueError(f"rows {first} to {last} do not lie in 0 to {shape[1]}")
    taps = TAPS[kernel]
    clamp = bool(clamp) and taps >= 4
    _warp_rows(np.ascontiguousarray(planes), out, first, last, matrix, _TABLES[taps], taps, clamp)
    return out


def _kernel_table(taps: int) -> NDArray[np.float32]:
    """Weights (PHASES + 1, taps) of the source pixels floor(x) - taps / 2 + 1 ... at each fraction of x."""
    fraction = np.arange(PHASES + 1)[:, None] / PHASES
    x = np.abs(np.arange(-(taps // 2) + 1, taps // 2 + 1)[None, :] - fraction)
    if taps == 6:
        weights = np.sinc(x) * np.sinc(x / 3) * (x < 3)
    elif taps == 4:  # Keys 1981, IEEE Trans. ASSP 29, 1153, equation 15
        weights = np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2)
        weights = np.where(x < 2, weights, 0.0)
    elif taps == 2:
        weights = np.clip(1 - x, 0, None)
    else:
        return np.ones((PHASES + 1, 1), np.float32)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


_TABLES = {taps: _kernel_table(taps) for taps in TAPS.values()}


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _locate_row(
    y: int, matrix: Any, height: int, width: int, taps: int, table: Any,
    u: Any, v: Any, column: Any, row: Any, where: Any, wx: Any, wy: Any,
) -> None:
    """Source cell, weights and kind (outside, edge, inside) of every output pixel of row y."""
    a, b = matrix[0, 0], matrix[1, 0]
    u0, v0 = matrix[0, 1] * y + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]
    columns = u.size
    if matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0 and matrix[2, 2] == 1.0:
        for x in range(columns):
            u[x] = a * x + u0
            v[x] = b * x + v0
    else:
        for x in range(columns):
            w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
            w = w if w > 0 else np.nan
            u[x] = (a * x + u0) / w
            v[x] = (b * x + v0) / w
    reach = taps // 2
    shift = 0.5 if taps == 1 else 0.0
    low_x, high_x = reach - 1.0, float(width - reach)
    low_y, high_y = reach - 1.0, float(height - reach)
    if taps == 1:
        low_x, low_y, high_x, high_y = -0.5, -0.5, width - 0.5, height - 0.5
    for x in range(columns):
        here = u[x] >= -0.5 and u[x] < width - 0.5 and v[x] >= -0.5 and v[x] < height - 0.5
        well = u[x] >= low_x and u[x] < high_x and v[x] >= low_y and v[x] < high_y
        where[x] = (1 if here else 0) + (1 if well else 0)
        u[x] = u[x] if here else 0.0
        v[x] = v[x] if here else 0.0
    for x in range(columns):
        left, top = np.floor(u[x] + shift), np.floor(v[x] + shift)
        column[x] = np.int32(left)
        row[x] = np.int32(top)
        u[x] = (u[x] - left) * PHASES + 0.5
        v[x] = (v[x] - top) * PHASES + 0.5
    if taps > 1:
        for x in range(columns):
            p, q = int(u[x]), int(v[x])
            for k in range(taps):
                wx[k, x] = table[p, k]
                wy[k, x] = table[q, k]


@njit(nogil=True, cache=True, error_model="numpy")
def _mirror(i: int, n: int) -> int:
    if i < 0:
        return -i
    return i if i < n else 2 * n - 2 - i


@njit(nogil=True, cache=True, error_model="numpy")
def _careful(plane: Any, column: int, row: int, x: int, wx: Any, wy: Any, taps: int, clamp: bool) -> Any:
    """One sample where some of the source pixels are missing or lie beyond the edge."""
    height, width = plane.shape
    reach = taps // 2
    near_x = column + (1 if wx[reach, x] > wx[reach - 1, x] else 0)
    near_y = row + (1 if wy[reach, x] > wy[reach - 1, x] else 0)
    if np.isnan(plane[_mirror(near_y, height), _mirror(near_x, width)]):
        return np.float32(np.nan)
    total, weight = 0.0, 0.0
    low, high = np.inf, -np.inf
    for j in range(2):
        for i in range(2):
            value = plane[_mirror(row + j, height), _mirror(column + i, width)]
            if not np.isnan(value):
                share = abs(wx[reach - 1 + i, x] * wy[reach - 1 + j, x])
                total += share * value
                weight += share
                low = min(low, value)
                high = max(high, value)
    fill = total / weight
    result = 0.0
    for j in range(taps):
        for i in range(taps):
            value = plane[_mirror(row + j - reach + 1, height), _mirror(column + i - reach + 1, width)]
            result += wy[j, x] * wx[i, x] * (fill if np.isnan(value) else value)
    if clamp:
        result = min(max(result, low - (high - low)), high + (high - low))
    return np.float32(result)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST, inline="always")
def _clamped(value: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    low = a if a < b else b
    high = b if a < b else a
    low = low if low < c else c
    high = high if high > c else c
    low = low if low < d else d
    high = high if high > d else d
    margin = high - low
    low -= margin
    high += margin
    limited = value if value > low else low
    limited = limited if limited < high else high
    return limited if value == value else value


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _run6(
    plane: Any, row: int, column: int, first: int, last: int, wx: Any, wy: Any, clamp: bool, out: Any
) -> None:
    n = last - first
    left = column - 2
    r0 = plane[row - 2, left : left + n + 5]
    r1 = plane[row - 1, left : left + n + 5]
    r2 = plane[row, left : left + n + 5]
    r3 = plane[row + 1, left : left + n + 5]
    r4 = plane[row + 2, left : left + n + 5]
    r5 = plane[row + 3, left : left + n + 5]
    for i in range(n):
        x = first + i
        a, b, c, d, e, f = wx[0, x], wx[1, x], wx[2, x], wx[3, x], wx[4, x], wx[5, x]
        s = wy[0, x] * (
            r0[i] * a + r0[i + 1] * b + r0[i + 2] * c + r0[i + 3] * d + r0[i + 4] * e + r0[i + 5] * f
        )
        s += wy[1, x] * (
            r1[i] * a + r1[i + 1] * b + r1[i + 2] * c + r1[i + 3] * d + r1[i + 4] * e + r1[i + 5] * f
        )
        s += wy[2, x] * (
            r2[i] * a + r2[i + 1] * b + r2[i + 2] * c + r2[i + 3] * d + r2[i + 4] * e + r2[i + 5] * f
        )
        s += wy[3, x] * (
            r3[i] * a + r3[i + 1] * b + r3[i + 2] * c + r3[i + 3] * d + r3[i + 4] * e + r3[i + 5] * f
        )
        s += wy[4, x] * (
            r4[i] * a + r4[i + 1] * b + r4[i + 2] * c + r4[i + 3] * d + r4[i + 4] * e + r4[i + 5] * f
        )
        s += wy[5, x] * (
            r5[i] * a + r5[i + 1] * b + r5[i + 2] * c + r5[i + 3] * d + r5[i + 4] * e + r5[i + 5] * f
        )
        if clamp:
            s = _clamped(s, r2[i + 2], r2[i + 3], r3[i + 2], r3[i + 3])
        out[x] = s


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _run4(
    plane: Any, row: int, column: int, first: int, last: int, wx: Any, wy: Any, clamp: bool, out: Any
) -> None:
    n = last - first
    left = column - 1
    r0 = plane[row - 1, left : left + n + 3]
    r1 = plane[row, left : left + n + 3]
    r2 = plane[row + 1, left : left + n + 3]
    r3 = plane[row + 2, left : left + n + 3]
    for i in range(n):
        x = first + i
        a, b, c, d = wx[0, x], wx[1, x], wx[2, x], wx[3, x]
        s = wy[0, x] * (r0[i] * a + r0[i + 1] * b + r0[i + 2] * c + r0[i + 3] * d)
        s += wy[1, x] * (r1[i] * a + r1[i + 1] * b + r1[i + 2] * c + r1[i + 3] * d)
        s += wy[2, x] * (r2[i] * a + r2[i + 1] * b + r2[i + 2] * c + r2[i + 3] * d)
        s += wy[3, x] * (r3[i] * a + r3[i + 1] * b + r3[i + 2] * c + r3[i + 3] * d)
        if clamp:
            s = _clamped(s, r1[i + 1], r1[i + 2], r2[i + 1], r2[i + 2])
        out[x] = s


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _scattered6(
    flat: Any, width: Any, base: Any, first: int, last: int, wx: Any, wy: Any, clamp: bool, out: Any
) -> None:
    """As _run6 where every output pixel has a source cell of its own; base is the first tap's index."""
    one, two, three, four, five = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4), np.uint64(5)
    for x in range(first, last):
        a, b, c, d, e, f = wx[0, x], wx[1, x], wx[2, x], wx[3, x], wx[4, x], wx[5, x]
        k = base[x]
        s = wy[0, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c
                        + flat[k + three] * d + flat[k + four] * e + flat[k + five] * f)
        k += width
        s += wy[1, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c
                         + flat[k + three] * d + flat[k + four] * e + flat[k + five] * f)
        k += width
        p, q = flat[k + two], flat[k + three]
        s += wy[2, x] * (
            flat[k] * a + flat[k + one] * b + p * c + q * d + flat[k + four] * e + flat[k + five] * f
        )
        k += width
        r, t = flat[k + two], flat[k + three]
        s += wy[3, x] * (
            flat[k] * a + flat[k + one] * b + r * c + t * d + flat[k + four] * e + flat[k + five] * f
        )
        k += width
        s += wy[4, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c
                         + flat[k + three] * d + flat[k + four] * e + flat[k + five] * f)
        k += width
        s += wy[5, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c
                         + flat[k + three] * d + flat[k + four] * e + flat[k + five] * f)
        out[x] = _clamped(s, p, q, r, t) if clamp else s


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _scattered4(
    flat: Any, width: Any, base: Any, first: int, last: int, wx: Any, wy: Any, clamp: bool, out: Any
) -> None:
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for x in range(first, last):
        a, b, c, d = wx[0, x], wx[1, x], wx[2, x], wx[3, x]
        k = base[x]
        s = wy[0, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c + flat[k + three] * d)
        k += width
        p, q = flat[k + one], flat[k + two]
        s += wy[1, x] * (flat[k] * a + p * b + q * c + flat[k + three] * d)
        k += width
        r, t = flat[k + one], flat[k + two]
        s += wy[2, x] * (flat[k] * a + r * b + t * c + flat[k + three] * d)
        k += width
        s += wy[3, x] * (flat[k] * a + flat[k + one] * b + flat[k + two] * c + flat[k + three] * d)
        out[x] = _clamped(s, p, q, r, t) if clamp else s


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _scattered2(flat: Any, width: Any, base: Any, first: int, last: int, wx: Any, wy: Any, out: Any) -> None:
    one = np.uint64(1)
    for x in range(first, last):
        k = base[x]
        s = wy[0, x] * (flat[k] * wx[0, x] + flat[k + one] * wx[1, x])
        k += width
        out[x] = s + wy[1, x] * (flat[k] * wx[0, x] + flat[k + one] * wx[1, x])


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _segments(column: Any, row: Any, where: Any, split: bool, start: Any, kind: Any) -> int:
    """Cut a row into runs (kind 3), scattered inside pixels (2), edge pixels (1) and outside ones (0)."""
    count = 0
    x = 0
    n = column.size
    while x < n:
        end = x + 1
        label = where[x]
        if label == INSIDE and split:
            shift = column[x] - x
            while end < n and where[end] == INSIDE and row[end] == row[x] and column[end] - end == shift:
                end += 1
            label = RUN if end - x >= SHORT_RUN else INSIDE
        else:
            while end < n and where[end] == label:
                end += 1
        if label == RUN or count == 0 or kind[count - 1] != label:
            start[count] = x
            kind[count] = label
            count += 1
        x = end
    start[count] = n
    return count


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _warp_rows(
    planes: Any, out: Any, first: int, last: int, matrix: Any, table: Any, taps: int, clamp: bool
) -> None:
    channels, height, width = planes.shape
    columns = out.shape[2]
    u, v = np.empty(columns), np.empty(columns)
    column, row = np.empty(columns, np.int32), np.empty(columns, np.int32)
    base = np.empty(columns, np.uint64)
    where = np.empty(columns, np.int8)
    start, kind = np.empty(columns + 1, np.int32), np.empty(columns + 1, np.int8)
    wx, wy = np.zeros((taps, columns), np.float32), np.zeros((taps, columns), np.float32)
    lead = max(0, taps // 2 - 1)
    stride = np.uint64(width)
    flats = planes.reshape(channels, height * width)
    for y in range(first, last):
        _locate_row(y, matrix, height, width, taps, table, u, v, column, row, where, wx, wy)
        count = _segments(column, row, where, taps >= 4, start, kind)
        for x in range(columns):
            base[x] = np.uint64((row[x] - lead) * width + column[x] - lead)
        for c in range(channels):
            plane, flat, target = planes[c], flats[c], out[c, y]
            for k in range(count):
                a, b = start[k], start[k + 1]
                if kind[k] == RUN:
                    if taps == 6:
                        _run6(plane, row[a], column[a], a, b, wx, wy, clamp, target)
                    else:
                        _run4(plane, row[a], column[a], a, b, wx, wy, clamp, target)
                elif kind[k] == OUTSIDE:
                    for x in range(a, b):
                        target[x] = np.nan
                elif kind[k] == EDGE:
                    for x in range(a, b):
                        target[x] = _careful(plane, column[x], row[x], x, wx, wy, taps, clamp)
                elif taps == 6:
                    _scattered6(flat, stride, base, a, b, wx, wy, clamp, target)
                elif taps == 4:
                    _scattered4(flat, stride, base, a, b, wx, wy, clamp, target)
                elif taps == 2:
                    _scattered2(flat, stride, base, a, b, wx, wy, target)
                else:
                    for x in range(a, b):
                        target[x] = flat[base[x]]
            missing = 0
            for x in range(columns):
                missing += int(target[x] != target[x])
            if missing > 0 and taps > 1:
                for x in range(columns):
                    if where[x] == INSIDE and np.isnan(target[x]):
                        target[x] = _careful(plane, column[x], row[x], x, wx, wy, taps, clamp)
