"""Bring each colour of a mosaic straight from its own pixels to the output grid.

The road in five steps, for N registered frames of one mosaic camera:

1. `gather` gives every output pixel the nearest raw sample of each colour: a cube (N, 3, h, w) of unchanged
raw
   values, one per frame and colour, on which any rejection rule works.
2. The cube is integrated as it is. On plain sky this is final: where the light does not change from pixel to
   pixel it does not matter that samples lie up to 1.4 px from the output pixel.
3. `structure` finds where the light does change (stars, cores, edges; a few per cent of a field). For these
   pixels `cfa_place.place` gives each sample the share of a drop that falls on the output pixel (drizzle with pixfrac
   0.6), and a judged value freed of the star's slope; they are integrated once more with both, better twice.
4. `smooth_sky` takes the grain off the plain sky with [1 2 1] x [1 2 1] / 16 and leaves the structure sharp.

Every sample is a real raw pixel and independent of the others, so sum w^2 sigma^2 / (sum w)^2 is the exact
variance after step 3, and step 4 states its own. No colour is invented from another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.debayer import RED_AT

Planes = NDArray[np.float32]
Matrix = NDArray[np.float64]
Pixels = NDArray[np.int64]

AT_A_TIME = 512  # points: their coordinates stay in the nearest cache
SAMPLE_REACH = 3  # rows; the nearest pixel of a colour lies at most 2 px away
FAST = {"contract", "nsz"}  # keeps NaN and infinity meaningful


def gather(
    raw: NDArray[Any],
    pattern: str,
    matrix: Matrix,
    out_shape: tuple[int, int],
    *,
    rows: tuple[int, int] | None = None,
    out: Planes | None = None,
) -> Planes:
    """Give every output pixel the nearest raw sample of each colour.

    Parameters
    ----------
    raw : array (H, W), uint16 or float32
        The mosaic; NaN = no data.
    pattern : {'RGGB', 'BGGR', 'GRBG', 'GBRG'}
        Colours of the first 2 x 2 cell of the stored array.
    matrix : array (3, 3)
        Maps (x, y, 1) of the output to (x, y, 1) of the mosaic; affine or projective.
    out_shape : (h, w)
        Shape of the whole output grid.
    rows : (first, last), optional
        Fill only the output rows first <= y < last; any division gives the same bits.
    out : array (3, h, w) float32, C-contiguous, optional
        Written in place, for instance one frame of the cube.

    Returns
    -------
    array (3, h, w) float32
        Raw values, unchanged. NaN outside the frame or where the nearest sample is NaN: a missing raw pixel
        is missing at two (green) or four (red, blue) output pixels and is nowhere made up.

    Raises
    ------
    ValueError
        Unknown pattern, or arrays of another shape or type.
    """
    red_row, red_column = red_at(pattern)
    if raw.ndim != 2 or min(raw.shape) < 4 or raw.dtype not in (np.uint16, np.float32):
        raise ValueError(f"raw must be (H, W) uint16 or float32, 4 x 4 or more, not {raw.shape} {raw.dtype}")
    shape = (3, int(out_shape[0]), int(out_shape[1]))
    if out is None:
        out = np.full(shape, np.nan, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous float32 array of shape {shape}")
    first, last = rows if rows is not None else (0, shape[1])
    if not 0 <= first <= last <= shape[1]:
        raise ValueError(f"rows {first} to {last} do not lie in 0 to {shape[1]}")
    raw = np.ascontiguousarray(raw)
    for colour in range(3):
        _gather(raw, 0, raw.shape[0], checked(matrix), red_row, red_column, colour, first, out[colour, first:last])
    return out


def gather_colour(
    raw: NDArray[np.float32], top: int, height: int, pattern: str, matrix: Matrix, colour: int, first: int, out: Planes
) -> None:
    """Give every pixel of some output rows the nearest raw sample of one colour, from some rows of the mosaic.

    Parameters
    ----------
    raw : array (h, W) float32, C-contiguous
        Rows top <= y < top + h of a mosaic of `height` rows, at least those of `rows_needed`.
    pattern, matrix
        As in `gather`; of the whole mosaic.
    colour : {0, 1, 2}
    first : int
        Output row that out[0] is.
    out : array (n, w) float32, C-contiguous
        Overwritten.
    """
    _gather(raw, top, height, checked(matrix), *red_at(pattern), colour, first, out)


def gather_points(
    raw: NDArray[np.float32], top: int, height: int, pattern: str, matrix: Matrix, colour: int,
    x: NDArray[np.float64], y: NDArray[np.float64], out: NDArray[np.float32],
) -> None:  # fmt: skip
    """Give some output pixels the nearest raw sample of one colour; NaN where there is none.

    Parameters
    ----------
    raw, top, height, pattern, matrix, colour
        As in `gather_colour`.
    x, y : (P,) float64
    out : (P,) float32
        Overwritten.
    """
    _gather_points(raw, top, height, checked(matrix), *red_at(pattern), colour, x, y, out)


def rows_needed(matrix: Matrix, rows: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return which rows of a mosaic of `height` rows the output rows first <= y < last of `width` px need."""
    x = np.array([0.0, width - 1, 0, width - 1])
    y = np.array([rows[0], rows[0], rows[1] - 1, rows[1] - 1], np.float64)
    if (matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]).min() <= 0:
        return 0, height
    _, v = project(matrix, x, y)
    low, high = np.clip([np.floor(v.min()) - SAMPLE_REACH, np.ceil(v.max()) + SAMPLE_REACH + 1], 0, height)
    # at the edges the nearest pixel of a colour may lie two rows inside
    low, high = min(low, height - 1 - SAMPLE_REACH), max(high, 1 + SAMPLE_REACH)
    return max(0, int(low)), min(height, int(high))


