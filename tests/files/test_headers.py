"""What headers and names tell, and how the traps of real telescopes are mended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import astropy.units as u
import pytest
from astropy.coordinates import FK5, ICRS, SkyCoord
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from astrobench.files.bayer import ORDERS, shifted
from astrobench.files.cards import parse_value
from astrobench.files.headers import HeaderFacts, read_facts
from astrobench.files.kinds import kind_of
from astrobench.files.names import folder_target, read_name, target_key
from astrobench.files.sky import (
    centuries_since_j2000,
    night_of,
    parse_date,
    precess_to_j2000,
    separation,
    sexagesimal,
)

SEESTAR = {
    "CREATOR": "ZWO Seestar S50", "INSTRUME": "Seestar S50", "TELESCOP": "S50_0123abcd", "IMAGETYP": "Light",
    "BAYERPAT": "GRBG", "EXPTIME": 10.0, "EXPOSURE": 10.0, "DATE-OBS": "2025-03-27T01:20:32.955368",
    "RA": 193.04166, "DEC": 40.970556, "FILTER": "IRCUT", "GAIN": 80, "OBJECT": "M 94", "XPIXSZ": 2.9,
    "FOCALLEN": 250, "SITELONG": -70.5,
}  # fmt: skip


def facts(cards: dict[str, Any], name: str = "a.fit", folder: str = "", **shape: Any) -> HeaderFacts:
    form = {"planes": 1, "height": 1920, "dtype": "uint16", **shape}
    return read_facts(cards, name=read_name(name), folder=folder, **form)


def seestar(**changes: Any) -> dict[str, Any]:
    cards = {**SEESTAR, **{key.replace("_", "-"): value for key, value in changes.items()}}
    return {key: value for key, value in cards.items() if value is not None}


# --- positions ------------------------------------------------------------------------------------
def test_seestar_positions_of_the_date_become_icrs() -> None:
    found = facts(seestar())

    galaxy = separation(found.ra, found.dec, 192.721, 41.120) * 60
    assert galaxy < 2.4  # read as J2000 it would be 15 to 18 arcmin away
    assert "equinox" in found.repairs


@given(
    ra=st.floats(0, 359.99),
    dec=st.floats(-89, 89),
    days=st.integers(-10000, 15000),
)
def test_precession_agrees_with_astropy(ra: float, dec: float, days: int) -> None:
    date = Time(2451545.0 + days, format="jd", scale="tt")
    truth = SkyCoord(ra * u.deg, dec * u.deg, frame=FK5(equinox=date)).transform_to(ICRS())

    ours = precess_to_j2000(ra, dec, days / 36525)

    assert separation(*ours, truth.ra.deg, truth.dec.deg) * 3600 < 0.3


def test_a_declared_equinox_is_believed() -> None:
    found = facts(seestar(EQUINOX=2000.0))

    assert (found.ra, found.dec) == (193.04166, 40.970556)
    assert "equinox" not in found.repairs


def test_hours_are_told_from_degrees() -> None:
    spelled = facts({"OBJCTRA": "19 59 41.97", "OBJCTDEC": "22 43 19.37", "RADECSYS": "FK5"})
    commented = facts({"RA": 12.5, "DEC": 10.0, "RA comment": "[hours] right ascension"})
    crossed = facts({"RA": 12.5, "DEC": 10.0, "OBJCTRA": "12 30 00", "OBJCTDEC": "10 00 00"})
    degrees = facts({"RA": 12.5, "DEC": 10.0, "OBJCTRA": "00 50 00", "OBJCTDEC": "10 00 00"})

    assert spelled.ra == pytest.approx(299.92488, abs=1e-4)
    assert spelled.dec == pytest.approx(22.72205, abs=1e-4)
    assert {"ra_text", "radecsys"} <= set(spelled.repairs)
    assert commented.ra == crossed.ra == 187.5
    assert "ra_hours" in crossed.repairs
    assert degrees.ra == 12.5


@pytest.mark.parametrize(
    "cards", [{"RA": 0.0, "DEC": 0.0}, {"RA": 400.0, "DEC": 5.0}, {"RA": 5.0}, {"RA": "x", "DEC": "y"}]
)
def test_a_position_that_cannot_be_is_none(cards: dict[str, Any]) -> None:
    assert facts(cards).ra is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("19 59 41.97", 19.994992),
        ("-00:30:00", -0.5),
        ("12h30m00s", 12.5),
        ("41.1", 41.1),
        ("", None),
        ("up", None),
    ],
)
def test_sexagesimal_text_is_read(text: str, value: float | None) -> None:
    assert sexagesimal(text) == (None if value is None else pytest.approx(value, abs=1e-6))


# --- colours --------------------------------------------------------------------------------------
def test_a_seestar_without_bayer_card_is_grbg_and_says_so() -> None:
    found = facts(seestar(BAYERPAT=None))

    assert found.bayer == "GRBG"
    assert found.repairs["bayer_missing"] == "GRBG"


# What Siril 1.0.6 makes of the same cards, for an even and an odd number of rows.
@pytest.mark.parametrize(
    ("height", "rows", "down", "order"),
    [
        (64, None, 0, "RGGB"), (64, None, 1, "GBRG"), (64, "TOP-DOWN", 0, "RGGB"),
        (64, "TOP-DOWN", 1, "GBRG"),
        (64, "BOTTOM-UP", 0, "GBRG"), (64, "BOTTOM-UP", 1, "RGGB"), (65, None, 0, "RGGB"),
        (65, None, 1, "GBRG"),
        (65, "BOTTOM-UP", 0, "RGGB"), (65, "BOTTOM-UP", 1, "GBRG"),
    ],
)  # fmt: skip
def test_bayer_order_as_stored_is_the_one_siril_finds(
    height: int, rows: str | None, down: int, order: str
) -> None:
    cards = {"BAYERPAT": "RGGB", "YBAYROFF": down, **({"ROWORDER": rows} if rows else {})}

    found = facts(cards, height=height)

    assert found.bayer == order
    assert found.row_order == (rows or "TOP-DOWN")


@pytest.mark.parametrize("order", ORDERS)
def test_shifting_a_bayer_order_twice_gives_it_back(order: str) -> None:
    for right, down in ((True, False), (False, True), (True, True)):
        assert shifted(shifted(order, right, down), right, down) == order
        assert shifted(order, right, down) != order


def test_three_planes_are_colour_already_whatever_bayerpat_says() -> None:
    found = facts(seestar(), planes=3)

    assert found.bayer is None
    assert "bayer_of_colour" in found.repairs


def test_luminance_on_a_colour_camera_is_no_filter() -> None:
    colour = facts({"INSTRUME": "ZWO CCD ASI224MC", "BAYERPAT": "RGGB", "FILTER": "Luminance"})
    mono = facts({"INSTRUME": "ZWO ASI1600MM", "FILTER": "Luminance"})

    assert colour.filter == ""
    assert "filter_of_colour" in colour.repairs
    assert mono.filter == "Luminance"


# --- camera, scale, levels ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("cards", "camera", "unit"),
    [
        ({"INSTRUME": "Seestar S50", "TELESCOP": "S50_1d3fe189"}, "Seestar S50", "1d3fe189"),
        ({"INSTRUME": "Seestar S50", "TELESCOP": "Seestar S50"}, "Seestar S50", ""),
        ({"INSTRUME": "imx585", "TELESCOP": "S30 Pro_ab12cd34"}, "Seestar S30 Pro", "ab12cd34"),
        ({"CREATOR": "ZWO Seestar S30", "TELESCOP": "S30_ab12cd34"}, "Seestar S30", "ab12cd34"),
        ({"INSTRUME": "ZWO ASI2600MC Pro"}, "ZWO ASI2600MC Pro", ""),
        ({"TELESCOP": "EQMod Mount"}, "EQMod Mount", ""),
        ({}, "", ""),
    ],
)
def test_a_camera_is_its_model_without_the_serial_number(
    cards: dict[str, Any], camera: str, unit: str
) -> None:
    found = facts(cards)

    assert (found.camera, found.unit) == (camera, unit)


def test_scale_comes_from_the_solution_or_from_pixel_and_focal_length() -> None:
    assert facts(seestar()).pixel_scale == pytest.approx(2.374, abs=0.001)
    assert facts({"PIXSIZE1": 3.75, "XBINNING": 1, "FOCALLEN": 510.0}).pixel_scale == pytest.approx(
        1.5167, abs=1e-3
    )
    assert facts({"CD1_1": 4.66e-4, "CD2_1": 4.66e-4}).pixel_scale == pytest.approx(2.3725, abs=1e-3)
    assert facts({}).pixel_scale is None


def test_exposure_is_found_where_it_is() -> None:
    assert facts({"EXPOSURE": 20.0}).repairs.keys() == {"exposure_card"}
    assert facts({"EXPTIME": 10.0, "EXPOSURE": 12.0}).repairs.keys() == {"exposure_differs"}
    named = facts({}, name="Light_NGC 7023_20.0s_LP_20250630-023359.fit")
    assert (named.exposure, named.filter, named.target) == (20.0, "LP", "NGC 7023")


# --- time -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-03-27T01:20:32.955368", ""), ("2025-03-27T01:20:32.955368Z", ""),
        ("2025-03-27", "01:20:32.955368"),
        ("2025-03-27T01:20:32.955368123", ""), ("2025/03/27 01:20:32.955368", ""),
        ("2025-03-27T02:20:32.955368+01:00", ""),
    ],
)  # fmt: skip
def test_dates_are_read_in_their_spellings(text: str, time: str) -> None:
    assert parse_date(text, time) == datetime(2025, 3, 27, 1, 20, 32, 955368, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2025-13-40", "0001-01-01", "9999-12-31T23:59:59"])
def test_a_date_that_cannot_be_is_none(text: str) -> None:
    assert parse_date(text) is None


def test_old_dates_with_two_digits_are_of_the_last_century() -> None:
    assert parse_date("18/02/97") == datetime(1997, 2, 18, tzinfo=UTC)


def test_a_night_has_the_date_of_its_evening_everywhere() -> None:
    evening, morning = datetime(2025, 3, 27, 1, 20, tzinfo=UTC), datetime(2025, 3, 27, 10, tzinfo=UTC)

    assert night_of(evening, -75.0).isoformat() == night_of(morning, -75.0).isoformat() == "2025-03-26"
    assert night_of(evening, None).isoformat() == "2025-03-26"
    assert (
        night_of(datetime(2025, 3, 27, 11, tzinfo=UTC), 150.0).isoformat() == "2025-03-27"
    )  # 21 h in Sydney


def test_a_missing_date_is_taken_from_the_name_and_the_longitude() -> None:
    found = facts(seestar(DATE_OBS=None), name="Light_M 94_10.0s_IRCUT_20250326-202046.fit")

    assert found.date == datetime(2025, 3, 27, 1, 20, 36, tzinfo=UTC)  # 5 hours behind, 10 s of exposure
    assert found.night == "2025-03-26"
    assert "date_from_name" in found.repairs


def test_centuries_are_julian() -> None:
    assert centuries_since_j2000(datetime(2100, 1, 1, 12, tzinfo=UTC)) == pytest.approx(1.0, abs=1e-4)


# --- names and kinds ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "kind", "target", "exposure", "filter_name", "count"),
    [
        ("Light_M 94_10.0s_IRCUT_20250326-212046.fit", "light", "M 94", 10.0, "IRCUT", None),
        ("Light_mosaic_M 31_20.0s_LP_20250518-233417.fit", "light", "M 31", 20.0, "LP", None),
        ("Light_my_odd_one 7_5.0s_LP_20250518-233417.fits.gz", "light", "my_odd_one 7", 5.0, "LP", None),
        ("Light_Unknown_10.0s_IRCUT_20250518-233417.fit", "light", "", 10.0, "IRCUT", None),
        ("Stacked_453_M 1_10.0s_IRCUT_20250518-233417.fit", "stack", "M 1", 10.0, "IRCUT", 453),
        ("Stacked_74_mosaic_M 1_10.0s_IRCUT_20250518-233417.fit", "stack", "M 1", 10.0, "IRCUT", 74),
        ("DSO_Stacked_120_M 101_20.0s_20260118_031522.fit", "stack", "M 101", 20.0, "", 120),
        ("Light_1069.fits", "light", "", None, "", None),
        ("M31.fits", "", "", None, "", None),
    ],
)  # fmt: skip
def test_seestar_names_are_read_from_the_right(
    name: str, kind: str, target: str, exposure: float | None, filter_name: str, count: int | None
) -> None:
    found = read_name(name)

    assert (found.kind, found.target, found.exposure) == (kind, target, exposure)
    assert (found.filter, found.count) == (filter_name, count)


@pytest.mark.parametrize(
    ("folder", "target"),
    [
        ("M 94_sub", "M 94"), ("mosaic_M 31", "M 31"), ("M 31_mosaic", "M 31"),
        ("NGC 7000_mosaic_sub", "NGC 7000"),
        ("lights", ""), ("MyWorks", ""), ("2025-03-26", ""), ("a", ""), ("m27", "m27"),
    ],
)  # fmt: skip
def test_folders_name_targets_unless_they_name_kinds(folder: str, target: str) -> None:
    assert folder_target(folder) == target


def test_spellings_of_a_target_are_one() -> None:
    assert target_key("M 94") == target_key("m94") == target_key("M_94")


@pytest.mark.parametrize(
    ("cards", "planes", "name", "folder", "kind"),
    [
        ({"IMAGETYP": "Light", "CREATOR": "ZWO Seestar S50", "BAYERPAT": "GRBG"}, 1, "a.fit", "", "light"),
        ({"IMAGETYP": "Light", "CREATOR": "ZWO Seestar S50", "BAYERPAT": "GRBG"}, 3, "a.fit", "", "stack"),
        ({"IMAGETYP": "Light", "STACKCNT": 588}, 3, "a.fit", "", "stack"),
        ({"IMAGETYP": "Light"}, 3, "DSO_Stacked_9_M 1_10.0s_20260101_010101.fit", "", "stack"),
        ({"IMAGETYP": "Light Frame"}, 3, "pp_light_00001.fit", "", "light"),
        ({"FRAME": "Light"}, 1, "Light_1069.fits", "", "light"),
        ({"IMAGETYP": "Dark Frame"}, 1, "x.fit", "", "dark"),
        ({"IMAGETYP": "FLAT"}, 1, "x.fit", "", "flat"),
        ({"IMAGETYP": "Bias Frame"}, 1, "x.fit", "", "bias"),
        ({}, 1, "master_dark_10s.fit", "", "dark"),
        ({}, 1, "0001.fit", "flats", "flat"),
        ({"EXPTIME": 0.0}, 1, "0001.fit", "", "bias"),
        ({"EXPTIME": 5.0}, 1, "0001.fit", "", "unknown"),
        ({}, 3, "M31_stacked.fit", "", "stack"),
        ({}, 1, "truth.fits", "", "picture"),
        ({"CREATOR": "astrobench"}, 3, "master.fits", "", "stack"),
        ({"CREATOR": "astrobench", "STRETCHD": True}, 3, "Light_x.fits", "", "picture"),
    ],
)  # fmt: skip
def test_the_kind_is_told_by_header_then_name_then_folder(
    cards: dict[str, Any], planes: int, name: str, folder: str, kind: str
) -> None:
    assert kind_of(cards, planes, read_name(name), folder) == kind


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("                   T / yes", True), ("'O''Brien / x' / name", "O'Brien / x"), ("  -12", -12),
        (" 1.5D3 / d", 1500.0), ("", None), (" / nothing", None), ("'open", "open"), (" NaN?", "NaN?"),
    ],
)  # fmt: skip
def test_values_of_cards_are_parsed(body: str, value: Any) -> None:
    assert parse_value(body) == value
