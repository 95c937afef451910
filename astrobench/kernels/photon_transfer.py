"""Learn how the noise of a sample grows with its level from the scatter of the frames about their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.cfa_place import interpolate
from astrobench.kernels.statistics import clipped_sigma

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BINS = 14
FIRST_BIN = 0.7  # signal in units of the sky's noise; below it the sky alone speaks
LEAST_IN_BIN = 100
ROUNDS = 3  # of bringing samples to the centres of their pixels
SYSTEMATIC = 0.03  # of a bin's variance: few stars share one bin's pixels
FEWEST_POINTS = 500  # of plain sky
MOST_SAMPLES = 1 << 16  # of plain sky: their variance has an error of 0.6 %
MIXED = 4.0  # sigma; samples interpolated at many phases have many sigmas, and a cut at 3 loses 1 % of their variance
MIXED_VARIANCE = 0.998929  # of a normal distribution cut there: 1 - 2 k phi(k) / (2 Phi(k) - 1)


class Growth(NamedTuple):
    """Variance of a sample above the sky's own: ``slope s + (share s)^2`` for a signal s [ADU].

    slope: variance per ADU of signal (1 / gain) [ADU]; slope_error: its standard error, inf if nothing could
    be measured; share: part of the signal that differs from frame to frame.
    """

    slope: float
    slope_error: float
    share: float


class Placed(NamedTuple):
    """Samples of one colour around S stars that lie beside their pixels, and what is known of the frames."""

    stamps: F32
    """(N, S, E, E) normalised; NaN: no data."""
    moves: F32
    """(N, S, E, E, 2) from the centre of each pixel to the place of its sample, x and y [px]."""
    scale: F64
    """(N,) gain applied in the normalisation."""
    variance: F64
    """(N,) variance of a normalised sample on the sky [ADU^2]."""
    sky: float
    """Level of the sky in the normalised frames [ADU]."""


def sky_excess(grid: F32, scale: F64, offset: F64, variance: F64, sky: float) -> float:
    """Variance of samples at the level of the sky over what was measured over the whole field.

    Photons make the noise of a point grow with its light, and beside their pixels samples on structure scatter by
    where they fell: only the half of the points whose mean over the frames is nearest to the sky counts. There the
    frames are compared with their mean. What is left of a gradient is a parabola in every frame; it is fitted and
    taken off. Neighbours are not compared: they share noise after an interpolation.

    Parameters
    ----------
    grid : (N, R, K) float32
        The same points in every frame [ADU of the frame]; NaN: no data.
    scale, offset : (N,)
        Gain and offset of the normalisation.
    variance : (N,)
        Of a normalised sample, as measured over the whole field [ADU^2].
    sky : float
        Level of the sky in the normalised frames [ADU].

    Returns
    -------
    float
        1 where too few points are seen by all frames.
    """
    usable = np.flatnonzero(np.isfinite(variance) & (variance > 0))
    count, rows, columns = len(usable), *grid.shape[1:]
    if count < 2:
        return 1.0
    line = scale[usable].astype(np.float32)
    flat = grid.reshape(len(grid), -1)[usable]
    total = line @ flat + np.float32(offset[usable].sum())
    away = np.abs(total / np.float32(count) - np.float32(sky))
    seen = np.isfinite(away)
    if seen.sum() < 2 * FEWEST_POINTS:
        return 1.0
    plain = np.flatnonzero(away <= np.median(away[seen]))
    plain = plain[:: -(-plain.size * count // MOST_SAMPLES)]
    some = flat[:, plain]
    some *= line[:, None]
    some -= some.mean(axis=0)
    y, x = np.divmod(plain, columns)
    y, x = y / rows - 0.5, x / columns - 0.5
    shape = np.stack([np.ones(plain.size), x, y, x * x, x * y, y * y]).astype(np.float32)
    some -= np.linalg.solve(shape @ shape.T, shape @ some.T).T @ shape
    own = variance[usable]
    some /= np.sqrt(own * (1 - 2 / count) + own.sum() / count**2).astype(np.float32)[:, None]
    return _mixed_variance(some)


def _mixed_variance(values: F32) -> float:
    """Variance of values of several sigmas about 0 without outliers."""
    square = values * values
    near = square < np.float32(MIXED * clipped_sigma(values)) ** 2
    return float(square[near].mean(dtype=np.float64)) / MIXED_VARIANCE if near.any() else 0.0


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
    found = _grown(signal, z, typical, 1.0, (count - 1) / count)
    if found is None:
        return nothing
    first, second, excess, error = found
    return _fit(first * np.mean(scale / variance), second * np.mean(1 / variance), excess, error, slope)


def placed_growth(channels: Sequence[Placed], slope: float | None = None) -> Growth:
    """Fit the growth of the variance with the signal from samples that lie beside their pixels.

    Only samples whose own place lies within half a pixel count, each raw one at most once. They are brought to
    the centre of the pixel by their own mean, read between pixels: m <- mean(sample - m(place) + m(pixel)), the
    back projection of Irani and Peleg (1991, CVGIP 53, 231). What the light of a star changes within a pixel is
    then no noise. Their scatter is compared with that on the sky of the same stamps. The colours of one camera
    share its gain and what differs from frame to frame: one fit holds for all.

    Parameters
    ----------
    channels : sequence of Placed
    slope : float, optional
        1 / gain of the camera [ADU] where it is known.
    """
    parts = []
    for each in channels:
        usable = np.isfinite(each.variance) & (each.variance > 0)
        scale, variance = each.scale[usable], each.variance[usable]
        if usable.sum() < 2 or each.stamps.size == 0:
            continue
        model, placed = placed_mean(each.stamps[usable], each.moves[usable])
        count = np.isfinite(placed).sum(axis=0)
        free = np.sqrt(np.where(count > 1, 1 - 1 / np.maximum(count, 1), np.nan))
        z = ((placed - model) / (np.sqrt(variance)[:, None, None, None] * free)).astype(np.float32)
        good = np.isfinite(z)
        signal, z = np.broadcast_to(model - each.sky, z.shape)[good], z[good]
        typical = float(np.sqrt(np.median(variance)))
        dark = z[np.abs(signal) < FIRST_BIN * typical]
        unit = _mixed_variance(dark) if dark.size >= LEAST_IN_BIN else 1.0
        found = _grown(signal, z, typical, unit, float(np.nanmean(free**2)))
        if found is not None:
            found[0] *= np.mean(scale / variance)
            found[1] *= np.mean(1 / variance)
            parts.append(found)
    if not parts:
        return Growth(slope or 0.0, 0.0 if slope else np.inf, 0.0)
    linear, square, excess, error = np.concatenate(parts, axis=1)
    return _fit(linear, square, excess, error, slope)


def placed_mean(stamps: F32, moves: F32) -> tuple[F32, F32]:
    """Return the mean at the centres of the pixels, (S, E, E), and the samples brought there; see `placed_growth`."""
    home = np.isfinite(stamps) & (np.abs(moves) <= 0.5).all(axis=-1)
    model = _mean(stamps)  # of all samples: blurred, but without gaps
    placed = np.empty_like(stamps)
    for _ in range(ROUNDS):
        _bring(stamps, moves, home, model, placed)
        mean = _mean(placed)
        model = np.where(np.isfinite(mean), mean, model)
    return model, placed


@njit(nogil=True, cache=True, error_model="numpy")
def _bring(stamps: F32, moves: F32, home: NDArray[np.bool_], model: F32, placed: F32) -> None:
    count, stars, height, width = stamps.shape
    for k in range(count):
        for s in range(stars):
            for y in range(height):
                for x in range(width):
                    placed[k, s, y, x] = np.nan
                    if home[k, s, y, x]:
                        there = interpolate(model[s], x + moves[k, s, y, x, 0], y + moves[k, s, y, x, 1])
                        placed[k, s, y, x] = stamps[k, s, y, x] - (there - model[s, y, x])


def _mean(samples: F32) -> F32:
    """Mean over the frames, NaN where there is none."""
    good = np.isfinite(samples)
    total = np.where(good, samples, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / good.sum(axis=0), np.float32)


def _grown(signal: F64 | F32, z: F32, typical: float, unit: float, free: float) -> F64 | None:
    """Return mean signal, mean square, excess of the variance and its error of each bin, (4, B); None: no bin.

    signal : (P,); z : (P,) or (N, P).
    """
    top = float(signal.max(initial=0.0))
    if top <= 2 * FIRST_BIN * typical:
        return None
    rows = []
    for low, high in pairwise(np.geomspace(FIRST_BIN * typical, top * 1.0001, BINS + 1)):
        chosen = np.flatnonzero((signal >= low) & (signal < high))
        some = z[..., chosen]
        n = int(some.size * free)
        value = _mixed_variance(some) / unit if n >= LEAST_IN_BIN else 0.0
        if value > 0:  # 0: equal samples tell nothing of noise
            error = value * np.hypot(np.sqrt(2 / n), SYSTEMATIC)
            here = signal[chosen].astype(np.float64)
            rows.append((here.mean(), (here**2).mean(), value - 1, error))
    return np.array(rows, np.float64).T if rows else None


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
