"""Gain and offset of frames: the right light, whatever clouds, gradients, gaps and trails do."""

import numpy as np
import pytest

from astrobench.kernels.brightness import scales_from_stars, scales_from_structure, stamp_fluxes
from astrobench.kernels.normalise import affine, grid_noise, locations
from astrobench.kernels.photon_transfer import noise_growth


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "additive+scaling", "multiplicative+scaling"])
def test_every_normalisation_puts_the_sky_on_that_of_the_reference(kind):
    location, scale = np.array([900.0, 1000.0, 1300.0]), np.array([0.8, 1.0, 1.1])
    gain, offset = affine(kind, location, scale, 1)
    assert gain * location + offset == pytest.approx([1000] * 3)
    assert (gain[1], offset[1]) == (1.0, 0.0)


def test_scaling_brings_stars_to_one_brightness():
    gain, _ = affine("additive+scaling", np.array([100.0, 50.0]), np.array([1.0, 0.5]), 0)
    assert gain == pytest.approx([1, 2])


def test_a_scale_of_zero_leaves_the_frame_as_it_is():
    gain, offset = affine("additive+scaling", np.array([100.0, 50.0]), np.array([1.0, 0.0]), 0)
    assert (gain[1], offset[1]) == (1.0, 50.0)


def test_levels_are_measured_over_the_common_area(rng):
    sky = np.linspace(0, 200, 60 * 60).reshape(60, 60)
    grid = (sky + rng.normal(0, 1, (4, 60, 60)) + np.arange(4)[:, None, None] * 10).astype(np.float32)
    grid[2, :25] = np.nan  # the dark side is missing in one frame
    location, common = locations(grid, np.ones(4))
    assert common
    assert np.diff(location) == pytest.approx([10] * 3, abs=0.3)


def test_levels_of_a_chain_of_overlaps_follow_from_the_overlaps(rng):
    sky = np.tile(np.linspace(0, 500, 100), (40, 1))
    grid = np.full((5, 40, 100), np.nan, np.float32)
    for k in range(5):
        x0 = 15 * k
        grid[k, :, x0 : x0 + 40] = (sky + 7 * k + rng.normal(0, 1, sky.shape))[:, x0 : x0 + 40]
    location, common = locations(grid, np.ones(5))
    assert not common
    assert np.diff(location) == pytest.approx([7] * 4, abs=0.7)


def test_a_frame_without_data_has_no_level():
    grid = np.full((2, 4, 4), 5, np.float32)
    grid[1] = np.nan
    location, _ = locations(grid, np.ones(2))
    assert location[0] == 5
    assert np.isnan(location[1])


def test_noise_of_each_frame_is_told_apart_behind_structure(rng):
    truth = np.array([5.0, 10.0, 20.0, 5.0, 8.0, 12.0])
    scene = rng.normal(1000, 300, (80, 80))
    scene[10:20, 10:20] += 5000
    grid = np.stack([scene + rng.normal(0, s, scene.shape) for s in truth]).astype(np.float32)
    assert grid_noise(grid, np.ones(6), np.zeros(6)) == pytest.approx(truth, rel=0.12)


def test_noise_of_two_frames_is_shared(rng):
    grid = rng.normal(0, [[[3.0]], [[4.0]]], (2, 100, 100)).astype(np.float32)
    assert grid_noise(grid, np.ones(2), np.zeros(2)) == pytest.approx(np.full(2, np.sqrt(12.5)), rel=0.03)


def stars(rng, frames, count=30):
    scale = rng.uniform(0.5, 1.1, frames)
    flux = rng.pareto(1.0, count) * 1000 + 2000
    return (
        scale,
        flux,
        scale[:, None] * flux + rng.normal(0, 50, (frames, count)),
        np.full((frames, count), 50.0),
    )


def test_stars_give_the_scale_within_its_error(rng):
    scale, _, flux, error = stars(rng, 20)
    found = scales_from_stars(flux, error, 10)
    ratio = found.scale / scale
    assert np.std(ratio / ratio.mean()) < 0.006
    assert (found.used >= 10).all()


