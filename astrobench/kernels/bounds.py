"""Between which values a sample would have been kept: the limits of a rule for the samples of one pixel.

Only for showing them; what was rejected is decided in `reject`. Float64, one pixel at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.integrate import gesd_limits
from astrobench.kernels.reject import (
    ADEV_TO_SIGMA,
    KEEP_DEVIATION,
    WINSOR_CLAMP,
    WINSOR_PASSES,
    WINSOR_TO_SIGMA,
    WINSOR_TOLERANCE,
)

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
NOWHERE = (float("-inf"), float("inf"))


def rule_bounds(
    rule: str, values: F64, valid: Mask, kept: Mask, low: float, high: float, alpha: float, most_share: float
) -> tuple[F64, F64]:
    """Return the lower and the upper limit for every sample, (N,) each.

    Parameters
    ----------
    rule : str
        Of `integrate_samples`; the noise model has limits of its own for each frame, see `model_bounds`.
    values : (N,) float64
        Normalised samples of the pixel.
    valid, kept : (N,) bool
        Which of them there are, and which were kept.
    low, high : float
        Limits of the rule.
    alpha, most_share : float
        Of the generalised ESD test.

    Notes
    -----
    A rejected sample gets the limits of the pass that rejected it, a kept one those of the last pass.
    """
    if rule in CLIPPING:
        return _clipping_bounds(rule, values, valid, kept, low, high)
    limits = NOWHERE
    if rule == "percentile" and valid.any():
        middle = float(np.median(values[valid]))
        limits = (middle * (1 - low), middle * (1 + high)) if middle > 0 else NOWHERE
    elif rule == "minmax" and kept.any():
        limits = float(values[kept].min()), float(values[kept].max())
    elif rule == "gesd":
        limits = _gesd_bounds(values[valid], int(kept.sum()), alpha, most_share)
    return np.full(len(values), limits[0]), np.full(len(values), limits[1])


def _clipping_bounds(
    rule: str, values: F64, valid: Mask, kept: Mask, low: float, high: float
) -> tuple[F64, F64]:
    lower, upper = (np.full(len(values), each) for each in NOWHERE)
    left = valid.copy()
    while left.sum() > KEEP_DEVIATION:
        middle, scale = float(np.median(values[left])), CLIPPING[rule](values[left])
        if not scale > 0:
            break
        lower[left], upper[left] = middle - low * scale, middle + high * scale
        out = left & ~kept & ((values < lower) | (values > upper))
        if not out.any():
            break
        left &= ~out
    return lower, upper


def model_bounds(kept: F64, deviation: F64, low: float, high: float) -> tuple[F64, F64]:
    """Return the limits of the noise model for every frame, `deviation` (N,) being its standard deviation."""
    middle = float(np.median(kept)) if len(kept) else float("nan")
    return middle - low * deviation, middle + high * deviation


def _gesd_bounds(valid: F64, kept: int, alpha: float, most_share: float) -> tuple[float, float]:
    """Limits of the last test that found an outlier, or of the first one if none did."""
    n = len(valid)
    if n == 0:
        return NOWHERE
    critical = gesd_limits(n, alpha, most_share)[n]
    gone = n - kept
    if not np.isfinite(critical[0]):
        return NOWHERE
    removed = max(gone - 1, 0)
    rest = np.sort(valid)
    for _ in range(removed):
        mean = rest.mean()
        rest = rest[1:] if mean - rest[0] > rest[-1] - mean else rest[:-1]
    reach = float(critical[removed]) * _sd(rest)
    return (float(rest.mean()) - reach, float(rest.mean()) + reach) if reach > 0 else NOWHERE


def _sd(values: F64) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _mad(values: F64) -> float:
    distance = np.abs(values - np.median(values))
    return MAD_TO_SIGMA * float(np.median(distance)) or ADEV_TO_SIGMA * float(np.mean(distance))


def _winsor(values: F64) -> float:
    middle, sigma, clamped = np.median(values), _sd(values), values
    for turn in range(WINSOR_PASSES):
        if not sigma > 0:
            break
        clamped = np.clip(clamped, middle - WINSOR_CLAMP * sigma, middle + WINSOR_CLAMP * sigma)
        before, sigma = sigma, WINSOR_TO_SIGMA * _sd(clamped)
        if turn >= 1 and abs(sigma - before) < WINSOR_TOLERANCE * before:
            break
    return sigma


CLIPPING = {"sigma": _sd, "mad": _mad, "winsorized": _winsor}