def displacements(matrix: Matrix, pattern: str, colour: int, x: NDArray[Any], y: NDArray[Any]) -> Planes:
    """From output pixels to the places of the samples that `gather` gives them.

    Parameters
    ----------
    matrix, pattern
        As given to `gather`.
    colour : {0, 1, 2}
    x, y : arrays of one shape
        Output pixels, away from the edges of the frame.

    Returns
    -------
    array (..., 2) float32
        Along x and y [output px].
    """
    u, v = (np.ravel(each) for each in project(checked(matrix), x, y))
    column, row = np.empty_like(u), np.empty_like(v)
    nearest(u, v, colour, *red_at(pattern), column, row)
    there = project(np.asarray(np.linalg.inv(checked(matrix)), np.float64), column, row)
    return np.stack([there[0] - np.ravel(x), there[1] - np.ravel(y)], axis=-1).astype(np.float32).reshape(*x.shape, 2)


def red_at(pattern: str) -> tuple[int, int]:
    """Return row and column of red in the first cell; ValueError for an unknown pattern."""
    if pattern not in RED_AT:
        raise ValueError(f"pattern is {pattern!r}; use one of {', '.join(RED_AT)}")
    return RED_AT[pattern]


def checked(matrix: Matrix) -> Matrix:
    """Return a (3, 3) float64 matrix; ValueError for any other shape."""
    result = np.ascontiguousarray(matrix, np.float64)
    if result.shape != (3, 3):
        raise ValueError(f"matrix must be 3 x 3, not {result.shape}")
    return result


