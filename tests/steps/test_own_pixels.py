"""Colours stacked from their own pixels: the same bits however the work is cut, and an account that agrees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.cube_mosaics import Mosaics, MosaicSource
from astrobench.explain import EVENED, SHARED, explain
from astrobench.frame import Frame
from astrobench.frames import Frames
from astrobench.kernels import cfa
from astrobench.steps import _own_pixels
from astrobench.steps.stack import Stack, stacking_plan

SHAPE, SKY, SIGMA = (200, 120), 1000.0, 30.0
FULL = 60000.0


def turned(degrees: float, dx: float, dy: float) -> NDArray[np.float64]:
    """Return a matrix from frame to grid that turns about the centre and shifts."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
    return np.array([[c, -s, x - c * x + s * y + dx], [s, c, y - s * x - c * y + dy], [0, 0, 1]])


class InMemory:
    """What `MosaicSource` asks of a stored file."""

    def __init__(self, samples: NDArray[np.float32]) -> None:
        self.flat = samples.reshape(-1)

    def read(self, into: NDArray[np.float32], offset: int) -> None:
        first = offset // into.itemsize
        into.reshape(-1)[:] = self.flat[first : first + into.size]


def night(count: int, seed: int, turn: float = 1.0, margin: int = 0, full: bool = False, tilt: float = 0.0) -> Cube:
    """Return a cube of own pixels: stars on a sky, frames turned and shifted, a cosmic ray in each."""
    rng = np.random.default_rng(seed)
    stars = rng.uniform((8, 8), (SHAPE[1] - 8, SHAPE[0] - 8), (25, 2))
    light = 10 ** rng.uniform(2.5, 4.3, (25, 1)) * rng.uniform(0.5, 1.5, (25, 3))
    if full:
        stars[0], light[0] = (60.0, 100.0), (2e7, 2e4, 2e4)  # red alone is full
    colours = np.tile(np.array([[1, 0], [2, 1]]), (SHAPE[0] // 2, SHAPE[1] // 2))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    grid = (SHAPE[0] + 2 * margin, SHAPE[1] + 2 * margin)
    samples, matrices = np.empty((count, 3, *grid), np.float32), np.empty((count, 3, 3))
    mosaics = np.empty((count, *SHAPE), np.float32)
    moved = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1.0]])
    for k in range(count):
        matrix = turned(turn * (k - count / 2), *rng.uniform(-6, 6, 2))
        matrix[2, :2] = tilt * (k - count / 2)
        u, v, w = (matrix[r, 0] * x + matrix[r, 1] * y + matrix[r, 2] for r in range(3))
        u, v = u / w, v / w
        raw = rng.normal(SKY, SIGMA, SHAPE)
        for (a, b), flux in zip(stars, light, strict=True):
            raw += flux[colours] * np.exp(-((u - a) ** 2 + (v - b) ** 2) / 3.4) / 10.7
        raw[tuple(rng.integers(20, 100, 2))] += 3000
        matrices[k] = moved @ matrix
        mosaics[k] = np.clip(raw, 0, FULL)
        samples[k] = cfa.gather(mosaics[k], "GRBG", np.linalg.inv(matrices[k]), grid)
    frames = tuple(
        Frame(path=Path(f"{k}.fits"), kind="light", width=SHAPE[1], height=SHAPE[0], bayer="GRBG") for k in range(count)
    )
    cube, size = Cube.from_array(samples), mosaics[0].nbytes
    layout = Mosaics(
        np.arange(count + 1) * size, np.tile(SHAPE, (count, 1)), mosaics.dtype, np.empty(0, int), np.zeros(count, int)
    )
    patterns = ("GRBG",) * count
    return replace(
        cube, source=MosaicSource(InMemory(mosaics), layout, patterns, matrices, grid[1]), frames=Frames(frames),
        transforms=matrices, patterns=patterns, saturation=np.full(count, FULL if full else np.inf),
    )  # fmt: skip


MAPS = ("data", "variance", "coverage", "weight", "reject_low", "reject_high", "flags")


