"""How bright each frame is: by the light of the same stars in all of them, or by their small structure."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.statistics import clipped_sigma

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

LEAST_POINTS = 100  # of the grid, for a slope
BLOCK = 16  # grid points: structure smaller than this counts, gradients larger than this do not
PASSES = 6


class Scales(NamedTuple):
    """Brightness of each frame in units of the reference: (N,) each; `used` counts what it rests on."""

    scale: F64
    error: F64
    used: NDArray[np.int64]


def scales_from_stars(flux: F64, error: F64, least: int) -> Scales:
    """Brightness of each frame from the fluxes of the same stars in all of them.

    Model flux[k, i] = scale[k] * star[i], solved in turns; each frame's scale is the error-weighted mean of
    its flux ratios; stars that disagree (a trail across one, a variable) lose weight (Tukey's biweight).

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
    with np.errstate(all="ignore"):
        for turn in range(TURNS):
            star = _row_medians((flux / scale[:, None]).T)
            star[~(star > 0)] = np.nan
            scale, spread, used = _ratios(flux / star, error / star, turn == 0)
            scale[used < least] = np.nan
            scale /= _row_medians(scale[None])[0]
    return Scales(scale, spread, used)


TURNS = 4  # of stars and frames; the last change is far below the error
RATIO_FLOOR = 0.01  # flat field, seeing and blends keep one star's ratio from being better than this
BIWEIGHT = 4.685  # Tukey's constant for 95 % efficiency


def _ratios(ratio: F64, error: F64, rough: bool) -> tuple[F64, F64, NDArray[np.int64]]:
    """Robust weighted mean of each row of ratios, its error and the number of stars that speak for it."""
    middle = np.abs(_row_medians(ratio))[:, None]
    good = np.isfinite(ratio) & (error < 0.5 * middle)
    error = np.where(good, np.hypot(error, RATIO_FLOOR * middle), np.inf)
    ratio = np.where(good, ratio, middle)
    weight = error**-2
    value = _weighted_medians(ratio, 1 / error)
    total, trust = weight.sum(axis=1), good.astype(float)
    spread = np.ones(len(ratio))
    for _ in range(0 if rough else PASSES):
        z = (ratio - value[:, None]) / error
        spread = np.maximum(1.0, MAD_TO_SIGMA * _row_medians(np.where(good, np.abs(z), np.nan)))
        u = z / (BIWEIGHT * spread[:, None])
        trust = np.where(good & (np.abs(u) < 1), (1 - u * u) ** 2, 0.0)
        total = np.sum(weight * trust, axis=1)
        value = np.sum(weight * trust * ratio, axis=1) / total
    return value, spread / np.sqrt(total), (trust > 0.1).sum(axis=1)


def _row_medians(values: F64) -> F64:
    """Median of the finite values of each row; NaN for none."""
    good = np.isfinite(values)
    ordered = np.sort(np.where(good, values, np.inf), axis=1)
    count = good.sum(axis=1)
    rows = np.arange(len(values))
    middle = 0.5 * (
        ordered[rows, np.maximum(count - 1, 0) // 2]
        + ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    )
    return np.where(count > 0, middle, np.nan)


def _weighted_medians(values: F64, weights: F64) -> F64:
    order = np.argsort(values, axis=1, kind="stable")
    heap = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    place = (heap < 0.5 * heap[:, -1:]).sum(axis=1)
    rows = np.arange(len(values))
    return np.asarray(values[rows, order[rows, np.minimum(place, values.shape[1] - 1)]])


def scales_from_structure(grid: F32, location: F64) -> Scales:
    """Brightness of each frame from its small structure: slope of its samples over the others' mean.

    Both are taken relative to the mean of their neighbourhood, so that a changing gradient has no say.

    Returns
    -------
    Scales
        `error` is large where there is no structure to compare; `used` counts grid points.
    """
    count = len(grid)
    planes = np.stack(
        [_detail(plane - np.float32(level)) for plane, level in zip(grid, location, strict=True)]
    )
    flat = planes.reshape(count, -1)
    scale, error, used = np.ones(count), np.full(count, np.inf), np.zeros(count, np.int64)
    for _ in range(TURNS):
        levelled = flat / scale[:, None].astype(np.float32)
        total, seen = np.nansum(levelled, axis=0, dtype=np.float64), np.isfinite(levelled).sum(axis=0)
        for k, row in enumerate(flat):
            mine = np.nan_to_num(levelled[k])
            with np.errstate(invalid="ignore", divide="ignore"):
                others = ((total - mine) / (seen - np.isfinite(row))).astype(np.float32)
            good = np.isfinite(row) & np.isfinite(others)
            used[k] = int(good.sum())
            if used[k] >= LEAST_POINTS:
                scale[k], error[k] = _slope(others[good], row[good])
        middle = np.median(scale)
        if not middle > 0:
            return Scales(np.ones(count), np.full(count, np.inf), used)
        scale = np.where(scale > 0, scale / middle, 1.0)
    return Scales(scale, error / middle, used)


def _detail(plane: F32) -> F32:
    """Take away the mean and the slope of blocks; whole blocks only, the rest is NaN.

    Means, not medians: a linear filter leaves the ratio between frames as it is.
    """
    out = np.full(plane.shape, np.nan, np.float32)
    high, wide = min(BLOCK, plane.shape[0]), min(BLOCK, plane.shape[1])
    rows, columns = plane.shape[0] // high * high, plane.shape[1] // wide * wide
    blocks = plane[:rows, :columns].reshape(rows // high, high, columns // wide, wide)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # blocks without data
        left = blocks - np.nanmean(blocks, axis=(1, 3), keepdims=True)
        for axis, size in ((1, high), (3, wide)):
            along = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)).reshape(
                [size if each == axis else 1 for each in range(4)]
            )
            steepness = np.nanmean(left * along, axis=(1, 3), keepdims=True) / max(
                float(np.mean(along**2)), 1e-9
            )
            left = left - steepness * along
    out[:rows, :columns] = left.reshape(rows, columns)
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
    noise_power = keep.sum() * (MAD_TO_SIGMA * float(np.median(np.abs(x)))) ** 2
    real = max(power - noise_power, 0.0)
    return (slope, sigma / np.sqrt(real)) if real > 0 else (1.0, float("inf"))


@njit(nogil=True, cache=True, error_model="numpy")
def stamp_fluxes(
    stamps: F32,
    shape: F32,
    aperture: NDArray[np.bool_],
    ring: NDArray[np.bool_],
    saturation: float,
    out: F64,
    pixels_used: F64,
) -> None:
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
    pixels_used : (S,) float64
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
        pixels_used[s] = 0
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
        pixels_used[s] = pixels
