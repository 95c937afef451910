"""A picture survives its FITS file, and any program's FITS picture can be opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from astrobench.errors import InputError, ParameterError
from astrobench.files import open_image, save_image
from astrobench.files.fits_write import history_chunks, joined_history
from astrobench.files.private import is_private_card, is_private_text, without_serial
from astrobench.image import Image

FLOATS = ("data", "variance", "weight")


def solution(sip: bool = False) -> WCS:
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = ("RA---TAN-SIP", "DEC--TAN-SIP") if sip else ("RA---TAN", "DEC--TAN")
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 192.7, 41.1, 20.0, 15.0
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = 4e-4, 5e-4, -5e-4, 4e-4
    if sip:
        header["A_ORDER"] = header["B_ORDER"] = 2
        header["A_2_0"], header["B_0_2"] = 1e-5, -2e-5
    return WCS(header)


def full_image(channels: int = 3) -> Image:
    rng = np.random.default_rng(0)
    shape = (channels, 30, 40)
    data = rng.normal(100, 5, shape).astype(np.float32)
    data[0, 3, 4] = np.nan
    header = fits.Header()
    header["OBJECT"], header["EXPTIME"], header["STACKCNT"], header["TOTALEXP"] = "M 94", 10.0, 24, 240.0
    return Image(
        data,
        variance=rng.uniform(1, 2, shape).astype(np.float32),
        coverage=rng.integers(0, 65535, (1, 30, 40)).astype(np.uint16),
        weight=rng.uniform(0, 20, shape).astype(np.float32),
        reject_low=rng.integers(0, 9, shape).astype(np.uint16),
        reject_high=rng.integers(0, 9, shape).astype(np.uint16),
        flags=rng.integers(0, 2, (1, 30, 40)).astype(np.uint8),
        wcs=solution(),
        header=header,
        history=("Stack(reject='auto')", "x" * 200, "Crop()"),
        recipe=json.dumps({"name": "tiefer Himmel, größer", "step": []}, ensure_ascii=False),
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_an_image_carries_comes_back(tmp_path: Path, channels: int) -> None:
    image = full_image(channels)

    save_image(image, tmp_path / "a.fits")
    back = open_image(tmp_path / "a.fits")

    for name, array in (("data", image.data), *image.maps()):
        found = getattr(back, name)
        assert found.dtype == array.dtype
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, array)
    assert (back.unit, back.history, back.recipe) == (image.unit, image.history, image.recipe)
    assert {key: back.header[key] for key in image.header} == dict(image.header)
    place = back.wcs.pixel_to_world_values(3, 4)
    np.testing.assert_allclose(place, image.wcs.pixel_to_world_values(3, 4), atol=1e-9)


def test_saving_what_was_opened_gives_the_same_bytes(tmp_path: Path) -> None:
    save_image(full_image(), tmp_path / "a.fits")
    save_image(full_image(), tmp_path / "b.fits")
    save_image(open_image(tmp_path / "a.fits"), tmp_path / "c.fits")

    first = (tmp_path / "a.fits").read_bytes()

    assert (tmp_path / "b.fits").read_bytes() == first
    assert (tmp_path / "c.fits").read_bytes() == first


def test_other_programs_find_a_standard_file(tmp_path: Path) -> None:
    save_image(full_image(), tmp_path / "a.fits")

    with fits.open(tmp_path / "a.fits") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == [
            "PRIMARY", "VARIANCE", "COVERAGE", "WEIGHT", "REJECT_LOW", "REJECT_HIGH", "FLAGS", "RECIPE",
        ]  # fmt: skip
        assert hdus[0].data.shape == (3, 30, 40)
        assert hdus["COVERAGE"].data.shape == (30, 40)
        assert hdus[0].header["ROWORDER"] == "TOP-DOWN"
        assert hdus[0].header["BUNIT"] == "adu"
        assert json.loads(hdus["RECIPE"].data["RECIPE"][0])["name"] == "tiefer Himmel, größer"
        assert WCS(hdus["VARIANCE"].header).celestial.naxis == 2
    assert (tmp_path / "a.fits").stat().st_size % 2880 == 0


def test_display_values_stay_display_values(tmp_path: Path) -> None:
    save_image(full_image().replace(unit="display"), tmp_path / "a.fits")

    assert open_image(tmp_path / "a.fits").unit == "display"


def test_distortion_of_the_solution_is_kept(tmp_path: Path) -> None:
    image = full_image().replace(wcs=solution(sip=True))

    save_image(image, tmp_path / "a.fits")
    back = open_image(tmp_path / "a.fits")

    corner = back.wcs.all_pix2world(39, 0, 0)
    np.testing.assert_allclose(corner, image.wcs.all_pix2world(39, 0, 0), atol=1e-10)


def test_rows_are_never_turned_over(tmp_path: Path) -> None:
    data = np.zeros((3, 30, 40), np.float32)
    data[:, 2, 35] = 1
    save_image(Image(data), tmp_path / "a.fits")

    assert fits.getdata(tmp_path / "a.fits")[0, 2, 35] == 1
    assert open_image(tmp_path / "a.fits").data[0, 2, 35] == 1


def test_arrays_on_scratch_are_written_block_by_block(tmp_path: Path) -> None:
    shape = (3, 2500, 700)
    data = np.memmap(tmp_path / "scratch", np.float32, "w+", shape=shape)
    data[:] = np.arange(shape[1], dtype=np.float32)[None, :, None]

    save_image(Image(data), tmp_path / "a.fits")

    np.testing.assert_array_equal(fits.getdata(tmp_path / "a.fits"), data)


# --- privacy --------------------------------------------------------------------------------------
def private_image() -> Image:
    header = fits.Header()
    for key, value in {
        "OBJECT": "M 94", "TELESCOP": "S50_1d3fe189", "INSTRUME": "Seestar S50", "SITELAT": 33.25,
        "SITELONG": -70.5, "LAT-OBS": 33.25, "LONG-OBS": -70.5, "OBSGEO-X": 1.0, "OBSERVER": "Jane Doe",
        "CAMSERNO": "A1B2", "CENTALT": 41.5, "FOCUSPOS": 1555,
    }.items():  # fmt: skip
        header[key] = value
    header.add_comment("taken at latitude 33.25")
    return full_image().replace(header=header, history=("Stack()", "observer: Jane Doe"))


def test_site_people_and_serials_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    save_image(private_image(), tmp_path / "a.fits")
    save_image(private_image(), tmp_path / "b.fits", private=False)

    shared, own = (tmp_path / "a.fits").read_bytes(), (tmp_path / "b.fits").read_bytes()
    for secret in (b"33.25", b"70.5", b"1d3fe189", b"Jane", b"A1B2", b"OBSGEO", b"CENTALT"):
        assert secret not in shared
    for kept in (b"M 94", b"'S50     '", b"Seestar S50", b"FOCUSPOS"):
        assert kept in shared
    assert b"33.25" in own
    assert b"1d3fe189" in own


@pytest.mark.parametrize(
    "keyword",
    [
        "SITELAT",
        "SITEELEV",
        "LAT-OBS",
        "LONG-OBS",
        "ALT-OBS",
        "OBSGEO-Z",
        "GPSLAT",
        "OBSERVER",
        "LST",
        "OBJCTALT",
        "SERIALNO",
    ],
)
def test_private_cards_are_known(keyword: str) -> None:
    assert is_private_card(keyword)


@pytest.mark.parametrize(
    "keyword",
    [
        "OBJECT",
        "DATE-OBS",
        "RA",
        "FILTER",
        "GAIN",
        "STACKCNT",
        "LONPOLE",
        "LATPOLE",
        "STEPS",
        "HALO",
        "CRVAL1",
        "SNR",
        "FOCALLEN",
    ],
)
def test_cards_of_the_sky_are_not_private(keyword: str) -> None:
    assert not is_private_card(keyword)


def test_models_and_steps_are_not_private() -> None:
    assert without_serial("TELESCOP", "EQMod Mount") == "EQMod Mount"
    assert without_serial("INSTRUME", "ZWO ASI2600MC") == "ZWO ASI2600MC"
    assert without_serial("INSTRUME", "Canon 600D") == "Canon 600D"
    assert not is_private_text("RemoveGradient(surface='auto', smoothing=0.001)")


# --- pictures of other programs -------------------------------------------------------------------
def test_a_seestars_stack_is_three_colours_in_its_own_scale(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(400, 60000, (3, 30, 40)).astype(np.uint16)
    header = fits.Header({"BAYERPAT": "GRBG", "STACKCNT": 588, "TOTALEXP": 5880.0, "EXPTIME": 10.0})
    fits.writeto(tmp_path / "Stacked_588_M 94.fit", data, header)

    image = open_image(tmp_path / "Stacked_588_M 94.fit")

    np.testing.assert_array_equal(image.data, data)
    assert image.header["TOTALEXP"] == 5880.0
    assert image.unit == "ADU"
    save_image(image, tmp_path / "a.fits")
    assert "BAYERPAT" not in fits.getheader(tmp_path / "a.fits")


@pytest.mark.parametrize("shape", [(30, 40), (3, 30, 40), (30, 40, 3), (1, 30, 40)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_every_form_of_picture_is_read(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    data = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    fits.writeto(tmp_path / "a.fits", data)

    image = open_image(tmp_path / "a.fits")

    planes = np.moveaxis(data, -1, 0) if shape[-1] == 3 else data.reshape(-1, 30, 40)
    np.testing.assert_array_equal(image.data, planes)


def test_a_picture_behind_an_empty_primary_has_the_cards_of_both(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU(header=fits.Header({"OBJECT": "M 1"}))
    data = np.ones((3, 30, 40), np.float32)
    fits.HDUList([primary, fits.ImageHDU(data, solution().to_header()), fits.ImageHDU(data * 2)]).writeto(
        tmp_path / "a.fits"
    )

    image = open_image(tmp_path / "a.fits")

    np.testing.assert_array_equal(image.data, data)
    assert image.header["OBJECT"] == "M 1"
    assert image.wcs is not None
    assert image.variance is None


def test_a_solution_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    header = fits.Header({"CTYPE1": "RA---XXX", "CTYPE2": "DEC--YYY", "CRVAL1": 1.0})
    fits.writeto(tmp_path / "a.fits", np.ones((30, 40), np.float32), header)

    assert open_image(tmp_path / "a.fits").wcs is None


@pytest.mark.parametrize("name", ["a.fits", "a.txt", "a.tif"])
def test_what_is_no_picture_is_an_input_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"hello" * 1000)

    with pytest.raises(InputError, match="a\\."):
        open_image(tmp_path / name)


def test_only_known_suffixes_are_written(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"'a\.bmp' has no known suffix"):
        save_image(full_image(), tmp_path / "a.bmp")
    save_image(full_image(), tmp_path / "a.fit")
    with pytest.raises(ParameterError, match="exists already"):
        save_image(full_image(), tmp_path / "a.fit", overwrite=False)


# --- history --------------------------------------------------------------------------------------
@given(
    st.lists(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=300), max_size=4
    )
)
def test_history_lines_of_any_length_come_back(lines: list[str]) -> None:
    clean = [" ".join(line.split()) for line in lines if line.strip()]
    header = fits.Header()
    for line in clean:
        for chunk in history_chunks(line):
            header.add_history(chunk)

    assert joined_history([str(card) for card in header.get("HISTORY", [])]) == tuple(clean)