@pytest.mark.parametrize("count", [8, 20])
def test_strips_of_any_height_and_any_number_of_workers_give_the_same_bits(count, monkeypatch):
    cube = night(count, 1)
    whole = Context(workers=1, memory_budget=2 << 30)
    expected = Stack().apply(cube, whole)
    monkeypatch.setattr(_own_pixels, "FEWEST_ROWS", 16)
    for workers, budget in ((1, 48 << 20), (2, 4 << 20), (3, 6 << 20)):
        context = Context(workers=workers, memory_budget=budget)
        image = Stack().apply(cube, context)
        for name in MAPS:
            np.testing.assert_array_equal(getattr(image, name), getattr(expected, name), err_msg=name)
        shares = [each.report.find("rejected per frame")[0].numbers["share"] for each in (context, whole)]
        np.testing.assert_array_equal(*shares)


def test_the_account_of_a_pixel_is_that_of_the_stack():
    cube = night(16, 2)
    image = Stack().apply(cube, Context(workers=1))
    notes = set()
    y0, x0 = np.unravel_index(np.argmax(image.data[1, 20:-20, 20:-20]), (SHAPE[0] - 40, SHAPE[1] - 40))
    for y in range(y0 + 10, y0 + 31, 3):  # from the sky over a star to the sky
        for x in range(x0 + 14, x0 + 27):
            account = explain(cube, x, y)
            notes.add(account.note)
            assert [channel.stack for channel in account.channels] == list(image.data[:, y, x])
            sigma = [channel.stack_sigma for channel in account.channels]
            np.testing.assert_allclose(sigma, np.sqrt(image.variance[:, y, x]), rtol=1e-6)
            assert [channel.high for channel in account.channels] == list(image.reject_high[:, y, x])
    assert notes == {SHARED, EVENED}


def test_uncovered_corners_of_a_union_stay_empty_and_edges_count_what_reaches_them():
    cube = night(16, 3, turn=3.0, margin=30)
    image = Stack().apply(cube, Context(workers=1))
    reached = np.stack([np.isfinite(cube.strip(c, 0, cube.shape[2]).samples).sum(axis=0) for c in range(3)])
    np.testing.assert_array_equal(image.coverage, reached)
    np.testing.assert_array_equal(np.isnan(image.data), reached == 0)
    assert (reached == 0).any()
    assert ((reached > 0) & (reached < 16)).any()
    assert np.isfinite(image.variance[reached > 1]).all()


def test_one_full_colour_is_marked_and_the_others_are_not():
    image = Stack().apply(night(16, 4, full=True), Context(workers=1))
    assert image.flags[0, 100, 60] > 0
    assert image.data[0, 100, 60] > 0.9 * FULL
    assert not image.flags[1:].any()


def test_a_stars_light_is_not_said_to_differ_because_samples_lie_beside_their_pixels():
    cube = night(20, 5)
    model = stacking_plan(cube, Stack(), Context()).model
    assert model.share.max() < 0.06
    plain = Stack(rejection="none").apply(cube, Context(workers=1))
    few = Stack().apply(cube, Context(workers=1))
    bright = plain.data[1] > SKY + 20 * SIGMA
    assert np.median(few.data[1][bright] / plain.data[1][bright]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("tilt", [0.0, 2e-6])
def test_stars_come_out_as_the_sky_gave_them(tilt):
    image = Stack().apply(night(20, 6, tilt=tilt), Context(workers=1))
    rng = np.random.default_rng(6)
    stars = rng.uniform((8, 8), (SHAPE[1] - 8, SHAPE[0] - 8), (25, 2))
    light = 10 ** rng.uniform(2.5, 4.3, (25, 1)) * rng.uniform(0.5, 1.5, (25, 3))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    truth = np.zeros((3, *SHAPE))
    for (a, b), flux in zip(stars, light, strict=True):
        truth += flux[:, None, None] * np.exp(-((x - a) ** 2 + (y - b) ** 2) / 3.4) / 10.7
    bright = truth > 0.3 * truth.max(axis=(1, 2), keepdims=True)
    inside = np.zeros(SHAPE, bool)
    inside[20:-20, 20:-20] = True
    for c in range(3):
        some = bright[c] & inside
        line = np.polyfit(truth[c, some], image.data[c, some], 1)
        left = image.data[c, some] - np.polyval(line, truth[c, some])
        assert some.sum() > 10
        assert np.sqrt(np.mean(left**2)) < 0.03 * line[0] * truth[c].max()
