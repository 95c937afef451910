"""What is known of the noise of a pixel by its light: on the sky, above it and below it."""

import numpy as np
import pytest

from astrobench.kernels.integrate import integrate_samples
from astrobench.kernels.known_noise import DARKEST, mean_variance
from astrobench.kernels.photon_transfer import sky_excess

FRAMES, GAIN, READ = 20, 0.5, 3.0  # e-/ADU, ADU


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def variance_of(light):
    return light / GAIN + READ**2


def frames_of(light, rng):
    """Grids of frames of one sky with a nebula, (FRAMES, *light.shape)."""
    noise = np.sqrt(variance_of(light)) * rng.standard_normal((FRAMES, *light.shape))
    return (light + noise).astype(np.float32)


@pytest.mark.parametrize("gradient", [0.0, 60.0])
def test_the_noise_of_the_sky_is_not_that_of_the_nebula(rng, gradient):
    light = np.full((96, 128), 200.0)
    light[:, 72:] += np.linspace(50, 800, 56)
    grid = frames_of(light, rng)
    y, x = np.mgrid[:96, :128] / 128 - 0.5
    # what is left of a changing gradient is no noise
    grid += (gradient * rng.uniform(-1, 1, (FRAMES, 1, 1)) * (x + y * y)).astype(np.float32)
    measured = np.full(FRAMES, 1.3 * variance_of(200.0))
    excess = sky_excess(grid, np.ones(FRAMES), np.zeros(FRAMES), measured, 200.0)
    assert excess * measured[0] == pytest.approx(variance_of(200.0), rel=0.01)


def test_the_noise_of_the_sky_allows_for_scaled_and_missing_frames(rng):
    grid = 2 * frames_of(np.full((80, 80), 200.0), rng)
    grid[3] = np.nan
    grid[:, :20] = np.nan
    measured = np.where(np.arange(FRAMES) == 3, np.nan, variance_of(200.0))
    excess = sky_excess(grid, np.full(FRAMES, 0.5), np.zeros(FRAMES), measured, 200.0)
    assert excess == pytest.approx(1, rel=0.015)


def test_without_common_points_the_noise_stays_as_measured(rng):
    grid = frames_of(np.full((40, 40), 200.0), rng)
    grid[0, :20], grid[1, 20:] = np.nan, np.nan
    assert sky_excess(grid, np.ones(FRAMES), np.zeros(FRAMES), np.full(FRAMES, 50.0), 200.0) == 1.0


@pytest.mark.parametrize("light", [150.0, 200.0, 260.0])
@pytest.mark.parametrize("rule", ["none", "sigma"])
def test_stated_variance_has_no_bias_below_or_above_the_sky(rng, light, rule):
    samples = (light + np.sqrt(variance_of(light)) * rng.standard_normal((FRAMES, 40_000))).astype(np.float32)
    found = integrate_samples(samples, rule=rule, low=3.0, high=3.0)
    each = np.ones(FRAMES)
    mean_variance(
        samples, found, swapped=False, gain=each, offset=0 * each, weight=each, floor=variance_of(200.0) * each,
        slope=each / GAIN, share=0.0, sky=200.0,
    )  # fmt: skip
    kept = found.coverage.astype(float) - found.low - found.high
    assert np.mean(found.variance * kept) == pytest.approx(variance_of(light), rel=2e-3)


def test_a_dark_defect_keeps_some_variance():
    samples = np.zeros((FRAMES, 4), np.float32)
    found = integrate_samples(samples, rule="none")
    each = np.ones(FRAMES)
    mean_variance(
        samples, found, swapped=False, gain=each, offset=0 * each, weight=each, floor=400 * each, slope=2 * each,
        share=0.1, sky=1000.0,
    )  # fmt: skip
    assert found.variance == pytest.approx(DARKEST * 400 / FRAMES)
