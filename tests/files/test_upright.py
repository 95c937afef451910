"""A picture whose file starts with its bottom row comes out upright, its solution with it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrobench.files import open_image


def test_a_bottom_up_picture_is_turned_over_with_its_solution(tmp_path):
    stored = np.arange(40 * 50, dtype=np.float32).reshape(40, 50)
    solution = WCS(naxis=2)
    solution.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    solution.wcs.crval, solution.wcs.crpix, solution.wcs.cdelt = [10, 20], [12, 9], [-0.001, 0.001]
    header = solution.to_header()
    header["ROWORDER"] = "BOTTOM-UP"
    fits.PrimaryHDU(stored, header).writeto(tmp_path / "siril.fits")

    image = open_image(tmp_path / "siril.fits")

    assert np.array_equal(image.data[0], stored[::-1])
    assert image.wcs is not None
    here, there = image.wcs.pixel_to_world_values(7, 3), solution.pixel_to_world_values(7, 39 - 3)
    assert np.allclose(here, there, atol=1e-9)
    assert "ROWORDER" not in image.header


@pytest.mark.parametrize("order", ["TOP-DOWN", None])
def test_any_other_picture_stays_as_it_is(tmp_path, order):
    stored = np.arange(40 * 50, dtype=np.float32).reshape(40, 50)
    header = fits.Header({"ROWORDER": order} if order else {})
    fits.PrimaryHDU(stored, header).writeto(tmp_path / "a.fits")
    assert np.array_equal(open_image(tmp_path / "a.fits").data[0], stored)
