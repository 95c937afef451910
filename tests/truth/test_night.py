"""What the simulated night knows, the run must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, median_filter, uniform_filter

from astrobench.recipe import RunResult
from astrobench.simulate import Night

MAD_TO_SIGMA = 1.4826


def order(run: RunResult, night: Night) -> list[int]:
    """Return for each frame of the cube its number in the night."""
    numbers = {path.name: k for k, path in enumerate(night.paths)}
    assert run.cube is not None
    return [numbers[name] for name in run.cube.names]


def truth_to_cube(run: RunResult, night: Night) -> NDArray[np.float64]:
    """Return the matrix from the night's own grid to that of the stack."""
    reference = order(run, night)[run.cube.reference]
    return np.linalg.inv(night.transforms[reference])


def true_scene(run: RunResult, night: Night) -> NDArray[np.float32]:
    """Return the noise-free scene (3, H, W) on the grid of the stack."""
    reference = order(run, night)[run.cube.reference]
    return night.scene(transform=night.transforms[reference])


def test_every_bad_frame_is_set_aside_and_no_good_one(run, night):
    bad = {Path(path).name for path in night.bad}
    aside = {frame.path.name for frame in run.frames if not frame.use}
    assert aside == bad


def test_the_reason_says_what_was_wrong(run, night):
    words = {"cloud": "clouded", "defocused": "out of focus", "trailed": "trailed"}
    for frame in run.frames:
        if not frame.use:
            what = next(reason for path, reason in night.bad.items() if Path(path).name == frame.path.name)
            assert words[what] in frame.reason


def test_transforms_are_recovered_within_a_twentieth_of_a_pixel(run, night):
    y, x = np.meshgrid(np.linspace(0, 1919, 20), np.linspace(0, 1079, 20))
    places = np.column_stack([x.ravel(), y.ravel(), np.ones(x.size)])
    back = truth_to_cube(run, night)
    for k, found in zip(order(run, night), run.cube.transforms, strict=True):
        true = places @ (back @ night.transforms[k]).T
        ours = places @ found.T
        miss = ours[:, :2] / ours[:, 2:] - true[:, :2] / true[:, 2:]
        assert np.sqrt(np.mean(np.sum(miss**2, axis=1))) < 0.05


def planted(run: RunResult, night: Night, margin: int) -> NDArray[np.bool_]:
    """Return the pixels of the stack that something planted may touch, widened by a margin."""
    hit = np.zeros(run.master.shape[1:], bool)
    for k, matrix in zip(order(run, night), run.cube.transforms, strict=True):
        y, x = np.nonzero(night.outliers(k))
        place = matrix @ np.array([x, y, np.ones(len(x))])
        column, row = np.rint(place[:2] / place[2]).astype(int)
        inside = (column >= 0) & (row >= 0) & (column < hit.shape[1]) & (row < hit.shape[0])
        hit[row[inside], column[inside]] = True
    return binary_dilation(hit, iterations=margin)


def plain_sky(run: RunResult, night: Night) -> NDArray[np.bool_]:
    """Return the pixels without star or nebula light to speak of, well inside every frame."""
    scene = true_scene(run, night)
    flat = np.max([each - uniform_filter(each, 15) for each in scene], axis=0)
    dark = (scene[1] < np.percentile(scene[1], 50)) & (binary_dilation(flat > 3, iterations=6) == 0)
    full = run.master.coverage.min(axis=0) == len(run.cube)
    return dark & full


def test_planted_outliers_leave_no_mark(run, night):
    """Pixels hit by something far above the noise are no brighter than their neighbours."""
    sky, hit = plain_sky(run, night), planted(run, night, 1)
    data = run.master.data[1] - median_filter(run.master.data[1], 15)
    noise = MAD_TO_SIGMA * np.nanmedian(np.abs(data[sky & ~hit]))
    marked = data[sky & hit]
    assert len(marked) > 1000
    assert np.mean(marked > 5 * noise) < 1e-3


def test_the_picture_is_the_scene(run, night):
    """The stack follows the noise-free scene channel by channel, up to sky and scale."""
    scene = true_scene(run, night)
    for channel in range(3):
        ours, true = run.master.data[channel, 100:-100, 100:-100], scene[channel, 100:-100, 100:-100]
        block = _blocks(ours - np.nanmedian(ours), 16), _blocks(true - np.median(true), 16)
        good = np.isfinite(block[0])
        assert np.corrcoef(block[0][good], block[1][good])[0, 1] > 0.98


def test_false_rejection_is_what_noise_explains(run, night):
    """On plain sky with nothing planted the rejected share is that of pure noise, within a fifth."""
    clean = plain_sky(run, night) & ~planted(run, night, 3)
    assert clean.sum() > 100_000
    rejected = run.master.reject_low[:, clean].sum() + run.master.reject_high[:, clean].sum()
    share = rejected / run.master.coverage[:, clean].sum()
    numbers = run.report.find("rejected")[0].numbers
    expected = numbers["by_chance_low"] + numbers["by_chance_high"]
    assert 0.8 * expected < share < 1.2 * expected


def _blocks(plane: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    height, width = (n // size * size for n in plane.shape)
    with np.errstate(all="ignore"):
        return plane[:height, :width].reshape(height // size, size, width // size, size).mean(axis=(1, 3))


@pytest.mark.parametrize("name", ["variance", "coverage", "weight", "reject_low", "reject_high"])
def test_every_map_is_there_and_fits(run, name):
    values = getattr(run.master, name)
    assert values.shape == run.master.data.shape
    assert np.isfinite(values[np.isfinite(run.master.data)]).all()