def project(matrix: Matrix, x: Any, y: Any) -> tuple[Any, Any]:
    """Return where a matrix takes (x, y)."""
    w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
    return u, (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w


def address(u: Any, v: Any, colour: int, red_row: int, red_column: int) -> Any:
    """Return one number for each raw pixel of a colour that is nearest to (u, v)."""
    column, row = np.empty_like(u), np.empty_like(v)
    nearest(u, v, colour, red_row, red_column, column, row)
    return row * 1e6 + column


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _row_positions(y: int, matrix: Any, u: Any, v: Any) -> None:
    """Source coordinates of the output pixels of row y."""
    u0 = matrix[0, 1] * y + matrix[0, 2]
    v0 = matrix[1, 1] * y + matrix[1, 2]
    if matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0 and matrix[2, 2] == 1.0:
        for x in range(u.size):
            u[x] = matrix[0, 0] * x + u0
            v[x] = matrix[1, 0] * x + v0
    else:
        for x in range(u.size):
            w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
            w = w if w > 0 else np.nan
            u[x] = (matrix[0, 0] * x + u0) / w
            v[x] = (matrix[1, 0] * x + v0) / w


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _positions(x: Any, y: Any, matrix: Any, u: Any, v: Any) -> None:
    """Source coordinates of some output pixels, with the roundings of `_row_positions`."""
    is_affine = matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0 and matrix[2, 2] == 1.0
    for k in range(x.size):
        u0 = matrix[0, 1] * y[k] + matrix[0, 2]
        v0 = matrix[1, 1] * y[k] + matrix[1, 2]
        u[k] = matrix[0, 0] * x[k] + u0
        v[k] = matrix[1, 0] * x[k] + v0
        if not is_affine:
            w = matrix[2, 0] * x[k] + matrix[2, 1] * y[k] + matrix[2, 2]
            w = w if w > 0 else np.nan
            u[k] /= w
            v[k] /= w


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def nearest(u: Any, v: Any, colour: int, red_row: int, red_column: int, column: Any, row: Any) -> None:
    """Nearest pixel of one colour to each position, as float64 indices."""
    if colour == 1:
        # along the diagonals the green pixels form a square grid
        odd = 1.0 - (red_row + red_column) % 2
        for x in range(u.size):
            p = np.floor((u[x] + v[x] - odd) * 0.5 + 0.5)
            q = np.floor((u[x] - v[x] - odd) * 0.5 + 0.5)
            column[x] = p + q + odd
            row[x] = p - q
    else:
        left = float(red_column if colour == 0 else 1 - red_column)
        top = float(red_row if colour == 0 else 1 - red_row)
        for x in range(u.size):
            column[x] = 2 * np.floor((u[x] - left) * 0.5 + 0.5) + left
            row[x] = 2 * np.floor((v[x] - top) * 0.5 + 0.5) + top


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _sample(flat: Any, top: int, width: int, height: int, u: float, v: float, i: float, j: float) -> Any:
    """Sample of the nearest pixel (i, j) to (u, v), at an edge of the one two pixels inside; NaN outside the frame."""
    if not (u >= -0.5 and u < width - 0.5 and v >= -0.5 and v < height - 0.5):
        return np.float32(np.nan)
    i = i if i >= 0 else i + 2
    i = i if i < width else i - 2
    j = j if j >= 0 else j + 2
    j = j if j < height else j - 2
    return np.float32(flat[np.uint64(np.int64((j - top) * width + i))])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _gather_points(
    raw: Any, top: int, height: int, matrix: Any, red_row: int, red_column: int, colour: int, x: Any, y: Any, out: Any
) -> None:
    width = raw.shape[1]
    flat = raw.reshape(raw.size)
    u, v, column, row = np.empty(AT_A_TIME), np.empty(AT_A_TIME), np.empty(AT_A_TIME), np.empty(AT_A_TIME)
    for begin in range(0, x.size, AT_A_TIME):
        count = min(AT_A_TIME, x.size - begin)
        end = begin + count
        _positions(x[begin:end], y[begin:end], matrix, u[:count], v[:count])
        nearest(u[:count], v[:count], colour, red_row, red_column, column, row)
        for k in range(count):
            out[begin + k] = _sample(flat, top, width, height, u[k], v[k], column[k], row[k])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _well_inside(u: Any, v: Any, width: int, height: int) -> tuple[int, int]:
    """First and last of the positions of a row that surely have all their nearest pixels; they lie on a line."""
    begin, end = 0, u.size
    last = u.size - 1
    for at, size in ((u, width), (v, height)):
        step = (at[last] - at[0]) / max(last, 1)
        low, high = 3.0 - at[0], size - 4.0 - at[0]
        if abs(step) * last < 1e-3:
            if low > -1e-3 or high < 1e-3:
                return 0, 0
            continue
        one, two = low / step, high / step
        begin = max(begin, int(np.ceil(min(max(min(one, two), 0.0), float(u.size)))))
        end = min(end, int(min(max(max(one, two), 0.0), float(u.size))))
    return begin, max(begin, end)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _gather(
    raw: Any, top: int, height: int, matrix: Any, red_row: int, red_column: int, colour: int, first: int, out: Any
) -> None:
    width = raw.shape[1]
    flat = raw.reshape(raw.size)
    columns = out.shape[1]
    u, v, column, row = np.empty(columns), np.empty(columns), np.empty(columns), np.empty(columns)
    index = np.empty(columns, np.int32)
    is_line = matrix[2, 0] == 0.0 and matrix[2, 1] == 0.0
    for line in range(out.shape[0]):
        _row_positions(first + line, matrix, u, v)
        nearest(u, v, colour, red_row, red_column, column, row)
        begin, end = _well_inside(u, v, width, height) if is_line else (0, 0)
        for x in range(begin, end):
            index[x] = np.int32((row[x] - top) * width + column[x])
        target = out[line]
        for x in range(begin, end):
            target[x] = np.float32(flat[np.uint64(index[x])])
        for some in ((0, begin), (end, columns)):
            for x in range(some[0], some[1]):
                target[x] = _sample(flat, top, width, height, u[x], v[x], column[x], row[x])
