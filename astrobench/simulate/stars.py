"""The stars of the simulated field: places, brightness and colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STAR = np.dtype([("x", "f8"), ("y", "f8"), ("flux_r", "f8"), ("flux_g", "f8"), ("flux_b", "f8")])
SLOPE = 0.85  # N(>F) ~ F^-SLOPE: counts of a mid-latitude field at Seestar depth
FAINTEST_FLUX = 330.0  # ADU in 10 s: a peak of 20 ADU at FWHM 3.4 px, a fifth of the noise of one sub
BRIGHTEST_FLUX = 2.5e6  # ADU in 10 s: a saturated core about 4 px wide
WAVELENGTHS_NM = (605.0, 530.0, 455.0)  # effective R, G, B of a colour sensor behind an IR cut
WHITE_K = 5800.0  # a star of this temperature is white (the Sun's)
RESPONSE = (0.78, 1.0, 0.72)  # what the sensor makes of white: strong in green, as every Bayer sensor
FOREGROUND = 0.25  # share of the stars that stand before the dust


def temperature(b_v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Temperature [K] of a star of colour index B-V (Ballesteros 2012, EPL 97, 34008, eq. 14)."""
    return 4600.0 * (1.0 / (0.92 * b_v + 1.7) + 1.0 / (0.92 * b_v + 0.62))


def colour(kelvin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera R, G, B of a black body relative to its green (Planck's law).

    Parameters
    ----------
    kelvin : ndarray of float64, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n, 3)
        1 in green; `RESPONSE` for a star of `WHITE_K`.
    """
    wave = np.asarray(WAVELENGTHS_NM)
    second_constant = 1.4388e7  # nm K
    planck = 1.0 / np.expm1(second_constant / (wave * kelvin[:, None]))
    white = 1.0 / np.expm1(second_constant / (wave * WHITE_K))
    ratio = planck / white
    return np.asarray(ratio / ratio[:, 1:2] * np.asarray(RESPONSE), dtype=np.float64)


def draw_stars(
    rng: np.random.Generator, density: float, box: tuple[float, float, float, float]
) -> NDArray[np.void]:
    """Scatter stars over a box, faint ones many, bright ones few.

    Brightness is drawn in equal steps of rank, so that every seed has its few saturated stars.

    Parameters
    ----------
    rng : numpy.random.Generator
    density : float
        Stars per pixel.
    box : (x0, y0, x1, y1)
        Corners in reference pixels.

    Returns
    -------
    structured ndarray of `STAR`
        Brightest first; total flux in ADU of each colour in 10 s.
    """
    x0, y0, x1, y1 = box
    count = round(density * (x1 - x0) * (y1 - y0))
    rank = (np.arange(count) + rng.uniform(0.2, 0.8, count)) / max(count, 1)
    green = np.minimum(FAINTEST_FLUX * rank ** (-1.0 / SLOPE), BRIGHTEST_FLUX)
    giants = rng.uniform(size=count) < 0.35
    b_v = np.where(giants, rng.normal(1.15, 0.28, count), rng.normal(0.48, 0.28, count))
    stars = np.zeros(count, STAR)
    stars["x"] = rng.uniform(x0, x1, count)
    stars["y"] = rng.uniform(y0, y1, count)
    rgb = green[:, None] * colour(temperature(np.clip(b_v, -0.25, 1.9)))
    stars["flux_r"], stars["flux_g"], stars["flux_b"] = rgb.T
    return stars


def dim_by_dust(
    stars: NDArray[np.void], depth: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.void]:
    """Dim and redden the stars behind the dust.

    Parameters
    ----------
    stars : structured ndarray of `STAR`
    depth : ndarray of float64, shape (n,)
        Optical depth in green at each star.
    rng : numpy.random.Generator
        Says which stars stand before the dust.

    Returns
    -------
    structured ndarray of `STAR`
        A copy; A(lambda) ~ 1/lambda.
    """
    dimmed = stars.copy()
    behind = depth * (rng.uniform(size=len(stars)) > FOREGROUND)
    for name, wave in zip(("flux_r", "flux_g", "flux_b"), WAVELENGTHS_NM, strict=True):
        dimmed[name] *= np.exp(-behind * WAVELENGTHS_NM[1] / wave)
    return dimmed
