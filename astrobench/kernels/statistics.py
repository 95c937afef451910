"""Measure the level, the spread and the noise of a set of samples without being misled by stars."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA

F32 = NDArray[np.float32]

CLIP = 3.0  # sigma
CLIPPED_VARIANCE = (
    0.9733369  # variance of a normal distribution cut at 3 sigma: 1 - 2 k phi(k) / (2 Phi(k) - 1)
)
FIRST_GUESS = 2048  # values that give the first median and MAD
IKSS_TO_SIGMA = 0.991  # scale of a Gaussian is then its sigma (PixInsight class library)


class Spread(NamedTuple):
    """Where values lie and how far they scatter."""

    location: float
    scale: float


def finite(values: NDArray[np.generic]) -> F32:
    """Return the finite values as a flat float32 array."""
    flat = np.asarray(values, np.float32).ravel()
    good = np.isfinite(flat)
    return flat if good.all() else flat[good]


def median_mad(values: NDArray[np.generic]) -> Spread:
    """Median and 1.4826 times the median absolute deviation of the finite values; NaN for none."""
    flat = finite(values)
    if flat.size == 0:
        return Spread(float("nan"), float("nan"))
    middle = np.median(flat)
    return Spread(float(middle), MAD_TO_SIGMA * float(np.median(np.abs(flat - middle))))


def clipped_sigma(values: NDArray[np.generic]) -> float:
    """Return the standard deviation of values with outliers, by iterated 3 sigma clipping.

    Values in coarse steps are no trouble, where a MAD would jump from one step to the next.

    Parameters
    ----------
    values : array
        Non-finite values are left out.

    Returns
    -------
    float
        Sigma of the Gaussian whose cut version was found; NaN for fewer than 3 values, 0 for constant ones.
    """
    flat = finite(values)
    if flat.size < 3:
        return float("nan")
    some = flat[:: max(1, flat.size // FIRST_GUESS)]
    centre, sigma = median_mad(some)
    if sigma == 0:
        centre, sigma = float(np.mean(flat, dtype=np.float64)), float(np.std(flat, dtype=np.float64))
    for _ in range(20):
        count, mean, squares = _within(flat, centre, CLIP * sigma)
        if count < 3 or squares <= 1e-9 * count * sigma**2:
            break  # only equal values are left: the step of the data is coarser than its noise
        new = float(np.sqrt(squares / (count - 1) / CLIPPED_VARIANCE))
        done = abs(new - sigma) <= 1e-4 * sigma
        centre, sigma = float(mean), new
        if done:
            break
    return sigma


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _within(values: F32, centre: float, reach: float) -> tuple[int, float, float]:
    """Count, mean and sum of squares about the mean of the values within `reach` of the centre."""
    count = 0
    total = 0.0
    squares = 0.0
    for i in range(values.size):
        d = values[i] - centre
        inside = abs(d) <= reach
        e = np.float64(d) if inside else 0.0
        count += 1 if inside else 0
        total += e
        squares += e * e
    if count == 0:
        return 0, np.float64(centre), 0.0
    shift = total / count
    return count, centre + shift, squares - total * shift


def spatial_noise(rows: F32, lag: int = 1) -> float:
    """Noise of single pixels from second differences along the rows, (R, W): blind to gradients and nebulae.

    Parameters
    ----------
    rows : (R, W) float32
        NaN: no data.
    lag : int
        Distance of the pixels that are compared; more than 1 where neighbours share noise.
    """
    if rows.shape[1] <= 2 * lag:
        return float("nan")
    difference = rows[:, : -2 * lag] - 2 * rows[:, lag:-lag] + rows[:, 2 * lag :]
    return float(clipped_sigma(difference) / np.sqrt(6.0))


def ikss(values: NDArray[np.generic]) -> Spread:
    """Location and scale by the iterative k-sigma estimator of PixInsight.

    Median m and the root s of the biweight midvariance; values outside m +- 4 s are left out until s
    no longer shrinks. On a Gaussian the scale is its sigma.

    References
    ----------
    PixInsight Class Library, ImageIntegration (IterativeKSigmaEstimator of Location and Scale).
    """
    flat = finite(values)
    if flat.size < 3:
        return Spread(float(np.median(flat)) if flat.size else float("nan"), 0.0)
    flat = np.sort(flat)
    last = np.inf
    while True:
        middle = 0.5 * (float(flat[(flat.size - 1) // 2]) + float(flat[flat.size // 2]))
        spread = float(np.median(np.abs(flat - np.float32(middle))))
        if spread == 0:
            return Spread(middle, 0.0)
        scale = float(np.sqrt(_biweight_midvariance(flat, middle, spread)))
        if not (last - scale) / last > 1e-6 and np.isfinite(last):
            return Spread(middle, IKSS_TO_SIGMA * scale)
        last = scale
        low, high = np.searchsorted(flat, (middle - 4 * scale, middle + 4 * scale))
        flat = flat[low:high]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"})
def _biweight_midvariance(values: F32, middle: float, mad: float) -> float:
    """Biweight midvariance with the raw MAD in u = (x - m) / (9 MAD)."""
    top = 0.0
    bottom = 0.0
    for i in range(values.size):
        d = values[i] - middle
        u = d / (9.0 * mad)
        v = 1.0 - u * u
        if v > 0:
            top += d * d * v * v * v * v
            bottom += v * (1.0 - 5.0 * u * u)
    return values.size * top / (bottom * bottom)
