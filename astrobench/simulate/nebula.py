"""The designed nebula: a cavity blown by a young cluster, its bright rims, dust lanes, a blue reflection part.

The gas is a turbulent density field that thickens away from the cluster. Where it is thin it is ionised and
glows (Ha red, nearer the stars OIII teal); where it turns dense the light stops in a bright rim, and the dust
behind hides what lies beyond. Lengths are in half heights of the picture, the origin is its centre.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from astrobench.simulate.turbulence import cloud, permutation, ridges

FIELDS = 8  # independent noise fields
CLUSTER = (-0.03, 0.10)  # the stars that light the emission nebula
REFLECTION = (0.20, -0.52)  # the blue star in its dust
FINEST_PX = 5.0  # smallest turbulence cell, px: about what the seeing leaves
EMISSION_ADU = 620.0  # surface brightness scale in 10 s
ROWS_A_JOB = 64


@njit(nogil=True, cache=True, error_model="numpy")
def _step(value: float, low: float, high: float) -> float:
    t = min(1.0, max(0.0, (value - low) / (high - low)))
    return t * t * (3.0 - 2.0 * t)


@njit(nogil=True, cache=True, error_model="numpy")
def _glow(u: float, v: float, perm: NDArray[np.int64], finest: float, out: NDArray[np.float64]) -> None:
    """Write Ha, OIII, continuum (blue), optical depth of the dust at one point."""
    # Two domain warps (a broad and a fine one) bend every feature into the next.
    wu = u + 0.22 * cloud(u, v, perm[0], 0.9, finest, 0.5)
    wv = v + 0.22 * cloud(u + 4.7, v - 2.1, perm[0], 0.9, finest, 0.5)
    fu = wu + 0.06 * cloud(wu, wv, perm[1], 0.22, finest, 0.55)
    fv = wv + 0.06 * cloud(wu - 3.3, wv + 8.4, perm[1], 0.22, finest, 0.55)

    du, dv = wu - CLUSTER[0], wv - CLUSTER[1]
    radius = np.sqrt((du * 1.25) ** 2 + dv * dv)
    density = 0.55 * (radius - 0.40) + 0.62 * cloud(fu, fv, perm[2], 0.55, finest, 0.52)
    light = 1.0 / (0.10 + radius * radius * 2.6)
    ionised = 1.0 - _step(density, -0.03, 0.09)
    rim = np.exp(-((density - 0.01) / 0.035) ** 2) + 0.45 * np.exp(-((density + 0.07) / 0.08) ** 2)
    threads = ridges(fu, fv, perm[3], 0.34, finest, 0.6)
    fine = ridges(fu + 9.0, fv - 4.0, perm[4], 0.13, finest, 0.62)
    mist = np.exp(-((radius / 0.55) ** 2))

    body = ionised * mist * (0.20 + 0.95 * threads + 0.45 * fine)
    front = rim * np.exp(-((radius / 0.72) ** 2)) * (0.30 + 0.9 * fine)
    haze = 0.05 * np.exp(-((radius / 1.1) ** 2)) * (1.0 + 1.2 * cloud(wu, wv, perm[5], 0.8, finest, 0.55))
    wisps = 0.16 * np.exp(-((radius / 1.0) ** 2)) * threads * threads * (1.0 - 0.6 * ionised)
    out[0] = max(0.0, 0.20 * light * body + 0.24 * light * front + haze + wisps)
    inner = np.exp(-((radius / 0.30) ** 2))
    out[1] = max(0.0, light * ionised * inner * (0.075 + 0.20 * threads + 0.10 * fine))

    ru, rv = fu - REFLECTION[0], fv - REFLECTION[1]
    near = np.sqrt(ru * ru + (rv * 0.9) ** 2)
    veil = 0.35 + 0.75 * cloud(fu, fv, perm[6], 0.16, finest, 0.55) + 0.55 * fine
    out[2] = max(0.0, 0.62 * np.exp(-near / 0.105) * max(0.0, veil) + 0.09 * np.exp(-((near / 0.30) ** 2)) * veil)

    lanes = ridges(wu + 2.0, wv + 6.0, perm[7], 0.62, finest, 0.5)
    lane = _step(lanes, 0.42, 0.78) * np.exp(-((radius / 0.75) ** 2))
    out[3] = 1.9 * lane + 1.5 * _step(density, 0.06, 0.30) * np.exp(-((radius / 0.95) ** 2))


@njit(nogil=True, cache=True, error_model="numpy")
def _paint(
    first: int, last: int, x0: float, y0: float, pitch: float, finest: float,
    perm: NDArray[np.int64], out: NDArray[np.float32],
) -> None:
    glow = np.zeros(4)
    for row in range(first, last):
        for column in range(out.shape[2]):
            _glow(x0 + pitch * column, y0 + pitch * row, perm, finest, glow)
            for part in range(4):
                out[part, row, column] = glow[part]


def paint_nebula(
    rng: np.random.Generator,
    size: tuple[int, int],
    origin: tuple[float, float],
    pitch: float,
    unit: float,
    workers: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Paint the nebula on a regular grid.

    Parameters
    ----------
    rng : numpy.random.Generator
        Chooses the turbulence; the composition stays.
    size : (rows, columns)
        Size of the grid.
    origin : (x, y)
        Place of grid point (0, 0), px from the centre of the picture.
    pitch : float
        Distance of grid points, px.
    unit : float
        Half the height of the picture, px.
    workers : int
        Threads; the result does not depend on it.

    Returns
    -------
    light : ndarray of float32, shape (3, rows, columns)
        Camera R, G, B in ADU of a 10 s exposure.
    depth : ndarray of float32, shape (rows, columns)
        Optical depth of the dust in green.
    """
    perm = np.stack([permutation(rng) for _ in range(FIELDS)])
    parts = np.zeros((4, *size), np.float32)
    x0, y0, step, finest = origin[0] / unit, origin[1] / unit, pitch / unit, FINEST_PX / unit
    starts = range(0, size[0], ROWS_A_JOB)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_paint, first, min(first + ROWS_A_JOB, size[0]), x0, y0, step, finest, perm, parts)
            for first in starts
        ]
        for job in jobs:
            job.result()
    ha, oiii, blue, depth = parts
    # Camera R, G, B of a unit of each light: Ha lies in red alone, OIII between green and blue.
    mix = np.array([[0.95, 0.10, 0.30], [0.13, 0.72, 0.42], [0.25, 0.62, 0.62]], np.float32)
    light = np.einsum("cp,phw->chw", mix, np.stack([ha, oiii, blue])) * np.float32(EMISSION_ADU)
    reddening = np.array([0.86, 1.0, 1.16], np.float32)[:, None, None]
    return np.asarray(light * np.exp(-reddening * depth), dtype=np.float32), depth


