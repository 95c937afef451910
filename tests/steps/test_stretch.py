"""Stretch: dark neutral sky, colours of stars, display values, and nothing kept that no longer holds."""

import numpy as np
import pytest

from astrobench.context import Context
from astrobench.errors import ParameterError, ProcessingError
from astrobench.image import Image
from astrobench.steps.stretch import Stretch


def field(channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    data = 600 + rng.normal(0, 8, (channels, 200, 160))
    y, x = np.mgrid[0:200, 0:160]
    for colour in ((1.5, 1, 0.6), (0.6, 1, 1.5)):
        cx, cy = rng.uniform(20, 140), rng.uniform(20, 180)
        spot = 9000 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 2.0**2))
        data += np.asarray(colour)[:channels, None, None] * spot
    return data.astype(np.float32)


@pytest.mark.parametrize("method", ["asinh", "autostretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_sky_comes_out_dark_neutral_and_where_it_should(method: str, channels: int) -> None:
    result = Stretch(method=method).apply(Image(field(channels)), Context())
    sky = np.median(result.data, axis=(1, 2))
    assert sky == pytest.approx([0.11] * channels, abs=0.01)
    assert result.unit == "display"
    assert result.data.min() >= 0
    assert result.data.max() <= 1


def test_a_red_star_stays_red_to_its_core() -> None:
    data = field()
    y, x = np.unravel_index(np.argmax(data[0] - data[2]), data[0].shape)
    shown = Stretch().apply(Image(data), Context()).data[:, y, x]
    assert shown[0] > 1.2 * shown[1] > 1.2 * shown[2]


def test_linear_maps_are_left_behind_and_said() -> None:
    data = field()
    image = Image(
        data,
        variance=np.ones_like(data),
        weight=np.ones_like(data),
        coverage=np.ones((1, 200, 160), np.uint16),
        flags=np.ones((1, 200, 160), np.uint8),
    )
    context = Context()
    result = Stretch().apply(image, context)
    assert result.variance is None
    assert result.weight is None
    assert result.coverage is image.coverage
    assert result.flags is image.flags
    assert "variance and weight" in context.report.find("stretch.dropped")[0].text


@pytest.mark.parametrize("method", ["asinh", "autostretch"])
def test_missing_pixels_stay_missing_and_the_input_is_untouched(method: str) -> None:
    data = field()
    data[:, :20] = np.nan
    image, before = Image(data), data.copy()
    result = Stretch(method=method).apply(image, Context())
    assert np.array_equal(image.data, before, equal_nan=True)
    assert np.array_equal(np.isnan(result.data), np.isnan(before))


def test_a_second_stretch_is_warned_of() -> None:
    context = Context()
    Stretch().apply(Stretch().apply(Image(field()), context), context)
    assert [fact.code for fact in context.report.warnings] == ["stretch.again"]


def test_a_given_strength_is_used() -> None:
    weak, strong = (Stretch(strength=each).apply(Image(field()), Context()).data for each in (5.0, 500.0))
    assert np.median(strong) > 2 * np.median(weak)


def test_nothing_to_stretch_is_refused_and_a_constant_picture_is_not() -> None:
    with pytest.raises(ProcessingError, match="no data"):
        Stretch().apply(Image(np.full((3, 9, 9), np.nan, np.float32)), Context())
    for method in ("asinh", "autostretch"):
        flat = Stretch(method=method).apply(Image(np.full((3, 9, 9), 5, np.float32)), Context())
        assert np.ptp(flat.data) == 0


@pytest.mark.parametrize("wrong", [{"target": 0.7}, {"shadows": 1}, {"method": "log"}, {"strength": -1}])
def test_wrong_parameters_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"stretch.{next(iter(wrong))}"):
        Stretch(**wrong)
