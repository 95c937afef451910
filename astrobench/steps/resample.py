"""Read each frame once more and put its samples onto the output grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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


def put_on_grid(
    frames: list[Frame],
    aligned: list[Alignment],
    grid: Grid,
    road: str,
    debayer: Debayer,
    settings: Register,
    key: str,
    context: Context,
) -> Path:
    """Store every frame as a cube on the grid; return its folder."""
    channels = 3 if any(frame.bayer or frame.planes == 3 for frame in frames) else 1
    shape = (len(frames), channels, *grid.shape)
    word = np.dtype(np.uint16 if all(f.dtype == "uint16" and not f.pedestal for f in frames) else np.float32)
    if road == DIRECT:
        frame_bytes = [frame.height * frame.width * word.itemsize for frame in frames]
    else:
        frame_bytes = [4 * channels * grid.shape[0] * grid.shape[1]] * len(frames)
    writer = CubeWriter(context, frame_bytes, key)
    bad: list[NDArray[np.intp]] = [np.empty(0, np.intp)] * len(frames)

    def mosaic(k: int) -> None:
        """Store a frame as it was recorded, and where its hot pixels are."""
        pixels = _light(frames[k])
        bad[k] = np.flatnonzero(_bad_pixels(pixels, debayer))
        writer.put(k, pixels.astype(word, copy=False))

    def planes(k: int) -> None:
        """Store a frame resampled to the grid, hot pixels replaced."""
        colours, matrix = _colour_planes(frames[k], road, debayer), grid.matrix @ aligned[k].matrix
        if colours.shape[1] != frames[k].height:  # super-pixels: half the size
            matrix = matrix @ np.array([[2, 0, 0.5], [0, 2, 0.5], [0, 0, 1]])
        writer.put(k, _warped(colours, matrix, grid.shape, settings))

    try:
        context.map(mosaic if road == DIRECT else planes, range(len(frames)), f"registering {len(frames)} frames")
        facts = _facts(frames, aligned, grid, shape, settings, road)
        if road == DIRECT:
            facts |= {
                "patterns": np.array([str(frame.bayer) for frame in frames]),
                "sizes": np.array([(frame.height, frame.width) for frame in frames]),
                "word": np.array(word.str),
                "bad": np.concatenate(bad),
                "ends": np.cumsum([len(each) for each in bad]),
            }
        return writer.finish(facts)
    except BaseException:
        writer.discard()
        raise


def _facts(
    frames: list[Frame],
    aligned: list[Alignment],
    grid: Grid,
    shape: tuple[int, ...],
    settings: Register,
    road: str,
) -> dict[str, Any]:
    """Return what is stored beside the samples."""
    method = f"{road} debayer, then resampled with {settings.kernel}"
    if road in (DIRECT, "planes"):
        method = "each colour from its own pixels" if road == DIRECT else f"frames resampled with {settings.kernel}"
    channels = shape[1]
    noise = np.full((len(frames), channels), np.nan)
    for k, frame in enumerate(frames):
        if frame.measures is not None and len(frame.measures.noise_by_colour) == channels:
            noise[k] = frame.measures.noise_by_colour
    return {
        "shape": np.array(shape),
        "names": np.array([frame.path.name for frame in frames]),
        "transforms": np.array([grid.matrix @ each.matrix for each in aligned]),
        "noise": noise,
        "saturation": np.array([frame.saturation for frame in frames], float),
        "exposure": np.array([frame.exposure or np.nan for frame in frames], float),
        "reference": np.array(next((i for i, each in enumerate(aligned) if each.is_reference), 0)),
        "method": np.array(method),
        "patterns": np.array([], dtype=str),
    }


def _colour_planes(frame: Frame, road: str, debayer: Debayer) -> NDArray[np.float32]:
    """Return the frame as (C, H, W) float32, debayered, hot pixels replaced."""
    pixels = _light(frame)
    if pixels.ndim == 3:
        return pixels.astype(np.float32)
    bad = _bad_pixels(pixels, debayer)
    if bad.any():
        from astrobench.kernels.cosmetic import repair

        pixels = repair(pixels, bad)
    if frame.bayer is None:
        return pixels.astype(np.float32)[None]
    from astrobench.kernels.debayer import debayer as interpolate

    return interpolate(pixels, frame.bayer, road)


def _light(frame: Frame) -> NDArray[Any]:
    """Read a frame and take off its pedestal."""
    pixels: NDArray[Any] = frame.read()
    return pixels.astype(np.float32) - np.float32(frame.pedestal) if frame.pedestal else pixels


def _bad_pixels(pixels: NDArray[Any], debayer: Debayer) -> NDArray[np.bool_]:
    """Mark the hot and cold pixels of a mosaic or mono frame, where they are to be looked for."""
    if not debayer.hot_pixels:
        return np.zeros(pixels.shape, np.bool_)
    from astrobench.kernels.cosmetic import find_bad_pixels

    return find_bad_pixels(pixels, debayer.hot_sigma, debayer.hot_sigma)


def _warped(
    planes: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int], settings: Register
) -> NDArray[np.float32]:
    from astrobench.kernels.warp import warp

    if shape == planes.shape[1:] and np.array_equal(matrix, np.eye(3)):
        return planes
    return warp(planes, inverse(matrix), shape, kernel=settings.kernel, clamp=settings.clamping)
