"""Bring the frames of a cube to one level and one scale: gain and offset of each frame.

Works on a grid of samples, (N, R, K) float32: the same R rows of K pixels, some pixels apart, in every frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.statistics import clipped_sigma, spatial_noise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ENOUGH_COMMON = 0.1  # share of the grid that all frames must cover for plain medians to be comparable
OVERLAP_POINTS = 8192  # of the grid, for the overlaps of pairs
LEAST_OVERLAP = 16  # grid points
MOST_PAIRED = 60  # frames; of more, each is compared with some near and some far ones
FAR_PARTNERS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)


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
    """Level of each frame, comparable between frames.

    First its median over the points that all frames cover; then each frame is laid on the mean of all, by the
    median of the differences, in which the structure of the sky is gone. Where the frames have too little in
    common the levels follow from their overlaps alone.

    Parameters
    ----------
    grid : (N, R, K) float32
        NaN: no data.
    scale : (N,) float64
        Brightness of each frame.

    Returns
    -------
    location : (N,) float64
        NaN for a frame without any data.
    common : bool
        Whether all frames were measured over the same area.
    """
    flat = grid.reshape(grid.shape[0], -1)
    seen = np.isfinite(flat)
    alive = np.asarray(seen.any(axis=1))
    location = np.full(len(flat), np.nan)
    if not alive.any():
        return location, True
    shared = seen[alive].all(axis=0)
    common = bool(shared.sum() >= ENOUGH_COMMON * seen[alive].sum(axis=1).max())
    if common:
        flat, seen = flat[:, shared], seen[:, shared]
    for k in np.flatnonzero(alive):
        location[k] = np.median(flat[k, seen[k]])
    levelled = np.empty_like(flat)
    np.divide(flat - location[:, None].astype(np.float32), scale[:, None].astype(np.float32), out=levelled)
    if common:
        template = _mean(levelled)
        moves = np.array([_middle(levelled[k] - template) if alive[k] else 0.0 for k in range(len(flat))])
    else:
        moves = _overlap_moves(levelled[:, :: max(1, flat.shape[1] // OVERLAP_POINTS)])
    return location + moves * scale, common


def _overlap_moves(levelled: F32) -> F64:
    """Return the moves that make all overlaps agree best, by least squares over pairs of frames.

    The difference of two moves should be the median difference of the two frames where they overlap.

    Frames without any connection keep their own level.
    """
    count = len(levelled)
    distances = range(1, count) if count <= MOST_PAIRED else [d for d in FAR_PARTNERS if d < count]
    rows, values = [], []
    for i, j in ((i, i + d) for d in distances for i in range(count - d)):
        both = np.isfinite(levelled[i]) & np.isfinite(levelled[j])
        n = int(both.sum())
        if n >= LEAST_OVERLAP:
            row = np.zeros(count)
            row[i], row[j] = np.sqrt(n), -np.sqrt(n)
            rows.append(row)
            values.append(np.sqrt(n) * np.median(levelled[i, both] - levelled[j, both]))
    if not rows:
        return np.zeros(count)
    return np.asarray(np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0])


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


def grid_noise(grid: F32, gain: F64, offset: F64, lag: int = 1) -> F64:
    """Noise of one sample of each normalised frame on the sky, from its difference to the mean of all.

    Second differences between grid points of what is left after the mean is taken away: structure of the sky,
    gradients and the noise that neighbouring pixels share after an interpolation play no part.

    Parameters
    ----------
    grid : (N, R, K) float32
    gain, offset : (N,) float64
    lag : int
        Points of the grid between those that are compared: more than 1 where neighbours share noise.

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
    spread = np.array([_second_differences(plane - mean, lag) ** 2 for plane in frames])
    alive = np.isfinite(spread)
    n = int(alive.sum())
    if n < 2:
        return np.full(count, np.nan)
    # var(x_k - mean) = v_k (1 - 2/n) + sum(v) / n^2
    total = spread[alive].sum() / (1 - 1 / n)
    if n == 2:
        return np.where(alive, np.sqrt(total / 2), np.nan)
    return np.asarray(np.sqrt(np.maximum((spread - total / n**2) / (1 - 2 / n), 0.05 * spread)))


def _second_differences(plane: F32, lag: int) -> float:
    return spatial_noise(plane, lag) if plane.shape[1] > 2 * lag else clipped_sigma(plane)
