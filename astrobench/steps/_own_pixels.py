"""Stack a mosaic camera's colours from their own pixels: sharp on stars, no colour made up.

The cube holds for every output pixel the nearest raw sample of each colour, up to 1.4 px off. On plain sky that is
no matter, and the grain is evened out over 3 x 3 pixels, as interpolation would. Where the light changes from pixel
to pixel (`cfa_sky.structure`) the samples are stacked again, each with the share of its drop that falls on the output
pixel, and judged by a value freed of the slope it sits on. What their places still add to the mean is taken off
(`displaced`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.cube_mosaics import MosaicSource
from astrobench.image import Image
from astrobench.kernels import cfa_place, cfa_sky
from astrobench.kernels.displaced import centred, displaced
from astrobench.kernels.integrate import Integrated
from astrobench.steps._integration import PIXEL_BYTES, Outputs, maps
from astrobench.steps._plan import Check, Plan
from astrobench.steps._stack_facts import stack_header, tell_result

R = TypeVar("R")
T = TypeVar("T")

# Rows beyond a strip that decide about it: light at a sample's place 4 px, twice, structure 4 px, the evening 1 px.
HALO = 13
FEWEST_ROWS = 64
TALLEST_ROWS = 512  # more memory costs more, for its fresh pages, than is saved on halos
BLOCK_ROWS = 24  # few enough for the caches, enough to be worth a call for every frame
BLOCK_BYTES = 64 * 2**20  # of a block where turned frames ask for a taller one
PLACING = 6  # arrays as large as the samples of a piece on structure
RESULTS: dict[str, type] = {
    "value": np.float32, "variance": np.float32, "coverage": np.uint16, "low": np.uint16, "high": np.uint16,
    "weight": np.float32, "lower": np.float32, "upper": np.float32,
}  # fmt: skip
RESULT_BYTES = 48  # a pixel's results, the model and the gate of structure, and what is smoothed
PIECE_BYTES = 8 * 2**20  # samples on structure that are placed at a time
FEWEST_PIXELS = 512
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


class Workspace:
    """Memory for the strips of one thread, kept from strip to strip: fresh pages cost as much as the sums.

    samples : (3, N, rows, w) float32 of a block of at most `block` rows; results : (3, P) of each colour, of at most
    `pixels` pixels.
    """

    def __init__(self, frames: int, width: int, block: int, pixels: int) -> None:
        self.frames, self.width, self.block = frames, width, block
        self._samples = np.empty(3 * frames * block * width, np.float32)
        self._results: dict[str, NDArray[Any]] = {name: np.empty(3 * pixels, kind) for name, kind in RESULTS.items()}

    def samples(self, rows: int) -> NDArray[np.float32]:
        """Return the place of the samples of a block."""
        return self._samples[: 3 * self.frames * rows * self.width].reshape(3, self.frames, rows, self.width)

    def results(self, pixels: int) -> dict[str, NDArray[Any]]:
        """Return the place of the results of a strip."""
        return {name: flat[: 3 * pixels].reshape(3, pixels) for name, flat in self._results.items()}


class Stacked(NamedTuple):
    """What `Window.stack` found.

    found : dict of (3, P), the fields of `Integrated`; full : saturated pixels of each colour; rejected : (3, N)
    samples of each frame; model : (3, h, w) light by which structure was placed; gate : (h, w) what is structure.
    """

    found: dict[str, NDArray[Any]]
    full: list[NDArray[np.intp]]
    rejected: NDArray[np.int64]
    model: NDArray[np.float32]
    gate: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Window:
    """Rows top..bottom of a cube, and how they are stacked; pixels are counted from the first of them."""

    cube: Cube
    plan: Plan
    top: int
    bottom: int
    threads: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.cube.shape[3]

    @property
    def source(self) -> MosaicSource:
        """Where the samples lie."""
        return _source(self.cube)

    def at(self, pixels: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the samples of some pixels, (3, N, P)."""
        y, x = np.divmod(pixels, self.shape[1])
        return self.source.at(x, y + self.top)

    def plain(
        self, found: dict[str, NDArray[Any]], inner: tuple[int, int], workspace: Workspace, check: Check | None
    ) -> tuple[list[NDArray[np.intp]], NDArray[np.int64]]:
        """Stack all pixels as if it did not matter where their samples fell, block by block within the caches.

        Returns the saturated pixels of each colour, and what is rejected of each frame in rows inner[0]..inner[1].
        """
        count, width = len(self.cube), self.shape[1]
        full: list[list[NDArray[np.intp]]] = [[], [], []]
        rejected = np.zeros((3, count), np.int64)
        for first, last in pairwise((0, *inner, self.shape[0])):
            for begin in range(first, last, workspace.block):
                end = min(begin + workspace.block, last)
                samples = workspace.samples(end - begin)
                self.source.colours(np.arange(count), (0, 1, 2), self.top + begin, samples)
                for c in range(3):
                    place = {name: plane[c, begin * width : end * width] for name, plane in found.items()}
                    out = Integrated(**place, rejected=np.zeros(count, np.int64))
                    _, saturated = self.plan.integrate(Strip(samples[c]), c, self.threads, check, out)
                    full[c].append(saturated + begin * width)
                    rejected[c] += out.rejected if first == inner[0] else 0
        return [np.concatenate(each) for each in full], rejected

    def model(
        self, plain: NDArray[np.float32], coverage: NDArray[np.uint16]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """Return the light to place samples by, how much each pixel is structure, and the pixels that are.

        Where the noise model judges it takes samples for outliers that only lie beside their pixel.
        """
        model = plain.reshape(3, *self.shape).copy()
        gate = cfa_sky.structure(model, stack_noise(self.plan), np.median(sample_noise(self.plan), axis=0))
        pixels = np.flatnonzero(gate > 0)
        judgement, loose, flat = self.plan.judgement, _loose(self.plan), _flat(model)
        few = math.inf if judgement.rule == "model" else judgement.few
        by_model = pixels[(coverage[:, pixels] < few).any(axis=0)]

        def piece(some: NDArray[np.intp]) -> None:
            for c, samples in enumerate(self.at(some)):
                flat[c, some] = loose.integrate(Strip(samples[:, None]), c)[0].value

        self._each(piece, self._pieces(by_model))
        return model, gate, pixels

    def slope_strips(
        self, model: NDArray[np.float32], gate: NDArray[np.float32], pixels: NDArray[np.intp]
    ) -> list[Strip]:
        """Return for each colour the samples of some pixels with their shares, and the shift to judge them by."""
        n, chosen = self.plan.normalisation, self.at(pixels)
        shift, share = cfa_place.place_frames(
            chosen, pixels, self.cube.patterns, self.source.matrices, model, gate, cfa_sky.steepness(model, pixels),
            sample_noise(self.plan), n.gain, n.offset, origin=(0, self.top),
        )  # fmt: skip
        return [Strip(chosen[c, :, None], share=share[c, :, None], shift=shift[c, :, None]) for c in range(3)]

    def stack(
        self, common: NDArray[np.float64], rows: tuple[int, int], workspace: Workspace, check: Check | None = None
    ) -> Stacked:
        """Reject and combine; rejected samples are counted in the given rows only.

        `common` is what neighbouring pixels of the plain stack share, see `cfa_sky.common_light`.
        """
        height, width = self.shape
        inner = rows[0] * width, rows[1] * width
        found = workspace.results(height * width)
        full, rejected = self.plain(found, rows, workspace, check)
        model, gate, pixels = self.model(found["value"], found["coverage"])
        pieces = self._pieces(pixels, *inner)
        for some, saturated_there, change in self._each(partial(self._place, found, model, gate, inner, check), pieces):
            rejected += change
            for c in range(3):
                full[c] = np.union1d(np.setdiff1d(full[c], some), saturated_there[c])
        sharp, variance = (found[name].reshape(3, height, width) for name in ("value", "variance"))
        moved = self._each(partial(self._displaced, sharp, variance, gate), pieces)
        for some, better in zip(pieces, moved, strict=True):
            found["value"][:, some], found["variance"][:, some] = better
        even, spread = cfa_sky.smooth_sky(sharp, variance, gate, common)
        return Stacked(found | {"value": _flat(even), "variance": _flat(spread)}, full, rejected, model, gate)

    def _place(
        self,
        found: dict[str, NDArray[Any]],
        model: NDArray[np.float32],
        gate: NDArray[np.float32],
        inner: tuple[int, int],
        check: Check | None,
        some: NDArray[np.intp],
    ) -> tuple[NDArray[np.intp], list[NDArray[np.intp]], NDArray[np.int64]]:
        """Stack some pixels on structure anew; return them, the saturated ones, and the change in what is rejected."""
        if check is not None:
            check()
        slope = _slope(self.plan)
        is_counted = inner[0] <= some[0] < inner[1]
        full, change = [], np.zeros((3, len(self.cube)), np.int64)
        for c, strip in enumerate(self.slope_strips(model, gate, some)):
            anew, saturated = slope.integrate(strip, c)
            if is_counted:
                lost = (found["low"][c, some] > 0) | (found["high"][c, some] > 0)
                before, _ = self.plan.integrate(Strip(strip.samples[:, :, lost]), c)
                change[c] = anew.rejected - before.rejected
            for name in RESULTS:
                found[name][c, some] = getattr(anew, name)
            full.append(some[saturated])
        return some, full, change

    def _displaced(
        self,
        sharp: NDArray[np.float32],
        variance: NDArray[np.float32],
        gate: NDArray[np.float32],
        some: NDArray[np.intp],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return value and variance of some pixels on structure, freed of where their samples fell."""
        weight = self.plan.normalisation.weight
        moved = displaced(
            self.at(some), some, self.cube.patterns, self.source.matrices, sharp, gate, weight, origin=(0, self.top)
        )
        return centred(_flat(sharp)[:, some], _flat(variance)[:, some], *moved)

    def _pieces(self, pixels: NDArray[np.intp], *cuts: int) -> list[NDArray[np.intp]]:
        """Divide ascending pixels so that what is made of the samples of a piece stays small, and at some pixels."""
        size = max(FEWEST_PIXELS, PIECE_BYTES // (12 * len(self.cube)))
        parts = np.split(pixels, np.searchsorted(pixels, cuts))
        return [part[begin : begin + size] for part in parts for begin in range(0, part.size, size)]

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        if self.threads == 1:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, items))


def _slope(plan: Plan) -> SlopePlan:
    """Return the plan that judges samples of known shares and shifts."""
    return SlopePlan(*(getattr(plan, name) for name in Plan.__dataclass_fields__))


def _loose(plan: Plan) -> Plan:
    """Return the plan that lets samples on structure differ by where they fell, as long as that is not known."""
    return replace(plan, model=replace(plan.model, share=np.maximum(plan.model.share, UNPLACED_SHARE)))


def _flat(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    return planes.reshape(len(planes), -1)


def _colour(results: dict[str, NDArray[Any]], channel: int) -> dict[str, NDArray[Any]]:
    return {name: planes[channel] for name, planes in results.items()}


def pixel_strips(cube: Cube, plan: Plan, x: int, y: int) -> tuple[Plan, list[Strip], list[tuple[float, float]]]:
    """Return how one pixel was stacked.

    Returns
    -------
    plan : Plan
    strips : list of Strip
        One pixel of each colour.
    final : list of (float, float)
        Its value and sigma in the stack, after what follows rejection and combination.
    """
    height, width = cube.shape[2:]
    here = Window(cube, plan, max(0, y - HALO), min(height, y + HALO + 1))
    rows = here.bottom - here.top
    place = (y - here.top) * width + x
    workspace = Workspace(len(cube), width, rows, rows * width)
    found, _, _, model, gate = here.stack(_common_light(cube), (0, rows), workspace)
    final = [(float(found["value"][c, place]), float(np.sqrt(found["variance"][c, place]))) for c in range(3)]
    flat = np.array([place])
    if not gate.reshape(-1)[place] > 0:
        return plan, [Strip(samples[:, None]) for samples in here.at(flat)], final
    return _slope(plan), here.slope_strips(model, gate, flat), final


def _source(cube: Cube) -> MosaicSource:
    assert isinstance(cube.source, MosaicSource)  # every cube with patterns is one of mosaics
    return cube.source


def _common_light(cube: Cube) -> NDArray[np.float64]:
    frame = cube.frames.used[cube.reference]
    return cfa_sky.common_light(
        list(_source(cube).matrices), cube.patterns[0], cube.shape[2:], (frame.height, frame.width)
    )


def integrate_own_pixels(cube: Cube, plan: Plan, context: Context) -> Image:
    """Return the stack of a cube of own pixels with all its maps."""
    count, _, height, width = cube.shape
    need = 3 * height * width * PIXEL_BYTES
    in_memory = need <= context.memory_budget // 2
    outputs = Outputs((3, height, width), None if in_memory else context.scratch)
    block = block_rows(cube)
    rows, lanes = _division(cube, block, context.memory_budget - (need if in_memory else 0), context.workers)
    common = _common_light(cube)
    sums = dict.fromkeys(("coverage", "reject_low", "reject_high", "flags"), 0.0)
    lock = Lock()
    spare: list[Workspace] = []

    def strip(y0: int) -> NDArray[np.int64]:
        y1 = min(y0 + rows, height)
        top, bottom = max(0, y0 - HALO), min(height, y1 + HALO)
        with lock:
            workspace = spare.pop() if spare else Workspace(count, width, block, (rows + 2 * HALO) * width)
        here = Window(cube, plan, top, bottom, max(1, context.workers // lanes))
        found, full, rejected, *_ = here.stack(common, (y0 - top, y1 - top), workspace, context.check_stop)
        with lock:
            for c in range(3):
                for name, flat in maps(Integrated(**_colour(found, c), rejected=rejected[c]), full[c]).items():
                    kept = flat[(y0 - top) * width : (y1 - top) * width].reshape(-1, width)
                    outputs.put(name, c, y0, kept)
                    if name in sums:
                        sums[name] += float(kept.sum(dtype=np.int64))
            spare.append(workspace)
        return rejected

    try:
        rejected = context.map(strip, range(0, height, rows), f"stacking {count} frames", lanes)
        planes = outputs.finish()
    except BaseException:
        outputs.discard()
        raise
    tell_result(cube, plan, np.sum(rejected, axis=0).T, sums, context)
    return Image(planes.pop("data"), header=stack_header(cube, plan.normalisation)).replace(**planes)


def block_rows(cube: Cube) -> int:
    """Return how many rows to gather at a time: more where frames are turned, whose rows run across many of ours."""
    count, _, height, width = cube.shape
    across = (
        float(np.mean(np.abs(_source(cube).matrices[:, 1, 0]))) * width
    )  # rows of a frame that one row of the grid crosses
    return int(min(max(BLOCK_ROWS, min(across / 2, BLOCK_BYTES // (12 * count * width))), height))


def _division(cube: Cube, block: int, budget: int, workers: int) -> tuple[int, int]:
    """Return the rows of a strip and how many strips are worked on at a time."""
    count, _, height, width = cube.shape
    fixed, line = 12 * width * count * block + PLACING * PIECE_BYTES, 3 * width * RESULT_BYTES
    for lanes in range(workers, 0, -1):
        rows = (budget // lanes - fixed) // line - 2 * HALO
        if rows >= FEWEST_ROWS or lanes == 1:
            break
    rows = min(max(rows, FEWEST_ROWS), TALLEST_ROWS, height)
    turns = -(-height // (rows * lanes))  # all threads end together
    return -(-height // (turns * lanes)), lanes
