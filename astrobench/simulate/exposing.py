"""One exposure: from the scene above to the numbers of the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from astrobench.simulate.camera import GRBG, Camera, add_defects, add_noise, digitise
from astrobench.simulate.optics import add_sky
from astrobench.simulate.outliers import COSMIC
from astrobench.simulate.scene import Scene, render

if TYPE_CHECKING:
    from astrobench.simulate.truth import Night


def collect_light(truth: Night, scene: Scene, k: int) -> NDArray[np.float32]:
    """Collect the light of frame k: flat * (transparency * scene + sky), through the Bayer pattern.

    Parameters
    ----------
    truth : Night
    scene : Scene
    k : int

    Returns
    -------
    ndarray of float32, shape (H, W)
        Expected ADU without noise, defects and outliers.
    """
    image = render(
        scene,
        truth.shape,
        truth.transforms[k],
        float(truth.fwhm[k]),
        GRBG,
        exposure=truth.exposure,
        ratio=float(truth.ratio[k]),
        angle=float(truth.angle[k]),
        smear=(float(truth.smear[k, 0]), float(truth.smear[k, 1])),
    )
    add_sky(image, GRBG, float(truth.transparency[k]), truth.sky[k], truth.vignetting)
    return image


def expose(truth: Night, scene: Scene, camera: Camera, k: int) -> NDArray[np.uint16]:
    """Take frame k.

    Parameters
    ----------
    truth : Night
    scene : Scene
    camera : Camera
    k : int

    Returns
    -------
    ndarray of uint16, shape (H, W)
    """
    light = collect_light(truth, scene, k)
    add_defects(camera, light)
    planted = truth.planted[truth.planted["frame"] == k]
    cosmic = planted["kind"] == COSMIC
    trail = planted[~cosmic]
    np.add.at(light, (trail["y"], trail["x"]), trail["adu"])
    # A generator a frame: no number depends on the thread that draws it.
    add_noise(camera, light, np.random.default_rng([truth.seed, truth.night, 20, k]))
    # The charge of a cosmic ray is what it is: no photon noise of its own.
    hit = planted[cosmic]
    np.add.at(light, (hit["y"], hit["x"]), hit["adu"])
    return digitise(camera, light)
