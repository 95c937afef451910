"""What a FITS header tells of a frame, and the repairs that headers of real telescopes need.

Every repair has a name; `REPAIRS` holds the sentence that the report gives for it, once for all frames it
met.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from astrobench.files.bayer import bayer_of
from astrobench.files.cards import Cards, number, text
from astrobench.files.names import NameFacts, clean_target, folder_target
from astrobench.files.sky import centuries_since_j2000, night_of, parse_date, precess_to_j2000, sexagesimal

REPAIRS = {
    "equinox": "RA and DEC of {count} frames are of the equinox of the date; turned into ICRS for every use.",
    "ra_hours": "RA of {count} frames is written in hours; turned into degrees.",
    "ra_text": "RA and DEC of {count} frames are sexagesimal text; read as hours and degrees.",
    "radecsys": "{count} frames name their reference system in the old card RADECSYS; read as RADESYS.",
    "bayer_missing": "{count} frames of a colour camera name no Bayer order; taken as the camera's, {value}.",
    "bayer_offset": "XBAYROFF or YBAYROFF shift the Bayer order of {count} frames; it is {value} as stored.",
    "row_order": "{count} frames store the bottom row first (ROWORDER): Bayer order {value} as stored.",
    "bayer_of_colour": "{count} pictures of three planes still carry BAYERPAT; they are colour already.",
    "filter_of_colour": "{count} frames of a colour camera say FILTER={value}; taken as no filter.",
    "filter_from_name": "{count} frames name no filter; taken from the file's name: {value}.",
    "target_from_name": "{count} frames do not name their target; taken from the file or folder: {value}.",
    "exposure_from_name": "{count} frames give no exposure; taken from the file's name: {value} s.",
    "exposure_differs": "{count} frames give EXPTIME and EXPOSURE that differ; EXPTIME is used.",
    "exposure_card": "{count} frames give their exposure in EXPOSURE only, not EXPTIME; used.",
    "date_form": "DATE-OBS of {count} frames is not written in the standard form; read nevertheless.",
    "date_from_name": "{count} frames have no DATE-OBS; their time is taken from the file's name.",
    "scale_s50": "{count} Seestar S50 frames name a focal length of 250 mm; solved frames show 252 mm, "
    "which is used for the scale.",
    "pedestal_absent": "{count} frames name a pedestal that their pixels do not have; none is subtracted.",
}

SEESTAR_FOCAL = {"S50": (250.0, 252.0)}  # mm nominal and solved: 2.374" a pixel of 2.9 um
NO_FILTER = ("", "none", "nofilter", "no filter", "clear", "unknown", "n/a", "luminance", "lum", "l")
SATURATION = {"uint16": 65000.0, "int16": 32700.0, "uint8": 250.0}  # Seestar subs clip at 65498 to 65526
FLOAT_SATURATION = 65000.0

_SEESTAR_UNIT = re.compile(r"^(S\d+(?: ?Pro)?)(?:[_ ]([0-9a-zA-Z]{4,}))?$", re.IGNORECASE)


@dataclass(frozen=True)
class HeaderFacts:
    """What is known of a frame from its header, its name and its folder, after repairs.

    `unit` tells two telescopes of one model apart; it is a serial number and never leaves this package.
    """

    camera: str
    unit: str
    target: str
    filter: str
    exposure: float
    gain: float | None
    temperature: float | None
    date: datetime | None
    night: str
    software: str
    bayer: str | None
    row_order: str
    ra: float | None
    dec: float | None
    pixel_scale: float | None
    saturation: float
    pedestal: float
    stack_count: int | None
    total_exposure: float | None
    repairs: dict[str, str] = field(default_factory=dict)


def read_facts(
    cards: Cards, *, planes: int, height: int, dtype: str, name: NameFacts, folder: str
) -> HeaderFacts:
    """Read a frame's facts from its header; name and folder fill what the header leaves open."""
    repairs: dict[str, str] = {}
    camera, unit = camera_of(cards)
    longitude = _longitude(cards)
    exposure = _exposure(cards, name, repairs)
    date = _date(cards, name, longitude, exposure, repairs)
    bayer, row_order = bayer_of(cards, camera, planes, height, repairs)
    is_colour = bayer is not None or planes == 3
    ra, dec = _position(cards, camera, date, repairs)
    count = number(cards, "STACKCNT", "NCOMBINE", "NUMFRAME")
    return HeaderFacts(
        camera=camera,
        unit=unit,
        target=_target(cards, name, folder, repairs),
        filter=_filter(cards, name, is_colour, repairs),
        exposure=exposure,
        gain=number(cards, "GAIN"),
        temperature=number(cards, "CCD-TEMP", "CCDTEMP", "SENSTEMP", "SET-TEMP"),
        date=date,
        night=night_of(date, longitude).isoformat() if date else "",
        software=text(cards, "SWCREATE", "CREATOR", "SOFTWARE", "PROGRAM"),
        bayer=bayer,
        row_order=row_order,
        ra=ra,
        dec=dec,
        pixel_scale=_pixel_scale(cards, camera, repairs),
        saturation=number(cards, "SATURATE") or SATURATION.get(dtype, FLOAT_SATURATION),
        pedestal=abs(number(cards, "BIAS", "PEDESTAL") or 0.0),
        stack_count=int(count) if count is not None and 0 < count < 1e9 else name.count,
        total_exposure=number(cards, "TOTALEXP", "LIVETIME"),
        repairs=repairs,
    )


