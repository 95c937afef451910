"""Colour: a sky measured without objects, gains from stars whose colours are known."""

import numpy as np
import pytest

from astrobench.kernels.colour import grey_gains, sky_levels, star_colours, white_gains

CAST = np.array([0.8, 1.0, 0.6])


def starfield(
    seed: int = 0, count: int = 80, height: int = 400, width: int = 300
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sky of three levels, stars of many colours around white times a cast."""
    rng = np.random.default_rng(seed)
    data = np.array([300.0, 500.0, 400.0])[:, None, None] + rng.normal(0, 3, (3, height, width))
    y, x = np.mgrid[0:height, 0:width]
    column, row = rng.uniform(15, width - 15, count), rng.uniform(15, height - 15, count)
    for cx, cy in zip(column, row, strict=True):
        slope = rng.normal(0, 0.25)
        colour = CAST * np.exp([slope, 0, -slope])
        spot = 10 ** rng.uniform(2.3, 3.8) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.4**2))
        data += colour[:, None, None] * spot
    return data.astype(np.float32), column, row


def test_sky_is_measured_beside_objects() -> None:
    data, _, _ = starfield()
    y, x = np.mgrid[0:400, 0:300]
    nebula = 80 * np.exp(-((x - 150) ** 2 + (y - 200) ** 2) / (2 * 50.0**2))
    data[0] += nebula.astype(np.float32)
    assert sky_levels(data) == pytest.approx([300, 500, 400], abs=1.0)


def test_sky_survives_missing_pixels() -> None:
    data, _, _ = starfield()
    data[:, :150] = np.nan
    assert sky_levels(data) == pytest.approx([300, 500, 400], abs=1.0)
    assert np.isnan(sky_levels(np.full((3, 50, 50), np.nan, np.float32))).all()


def test_the_middle_star_becomes_white() -> None:
    data, x, y = starfield(count=150)
    gains, used, error = white_gains(star_colours(data, x, y, 3.3))
    assert used == 60
    assert gains == pytest.approx(CAST[1] / CAST, rel=5 * max(error, 0.01))


def test_stars_on_the_border_on_missing_or_saturated_pixels_are_left_out() -> None:
    data, x, y = starfield(count=3)
    blocked = np.zeros(data.shape[1:], bool)
    blocked[round(y[0]), round(x[0])] = True
    data[:, round(y[1]), round(x[1])] = np.nan
    fluxes = star_colours(data, np.append(x, 1.0), np.append(y, 200.0), 3.3, blocked)
    assert np.isnan(fluxes[[0, 3]]).all()
    assert np.isnan(fluxes[1, 0]).all()
    assert np.isfinite(fluxes[2]).all()


def test_no_good_star_gives_no_gains() -> None:
    gains, used, _ = white_gains(np.full((4, 2, 3), np.nan))
    assert used == 0
    assert np.isnan(gains).all()


def test_grey_world_undoes_a_cast_and_gives_up_on_plain_sky() -> None:
    data, _, _ = starfield(count=150)
    levels = np.array([300.0, 500.0, 400.0])
    assert grey_gains(data, levels) == pytest.approx(CAST[1] / CAST, rel=0.15)
    plain = np.random.default_rng(0).normal(0, 1, (3, 40, 40)).astype(np.float32)
    assert np.isnan(grey_gains(plain, np.zeros(3))).all()


def test_crowds_of_faint_reddened_stars_do_not_turn_the_bright_ones_green() -> None:
    bright = np.tile([[8000.0, 10_000, 6000], [1, 1, 1]], (60, 1, 1))
    faint = np.tile([[500.0, 400, 180], [1, 1, 1]], (400, 1, 1))
    gains, used, _ = white_gains(np.concatenate([faint, bright]))
    assert used == 60
    assert gains == pytest.approx([1.25, 1, 10 / 6])
