"""Between which values a sample would have been kept: the limits of a rule for the samples of one pixel.

Only for showing them; what was rejected is decided in `reject`. Float64, one pixel at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.integrate import gesd_limits
from astrobench.kernels.reject import (
    ADEV_TO_SIGMA,
    KEEP_DEVIATION,
    MAD_TO_SIGMA,
    WINSOR_CLAMP,
    WINSOR_PASSES,
    WINSOR_TO_SIGMA,
    WINSOR_TOLERANCE,
)

F64 = NDArray[np.float64]
NOWHERE = (float("-inf"), float("inf"))


def rule_bounds(
    rule: str, valid: F64, kept: F64, low: float, high: float, alpha: float, most_share: float
) -> tuple[float, float]:
    """Return the lower and the upper limit of a rule that treats all frames alike.

    Parameters
    ----------
    rule : str
        Of `integrate_samples`; the noise model has limits of its own for each frame, see `model_bounds`.
    valid, kept : (n,) float64
        Normalised samples of the pixel, and those that were kept.
    low, high : float
        Limits of the rule.
    alpha, most_share : float
        Of the generalised ESD test.
    """
    if len(kept) == 0 or rule == "none":
        return NOWHERE
    if rule == "percentile":
        middle = float(np.median(valid))
        return (middle * (1 - low), middle * (1 + high)) if middle > 0 else NOWHERE
    if rule == "minmax":
        return float(kept.min()), float(kept.max())
    if rule == "gesd":
        return _gesd_bounds(valid, kept, alpha, most_share)
    if len(valid) <= KEEP_DEVIATION:
        return NOWHERE
    middle = float(np.median(kept))
    scale = {"sigma": _sd, "mad": _mad, "winsorized": _winsor}[rule](kept)
    return (middle - low * scale, middle + high * scale) if scale > 0 else NOWHERE


def model_bounds(kept: F64, deviation: F64, low: float, high: float) -> tuple[F64, F64]:
    """Return the limits of the noise model for every frame, `deviation` (N,) being its standard deviation."""
    middle = float(np.median(kept)) if len(kept) else float("nan")
    return middle - low * deviation, middle + high * deviation


def _gesd_bounds(valid: F64, kept: F64, alpha: float, most_share: float) -> tuple[float, float]:
    """Limits of the last test that found an outlier, or of the first one if none did."""
    n = len(valid)
    critical = gesd_limits(n, alpha, most_share)[n]
    gone = n - len(kept)
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
