"""Turn a colour mosaic into colour planes, or into one luminance plane for star detection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA

Planes = NDArray[np.float32]
Raw = NDArray[Any]  # float32 or uint16

# (row, column) of red in the 2 x 2 cell
RED_AT = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}
METHODS = ("directional", "bilinear", "superpixel")
# Gradients below this many sigma of the sky count as noise. 6 instead of 0 lowers the noise of 8 x 8 means of
# a flat sky by 3 % (red, blue) and 1 % (green), and leaves the width of a star of FWHM 1.8 px the same.
GRADIENT_FLOOR = 6.0
FAST = {"contract", "nsz"}  # keeps NaN and infinity meaningful


def debayer(raw: Raw, pattern: str, method: str = "directional") -> Planes:
    """Give every pixel all three colours.

    Parameters
    ----------
    raw : array (H, W), float32 or uint16
        The mosaic, row 0 first; NaN = no data. H and W at least 4.
    pattern : {'RGGB', 'BGGR', 'GRBG', 'GBRG'}
        Colours of the first 2 x 2 cell, read along rows of the stored array.
    method : {'directional', 'bilinear', 'superpixel'}
        'directional' is as sharp as the optics; 'bilinear' keeps star colours better on a single frame and
        widens stars by 6 to 28 %; 'superpixel' makes one pixel of each 2 x 2 cell, with white noise.

    Returns
    -------
    array (3, H, W) float32, or (3, H // 2, W // 2) for 'superpixel'
        Red, green, blue in the unit of `raw`. Measured samples are passed on unchanged. A missing sample is
        interpolated from its neighbours of the same colour like any other gap of the mosaic; only holes in
        which none of those eight is valid stay NaN, with up to two pixels around them.

    Raises
    ------
    ValueError
        Unknown pattern or method, or a mosaic that is not two-dimensional and at least 4 x 4.

    Notes
    -----
    Edges are mirrored about the outermost pixels, which keeps the phase of the mosaic: no border is lost.

    'directional': green at a red or blue pixel is the mean of a horizontal and a vertical estimate, each the
    mean of two neighbours plus a quarter of the second difference of the pixel's own colour (Hamilton and
    Adams 1997, US patent 5629734, expired), weighted by the inverse square of the gradients along its
    direction, with a floor of 6 sigma of the sky noise, so that noise alone chooses no direction. Red and
    blue follow as green plus the linearly interpolated colour difference.

    'bilinear': convolution of each colour's samples with [1 2 1; 2 4 2; 1 2 1] / 4 (green: its plus-shaped
    part).
    """
    red_row, red_column = _red_at(pattern)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; use one of {', '.join(METHODS)}")
    if raw.ndim != 2 or min(raw.shape) < 4:
        raise ValueError(f"a mosaic has two axes of at least 4 pixels, not shape {raw.shape}")
    mosaic = np.ascontiguousarray(raw, dtype=np.float32)
    if method == "superpixel":
        return _superpixel(mosaic, red_row, red_column)
    if np.issubdtype(raw.dtype, np.floating) and np.isnan(mosaic.min()):
        mosaic = _fill_gaps(mosaic)
    height, width = mosaic.shape
    planes = np.empty((3, height, width), np.float32)
    if method == "bilinear":
        _bilinear(mosaic, planes, red_row, red_column)
    else:
        floor = GRADIENT_FLOOR * _sky_noise(mosaic)
        _directional(mosaic, planes, red_row, red_column, np.float32(max(floor * floor, 1e-20)))
    return planes


def luminance(raw: Raw, pattern: str | None = None) -> Planes:
    """Smooth the mosaic into one plane of full size in which every colour has its share.

    Parameters
    ----------
    raw : array (H, W), float32 or uint16
        The mosaic (any order), NaN = no data.
    pattern : str, optional
        Not needed for the result, which is the same for every order; checked where given.

    Returns
    -------
    array (H, W) float32
        [1 2 1; 2 4 2; 1 2 1] / 16 of the mosaic, mirrored at the edges: a quarter red, half green, a quarter
        blue at every pixel. NaN wherever one of the nine samples is missing.

    Notes
    -----
    The kernel is the shortest that has no response at the frequencies of the mosaic, so a flat coloured sky
    comes out flat.
    """
    if pattern is not None:
        _red_at(pattern)
    if raw.ndim != 2 or min(raw.shape) < 2:
        raise ValueError(f"a mosaic has two axes of at least 2 pixels, not shape {raw.shape}")
    if raw.dtype != np.uint16:
        raw = np.asarray(raw, np.float32)
    out = np.empty(raw.shape, np.float32)
    _luminance(np.ascontiguousarray(raw), out)
    return out


def check_pattern(raw: Raw, pattern: str) -> tuple[bool, str, dict[str, float]]:
    """Decide from the pixels whether the declared order of the colours can be right.

    Parameters
    ----------
    raw : array (H, W), float32 or uint16
        The mosaic, at least 64 x 64 for a verdict; NaN = no data.
    pattern : {'RGGB', 'BGGR', 'GRBG', 'GBRG'}
        The declared order.

    Returns
    -------
    agrees : bool
        False only where the pixels contradict the declared order.
    best_pattern : str
        The declared order, or, where contradicted, the order with its two rows exchanged: the usual cause is
        a flip upside down. **Red and blue exchanged (RGGB for BGGR, GRBG for GBRG) cannot be told from
        pixels.**
    figures : dict
        'declared_gap', 'other_gap' : median difference of the two phases that would be green under the
        declared and under the other diagonal [unit of raw]; 'noise' : sigma of such a difference of one
        block; 'decided' : 1.0 if one gap is clearly the smaller, else 0.0 (a sky of equal colours).

    Notes
    -----
    The two greens see the same light, so their medians over 64 x 64 blocks agree; red and blue seldom do.
    """
    red_row, red_column = _red_at(pattern)
    side = 64
    rows, columns = raw.shape[0] // side, raw.shape[1] // side
    figures = {"declared_gap": 0.0, "other_gap": 0.0, "noise": 0.0, "decided": 0.0}
    if rows == 0 or columns == 0:
        return True, pattern, figures
    step = max(1, int(np.sqrt(rows * columns / 64)))  # 64 to 256 blocks are enough
    blocks = np.asarray(raw[: rows * side, : columns * side], np.float32).reshape(rows, side, columns, side)
    blocks = blocks[::step, :, ::step].transpose(0, 2, 1, 3)
    levels = np.empty((4, blocks.shape[0] * blocks.shape[1]))
    for phase in range(4):
        samples = blocks[:, :, phase // 2 :: 2, phase % 2 :: 2].reshape(levels.shape[1], -1)
        valid = np.isfinite(samples).all(axis=1)
        levels[phase] = np.where(valid, np.median(np.where(np.isfinite(samples), samples, 0), axis=1), np.nan)
    levels = levels[:, np.isfinite(levels).all(axis=0)]
    if levels.shape[1] == 0:
        return True, pattern, figures
    gaps = np.array([np.median(abs(levels[1] - levels[2])), np.median(abs(levels[0] - levels[3]))])
    green = (red_row + red_column) % 2  # 0: greens at phases 1 and 2; 1: at 0 and 3
    noise = 1.2533 * np.sqrt(2.0) * _sky_noise(np.asarray(raw, np.float32)) / (side // 2)
    decided = gaps.max() > max(3 * gaps.min(), 5 * noise)
    agrees = bool(not decided or gaps[green] == gaps.min())
    figures = {
        "declared_gap": float(gaps[green]),
        "other_gap": float(gaps[1 - green]),
        "noise": float(noise),
        "decided": float(decided),
    }
    return agrees, pattern if agrees else pattern[2:] + pattern[:2], figures


def _red_at(pattern: str) -> tuple[int, int]:
    if pattern not in RED_AT:
        raise ValueError(f"pattern is {pattern!r}; use one of {', '.join(RED_AT)}")
    return RED_AT[pattern]


def _sky_noise(mosaic: Planes) -> float:
    """Sigma of one sample from second differences of one colour, on about 160 rows."""
    step = max(1, mosaic.shape[0] // 160)
    rows = mosaic[step // 2 :: step, :]
    second = 2 * rows[:, 2:-2] - rows[:, :-4] - rows[:, 4:]
    second = second[np.isfinite(second)]
    if second.size == 0:
        return 0.0
    return float(MAD_TO_SIGMA * np.median(np.abs(second)) / np.sqrt(6.0))


def _superpixel(mosaic: Planes, red_row: int, red_column: int) -> Planes:
    height, width = mosaic.shape[0] // 2 * 2, mosaic.shape[1] // 2 * 2
    cells = mosaic[:height, :width]
    first = cells[red_row::2, 1 - red_column :: 2]
    second = cells[1 - red_row :: 2, red_column::2]
    green = np.float32(0.5) * (first + second)
    green = np.where(np.isnan(first), second, np.where(np.isnan(second), first, green))
    return np.stack([cells[red_row::2, red_column::2], green, cells[1 - red_row :: 2, 1 - red_column :: 2]])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _luminance(raw: Any, out: Any) -> None:
    height, width = raw.shape
    column = np.empty(width + 2, np.float32)
    for y in range(height):
        above = raw[y - 1 if y > 0 else 1]
        here = raw[y]
        below = raw[y + 1 if y < height - 1 else height - 2]
        for x in range(width):
            column[x + 1] = np.float32(above[x]) + np.float32(2) * np.float32(here[x]) + np.float32(below[x])
        column[0] = column[2]
        column[width + 1] = column[width - 1]
        for x in range(width):
            out[y, x] = (column[x] + np.float32(2) * column[x + 1] + column[x + 2]) * np.float32(0.0625)


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_gaps(mosaic: Any) -> Any:
    """Replace each NaN by the mean of its valid neighbours of the same phase (distance 2)."""
    height, width = mosaic.shape
    filled = mosaic.copy()
    for y in range(height):
        for x in range(width):
            if np.isnan(mosaic[y, x]):
                total = 0.0
                count = 0
                for j in range(max(y % 2, y - 2), min(height, y + 3), 2):
                    for i in range(max(x % 2, x - 2), min(width, x + 3), 2):
                        if not np.isnan(mosaic[j, i]):
                            total += mosaic[j, i]
                            count += 1
                if count > 0:
                    filled[y, x] = total / count
    return filled


@njit(nogil=True, cache=True, error_model="numpy")
def _mirror(i: int, n: int) -> int:
    if i < 0:
        return -i
    return i if i < n else 2 * n - 2 - i


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _load(mosaic: Any, y: int, line: Any) -> None:
    """Copy row y with two mirrored pixels at either end."""
    height, width = mosaic.shape
    source = mosaic[_mirror(y, height)]
    for x in range(width):
        line[x + 2] = source[x]
    line[0] = source[2]
    line[1] = source[1]
    line[width + 2] = source[width - 2]
    line[width + 3] = source[width - 3]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _green_row(a: Any, b: Any, c: Any, d: Any, e: Any, first: int, floor: Any, green: Any) -> None:
    """Green of the row c between the rows a, b above and d, e below; `first` is the first green column."""
    half, quarter = np.float32(0.5), np.float32(0.25)
    width = green.size
    for x in range(width):
        i = x + 2
        across = c[i] + c[i] - c[i - 2] - c[i + 2]
        down = c[i] + c[i] - a[i] - e[i]
        slope_x = abs(c[i - 1] - c[i + 1]) + abs(across)
        slope_y = abs(b[i] - d[i]) + abs(down)
        rough_x = slope_x * slope_x + floor
        rough_y = slope_y * slope_y + floor
        level_x = half * (c[i - 1] + c[i + 1]) + quarter * across
        level_y = half * (b[i] + d[i]) + quarter * down
        green[x] = (rough_y * level_x + rough_x * level_y) / (rough_x + rough_y)
    for x in range(first, width, 2):
        green[x] = c[x + 2]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _difference_row(line: Any, green: Any, first: int, difference: Any) -> None:
    """Colour minus green along a row whose colour samples start at column `first`, gaps filled linearly."""
    width = green.size
    for x in range(width):
        difference[x + 1] = line[x + 2] - green[x]
    difference[0] = difference[2]
    difference[width + 1] = difference[width - 1]
    half = np.float32(0.5)
    for x in range(1 - first, width, 2):
        difference[x + 1] = half * (difference[x] + difference[x + 2])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _directional(mosaic: Any, planes: Any, red_row: int, red_column: int, floor: Any) -> None:
    height, width = mosaic.shape
    lines = np.empty((6, width + 4), np.float32)  # raw rows, row y in slot (y + 6) % 6
    green = np.empty((3, width), np.float32)
    gap = np.empty((3, width + 2), np.float32)  # colour minus green, row y in slot (y + 3) % 3
    for y in range(-3, 2):
        _load(mosaic, y, lines[(y + 6) % 6])
    for step in range(-1, height + 1):
        _load(mosaic, step + 2, lines[(step + 8) % 6])
        colour_at = red_column if (step + 2) % 2 == red_row else 1 - red_column
        _green_row(
            lines[(step + 4) % 6], lines[(step + 5) % 6], lines[(step + 6) % 6], lines[(step + 7) % 6],
            lines[(step + 8) % 6], 1 - colour_at, floor, green[(step + 3) % 3],
        )
        _difference_row(lines[(step + 6) % 6], green[(step + 3) % 3], colour_at, gap[(step + 3) % 3])
        y = step - 1
        if y >= 0:
            own, other = (0, 2) if y % 2 == red_row else (2, 0)
            level = green[(y + 3) % 3]
            above, here, below = gap[(y + 2) % 3], gap[(y + 3) % 3], gap[(y + 4) % 3]
            half = np.float32(0.5)
            for x in range(width):
                planes[1, y, x] = level[x]
                planes[own, y, x] = level[x] + here[x + 1]
                planes[other, y, x] = level[x] + half * (above[x + 1] + below[x + 1])
            for x in range(red_column if own == 0 else 1 - red_column, width, 2):
                planes[own, y, x] = mosaic[y, x]


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _bilinear(mosaic: Any, planes: Any, red_row: int, red_column: int) -> None:
    height, width = mosaic.shape
    lines = np.empty((3, width + 4), np.float32)
    half, quarter = np.float32(0.5), np.float32(0.25)
    _load(mosaic, -1, lines[2])
    _load(mosaic, 0, lines[0])
    for y in range(height):
        _load(mosaic, y + 1, lines[(y + 1) % 3])
        above, here, below = lines[(y + 2) % 3], lines[y % 3], lines[(y + 1) % 3]
        own, other = (0, 2) if y % 2 == red_row else (2, 0)
        at = red_column if own == 0 else 1 - red_column
        for x in range(at, width, 2):
            i = x + 2
            planes[own, y, x] = here[i]
            planes[1, y, x] = quarter * (here[i - 1] + here[i + 1] + above[i] + below[i])
            planes[other, y, x] = quarter * (above[i - 1] + above[i + 1] + below[i - 1] + below[i + 1])
        for x in range(1 - at, width, 2):
            i = x + 2
            planes[1, y, x] = here[i]
            planes[own, y, x] = half * (here[i - 1] + here[i + 1])
            planes[other, y, x] = half * (above[i] + below[i])
