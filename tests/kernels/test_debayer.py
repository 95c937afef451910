"""Debayering keeps samples, colours and edges, and reads every order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import convolve

from astrobench.kernels.debayer import RED_AT, check_pattern, debayer, luminance

FULL = ("directional", "bilinear")


def mosaic_of(planes: NDArray[np.float32], pattern: str) -> NDArray[np.float32]:
    mosaic = np.empty(planes.shape[1:], np.float32)
    for k, colour in enumerate(pattern):
        mosaic[k // 2 :: 2, k % 2 :: 2] = planes["RGB".index(colour), k // 2 :: 2, k % 2 :: 2]
    return mosaic


def stars(fwhm: float, shape: tuple[int, int] = (120, 100)) -> NDArray[np.float32]:
    j, i = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(1)
    planes = np.full((3, *shape), 1000.0)
    for y in range(20, shape[0] - 10, 24):
        for x in range(20, shape[1] - 10, 24):
            dx, dy = rng.uniform(-1, 1, 2)
            profile = np.exp(-((i - x - dx) ** 2 + (j - y - dy) ** 2) * 4 * np.log(2) / fwhm**2)
            planes += np.array([1.2, 1.0, 0.8])[:, None, None] * 5000 * profile
    return planes.astype(np.float32)


@pytest.mark.parametrize("pattern", RED_AT)
@pytest.mark.parametrize("method", FULL)
@pytest.mark.parametrize("shape", [(4, 4), (7, 9), (20, 31)])
def test_measured_samples_are_passed_on_unchanged(pattern: str, method: str, shape: tuple[int, int]) -> None:
    raw = np.random.default_rng(2).integers(0, 65535, shape, dtype=np.uint16)
    planes = debayer(raw, pattern, method)
    assert planes.shape == (3, *shape)
    assert planes.dtype == np.float32
    assert np.array_equal(mosaic_of(planes, pattern), raw.astype(np.float32))


@pytest.mark.parametrize("pattern", RED_AT)
@pytest.mark.parametrize("method", FULL)
def test_a_coloured_sky_comes_out_flat_up_to_the_edges(pattern: str, method: str) -> None:
    sky = np.ones((3, 12, 15), np.float32) * np.array([800, 1000, 600], np.float32)[:, None, None]
    assert np.allclose(debayer(mosaic_of(sky, pattern), pattern, method), sky, rtol=1e-6)


@pytest.mark.parametrize("pattern", RED_AT)
def test_bilinear_is_the_textbook_convolution(pattern: str) -> None:
    raw = np.random.default_rng(3).normal(1000, 100, (24, 26)).astype(np.float32)
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    square = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    planes = debayer(raw, pattern, "bilinear")
    for c in range(3):
        own = np.zeros(raw.shape)
        for k, colour in enumerate(pattern):
            if "RGB".index(colour) == c:
                own[k // 2 :: 2, k % 2 :: 2] = raw[k // 2 :: 2, k % 2 :: 2]
        assert np.allclose(planes[c], convolve(own, cross if c == 1 else square, mode="mirror"), atol=1e-2)


@pytest.mark.parametrize("pattern", RED_AT)
def test_superpixel_takes_each_cell_once(pattern: str) -> None:
    raw = np.arange(5 * 7, dtype=np.uint16).reshape(5, 7)
    planes = debayer(raw, pattern, "superpixel")
    cell = {c: [] for c in "RGB"}
    for k, colour in enumerate(pattern):
        cell[colour].append(raw[2 + k // 2, 4 + k % 2])
    assert planes.shape == (3, 2, 3)
    assert planes[:, 1, 2].tolist() == [float(np.mean(cell[c])) for c in "RGB"]


def test_directional_stars_are_much_nearer_the_truth_than_bilinear_ones() -> None:
    truth = stars(2.5)
    raw = mosaic_of(truth, "GRBG")
    error = {m: np.sqrt(((debayer(raw, "GRBG", m) - truth) ** 2).mean(axis=(1, 2))) for m in FULL}
    assert (error["directional"] < 0.6 * error["bilinear"]).all()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(RED_AT)), st.sampled_from(FULL), st.integers(0, 2**32 - 1))
def test_a_mirrored_mosaic_gives_the_mirrored_picture(pattern: str, method: str, seed: int) -> None:
    raw = np.random.default_rng(seed).normal(1000, 50, (10, 12)).astype(np.float32)
    flipped = pattern[2:] + pattern[:2]
    there = debayer(np.ascontiguousarray(raw[::-1]), flipped, method)[:, ::-1]
    assert np.allclose(there, debayer(raw, pattern, method), rtol=1e-4)


@pytest.mark.parametrize("method", FULL)
def test_a_missing_pixel_is_interpolated_and_a_large_hole_stays_missing(method: str) -> None:
    planes = np.ones((3, 40, 40), np.float32) * np.array([800, 1000, 600], np.float32)[:, None, None]
    raw = mosaic_of(planes, "RGGB")
    raw[20, 21] = np.nan
    assert np.allclose(debayer(raw, "RGGB", method), planes, rtol=1e-6)
    raw[10:20, 10:20] = np.nan
    result = debayer(raw, "RGGB", method)
    assert np.isnan(result[:, 14, 15]).all()
    assert np.isfinite(result[:, :8]).all()
    assert np.isfinite(result[:, 22:]).all()


def test_superpixel_uses_the_green_that_is_there() -> None:
    raw = np.full((4, 4), 5.0, np.float32)
    raw[0, 1] = np.nan
    planes = debayer(raw, "RGGB", "superpixel")
    assert planes[1, 0, 0] == 5
    raw[0, 0] = np.nan
    assert np.isnan(debayer(raw, "RGGB", "superpixel")[0, 0, 0])


def test_luminance_is_the_binomial_mean_and_hides_the_mosaic() -> None:
    raw = np.random.default_rng(4).integers(0, 65535, (13, 16), dtype=np.uint16)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted = convolve(raw.astype(float), kernel, mode="mirror")
    assert np.allclose(luminance(raw), wanted, rtol=1e-6)
    assert np.array_equal(luminance(raw), luminance(raw.astype(np.float32)))
    sky = np.tile(np.array([[800, 1000], [1000, 600]], np.uint16), (5, 5))
    assert np.ptp(luminance(sky, "RGGB")) == 0
    assert luminance(sky)[3, 3] == 850


def noisy_sky(pattern: str, levels: tuple[float, float, float], seed: int = 5) -> NDArray[np.uint16]:
    planes = np.ones((3, 320, 256)) * np.array(levels)[:, None, None]
    noise = np.random.default_rng(seed).normal(0, 30, (320, 256))
    return (mosaic_of(planes.astype(np.float32), pattern) + noise + 0.5).astype(np.uint16)


@pytest.mark.parametrize("pattern", RED_AT)
def test_the_declared_order_is_confirmed_or_contradicted(pattern: str) -> None:
    raw = noisy_sky(pattern, (840, 1000, 790))
    flipped = pattern[2:] + pattern[:2]
    assert check_pattern(raw, pattern)[:2] == (True, pattern)
    assert check_pattern(raw, flipped)[:2] == (False, pattern)
    assert check_pattern(raw, pattern)[2]["decided"] == 1


def test_a_grey_sky_contradicts_no_order() -> None:
    for pattern in RED_AT:
        agrees, best, figures = check_pattern(noisy_sky("RGGB", (900, 900, 900)), pattern)
        assert agrees
        assert best == pattern
        assert figures["decided"] == 0
    assert check_pattern(np.zeros((8, 8), np.uint16), "RGGB")[0]
    assert check_pattern(np.full((128, 128), np.nan, np.float32), "RGGB")[0]


def test_wrong_input_is_refused() -> None:
    raw = np.zeros((8, 8), np.float32)
    with pytest.raises(ValueError, match="pattern"):
        debayer(raw, "RGBG")
    with pytest.raises(ValueError, match="method"):
        debayer(raw, "RGGB", "vng")
    with pytest.raises(ValueError, match="two axes"):
        debayer(np.zeros((3, 8, 8), np.float32), "RGGB")
    with pytest.raises(ValueError, match="pattern"):
        luminance(raw, "nonsense")