def companion_stars(centre: NDArray[np.float64], unit: float) -> NDArray[np.void]:
    """Return the hot stars that light the nebula: a small cluster and the star of the reflection part.

    Parameters
    ----------
    centre : ndarray of float64, shape (2,)
        Of the picture, reference pixels.
    unit : float
        Half the height of the picture, px.

    Returns
    -------
    structured ndarray of `STAR`
    """
    from astrobench.simulate.stars import STAR, colour, temperature

    rng = np.random.default_rng(20)  # one arrangement for every seed: it belongs to the composition
    count = 26
    places = np.asarray(CLUSTER) + rng.standard_normal((count, 2)) * np.array([0.05, 0.06])
    green = 2.2e4 * (np.arange(count) + 1.0) ** -0.9 * 14.0
    b_v = rng.normal(-0.12, 0.08, count)
    places[0], green[0], b_v[0] = CLUSTER, 9.0e5, -0.2
    places[1], green[1], b_v[1] = REFLECTION, 1.5e6, -0.1
    stars = np.zeros(count, STAR)
    stars["x"], stars["y"] = (centre + unit * places).T
    rgb = green[:, None] * colour(temperature(np.clip(b_v, -0.3, 0.4)))
    stars["flux_r"], stars["flux_g"], stars["flux_b"] = rgb.T
    return stars
