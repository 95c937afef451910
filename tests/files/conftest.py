"""Small FITS files with the header of a Seestar's sub, honest or lying, written without astropy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The cards of an S50 with software 4.70, in its order; site and unit are made up.
SEESTAR: dict[str, Any] = {
    "SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 0, "NAXIS2": 0, "EXTEND": True,
    "BZERO": 32768, "BSCALE": 1, "CREATOR": "ZWO Seestar S50", "PRODUCER": "ZWO", "XORGSUBF": 0,
    "YORGSUBF": 0, "FOCALLEN": 250, "APERTURE": 5.0, "EQMODE": 1, "PROGRAM": "4.70", "XBINNING": 1,
    "YBINNING": 1, "XPIXSZ": 2.90000009536743, "YPIXSZ": 2.90000009536743, "IMAGETYP": "Light",
    "EXPOSURE": 10.0, "EXPTIME": 10.0, "CCD-TEMP": 25.125, "RA": 193.04166, "DEC": 40.970556,
    "SITELONG": -70.5, "SITELAT": 33.25, "DATE-OBS": "2025-03-27T01:20:32.955368", "FILTER": "IRCUT",
    "INSTRUME": "Seestar S50", "BAYERPAT": "GRBG", "GAIN": 80, "FOCUSPOS": 1555,
    "TELESCOP": "S50_0123abcd", "OBJECT": "M 94", "TOTALEXP": 10.0,
}  # fmt: skip
NAME = "Light_M 94_10.0s_IRCUT_20250326-212046.fit"


def card(keyword: str, value: Any) -> str:
    """Return one card of 80 characters."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"'{quoted:<8}'"
    else:
        text = f"{value!r:>20}"
    return f"{keyword:<8}= {text}"[:80].ljust(80)


def header(cards: dict[str, Any]) -> bytes:
    """Return a header unit; a value of None leaves the card out."""
    text = "".join(card(key, value) for key, value in cards.items() if value is not None) + f"{'END':<80}"
    return text.encode("latin-1").ljust(-(-len(text) // 2880) * 2880)


def stored(data: np.ndarray) -> bytes:
    """Return the bytes of the data part: big-endian, padded."""
    if data.dtype == np.uint16:
        content = (data ^ np.uint16(0x8000)).astype(">u2").tobytes()
    else:
        content = data.astype(data.dtype.newbyteorder(">")).tobytes()
    return content + bytes(-len(content) % 2880)


def sub_bytes(data: np.ndarray | None = None, cards: dict[str, Any] | None = None) -> bytes:
    """Return a whole file; `cards` change or (None) drop cards of the Seestar's header."""
    data = sky() if data is None else data
    axes = {"NAXIS": data.ndim, **{f"NAXIS{i}": length for i, length in enumerate(reversed(data.shape), 1)}}
    form = {"BITPIX": {"f": -8}.get(data.dtype.kind, 8) * data.dtype.itemsize}
    if data.dtype != np.uint16:
        form.update(BZERO=None, BSCALE=None)
    ordered = {"SIMPLE": True, **form, **axes}
    full = {**{key: ordered.get(key, SEESTAR.get(key)) for key in [*ordered, *SEESTAR]}, **(cards or {})}
    return header(full) + stored(data)


def sky(shape: tuple[int, ...] = (60, 40), level: float = 1000.0, seed: int = 0) -> np.ndarray:
    """Return a patch of sky with noise, uint16."""
    return np.random.default_rng(seed).normal(level, 90, shape).clip(0, 65535).astype(np.uint16)


WriteSub = Callable[..., Path]


@pytest.fixture
def write_sub(tmp_path: Path) -> WriteSub:
    """Return a function that writes a Seestar-like sub into the test's folder."""

    def write(name: str = NAME, data: np.ndarray | None = None, **cards: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        renamed = {key.replace("_", "-"): value for key, value in cards.items()}
        path.write_bytes(sub_bytes(data, renamed))
        return path

    return write


@pytest.fixture
def raw_sub() -> Callable[..., bytes]:
    """Return `sub_bytes`, for tests that damage a file before it is written."""
    return sub_bytes


@pytest.fixture
def write_night(write_sub: WriteSub) -> Callable[..., list[Path]]:
    """Return a function that writes several subs, ten seconds apart, each with its own noise."""

    def write(count: int, folder: str = "M 94_sub", **cards: Any) -> list[Path]:
        shape = cards.pop("shape", (60, 40))
        paths = []
        for i in range(count):
            minute, second = divmod(10 * i, 60)
            values = {"DATE_OBS": f"2025-03-27T01:{20 + minute}:{second:02}.000000", **cards}
            name = f"{folder}/Light_M 94_10.0s_IRCUT_20250326-21{20 + minute}{second:02}.fit"
            paths.append(write_sub(name, sky(shape, seed=i), **values))
        return paths

    return write
