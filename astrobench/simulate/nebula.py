"""The designed nebula: a cavity blown by a young cluster, bright rims, dust lanes, a blue reflection part.

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
def _bend(u: float, v: float, perm: NDArray[np.int64], finest: float) -> tuple[float, float]:
    """Warp the plane twice, broadly and finely, so that every feature flows into the next."""
    wu = u + 0.22 * cloud(u, v, perm[0], 0.9, finest, 0.5)
    wv = v + 0.22 * cloud(u + 4.7, v - 2.1, perm[0], 0.9, finest, 0.5)
    fu = wu + 0.07 * cloud(wu, wv, perm[1], 0.22, finest, 0.55)
    fv = wv + 0.07 * cloud(wu - 3.3, wv + 8.4, perm[1], 0.22, finest, 0.55)
    return fu, fv


@njit(nogil=True, cache=True, error_model="numpy")
def _glow(
    u: float,
    v: float,
    perm: NDArray[np.int64],
    finest: float,
    centres: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write Ha, OIII, scattered starlight and the optical depth of the dust at one point."""
    fu, fv = _bend(u, v, perm, finest)
    du, dv = fu - centres[0, 0], fv - centres[0, 1]
    radius = np.sqrt((du * 1.25) ** 2 + dv * dv)
    threads = ridges(fu, fv, perm[3], 0.30, finest, 0.68)
    fine = ridges(fu + 9.0, fv - 4.0, perm[4], 0.11, finest, 0.70)
    density = 0.55 * (radius - 0.38) + 0.66 * cloud(fu, fv, perm[2], 0.55, finest, 0.56) - 0.05 * fine
    light = 1.0 / (0.12 + radius * radius * 2.6)
    ionised = 1.0 - _step(density, -0.02, 0.06)
    rim = np.exp(-(((density - 0.01) / 0.028) ** 2)) + 0.30 * np.exp(-(((density + 0.06) / 0.07) ** 2))
    mist = np.exp(-((radius / 0.50) ** 2))
    outskirts = np.exp(-((radius / 0.62) ** 2))

    body = ionised * mist * (0.05 + 1.15 * threads * threads + 0.75 * fine * fine)
    front = rim * outskirts * (0.16 + 1.1 * fine)
    wisps = outskirts * (0.5 * threads**3 + 0.12 * fine * fine) * (1.0 - 0.5 * ionised)
    haze = 0.05 * outskirts * (1.0 + 1.2 * cloud(fu, fv, perm[5], 0.8, finest, 0.55))
    # Near the stars oxygen takes over from hydrogen.
    inner = np.exp(-((radius / 0.24) ** 2))
    out[0] = max(0.0, 0.19 * light * body * (1.0 - 0.62 * inner) + 0.15 * light * front + 0.24 * wisps + haze)
    out[1] = max(0.0, light * ionised * inner * (0.035 + 0.26 * threads * threads + 0.19 * fine * fine))

    ru, rv = fu - centres[1, 0], fv - centres[1, 1]
    near = np.sqrt(ru * ru + rv * rv)
    veil = max(0.0, 0.30 + 0.9 * cloud(fu, fv, perm[6], 0.15, finest, 0.6) + 0.6 * fine)
    out[2] = 0.95 * np.exp(-near / 0.055) * (0.3 + veil) + 0.26 * np.exp(-near / 0.13) * veil

    lanes = ridges(fu + 2.0, fv + 6.0, perm[7], 0.55, finest, 0.62)
    lane = _step(lanes, 0.50, 0.80) * np.exp(-((radius / 0.60) ** 2))
    out[3] = 2.0 * lane + 1.3 * _step(density, 0.05, 0.28) * outskirts


@njit(nogil=True, cache=True, error_model="numpy")
def _paint(
    first: int,
    last: int,
    corner: NDArray[np.float64],
    perm: NDArray[np.int64],
    centres: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Paint some rows; corner = u and v of grid point (0, 0), pitch and finest cell."""
    glow = np.zeros(4)
    middle = (out.shape[2] - 1) / 2.0
    for row in range(first, last):
        # No frame, however turned, sees beyond the circle.
        half = np.sqrt(max(0.0, (middle + 1.0) ** 2 - (row - middle) ** 2))
        for column in range(max(0, int(middle - half)), min(out.shape[2], int(middle + half) + 2)):
            _glow(corner[0] + corner[2] * column, corner[1] + corner[2] * row, perm, corner[3], centres, glow)
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
    corner = np.array([origin[0], origin[1], pitch, FINEST_PX]) / unit
    # The stars stay where they are; the glow has to find them through the warp.
    centres = np.array([_bend(u, v, perm, corner[3]) for u, v in (CLUSTER, REFLECTION)])
    starts = range(0, size[0], ROWS_A_JOB)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [
            pool.submit(_paint, first, min(first + ROWS_A_JOB, size[0]), corner, perm, centres, parts)
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
