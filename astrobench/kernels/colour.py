"""Neutral sky and white stars: background levels and gains for three channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.sky_samples import MEDIAN_ERROR, sample_sky

SKY_CELLS = 24  # along the shorter side
SKY_PIXELS = 600  # a cell; the median of hundreds of cells needs no more
SKY_PASSES = 6
OBJECT_FREE = 2.0  # sigma above the common sky from which a cell counts as object
APERTURE, RING_INNER, RING_OUTER = 2.0, 3.0, 5.0  # in FWHM; wings and halos belong to the colour that is seen
LEAST_BRIGHT = 100  # pixels above the sky, from which colours say something
BY_CHANCE = 0.004  # three times the share of pure noise above 3 sigma
BRIGHTEST = 60  # colours that scatter by 0.2 mag give gains good to 3 %
LEAST_SNR = 10.0  # a colour good to 0.15 mag


def sky_levels(data: NDArray[np.float32], per_row: int = SKY_CELLS) -> NDArray[np.float64]:
    """Measure the level of the sky in every channel on the same star- and object-free cells.

    Parameters
    ----------
    data : (C, H, W) float32
        Linear; NaN is left out.
    per_row : int
        Cells along the shorter side.

    Returns
    -------
    (C,) float64
        Median over the sky cells; NaN for a channel without data.
    """
    values = np.stack([sample_sky(plane, per_row, SKY_PIXELS).value for plane in data])
    light = values.mean(axis=0)
    known = np.isfinite(light)
    if not known.any():  # too small for cells, or channels that share no pixel
        seen = [plane[np.isfinite(plane)] for plane in data]
        return np.array([np.median(each) if each.size else np.nan for each in seen], np.float64)
    sky = known
    for _ in range(SKY_PASSES):
        middle = np.median(light[sky])
        spread = MAD_TO_SIGMA * np.median(middle - light[sky & (light <= middle)])
        kept = known & (light <= middle + OBJECT_FREE * spread)
        if (kept == sky).all():
            break
        sky = kept
    return np.asarray(np.median(values[:, sky], axis=1))


def star_colours(
    data: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    fwhm: float,
    unusable: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Measure the light of stars in every channel, through one aperture over a local sky.

    Parameters
    ----------
    data : (C, H, W) float32
        Linear.
    x, y : (N,) float64
        Centres [pixels].
    fwhm : float
        Of the stars [pixels]; the aperture has a radius of 2 FWHM, the sky ring reaches from 3 to 5.
    unusable : (H, W) bool, optional
        Pixels that must not lie in an aperture (saturated).

    Returns
    -------
    (N, 2, C) float64
        Flux and its error [unit of the data]; NaN for a star near the border or on unusable pixels.
    """
    channels, height, width = data.shape
    outer = int(np.ceil(RING_OUTER * fwhm))
    result = np.full((x.size, 2, channels), np.nan)
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (column >= outer) & (row >= outer) & (column < width - outer) & (row < height - outer)
    offset = np.arange(-outer, outer + 1)
    for i in np.flatnonzero(inside):
        window = np.s_[row[i] - outer : row[i] + outer + 1, column[i] - outer : column[i] + outer + 1]
        distance = np.hypot(offset[:, None] + row[i] - y[i], offset + column[i] - x[i]) / fwhm
        aperture = distance <= APERTURE
        if unusable is not None and unusable[window][aperture].any():
            continue
        light = data[(slice(None), *window)].astype(np.float64)
        ring = light[:, (distance >= RING_INNER) & (distance <= RING_OUTER)]
        ring = ring[:, np.isfinite(ring).all(axis=0)]
        if ring.shape[1] < 10:
            continue
        sky = np.median(ring, axis=1)
        noise = MAD_TO_SIGMA * np.median(np.abs(ring - sky[:, None]), axis=1)
        pixels = int(aperture.sum())
        result[i, 0] = light[:, aperture].sum(axis=1) - pixels * sky
        result[i, 1] = noise * np.sqrt(pixels + pixels**2 / ring.shape[1])
    return result


def white_gains(fluxes: NDArray[np.float64]) -> tuple[NDArray[np.float64], int, float]:
    """Find the gains that make the middle one of the brightest stars white.

    Only the 60 brightest: faint ones are farther and reddened by dust, and the milky way has so many of them
    that they would turn the bright ones green (M 27: faint stars are 1.4 times redder than bright ones).

    Parameters
    ----------
    fluxes : (N, 2, 3) float64
        Flux and error as `star_colours` gives them.

    Returns
    -------
    gains : (3,) float64
        Green is 1. NaN where no star is good enough.
    used : int
        Stars that were used; each has a flux above 10 sigma in every channel.
    error : float
        Relative error of the gains: scatter of the colours over the root of the number of stars.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (fluxes[:, 0] > LEAST_SNR * fluxes[:, 1]).all(axis=1) & (fluxes[:, 0] > 0).all(axis=1)
    if not good.any():
        return np.full(3, np.nan), 0, float("nan")
    light = fluxes[good, 0]
    light = light[np.argsort(-light.sum(axis=1), kind="stable")[:BRIGHTEST]]
    colours = np.log(light[:, 1:2] / light)
    middle = np.median(colours, axis=0)
    scatter = MAD_TO_SIGMA * np.median(np.abs(colours - middle), axis=0)
    used = len(light)
    return np.exp(middle), used, float(MEDIAN_ERROR * scatter.max() / np.sqrt(used))


def grey_gains(data: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the gains that make all light above the sky grey together (green is 1; NaN where there is none).

    Only pixels whose luminance stands 3 sigma above the sky count, and the brightest percent of them is left
    out, so that a few saturated cores do not decide.
    """
    above = data - levels.astype(np.float32)[:, None, None]
    light = above.mean(axis=0)
    seen = light[np.isfinite(light)]
    if seen.size == 0:
        return np.full(len(data), np.nan)
    below = -seen[seen < 0]
    sigma = MAD_TO_SIGMA * float(np.median(below)) if below.size else 0.0
    bright = light > 3 * sigma
    if bright.sum() < LEAST_BRIGHT + BY_CHANCE * seen.size:
        return np.full(len(data), np.nan)
    bright &= light <= np.quantile(light[bright], 0.99)
    sums = above[:, bright].sum(axis=1, dtype=np.float64)
    return np.asarray(np.where((sums > 0).all(), sums[1] / sums, np.nan))
