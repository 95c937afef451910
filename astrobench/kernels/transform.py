"""Fit shifts, similarities, affine maps and homographies to matched stars, robustly."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA

F64 = NDArray[np.float64]
Model = Literal["shift", "similarity", "affine", "homography", "auto"]
Fit = tuple[F64, float, NDArray[np.bool_]]  # matrix, rms of the inliers, inliers

PARAMETERS = {"shift": 2, "similarity": 4, "affine": 6, "homography": 8}
STARS_PER_PARAMETER = 3  # fewer pairs than this per parameter fit their own noise
HELD_OUT_GAIN = 0.9  # the next model must lower the held-out rms by more than 10 %
FOLDS = 5
PASSES = 12
CONVERGED = 1e-4  # [px]
TUNING = 4.685  # Tukey's biweight: 95 % efficient on Gaussian residuals
SMALLEST_SCALE = 1e-3  # [px]; keeps exact pairs from dividing by zero
MOST_STRETCH = 1.01  # axis ratio of a telescope's image of itself
MOST_SHEAR = np.radians(0.5)


def apply(matrix: F64, points: F64) -> F64:
    """Map points (n, 2) by a 3x3 matrix."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def fit_transform(src_xy: F64, dst_xy: F64, model: Model, weight: F64 | None = None) -> Fit:
    """Fit dst = matrix @ src by iteratively reweighted least squares (Tukey's biweight).

    Parameters
    ----------
    src_xy, dst_xy : (n, 2) float64
        Matched positions [px].
    model : "shift", "similarity", "affine", "homography" or "auto"
        "auto" begins with a similarity and takes the next model only if it has three stars a parameter,
        lowers the held-out rms by more than 10 % and passes `why_impossible`. A mirrored similarity is
        found by itself: of the two orientations the one with the smaller residuals is kept.
    weight : (n,) float64, optional
        1 / variance of each pair, in any unit.

    Returns
    -------
    matrix : (3, 3) float64
    rms : float
        Weighted rms distance of the inliers from their partners [px].
    inliers : (n,) bool

    Raises
    ------
    ValueError
        With fewer pairs than the model needs.
    """
    src, dst = np.asarray(src_xy, np.float64), np.asarray(dst_xy, np.float64)
    prior = np.ones(len(src)) if weight is None else np.asarray(weight, np.float64)
    if model == "auto":
        model, fit = _choose(src, dst, prior)
        if fit is not None:
            return fit
    if 2 * len(src) < PARAMETERS[model]:
        raise ValueError(f"{model} needs {PARAMETERS[model] // 2} pairs, got {len(src)}")
    return _robust(src, dst, model, prior)


