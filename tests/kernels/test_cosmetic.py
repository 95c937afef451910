"""Faulty pixels are found in a light frame and stars are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from astrobench.kernels.cosmetic import find_bad_pixels, repair

SIGMA = 20.0
COLOUR = np.array([[1, 0], [2, 1]])  # GRBG


def sky(seed: int, shape: tuple[int, int] = (240, 320)) -> NDArray[np.float64]:
    level = np.array([800.0, 1000.0, 700.0])[COLOUR]
    flat = np.tile(level, (shape[0] // 2, shape[1] // 2))
    return flat + np.random.default_rng(seed).normal(0, SIGMA, shape)


def add_star(
    frame: NDArray[np.float64], x: float, y: float, peaks: tuple[float, float, float], fwhm: float
) -> None:
    j, i = np.mgrid[: frame.shape[0], : frame.shape[1]]
    profile = np.exp(-((i - x) ** 2 + (j - y) ** 2) * 4 * np.log(2) / fwhm**2)
    frame += profile * np.asarray(peaks)[COLOUR[j % 2, i % 2]]


def integers(frame: NDArray[np.float64]) -> NDArray[np.uint16]:
    return np.clip(frame + 0.5, 0, 65535).astype(np.uint16)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (1.6, 1.0, 0.4), (0.4, 1.0, 1.6), (0.4, 1.0, 0.4)])
@pytest.mark.parametrize("peak", [300.0, 1000.0, 20000.0])
def test_stars_of_fwhm_1_8_px_are_kept(peak: float, colour: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(3)
    frame = sky(4)
    for y in range(15, 230, 16):
        for x in range(15, 310, 16):
            dx, dy = rng.uniform(-1, 1, 2)
            add_star_near(frame, x + dx, y + dy, tuple(peak * c for c in colour))
    marked = find_bad_pixels(integers(frame))
    assert marked.sum() <= 2  # of 266 stars


def add_star_near(frame: NDArray[np.float64], x: float, y: float, peaks: tuple[float, ...]) -> None:
    top, left = int(y) - 6, int(x) - 6
    top, left = top - top % 2, left - left % 2
    part = frame[top : top + 14, left : left + 14]
    add_star(part, x - left, y - top, (peaks[0], peaks[1], peaks[2]), 1.8)


def test_hot_and_cold_pixels_are_found_and_hardly_a_good_one() -> None:
    rng = np.random.default_rng(5)
    frame = sky(6, (1000, 1000))
    y, x = rng.integers(4, 996, (2, 300))
    frame[y[:200], x[:200]] += rng.uniform(12, 800, 200) * SIGMA
    frame[y[200:], x[200:]] -= rng.uniform(12, 25, 100) * SIGMA
    planted = np.zeros(frame.shape, bool)
    planted[y, x] = True
    for data in (integers(frame), frame.astype(np.float32)):
        marked = find_bad_pixels(data)
        assert marked[planted].mean() > 0.95
        assert (marked & ~planted).sum() <= 2


def test_a_steep_nebula_and_missing_pixels_are_no_fault() -> None:
    frame = sky(7)
    j, i = np.mgrid[:240, :320]
    frame += 20000 * np.exp(-np.hypot(i - 160, j - 120) / 12)
    frame[50:60, 50:60] = np.nan
    assert find_bad_pixels(frame.astype(np.float32))[100:140, 140:180].sum() == 0
    assert not find_bad_pixels(np.full((20, 20), np.nan, np.float32)).any()
    assert not find_bad_pixels(np.full((20, 20), 1000, np.uint16)).any()


def test_repair_takes_good_neighbours_of_the_same_colour() -> None:
    frame = integers(sky(8))
    bad = np.zeros(frame.shape, bool)
    bad[100, 101] = bad[100, 103] = bad[0, 0] = True
    frame[bad] = 60000
    fixed = repair(frame, bad)
    assert fixed.dtype == np.uint16
    assert abs(float(fixed[100, 101]) - 800) < 5 * SIGMA
    assert abs(float(fixed[0, 0]) - 1000) < 5 * SIGMA
    assert np.array_equal(fixed[~bad], frame[~bad])


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="8 x 8"):
        find_bad_pixels(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="bool"):
        repair(np.zeros((8, 8), np.float32), np.zeros((8, 9), bool))
