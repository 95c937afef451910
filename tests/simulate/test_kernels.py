"""The compiled drawing agrees with slow and plain twins."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from astrobench.simulate.optics import MOFFAT_BETA, add_nebula, add_sky, draw_stars
from astrobench.simulate.stars import RESPONSE, colour, temperature
from astrobench.simulate.turbulence import cloud, gradient_noise, permutation, ridges

GRBG = np.array([[1, 0], [2, 1]], np.int64)


def test_a_star_is_a_moffat_of_its_flux_and_colour() -> None:
    image = np.zeros((81, 80), np.float32)
    flux = np.array([[2e5, 1e5, 3e5]])
    draw_stars(image, GRBG, np.array([[40.3, 39.8]]), flux, 3.0, 0.8, 0.6)
    y, x = np.mgrid[:81, :80]
    alpha = 3.0 / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    a = (np.cos(0.6) * (x - 40.3) + np.sin(0.6) * (y - 39.8)) * np.sqrt(0.8) / alpha
    b = (np.cos(0.6) * (y - 39.8) - np.sin(0.6) * (x - 40.3)) / np.sqrt(0.8) / alpha
    surface = (MOFFAT_BETA - 1) / np.pi / alpha**2 * (1 + a**2 + b**2) ** -MOFFAT_BETA
    expected = surface * flux[0][GRBG[y % 2, x % 2]]
    assert np.abs(image - expected).max() < 0.02


def test_a_star_outside_changes_nothing() -> None:
    image = np.zeros((32, 32), np.float32)
    draw_stars(image, GRBG, np.array([[-300.0, 10.0], [10.0, 900.0]]), np.full((2, 3), 1e6), 3.0, 1.0, 0.0)
    assert not image.any()


def test_the_nebula_is_the_b_spline_of_its_coefficients() -> None:
    rng = np.random.default_rng(3)
    coefficients = rng.uniform(0, 100, (3, 40, 40)).astype(np.float32)
    grid = np.array([-6.0, -5.0, 2.0])
    transform = np.array([[0.98, -0.17, 3.0], [0.17, 0.98, -1.0], [0.0, 0.0, 1.0]])
    image = np.zeros((40, 50), np.float32)
    add_nebula(image, GRBG, coefficients, grid, transform)
    y, x = np.mgrid[:40, :50]
    place = np.einsum("ij,jhw->ihw", transform, np.stack([x, y, np.ones_like(x)]).astype(float))
    at = np.stack([(place[1] - grid[1]) / 2.0, (place[0] - grid[0]) / 2.0])
    planes = np.stack([map_coordinates(c, at, order=3, prefilter=False) for c in coefficients.astype(float)])
    expected = np.take_along_axis(planes, GRBG[y % 2, x % 2][None], axis=0)[0]
    inside = np.all((at > 1.01) & (at < 36.99), axis=0)
    assert inside.sum() > 500
    assert np.abs(image - expected)[inside].max() < 1e-3


def test_the_sky_is_a_polynomial_seen_through_the_vignetting() -> None:
    image = np.full((21, 31), 10.0, np.float32)
    sky = np.array([[0.0] * 6, [100.0, 5.0, -7.0, 2.0, 3.0, 4.0], [0.0] * 6])
    add_sky(image, np.ones((2, 2), np.int64), 0.5, sky, 0.2)
    assert image[10, 15] == pytest.approx(105.0)
    assert image[0, 0] == pytest.approx(0.8 * (5 + 100 - 5 + 7 + 2 + 3 + 4))
    assert image[20, 30] == pytest.approx(0.8 * (5 + 100 + 5 - 7 + 2 + 3 + 4))


def test_noise_is_seeded_smooth_and_bounded() -> None:
    perm = permutation(np.random.default_rng(1))
    points = np.random.default_rng(2).uniform(-40, 40, (4000, 2))
    values = np.array([gradient_noise(x, y, perm) for x, y in points])
    near = np.array([gradient_noise(x + 1e-4, y, perm) for x, y in points])
    assert np.abs(values).max() <= 1.5
    assert np.abs(values.mean()) < 0.05
    assert values.std() > 0.2
    assert np.abs(near - values).max() < 1e-3
    assert all(gradient_noise(float(i), float(-i), perm) == 0.0 for i in range(5))
    clouds = np.array([cloud(x, y, perm, 4.0, 0.1, 0.5) for x, y in points])
    threads = np.array([ridges(x, y, perm, 4.0, 0.1, 0.5) for x, y in points])
    assert np.abs(clouds).max() <= 1.0
    assert threads.min() >= 0.0
    assert threads.max() <= 1.0


def test_hot_stars_are_blue_and_a_sun_is_white() -> None:
    kelvin = np.array([3500.0, 5800.0, 15000.0])
    rgb = colour(kelvin) / np.asarray(RESPONSE)
    assert rgb[1] == pytest.approx([1.0, 1.0, 1.0])
    assert rgb[0, 0] > 1 > rgb[0, 2]
    assert rgb[2, 0] < 1 < rgb[2, 2]
    assert temperature(np.array([0.65]))[0] == pytest.approx(5780, abs=60)  # Ballesteros' own check: the Sun