def test_trails_across_stars_do_not_move_the_scale(rng):
    scale, _, flux, error = stars(rng, 20)
    flux[rng.random(flux.shape) < 0.15] *= 3
    found = scales_from_stars(flux, error, 10)
    ratio = found.scale / scale
    assert np.std(ratio / ratio.mean()) < 0.01


def test_too_few_stars_give_no_scale(rng):
    _, _, flux, error = stars(rng, 5, count=8)
    assert np.isnan(scales_from_stars(flux, error, 10).scale).all()
    flux, error = np.tile(flux, 3), np.tile(error, 3)
    flux[2, 5:] = np.nan
    found = scales_from_stars(flux, error, 10)
    assert np.isnan(found.scale[2])
    assert np.isfinite(found.scale[[0, 1, 3, 4]]).all()


def test_structure_gives_the_scale_under_a_changing_gradient(rng):
    scale = np.array([1.0, 0.6, 0.9, 1.1, 0.75])
    structure = rng.exponential(100, (96, 96))
    ramp = np.linspace(-200, 200, 96)
    grid = np.stack(
        [s * structure + k * ramp + rng.normal(0, 10, structure.shape) for k, s in enumerate(scale)]
    ).astype(np.float32)
    location, _ = locations(grid, np.ones(5))
    found = scales_from_structure(grid, location)
    ratio = found.scale / scale
    assert np.std(ratio / ratio.mean()) < 0.02
    assert (found.error < 0.05).all()


def test_pure_noise_claims_no_scale(rng):
    grid = rng.normal(0, 10, (5, 96, 96)).astype(np.float32)
    assert (scales_from_structure(grid, np.zeros(5)).error > 0.03).all()


def test_light_in_an_aperture_is_counted_above_the_sky_and_filled_where_data_miss():
    y, x = np.mgrid[-8:9, -8:9]
    radius = np.hypot(x, y)
    star = np.exp(-(x**2 + y**2) / 5).astype(np.float32)
    stamps = np.stack([500 * star + 100, 500 * star + 100, 500 * star + 100]).astype(np.float32)
    stamps[1, 8, 6:8] = np.nan
    stamps[2, 8, 8] = 900
    out, size = np.empty((3, 2)), np.empty(3)
    stamp_fluxes(
        stamps, np.stack([star] * 3), radius <= 5, (radius > 6) & (radius <= 8), np.float32(800), out, size
    )
    assert out[0] == pytest.approx([500 * star[radius <= 5].sum(), 100], rel=1e-3)
    assert out[1] == pytest.approx(out[0], rel=1e-3)
    assert np.isnan(out[2, 0])


@pytest.mark.parametrize("frames", [3, 10, 30])
def test_gain_of_the_camera_is_found_from_the_scatter(rng, frames):
    level = np.concatenate([np.full(2000, 100.0), 100 + rng.uniform(0, 5000, 3000)])
    variance = level / 2.0 + 9
    samples = rng.normal(level, np.sqrt(variance), (frames, level.size)).astype(np.float32)
    grown = noise_growth(samples, np.ones(frames), np.full(frames, 100 / 2.0 + 9), 100.0)
    assert 1 / grown.slope == pytest.approx(2.0, rel=0.15)
    assert grown.share < 0.01


def test_changing_seeing_is_no_photon_noise(rng):
    level = 100 + rng.uniform(0, 20_000, 5000)
    flicker = 1 + 0.1 * rng.standard_normal((20, 5000))
    samples = 100 + (level - 100) * flicker + rng.normal(0, np.sqrt(level / 2 + 9), (20, 5000))
    grown = noise_growth(samples.astype(np.float32), np.ones(20), np.full(20, 59.0), 100.0, slope=0.5)
    assert grown.share == pytest.approx(0.1, rel=0.1)


def test_without_anything_bright_nothing_is_claimed(rng):
    samples = rng.normal(100, 5, (10, 3000)).astype(np.float32)
    assert np.isinf(noise_growth(samples, np.ones(10), np.full(10, 25.0), 100.0).slope_error)
