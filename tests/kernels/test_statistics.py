"""Level, spread and noise of samples: true on Gaussians, deaf to stars, steps and gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrobench.kernels.statistics import clipped_sigma, ikss, median_mad, spatial_noise


def slow_ikss(values):
    """Written as in the definition, float64, no shortcut."""
    x = np.sort(np.asarray(values, float))
    last = np.inf
    while True:
        m = np.median(x)
        mad = np.median(np.abs(x - m))
        if mad == 0:
            return m, 0.0
        u = (x - m) / (9 * mad)
        i = np.abs(u) < 1
        bwmv = len(x) * np.sum((x[i] - m) ** 2 * (1 - u[i] ** 2) ** 4)
        bwmv /= np.sum((1 - u[i] ** 2) * (1 - 5 * u[i] ** 2)) ** 2
        s = np.sqrt(bwmv)
        if np.isfinite(last) and (last - s) / last <= 1e-6:
            return m, 0.991 * s
        last = s
        x = x[(x >= m - 4 * s) & (x < m + 4 * s)]


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(5)


def test_sigma_of_a_gaussian_is_found(rng):
    values = rng.normal(1000, 7, 40_000).astype(np.float32)
    assert clipped_sigma(values) == pytest.approx(7, rel=0.02)
    assert ikss(values).scale == pytest.approx(7, rel=0.02)
    assert median_mad(values).scale == pytest.approx(7, rel=0.03)


def test_bright_outliers_do_not_widen_the_noise(rng):
    values = rng.normal(1000, 7, 40_000)
    values[::20] += rng.exponential(3000, 2000)
    assert clipped_sigma(values) == pytest.approx(7, rel=0.06)


def test_quantised_data_keep_their_noise(rng):
    # A MAD could only be a multiple of the step here: 4 or 0 instead of 5.
    values = np.round(rng.normal(1000, 5, 40_000) / 4) * 4
    assert clipped_sigma(values) == pytest.approx(np.hypot(5, 4 / np.sqrt(12)), rel=0.03)


def test_noise_below_the_step_of_the_data_is_not_zero(rng):
    values = np.round(rng.normal(1000, 0.3, 40_000))
    assert 0.2 < clipped_sigma(values) < 0.6


def test_zeros_of_a_clipping_camera_move_neither_level_nor_noise_much(rng):
    values = np.maximum(rng.normal(155, 100, 40_000), 0)  # 6 % are clipped
    assert median_mad(values).location == pytest.approx(155, abs=2)
    assert clipped_sigma(values) == pytest.approx(100, rel=0.08)


@pytest.mark.parametrize("values", [[], [np.nan] * 5, [np.inf, -np.inf]])
def test_nothing_gives_nan(values):
    assert np.isnan(clipped_sigma(np.array(values)))
    assert np.isnan(median_mad(np.array(values)).location)
    assert np.isnan(ikss(np.array(values)).location)


def test_constant_values_have_no_spread():
    values = np.full(1000, 7.0)
    assert clipped_sigma(values) == 0
    assert ikss(values) == (7.0, 0.0)
    assert median_mad(values) == (7.0, 0.0)


def test_missing_values_count_for_nothing(rng):
    values = rng.normal(0, 1, 999).astype(np.float32)
    holes = np.concatenate([values, np.full(500, np.nan, np.float32), [np.inf]])
    assert ikss(holes) == ikss(values)
    assert median_mad(holes) == median_mad(values)


@given(st.integers(0, 2**32 - 1), st.integers(20, 400), st.floats(0, 0.3))
@settings(max_examples=40, deadline=None)
def test_ikss_agrees_with_its_definition(seed, count, share):
    rng = np.random.default_rng(seed)
    values = rng.normal(300, 20, count)
    values[rng.random(count) < share] += 500
    values = values.astype(np.float32)

    location, scale = ikss(values)

    assert (location, scale) == pytest.approx(slow_ikss(values), rel=2e-5)


def test_noise_of_a_picture_is_blind_to_gradients_and_nebulae(rng):
    y, x = np.mgrid[:200, :300]
    picture = 100 + 0.5 * x + 80 * np.exp(-((x - 150) ** 2 + (y - 90) ** 2) / 800)
    noisy = (picture + rng.normal(0, 5, picture.shape)).astype(np.float32)
    assert spatial_noise(noisy) == pytest.approx(5, rel=0.03)
    noisy[:, :80] = np.nan
    assert spatial_noise(noisy) == pytest.approx(5, rel=0.03)
