"""Crop: no ragged corner is left, maps and coordinates move along, explicit rectangles are exact."""

import numpy as np
import pytest
from astropy.wcs import WCS

from astrobench.context import Context
from astrobench.errors import ParameterError, ProcessingError
from astrobench.image import Image
from astrobench.steps.crop import Crop, covered_rectangle


def rotated_coverage(height: int = 300, width: int = 200, frames: int = 20) -> np.ndarray:
    """How many of the frames, each turned by another degree, reach a pixel."""
    y, x = np.mgrid[0:height, 0:width]
    count = np.zeros((height, width), np.uint16)
    for angle in np.radians(np.linspace(-12, 12, frames)):
        u = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
        v = -(x - width / 2) * np.sin(angle) + (y - height / 2) * np.cos(angle)
        count += (abs(u) < width / 2 - 5) & (abs(v) < height / 2 - 5)
    return count


def ragged() -> Image:
    coverage = rotated_coverage()
    data = np.where(coverage > 0, np.arange(coverage.size).reshape(coverage.shape), np.nan)
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval = [100.5, 150.5], [192.7, 41.1]
    wcs.wcs.cdelt, wcs.wcs.ctype = [-6.6e-4, 6.6e-4], ["RA---TAN", "DEC--TAN"]
    maps = {
        name: np.arange(coverage.size, dtype=np.float32).reshape(1, *coverage.shape)
        for name in ("variance", "weight")
    }
    return Image(np.stack([data] * 3).astype(np.float32), coverage=coverage[None], wcs=wcs, **maps)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 1.0])
def test_every_pixel_left_is_covered_well_enough(share: float) -> None:
    image = ragged()
    result = Crop(share=share).apply(image, Context())
    assert result.coverage.min() >= share * image.coverage.max()
    assert np.isfinite(result.data).all()
    assert result.data.size > 0.3 * image.data.size


def test_all_maps_are_cut_alike() -> None:
    result = Crop().apply(ragged(), Context())
    assert np.array_equal(result.variance[0], result.data[0])
    assert np.array_equal(result.weight[0], result.data[0])
    assert result.coverage.shape[1:] == result.data.shape[1:]


def test_a_star_keeps_its_place_on_the_sky() -> None:
    image = ragged()
    result = Crop(x=30, y=50, width=100, height=120).apply(image, Context())
    assert result.shape == (3, 120, 100)
    assert np.array_equal(result.data, image.data[:, 50:170, 30:130])
    there = image.wcs.all_pix2world([[80, 99]], 0)
    assert result.wcs.all_pix2world([[50, 49]], 0) == pytest.approx(there, abs=1e-9)
    assert list(image.wcs.wcs.crpix) == [100.5, 150.5]


def test_a_hole_inside_is_no_border() -> None:
    image = ragged()
    image.data[:, 150, 100] = np.nan
    assert Crop().apply(image, Context()).shape == Crop().apply(ragged(), Context()).shape


def test_without_a_coverage_map_missing_borders_go() -> None:
    data = np.ones((1, 60, 90), np.float32)
    data[:, :7], data[:, :, 80:] = np.nan, np.nan
    context = Context()
    result = Crop().apply(Image(data), context)
    assert result.shape == (1, 53, 80)
    assert context.report.find("crop.no_coverage")


def test_nothing_is_cut_from_a_picture_that_is_covered() -> None:
    image = Image(np.ones((3, 50, 40), np.float32), coverage=np.full((1, 50, 40), 9, np.uint16))
    context = Context()
    assert Crop().apply(image, context) is image
    assert context.report.find("crop.nothing")


def test_the_rectangle_is_nearly_the_largest() -> None:
    good = rotated_coverage(120, 80) >= 12
    _, _, width, height = covered_rectangle(good)
    best, heights = 0, np.zeros(80, int)
    for row in good:
        heights = np.where(row, heights + 1, 0)
        for left in range(80):
            lowest = np.minimum.accumulate(heights[left:])
            best = max(best, int((lowest * np.arange(1, lowest.size + 1)).max()))
    assert width * height >= 0.93 * best


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 5)])
def test_small_masks_are_searched_exactly(shape: tuple[int, int]) -> None:
    assert covered_rectangle(np.ones(shape, bool)) == (0, 0, shape[1], shape[0])
    assert covered_rectangle(np.zeros(shape, bool)) == (0, 0, 0, 0)


def test_an_empty_picture_is_refused() -> None:
    with pytest.raises(ProcessingError, match="nothing to crop"):
        Crop().apply(Image(np.full((3, 30, 30), np.nan, np.float32)), Context())


@pytest.mark.parametrize("wrong", [{"x": 190, "width": 20}, {"y": 400}, {"width": 201}, {"height": 301}])
def test_a_rectangle_outside_is_refused_with_the_size_of_the_picture(wrong: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match="200 x 300"):
        Crop(**wrong).apply(ragged(), Context())
