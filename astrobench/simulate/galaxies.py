"""Two small background galaxies: a spiral seen at a slant and one seen edge-on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.simulate.stars import RESPONSE

# Place in half heights of the picture, scale length there too, axis ratio, direction [rad], peak [ADU].
SPIRAL = (-0.36, 0.74, 0.0115, 0.62, 0.6, 420.0)
EDGE_ON = (0.41, 0.52, 0.0085, 0.16, -0.9, 300.0)
ARM_PITCH = np.deg2rad(19.0)  # a grand-design spiral
BULGE_RGB = np.array([1.12, 0.98, 0.74])
DISC_RGB = np.array([0.90, 0.98, 1.14])


def paint_galaxies(
    size: tuple[int, int], origin: tuple[float, float], pitch: float, unit: float
) -> NDArray[np.float32]:
    """Paint the galaxies on the grid of the nebula.

    Parameters
    ----------
    size : (rows, columns)
    origin : (x, y)
        Place of grid point (0, 0), px from the centre of the picture.
    pitch, unit : float
        Distance of grid points and half the height of the picture, px.

    Returns
    -------
    ndarray of float32, shape (3, rows, columns)
        Camera R, G, B in ADU of a 10 s exposure.
    """
    light = np.zeros((3, *size), np.float32)
    for galaxy, arms in ((SPIRAL, True), (EDGE_ON, False)):
        u, v, scale, ratio, way, peak = galaxy
        reach = int(9.0 * scale * unit / pitch) + 2
        column, row = round((u * unit - origin[0]) / pitch), round((v * unit - origin[1]) / pitch)
        rows = slice(max(0, row - reach), min(size[0], row + reach))
        columns = slice(max(0, column - reach), min(size[1], column + reach))
        y, x = np.mgrid[rows, columns].astype(np.float64)
        dx, dy = origin[0] + pitch * x - u * unit, origin[1] + pitch * y - v * unit
        along = np.cos(way) * dx + np.sin(way) * dy
        across = (np.cos(way) * dy - np.sin(way) * dx) / ratio
        # Softened below two grid steps, which is as fine as the grid can hold.
        radius = np.hypot(np.hypot(along, across), 1.2 * pitch) / (scale * unit)
        disc = np.exp(-radius)
        if arms:
            swirl = np.arctan2(across, along) - np.log(radius) / np.tan(ARM_PITCH)
            disc *= 0.45 + 1.3 * (0.5 + 0.5 * np.cos(2.0 * swirl)) ** 2 * (1.0 - np.exp(-radius))
        bulge = 1.3 * np.exp(-2.2 * radius)
        for c in range(3):
            colour = disc * DISC_RGB[c] + bulge * BULGE_RGB[c]
            light[c, rows, columns] += peak * RESPONSE[c] * colour
    return light
