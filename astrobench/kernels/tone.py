"""Turn linear values into values for the eye: midtones, autostretch, asinh with colour kept."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.medians import median

SHADOWS = -2.8  # PixInsight's STF and Siril's autostretch: black point in sigma of the sky
TARGET = 0.25  # the same two: where the sky's median goes
STRIP = 64  # rows at once: what they need stays in the cache
SAMPLES = 200_000  # a channel; the median of so many is good to 0.003 sigma


class Levels(NamedTuple):
    """Levels of one channel: median of the sky, its sigma, lowest and highest value worth showing."""

    median: float
    sigma: float
    low: float
    high: float


def measure_levels(plane: NDArray[np.float32], samples: int = SAMPLES) -> Levels | None:
    """Measure the sky and the brightest cores of a channel on evenly spread pixels.

    Parameters
    ----------
    plane : (H, W) float32
        Any unit; NaN is left out.
    samples : int
        About how many pixels are looked at for median and sigma; the highest value is taken from all.

    Returns
    -------
    Levels or None
        Median, 1.4826 MAD, minimum, and the level above which only 1 pixel in 20 000 lies (so that one hot
        pixel does not set the scale). None where no pixel is finite.
    """
    height, width = plane.shape
    step = max(1, int(np.sqrt(height * width / samples)))
    seen = plane[step // 2 :: step, step // 2 :: step]
    seen = seen[np.isfinite(seen)]
    if seen.size == 0:
        seen = plane[np.isfinite(plane)]
        if seen.size == 0:
            return None
    middle = median(seen)
    sigma = MAD_TO_SIGMA * median(np.abs(seen - np.float32(middle)))
    return Levels(middle, sigma, float(seen.min()), _high(plane))


def _high(plane: NDArray[np.float32]) -> float:
    """Return the level that 1 pixel in 20 000 exceeds; the highest of fewer pixels."""
    finite = plane[np.isfinite(plane)]
    rank = finite.size // 20_000
    if rank == 0:
        return float(finite.max())
    return float(np.partition(finite, finite.size - rank)[finite.size - rank])


def midtones(values: NDArray[np.float32], balance: float) -> NDArray[np.float32]:
    """Apply the midtones transfer function ``MTF(m, x) = (m - 1) x / ((2m - 1) x - m)``.

    Parameters
    ----------
    values : float32 array
        In [0, 1]; NaN stays NaN.
    balance : float
        m in (0, 1), open: the value that becomes 0.5.

    Raises
    ------
    ValueError
        If `balance` is not inside (0, 1): both ends give 0/0.
    """
    if not 0 < balance < 1:
        raise ValueError(f"balance is {balance}; it must lie inside (0, 1)")
    m = np.float32(balance)
    result: NDArray[np.float32] = (m - 1) * values / ((2 * m - 1) * values - m)
    return result


def midtones_balance(value: float, wanted: float) -> float:
    """Return the m with which ``MTF(m, value) = wanted``; by symmetry that is ``MTF(wanted, value)``."""
    return (wanted - 1) * value / ((2 * wanted - 1) * value - wanted)


def stretch_midtones(
    plane: NDArray[np.float32], black: float, white: float, level: float, target: float
) -> NDArray[np.float32]:
    """Clip to black and white, then bend so that `level` becomes `target`; returns values in [0, 1]."""
    span = white - black
    if not span > 0:
        return np.where(np.isfinite(plane), np.float32(target), np.float32(np.nan))
    scaled = np.clip((plane - np.float32(black)) * np.float32(1 / span), 0, 1)
    share = min(max((level - black) / span, 1e-7), 1 - 1e-7)
    return np.minimum(midtones(scaled, midtones_balance(share, target)), 1)


def black_point(levels: Levels, shadows: float) -> float:
    """Return ``median + shadows * sigma``, but not below the lowest value, which it is where sigma is 0."""
    if levels.sigma == 0:
        return levels.low
    return max(levels.median + shadows * levels.sigma, levels.low)


def autostretch(
    data: NDArray[np.float32], target: float = TARGET, shadows: float = SHADOWS, linked: bool = False
) -> NDArray[np.float32]:
    """Show linear data: black below the sky, sky at `target`, the brightest cores at 1.

    Parameters
    ----------
    data : (C, H, W) float32
        Linear, any unit.
    target : float
        Where the median of the sky goes.
    shadows : float
        Black point, in sigma from the median of the sky.
    linked : bool
        One curve for all channels; else each has its own, which makes the sky grey whatever its colour.

    Returns
    -------
    (C, H, W) float32
        In [0, 1]; NaN stays NaN. A constant channel becomes `target`.

    Notes
    -----
    PixInsight's screen transfer function with the division by (1 - black) that its script leaves out
    (0.2527 instead of 0.25 there).
    """
    measured = [measure_levels(plane) for plane in data]
    known = [each for each in measured if each is not None]
    if linked and known:
        common = Levels(*(float(np.mean(column)) for column in zip(*known, strict=True)))
        common = common._replace(high=max(each.high for each in known))
        measured = [common if each is not None else None for each in measured]
    out = np.full(data.shape, np.nan, np.float32)
    for channel, levels in enumerate(measured):
        if levels is not None:
            black = black_point(levels, shadows)
            for start in range(0, data.shape[1], STRIP):
                part = data[channel, start : start + STRIP]
                out[channel, start : start + STRIP] = stretch_midtones(part, black, levels.high, levels.median, target)
    return out


def asinh_strength(share: float, target: float) -> float:
    """Find b with ``asinh(b share) / asinh(b) = target``: the strength that lifts `share` to `target`.

    Bisection on log b; 0 where no stretch is needed (``target <= share``).
    """
    if not 0 < share < target < 1:
        return 0.0
    low, high = -6.0, 35.0
    for _ in range(60):
        middle = (low + high) / 2
        b = np.exp(middle)
        if np.arcsinh(b * share) / np.arcsinh(b) < target:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def stretch_asinh(data: NDArray[np.float32], black: float, white: float, strength: float) -> NDArray[np.float32]:
    """Stretch the luminance by asinh and scale the colours with it, so that they keep their ratios.

    Parameters
    ----------
    data : (C, H, W) float32
        Linear; the sky must be neutral, else its colour is scaled up too.
    black, white : float
        Values that become 0 and 1.
    strength : float
        b of ``asinh(b x) / asinh(b)``; 0 leaves the data linear.

    Returns
    -------
    (C, H, W) float32
        In [0, 1]; NaN stays NaN. A pixel with a channel above 1 is divided by it, which keeps its hue.

    References
    ----------
    Lupton et al. 2004, PASP 116, 133, equations 1 to 3.
    """
    span = white - black
    if not span > 0:
        return np.where(np.isfinite(data), np.float32(0), np.float32(np.nan))
    scaled = (data - np.float32(black)) * np.float32(1 / span)
    if strength > 0:
        light = np.maximum(scaled.mean(axis=0, dtype=np.float32), np.float32(1e-9))
        scaled *= np.arcsinh(light * np.float32(strength)) / (light * np.float32(np.arcsinh(strength)))
    np.maximum(scaled, 0, out=scaled)
    brightest = scaled.max(axis=0)
    over = brightest > 1
    if over.any():
        scaled[:, over] /= brightest[over]
    return scaled
