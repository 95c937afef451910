"""Stack a mosaic camera's colours from their own pixels: sharp on stars, no colour made up.

The cube holds for every output pixel the nearest raw sample of each colour, up to 1.4 px off. On plain sky that is
no matter, and the grain is evened out over 3 x 3 pixels, as interpolation would. Where the light changes from pixel
to pixel (`cfa_sky.structure`) the samples are stacked again, each with the share of its drop that falls on the output
pixel, and judged by a value freed of the slope it sits on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.image import Image
from astrobench.kernels import cfa, cfa_sky
from astrobench.kernels.integrate import Integrated
from astrobench.kernels.place_scatter import place_scatter
from astrobench.steps._integration import PIXEL_BYTES, TICK, Outputs, _maps
from astrobench.steps._plan import Plan
from astrobench.steps._stack_facts import stack_header, tell_result

# Rows beyond a strip that decide about it: a sample reaches 4 px, structure 4 px, the evening 1 px.
HALO = 9
FEWEST_ROWS = 64
STRIP_SAMPLES = 40_000_000  # taller strips only cost memory
BYTES_A_SAMPLE = 8  # the sample itself, and on structure its copy, share and shift
PIECE = 4096  # pixels on structure that a thread takes at a time
# Part of a star's light by which samples up to 1.4 px beside their pixel differ: 0.2 to 0.4 for FWHM 2.5 to 3.5 px.
UNPLACED_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class SlopePlan(Plan):
    """The plan where light changes from pixel to pixel: a spread below the noise is no reason to reject."""

    def arguments(self, channel: int) -> dict[str, Any]:
        """Return the arguments of the plain plan, with a floor under every scale."""
        return {**super().arguments(channel), "scale_floor": float(np.median(sample_noise(self)[:, channel]))}


def sample_noise(plan: Plan) -> NDArray[np.float64]:
    """Return the noise of one normalised sample on the sky, (N, C)."""
    return np.sqrt(np.maximum(plan.model.floor, 1e-12))


def stack_noise(plan: Plan) -> NDArray[np.float64]:
    """Return the noise of the stack on the sky where all frames reach, (C,)."""
    weight, noise = plan.normalisation.weight, sample_noise(plan)
    return np.asarray(np.sqrt((weight**2 * noise**2).sum(axis=0)) / weight.sum(axis=0))


@dataclass(frozen=True, eq=False)
class Window:
    """A rectangle of a cube and what its samples are used for.

    samples : one (N, h, w) float32 a colour; matrices : (N, 3, 3) from pixels of the window to those of the frames.
    """

    samples: list[NDArray[np.float32]]
    matrices: NDArray[np.float64]
    patterns: tuple[str, ...]
    plan: Plan

    def slope_strips(
        self, model: NDArray[np.float32], gate: NDArray[np.float32], pixels: NDArray[np.int64], context: Context
    ) -> list[Strip]:
        """Return for each colour the samples of some pixels with their shares, and the shift to judge them by."""
        n, noise = self.plan.normalisation, sample_noise(self.plan)
        chosen = np.stack([colour.reshape(len(colour), -1)[:, pixels] for colour in self.samples], axis=1)
        steep = cfa_sky.steepness(model, pixels)
        shift, share = np.empty_like(chosen), np.empty_like(chosen)

        def one(k: int) -> None:
            judged, share[k] = cfa.place(
                chosen[k], pixels, self.patterns[k], self.matrices[k], model, gate, steep,
                noise=noise[k], gain=n.gain[k], offset=n.offset[k],
            )  # fmt: skip
            gain, offset = (v[k].astype(np.float32)[:, None] for v in (n.gain, n.offset))
            shift[k] = (judged - offset) / gain - chosen[k]

        with ThreadPoolExecutor(max(1, context.workers)) as pool:
            list(pool.map(one, range(len(chosen))))
        return [Strip(chosen[:, c, None], share=share[:, c, None], shift=shift[:, c, None]) for c in range(3)]

    def model(
        self, plain: list[NDArray[np.float32]], context: Context
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """Return the light to place samples by, how much each pixel is structure, and the pixels that are."""
        model = np.stack(plain).reshape(3, *self.samples[0].shape[1:])
        gate = cfa_sky.structure(model, stack_noise(self.plan))
        pixels = np.flatnonzero(gate > 0)
        if pixels.size:
            for c, loose in enumerate(_flat(model)):
                some = self.samples[c].reshape(len(self.samples[c]), -1)[:, None, pixels]
                loose[pixels] = _loose(self.plan).integrate(Strip(some), c, context.workers)[0].value
        return model, gate, pixels

    def stack(
        self, common: NDArray[np.float64], rows: tuple[int, int], context: Context, check: Any = None
    ) -> tuple[list[Integrated], list[NDArray[np.intp]]]:
        """Reject and combine; return results and saturated pixels of each colour, flat.

        `common` is what neighbouring pixels of the plain stack share, see `cfa_sky.common_light`. Rejected samples
        are counted in the given rows only.
        """
        shape = self.samples[0].shape[1:]
        found, full = [], []
        for c in range(3):
            whole = [self.samples[c].reshape(len(self.samples[c]), -1)[:, None], None, None]
            one, saturated = _in_parts(self.plan, whole, c, (rows[0] * shape[1], rows[1] * shape[1]), context, check)
            found.append(one)
            full.append(saturated)
        model, gate, pixels = self.model([each.value for each in found], context)
        inner = tuple(int(v) for v in np.searchsorted(pixels, (rows[0] * shape[1], rows[1] * shape[1])))
        slope = SlopePlan(*(getattr(self.plan, name) for name in Plan.__dataclass_fields__))
        strips = self.slope_strips(model, gate, pixels, context) if pixels.size else []
        for c, strip in enumerate(strips):
            part, saturated = _in_parts(slope, [strip.samples, strip.share, strip.shift], c, inner, context, check)
            counted = Strip(strip.samples[:, :, slice(*inner)])
            before = self.plan.integrate(counted, c, context.workers, check)[0].rejected
            for name in Integrated._fields[:-1]:  # all but the counts per frame
                getattr(found[c], name)[pixels] = getattr(part, name)
            found[c].rejected[:] += part.rejected - before
            full[c] = np.union1d(np.setdiff1d(full[c], pixels), pixels[saturated])
        sharp = np.stack([each.value for each in found]).reshape(3, *shape)
        if self.plan.model.known:
            for one, spread in zip(found, self._place_scatter(strips, pixels, sharp, gate, context), strict=False):
                one.variance[pixels] += spread
        variance = np.stack([each.variance for each in found]).reshape(3, *shape)
        even, spread = cfa_sky.smooth_sky(sharp, variance, gate, common)
        for c in range(3):
            found[c].value[:], found[c].variance[:] = even[c].reshape(-1), spread[c].reshape(-1)
        return found, full

    def _place_scatter(
        self, strips: list[Strip], pixels: NDArray[np.intp], sharp: NDArray[np.float32], gate: NDArray[np.float32],
        context: Context,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Return the variance of the pixels of `slope_strips` from where their samples fell, (3, P)."""
        matrices, weight = list(self.matrices), self.plan.normalisation.weight

        def some(begin: int) -> NDArray[np.float32]:
            piece = slice(begin, begin + PIECE)
            samples = np.stack([strip.samples[:, 0, piece] for strip in strips], axis=1)
            return place_scatter(samples, pixels[piece], self.patterns, matrices, sharp, gate, weight)

        if not strips:
            return np.zeros((3, 0), np.float32)
        with ThreadPoolExecutor(max(1, context.workers)) as pool:
            return np.concatenate(list(pool.map(some, range(0, pixels.size, PIECE))), axis=1)


