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

from astrobench.kernels.cfa import FAINTEST_SHARE, PIXFRAC, Matrix, Pixels, Planes

PLACES = 8  # along each side of the cell a sample comes from: moments of its share within 1 %
TAPS = 5  # pixels along each axis by which the model is read within one pixel of the middle one


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
        Variance of the ratio of two means, sum w s d / sum w s, to the second order in 1 / n (Cochran 1977, Sampling
        Techniques, 6.4, carried one term further): with B = E[s], m = E[s d] / B and e = s (d - m) it is
        E[e^2] / (n B^2) * (1 + (3 var(s) / B^2 - 2 (E[e^2 s] / (E[e^2] B) - 1) + 5 E[e s]^2 / (E[e^2] B^2)) / n).
        d is the model at the place of a sample less that at the pixel, s its share, n = (sum w)^2 / sum w^2 of the
        frames there. Expected over the places a sample can come from, all alike as the dither makes them: the
        square of side 2 px around a pixel for red and blue, for green the one on its corner whose half diagonal is
        1 px. The own spread of the few samples that count would differ from night to night by as much as itself.
        0 where the model is missing within 2 px.
    """
    out = np.zeros((3, pixels.size), np.float32)
    shape, drop, cell = _places(pixfrac)
    _place_scatter(
        np.asarray(pixels, np.int64), np.ascontiguousarray(model), gate, _frames_over(samples, weight), shape, drop,
        cell, out,
    )  # fmt: skip
    return out


def _frames_over(samples: Planes, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sum w^2 / (sum w)^2 of the frames that reach each pixel, (3, P); inf for none."""
    total, square = np.zeros((2, *samples.shape[1:]))
    for frame, w in zip(samples, weight, strict=True):
        seen = np.isfinite(frame)
        total += w[:, None] * seen
        square += (w**2)[:, None] * seen
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(square / total**2)


def _places(pixfrac: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the pixels at each place, (PLACES, TAPS), shares there and chances per colour.

    Five-point Lagrange polynomials (Abramowitz and Stegun 25.2): at the peak of a star of FWHM 3.4 px cubic
    convolution makes the change of light within half a pixel a sixth too large.
    """
    along = (2 * np.arange(PLACES) + 1) / PLACES - 1
    node = np.arange(TAPS) - TAPS // 2
    shape = np.stack([np.prod([(along - m) / (n - m) for m in node if m != n], axis=0) for n in node], axis=1)
    part = np.clip(0.5 * (pixfrac + 1.0) - np.abs(along), 0.0, pixfrac) / pixfrac
    drop = np.maximum(np.outer(part, part), FAINTEST_SHARE)
    reach = np.add.outer(np.abs(along), np.abs(along))
    diamond = np.where(np.isclose(reach, 1.0), 0.5, reach < 1.0)
    square = np.ones_like(diamond)
    return shape, drop, np.stack([each / each.sum() for each in (square, diamond, square)])


# reassociated sums of finite numbers, alike for every pixel wherever it lies in a strip
@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _place_scatter(
    pixels: Any, model: Any, gate: Any, frames: Any, shape: Any, drop: Any, cell: Any, out: Any
) -> None:
    height, width = gate.shape
    patch = np.empty((TAPS, TAPS))
    lines = np.empty((PLACES, TAPS))
    for colour in range(3):
        for k in range(pixels.size):
            y, x = pixels[k] // width, pixels[k] % width
            if y < 2 or x < 2 or y + 2 >= height or x + 2 >= width:
                continue
            here = np.float64(model[colour, y, x])
            for j in range(TAPS):
                for i in range(TAPS):
                    patch[j, i] = np.float64(model[colour, y + j - 2, x + i - 2]) - here
            for b in range(PLACES):
                for i in range(TAPS):
                    total = 0.0
                    for j in range(TAPS):
                        total += shape[b, j] * patch[j, i]
                    lines[b, i] = total
            sharp = gate[y, x]
            s1, s2, s3 = 0.0, 0.0, 0.0
            s1d, s2d, s3d, s2dd, s3dd = 0.0, 0.0, 0.0, 0.0, 0.0
            for b in range(PLACES):
                for a in range(PLACES):
                    d = 0.0
                    for i in range(TAPS):
                        d += lines[b, i] * shape[a, i]
                    s = (1.0 - sharp) + sharp * drop[b, a]
                    s1 += cell[colour, b, a] * s
                    s2 += cell[colour, b, a] * s * s
                    s3 += cell[colour, b, a] * s * s * s
                    s1d += cell[colour, b, a] * s * d
                    s2d += cell[colour, b, a] * s * s * d
                    s3d += cell[colour, b, a] * s * s * s * d
                    s2dd += cell[colour, b, a] * s * s * d * d
                    s3dd += cell[colour, b, a] * s * s * s * d * d
            m = s1d / s1
            ee = s2dd - 2.0 * m * s2d + m * m * s2
            ees = s3dd - 2.0 * m * s3d + m * m * s3
            es = s2d - m * s2
            # ee times the terms of the second order
            more = ee * (3.0 * (s2 / (s1 * s1) - 1.0) + 2.0) - 2.0 * ees / s1 + 5.0 * es * es / (s1 * s1)
            value = (ee + max(more, 0.0) * frames[colour, k]) * frames[colour, k] / (s1 * s1)
            out[colour, k] = value if value > 0.0 and value < np.inf else 0.0
