"""Stack a mosaic camera's colours from their own pixels: sharp on stars, no colour made up.

The cube holds for every output pixel the nearest raw sample of each colour, up to 1.4 px off. On plain sky that is
no matter, and the grain is evened out over 3 x 3 pixels, as interpolation would. Where the light changes from pixel
to pixel (`cfa.structure`) the samples are stacked again, each with the share of its drop that falls on the output
pixel, and judged by a value freed of the slope it sits on.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.image import Image
from astrobench.kernels import cfa
from astrobench.kernels.integrate import Integrated
from astrobench.steps._integration import PIXEL_BYTES, TICK, Outputs, _maps
from astrobench.steps._plan import Plan
from astrobench.steps._stack_facts import stack_header, tell_result

# Rows beyond a strip that decide about it: a sample reaches 4 px, structure 4 px, the evening 1 px.
HALO = 9
FEWEST_ROWS = 64
STRIP_SAMPLES = 40_000_000  # taller strips only cost memory
BYTES_A_SAMPLE = 8  # the sample itself, and on structure its copy, share and shift


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
        steep = cfa.steepness(model, pixels)
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

    def stack(
        self, common: NDArray[np.float64], context: Context, check: Any = None
    ) -> tuple[list[Integrated], list[NDArray[np.intp]]]:
        """Reject and combine; return results and saturated pixels of each colour, flat.

        `common` is what neighbouring pixels of the plain stack share, see `cfa.common_light`.
        """
        shape = self.samples[0].shape[1:]
        found, full = [], []
        for c in range(3):
            one, saturated = self.plan.integrate(Strip(self.samples[c]), c, context.workers, check)
            found.append(one)
            full.append(saturated)
        model = np.stack([each.value for each in found]).reshape(3, *shape)
        gate = cfa.structure(model, stack_noise(self.plan))
        pixels = np.flatnonzero(gate > 0)
        slope = SlopePlan(*(getattr(self.plan, name) for name in Plan.__dataclass_fields__))
        for c, strip in enumerate(self.slope_strips(model, gate, pixels, context) if pixels.size else []):
            part, saturated = slope.integrate(strip, c, context.workers, check)
            before = self.plan.integrate(Strip(strip.samples), c, context.workers, check)[0]
            _put(found[c], pixels, part, before)
            full[c] = np.union1d(np.setdiff1d(full[c], pixels), pixels[saturated])
        sharp = np.stack([each.value for each in found]).reshape(3, *shape)
        variance = np.stack([each.variance for each in found]).reshape(3, *shape)
        even, spread = cfa.smooth_sky(sharp, variance, gate, common)
        for c in range(3):
            found[c].value[:], found[c].variance[:] = even[c].reshape(-1), spread[c].reshape(-1)
        return found, full


def _put(found: Integrated, pixels: NDArray[np.intp], part: Integrated, before: Integrated) -> None:
    """Put the results of some pixels in the place of the first ones."""
    for name in Integrated._fields[:-1]:  # all but the counts per frame
        getattr(found, name)[pixels] = getattr(part, name)
    found.rejected[:] += part.rejected - before.rejected


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
    shape = here.samples[0].shape[1:]
    first = [plan.integrate(Strip(here.samples[c]), c)[0].value for c in range(3)]
    model = np.stack(first).reshape(3, *shape)
    gate = cfa.structure(model, stack_noise(plan))
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
    common = cfa.common_light(
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
            found, full = here.stack(common, context, tell)
            for c in range(3):
                for name, flat in _maps(found[c], full[c]).items():
                    kept = flat[inner]
                    outputs.put(name, c, y0, kept.reshape(-1, width))
                    if name in sums:
                        sums[name] += float(kept.sum(dtype=np.int64))
                # Rows beyond the strip are counted in both strips; their share is taken off again.
                rejected[:, c] += (found[c].rejected * ((y1 - y0) / (bottom - top))).astype(np.int64)
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
