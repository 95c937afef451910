"""Find bright compact sources on a clean plane, quickly: the lights that tell how bright each frame is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA

F32 = NDArray[np.float32]
Places = NDArray[np.intp]

TILE = 64  # px over which the sky counts as flat
THRESHOLD = 10.0  # sigma of the 3 x 3 mean
APART = 9  # px; of two sources nearer than this the brighter one counts
MOST_CANDIDATES = 2000
APERTURE_FWHM = 1.5  # radius: a Gaussian that widens by 15 % loses less than 1 % of its light
SMALLEST_APERTURE, LARGEST_APERTURE = 4.0, 9.0  # px
RING = (2.0, 5.0)  # px beyond the aperture


def bright_places(plane: F32, limit: float) -> tuple[Places, NDArray[np.float64]]:
    """Find isolated compact maxima.

    Parameters
    ----------
    plane : (H, W) float32
        A mean without cosmic rays; NaN: no data.
    limit : float
        Sources with a pixel at or above this are left out (saturated).

    Returns
    -------
    places : (n, 2) int
        Row and column, brightest first.
    height : (n,) float64
        3 x 3 mean above the sky in units of its noise.
    """
    height, width = (size // TILE * TILE for size in plane.shape)
    if height == 0 or width == 0:
        return np.empty((0, 2), np.intp), np.empty(0)
    smooth = _box3(plane)
    tiles = smooth[:height, :width].reshape(height // TILE, TILE, width // TILE, TILE)
    sky, plane_x, plane_y, noise = _tile_skies(tiles)
    good = np.isfinite(sky) & (noise > 0)
    if not good.any():
        return np.empty((0, 2), np.intp), np.empty(0)
    floor = np.float32(np.median(noise[good]))
    noise = np.maximum(np.where(good, noise, floor), floor)
    level = np.where(good, sky + np.float32(THRESHOLD) * noise, np.float32(np.inf))
    along = np.arange(TILE, dtype=np.float32) - np.float32((TILE - 1) / 2)
    tilt = plane_x[..., None] * along  # (tile rows, tile columns, TILE)
    rise = plane_y[..., None] * along
    above = tiles > level[:, None, :, None] + rise.transpose(0, 2, 1)[..., None] + tilt[:, None]
    y, x = np.nonzero(above.reshape(height, width))
    inside = (y >= 2) & (x >= 2) & (y < plane.shape[0] - 2) & (x < plane.shape[1] - 2)
    y, x = y[inside], x[inside]
    value = smooth[y, x]
    peak = np.ones(value.size, bool)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            if (dy, dx) != (0, 0):
                other = smooth[y + dy, x + dx]
                # of two equal neighbours the first in reading order is the maximum
                peak &= (value > other) | ((value == other) & ((dy, dx) > (0, 0)))
    y, x, value = y[peak], x[peak], value[peak]
    centre = plane[y, x]
    tile = (y // TILE, x // TILE)
    local = sky[tile] + plane_x[tile] * along[x % TILE] + plane_y[tile] * along[y % TILE]
    compact = (value - local) > 0.2 * (centre - local)  # a single hot pixel would have 1/9
    keep = compact & (centre < limit)
    y, x, bright = y[keep], x[keep], ((value - local) / noise[tile])[keep].astype(np.float64)
    order = np.lexsort((x, y, -bright))[:MOST_CANDIDATES]
    y, x, bright = y[order], x[order], bright[order]
    alone = _alone(y, x)
    return np.stack([y[alone], x[alone]], axis=1), bright[alone]


def _tile_skies(tiles: F32) -> tuple[F32, F32, F32, F32]:
    """Level at the centre, slope along x and y [ADU/px] and noise of each tile, from every fourth pixel."""
    some = tiles[:, 2::4, :, 2::4].transpose(0, 2, 1, 3)
    some = np.where(np.isfinite(some), some, np.float32(np.inf))
    half = some.shape[-1] // 2
    slopes = []
    with np.errstate(invalid="ignore"):
        for axis in (3, 2):
            profile = np.median(some, axis=5 - axis)  # over the other direction
            ends = np.median(profile[..., half:], axis=2) - np.median(profile[..., :half], axis=2)
            slopes.append(
                np.nan_to_num(ends / np.float32(TILE / 2), posinf=0.0, neginf=0.0).astype(np.float32)
            )
        along = (np.arange(2 * half, dtype=np.float32) * 4 + 2) - np.float32((TILE - 1) / 2)
        flat = some - slopes[0][..., None, None] * along - slopes[1][..., None, None] * along[:, None]
        flat = flat.reshape(*flat.shape[:2], -1)
        sky = np.median(flat, axis=2)
        noise = MAD_TO_SIGMA * np.median(np.abs(flat - sky[..., None]), axis=2)
    return sky, slopes[0], slopes[1], noise.astype(np.float32)


def _box3(plane: F32) -> F32:
    """3 x 3 mean; the outermost pixels keep their own value."""
    across = plane.copy()
    across[:, 1:-1] += plane[:, :-2]
    across[:, 1:-1] += plane[:, 2:]
    across[:, 1:-1] *= np.float32(1 / 3)
    out = across.copy()
    out[1:-1] += across[:-2]
    out[1:-1] += across[2:]
    out[1:-1] *= np.float32(1 / 3)
    return out


def _alone(y: Places, x: Places) -> NDArray[np.bool_]:
    """Whether no brighter source is near; sorted brightest first."""
    keep = np.ones(y.size, bool)
    for i in range(1, y.size):
        near = (np.abs(y[:i] - y[i]) < APART) & (np.abs(x[:i] - x[i]) < APART)
        keep[i] = not near.any()
    return keep


def stamps_at(plane: F32, places: Places, half: int) -> F32:
    """Cut a square of 2 half + 1 pixels around each place, (n, E, E); places lie that far inside."""
    offsets = np.arange(-half, half + 1)
    rows = places[:, 0, None, None] + offsets[None, :, None]
    columns = places[:, 1, None, None] + offsets[None, None, :]
    return np.asarray(plane[rows, columns])


def typical_fwhm(stamps: F32) -> float:
    """Median full width at half maximum [px] from the area above half of the peak."""
    if len(stamps) == 0:
        return float("nan")
    sky = np.nanmedian(stamps.reshape(len(stamps), -1), axis=1)
    middle = stamps.shape[1] // 2
    peak = stamps[:, middle, middle] - sky
    area = ((stamps - sky[:, None, None]) > 0.5 * peak[:, None, None]).sum(axis=(1, 2))
    return float(np.median(2 * np.sqrt(area / np.pi)))


def aperture_and_ring(fwhm: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of one stamp: where the light is summed, and where its sky is taken."""
    radius = min(max(APERTURE_FWHM * fwhm, SMALLEST_APERTURE), LARGEST_APERTURE)
    half = int(np.ceil(radius + RING[1]))
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(x, y)
    return distance <= radius, (distance > radius + RING[0]) & (distance <= radius + RING[1])
