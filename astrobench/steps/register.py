"""Bring every frame onto one grid."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from astrobench import cube_store
from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.errors import ParameterError, ProcessingError
from astrobench.frames import Frame, Frames
from astrobench.step import Step, param
from astrobench.steps.align import Alignment, align
from astrobench.steps.debayer import Debayer
from astrobench.steps.measure import Measure
from astrobench.steps.resample import Grid, choose_road, put_on_grid

SITE_CARDS = ("SITELAT", "SITELONG", "SITEELEV", "TELESCOP")  # left out of every output unless asked for
MOST_PIXELS = 400_000_000  # a union larger than this is a wrong match, not a wide field


class Register(Step):
    """Match the stars of every frame with the reference and resample all frames onto its grid, once."""

    area = "frames"
    takes = Frames
    gives = Cube

    transform: Literal["auto", "none", "shift", "similarity", "affine", "homography"] = param(
        "auto", "How frames may differ from the reference; 'auto' takes the simplest that fits, 'none' aligns nothing"
    )
    reference: str = param("", "Name of the reference frame; empty: the best by stars, sharpness and noise")
    framing: Literal["reference", "union", "intersection"] = param(
        "reference", "Grid of the result: that of the reference, all that any frame saw, or what all frames saw"
    )
    kernel: Literal["lanczos3", "bicubic", "bilinear", "nearest"] = param(
        "lanczos3", "Interpolation where frames are interpolated", advanced=True
    )
    clamping: bool = param(True, "Hold Lanczos and bicubic back from dark rings around bright stars", advanced=True)
    matcher: Literal["astrobench", "astroalign"] = param("astrobench", "Who matches the star patterns", advanced=True)
    allow_flip: bool = param(False, "Accept mirrored frames", advanced=True)
    largest_residual: float = param(
        1.5, "A frame whose stars miss by more than this is set aside", unit="px", gt=0, le=20, advanced=True
    )

    def apply(self, frames: Frames, context: Context) -> Cube:
        """Return the registered cube; frames that cannot be matched are set aside with cause and remedy."""
        if not len(frames.used):
            raise ProcessingError("No usable light frame is left to register. Look at the list of frames set aside.")
        if self.transform == "none" and not any(frame.bayer and frame.planes == 1 for frame in frames.used):
            from astrobench.cube_files import cube_from_files

            return cube_from_files(frames, context)
        if any(frame.measures is None for frame in frames.used):
            with context.part(0.0, 0.2):
                frames = Measure().apply(frames, context)
        aligned, frames = self._aligned(frames, context)
        debayer = next((step for step in frames.pending if isinstance(step, Debayer)), Debayer())
        used = list(frames.used)
        grid = frame_grid(self.framing, aligned, used)
        road = choose_road(debayer, used, aligned, grid, context)
        key = cube_store.key_of(
            "cube 3", [frame.hash() for frame in used], self.model_dump(), debayer.model_dump(), road
        )
        stored = cube_store.find(context, key) if context.use_cache else None
        if stored is not None:
            context.report.fact("cached", "Registered before with the same settings: the stored samples are used.")
            return _opened(stored, frames, context)
        with context.part(0.3, 1.0):
            folder = put_on_grid(used, aligned, grid, road, debayer, self, key, context)
        freed = cube_store.prune(context, keep=key)
        if freed:
            context.report.fact("cache pruned", "{gigabytes:.1f} GB of old registered frames removed from the cache.",
                                gigabytes=freed / 1e9)  # fmt: skip
        return _opened(folder, frames, context)

    def _aligned(self, frames: Frames, context: Context) -> tuple[list[Alignment], Frames]:
        """Return the alignment of every frame that stays, and the frames with the others set aside."""
        used = list(frames.used)
        reference = self._reference(used, context)
        if self.transform == "none":
            return [Alignment(np.eye(3), 0.0, 0, "given") for _ in used], frames
        with context.part(0.2, 0.3):
            found = align(used, reference, self, context)
        reasons: dict[str, str] = {}
        kept: list[Alignment] = []
        transparent: dict[Any, Frame] = {}
        for frame, result in zip(used, found, strict=True):
            if isinstance(result, str):
                reasons[str(frame.path)] = result
                context.report.fact("set aside", "{name} {reason}", "warning", name=frame.path.name, reason=result)
            else:
                kept.append(result)
                assert frame.measures is not None
                measures = dataclasses.replace(frame.measures, transparency=result.transparency)
                transparent[frame.path] = dataclasses.replace(frame, measures=measures)
        frames = frames.replace(frames=tuple(transparent.get(frame.path, frame) for frame in frames))
        _tell(context, used, found, reference)
        return kept, frames.set_aside(reasons)

    def _reference(self, frames: list[Frame], context: Context) -> int:
        """Return the index of the reference frame: the named one or the best, nearest the middle of the session."""
        if self.reference:
            named = [i for i, frame in enumerate(frames) if self.reference in (frame.path.name, str(frame.path))]
            if not named:
                raise ParameterError(f"The reference '{self.reference}' is not among the {len(frames)} frames in use.")
            return named[0]
        scores = np.array([frame.measures.score or 0.0 if frame.measures else 0.0 for frame in frames])
        if not scores.max() > 0:
            return len(frames) // 2
        good = np.flatnonzero(scores >= 0.9 * scores.max())
        return int(good[np.argmin(np.abs(good - (len(frames) - 1) / 2))])


def _opened(folder: Path, frames: Frames, context: Context) -> Cube:
    """Open a stored cube; where the user asked for it, with the site and the telescope of the reference."""
    cube = cube_store.load(folder, frames)
    if context.private:
        return cube
    from astropy.io import fits

    original = fits.getheader(frames.used[cube.reference].path)
    kept = {card: original[card] for card in SITE_CARDS if card in original}
    return dataclasses.replace(cube, header=fits.Header(kept))


def frame_grid(framing: str, aligned: list[Alignment], frames: list[Frame]) -> Grid:
    """Return the output grid, its top row first: its shape and the matrix from reference pixels to it."""
    reference = next((i for i, each in enumerate(aligned) if each.is_reference), 0)
    height, width = frames[reference].height, frames[reference].width
    upright = np.eye(3)
    if frames[reference].row_order == "BOTTOM-UP":
        upright = np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1]], float)
    if framing == "reference" or len(frames) == 1:
        return Grid((height, width), upright)
    aligned = [dataclasses.replace(each, matrix=upright @ each.matrix) for each in aligned]
    corners = [_corners(each.matrix, frame) for each, frame in zip(aligned, frames, strict=True)]
    if framing == "union":
        low = np.floor(np.min([each.min(axis=0) for each in corners], axis=0))
        high = np.ceil(np.max([each.max(axis=0) for each in corners], axis=0))
    else:
        low, high = _common_rectangle(corners, (height, width))
    size = (high - low + 1).astype(int)
    if size.min() < 1:
        raise ProcessingError('The frames have no common area. Use framing = "union" or "reference".')
    if size.prod() > MOST_PIXELS:
        raise ProcessingError(
            f"The union of all frames would be {size[0]} x {size[1]} pixels. "
            'One of them seems to lie elsewhere on the sky; use framing = "reference".'
        )
    offset = np.eye(3)
    offset[:2, 2] = -low
    return Grid((int(size[1]), int(size[0])), offset @ upright)


def _corners(matrix: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    right, bottom = frame.width - 1, frame.height - 1
    places = np.array([[0, 0, 1], [right, 0, 1], [right, bottom, 1], [0, bottom, 1]], float) @ matrix.T
    return places[:, :2] / places[:, 2:]


def _common_rectangle(
    corners: list[NDArray[np.float64]], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest upright rectangle that every frame covers, found on a grid of 4 px."""
    from astrobench.kernels.rectangle import largest_rectangle

    step = 4
    ys, xs = np.mgrid[0 : shape[0] : step, 0 : shape[1] : step].astype(float)
    inside = np.ones(ys.shape, bool)
    for quad in corners:
        edges = np.roll(quad, -1, axis=0) - quad
        turn = np.sign(np.cross(edges[0], edges[1]))
        for corner, edge in zip(quad, edges, strict=True):
            inside &= turn * (edge[0] * (ys - corner[1]) - edge[1] * (xs - corner[0])) >= 0
    y0, y1, x0, x1 = largest_rectangle(inside)
    low = np.array([x0 * step, y0 * step], float)
    high = np.array([(x1 - 1) * step, (y1 - 1) * step], float)
    return low, high


