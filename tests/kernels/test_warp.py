"""Warping keeps light in its place, holes small and the dark rings away."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from astrobench.kernels.warp import PHASES, TAPS, warp

SHAPE = (90, 70)


def wave(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 100 + 50 * np.sin(x / 9) * np.cos(y / 7)


def turn(degrees: float, dx: float = 0.3, dy: float = 0.7, tilt: float = 0.0) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    across, down = 35 - 35 * c + 45 * s + dx, 45 - 35 * s - 45 * c + dy
    return np.array([[c, -s, across], [s, c, down], [tilt, tilt / 2, 1]])


def source_places(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    u = (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w
    return u, (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w


def planes_of(count: int = 2) -> NDArray[np.float32]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    return np.stack([(k + 1) * wave(x, y) for k in range(count)]).astype(np.float32)


# largest error inside of a wave of amplitude 50 and 44 px length: measured, with half as much again
TOLERANCE = {"lanczos3": 0.21, "bicubic": 0.01, "bilinear": 0.31, "nearest": 5.4}


@pytest.mark.parametrize("kernel", TAPS)
@pytest.mark.parametrize("degrees", [0.0, 0.4, 7.0, 69.5, 180.0])
@pytest.mark.parametrize("tilt", [0.0, 2e-4])
def test_a_wave_arrives_where_the_matrix_says(kernel: str, degrees: float, tilt: float) -> None:
    matrix = turn(degrees, tilt=tilt)
    u, v = source_places(matrix)
    result = warp(planes_of(), matrix, SHAPE, kernel)
    covered = (u >= -0.5) & (v >= -0.5) & (u < SHAPE[1] - 0.5) & (v < SHAPE[0] - 0.5)
    assert np.array_equal(np.isfinite(result[0]), covered)
    inner = (u > 3) & (v > 3) & (u < SHAPE[1] - 4) & (v < SHAPE[0] - 4)
    assert np.abs(result[0] - wave(u, v))[inner].max() < TOLERANCE[kernel]
    assert np.allclose(result[1][covered], 2 * result[0][covered], rtol=1e-5)


def weights(kernel: str, fraction: float) -> NDArray[np.float64]:
    half = TAPS[kernel] // 2
    d = np.abs(np.arange(-half + 1, half + 1) - fraction)
    if kernel == "lanczos3":
        w = np.sinc(d) * np.sinc(d / 3)
    elif kernel == "bicubic":
        w = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)
    else:
        w = 1 - d
    return w / w.sum()


@pytest.mark.parametrize("kernel", ["lanczos3", "bicubic", "bilinear"])
@pytest.mark.parametrize("degrees", [0.0, 0.4, 30.0])
def test_each_sample_is_the_weighted_sum_of_its_neighbours(kernel: str, degrees: float) -> None:
    planes = np.random.default_rng(1).normal(1000, 50, (1, *SHAPE)).astype(np.float32)
    matrix = turn(degrees)
    result = warp(planes, matrix, SHAPE, kernel, clamp=False)
    u, v = source_places(matrix)
    half = TAPS[kernel] // 2
    for y, x in np.random.default_rng(2).integers(25, 55, (40, 2)):
        i, j = int(np.floor(u[y, x])), int(np.floor(v[y, x]))
        across = weights(kernel, np.floor((u[y, x] - i) * PHASES + 0.5) / PHASES)
        down = weights(kernel, np.floor((v[y, x] - j) * PHASES + 0.5) / PHASES)
        patch = planes[0, j - half + 1 : j + half + 1, i - half + 1 : i + half + 1].astype(float)
        assert result[0, y, x] == pytest.approx(down @ patch @ across, abs=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-180, 180), st.sampled_from(sorted(TAPS)), st.booleans(),
    st.lists(st.integers(0, SHAPE[0]), max_size=3), st.floats(-1e-3, 1e-3),
)  # fmt: skip
def test_any_division_of_rows_gives_the_same_bits(
    degrees: float, kernel: str, clamp: bool, cuts: list[int], tilt: float
) -> None:
    planes = np.random.default_rng(3).normal(1000, 50, (2, *SHAPE)).astype(np.float32)
    planes[0, 30:33, 20] = np.nan
    matrix = turn(degrees, tilt=tilt)
    whole = warp(planes, matrix, SHAPE, kernel, clamp)
    parts = np.zeros_like(whole)
    edges = [0, *sorted(cuts), SHAPE[0]]
    for rows in pairwise(edges):
        warp(planes, matrix, SHAPE, kernel, clamp, rows=rows, out=parts)
    assert np.array_equal(whole, parts, equal_nan=True)


@pytest.mark.parametrize("kernel", TAPS)
def test_flat_sky_stays_flat_up_to_the_edges(kernel: str) -> None:
    planes = np.full((1, *SHAPE), 1000.0, np.float32)
    result = warp(planes, turn(3.0), SHAPE, kernel)
    assert np.nanmax(np.abs(result - 1000)) < 1e-3


def test_identity_returns_the_input() -> None:
    planes = np.random.default_rng(4).normal(1000, 50, (3, *SHAPE)).astype(np.float32)
    for kernel in TAPS:
        assert np.allclose(warp(planes, np.eye(3), SHAPE, kernel), planes, rtol=1e-6)


@pytest.mark.parametrize("kernel", ["lanczos3", "bicubic"])
def test_no_dark_ring_beside_a_clipped_star_with_clamping(kernel: str) -> None:
    planes = np.full((1, *SHAPE), 300.0, np.float32)
    planes[0, 40:45, 30:35] = 60000
    assert warp(planes, turn(1.3), SHAPE, kernel, clamp=False)[0, 20:70, 15:55].min() < -1000
    assert warp(planes, turn(1.3), SHAPE, kernel)[0, 20:70, 15:55].min() > 299.9


def test_clamping_hardly_lowers_an_undersampled_star() -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    star = 1000 + 5000 * np.exp(-((x - 35.3) ** 2 + (y - 45.4) ** 2) * 4 * np.log(2) / 2.2**2)
    planes = star[None].astype(np.float32)
    free, limited = warp(planes, turn(0.0), SHAPE, clamp=False), warp(planes, turn(0.0), SHAPE)
    assert np.nanmax(limited) == pytest.approx(np.nanmax(free), rel=0.01)


@pytest.mark.parametrize("kernel", TAPS)
@pytest.mark.parametrize("degrees", [0.2, 40.0])
def test_a_missing_pixel_costs_about_one_pixel_and_not_the_kernel(kernel: str, degrees: float) -> None:
    planes = np.full((2, *SHAPE), 1000.0, np.float32)
    planes[0, 45, 35] = np.nan
    result = warp(planes, turn(degrees), SHAPE, kernel)
    missing = np.isnan(result[0]) & np.isfinite(result[1])
    assert missing.sum() <= 2
    assert np.nanmax(np.abs(result[0] - 1000)) < 1e-3


def test_a_frame_that_does_not_overlap_is_missing_everywhere() -> None:
    assert np.isnan(warp(planes_of(), turn(0, dx=500), SHAPE)).all()
    assert np.isnan(warp(planes_of(), np.diag([1.0, 1.0, -1.0]), SHAPE)).all()


def test_wrong_arrays_are_refused() -> None:
    planes = planes_of()
    with pytest.raises(ValueError, match="kernel"):
        warp(planes, np.eye(3), SHAPE, "spline")
    with pytest.raises(ValueError, match="float32"):
        warp(planes.astype(np.float64), np.eye(3), SHAPE)
    with pytest.raises(ValueError, match="3 x 3"):
        warp(planes, np.eye(2), SHAPE)
    with pytest.raises(ValueError, match="rows"):
        warp(planes, np.eye(3), SHAPE, rows=(0, 91))
    with pytest.raises(ValueError, match="C-contiguous"):
        warp(planes, np.eye(3), SHAPE, out=np.empty((2, *SHAPE)))
