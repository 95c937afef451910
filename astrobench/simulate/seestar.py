"""Names, headers and bytes of the subs of a Seestar S50, as its software writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 2880  # bytes (FITS standard 4.0, section 3.1)
FILTER = "IRCUT"
LOCAL_HOURS = -7  # of the site against UT
SITE_LATITUDE, SITE_LONGITUDE = 31.9583, -111.5967  # Kitt Peak National Observatory
TELESCOP = "S50_51a7f00d"  # no real serial number
FOCUS = 1612


def sub_name(target: str, exposure: float, saved: datetime) -> str:
    """Name of a sub: target, exposure, filter and the local time of saving.

    Parameters
    ----------
    target : str
    exposure : float
        Seconds.
    saved : datetime
        UT of saving.

    Returns
    -------
    str
    """
    local = saved + timedelta(hours=LOCAL_HOURS)
    return f"Light_{target}_{exposure:.1f}s_{FILTER}_{local:%Y%m%d-%H%M%S}.fit"


def equinox_of_date(ra: float, dec: float, when: datetime) -> tuple[float, float]:
    """Precess J2000 coordinates [deg] to the equinox of date, in which a Seestar writes them."""
    from astropy import units
    from astropy.coordinates import FK5, SkyCoord
    from astropy.time import Time

    place = SkyCoord(ra * units.deg, dec * units.deg, frame=FK5(equinox="J2000"))
    moved = place.transform_to(FK5(equinox=Time(when)))
    return float(moved.ra.deg), float(moved.dec.deg)


def _number(value: float, digits: int) -> str:
    """Write a number as CFITSIO does: as few digits as it needs, with a point."""
    text = f"{value:.{digits}G}"
    return text if "." in text else text + "."


def header_cards(
    shape: tuple[int, int],
    *,
    target: str,
    exposure: float,
    started: datetime,
    ra: float,
    dec: float,
    temperature: float,
    program: str,
    equatorial: bool,
) -> list[str]:
    """Build the header of one sub, card by card in the order of a Seestar.

    Parameters
    ----------
    shape : (H, W)
    target : str
    exposure : float
        Seconds.
    started : datetime
        UT of the start of the exposure.
    ra, dec : float
        Degrees, equinox of date.
    temperature : float
        Of the sensor, degrees Celsius.
    program : str
        Software version; EQMODE exists from 4.70 on.
    equatorial : bool
        Mount mode, for EQMODE.

    Returns
    -------
    list of str
        Cards of 80 characters, END included.
    """
    name = target.replace("'", "''")
    pixel = "2.90000009536743"
    seconds = _number(exposure, 15)
    rows: list[tuple[str, str, str]] = [
        ("SIMPLE", "T", "file does conform to FITS standard"),
        ("BITPIX", "16", "number of bits per data pixel"),
        ("NAXIS", "2", "number of data axes"),
        ("NAXIS1", str(shape[1]), "length of data axis 1"),
        ("NAXIS2", str(shape[0]), "length of data axis 2"),
        ("EXTEND", "T", "FITS dataset may contain extensions"),
        ("COMMENT", "  FITS (Flexible Image Transport System) format is defined in 'Astronomy", ""),
        ("COMMENT", "  and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H", ""),
        ("BZERO", "32768", "offset data range to that of unsigned short"),
        ("BSCALE", "1", "default scaling factor"),
        ("CREATOR", "'ZWO Seestar S50'", "Capture software"),
        ("PRODUCER", "'ZWO     '", "Powered by ZWO"),
        ("XORGSUBF", "0", "Subframe X position in binned pixels"),
        ("YORGSUBF", "0", "Subframe Y position in binned pixels"),
        ("FOCALLEN", "250", "Focal length of telescope in mm"),
        ("APERTURE", "5.", "Name of field of view aperture"),
    ]
    if program >= "4.70":
        rows.append(("EQMODE", "1" if equatorial else "0", "Equatorial mode"))
    rows += [
        ("PROGRAM", f"'{program:<8}'", "The name of the software task that created the file"),
        ("XBINNING", "1", "Camera X Bin"),
        ("YBINNING", "1", "Camera Y Bin"),
        ("CCDXBIN", "1", "Camera X Bin"),
        ("CCDYBIN", "1", "Camera Y Bin"),
        ("XPIXSZ", pixel, "pixel size in microns (with binning)"),
        ("YPIXSZ", pixel, "pixel size in microns (with binning)"),
        ("IMAGETYP", "'Light   '", "Type of image"),
        ("EXPOSURE", seconds, "Exposure time in seconds"),
        ("EXPTIME", seconds, "Exposure time in seconds"),
        ("CCD-TEMP", _number(round(temperature * 16) / 16, 15), "sensor temperature in C"),
        ("RA", _number(ra, 8), "Object Right Ascension in degrees"),
        ("DEC", _number(dec, 8), "Object Declination in degrees"),
        ("SITELONG", _number(SITE_LONGITUDE, 8), "longitude of the imaging site in degrees"),
        ("SITELAT", _number(SITE_LATITUDE, 8), "latitude of the imaging site in degrees"),
        ("DATE-OBS", f"'{started:%Y-%m-%dT%H:%M:%S.%f}'", "Image created time"),
        ("FILTER", f"'{FILTER:<8}'", "Filter used when taking image"),
        ("INSTRUME", "'Seestar S50'", "Camera model"),
        ("BAYERPAT", "'GRBG    '", "Bayer pattern"),
        ("GAIN", "80", "Gain Value"),
        ("FOCUSPOS", str(FOCUS), "Focuser position in steps"),
        ("TELESCOP", f"'{TELESCOP}'", "Telescope name"),
        ("OBJECT", f"'{name:<8}'", "name or catalog number of object being imaged"),
        ("TOTALEXP", seconds, "Total Exposure Time in seconds"),
    ]
    return [_card(*row) for row in rows] + [f"{'END':<80}"]


def _card(name: str, value: str, comment: str) -> str:
    if name == "COMMENT":
        return f"{name:<8}{value}"[:80].ljust(80)
    value = f"{value:<20}" if value.startswith("'") else f"{value:>20}"
    return f"{name:<8}= {value} / {comment}"[:80].ljust(80)


def write_sub(path: Path, numbers: NDArray[np.uint16], cards: list[str]) -> None:
    """Write one sub: header blocks, then big-endian 16-bit numbers with BZERO 32768.

    Parameters
    ----------
    path : Path
    numbers : ndarray of uint16, shape (H, W)
    cards : list of str
        Of 80 characters, END last.
    """
    header = "".join(cards).encode("ascii")
    header += b" " * (-len(header) % BLOCK)
    data = (numbers ^ np.uint16(0x8000)).astype(">u2")
    with path.open("wb") as file:
        file.write(header)
        file.write(data.tobytes())
        file.write(b"\0" * (-data.nbytes % BLOCK))
