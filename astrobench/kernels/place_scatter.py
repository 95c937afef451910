"""Tell how much a mean of placed samples owes to where they happened to fall.

A sample on structure is not taken at the centre of its output pixel. With another dither the same light gives another
mean: a variance beside that of the noise, and the larger one on the flanks of bright stars.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.cfa import (
    FAINTEST_SHARE,
    FAST,
    PIXFRAC,
    Matrix,
    Pixels,
    Planes,
    checked,
    interpolate,
    nearest,
    red_at,
)


def place_scatter(
    samples: Planes,
    pixels: Pixels,
    patterns: Sequence[str],
    matrices: Sequence[Matrix],
    model: Planes,
    gate: Planes,
    weight: NDArray[np.float64],
    *,
    pixfrac: float = PIXFRAC,
) -> Planes:
    """Variance of placed means because samples fell where they did: another dither would give another value.

    Parameters
    ----------
    samples : array (N, 3, P) float32
        Gathered samples at `pixels`; only where they are missing matters.
    pixels, gate, pixfrac
        As for `place`.
    patterns, matrices
        Of every frame.
    model : array (3, h, w) float32
        The stack with its structure placed, normalised units.
    weight : array (N, 3)
        Of the frames.

    Returns
    -------
    array (3, P) float32
        Sum w^2 (d - mean d)^2 / (sum w)^2 / (1 - sum w^2 / (sum w)^2), w weight times share, d the model at the
        sample's own place less that at the pixel: the variance of a weighted mean by its samples' own spread.
        0 where a single sample counts.
    """
    red = np.array([red_at(pattern) for pattern in patterns], np.int64)
    forward = np.stack([checked(matrix) for matrix in matrices])
    out = np.zeros((3, pixels.size), np.float32)
    _place_scatter(
        np.ascontiguousarray(samples), np.asarray(pixels, np.int64), forward, np.linalg.inv(forward), red,
        np.ascontiguousarray(model), gate, np.ascontiguousarray(weight, np.float64), float(pixfrac), out,
    )  # fmt: skip
    return out


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _place_scatter(
    samples: Any, pixels: Any, forward: Any, inverse: Any, red: Any, model: Any, gate: Any, weight: Any,
    pixfrac: float, out: Any,
) -> None:
    width = gate.shape[1]
    reach = 0.5 * (pixfrac + 1.0)
    u, v, column, row = np.empty(1), np.empty(1), np.empty(1), np.empty(1)
    for k in range(pixels.size):
        y, x = pixels[k] // width, pixels[k] % width
        sharp = gate[y, x]
        for colour in range(3):
            here = np.float64(model[colour, y, x])
            total, square, first, second, third = 0.0, 0.0, 0.0, 0.0, 0.0
            for f in range(forward.shape[0]):
                if np.isnan(samples[f, colour, k]):
                    continue
                matrix, back = forward[f], inverse[f]
                w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
                u[0] = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
                v[0] = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w
                nearest(u, v, colour, red[f, 0], red[f, 1], column, row)
                i, j = column[0], row[0]
                across = min(max(reach - abs(i - u[0]), 0.0), pixfrac)
                down = min(max(reach - abs(j - v[0]), 0.0), pixfrac)
                drop = max(across * down / (pixfrac * pixfrac), FAINTEST_SHARE)
                counts = weight[f, colour] * ((1.0 - sharp) + sharp * drop)
                w = back[2, 0] * i + back[2, 1] * j + back[2, 2]
                there = interpolate(
                    model[colour],
                    (back[0, 0] * i + back[0, 1] * j + back[0, 2]) / w,
                    (back[1, 0] * i + back[1, 1] * j + back[1, 2]) / w,
                )
                if np.isnan(there):
                    continue
                d = there - here
                total += counts
                square += counts * counts
                first += counts * d
                second += counts * counts * d
                third += counts * counts * d * d
            if total > 0:
                mean = first / total
                free = 1.0 - square / (total * total)
                spread = third - 2.0 * mean * second + mean * mean * square
                if free > 1e-3:
                    out[colour, k] = max(spread, 0.0) / (total * total * free)
