"""What the sensor does: its defects, its noise, its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRBG = np.array([[1, 0], [2, 1]], np.int64)  # colour (0 R, 1 G, 2 B) at row % 2, column % 2
GAIN = 0.14  # e-/ADU: noise 85 ADU at a sky of 1000, as measured on M 94 subs of a Seestar S50
READ_NOISE = 11.0  # ADU, 1.5 e-
DARK_NOISE = 66.0  # ADU; of newer software: together with a sky of 110 it clips 6 % of the pixels
PATTERN = 10.0  # ADU, pixel-to-pixel offsets that a dark leaves
COLUMN_PATTERN = 1.5  # ADU, offsets of whole columns
STEP = 3.2  # ADU between two levels of older software
SATURATION = 65520.0  # ADU; real subs end between 65498 and 65526
FEW_ELECTRONS = 30.0  # below this Poisson noise is drawn exactly, above as a Gaussian of the same variance
HOT_PER_MEGAPIXEL = 20.0
DEAD_PER_MEGAPIXEL = 2.0  # real subs hold 1 to 8 pixels of 0
HOT = np.dtype([("y", "u2"), ("x", "u2"), ("adu", "f4")])


@dataclass(frozen=True, eq=False)
class Camera:
    """One sensor, the same for every night of a seed.

    Attributes
    ----------
    gain : float
        e-/ADU.
    read_noise : float
        ADU; everything that does not come from photons.
    step : float
        ADU between two levels.
    vignetting : float
        Share of the light lost in the corners.
    hot : structured ndarray
        y, x, adu above the others in 10 s.
    dead : ndarray of int64, shape (n, 2)
        y, x of pixels that read 0.
    pattern : ndarray of float32, shape (H, W), or None
        Fixed offsets, ADU.
    noisy : bool
        False: no photon noise, no read noise.
    """

    gain: float
    read_noise: float
    step: float
    vignetting: float
    hot: NDArray[np.void]
    dead: NDArray[np.int64]
    pattern: NDArray[np.float32] | None
    noisy: bool


def make_camera(
    seed: int, shape: tuple[int, int], *, firmware: str, faults: bool, noise: bool, vignetting: float
) -> Camera:
    """Build the sensor of one seed.

    Parameters
    ----------
    seed : int
    shape : (H, W)
    firmware : str
        Before 4.70 levels 3.2 ADU apart and little noise beside the photons'; since then 1 ADU and a noisy
        dark taken off.
    faults : bool
        With hot and dead pixels.
    noise : bool
        With photon and read noise and a fixed pattern.
    vignetting : float
        Share of the light lost in the corners.

    Returns
    -------
    Camera
    """
    rng = np.random.default_rng([seed, 4])
    megapixels = shape[0] * shape[1] / 1e6
    hot = np.zeros(max(2, round(HOT_PER_MEGAPIXEL * megapixels)) if faults else 0, HOT)
    dead = np.zeros((max(1, round(DEAD_PER_MEGAPIXEL * megapixels)) if faults else 0, 2), np.int64)
    places = rng.choice(shape[0] * shape[1], len(hot) + len(dead), replace=False)
    hot["y"], hot["x"] = np.divmod(places[: len(hot)], shape[1])
    hot["adu"] = 10.0 ** rng.uniform(2.8, 4.4, len(hot))
    dead[:, 0], dead[:, 1] = np.divmod(places[len(hot) :], shape[1])
    pattern = None
    if noise:
        pattern = PATTERN * rng.standard_normal(shape, dtype=np.float32)
        pattern += COLUMN_PATTERN * rng.standard_normal(shape[1], dtype=np.float32)
    older = firmware < "4.70"
    read_noise = READ_NOISE if older else DARK_NOISE
    return Camera(
        gain=GAIN,
        read_noise=read_noise if noise else 0.0,
        step=STEP if older and noise else 1.0,
        vignetting=vignetting,
        hot=hot,
        dead=dead,
        pattern=pattern,
        noisy=noise,
    )


def add_defects(camera: Camera, light: NDArray[np.float32]) -> None:
    """Add hot pixels and the fixed pattern to the light of a frame, in place."""
    if camera.pattern is not None:
        light += camera.pattern
    light[camera.hot["y"], camera.hot["x"]] += camera.hot["adu"]


def add_noise(camera: Camera, light: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Add photon and read noise in place: variance = light / gain + read noise squared [ADU^2].

    Parameters
    ----------
    camera : Camera
    light : ndarray of float32, shape (H, W)
        Expected ADU; negative values count as dark.
    rng : numpy.random.Generator
    """
    if not camera.noisy:
        return
    gain, floor = np.float32(camera.gain), np.float32(camera.read_noise**2)
    few = light < np.float32(FEW_ELECTRONS / camera.gain)
    expected = np.maximum(light[few], 0.0) * gain
    variance = np.maximum(light, 0) / gain
    variance[few] = 0.0
    variance += floor
    np.sqrt(variance, out=variance)
    light += variance * rng.standard_normal(light.shape, dtype=np.float32)
    if expected.size:
        light[few] += (rng.poisson(expected) - expected) / gain


def digitise(camera: Camera, light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Turn ADU into the numbers of the file: levels, clipping at 0 and at saturation, dead pixels."""
    if camera.step != 1.0:
        light /= np.float32(camera.step)
        np.rint(light, out=light)
        light *= np.float32(camera.step)
    np.clip(light, 0.0, SATURATION, out=light)
    np.rint(light, out=light)
    numbers = light.astype(np.uint16)
    numbers[camera.dead[:, 0], camera.dead[:, 1]] = 0
    return numbers
