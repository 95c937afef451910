"""Weigh and judge samples of own pixels by where on the sky they were taken, where the light changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from astrobench.kernels.cfa import FAST, Matrix, Pixels, Planes, checked, nearest, red_at

PIXFRAC = 1.0  # side of a drop on structure [source px]: smaller ones weigh frames unevenly and end hardly sharper
BATCH = 256  # pixels
FAINTEST_SHARE = 1e-3  # keeps a pixel filled that no drop reaches
STEEP_TRUST = 0.5  # part of the model's range that counts as noise of a sample on a slope


def place(
    samples: Planes,
    pixels: Pixels,
    pattern: str,
    matrix: Matrix,
    model: Planes,
    gate: Planes,
    steep: Planes,
    *,
    noise: ArrayLike,
    gain: ArrayLike = (1.0, 1.0, 1.0),
    offset: ArrayLike = (0.0, 0.0, 0.0),
    pixfrac: float = PIXFRAC,
    origin: tuple[int, int] = (0, 0),
) -> tuple[Planes, Planes]:
    """Weigh and judge one frame's samples by the place on the sky they come from.

    Parameters
    ----------
    samples : array (3, P) float32
        Gathered samples of this frame at `pixels`.
    pixels : array (P,) int64
        Flat indices y * w + x of output pixels, usually `np.flatnonzero(gate > 0)`; ascending ones are quickest.
    pattern, matrix
        As given to `gather` for this frame.
    model : array (3, h, w) float32
        Stack so far, normalised units.
    gate : array (h, w) float32
        Result of `structure`.
    steep : array (3, P) float32
        Result of `steepness` for `pixels`.
    noise : (3,)
        Sigma of one normalised sample of this frame on plain sky, per colour.
    gain, offset : (3,)
        Normalised sample = sample * gain + offset.
    pixfrac : float
        Side of a drop [source px], 0 < pixfrac <= 1.
    origin : (int, int)
        Column and row of the output grid where `model` and `gate` begin; any division gives the same bits.

    Returns
    -------
    judged : array (3, P) float32
        Values, normalised, for the rejection rule: model at the output pixel + (sample - model at the
        sample's own place) * noise / sqrt(noise^2 + (steep / 2)^2). Give the rule `scale_floor` = the
        frames' median noise; then a star seen at slightly different places is no outlier and a cosmic ray
        is one.
    share : array (3, P) float32
        Factor of the weight: 1 where gate is 0; where it is 1 the overlap of the drop with the output pixel
        over its largest possible value, at least 0.001; linear in gate between.

    Notes
    -----
    Shares: variable-pixel linear reconstruction (Fruchter and Hook 2002, PASP 114, 144, eq. 4-5) with drops
    parallel to the source's axes. Judgement: as AstroDrizzle's driz_cr, which allows a deviation in
    proportion to the local derivative of the blotted median. The model is read between pixels by cubic
    convolution.
    """
    one = np.asarray(noise, np.float64), np.asarray(gain, np.float64), np.asarray(offset, np.float64)
    shift, share = place_frames(
        np.ascontiguousarray(samples)[:, None], pixels, (pattern,), np.asarray(matrix)[None], model, gate, steep,
        *(np.broadcast_to(each, (1, 3)) for each in one), pixfrac=pixfrac, origin=origin,
    )  # fmt: skip
    judged = (samples + shift[:, 0]) * one[1].astype(np.float32)[:, None] + one[2].astype(np.float32)[:, None]
    return judged, share[:, 0]


def place_frames(
    samples: Planes, pixels: Pixels, patterns: Sequence[str], matrices: Matrix, model: Planes, gate: Planes,
    steep: Planes, noise: Matrix, gain: Matrix, offset: Matrix, *, pixfrac: float = PIXFRAC,
    origin: tuple[int, int] = (0, 0),
) -> tuple[Planes, Planes]:  # fmt: skip
    """Do for N frames what `place` does for one.

    Parameters
    ----------
    samples : array (3, N, P) float32
    patterns : N of them; matrices : (N, 3, 3); noise, gain, offset : (N, 3)

    Returns
    -------
    shift : array (3, N, P) float32
        What to add to a sample, in the units of its frame, before it is normalised and judged.
    share : array (3, N, P) float32
    """
    red = np.array([red_at(pattern) for pattern in patterns], np.int64)
    forward = np.stack([checked(matrix) for matrix in matrices])
    shift, share = np.empty_like(samples), np.empty_like(samples)
    _place(
        np.ascontiguousarray(samples), np.asarray(pixels, np.int64), forward, np.linalg.inv(forward), red,
        np.ascontiguousarray(model), gate, steep, np.ascontiguousarray(np.stack([noise, gain, offset]), np.float64),
        float(pixfrac), *origin, shift, share,
    )  # fmt: skip
    return shift, share


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Four weights of the cubic convolution (Keys 1981, IEEE Trans. ASSP 29, 1153) at the fraction t."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def interpolate(plane: Any, x: float, y: float) -> float:
    """Read a plane between pixels; NaN where one of the 16 is missing."""
    height, width = plane.shape
    i, j = int(np.floor(x)), int(np.floor(y))
    if i < 1 or j < 1 or i + 2 >= width or j + 2 >= height:
        return float(np.nan)
    a, b, c, d = _cubic(x - i)
    weights = _cubic(y - j)
    total = 0.0
    for k in range(4):
        line = plane[np.uintp(j + k - 1)]
        total += weights[k] * (
            a * line[np.uintp(i - 1)] + b * line[np.uintp(i)] + c * line[np.uintp(i + 1)] + d * line[np.uintp(i + 2)]
        )
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def rows_and_columns(pixels: Any, width: int, at: Any) -> None:
    """Take flat indices apart; quick where they ascend."""
    y = 0
    for k in range(pixels.size):
        pixel = pixels[k]
        while pixel < y * width:
            y = 0
        while pixel >= (y + 1) * width:
            y += 1
        at[0, k], at[1, k] = y, pixel - y * width


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def drops(
    at: Any, count: int, left: int, top: int, matrix: Any, inverse: Any, red_row: int, red_column: int,
    colour: int, model: Any, gate: Any, pixfrac: float, memory: Any, share: Any, there: Any,
) -> None:
    """Share of each sample's drop on its output pixel, and the model at the sample's own place."""
    reach, full = 0.5 * (pixfrac + 1.0), 1.0 / (pixfrac * pixfrac)
    u, v, column, row = memory[0, :count], memory[1, :count], memory[2], memory[3]
    for k in range(count):
        x, y = left + at[1, k], top + at[0, k]
        w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
        u[k] = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
        v[k] = (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w
    nearest(u, v, colour, red_row, red_column, column, row)
    for k in range(count):
        across = min(max(reach - abs(column[k] - u[k]), 0.0), pixfrac)
        down = min(max(reach - abs(row[k] - v[k]), 0.0), pixfrac)
        drop = max(across * down * full, FAINTEST_SHARE)
        sharp = gate[np.uintp(at[0, k]), np.uintp(at[1, k])]
        share[k] = (1.0 - sharp) + sharp * drop
    for k in range(count):
        i, j = column[k], row[k]
        w = inverse[2, 0] * i + inverse[2, 1] * j + inverse[2, 2]
        u[k] = (inverse[0, 0] * i + inverse[0, 1] * j + inverse[0, 2]) / w
        v[k] = (inverse[1, 0] * i + inverse[1, 1] * j + inverse[1, 2]) / w
    plane = model[colour]
    for k in range(count):
        # a difference with a whole number is exact: the same bits wherever the window begins
        there[k] = interpolate(plane, u[k] - left, v[k] - top)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
def _place(
    samples: Any, pixels: Any, forward: Any, inverse: Any, red: Any, model: Any, gate: Any, steep: Any,
    scale: Any, pixfrac: float, left: int, top: int, shift: Any, share: Any,
) -> None:
    # in batches, so that all but the reading of the model works on whole vectors
    at, memory, there = np.empty((2, BATCH), np.int64), np.empty((4, BATCH)), np.empty(BATCH)
    for begin in range(0, pixels.size, BATCH):
        count = min(BATCH, pixels.size - begin)
        rows_and_columns(pixels[begin : begin + count], gate.shape[1], at)
        for colour in range(3):
            plane = model[colour]
            for f in range(forward.shape[0]):
                drops(
                    at, count, left, top, forward[f], inverse[f], red[f, 0], red[f, 1], colour, model, gate, pixfrac,
                    memory, share[colour, f, begin:], there,
                )  # fmt: skip
                noise = max(scale[0, f, colour], 1e-20)
                gain, offset = scale[1, f, colour], scale[2, f, colour]
                for k in range(count):
                    here = plane[np.uintp(at[0, k]), np.uintp(at[1, k])]
                    change = here - there[k]
                    change = change if change == change else 0.0
                    slope = STEEP_TRUST * steep[colour, begin + k] / noise
                    value = samples[colour, f, begin + k] * gain + offset
                    verdict = here + (value - here + change) / np.sqrt(1.0 + slope * slope)
                    moved = (verdict - value) / gain
                    shift[colour, f, begin + k] = moved if moved == moved else 0.0
