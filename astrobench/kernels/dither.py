"""Tell from the dither of a set whether each colour can come from its own pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from astrobench.kernels.cfa import Matrix, project

MOST_ALIASING = 0.8  # dither leaves this much of one frame's colour aliasing at most
FEWEST_FRAMES = 5


def aliasing(
    matrices: Sequence[Matrix], out_shape: tuple[int, int], weights: ArrayLike | None = None
) -> float:
    """Part of a single frame's colour aliasing that the dither of a set leaves.

    Parameters
    ----------
    matrices : sequence of (3, 3)
        Output -> mosaic.
    out_shape : (h, w)
    weights : (N,), optional
        Frame weights.

    Returns
    -------
    float
        1 for a single frame or without dither, about 1 / sqrt(N) for N random shifts, 0 for an ideal one: the
        median over the field of the largest |mean of exp(2 pi i f u)|, f the mosaic's frequencies (1/2, 0),
        (0, 1/2), (1/2, 1/2) per pixel.
    """
    x, y = np.meshgrid(np.linspace(0, out_shape[1] - 1, 5), np.linspace(0, out_shape[0] - 1, 5))
    weight = np.ones(len(matrices)) if weights is None else np.asarray(weights, np.float64)
    places = np.stack([np.stack(project(m, x.ravel(), y.ravel())) for m in matrices])
    left = []
    for f in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
        phase = np.exp(2j * np.pi * (f[0] * places[:, 0] + f[1] * places[:, 1]))
        left.append(np.abs((weight[:, None] * phase).sum(axis=0)) / weight.sum())
    return float(np.median(np.max(left, axis=0)))



def best_road(
    matrices: Sequence[Matrix], out_shape: tuple[int, int], weights: ArrayLike | None = None
) -> tuple[str, float]:
    """Choose between the colours' own pixels and debayering for a set of registered frames.

    Parameters
    ----------
    matrices, out_shape, weights
        As for `aliasing`.

    Returns
    -------
    road : 'cfa' or 'debayer'
        'cfa' from 5 frames whose dither leaves at most 0.8 of the aliasing; else 'debayer', bilinear for true
        colours or directional for sharpness.
    left : float
        The figure of `aliasing` it was decided by.
    """
    left = aliasing(matrices, out_shape, weights)
    return ("cfa" if len(matrices) >= FEWEST_FRAMES and left <= MOST_ALIASING else "debayer"), left
