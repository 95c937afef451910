"""Judge a frame by its pixels: whether there is a picture at all, and where a registered frame ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIDE = 7  # odd, so that a sample of a Bayer frame meets all four places
LEAST_FINITE = 0.05
MOST_SATURATED = 0.5
MOST_EQUAL = 0.95
LEAST_UNCOVERED = 0.001  # of the frame: a smaller dark rim is no trace of registration
BORDER_RUN = 8  # zeros in a row along the border; clipped pixels (15 %) make such a run in 0.1 % of frames
SOLID = 5  # side of the square of zeros that single clipped pixels do not make


def pixel_fault(array: NDArray[Any], saturation: float) -> str | None:
    """Return why these pixels cannot be a sub, or None.

    A sample is looked at first; only where it is suspicious does every pixel count.

    Parameters
    ----------
    array : (H, W) or (3, H, W), uint16 or float32
        Pixels as read.
    saturation : float
        Level [ADU] from which a pixel is saturated.
    """
    for part in (array[..., ::STRIDE, ::STRIDE], array):
        fault = _fault(part, saturation)
        if fault is None:
            return None
    return fault


def _fault(part: NDArray[Any], saturation: float) -> str | None:
    if part.dtype.kind == "f":
        finite = np.isfinite(part)
        share = float(finite.mean())
        if share < LEAST_FINITE:
            return f"only {share:.1%} of its pixels hold a number (the rest is NaN)"
        if share < 1.0:
            part = part[finite]
    saturated = float((part >= saturation).mean())
    if saturated > MOST_SATURATED:
        return f"overexposed: {saturated:.0%} of its pixels are saturated"
    middle = np.partition(part, part.size // 2, axis=None)[part.size // 2]
    equal = float((part == middle).mean())
    if equal > MOST_EQUAL:
        return f"holds no picture: {equal:.1%} of its pixels have the value {float(middle):g}"
    return None


def uncovered(array: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which pixels of an already registered frame are outside the sky it covers, or None.

    Programs that register frames fill what a frame does not reach with 0. A raw frame has zeros too,
    clipped values that are measurements; those are single pixels anywhere. Uncovered are solid areas of
    zeros that begin at the border; zeros inside stay values.

    Parameters
    ----------
    array : (H, W) or (3, H, W)

    Returns
    -------
    (H, W) bool or None
        None where less than 0.1 % of the frame is uncovered.
    """
    zeros = array == 0 if array.ndim == 2 else (array == 0).all(axis=0)
    if not any(_has_run(zeros[edge]) for edge in (0, -1, (slice(None), 0), (slice(None), -1))):
        return None
    from scipy import ndimage

    solid = ndimage.binary_erosion(zeros, np.ones((SOLID, SOLID), bool), border_value=1)
    labels, count = ndimage.label(solid)
    if count == 0:
        return None
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    at_border = np.isin(labels, np.unique(rim[rim > 0]))
    grown = ndimage.binary_dilation(at_border, np.ones((SOLID, SOLID), bool)) & zeros
    if grown.mean() < LEAST_UNCOVERED:
        return None
    mask: NDArray[np.bool_] = ndimage.binary_propagation(grown, mask=zeros)
    return mask


def _has_run(line: NDArray[np.bool_]) -> bool:
    """Whether a line holds `BORDER_RUN` true values in a row."""
    if line.size < BORDER_RUN:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(line, BORDER_RUN)
    return bool(windows.all(axis=1).any())
