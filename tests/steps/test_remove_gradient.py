"""RemoveGradient: the sky becomes level, the level stays, and everything doubtful is said."""

import numpy as np
import pytest

from astrobench.context import Context
from astrobench.errors import ParameterError, ProcessingError, Stopped
from astrobench.image import Image
from astrobench.steps.remove_gradient import RemoveGradient

H, W = 320, 240


def sky(channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (1000 + rng.normal(0, 2, (channels, H, W))).astype(np.float32)


def slope() -> np.ndarray:
    y, x = np.mgrid[0:H, 0:W]
    return (x / W * 40 + y / H * 60).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("degree", ["auto", 1, 2, 4])
def test_a_slope_goes_and_the_level_stays(channels: int, degree: str | int) -> None:
    bare = sky(channels)
    image = Image(bare + slope())
    result = RemoveGradient(degree=degree).apply(image, Context())
    assert np.median(result.data) == pytest.approx(np.median(image.data), abs=0.5)
    away = result.data - bare
    assert np.ptp(away[:, 5:-5, 5:-5], axis=(1, 2)).max() < 1.5


def test_vignetting_is_divided_away_with_its_variance() -> None:
    y, x = np.mgrid[0:H, 0:W]
    shade = (1 - 0.3 * ((x - W / 2) ** 2 + (y - H / 2) ** 2) / (W**2 / 4 + H**2 / 4)).astype(np.float32)
    image = Image(sky() * shade, variance=np.full((3, H, W), 4, np.float32))
    result = RemoveGradient(operation="divide", degree=2).apply(image, Context())
    corner, centre = result.data[:, :40, :40].mean(), result.data[:, 140:180, 100:140].mean()
    assert corner == pytest.approx(centre, rel=2e-3)
    gain = result.data / image.data
    assert result.variance == pytest.approx(4 * gain**2, rel=1e-4)


def test_a_sky_below_zero_cannot_be_divided_by() -> None:
    with pytest.raises(ProcessingError, match="subtract"):
        RemoveGradient(operation="divide").apply(Image(sky() - 1000 + slope() - 50), Context())


def test_maps_stay_as_they_are_and_missing_pixels_stay_missing() -> None:
    data = sky() + slope()
    data[:, :30] = np.nan
    data[1, 100, 100] = np.nan
    image = Image(
        data,
        variance=np.full((3, H, W), 4, np.float32),
        coverage=np.full((1, H, W), 9, np.uint16),
        flags=np.zeros((1, H, W), np.uint8),
    )
    before = data.copy()
    result = RemoveGradient().apply(image, Context())
    assert np.array_equal(image.data, before, equal_nan=True)
    assert np.array_equal(np.isnan(result.data), np.isnan(before))
    assert result.variance is image.variance
    assert result.coverage is image.coverage
    assert result.flags is image.flags


def test_the_gradient_and_its_samples_are_told() -> None:
    context = Context()
    RemoveGradient().apply(Image(sky() + slope()), context)
    size = context.report.find("gradient.size")[0]
    assert size.numbers["largest"] == pytest.approx(100, rel=0.08)
    assert context.report.find("gradient.samples")[0].numbers["used"] > 500
    assert context.report.find("gradient.degree")[0].numbers["degree"] == 1
    assert not context.report.warnings


def test_a_band_too_sharp_for_any_surface_is_warned_of() -> None:
    data = sky()
    data[:, :30] += 60
    context = Context()
    RemoveGradient().apply(Image(data), context)
    assert context.report.find("gradient.stiff")


def test_a_lost_side_is_warned_of() -> None:
    data = sky() + slope()
    data[:, :, -60:] = np.nan
    context = Context()
    RemoveGradient().apply(Image(data), context)
    assert "right" in context.report.find("gradient.border")[0].text


def test_a_degree_that_follows_noise_is_warned_of() -> None:
    data = sky(1) + slope()
    data[:, 60:260, 40:200] = np.nan
    context = Context()
    RemoveGradient(degree=6, samples=12).apply(Image(data), context)
    codes = {fact.code for fact in context.report.warnings}
    assert codes & {"gradient.overfit", "gradient.lowered"}


def test_the_result_does_not_depend_on_the_workers() -> None:
    image = Image(sky() + slope())
    one = RemoveGradient().apply(image, Context(workers=1))
    four = RemoveGradient().apply(image, Context(workers=4))
    assert np.array_equal(one.data, four.data)


def test_progress_reaches_the_end_and_stop_is_honoured() -> None:
    seen: list[float] = []
    context = Context(progress_to=lambda fraction, _: seen.append(fraction))
    RemoveGradient().apply(Image(sky(1)), context)
    assert seen[-1] == 1
    assert seen == sorted(seen)
    context.stop()
    with pytest.raises(Stopped):
        RemoveGradient().apply(Image(sky(1)), context)


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 20, 30), (1, 1, 400)])
def test_a_tiny_picture_is_refused_with_its_size(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ProcessingError, match=f"{shape[2]} x {shape[1]}"):
        RemoveGradient().apply(Image(np.ones(shape, np.float32)), Context())


def test_a_picture_without_data_is_refused() -> None:
    with pytest.raises(ProcessingError, match="Only 0 sky samples"):
        RemoveGradient().apply(Image(np.full((3, H, W), np.nan, np.float32)), Context())


def test_a_constant_picture_stays_as_it_is() -> None:
    result = RemoveGradient().apply(Image(np.full((3, H, W), 7, np.float32)), Context())
    assert result.data == pytest.approx(7)


@pytest.mark.parametrize("wrong", [{"degree": 7}, {"samples": 3}, {"tolerance": -1}, {"operation": "add"}])
def test_wrong_parameters_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"remove_gradient.{next(iter(wrong))}"):
        RemoveGradient(**wrong)
