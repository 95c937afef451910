"""What the picture formats share: display values as bytes, the story as text, the sRGB profile."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.files.private import is_private_text
from astrobench.image import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

STRIP = 64  # rows at once: what they need stays in the cache

# Cards that may be told to everybody, and the words they get in a picture.
TOLD = {
    "OBJECT": "object",
    "DATE-OBS": "date",
    "EXPTIME": "exposure",
    "STACKCNT": "frames",
    "TOTALEXP": "total_exposure",
    "FILTER": "filter",
    "RA": "ra",
    "DEC": "dec",
}
TOLD_IF_ASKED = {
    "SITELAT": "site_latitude",
    "SITELONG": "site_longitude",
    "TELESCOP": "telescope",
    "OBSERVER": "observer",
}


def display_values(image: Image) -> NDArray[np.float32]:
    """Return (C, H, W) values in [0, 1]; linear data are shown through an autostretch; NaN stays NaN."""
    if image.unit == "display":
        return np.clip(image.data, 0, 1)
    from astrobench.kernels.tone import autostretch

    return autostretch(image.data)


def to_bytes(image: Image) -> NDArray[np.uint8]:
    """Return the picture as (H, W, C) bytes, row 0 on top; pixels without data are black."""
    values = display_values(image)
    channels, height, width = values.shape
    eight = np.empty((height, width, channels), np.uint8)
    for start in range(0, height, STRIP):
        rows = slice(start, start + STRIP)
        levels = np.nan_to_num(values[:, rows]) * np.float32(255) + np.float32(0.5)
        eight[rows] = np.moveaxis(levels.astype(np.uint8), 0, -1)
    return eight


def to_picture(image: Image) -> Picture:
    """Return an 8-bit Pillow picture, row 0 on top; pixels without data are black."""
    from PIL import Image as PillowImage

    eight = to_bytes(image)
    return PillowImage.fromarray(eight[:, :, 0] if eight.shape[2] == 1 else eight)


def story(image: Image, private: bool) -> dict[str, Any]:
    """Return what a picture tells of itself: object, exposure, frames, filter, steps and recipe.

    Site coordinates, people and the telescope's name (a Seestar's carries its serial number) are told only
    when `private` is False.
    """
    told: dict[str, Any] = {"software": f"astrobench {_version()}"}
    names = TOLD if private else {**TOLD, **TOLD_IF_ASKED}
    cards: dict[str, Any] = {}
    for keyword, value, _ in image.cards():
        cards.setdefault(keyword, value)
    for card, word in names.items():
        value = cards.get(card)
        if isinstance(value, str | int | float) and value != "":
            told[word] = value
    if image.history:
        told["steps"] = [line for line in image.history if not (private and is_private_text(line))]
    if image.recipe:
        told["recipe"] = json.loads(image.recipe)
    return told


def caption(told: dict[str, Any]) -> str:
    """Return one line for people, for example ``"M 94, 240 x 10 s, IRCUT"``."""
    parts = [str(told["object"])] if "object" in told else []
    if "exposure" in told:
        frames = f"{told['frames']} x " if "frames" in told else ""
        parts.append(f"{frames}{told['exposure']} s")
    if "filter" in told:
        parts.append(str(told["filter"]))
    return ", ".join(parts)


@cache
def srgb_profile() -> bytes:
    """Return an sRGB colour profile, made by Pillow at run time."""
    from PIL import ImageCms

    profile: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + bytes(12) + profile[36:]  # without its time of making: the same picture, the same bytes


def _version() -> str:
    try:
        return version("astrobench")
    except PackageNotFoundError:
        return "unknown"
