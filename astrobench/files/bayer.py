"""The Bayer order of the array as it is stored, whatever cards and conventions say."""

from __future__ import annotations

import re

from astrobench.files.cards import Cards, number, text

ORDERS = ("RGGB", "BGGR", "GRBG", "GBRG")
_CAMERA_ORDERS = (
    (re.compile(r"seestar", re.IGNORECASE), "GRBG"),
    (re.compile(r"\bASI120MC", re.IGNORECASE), "GRBG"),
    (re.compile(r"\bASI\d+MC", re.IGNORECASE), "RGGB"),
)


def bayer_of(
    cards: Cards, camera: str, planes: int, height: int, repairs: dict[str, str]
) -> tuple[str | None, str]:
    """Return the Bayer order of the stored array, first row first, and the order of its rows.

    BAYERPAT names the picture as one looks at it, top row first. Seestar files, which name no ROWORDER,
    store the top row first; where ROWORDER says BOTTOM-UP and the number of rows is even, the stored rows
    begin with the second row of the pattern.

    Returns
    -------
    bayer : str or None
        None for mono and for pictures that are colour already.
    row_order : {"TOP-DOWN", "BOTTOM-UP"}
    """
    row_order = "BOTTOM-UP" if text(cards, "ROWORDER").upper().startswith("BOTTOM") else "TOP-DOWN"
    written = re.sub(r"[^A-Z]", "", text(cards, "BAYERPAT", "COLORTYP", "BAYRPAT", "CFATYPE").upper())
    if planes == 3:
        if written in ORDERS:
            repairs["bayer_of_colour"] = written
        return None, row_order
    if written not in ORDERS:
        own = next((order for pattern, order in _CAMERA_ORDERS if pattern.search(camera)), None)
        if own is None or (number(cards, "XBINNING") or 1) > 1:
            return None, row_order
        repairs["bayer_missing"] = written = own
    right, down = _odd(cards, "XBAYROFF"), _odd(cards, "YBAYROFF")
    if right or down:
        written = shifted(written, right, down)
        repairs["bayer_offset"] = written
    if row_order == "BOTTOM-UP":
        written = shifted(written, False, height % 2 == 0)
        repairs["row_order"] = written
    return written, row_order


def shifted(order: str, right: bool, down: bool) -> str:
    """Return the order of a pattern that begins one column or one row later.

    >>> shifted("GRBG", False, True)
    'BGGR'
    """
    rows = [order[:2], order[2:]]
    if down:
        rows.reverse()
    if right:
        rows = [row[::-1] for row in rows]
    return "".join(rows)


def _odd(cards: Cards, keyword: str) -> bool:
    return int(number(cards, keyword) or 0) % 2 == 1
