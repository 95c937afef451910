"""Know the noise of a sample from its level: by the camera's gain and read noise, or from the cube itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.cube import Cube
from astrobench.kernels.cfa import displacements
from astrobench.kernels.photon_transfer import Growth, Placed, noise_growth, placed_growth, sky_excess
from astrobench.steps._normalisation import Normalisation

F64 = NDArray[np.float64]

BLIND_SHARE = 0.05  # where nothing bright is there to measure it
CERTAIN = 3.0  # standard errors
MOST_PLACED = 60  # frames whose samples are compared with their mean
MOST_POINTS = 4000  # of the grid, beside the cores of stars


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Variance of a normalised sample of frame k with the true level m.

    ``floor[k] + slope[k] * s + (share * s)**2`` with s = m - sky[k]; below the sky see `known_noise`.

    Parameters
    ----------
    known : bool
        Whether there is a model at all.
    floor, slope, sky : (N, C)
    share : (C,)
        Part of a star's light that differs from frame to frame.
    camera_gain : (C,)
        Electrons per ADU of the frame, as given or measured; NaN where it could not be told.
    ratio : float
        Noise on the sky as modelled over that found in the frames; 1 where it was measured.
    """

    known: bool
    floor: F64
    slope: F64
    sky: F64
    share: F64
    camera_gain: F64
    ratio: float = 1.0

    def arguments(self, channel: int) -> dict[str, Any]:
        """Arguments of `integrate_samples`."""
        if not self.known:
            return {}
        return {
            "noise_floor": self.floor[:, channel],
            "noise_slope": self.slope[:, channel],
            "noise_sky": self.sky[:, channel],
            "noise_share": float(self.share[channel]),
        }


def noise_model(
    cube: Cube, normalisation: Normalisation, gain: float | None, read_noise: float | None
) -> NoiseModel:
    """Build the model from what the user knows of the camera, else from the cube.

    Parameters
    ----------
    gain : float, optional
        e-/ADU.
    read_noise : float, optional
        e-; with it the sky's noise is calculated instead of measured.
    """
    n = normalisation
    count, channels = n.noise.shape
    measured = _sky_variance(n)
    sky = np.tile(n.location[n.reference], (count, 1))
    if gain is not None and read_noise is not None:
        floor = n.gain**2 * ((read_noise / gain) ** 2 + np.maximum(n.location, 0) / gain)
        both = np.isfinite(measured) & (measured > 0)
        ratio = float(np.sqrt(np.median(floor[both] / measured[both]))) if both.any() else 1.0
    else:
        ratio = 1.0
        floor = measured
    good = np.isfinite(floor) & (floor > 0)
    if not good.any(axis=0).all():
        blank = np.zeros((count, channels))
        return NoiseModel(False, blank, blank, sky, np.zeros(channels), np.full(channels, np.nan))
    floor = np.where(good, floor, np.nanmedian(np.where(good, floor, np.nan), axis=0))
    known = None if gain is None else 1.0 / gain
    pooled = _own_growth(cube, n, measured, known) if cube.patterns else None
    slope, share, camera = np.zeros((count, channels)), np.zeros(channels), np.full(channels, np.nan)
    for c in range(channels):
        grown = pooled or noise_growth(_pixels(n, c), n.gain[:, c], measured[:, c], n.sky(c), known)
        per_adu = grown.slope
        if not np.isfinite(grown.slope_error):
            per_adu = _all_photons(floor[:, c], n, c)
        slope[:, c] = n.gain[:, c] * per_adu
        share[c] = grown.share if np.isfinite(grown.slope_error) else max(grown.share, BLIND_SHARE)
        if known is not None:
            camera[c] = gain
        elif grown.slope > CERTAIN * grown.slope_error:
            camera[c] = _kept_noise(cube, n, c) / grown.slope
    return NoiseModel(True, floor, slope, sky, share, camera, ratio)


def _sky_variance(n: Normalisation) -> F64:
    """Variance of normalised samples at the level of the sky, (N, C).

    The noise that the normalisation knows is that of all its points, with nebulae and the wings of stars.
    """
    chosen = _some(len(n.gain))
    variance = n.noise**2
    for c, sample in enumerate(n.samples):
        own = variance[chosen, c]
        variance[:, c] *= sky_excess(sample.grid[chosen], n.gain[chosen, c], n.offset[chosen, c], own, n.sky(c))
    return variance


def _some(count: int) -> NDArray[np.intp]:
    """Frames spread over the night that tell enough."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_PLACED)).astype(np.intp))


def _own_growth(cube: Cube, n: Normalisation, variance: F64, known: float | None) -> Growth:
    """Measure how the noise grows with the light where samples lie beside their pixels."""
    chosen = _some(len(cube))
    back, patterns = np.linalg.inv(cube.transforms[chosen]), [cube.patterns[k] for k in chosen]
    channels = []
    for c, sample in enumerate(n.samples):
        reach = np.arange(sample.cores.shape[-1]) - sample.cores.shape[-1] // 2
        y = (sample.places[:, 0, None, None] + reach[:, None] + 0 * reach).astype(float)
        x = (sample.places[:, 1, None, None] + reach + 0 * reach[:, None]).astype(float)
        moves = np.stack(
            [displacements(matrix, order, c, x, y) for matrix, order in zip(back, patterns, strict=True)]
        )
        gain, offset = (v[chosen, c].astype(np.float32)[:, None, None, None] for v in (n.gain, n.offset))
        stamps = sample.cores[chosen] * gain + offset
        channels.append(Placed(stamps, moves, n.gain[chosen, c], variance[chosen, c], n.sky(c)))
    return placed_growth(channels, known)


def _pixels(n: Normalisation, channel: int) -> NDArray[np.float32]:
    """Normalised samples of the star cores and of the brighter points of the grid, (N, P)."""
    sample = n.samples[channel]
    count = len(sample.grid)
    gain = n.gain[:, channel].astype(np.float32)
    offset = n.offset[:, channel].astype(np.float32)
    grid = sample.grid.reshape(count, -1)
    bright = np.flatnonzero(
        (gain @ grid + offset.sum()) / count - n.sky(channel) > np.nanmedian(n.noise[:, channel])
    )
    some = grid[:, bright[:: max(1, bright.size // MOST_POINTS)]]
    both = np.concatenate([sample.cores.reshape(count, -1), some], axis=1)
    both *= gain[:, None]
    both += offset[:, None]
    return both


def _all_photons(floor: F64, n: Normalisation, channel: int) -> float:
    """Variance per ADU if all of the sky's noise were that of its light: too much rather than too little."""
    level = n.location[:, channel]
    lit = level > 0
    if not lit.any():
        return 0.0
    return float(np.median(floor[lit] / n.gain[lit, channel] ** 2 / level[lit]))


def _kept_noise(cube: Cube, n: Normalisation, channel: int) -> float:
    """Share of a raw sample's variance that the interpolation onto the grid left; 1 where it is not known."""
    raw = cube.noise[:, channel] * n.gain[:, channel]
    both = np.isfinite(raw) & (raw > 0) & np.isfinite(n.noise[:, channel])
    return float(np.median((n.noise[both, channel] / raw[both]) ** 2)) if both.any() else 1.0
