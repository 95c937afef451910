"""Read each frame once more and put its samples onto the output grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube_store import CubeWriter
from astrobench.errors import ParameterError
from astrobench.frames import Frame
from astrobench.steps.align import Alignment
from astrobench.steps.debayer import Debayer

if TYPE_CHECKING:
    from astrobench.steps.register import Register


DIRECT = "direct"  # each colour from its own pixels
UNDITHERED = "directional"  # where the dither does not fill the gaps between the pixels of a colour


@dataclass(frozen=True)
class Grid:
    """The output grid: its (H, W), and the matrix from reference pixels to it."""

    shape: tuple[int, int]
    matrix: NDArray[np.float64]


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix from the grid back to the frame."""
    return np.asarray(np.linalg.inv(matrix), np.float64)


def choose_road(debayer: Debayer, frames: list[Frame], aligned: list[Alignment], grid: Grid, context: Context) -> str:
    """Return how samples come onto the grid: ``"planes"``, ``"direct"`` or the debayer method."""
    mosaics = [frame for frame in frames if frame.bayer and frame.planes == 1]
    if not mosaics:
        return "planes"
    if debayer.method == DIRECT and len(mosaics) < len(frames):
        raise ParameterError(
            "debayer.method is 'direct', but not every frame is a mosaic. Use 'auto' or 'directional'."
        )
    if debayer.method != "auto":
        return debayer.method
    from astrobench.kernels.dither import best_road

    matrices = [inverse(grid.matrix @ each.matrix) for each in aligned]
    road, left = best_road(matrices, grid.shape)
    direct = road == "cfa" and len(mosaics) == len(frames)
    context.report.fact(
        "road",
        "Each colour is taken straight from its own pixels: the dither of {count} frames leaves {left:.0%} of the "
        "colour aliasing of one frame."
        if direct
        else "Frames are debayered ({method}) before they are aligned: {count} frames with this dither would leave "
        "{left:.0%} of the colour aliasing of one frame if each colour were taken from its own pixels.",
        count=len(frames),
        left=left,
        method=UNDITHERED,
    )
    return DIRECT if direct else UNDITHERED


def resample_all(
    frames: list[Frame],
    aligned: list[Alignment],
    grid: Grid,
    road: str,
    debayer: Debayer,
    settings: Register,
    writer: CubeWriter,
    context: Context,
) -> str:
    """Put every frame onto the grid; return in words how it was done."""

    def work(k: int) -> int:
        frame, matrix = frames[k], grid.matrix @ aligned[k].matrix
        if road == DIRECT:
            planes = _own_pixels(frame, matrix, grid.shape, debayer)
        else:
            planes = _colour_planes(frame, road, debayer)
            if planes.shape[1] != frame.height:  # super-pixels: half the size
                matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
            planes = _warped(planes, matrix, grid.shape, settings)
        writer.put(k, planes)
        return k

    context.map(work, range(len(frames)), f"registering {len(frames)} frames")
    if road == DIRECT:
        return "each colour from its own pixels"
    if road == "planes":
        return f"frames resampled with {settings.kernel}"
    return f"{road} debayer, then resampled with {settings.kernel}"


def _own_pixels(
    frame: Frame, matrix: NDArray[np.float64], shape: tuple[int, int], debayer: Debayer
) -> NDArray[np.float32]:
    """Return the nearest raw sample of each colour for every pixel of the grid; hot pixels are missing."""
    from astrobench.kernels.cfa import gather

    pixels = _clean(frame, debayer, missing=True)
    return gather(pixels, str(frame.bayer), inverse(matrix), shape)


def _colour_planes(frame: Frame, road: str, debayer: Debayer) -> NDArray[np.float32]:
    """Return the frame as (C, H, W) float32, debayered, hot pixels replaced."""
    pixels = _clean(frame, debayer, missing=False)
    if pixels.ndim == 3:
        return pixels.astype(np.float32)
    if frame.bayer is None:
        return pixels.astype(np.float32)[None]
    from astrobench.kernels.debayer import debayer as interpolate

    return interpolate(pixels, frame.bayer, road)


def _clean(frame: Frame, debayer: Debayer, *, missing: bool) -> NDArray[Any]:
    """Read a frame, take off its pedestal, and replace its hot and cold pixels or make them missing."""
    pixels = frame.read()
    if frame.pedestal:
        pixels = pixels.astype(np.float32) - np.float32(frame.pedestal)
    if debayer.hot_pixels and pixels.ndim == 2:
        from astrobench.kernels.cosmetic import find_bad_pixels, repair

        bad = find_bad_pixels(pixels, debayer.hot_sigma, debayer.hot_sigma)
        pixels = repair(pixels, bad, missing)
    return pixels


def _warped(
    planes: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int], settings: Register
) -> NDArray[np.float32]:
    from astrobench.kernels.warp import warp

    if shape == planes.shape[1:] and np.array_equal(matrix, np.eye(3)):
        return planes
    return warp(planes, inverse(matrix), shape, kernel=settings.kernel, clamp=settings.clamping)
