"""BalanceColor: neutral sky, white stars, variance scaled along, and no guess without being told."""

import numpy as np
import pytest

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.image import SATURATED, Image
from astrobench.steps.balance_color import BalanceColor

CAST = np.array([0.7, 1.0, 0.55])
LEVELS = np.array([300.0, 700.0, 450.0])


def field(seed: int = 0, stars: int = 60, height: int = 360, width: int = 280) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = LEVELS[:, None, None] + rng.normal(0, 3, (3, height, width))
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(stars):
        slope = rng.normal(0, 0.2)
        colour = CAST * np.exp([slope, 0, -slope])
        cx, cy = rng.uniform(16, width - 16), rng.uniform(16, height - 16)
        spot = 10 ** rng.uniform(2.5, 3.8) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.5**2))
        data += colour[:, None, None] * spot
    return data.astype(np.float32)


def test_the_sky_becomes_neutral_and_the_middle_star_white() -> None:
    context = Context()
    result = BalanceColor().apply(Image(field()), context)
    sky = np.median(result.data, axis=(1, 2))
    assert np.ptp(sky) < 1
    gains = context.report.find("color.gains")[0].numbers
    assert [gains["red"], gains["green"], gains["blue"]] == pytest.approx(1 / CAST, rel=0.08)
    assert not context.report.warnings


def test_gains_hold_above_the_sky_and_variance_goes_with_their_square() -> None:
    data = field()
    image = Image(data, variance=np.full(data.shape, 9, np.float32))
    result = BalanceColor(white="manual", red=2.0, blue=0.5).apply(image, Context())
    assert result.variance[:, 0, 0] == pytest.approx([36, 9, 2.25])
    bright = data[1] > 2000
    above = result.data - np.median(result.data, axis=(1, 2))[:, None, None]
    before = data - np.median(data, axis=(1, 2))[:, None, None]
    assert np.median(above[:, bright] / before[:, bright], axis=1) == pytest.approx([2, 1, 0.5], rel=0.01)


def test_the_sky_keeps_its_colour_when_asked_to() -> None:
    result = BalanceColor(neutral_sky=False, white="none").apply(Image(field()), Context())
    assert np.median(result.data, axis=(1, 2)) == pytest.approx(LEVELS, abs=1)


def test_saturated_stars_do_not_decide() -> None:
    data = field()
    full = data.max(axis=0) > 3000
    flags = np.where(full, SATURATED, 0).astype(np.uint8)
    data[:, full] = 5000
    context = Context()
    BalanceColor().apply(Image(data, flags=flags[None]), context)
    gains = context.report.find("color.gains")[0].numbers
    assert [gains["red"], gains["blue"]] == pytest.approx([1 / 0.7, 1 / 0.55], rel=0.1)


def test_without_stars_all_light_is_taken_for_grey_and_said() -> None:
    y, x = np.mgrid[0:360, 0:280]
    glow = 300 * np.exp(-((x - 140) ** 2 + (y - 180) ** 2) / (2 * 40.0**2))
    data = field(stars=0) + (CAST[:, None, None] * glow).astype(np.float32)
    context = Context()
    BalanceColor().apply(Image(data), context)
    assert context.report.find("color.few_stars")[0].level == "warning"
    gains = context.report.find("color.gains")[0].numbers
    assert [gains["red"], gains["blue"]] == pytest.approx([1 / 0.7, 1 / 0.55], rel=0.1)


def test_plain_sky_is_made_neutral_and_no_gain_is_invented() -> None:
    context = Context()
    result = BalanceColor().apply(Image(field(stars=0)), context)
    gains = context.report.find("color.gains")[0].numbers
    assert [gains[name] for name in ("red", "green", "blue")] == [1, 1, 1]
    assert context.report.find("color.no_white")
    assert np.ptp(np.median(result.data, axis=(1, 2))) < 0.5


def test_mono_pictures_pass_through() -> None:
    image = Image(field()[:1])
    assert BalanceColor().apply(image, Context()) is image


def test_missing_pixels_stay_missing_and_the_input_is_untouched() -> None:
    data = field()
    data[:, :40] = np.nan
    data[2, 100, 100] = np.nan
    image, before = Image(data), data.copy()
    result = BalanceColor().apply(image, Context(workers=3))
    assert np.array_equal(image.data, before, equal_nan=True)
    assert np.array_equal(np.isnan(result.data), np.isnan(before))
    assert np.array_equal(result.data, BalanceColor().apply(image, Context(workers=1)).data, equal_nan=True)


def test_an_empty_channel_is_refused() -> None:
    data = field()
    data[0] = np.nan
    with pytest.raises(ProcessingError, match="channel"):
        BalanceColor().apply(Image(data), Context())


def test_a_tiny_picture_is_no_reason_to_fail() -> None:
    result = BalanceColor().apply(Image(np.ones((3, 6, 7), np.float32)), Context())
    assert np.isfinite(result.data).all()
