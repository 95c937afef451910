"""Pixels that are no picture are told from a sub, and uncovered borders from clipped values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from astrobench.files.checks import pixel_fault, uncovered


def sky(shape: tuple[int, ...] = (200, 150), dtype: str = "u2") -> np.ndarray:
    return np.random.default_rng(0).normal(1000, 90, shape).astype(dtype)


@pytest.mark.parametrize("shape", [(200, 150), (3, 200, 150)])
@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_sub_has_no_fault(shape: tuple[int, ...], dtype: str) -> None:
    assert pixel_fault(sky(shape, dtype), 65000) is None


def test_a_dark_sky_with_a_fifth_of_its_pixels_clipped_has_no_fault() -> None:
    dark = np.random.default_rng(0).normal(80, 90, (200, 150)).clip(0, None).astype(np.uint16)

    assert (dark == 0).mean() > 0.15
    assert pixel_fault(dark, 65000) is None
    assert uncovered(dark) is None


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.full((90, 90), 700, np.uint16), "100.0% of its pixels have the value 700"),
        (np.zeros((3, 90, 90), np.float32), "value 0"),
        (np.full((90, 90), 65520, np.uint16), "saturated"),
        (np.full((90, 90), np.nan, np.float32), "only 0.0% of its pixels hold a number"),
        (np.full((90, 90), np.inf, np.float32), "only 0.0% of its pixels hold a number"),
    ],
)
def test_what_is_no_picture_is_named(array: np.ndarray, word: str) -> None:
    assert word in (pixel_fault(array, 65000) or "")


def test_a_constant_sample_alone_condemns_nothing() -> None:
    picture = sky()
    picture[::7, ::7] = 5

    assert pixel_fault(picture, 65000) is None


def test_nan_outside_a_registered_frame_is_no_fault() -> None:
    picture = sky(dtype="f4")
    picture[:150] = np.nan

    assert pixel_fault(picture, 65000) is None


@pytest.mark.parametrize("angle", [0, 5, 30, 69.5])
@pytest.mark.parametrize("planes", [1, 3])
def test_the_uncovered_border_of_a_turned_frame_is_found(angle: float, planes: int) -> None:
    truth = ndimage.rotate(np.ones((300, 200)), angle, reshape=False, order=0) > 0
    truth[:12] = False
    picture = np.where(truth, sky((300, 200), "f4"), 0).astype(np.float32)
    picture[200, 100] = 0  # a clipped value inside
    picture[150:153, 80:83] = 0

    mask = uncovered(picture if planes == 1 else np.stack([picture] * 3))

    assert mask is not None
    assert mask.shape == (300, 200)
    assert not mask[200, 100]
    assert not mask[150:153, 80:83].any()
    assert not (mask & truth).any()
    assert (~truth & ~mask).sum() <= 0.002 * truth.size  # the last points of thin wedges


def test_clipped_values_touching_the_border_are_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        picture = np.where(rng.random((300, 200)) < 0.15, 0, 500).astype(np.uint16)
        assert uncovered(picture) is None


def test_zeros_in_one_colour_only_are_values() -> None:
    picture = sky((3, 100, 100), "f4")
    picture[2, :40] = 0

    assert uncovered(picture) is None
