"""What the telescope makes of the sky: Moffat stars and the nebula on the pixels of one frame."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MOFFAT_BETA = 3.5  # wings of a refractor under ordinary seeing (Trujillo et al. 2001, MNRAS 328, 977)
FAINTEST_WING = 0.01  # ADU at which the wings of a star end


@njit(nogil=True, cache=True, error_model="numpy")
def draw_stars(
    image: NDArray[np.float32],
    planes: NDArray[np.int64],
    places: NDArray[np.float64],
    flux: NDArray[np.float64],
    fwhm: float,
    ratio: float,
    angle: float,
) -> None:
    """Add Moffat stars to an image; the PSF is that of the pixel, sampled at its centre.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
        Added to, ADU.
    planes : ndarray of int64, shape (2, 2)
        Colour (0 R, 1 G, 2 B) at row % 2, column % 2.
    places : ndarray of float64, shape (n, 2)
        x, y of the stars in pixels of this image.
    flux : ndarray of float64, shape (n, 3)
        Total flux in each colour, ADU.
    fwhm : float
        Geometric mean of both axes, px.
    ratio, angle : float
        Minor over major axis; direction of the major axis [rad] from x towards y.
    """
    height, width = image.shape
    beta = MOFFAT_BETA
    alpha = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / beta) - 1.0))
    along, across = np.sqrt(ratio) / alpha, 1.0 / (np.sqrt(ratio) * alpha)
    cosine, sine = np.cos(angle), np.sin(angle)
    for star in range(places.shape[0]):
        x, y = places[star, 0], places[star, 1]
        strongest = max(flux[star, 0], flux[star, 1], flux[star, 2])
        peak = strongest * (beta - 1.0) / (np.pi * alpha * alpha)
        if peak <= FAINTEST_WING:
            continue
        reach = np.sqrt(((peak / FAINTEST_WING) ** (1.0 / beta) - 1.0) / ratio) * alpha + 1.0
        y_first, y_last = max(0, int(np.ceil(y - reach))), min(height - 1, int(np.floor(y + reach)))
        x_first, x_last = max(0, int(np.ceil(x - reach))), min(width - 1, int(np.floor(x + reach)))
        scale = (beta - 1.0) / (np.pi * alpha * alpha)
        for row in range(y_first, y_last + 1):
            dy = row - y
            for column in range(x_first, x_last + 1):
                dx = column - x
                a = (cosine * dx + sine * dy) * along
                b = (cosine * dy - sine * dx) * across
                v = 1.0 + a * a + b * b
                plane = planes[row & 1, column & 1]
                image[row, column] += flux[star, plane] * scale / (v * v * v * np.sqrt(v))


@njit(nogil=True, cache=True, error_model="numpy")
def add_nebula(
    image: NDArray[np.float32],
    planes: NDArray[np.int64],
    coefficients: NDArray[np.float32],
    grid: NDArray[np.float64],
    transform: NDArray[np.float64],
) -> None:
    """Add the nebula to an image: a cubic B-spline surface, seen through a transform.

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
        Added to, ADU.
    planes : ndarray of int64, shape (2, 2)
        Colour at row % 2, column % 2.
    coefficients : ndarray of float32, shape (3, rows, columns)
        B-spline coefficients; zero beyond their border.
    grid : ndarray of float64, shape (3,)
        x and y of coefficient (0, 0) in reference pixels, and the pitch.
    transform : ndarray of float64, shape (3, 3)
        Image pixel to reference pixel, affine.
    """
    height, width = image.shape
    rows, columns = coefficients.shape[1], coefficients.shape[2]
    wx, wy = np.empty(4), np.empty(4)
    for row in range(height):
        for column in range(width):
            x = transform[0, 0] * column + transform[0, 1] * row + transform[0, 2]
            y = transform[1, 0] * column + transform[1, 1] * row + transform[1, 2]
            gx, gy = (x - grid[0]) / grid[2], (y - grid[1]) / grid[2]
            left, top = int(np.floor(gx)), int(np.floor(gy))
            if left < 1 or top < 1 or left + 2 >= columns or top + 2 >= rows:
                continue
            _weights(gx - left, wx)
            _weights(gy - top, wy)
            plane = planes[row & 1, column & 1]
            value = 0.0
            for j in range(4):
                line = 0.0
                for i in range(4):
                    line += wx[i] * coefficients[plane, top - 1 + j, left - 1 + i]
                value += wy[j] * line
            image[row, column] += value


@njit(nogil=True, cache=True, error_model="numpy")
def _weights(t: float, out: NDArray[np.float64]) -> None:
    s = 1.0 - t
    out[0] = s * s * s / 6.0
    out[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    out[2] = (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0
    out[3] = t * t * t / 6.0


@njit(nogil=True, cache=True, error_model="numpy")
def add_sky(
    image: NDArray[np.float32],
    planes: NDArray[np.int64],
    transparency: float,
    sky: NDArray[np.float64],
    vignetting: float,
) -> None:
    """Turn the light of the objects into that of the frame: flat * (transparency * objects + sky).

    Parameters
    ----------
    image : ndarray of float32, shape (H, W)
        Objects in ADU, changed in place.
    planes : ndarray of int64, shape (2, 2)
        Colour at row % 2, column % 2.
    transparency : float
        1 = clear.
    sky : ndarray of float64, shape (3, 6)
        ADU; terms 1, x, y, xx, yy, xy of x, y in -1..1 over the frame.
    vignetting : float
        Share of the light lost in the corners, growing as the square of the distance from the centre.
    """
    height, width = image.shape
    cx, cy = (width - 1) / 2.0, (height - 1) / 2.0
    corner = cx * cx + cy * cy
    for row in range(height):
        y = (row - cy) / cy
        for column in range(width):
            x = (column - cx) / cx
            c = sky[planes[row & 1, column & 1]]
            level = c[0] + c[1] * x + c[2] * y + c[3] * x * x + c[4] * y * y + c[5] * x * y
            radius = ((column - cx) ** 2 + (row - cy) ** 2) / corner
            image[row, column] = (1.0 - vignetting * radius) * (transparency * image[row, column] + level)
