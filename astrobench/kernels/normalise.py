"""Bring the frames of a cube to one level and one scale: gain and offset of each frame.

Works on a grid of samples, (N, R, K) float32: the same R rows of K pixels, a few pixels apart, in every frame.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.statistics import clipped_sigma

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ENOUGH_COMMON = 0.1  # share of the grid that all frames must cover for plain medians to be comparable
BLOCK = 16  # grid points: structure smaller than this counts, gradients larger than this do not
PASSES = 6


class Scales(NamedTuple):
    """Brightness of each frame in units of the reference: (N,) each; `used` counts what it rests on."""

    scale: F64
    error: F64
    used: NDArray[np.int64]


def affine(kind: str, location: F64, scale: F64, reference: int) -> tuple[F64, F64]:
    """Gain and offset that normalise each frame: ``y = gain * x + offset``.

    Parameters
    ----------
    kind : str
        ``"none"``: y = x. ``"additive"``: y = x - L + L_r. ``"multiplicative"``: y = x L_r / L.
        With ``"+scaling"``: y = (x - L) S_r / S + L_r; reached from a multiplicative start, x L_r / L, by
        scaling about L_r so that the level stays there, it is the same line.
    location, scale : (N,) float64
        Level L and scale S of each frame.
    reference : int
        Frame r whose levels the others take; its gain is exactly 1 and its offset exactly 0.

    Returns
    -------
    gain, offset : (N,) float64
    """
    level, size = location[reference], scale[reference]
    gain = np.ones_like(location)
    offset = np.zeros_like(location)
    if kind == "additive":
        offset = level - location
    elif kind == "multiplicative":
        gain = level / location
    elif kind != "none":
        usable = (scale > 0) & np.isfinite(scale) & (size > 0)
        gain = np.where(usable, size / np.where(usable, scale, 1.0), 1.0)
        offset = level - gain * location
    gain[reference], offset[reference] = 1.0, 0.0
    return gain, offset


def locations(grid: F32, scale: F64) -> tuple[F64, bool]:
    """Level of each frame: its median over the points that all frames cover.

    Where the frames have too little in common, levels follow from the overlaps: each frame is laid on the mean
    of the others, again and again.

    Parameters
    ----------
    grid : (N, R, K) float32
        NaN: no data.
    scale : (N,) float64
        Brightness of each frame, used for the overlaps.

    Returns
    -------
    location : (N,) float64
        NaN for a frame without any data.
    common : bool
        Whether all frames were measured over the same area.
    """
    flat = grid.reshape(grid.shape[0], -1)
    seen = np.isfinite(flat)
    alive = seen.any(axis=1)
    location = np.full(len(flat), np.nan)
    if not alive.any():
        return location, True
    common = seen[alive].all(axis=0)
    if common.sum() >= ENOUGH_COMMON * seen[alive].sum(axis=1).max():
        location[alive] = [np.median(row[common]) for row in flat[alive]]
        return location, True
    location[alive] = [np.median(row[good]) for row, good in zip(flat[alive], seen[alive], strict=True)]
    for _ in range(3 * PASSES):
        levelled = (flat - location[:, None].astype(np.float32)) / scale[:, None].astype(np.float32)
        template = _mean(levelled)
        moves = np.array([_middle(row - template) if good else 0.0 for row, good in zip(levelled, alive, strict=True)])
        location += moves * scale
        if np.nanmax(np.abs(moves)) < 1e-3 * np.nanmax(np.abs(location)):
            break
    return location, False


def _middle(values: F32) -> float:
    good = values[np.isfinite(values)]
    return float(np.median(good)) if good.size else 0.0


def _mean(flat: F32) -> F32:
    """Mean over the frames, NaN where none has data."""
    total, count = np.zeros(flat.shape[1], np.float64), np.zeros(flat.shape[1], np.float64)
    for row in flat:
        good = np.isfinite(row)
        total += np.where(good, row, 0)
        count += good
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)


def grid_noise(grid: F32, gain: F64, offset: F64) -> F64:
    """Noise of one sample of each normalised frame on the sky, from its difference to the mean of all.

    Second differences between grid points of what is left after the mean is taken away: structure of the sky,
    gradients and the noise that neighbouring pixels share after an interpolation play no part.

    Parameters
    ----------
    grid : (N, R, K) float32
    gain, offset : (N,) float64

    Returns
    -------
    (N,) float64
        NaN for a frame without data. For fewer than 3 frames the noise of two cannot be told apart: both
        get the same.
    """
    count = len(grid)
    frames = [np.float32(a) * plane + np.float32(b) for a, b, plane in zip(gain, offset, grid, strict=True)]
    shape = grid.shape[1:]
    mean = _mean(np.stack(frames).reshape(count, -1)).reshape(shape)
    spread = np.array([_second_differences(plane - mean) ** 2 for plane in frames])
    alive = np.isfinite(spread)
    n = int(alive.sum())
    if n < 2:
        return np.full(count, np.nan)
    # var(x_k - mean) = v_k (1 - 2/n) + sum(v) / n^2
    total = spread[alive].sum() / (1 - 1 / n)
    if n == 2:
        return np.where(alive, np.sqrt(total / 2), np.nan)
    return np.asarray(np.sqrt(np.maximum((spread - total / n**2) / (1 - 2 / n), 0.05 * spread)))


def _second_differences(plane: F32) -> float:
    if plane.shape[1] < 3:
        return clipped_sigma(plane)
    return clipped_sigma(plane[:, :-2] - 2 * plane[:, 1:-1] + plane[:, 2:]) / np.sqrt(6.0)


def scales_from_stars(flux: F64, error: F64, least: int) -> Scales:
    """Brightness of each frame from the fluxes of the same stars in all of them.

    Model flux[k, i] = scale[k] * star[i], solved in turns; each frame's scale is the error-weighted mean of its
    flux ratios, stars that disagree (a trail across one, a variable) lose their weight (Tukey's biweight).

    Parameters
    ----------
    flux, error : (N, S) float64
        NaN where a star could not be measured.
    least : int
        Stars that a frame needs.

    Returns
    -------
    Scales
        NaN where a frame has too few; relative to the median frame.
    """
    count = flux.shape[0]
    scale = np.ones(count)
    spread = np.full(count, np.nan)
    used = np.zeros(count, np.int64)
    if flux.shape[1] < least:
        return Scales(np.full(count, np.nan), spread, used)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a star or frame without any measure
        for turn in range(PASSES):
            star = np.nanmedian(flux / scale[:, None], axis=0)
            star[~(star > 0)] = np.nan
            for k in range(count):
                value, sigma, n = _ratio(flux[k] / star, error[k] / star, turn == 0)
                scale[k], spread[k], used[k] = (value, sigma, n) if n >= least else (np.nan, np.nan, n)
            middle = np.nanmedian(scale)
            scale = np.where(scale > 0, scale / middle, np.nan)
    return Scales(scale, spread, used)


RATIO_FLOOR = 0.01  # flat field, seeing and blends keep one star's ratio from being better than this


def _ratio(ratio: F64, error: F64, rough: bool) -> tuple[float, float, int]:
    """Robust weighted mean of flux ratios, its error and the number of stars that speak for it."""
    good = np.isfinite(ratio) & np.isfinite(error) & (error < 0.5 * np.abs(np.nanmedian(ratio)))
    if good.sum() < 3:
        return float("nan"), float("nan"), 0
    ratio, error = ratio[good], np.hypot(error[good], RATIO_FLOOR * np.abs(np.median(ratio[good])))
    value = _weighted_median(ratio, 1 / error)
    if rough:
        return value, float(np.median(error)), len(ratio)
    weight = error**-2
    for _ in range(PASSES):
        z = (ratio - value) / error
        spread = max(1.0, 1.4826 * float(np.median(np.abs(z))))
        u = z / (4.685 * spread)  # Tukey's biweight at 95 % efficiency
        trust = np.where(np.abs(u) < 1, (1 - u * u) ** 2, 0.0)
        total = float(np.sum(weight * trust))
        if total <= 0:
            break
        value = float(np.sum(weight * trust * ratio) / total)
    return value, spread / np.sqrt(total) if total > 0 else float("nan"), int((trust > 0.1).sum())


def _weighted_median(values: F64, weights: F64) -> float:
    order = np.argsort(values, kind="stable")
    heap = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(heap, 0.5 * heap[-1])])


def scales_from_structure(grid: F32, location: F64) -> Scales:
    """Brightness of each frame from its small structure: slope of its samples over the mean of the others.

    Both are taken relative to the mean of their neighbourhood, so that a changing gradient has no say.

    Returns
    -------
    Scales
        `error` is large where there is no structure to compare; `used` counts grid points.
    """
    count = len(grid)
    planes = np.stack([_detail(plane - np.float32(level)) for plane, level in zip(grid, location, strict=True)])
    flat = planes.reshape(count, -1)
    scale, error, used = np.ones(count), np.full(count, np.inf), np.zeros(count, np.int64)
    total, seen = np.zeros(flat.shape[1], np.float64), np.zeros(flat.shape[1])
    for row in flat:
        good = np.isfinite(row)
        total += np.where(good, row, 0)
        seen += good
    for k, row in enumerate(flat):
        with np.errstate(invalid="ignore", divide="ignore"):
            others = ((total - np.where(np.isfinite(row), row, 0)) / (seen - np.isfinite(row))).astype(np.float32)
        good = np.isfinite(row) & np.isfinite(others)
        if good.sum() > 100:
            scale[k], error[k] = _slope(others[good], row[good])
            used[k] = int(good.sum())
    middle = np.median(scale)
    return Scales(scale / middle if middle > 0 else scale, error, used)


def _detail(plane: F32) -> F32:
    """Take away the local mean of blocks; whole blocks only, the rest is NaN."""
    rows, columns = (size // BLOCK * BLOCK for size in plane.shape)
    out = np.full(plane.shape, np.nan, np.float32)
    high = min(BLOCK, plane.shape[0])
    rows = rows or high
    blocks = plane[:rows, :columns].reshape(rows // high, high, columns // BLOCK, BLOCK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # blocks without data
        out[:rows, :columns] = (blocks - np.nanmedian(blocks, axis=(1, 3), keepdims=True)).reshape(rows, columns)
    return out


def _slope(x: F32, y: F32) -> tuple[float, float]:
    """Slope of y over x through the origin, points with large residuals left out; and its error."""
    keep = np.ones(x.size, bool)
    slope = sigma = power = 0.0
    for _ in range(PASSES):
        power = float(np.dot(x[keep], x[keep]))
        if power <= 0:
            return 1.0, float("inf")
        slope = float(np.dot(x[keep], y[keep])) / power
        left = y - np.float32(slope) * x
        sigma = clipped_sigma(left)
        if not sigma > 0:
            break
        keep = np.abs(left) < 4 * sigma
    # What of the power is noise does not pull the slope: compare with a cloud of points without structure.
    noise_power = keep.sum() * (1.4826 * float(np.median(np.abs(x)))) ** 2
    real = max(power - noise_power, 0.0)
    return (slope, sigma / np.sqrt(real)) if real > 0 else (1.0, float("inf"))


@njit(nogil=True, cache=True, error_model="numpy")
def stamp_fluxes(stamps, shape, aperture, ring, saturation, out, cores):
    """Sum the light of stars in an aperture above the median of a ring around it.

    Parameters
    ----------
    stamps : (S, E, E) float32
        Stamp of each star, centred on it; NaN: no data.
    shape : (S, E, E) float32
        The same of a clean mean frame above its sky: it fills the light of pixels without data.
    aperture, ring : (E, E) bool
    saturation : float
        Stars with a sample at or above this are left out.
    out : (S, 2) float64
        Receives flux and sky; NaN where there is no measure.
    cores : (S,) float64
        Receives the number of aperture pixels with data.
    """
    side = stamps.shape[1]
    buffer = np.empty(side * side, np.float32)
    for s in range(stamps.shape[0]):
        n = 0
        for y in range(side):
            for x in range(side):
                if ring[y, x] and np.isfinite(stamps[s, y, x]):
                    buffer[n] = stamps[s, y, x]
                    n += 1
        out[s, 0] = np.nan
        out[s, 1] = np.nan
        cores[s] = 0
        if n < 12:
            continue
        ordered = np.sort(buffer[:n])
        sky = 0.5 * (np.float64(ordered[(n - 1) // 2]) + np.float64(ordered[n // 2]))
        light = 0.0
        known = 0.0
        whole = 0.0
        pixels = 0
        full = False
        for y in range(side):
            for x in range(side):
                if aperture[y, x]:
                    v = stamps[s, y, x]
                    whole += shape[s, y, x]
                    if np.isfinite(v):
                        full = full or v >= saturation
                        light += v - sky
                        known += shape[s, y, x]
                        pixels += 1
        if full or whole <= 0 or known < 0.3 * whole:
            continue
        out[s, 0] = light * whole / known
        out[s, 1] = sky
        cores[s] = pixels