def camera_of(cards: Cards) -> tuple[str, str]:
    """Return the camera's model and, apart from it, what tells this unit from others of the model."""
    instrument, telescope = text(cards, "INSTRUME"), text(cards, "TELESCOP")
    unit = _SEESTAR_UNIT.match(telescope)
    is_seestar = "seestar" in f"{instrument} {text(cards, 'CREATOR')} {telescope}".lower()
    if unit or is_seestar:
        model = unit[1] if unit else ""
        if not model:
            named = re.search(
                r"S\d+(?: ?Pro)?", f"{instrument} {text(cards, 'CREATOR')} {telescope}", re.IGNORECASE
            )
            model = named[0] if named else ""
        return f"Seestar {model}".strip(), (unit[2] or "") if unit else ""
    serial = text(cards, "CAMID", "SERIAL", "SERNO", "CAMSERNO")
    return re.sub(r"[_ -][0-9a-fA-F]{8,}$", "", instrument or telescope), serial


def _exposure(cards: Cards, name: NameFacts, repairs: dict[str, str]) -> float:
    exposure, other = number(cards, "EXPTIME"), number(cards, "EXPOSURE")
    if exposure is None and other is not None:
        repairs["exposure_card"] = f"{other:g}"
        exposure = other
    elif exposure is not None and other is not None and not math.isclose(exposure, other, rel_tol=0.01):
        repairs["exposure_differs"] = f"{exposure:g}"
    if exposure is None and name.exposure is not None:
        repairs["exposure_from_name"] = f"{name.exposure:g}"
        exposure = name.exposure
    return max(exposure or 0.0, 0.0)


def _longitude(cards: Cards) -> float | None:
    """Return the site's longitude, east positive, for the date of the night only; it is never shown."""
    for keyword in ("SITELONG", "LONG-OBS", "OBSGEO-L", "GPS_LONG"):
        value = cards.get(keyword)
        degrees = sexagesimal(value) if isinstance(value, str) else number(cards, keyword)
        if degrees is not None and abs(degrees) <= 360:
            return (degrees + 180) % 360 - 180
    return None


def _date(
    cards: Cards, name: NameFacts, longitude: float | None, exposure: float, repairs: dict[str, str]
) -> datetime | None:
    written = text(cards, "DATE-OBS", "DATE-BEG", "DATE_OBS")
    if written:
        date = parse_date(written, text(cards, "TIME-OBS", "UT", "UTC", "UTSTART"))
        if date is not None:
            if not re.match(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}", written):
                repairs["date_form"] = written
            return date
    modified = number(cards, "MJD-OBS")
    if modified is not None and 0 < modified < 200_000:
        repairs["date_form"] = "MJD-OBS"
        return datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=modified)
    if name.saved is None:
        return None
    repairs["date_from_name"] = "name"
    zone = round((longitude or 0.0) / 15.0)  # names carry the local time of saving
    return name.saved.replace(tzinfo=UTC) - timedelta(hours=zone, seconds=min(exposure, 86400.0))


def _position(
    cards: Cards, camera: str, date: datetime | None, repairs: dict[str, str]
) -> tuple[float | None, float | None]:
    """Return where the telescope pointed, ICRS degrees, or (None, None)."""
    if "RADECSYS" in cards and "RADESYS" not in cards:
        repairs["radecsys"] = text(cards, "RADECSYS")
    is_solved = text(cards, "CTYPE1").startswith("RA--")
    is_seestar = camera.startswith("Seestar")
    if is_solved and is_seestar and (solution := _checked(number(cards, "CRVAL1"), number(cards, "CRVAL2"))):
        return solution
    found = _commanded(cards, repairs)
    if found is None:
        solution = _checked(number(cards, "CRVAL1"), number(cards, "CRVAL2")) if is_solved else None
        return solution or (None, None)
    ra, dec = found
    equinox = number(cards, "EQUINOX", "EPOCH")
    system = text(cards, "RADESYS", "RADECSYS").upper()
    centuries = 0.0
    if equinox is not None and 1850 < equinox < 2150:
        centuries = (equinox - 2000.0) / 100.0
    elif equinox is None and not system and is_seestar and date is not None:
        centuries = centuries_since_j2000(date)
    if abs(centuries) < 1e-3:
        return ra, dec
    repairs["equinox"] = "of date"
    return precess_to_j2000(ra, dec, centuries)