def _loose(plan: Plan) -> Plan:
    """Return the plan that lets samples on structure differ by where they fell, as long as that is not known."""
    return replace(plan, model=replace(plan.model, share=np.maximum(plan.model.share, UNPLACED_SHARE)))


def _flat(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    return planes.reshape(len(planes), -1)


def _in_parts(
    plan: Plan, arrays: Sequence[Any], channel: int, inner: tuple[int, ...], context: Context, check: Any
) -> tuple[Integrated, NDArray[np.intp]]:
    """Integrate samples, shares and shifts (N, 1, P) and count the rejected of the pixels inner[0]..inner[1] alone."""
    ends = (0, inner[0], inner[1], arrays[0].shape[2])
    parts, full = [], []
    for k, (a, b) in enumerate(pairwise(ends)):
        samples, share, shift = (each if each is None else each[:, :, a:b] for each in arrays)
        piece = Strip(np.asarray(samples), share=share, shift=shift)
        one, saturated = plan.integrate(piece, channel, context.workers, check)
        parts.append(one if k == 1 else one._replace(rejected=np.zeros_like(one.rejected)))
        full.append(saturated + a)
    whole = {name: np.concatenate([getattr(one, name) for one in parts]) for name in Integrated._fields[:-1]}
    return Integrated(**whole, rejected=parts[1].rejected), np.concatenate(full)


def window(cube: Cube, plan: Plan, rows: tuple[int, int], columns: tuple[int, int]) -> Window:
    """Read a rectangle of a cube of own pixels."""
    samples = [cube.strip(channel, *rows).samples for channel in range(3)]
    if columns != (0, cube.shape[3]):
        samples = [np.ascontiguousarray(each[:, :, slice(*columns)]) for each in samples]
    origin = np.eye(3)
    origin[:2, 2] = columns[0], rows[0]
    return Window(samples, np.linalg.inv(cube.transforms) @ origin, cube.patterns, plan)


def pixel_strips(cube: Cube, plan: Plan, x: int, y: int, context: Context) -> tuple[Plan, list[Strip]]:
    """Return how one pixel was stacked: the plan, and the strip of one pixel of each colour."""
    _, _, height, width = cube.shape
    rows = max(0, y - HALO), min(height, y + HALO + 1)
    columns = max(0, x - HALO), min(width, x + HALO + 1)
    here = window(cube, plan, rows, columns)
    flat = np.array([(y - rows[0]) * (columns[1] - columns[0]) + x - columns[0]])
    plain = [Strip(np.ascontiguousarray(here.samples[c].reshape(len(cube), -1)[:, flat])[:, None]) for c in range(3)]
    first = [plan.integrate(Strip(here.samples[c]), c)[0].value for c in range(3)]
    model, gate, _ = here.model(first, context)
    if not gate.reshape(-1)[flat[0]] > 0:
        return plan, plain
    slope = SlopePlan(*(getattr(plan, name) for name in Plan.__dataclass_fields__))
    return slope, here.slope_strips(model, gate, flat, context)


def integrate_own_pixels(cube: Cube, plan: Plan, context: Context) -> Image:
    """Return the stack of a cube of own pixels with all its maps."""
    count, _, height, width = cube.shape
    need = 3 * height * width * PIXEL_BYTES
    in_memory = need <= context.memory_budget // 2
    outputs = Outputs((3, height, width), None if in_memory else context.scratch)
    budget = context.memory_budget - (need if in_memory else 0)
    rows = int(min(budget // BYTES_A_SAMPLE, STRIP_SAMPLES) // (3 * count * width)) - 2 * HALO
    rows = min(max(rows, FEWEST_ROWS), height)
    frame = cube.frames.used[cube.reference]
    common = cfa_sky.common_light(
        list(np.linalg.inv(cube.transforms)), cube.patterns[0], (height, width), (frame.height, frame.width)
    )
    rejected = np.zeros((count, 3), np.int64)
    sums = dict.fromkeys(("coverage", "reject_low", "reject_high", "flags"), 0.0)
    try:
        for y0 in range(0, height, rows):
            y1 = min(y0 + rows, height)
            top, bottom = max(0, y0 - HALO), min(height, y1 + HALO)
            here = window(cube, plan, (top, bottom), (0, width))
            inner = slice((y0 - top) * width, (y1 - top) * width)
            tell = partial(_tell, context, y0, y1, height, count, [monotonic()])
            tell()
            found, full = here.stack(common, (y0 - top, y1 - top), context, tell)
            for c in range(3):
                for name, flat in _maps(found[c], full[c]).items():
                    kept = flat[inner]
                    outputs.put(name, c, y0, kept.reshape(-1, width))
                    if name in sums:
                        sums[name] += float(kept.sum(dtype=np.int64))
                rejected[:, c] += found[c].rejected
        planes = outputs.finish()
    except BaseException:
        outputs.discard()
        raise
    tell_result(cube, plan, rejected, sums, context)
    return Image(planes.pop("data"), header=stack_header(cube, plan.normalisation)).replace(**planes)


def _tell(context: Context, y0: int, y1: int, height: int, count: int, last: list[float]) -> None:
    context.check_stop()
    if monotonic() - last[0] > TICK:
        last[0] = monotonic()
        context.progress(y0 / height, f"stacking {count} frames, rows {y0} to {y1} of {height}")
