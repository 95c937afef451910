"""What the names of a Seestar's files and folders tell.

``Light_<target>_<exposure>s_<filter>_<local time>.fit``, ``Stacked_<n>_<target>_...``,
``DSO_Stacked_<n>_<target>_...``; the target may hold blanks, underscores, digits or the word mosaic, so
names are read from the right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

_STAMP = re.compile(r"^(?P<rest>.*?)[_-]?(?P<date>\d{8})[-_](?P<time>\d{6})$")
_FILTER = re.compile(r"^(?P<rest>.*?)_(?P<filter>IRCUT|LP)$", re.IGNORECASE)
_EXPOSURE = re.compile(r"^(?P<rest>.*?)_(?P<exposure>\d+(?:\.\d+)?)s(?:ec)?$", re.IGNORECASE)
_LIGHT = re.compile(r"^Light_(?P<rest>.*)$", re.IGNORECASE)
_STACK = re.compile(r"^(?:DSO_)?Stacked_(?P<count>\d+)_(?P<rest>.*)$", re.IGNORECASE)
_MOSAIC = re.compile(r"^mosaic_|_mosaic$", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(?:fits?|fts)(?:\.(?:gz|fz))?$|\.fz$", re.IGNORECASE)

# Folders that say what kind of files they hold, or nothing at all, but name no target.
_NO_TARGET = re.compile(
    r"^(?:(?:my)?works?|raws?|data|fits?|images?|pictures?|lights?|subs?|frames?|darks?|flats?|bias(?:es)?|"
    r"offsets?|calib\w*|process|night\W?\d*|session\W?\d*|astro\w*|downloads?|desktop|documents?|tmp|temp|"
    r"input|output|\d[\d_.-]*|.)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class NameFacts:
    """What a file's name tells; empty or None where it says nothing."""

    stem: str
    kind: Literal["", "light", "stack"] = ""
    target: str = ""
    exposure: float | None = None
    filter: str = ""
    saved: datetime | None = None
    count: int | None = None


def read_name(name: str) -> NameFacts:
    """Read the name of a Seestar's file from the right; other names give their stem alone."""
    stem = _SUFFIX.sub("", name)
    rest, saved = stem, None
    match = _STAMP.match(rest)
    if match:
        saved = _time(match["date"] + match["time"])
        if saved is not None:
            rest = match["rest"]
    filter_name = ""
    match = _FILTER.match(rest)
    if match:
        rest, filter_name = match["rest"], match["filter"].upper()
    exposure = None
    match = _EXPOSURE.match(rest)
    if match:
        rest, exposure = match["rest"], float(match["exposure"])
    kind: Literal["", "light", "stack"] = ""
    count = None
    if match_stack := _STACK.match(rest):
        kind, count, rest = "stack", int(match_stack["count"]), match_stack["rest"]
    elif match_light := _LIGHT.match(rest):
        kind, rest = "light", match_light["rest"]
    if not kind:
        return NameFacts(stem, exposure=exposure, filter=filter_name, saved=saved)
    is_seestar = exposure is not None or saved is not None
    target = clean_target(rest) if is_seestar else ""
    return NameFacts(stem, kind, target, exposure, filter_name, saved, count)


def _time(digits: str) -> datetime | None:
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S")
    except ValueError:
        return None


def clean_target(text: str) -> str:
    """Return a target's name without the marks of mosaic mode; '' for 'Unknown'."""
    target = _MOSAIC.sub("", text.strip().strip("_")).strip("_ ")
    return "" if target.lower() in ("unknown", "none", "n/a", "no target", "mosaic") else target


def folder_target(folder: str) -> str:
    """Return the target that a folder is named after (``M 31_sub``, ``mosaic_M 31``), or ''."""
    name = re.sub(r"_subs?$", "", folder, flags=re.IGNORECASE)
    return "" if _NO_TARGET.match(name) else clean_target(name)


def target_key(target: str) -> str:
    """Return the target's name as it is compared: 'M 94', 'm94' and 'M_94' are one."""
    return re.sub(r"[\s_\-]+", "", target).casefold()
