"""Learn how the noise of a sample grows with its level from the scatter of the frames about their mean."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.statistics import clipped_sigma

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BINS = 14
FIRST_BIN = 0.7  # signal in units of the sky's noise; below it the sky alone speaks
LEAST_IN_BIN = 100
SYSTEMATIC = 0.03  # of a bin's variance: few stars share one bin's pixels


class Growth(NamedTuple):
    """Variance of a sample above the sky's own: ``slope s + (share s)^2`` for a signal s [ADU].

    slope: variance per ADU of signal (1 / gain) [ADU]; slope_error: its standard error, inf if nothing could
    be measured; share: part of the signal that differs from frame to frame.
    """

    slope: float
    slope_error: float
    share: float


def noise_growth(samples: F32, scale: F64, variance: F64, sky: float, slope: float | None = None) -> Growth:
    """Fit the growth of the variance with the signal (photon transfer).

    The scatter of each frame about the mean of all is compared with that on the sky, in bins of the mean's
    signal. Photon noise grows with the signal, differences of seeing and registration with its square.

    Parameters
    ----------
    samples : (N, P) float32
        Normalised samples of the same pixels; NaN: no data.
    scale : (N,)
        Gain applied in the normalisation.
    variance : (N,)
        Variance of a normalised sample on the sky [ADU^2].
    sky : float
        Level of the sky in the normalised frames [ADU].
    slope : float, optional
        1 / gain of the camera [ADU] where it is known.

    References
    ----------
    Janesick, Photon Transfer (SPIE 2007), chapter 5.
    """
    nothing = Growth(slope or 0.0, 0.0 if slope else np.inf, 0.0)
    usable = np.isfinite(variance) & (variance > 0)
    samples, scale, variance = samples[usable], scale[usable], variance[usable]
    count = len(samples)
    if count < 2 or samples.size == 0:
        return nothing
    samples = samples[:, np.isfinite(samples).all(axis=0)]
    mean = samples.mean(axis=0, dtype=np.float64)
    signal = mean - sky
    expected = variance * (1 - 2 / count) + variance.sum() / count**2
    z = ((samples - mean) / np.sqrt(expected)[:, None]).astype(np.float32)
    typical = float(np.sqrt(np.median(variance)))
    top = float(signal.max(initial=0.0))
    if top <= 2 * FIRST_BIN * typical:
        return nothing
    edges = np.geomspace(FIRST_BIN * typical, top * 1.0001, BINS + 1)
    rows = []
    for low, high in pairwise(edges):
        chosen = (signal >= low) & (signal < high)
        n = int(chosen.sum()) * (count - 1)
        if n >= LEAST_IN_BIN:
            value = clipped_sigma(z[:, chosen]) ** 2
            error = value * np.hypot(np.sqrt(2 / n), SYSTEMATIC)
            rows.append((float(signal[chosen].mean()), float((signal[chosen] ** 2).mean()), value - 1, error))
    if not rows:
        return nothing
    first, second, excess, error = np.array(rows).T
    return _fit(first * np.mean(scale / variance), second * np.mean(1 / variance), excess, error, slope)


def _fit(linear: F64, square: F64, excess: F64, error: F64, slope: float | None) -> Growth:
    """Least squares of excess = slope linear + share^2 square, neither below 0."""
    a, b, y = linear / error, square / error, excess / error
    if slope is not None:
        share2 = max(float(np.dot(b, y - slope * a) / np.dot(b, b)), 0.0)
        return Growth(slope, 0.0, float(np.sqrt(share2)))
    aa, ab, bb, ay, by = (float(np.dot(p, q)) for p, q in ((a, a), (a, b), (b, b), (a, y), (b, y)))
    determinant = aa * bb - ab * ab
    if len(y) >= 3 and determinant > 1e-9 * aa * bb:
        found, share2 = (bb * ay - ab * by) / determinant, (aa * by - ab * ay) / determinant
        if found > 0 and share2 > 0:
            return Growth(found, float(np.sqrt(bb / determinant)), float(np.sqrt(share2)))
    only_slope, only_share2 = ay / aa, by / bb
    if only_slope > 0 and np.sum((y - only_slope * a) ** 2) <= np.sum((y - max(only_share2, 0.0) * b) ** 2):
        return Growth(only_slope, float(1 / np.sqrt(aa)), 0.0)
    return Growth(0.0, np.inf, float(np.sqrt(max(only_share2, 0.0))))
