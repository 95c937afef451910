"""What is known of the variance of a pixel: its noise by its light, and where its samples happened to fall."""

import numpy as np
import pytest

from astrobench.kernels.integrate import integrate_samples
from astrobench.kernels.known_noise import DARKEST, mean_variance
from astrobench.kernels.photon_transfer import sky_excess
from astrobench.kernels.place_scatter import place_scatter

FRAMES, GAIN, READ = 20, 0.5, 3.0  # e-/ADU, ADU
SIDE = 11


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


def placed_means(light, frames, colour, rng):
    """Weighted means of many dithers of a light seen at random places of the cell of a colour."""
    x, y = rng.uniform(-1, 1, (2, 20_000, frames))
    if colour == 1:
        x, y = (x + y) / 2, (x - y) / 2
    part = [np.clip((0.8 - np.abs(each)) / 0.6, 0, 1) for each in (x, y)]
    share = np.maximum(part[0] * part[1], 1e-3)
    return (share * light(x, y)).sum(axis=1) / share.sum(axis=1)


LIGHTS = {
    "slope": lambda x, y: 50 * x - 20 * y,
    "peak": lambda x, y: 900 * np.exp(-(x**2 + y**2) / 4.2),
    "flank": lambda x, y: 900 * np.exp(-((x + 2) ** 2 + (y - 0.5) ** 2) / 4.2),
}


@pytest.mark.parametrize("name", LIGHTS)
@pytest.mark.parametrize("colour", [0, 1, 2])
@pytest.mark.parametrize("frames", [15, 40])
def test_place_scatter_is_that_of_many_dithers(rng, name, colour, frames):
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    model = np.stack([LIGHTS[name](x, y).astype(np.float32)] * 3)
    found = scatter(np.ones((frames, 3, 1), np.float32), model)
    assert found[colour, 0] == pytest.approx(placed_means(LIGHTS[name], frames, colour, rng).var(), rel=0.1)


def scatter(samples, model, gate=1.0):
    count, pixel = len(samples), np.array([SIDE * (SIDE // 2) + SIDE // 2])
    gates = np.full((SIDE, SIDE), gate, np.float32)
    return place_scatter(
        samples, pixel, ["GRBG"] * count, [np.eye(3)] * count, model, gates, np.ones((count, 3))
    )


def test_flat_light_and_missing_light_have_no_place_scatter():
    flat = np.full((3, SIDE, SIDE), 7.0, np.float32)
    some = np.ones((9, 3, 1), np.float32)
    assert (scatter(some, flat) == 0).all()
    sloped = flat + np.arange(SIDE, dtype=np.float32)
    assert (scatter(some, sloped) > 0).all()
    assert (scatter(some * np.nan, sloped) == 0).all()
    sloped[:, SIDE // 2 + 2, SIDE // 2] = np.nan
    assert (scatter(some, sloped) == 0).all()


def test_fewer_frames_scatter_more():
    sloped = np.tile(np.arange(SIDE, dtype=np.float32), (3, SIDE, 1))
    samples = np.ones((30, 3, 1), np.float32)
    many = scatter(samples, sloped)
    samples[10:, 0] = np.nan
    few = scatter(samples, sloped)
    assert few[0] > 2.5 * many[0]
    assert few[1:] == pytest.approx(many[1:])
