"""Stretches: identities of the midtones function, levels that land where they should, colours that stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrobench.kernels.tone import (
    asinh_strength,
    autostretch,
    measure_levels,
    midtones,
    midtones_balance,
    stretch_asinh,
)

open_unit = st.floats(0.001, 0.999)


def sky(seed: int = 1, shape: tuple[int, int, int] = (3, 200, 300), level: float = 500.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (level + rng.normal(0, 10, shape)).astype(np.float32)


@given(open_unit)
def test_midtones_keep_both_ends_and_take_the_balance_to_one_half(m: float) -> None:
    ends = midtones(np.array([0, m, 1], np.float32), m)
    assert ends == pytest.approx([0, 0.5, 1], abs=1e-4)


@given(open_unit, open_unit)
def test_balance_takes_a_value_where_it_is_wanted(value: float, wanted: float) -> None:
    m = midtones_balance(value, wanted)
    assert midtones(np.array([value], np.float32), m)[0] == pytest.approx(wanted, abs=2e-3)


@given(open_unit, open_unit)
def test_midtones_are_undone_by_the_mirrored_balance(m: float, x: float) -> None:
    there = midtones(np.array([x], np.float32), m)
    assert midtones(there, 1 - m)[0] == pytest.approx(x, abs=5e-3)


@pytest.mark.parametrize("m", [0.0, 1.0, -0.1, 2.0])
def test_midtones_refuse_a_balance_that_divides_by_zero(m: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        midtones(np.zeros(3, np.float32), m)


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_autostretch_takes_the_sky_to_its_target(linked: bool, channels: int) -> None:
    data = sky(shape=(channels, 200, 300))
    data[:, 50, 50] = 40_000
    shown = autostretch(data, 0.25, linked=linked)
    assert np.median(shown) == pytest.approx(0.25, abs=0.004)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_unlinked_channels_make_a_coloured_sky_grey_and_linked_ones_keep_it() -> None:
    data = sky()
    data[1] += 100
    data[:, 50:53, 50:53] = 40_000
    apart, together = autostretch(data), autostretch(data, linked=True)
    assert np.ptp(np.median(apart, axis=(1, 2))) < 0.01
    assert np.median(together[1]) > np.median(together[0]) + 0.1


def test_missing_pixels_stay_missing_and_change_nothing() -> None:
    data = sky()
    whole = autostretch(data)
    data[:, :, ::3] = np.nan
    shown = autostretch(data)
    assert np.array_equal(np.isnan(shown), np.isnan(data))
    assert np.nanmax(np.abs(shown - whole)) < 0.05


def test_constant_and_empty_channels_are_no_reason_to_fail() -> None:
    data = np.full((3, 20, 20), 7.0, np.float32)
    data[2] = np.nan
    shown = autostretch(data)
    assert (shown[0] == 0.25).all()
    assert np.isnan(shown[2]).all()
    assert autostretch(np.full((1, 5, 5), np.nan, np.float32)).shape == (1, 5, 5)
    assert measure_levels(np.full((5, 5), np.nan, np.float32)) is None


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_autostretch_knows_no_scale_and_no_pedestal(gain: float, offset: float) -> None:
    data = sky(shape=(1, 60, 80), level=0.0)
    data[0, 10, 10] = 5000
    moved = (data.astype(np.float64) * gain + offset).astype(np.float32)
    rounding = 1e-3 + 5e-7 * abs(offset) / gain  # float32 on a high pedestal
    assert np.abs(autostretch(moved) - autostretch(data)).max() < rounding


def test_one_hot_pixel_does_not_set_the_scale() -> None:
    data = sky(shape=(1, 400, 500))
    assert measure_levels(data[0]).high < 560
    data[0, 7, 7] = 65_000
    assert measure_levels(data[0]).high < 560


@pytest.mark.parametrize("share", [1e-6, 1e-4, 1e-2, 0.05])
def test_asinh_strength_lifts_the_sky_to_its_target(share: float) -> None:
    b = asinh_strength(share, 0.12)
    assert np.arcsinh(b * share) / np.arcsinh(b) == pytest.approx(0.12, rel=1e-6)


def test_no_strength_where_the_sky_is_bright_already() -> None:
    assert asinh_strength(0.3, 0.12) == 0.0
    assert asinh_strength(0.0, 0.12) == 0.0


def test_asinh_keeps_the_ratios_of_a_star_where_midtones_pale_it() -> None:
    star = np.array([0.02, 0.03, 0.06], np.float32).reshape(3, 1, 1)
    asinh = stretch_asinh(star, 0.0, 1.0, 200.0)[:, 0, 0]
    assert asinh / asinh[1] == pytest.approx([2 / 3, 1, 2], rel=1e-5)
    paled = midtones(star, 0.01)[:, 0, 0]
    assert paled[2] / paled[1] < 1.3


def test_a_pixel_beyond_white_keeps_its_hue() -> None:
    star = np.array([1.0, 2.0, 4.0], np.float32).reshape(3, 1, 1)
    assert stretch_asinh(star, 0.0, 1.0, 50.0)[:, 0, 0] == pytest.approx([0.25, 0.5, 1.0])


def test_asinh_leaves_missing_pixels_missing_in_their_channel_only_once() -> None:
    data = sky()
    data[:, 3, 4] = np.nan
    shown = stretch_asinh(data, 450.0, 5000.0, 100.0)
    assert np.isnan(shown[:, 3, 4]).all()
    assert np.isfinite(shown).sum() == data.size - 3


def test_strength_zero_is_a_straight_line() -> None:
    data = np.linspace(0, 1, 11, dtype=np.float32).reshape(1, 1, 11)
    assert stretch_asinh(data, 0.0, 1.0, 0.0) == pytest.approx(data)