def _tell(context: Context, frames: list[Frame], found: list[Alignment | str], reference: int) -> None:
    good = [each for each in found if not isinstance(each, str)]
    context.report.fact("reference", "The reference is {name}.", name=frames[reference].path.name)
    others = [each for each in good if not each.is_reference]
    if not others:
        return
    turns = [np.degrees(np.arctan2(each.matrix[1, 0], each.matrix[0, 0])) for each in others]
    models = sorted({each.model for each in others})
    context.report.fact(
        "registered",
        "{kept} of {total} frames registered ({models}); stars match within {rms:.2f} px (median), with {pairs:.0f} "
        "stars in common; turned by {low:+.2f} to {high:+.2f} degrees.",
        kept=len(good),
        total=len(found),
        models=", ".join(models),
        rms=float(np.median([each.rms for each in others])),
        pairs=float(np.median([each.pairs for each in others])),
        low=min(turns),
        high=max(turns),
        frames=[
            {
                "name": frame.path.name,
                "rms": None if isinstance(each, str) else round(each.rms, 4),
                "pairs": None if isinstance(each, str) else each.pairs,
                "model": None if isinstance(each, str) else each.model,
                "matrix": None if isinstance(each, str) else each.matrix.tolist(),
            }
            for frame, each in zip(frames, found, strict=True)
        ],
    )
