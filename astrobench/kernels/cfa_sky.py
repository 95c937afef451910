"""Tell plain sky from structure in a stack of own pixels, and even out the grain of the sky."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from astrobench.kernels.cfa import FAST, Matrix, Pixels, Planes, address, project, red_at

SLOPE = (3.0, 6.0)  # range of the smoothed model over 3 x 3 pixels [sigma]: structure begins, and is full
SAMPLE_SLOPE = 0.25  # of a sample's noise is the least sigma for that: a lower slope misleads no judgement
BEND = (0.8, 1.6)  # the smoothed model less its mean over 3 x 3 pixels; of pure noise 0.24 [sigma]
FAINTEST_GATE = np.float32(0.05)  # less counts as none, which leaves a fifth of the pixels to place


def structure(model: Planes, noise: ArrayLike, sample_noise: ArrayLike) -> Planes:
    """Find where it matters that samples lie beside their pixels.

    Parameters
    ----------
    model : array (3, h, w) float32
        Stack of the gathered samples; NaN = no data.
    noise, sample_noise : (3,)
        Sigma of one pixel of the model and of one sample on plain sky, per colour.

    Returns
    -------
    array (h, w) float32
        0 on plain sky (to be smoothed), 1 on structure (to be kept sharp), between at its rim; one map for
        the three colours, so that no star gets a coloured rim. Less than 1 % of a pure noise field exceeds 0.1.

    Notes
    -----
    The model is smoothed with [1 2 1] x [1 2 1] / 16. Where it bends, means of samples from around a pixel are
    wrong: its difference from its mean over 3 x 3 counts. Where it is steep a good sample looks like an outlier: its
    range over 3 x 3 counts, but in a deep stack only what a sample's own noise does not hide. Both run through a
    smooth step; the largest of the colours is widened by one pixel and averaged over 3 x 3.
    """
    sigma = np.maximum(np.asarray(noise, np.float64).reshape(3), 1e-20)
    slope = np.maximum(sigma, SAMPLE_SLOPE * np.asarray(sample_noise, np.float64).reshape(3))
    gate = np.zeros(model.shape[1:], np.float32)
    _structure(np.ascontiguousarray(model, np.float32), np.stack([1 / slope, 1 / sigma]).astype(np.float32), gate)
    return np.asarray(_widen(gate))


def steepness(model: Planes, pixels: Pixels) -> Planes:
    """Range of the model over the 3 x 3 pixels around each of the given ones.

    Parameters
    ----------
    model : array (3, h, w) float32
    pixels : array (P,) int64
        Flat indices y * w + x.

    Returns
    -------
    array (3, P) float32
    """
    steep = np.empty((3, pixels.size), np.float32)
    _steepness(np.ascontiguousarray(model, np.float32), np.asarray(pixels, np.int64), steep)
    return steep



def common_light(
    matrices: Sequence[Matrix], pattern: str, out_shape: tuple[int, int], source_shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Chance that output pixels dx, dy apart hold the same raw sample, averaged over frames and field.

    Parameters
    ----------
    matrices : sequence of (3, 3)
        Output -> mosaic, of every frame.
    pattern, out_shape, source_shape
        Order of the colours, shape of the output and of the mosaic.

    Returns
    -------
    array (3, 5, 5) float64
        Per colour for dy, dx = -2 ... 2: the correlation of the noise of a stack of gathered samples. Without
        rotation red has 1, 1/2, 0 at dx = 0, 1, 2.
    """
    red_row, red_column = red_at(pattern)
    height, width = out_shape
    step = max(1.0, np.sqrt(height * width / 400.0))
    # an irrational part visits every phase of the mosaic
    x, y = np.meshgrid(np.arange(2, width - 2, step * 1.0318), np.arange(2, height - 2, step * 0.9717))
    x, y = np.floor(x).ravel(), np.floor(y).ravel()
    same, count = np.zeros((3, 5, 5)), 0
    for matrix in matrices[:: max(1, len(matrices) // 16)]:
        u, v = project(matrix, x, y)
        inside = (u >= 3) & (v >= 3) & (u < source_shape[1] - 3) & (v < source_shape[0] - 3)
        count += int(inside.sum())
        for colour in range(3):
            here = address(*project(matrix, x[inside], y[inside]), colour, red_row, red_column)
            for j in range(5):
                for i in range(5):
                    there = project(matrix, x[inside] + i - 2, y[inside] + j - 2)
                    same[colour, j, i] += (here == address(*there, colour, red_row, red_column)).sum()
    return same / max(count, 1)



def smooth_sky(
    data: Planes, variance: Planes, gate: Planes, common: NDArray[np.float64]
) -> tuple[Planes, Planes]:
    """Average plain sky over its neighbours and leave structure as it is.

    Parameters
    ----------
    data, variance : array (3, h, w) float32
        Stack and its variance; NaN = no data.
    gate : array (h, w) float32
        Result of `structure`.
    common : array (3, 5, 5)
        Result of `common_light`.

    Returns
    -------
    data, variance : array (3, h, w) float32
        gate * data + (1 - gate) * smoothed, where smoothed is the mean of the valid pixels of 3 x 3 with
        weights [1 2 1] x [1 2 1]. A missing pixel stays missing. The variance allows for the raw samples that
        neighbours have in common. On plain sky sigma falls to 0.63 (red, blue) and 0.49 (green).
    """
    one = np.array([1.0, 2.0, 1.0]) / 4
    two = np.convolve(one, one)
    once = (np.outer(one, one) * common[:, 1:4, 1:4]).sum(axis=(1, 2))
    twice = (np.outer(two, two) * common).sum(axis=(1, 2))
    smooth, spread = np.empty_like(data), np.empty_like(variance)
    _smooth(np.ascontiguousarray(data), np.ascontiguousarray(variance), gate, once, twice, smooth, spread)
    return smooth, spread



@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _steepness(model: Any, pixels: Any, steep: Any) -> None:
    height, width = model.shape[1:]
    for k in range(pixels.size):
        y, x = pixels[k] // width, pixels[k] % width
        for colour in range(3):
            low, high = np.float32(np.inf), np.float32(-np.inf)
            for j in range(max(0, y - 1), min(height, y + 2)):
                for i in range(max(0, x - 1), min(width, x + 2)):
                    value = model[colour, j, i]
                    low = value if value < low else low
                    high = value if value > high else high
            steep[colour, k] = high - low if high >= low else np.float32(0)



@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _structure(model: Any, scale: Any, gate: Any) -> None:
    channels, height, width = model.shape
    smooth = np.zeros((3, width), np.float32)
    column = np.empty(width, np.float32)
    quarter = np.float32(0.25)
    for c in range(channels):
        plane = model[c]
        for y in range(1, height - 1):
            line = smooth[y % 3]
            for x in range(width):
                column[x] = quarter * (plane[y - 1, x] + plane[y, x] + plane[y, x] + plane[y + 1, x])
            for x in range(1, width - 1):
                line[x] = quarter * (column[x - 1] + column[x] + column[x] + column[x + 1])
            if y >= 3:
                _changes(smooth[(y - 2) % 3], smooth[(y - 1) % 3], line, scale[0, c], scale[1, c], gate[y - 1])


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _changes(above: Any, middle: Any, below: Any, slope: Any, bend: Any, gate: Any) -> None:
    """Raise one row of the gate where the three smoothed rows around it are steep or bend."""
    width = gate.size
    low, high, total = np.empty((3, width), np.float32)
    for x in range(width):
        a, b, c = above[x], middle[x], below[x]
        low[x] = min(min(a, b), c)
        high[x] = max(max(a, b), c)
        total[x] = a + b + c
    ninth = np.float32(1 / 9)
    for x in range(2, width - 2):
        least = min(min(low[x - 1], low[x]), low[x + 1])
        most = max(max(high[x - 1], high[x]), high[x + 1])
        bent = abs(middle[x] - ninth * (total[x - 1] + total[x] + total[x + 1]))
        t = max(_ramp((most - least) * slope, SLOPE), _ramp(bent * bend, BEND))
        gate[x] = max(gate[x], t * t * (np.float32(3) - np.float32(2) * t))


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _ramp(value: Any, ends: Any) -> Any:
    t = (value - np.float32(ends[0])) / np.float32(ends[1] - ends[0])
    t = t if t > 0 else np.float32(0)  # what is not known is plain sky
    return t if t < 1 else np.float32(1)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _widen(gate: Any) -> Any:
    """Largest value of 3 x 3, then mean of 3 x 3."""
    height, width = gate.shape
    wide, out = np.zeros_like(gate), np.zeros_like(gate)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            most = np.float32(0)
            for j in range(3):
                for i in range(3):
                    value = gate[y + j - 1, x + i - 1]
                    most = value if value > most else most
            wide[y, x] = most
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            total = np.float32(0)
            for j in range(3):
                for i in range(3):
                    total += wide[y + j - 1, x + i - 1]
            total /= np.float32(9)
            out[y, x] = total if total >= FAINTEST_GATE else np.float32(0)
    return out



@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _smooth(data: Any, variance: Any, gate: Any, once: Any, twice: Any, out: Any, spread: Any) -> None:
    channels, height, width = data.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                value, g = data[c, y, x], gate[y, x]
                if g >= 1 or np.isnan(value):
                    out[c, y, x] = value
                    spread[c, y, x] = variance[c, y, x]
                    continue
                total, weight = 0.0, 0.0
                for j in range(max(0, y - 1), min(height, y + 2)):
                    for i in range(max(0, x - 1), min(width, x + 2)):
                        near = data[c, j, i]
                        if not np.isnan(near):
                            w = (2.0 - abs(j - y)) * (2.0 - abs(i - x))
                            total += w * near
                            weight += w
                out[c, y, x] = g * value + (1 - g) * total / weight
                factor = g * g + 2 * g * (1 - g) * once[c] + (1 - g) * (1 - g) * twice[c]
                spread[c, y, x] = variance[c, y, x] * factor
