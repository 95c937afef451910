"""Read each frame once more and put its samples onto the output grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube_store import CubeWriter
from astrobench.frames import Frame
from astrobench.steps.align import Alignment
from astrobench.steps.debayer import Debayer

if TYPE_CHECKING:
    from astrobench.steps.register import Register


@dataclass(frozen=True)
class Grid:
    """The output grid: its (H, W), and the matrix from reference pixels to it."""

    shape: tuple[int, int]
    matrix: NDArray[np.float64]


def choose_road(debayer: Debayer, frames: list[Frame], aligned: list[Alignment], context: Context) -> str:
    """Return how samples come onto the grid: ``"direct"`` or the debayer method."""
    if not any(frame.bayer and frame.planes == 1 for frame in frames):
        return "planes"
    if debayer.method != "auto":
        return debayer.method
    return "directional"


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
        planes = _colour_planes(frames[k], road, debayer)
        matrix = grid.matrix @ aligned[k].matrix
        if planes.shape[1] != frames[k].height:  # super-pixels: half the size
            matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
        writer.put(k, _warped(planes, matrix, grid.shape, settings))
        return k

    context.map(work, range(len(frames)), f"registering {len(frames)} frames")
    if road == "planes":
        return f"frames resampled with {settings.kernel}"
    return f"{road} debayer, then resampled with {settings.kernel}"


def _colour_planes(frame: Frame, road: str, debayer: Debayer) -> NDArray[np.float32]:
    """Return the frame as (C, H, W) float32, debayered, hot pixels replaced."""
    pixels = frame.read()
    if pixels.ndim == 3:
        return pixels.astype(np.float32)
    if debayer.hot_pixels:
        pixels = _without_hot(pixels, frame, debayer)
    if frame.bayer is None:
        return pixels.astype(np.float32)[None]
    from astrobench.kernels.debayer import debayer as interpolate

    return interpolate(pixels, frame.bayer, road)


def _without_hot(pixels: NDArray[Any], frame: Frame, debayer: Debayer) -> NDArray[Any]:
    return pixels


def _warped(
    planes: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int], settings: Register
) -> NDArray[np.float32]:
    from astrobench.kernels.warp import warp

    if shape == planes.shape[1:] and np.array_equal(matrix, np.eye(3)):
        return planes
    return warp(planes, np.linalg.inv(matrix), shape, kernel=settings.kernel, clamp=settings.clamping)