def why_impossible(matrix: F64, shape: tuple[int, int], scale: tuple[float, float]) -> str:
    """Say why a matrix cannot map one frame (H, W) of a night onto another; empty when it can."""
    height, width = shape
    corners = np.array([[0.0, 0.0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    if not np.isfinite(matrix).all() or depth.min() <= 0.5 * depth.max():
        return "the perspective folds the frame"
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    linear = jacobian(matrix, middle)
    large, small = np.linalg.svd(linear, compute_uv=False)
    size = float(np.sqrt(large * small))
    if not scale[0] <= size <= scale[1]:
        return f"scale {size:.4f} is outside {scale[0]:g} to {scale[1]:g}"
    if large > MOST_STRETCH * small:
        return f"one axis is stretched {100 * (large / small - 1):.1f} % more than the other (1 % allowed)"
    cosine = linear[:, 0] @ linear[:, 1] / (np.linalg.norm(linear[:, 0]) * np.linalg.norm(linear[:, 1]))
    if abs(np.arcsin(np.clip(cosine, -1, 1))) > MOST_SHEAR:
        return f"the axes are sheared by {np.degrees(abs(np.arcsin(cosine))):.2f} degrees (0.5 allowed)"
    return ""


def jacobian(matrix: F64, point: F64) -> F64:
    """Return the derivative (2, 2) of the map at a point."""
    numerator = matrix[:2] @ np.append(point, 1.0)
    depth = matrix[2] @ np.append(point, 1.0)
    return np.asarray((matrix[:2, :2] - np.outer(numerator / depth, matrix[2, :2])) / depth)


def _choose(src: F64, dst: F64, weight: F64) -> tuple[Model, Fit | None]:
    """Return the simplest model that the next one does not beat on pairs it has not seen, and its fit if known."""
    chosen: Model = "similarity" if len(src) >= 2 else "shift"
    if len(src) < 3 * STARS_PER_PARAMETER:
        return chosen, None
    fit = _robust(src, dst, chosen, weight)
    best = _held_out(src, dst, chosen, weight, fit[2])
    ladder: tuple[Model, ...] = ("affine", "homography")
    for model in ladder:
        if 2 * len(src) < STARS_PER_PARAMETER * PARAMETERS[model] * 2 * (FOLDS - 1) / FOLDS:
            break
        other = _robust(src, dst, model, weight)
        trial = _held_out(src, dst, model, weight, other[2])
        if trial < HELD_OUT_GAIN * best and not _distorts(src, other[0]):
            chosen, best, fit = model, trial, other
    return chosen, fit


def _distorts(src: F64, matrix: F64) -> bool:
    spread = np.ptp(src, axis=0)
    shape = (int(spread[1]) + 2, int(spread[0]) + 2)
    corner = np.eye(3)
    corner[:2, 2] = src.min(axis=0)
    return bool(why_impossible(matrix @ corner, shape, (0.0, np.inf)))


def _held_out(src: F64, dst: F64, model: Model, weight: F64, inliers: NDArray[np.bool_]) -> float:
    """Robust rms [px] on each fifth of the pairs of a fit to the other four; outliers are those of the whole fit."""
    fold = np.arange(len(src)) % FOLDS
    misfit = np.empty(len(src))
    for k in range(FOLDS):
        kept = (fold != k) & inliers
        if 2 * kept.sum() < PARAMETERS[model]:
            return np.inf
        matrix = _weighted(src[kept], dst[kept], model, weight[kept])
        misfit[~kept] = np.hypot(*(apply(matrix, src[~kept]) - dst[~kept]).T)
    scaled = misfit * np.sqrt(weight / weight.mean())
    limit = TUNING * max(MAD_TO_SIGMA * _median(scaled), SMALLEST_SCALE)
    return float(np.sqrt(np.mean(np.minimum(scaled, limit) ** 2)))


def _robust(src: F64, dst: F64, model: Model, prior: F64) -> Fit:
    weight = prior
    root = np.sqrt(prior / prior.mean())
    matrix = _weighted(src, dst, model, weight)
    freedom = max(1.0, 2 * len(src) - PARAMETERS[model]) / (2 * len(src))
    for _ in range(PASSES):
        misfit = np.hypot(*(apply(matrix, src) - dst).T) * root
        # Median of a Rayleigh distribution = 1.1774 sigma; a fit to few pairs shrinks its own residuals.
        spread = max(_median(misfit) / 1.1774 / np.sqrt(freedom), SMALLEST_SCALE)
        share = np.clip(1 - (misfit / (TUNING * spread)) ** 2, 0, None) ** 2
        if 2 * np.count_nonzero(share) < PARAMETERS[model]:
            break
        previous, matrix = matrix, _weighted(src, dst, model, prior * share)
        if np.abs(apply(matrix, src) - apply(previous, src)).max() < CONVERGED:
            break
    misfit = np.hypot(*(apply(matrix, src) - dst).T)
    spread = max(_median(misfit * root) / 1.1774 / np.sqrt(freedom), SMALLEST_SCALE)
    inliers = misfit * root <= TUNING * spread
    rms = float(np.sqrt(np.sum(prior[inliers] * misfit[inliers] ** 2) / max(prior[inliers].sum(), 1e-300)))
    return matrix, rms, inliers


def _weighted(src: F64, dst: F64, model: Model, weight: F64) -> F64:
    """Weighted least squares of one model, in centred and scaled coordinates."""
    share = weight / weight.sum()
    src_middle, dst_middle = share @ src, share @ dst
    size = max(float(np.sqrt(share @ np.sum((src - src_middle) ** 2, axis=1))), 1e-9)
    p, q = (src - src_middle) / size, (dst - dst_middle) / size
    if model == "shift":
        inner = np.eye(3)
    elif model == "similarity":
        inner = _similarity(p, q, share)
    elif model == "affine":
        inner = np.eye(3)
        root = np.sqrt(share)[:, None]
        inner[:2, :2] = np.linalg.lstsq(p * root, q * root, rcond=None)[0].T
    else:
        inner = _homography(p, q, share)
    into = np.array([[1 / size, 0, -src_middle[0] / size], [0, 1 / size, -src_middle[1] / size], [0, 0, 1]])
    back = np.array([[size, 0, dst_middle[0]], [0, size, dst_middle[1]], [0, 0, 1]])
    matrix = back @ inner @ into
    return np.asarray(matrix / matrix[2, 2])


def _similarity(p: F64, q: F64, share: F64) -> F64:
    """Solve in the complex plane: q = a p, or q = a conj(p) when that fits better."""
    u, v = p[:, 0] + 1j * p[:, 1], q[:, 0] + 1j * q[:, 1]
    power = max(float(share @ np.abs(u) ** 2), 1e-300)
    straight = (share * v) @ np.conj(u) / power
    mirrored = (share * v) @ u / power
    if abs(straight) >= abs(mirrored):
        a = straight
        return np.array([[a.real, -a.imag, 0], [a.imag, a.real, 0], [0, 0, 1]])
    a = mirrored
    return np.array([[a.real, a.imag, 0], [a.imag, -a.real, 0], [0, 0, 1]])


def _median(values: F64) -> float:
    """Median of a few values, without the checks that take np.median ten times as long."""
    ordered = np.sort(values)
    return 0.5 * float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])


def _slopes(places: F64, mapped: F64, scale: F64) -> F64:
    """Derivatives (2 n, 8) of where a homography puts the places (x, y, 1) by its parameters, each row scaled."""
    scaled = places * scale[:, None]
    slopes = np.zeros((2, len(places), 8))
    slopes[0, :, :3] = slopes[1, :, 3:6] = scaled
    slopes[:, :, 6:] = -mapped.T[:, :, None] * scaled[:, :2]
    return slopes.reshape(-1, 8)


def _homography(p: F64, q: F64, share: F64) -> F64:
    """Direct linear transform, then Gauss-Newton on the distances themselves."""
    root = np.sqrt(share)
    places = np.column_stack([p, np.ones(len(p))])
    h = np.linalg.lstsq(_slopes(places, q, root), (q.T * root).ravel(), rcond=None)[0]
    for _ in range(5):
        depth = 1 + p @ h[6:]
        mapped = (places @ h[:6].reshape(2, 3).T) / depth[:, None]
        slopes, misfit = _slopes(places, mapped, root / depth), ((q - mapped).T * root).ravel()
        step = np.linalg.lstsq(slopes, misfit, rcond=None)[0]
        h = h + step
        if np.abs(step).max() < 1e-10:  # of coordinates scaled to 1: 1e-7 px
            break
    return np.append(h, 1.0).reshape(3, 3)
