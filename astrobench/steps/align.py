"""Find the transform of every frame to the reference from their stars."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.frames import Frame

if TYPE_CHECKING:
    from astrobench.steps.register import Register

FEWEST = 3  # stars below which no pattern can be told from chance
NEIGHBOURS = 3  # registered frames that are tried when the reference does not match


@dataclass(frozen=True)
class Alignment:
    """How one frame lies on the reference.

    Parameters
    ----------
    matrix : (3, 3) float64
        Pixel of the frame (x, y, 1) to pixel of the reference.
    rms : float
        Residual of the matched stars [px].
    pairs : int
        Matched stars.
    model : str
        Kind of transform.
    transparency : float or None
        Star flux relative to the reference.
    is_reference : bool
    via : str
        Name of the neighbour over which it was found, empty if directly.
    """

    matrix: NDArray[np.float64]
    rms: float
    pairs: int
    model: str
    transparency: float | None = None
    is_reference: bool = False
    via: str = ""


def align(frames: list[Frame], reference: int, settings: Register, context: Context) -> list[Alignment | str]:
    """Return for each frame its alignment, or the cause and remedy in words.

    Frames are taken in order of time outwards from the reference, so that each can start from its neighbour's
    transform; what fails against the reference is tried against registered neighbours.
    """
    find = _with_astroalign if settings.matcher == "astroalign" else _with_own
    results: list[Alignment | str] = [""] * len(frames)
    results[reference] = Alignment(np.eye(3), 0.0, _count(frames[reference]), "reference", 1.0, True)
    if _count(frames[reference]) < FEWEST and len(frames) > 1:
        raise ProcessingError(
            f"The reference {frames[reference].path.name} shows {_count(frames[reference])} stars; at least {FEWEST} "
            "are needed. Lower measure.threshold or name another reference."
        )
    order = sorted(range(len(frames)), key=lambda i: abs(i - reference))
    guesses: dict[int, NDArray[np.float64] | None] = {-1: np.eye(3), 1: np.eye(3)}
    for done, i in enumerate(order[1:], 1):
        side = 1 if i > reference else -1
        results[i] = find(frames[i], frames[reference], settings, guesses[side])
        each = results[i]
        if isinstance(each, Alignment):
            guesses[side] = each.matrix
        context.progress(done / len(frames), f"matching stars, frame {done + 1} of {len(frames)}")
    for i in order[1:]:
        if isinstance(results[i], str):
            results[i] = _by_neighbour(i, frames, results, reference, settings, find) or results[i]
    return results


def _count(frame: Frame) -> int:
    return frame.measures.stars if frame.measures else 0


def _stars(frame: Frame) -> Any:
    assert frame.measures is not None
    return frame.measures.star_list


def _with_own(frame: Frame, other: Frame, settings: Register, guess: NDArray[np.float64] | None) -> Alignment | str:
    from astrobench.kernels.match import Match, match

    here, there = _stars(frame), _stars(other)
    if len(here.x) < FEWEST:
        return f"shows only {len(here.x)} stars: clouds, fog or focus. Lower measure.threshold to look deeper."
    ratio = 1.0
    if frame.pixel_scale and other.pixel_scale:
        ratio = frame.pixel_scale / other.pixel_scale
    found = match(
        np.column_stack([here.x, here.y]),
        np.column_stack([there.x, there.y]),
        here.flux,
        there.flux,
        src_shape=(frame.height, frame.width),
        dst_shape=(other.height, other.width),
        model="similarity" if settings.transform == "none" else settings.transform,
        allow_flip=settings.allow_flip,
        scale=(0.9 * ratio, 1.1 * ratio),
        guess=guess,
    )
    if not isinstance(found, Match):
        return f"finds no match with {other.path.name}: {found.cause}"
    if found.rms > settings.largest_residual:
        return (
            f"matches, but its stars miss by {found.rms:.1f} px (largest_residual is {settings.largest_residual:g}). "
            'Try register.transform = "homography".'
        )
    bright = ~(here.saturated[found.src_index] | there.saturated[found.dst_index])
    transparency = None
    if bright.sum() >= FEWEST:
        ratio = float(np.median((here.flux[found.src_index] / there.flux[found.dst_index])[bright]))
        transparency = ratio if ratio > 0 else None
    return Alignment(found.matrix, found.rms, len(found.src_index), _model(found.matrix), transparency)


def _model(matrix: NDArray[np.float64]) -> str:
    """Name the simplest kind of transform that a matrix is."""
    if np.abs(matrix[2, :2]).max() > 1e-15:
        return "homography"
    (a, b), (c, d) = matrix[:2, :2]
    if abs(a - d) > 1e-9 or abs(b + c) > 1e-9:
        mirrored = abs(a + d) < 1e-9 and abs(b - c) < 1e-9
        return "mirrored similarity" if mirrored else "affine"
    return "shift" if abs(a - 1) < 1e-12 and abs(b) < 1e-12 else "similarity"


def _with_astroalign(
    frame: Frame, other: Frame, settings: Register, guess: NDArray[np.float64] | None
) -> Alignment | str:
    import astroalign

    here, there = _stars(frame), _stars(other)
    source, target = (np.column_stack([s.x, s.y]) for s in (here, there))
    try:
        transform, (left, right) = astroalign.find_transform(source, target)
    except (astroalign.MaxIterError, TypeError, ValueError) as error:
        return f'finds no match with {other.path.name} by astroalign: {error} Try matcher = "astrobench".'
    moved = transform(left)
    rms = float(np.sqrt(np.mean(np.sum((moved - right) ** 2, axis=1))))
    return Alignment(np.asarray(transform.params, float), rms, len(left), "similarity")


def _by_neighbour(
    i: int, frames: list[Frame], results: list[Alignment | str], reference: int, settings: Register, find: Any
) -> Alignment | None:
    """Match frame i with registered neighbours in time, then with the reference from there."""
    registered = [j for j, each in enumerate(results) if isinstance(each, Alignment) and j != reference]
    for j in sorted(registered, key=lambda j: abs(j - i))[:NEIGHBOURS]:
        near = find(frames[i], frames[j], settings, None)
        over = results[j]
        if isinstance(near, str) or isinstance(over, str):
            continue
        composed = over.matrix @ near.matrix
        direct = find(frames[i], frames[reference], settings, composed)
        if isinstance(direct, Alignment):
            return dataclasses.replace(direct, via=frames[j].path.name)
        rms = float(np.hypot(near.rms, over.rms))
        transparency = None
        if near.transparency is not None and over.transparency is not None:
            transparency = near.transparency * over.transparency
        return Alignment(composed, rms, near.pairs, near.model, transparency, via=frames[j].path.name)
    return None
