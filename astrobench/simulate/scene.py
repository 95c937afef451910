"""The sky above the simulated night: stars and nebula on the reference grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PITCH = 2.0  # px between nebula coefficients: the B-spline's own blur is then 2.7 px, less than the seeing
MARGIN = 100.0  # px of sky beyond the circle that a turning frame sweeps
STARS_PER_MEGAPIXEL = 1200.0


@dataclass(frozen=True, eq=False)
class Scene:
    """Stars and nebula, before atmosphere and camera.

    Attributes
    ----------
    stars : structured ndarray
        x, y in reference pixels and flux_r, flux_g, flux_b in ADU of a 10 s exposure, brightest first.
    nebula : ndarray of float32, shape (3, rows, columns)
        Cubic B-spline coefficients, ADU of a 10 s exposure.
    grid : ndarray of float64, shape (3,)
        x and y of coefficient (0, 0) in reference pixels, and the pitch.
    """

    stars: NDArray[np.void]
    nebula: NDArray[np.float32]
    grid: NDArray[np.float64]

    @property
    def places(self) -> NDArray[np.float64]:
        """Star positions (n, 2), reference pixels."""
        return np.column_stack([self.stars["x"], self.stars["y"]])

    @property
    def flux(self) -> NDArray[np.float64]:
        """Star fluxes (n, 3), ADU in 10 s."""
        return np.column_stack([self.stars["flux_r"], self.stars["flux_g"], self.stars["flux_b"]])


def make_scene(
    seed: int, shape: tuple[int, int], stars: int | None = None, nebula: bool = True, workers: int = 2
) -> Scene:
    """Make the sky of one seed.

    Parameters
    ----------
    seed : int
    shape : (H, W)
        Of the frames; the sky is made for a circle around them.
    stars : int, optional
        Number within the frame; by default 1200 a megapixel.
    nebula : bool, default True
        False leaves nebula, galaxies and dust out.
    workers : int, default 2
        Threads.

    Returns
    -------
    Scene
    """
    from astrobench.simulate.galaxies import paint_galaxies
    from astrobench.simulate.nebula import companion_stars, paint_nebula
    from astrobench.simulate.stars import dim_by_dust, draw_stars

    height, width = shape
    centre = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    reach = float(np.hypot(height, width)) / 2.0 + MARGIN
    if stars is None:
        stars = round(STARS_PER_MEGAPIXEL * height * width / 1e6)
    box = (centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
    catalogue = draw_stars(np.random.default_rng([seed, 1]), stars / (height * width), box)

    side = int(np.ceil(2.0 * reach / PITCH)) + 4
    grid = np.array([box[0] - PITCH, box[1] - PITCH, PITCH])
    if not nebula:
        return Scene(catalogue, np.zeros((3, 4, 4), np.float32), grid)
    unit = max(height, width) / 2.0
    origin = (grid[0] - centre[0], grid[1] - centre[1])
    light, depth = paint_nebula(
        np.random.default_rng([seed, 109]), (side, side), origin, PITCH, unit, workers
    )
    light += paint_galaxies((side, side), origin, PITCH, unit) * np.exp(-0.5 * depth)
    column = np.rint((catalogue["x"] - grid[0]) / PITCH).astype(np.int64)
    row = np.rint((catalogue["y"] - grid[1]) / PITCH).astype(np.int64)
    dust = depth[np.clip(row, 0, side - 1), np.clip(column, 0, side - 1)].astype(np.float64)
    dimmed = dim_by_dust(catalogue, dust, np.random.default_rng([seed, 3]))
    catalogue = np.concatenate([companion_stars(centre, unit), dimmed]) if stars else dimmed
    return Scene(catalogue[np.argsort(-catalogue["flux_g"], kind="stable")], light, grid)


def render(
    scene: Scene,
    shape: tuple[int, int],
    transform: NDArray[np.float64],
    fwhm: float,
    planes: NDArray[np.int64],
    *,
    exposure: float = 10.0,
    ratio: float = 1.0,
    angle: float = 0.0,
    smear: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Render the sky on the pixels of one frame: no atmosphere but its blur, no sky, no noise.

    Parameters
    ----------
    scene : Scene
    shape : (H, W)
    transform : ndarray of float64, shape (3, 3)
        Frame pixel to reference pixel.
    fwhm : float
        Of the stars, px. The nebula is smooth at this scale and is not blurred again.
    planes : ndarray of int64, shape (2, 2)
        Colour (0, 1, 2) at row % 2, column % 2.
    exposure : float, default 10
        Seconds.
    ratio, angle : float
        Of the star ellipses: minor over major axis, direction of the major axis [rad].
    smear : (dx, dy), default (0, 0)
        Way of the stars over the frame during the exposure, px, centred on the true place.

    Returns
    -------
    ndarray of float32, shape (H, W)
        ADU.
    """
    from astrobench.simulate.optics import add_nebula, draw_stars

    image = np.zeros(shape, np.float32)
    add_nebula(image, planes, scene.nebula, scene.grid, transform)
    inverse = np.linalg.inv(transform)
    places = scene.places @ inverse[:2, :2].T + inverse[:2, 2]
    steps = max(1, int(np.ceil(2.0 * np.hypot(*smear))))  # half a pixel each: no beads
    for step in range(steps):
        offset = ((step + 0.5) / steps - 0.5) * np.asarray(smear)
        draw_stars(image, planes, places + offset, scene.flux / steps, fwhm, ratio, angle)
    image *= np.float32(exposure / 10.0)
    return image
