"""What tells where and who: cards that are left out of everything that is written."""

from __future__ import annotations

import re

# Heights and hour angles beside a time give the place away as surely as its coordinates do.
_PRIVATE_KEY = re.compile(
    r"^(?:SITE.*|OBSGEO.*|OBS-?(?:LAT|LON|ELEV|ALT).*|GPS.*|GEO.*|"
    r"(?:LAT|LON|LONG|ALT|ELEV)(?:-OBS)?|LATITUDE|LONGITUD|ELEVATIO|"
    r"OBSERVER|OBSERVAT|AUTHOR|OWNER|USER.*|OPERATOR|HOST.*|COMPUTER|IP.?ADDR|MAC.?ADDR|"
    r".*SERIAL.*|.*SERNO.*|.*SERNUM.*|S/N|SN|CAM-?ID|DEVID|DEVICEID|UNITID|"
    r"(?:OBJCT|CENT|TEL)(?:ALT|AZ|HA)|ALTITUDE|AZIMUTH|HA|HOURANG|LST|ST|SIDEREAL|"
    r"DATE-LOC|LOCTIME|TIMEZONE|FILENAME|FILEPATH|ORIGFILE|PATH)$",
    re.IGNORECASE,
)
_PRIVATE_TEXT = re.compile(
    r"latitude|longitude|elevation|\bsite|\blat\b|\blong?\b|observer|serial|[a-z]:\\|/home/|/users/",
    re.IGNORECASE,
)
_UNIT_MARK = re.compile(r"[_ -](?=[0-9a-f]*\d)[0-9a-f]{6,}$", re.IGNORECASE)


def is_private_card(keyword: str) -> bool:
    """Whether a card tells the observing site, a person, a computer or a serial number."""
    return _PRIVATE_KEY.match(keyword.strip()) is not None


def is_private_text(line: str) -> bool:
    """Whether a line of HISTORY or COMMENT speaks of such things."""
    return _PRIVATE_TEXT.search(line) is not None


def without_serial(keyword: str, value: object) -> object:
    """Return the model alone of a name that ends in the number of the unit (``S50_1d3fe189``)."""
    if keyword in ("TELESCOP", "INSTRUME", "CAMERA", "CREATOR", "CCDNAME") and isinstance(value, str):
        return _UNIT_MARK.sub("", value)
    return value
