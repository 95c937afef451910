"""Coordinates as headers give them: hours or degrees, the equinox of the date, the astronomer's night."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta

ARCSEC = math.pi / (180 * 3600)
J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
DAYS_PER_CENTURY = 36525.0


def sexagesimal(text: str) -> float | None:
    """Return '19 59 41.97', '-22:43:19' or '41.1' as a number in the unit of its first part."""
    match = re.fullmatch(
        r"\s*([+-]?)(\d+(?:\.\d*)?)(?:[\s:hd°]+(\d+(?:\.\d*)?))?(?:[\s:m']+(\d+(?:\.\d*)?))?[\s\"s]*", text
    )
    if not match:
        return None
    sign, *parts = match.groups()
    value = sum(float(part) / 60**i for i, part in enumerate(parts) if part)
    return -float(value) if sign == "-" else float(value)


def precess_to_j2000(ra: float, dec: float, centuries: float) -> tuple[float, float]:
    """Turn mean coordinates of a date into those of J2000, which ICRS equals within 0.02".

    Parameters
    ----------
    ra, dec : float
        Degrees, equinox of date.
    centuries : float
        Julian centuries from J2000 to that date.

    References
    ----------
    Capitaine, Wallace & Chapront 2003, A&A 412, 567, equations 40 (zeta, z) and 39 (theta).
    """
    t = centuries
    zeta = (2.650545 + (2306.083227 + (0.2988499 + 0.01801828 * t) * t) * t) * ARCSEC
    z = (-2.650545 + (2306.077181 + (1.0927348 + 0.01826837 * t) * t) * t) * ARCSEC
    theta = (2004.191903 + (-0.4294934 - 0.04182264 * t) * t) * t * ARCSEC
    from_node, height = math.radians(ra) - z, math.radians(dec)
    x = math.cos(theta) * math.cos(height) * math.cos(from_node) + math.sin(theta) * math.sin(height)
    y = math.cos(height) * math.sin(from_node)
    up = -math.sin(theta) * math.cos(height) * math.cos(from_node) + math.cos(theta) * math.sin(height)
    return math.degrees(math.atan2(y, x) - zeta) % 360.0, math.degrees(math.asin(max(-1.0, min(1.0, up))))


def centuries_since_j2000(moment: datetime) -> float:
    """Return Julian centuries from J2000 (the minute between UTC and TT does not matter here)."""
    return (moment - J2000).total_seconds() / 86400 / DAYS_PER_CENTURY


def separation(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Return the angle between two positions, all in degrees (haversine)."""
    a, b = math.radians(dec1), math.radians(dec2)
    along = math.radians(ra1 - ra2)
    half = math.sin((a - b) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(along / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(half))))


def night_of(moment: datetime, longitude: float | None) -> date:
    """Return the evening's date of the night that `moment` (UTC) falls in: noon to noon by the sun.

    Without a longitude the day is cut at noon UTC.
    """
    hours = (longitude or 0.0) / 15.0
    return (moment + timedelta(hours=hours - 12)).date()


def parse_date(text: str, time: str = "") -> datetime | None:
    """Read DATE-OBS in its spellings: ISO with or without time, 'DD/MM/YY' of before 1998."""
    text = text.strip().rstrip("Z")
    old = re.fullmatch(r"(\d{2})/(\d{2})/(\d{2}|\d{4})", text)
    if old:
        day, month, year = old.groups()
        text = f"{'19' + year if len(year) == 2 else year}-{month}-{day}"
    if len(text) == 10 and time:
        text = f"{text}T{time.strip().rstrip('Z')}"
    text = re.sub(r"^(\d{4})[/.](\d{2})[/.](\d{2})", r"\1-\2-\3", text).replace(",", ".")
    text = re.sub(r"\.(\d{6})\d+$", r".\1", text)
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment if 1850 < moment.year < 2200 else None