def _commanded(cards: Cards, repairs: dict[str, str]) -> tuple[float, float] | None:
    """Return RA and DEC cards in degrees, in the equinox they are given in."""
    for ra_card, dec_card in (("RA", "DEC"), ("OBJCTRA", "OBJCTDEC"), ("RA_OBJ", "DEC_OBJ")):
        ra, dec = cards.get(ra_card), cards.get(dec_card)
        if ra is None or dec is None:
            continue
        declination = sexagesimal(dec) if isinstance(dec, str) else number(cards, dec_card)
        if isinstance(ra, str):
            hours = sexagesimal(ra)
            is_sexagesimal = re.search(r"\d[\s:h]+\d", ra) is not None
            factor = 15.0 if is_sexagesimal and hours is not None and hours < 24 else 1.0
            if is_sexagesimal:
                repairs["ra_text"] = "text"
            found = _checked(None if hours is None else hours * factor, declination)
        else:
            degrees = number(cards, ra_card)
            if degrees is not None and ra_card == "RA" and _is_hours(cards, degrees):
                repairs["ra_hours"] = "hours"
                degrees *= 15.0
            found = _checked(degrees, declination)
        if found:
            return found
    return None


def _is_hours(cards: Cards, ra: float) -> bool:
    """Whether a numeric RA is in hours: its comment says so, or 15 times it agrees with another card."""
    if not 0 <= ra < 24:
        return False
    if re.search(r"\bhours?\b|\[h", text(cards, "RA comment"), re.IGNORECASE):
        return True
    written = cards.get("OBJCTRA")
    hours = sexagesimal(written) if isinstance(written, str) else None
    others = [hours * 15 if hours is not None else None]
    if text(cards, "CTYPE1").startswith("RA--"):
        others.append(number(cards, "CRVAL1"))
    return any(other is not None and abs(ra * 15 - other) < 2 < abs(ra - other) for other in others)


def _checked(ra: float | None, dec: float | None) -> tuple[float, float] | None:
    if ra is None or dec is None or not (0 <= ra <= 360 and abs(dec) <= 90) or (ra == 0 and dec == 0):
        return None
    return ra, dec


def _target(cards: Cards, name: NameFacts, folder: str, repairs: dict[str, str]) -> str:
    target = clean_target(text(cards, "OBJECT", "OBJNAME"))
    if target:
        return target
    target = name.target or folder_target(folder)
    if target:
        repairs["target_from_name"] = target
    return target


def _filter(cards: Cards, name: NameFacts, is_colour: bool, repairs: dict[str, str]) -> str:
    written = text(cards, "FILTER", "FILTER1", "FILT-1")
    if is_colour and written.lower() in NO_FILTER:
        if written and written.lower() not in ("none", "unknown", "n/a"):
            repairs["filter_of_colour"] = f"'{written}'"
        written = ""
    if not written and name.filter:
        repairs["filter_from_name"] = name.filter
        written = name.filter
    return written


def _pixel_scale(cards: Cards, camera: str, repairs: dict[str, str]) -> float | None:
    """Return arcseconds a pixel: from a solution, else from pixel size and focal length."""
    a, b = number(cards, "CD1_1"), number(cards, "CD2_1")
    if a is not None and b is not None:
        return _plausible(math.hypot(a, b) * 3600)
    size, focal = number(cards, "XPIXSZ"), number(cards, "FOCALLEN")
    if size is None and (bare := number(cards, "PIXSIZE1")) is not None:
        size = bare * (number(cards, "XBINNING") or 1.0)
    if size and focal:
        nominal, solved = SEESTAR_FOCAL.get(camera.removeprefix("Seestar "), (0.0, 0.0))
        if focal == nominal:
            repairs["scale_s50"] = f"{solved:g}"
            focal = solved
        return _plausible(size * 1e-3 / focal / math.pi * 180 * 3600)
    direct = number(cards, "SECPIX", "SECPIX1", "PIXSCALE", "SCALE")
    if direct is None and (step := number(cards, "CDELT1")) is not None:
        direct = step * 3600 if text(cards, "CTYPE1").startswith("RA--") else None
    return _plausible(abs(direct)) if direct is not None else None


def _plausible(scale: float) -> float | None:
    """Return a scale between a planetary camera's and a fish-eye lens's, else None."""
    return scale if 0.01 < scale < 1000 else None
