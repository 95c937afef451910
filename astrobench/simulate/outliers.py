"""Outliers planted into single frames: cosmic rays and satellite trails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.simulate.camera import GRBG
from astrobench.simulate.stars import RESPONSE

OUTLIER = np.dtype([("frame", "u2"), ("y", "u2"), ("x", "u2"), ("adu", "f4"), ("kind", "U6")])
COSMIC, TRAIL = "cosmic", "trail"
COSMICS_PER_MEGAPIXEL = 5.0  # a frame; many more than in a real 10 s sub, so that tests have enough
TRAILS_PER_FRAME = 0.2
COUNTED = 0.5  # in noise of one frame: what a trail adds less than this is not an outlier


def _as_records(
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    adu: NDArray[np.float64],
    frame: int,
    kind: str,
    shape: tuple[int, int],
) -> NDArray[np.void]:
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1]) & (adu > 0)
    out = np.zeros(int(inside.sum()), OUTLIER)
    out["frame"], out["kind"] = frame, kind
    out["y"], out["x"], out["adu"] = y[inside], x[inside], adu[inside]
    return out


def cosmic_rays(
    rng: np.random.Generator, frame: int, shape: tuple[int, int], sigma: float
) -> NDArray[np.void]:
    """Draw the cosmic rays of one frame: tracks of 1 to about 8 pixels with a bright head.

    Parameters
    ----------
    rng : numpy.random.Generator
    frame : int
    shape : (H, W)
    sigma : float
        Noise of the sky in one frame, ADU: the faintest are 4 of it, the brightest about 500.

    Returns
    -------
    structured ndarray of `OUTLIER`
        One record a touched pixel.
    """
    parts = [np.zeros(0, OUTLIER)]
    for _ in range(int(rng.poisson(COSMICS_PER_MEGAPIXEL * shape[0] * shape[1] / 1e6))):
        length = int(rng.geometric(0.4))
        way = rng.uniform(0.0, np.pi)
        y0, x0 = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        t = np.arange(length)
        y = np.floor(y0 + t * np.sin(way)).astype(np.int64)
        x = np.floor(x0 + t * np.cos(way)).astype(np.int64)
        adu = sigma * 10.0 ** rng.uniform(0.6, 2.7) * rng.uniform(0.35, 1.0, length)
        parts.append(_as_records(y, x, adu, frame, COSMIC, shape))
    return np.concatenate(parts)


def satellite_trails(
    rng: np.random.Generator, frame: int, shape: tuple[int, int], sigma: float, fwhm: float, count: int
) -> NDArray[np.void]:
    """Draw the trails of one frame: straight, as wide as a star, some flaring up on the way.

    Parameters
    ----------
    rng : numpy.random.Generator
    frame : int
    shape : (H, W)
    sigma : float
        Noise of the sky in one frame, ADU.
    fwhm : float
        Of the stars, px.
    count : int
        Number of trails.

    Returns
    -------
    structured ndarray of `OUTLIER`
        The pixels to which a trail adds at least half the noise of one frame.
    """
    parts = [np.zeros(0, OUTLIER)]
    height, width = shape
    for _ in range(count):
        way = rng.uniform(0.0, np.pi)
        y0, x0 = rng.uniform(0.15, 0.85) * height, rng.uniform(0.1, 0.9) * width
        peak = sigma * 10.0 ** rng.uniform(0.5, 1.5)
        flare, flare_at, flare_width = rng.uniform(0.0, 1.5), rng.uniform(-0.5, 0.5) * height, 0.2 * height
        spread = fwhm / 2.3548
        reach = int(np.ceil(4.0 * spread / min(1.0, max(abs(np.sin(way)), abs(np.cos(way))))))
        steps = np.arange(-reach, reach + 1)
        if abs(np.cos(way)) > abs(np.sin(way)):
            x = np.repeat(np.arange(width), steps.size)
            y = np.rint(y0 + (x - x0) * np.tan(way)).astype(np.int64) + np.tile(steps, width)
        else:
            y = np.repeat(np.arange(height), steps.size)
            x = np.rint(x0 + (y - y0) / np.tan(way)).astype(np.int64) + np.tile(steps, height)
        across = (y - y0) * np.cos(way) - (x - x0) * np.sin(way)
        along = (y - y0) * np.sin(way) + (x - x0) * np.cos(way)
        light = 1.0 + flare * np.exp(-(((along - flare_at) / flare_width) ** 2))
        adu = peak * light * np.exp(-0.5 * (across / spread) ** 2)
        adu *= np.asarray(RESPONSE)[GRBG[y & 1, x & 1]]  # sunlight: white
        keep = adu >= COUNTED * sigma
        parts.append(_as_records(y[keep], x[keep], adu[keep], frame, TRAIL, shape))
    return np.concatenate(parts)
