"""Tell how much a mean of placed samples owes to where they happened to fall, and take that off.

A sample on structure is not taken at the centre of its output pixel: the mean is blurred by the drops, and another
dither of the same light gives another mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.cfa import FAST, Matrix, Pixels, Planes, checked, red_at
from astrobench.kernels.cfa_place import BATCH, PIXFRAC, drops, rows_and_columns

# For many drops of 1 px at random places, W = sinc^2(f) along each axis, a step of back-projection turns the filter W
# into W (2 - W). Integrals over f in two dimensions: the variance of the noise of W (1 - W) over that of W, and twice
# its covariance. On pure noise the sum with 1 was 1.69 to 1.86 for 6 to 60 frames.
OWN_NOISE = 0.156
COMMON = 0.639
# The same for errors by where the samples fell: on a slope a sample adds in proportion to its displacement, and these
# errors are filtered by W' along the slope and W across it, which W hardly sees.
OWN_SPREAD = 0.389
COMMON_SPREAD = 1.155


def displaced(
    samples: Planes,
    pixels: Pixels,
    patterns: Sequence[str],
    matrices: Sequence[Matrix] | Matrix,
    model: Planes,
    gate: Planes,
    weight: NDArray[np.float64],
    *,
    pixfrac: float = PIXFRAC,
    origin: tuple[int, int] = (0, 0),
) -> tuple[Planes, Planes]:
    """Light that placed means have too much because of where their samples fell, and its variance.

    Parameters
    ----------
    samples : array (3, N, P) float32
        Gathered samples at `pixels`; only where they are missing matters.
    pixels, gate, pixfrac, origin
        As for `cfa_place.place`.
    patterns, matrices
        Of every frame.
    model : array (3, h, w) float32
        The stack with its structure placed, normalised units.
    weight : array (N, 3)
        Of the frames.

    Returns
    -------
    mean : array (3, P) float32
        Sum w d / sum w, w weight times share, d the model at the sample's own place less that at the pixel.
    spread : array (3, P) float32
        Sum w^2 (d - mean)^2 / (sum w)^2 / (1 - sum w^2 / (sum w)^2): the variance of `mean` over dithers, by the
        samples' own spread. 0 where a single sample counts.

    Notes
    -----
    To take `mean` off once is a step of back-projection (Irani and Peleg 1991, CVGIP 53, 231; for drizzled frames
    Fruchter 2011, PASP 123, 497): it removes the blur of the drops and the pattern of an uneven dither.
    """
    red = np.array([red_at(pattern) for pattern in patterns], np.int64)
    forward = np.stack([checked(matrix) for matrix in matrices])
    average, variance = np.zeros((2, 3, pixels.size), np.float32)
    _displaced(
        np.ascontiguousarray(samples), np.asarray(pixels, np.int64), forward, np.linalg.inv(forward), red,
        np.ascontiguousarray(model), gate, np.ascontiguousarray(weight, np.float64), float(pixfrac), *origin,
        average, variance,
    )  # fmt: skip
    return average, variance


def centred(value: Planes, variance: Planes, mean: Planes, spread: Planes) -> tuple[Planes, Planes]:
    """Free placed means from where their samples fell, as far as that stands out of the noise.

    Parameters
    ----------
    value, variance : array (3, P) float32
        Placed means and the variance of their noise.
    mean, spread : array (3, P) float32
        From `displaced`.

    Returns
    -------
    value, variance : array (3, P) float32

    Notes
    -----
    `mean` is read from a stack that has noise itself: `OWN_NOISE` of the variance. It is trusted like a signal by a
    Wiener filter, t = mean^2 / (mean^2 + 4 OWN_NOISE variance): in full on stars, and hardly where it would only
    sharpen the noise. What a small error of `mean` changes is g = d(t mean) / d(mean) = t (3 - 2 t) of it: the
    variance grows to 1 + `COMMON` g + `OWN_NOISE` g^2. The stack that `mean` is read from has errors e by where its
    own samples fell; with W e, what the drops leave of them, (1 - g) e + g (e - W e) is left: the spread times
    (1 - g)^2 + `COMMON_SPREAD` g (1 - g) + `OWN_SPREAD` g^2.
    """
    own, common = np.float32(OWN_NOISE), np.float32(COMMON)
    with np.errstate(invalid="ignore", divide="ignore"):
        trust = np.nan_to_num(mean**2 / (mean**2 + 4 * own * variance))
    changed = trust * (3 - 2 * trust)
    left = 1 - changed
    grown = variance * (1 + changed * (common + own * changed))
    rest = left * (left + np.float32(COMMON_SPREAD) * changed) + np.float32(OWN_SPREAD) * changed**2
    grown += spread * rest
    return np.asarray(value - trust * mean, np.float32), np.asarray(grown, np.float32)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _displaced(
    samples: Any, pixels: Any, forward: Any, inverse: Any, red: Any, model: Any, gate: Any, weight: Any,
    pixfrac: float, left: int, top: int, average: Any, variance: Any,
) -> None:
    at, memory, there = np.empty((2, BATCH), np.int64), np.empty((4, BATCH)), np.empty(BATCH)
    share, sums = np.empty(BATCH, np.float32), np.empty((5, BATCH))
    for begin in range(0, pixels.size, BATCH):
        count = min(BATCH, pixels.size - begin)
        rows_and_columns(pixels[begin : begin + count], gate.shape[1], at)
        for colour in range(3):
            sums[:] = 0.0
            plane = model[colour]
            for f in range(forward.shape[0]):
                drops(
                    at, count, left, top, forward[f], inverse[f], red[f, 0], red[f, 1], colour, model, gate,
                    pixfrac, memory, share, there,
                )  # fmt: skip
                for k in range(count):
                    d = there[k] - plane[np.uintp(at[0, k]), np.uintp(at[1, k])]
                    is_there = d == d and not np.isnan(samples[colour, f, begin + k])
                    w = weight[f, colour] * share[k] if is_there else 0.0
                    d = d if is_there else 0.0
                    sums[0, k] += w
                    sums[1, k] += w * w
                    sums[2, k] += w * d
                    sums[3, k] += w * w * d
                    sums[4, k] += w * w * d * d
            for k in range(count):
                total, square = sums[0, k], sums[1, k]
                if total > 0:
                    mean = sums[2, k] / total
                    average[colour, begin + k] = mean
                    free = 1.0 - square / (total * total)
                    if free > 1e-3:
                        spread = sums[4, k] - 2.0 * mean * sums[3, k] + mean * mean * square
                        variance[colour, begin + k] = max(spread, 0.0) / (total * total * free)
