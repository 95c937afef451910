"""Write FITS header cards, without astropy where the card is a plain one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

from astrobench.files.cards import BLOCK, CARD

LONGEST_NUMBER = 20  # columns of the fixed format (Pence et al. 2010, A&A 524, A42, section 4.2)

_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_PRINTABLE = re.compile(r"[ -~]*")


def header_bytes(cards: Iterable[tuple[str, Any, str]]) -> bytes:
    """Return a header unit of these cards (keyword, value, comment), with END and blanks to a multiple of 2880.

    Raises
    ------
    ValueError
        If a value cannot stand in a FITS header: NaN, infinite, or not printable ASCII.
    """
    text = "".join(_plain(*card) or _by_astropy(*card) for card in cards) + f"{'END':{CARD}}"
    return (text + " " * (-len(text) % BLOCK)).encode("ascii")


def _plain(keyword: str, value: Any, comment: str) -> str | None:
    """Return the 80 columns of a card; None for one that needs CONTINUE, HIERARCH or a rarer type."""
    if not _KEYWORD.fullmatch(keyword):
        return None
    if keyword in ("HISTORY", "COMMENT"):
        card = f"{keyword:8}{value}"
    else:
        written = _value(value)
        if written is None:
            return None
        card = f"{keyword:8}= {written}" + (f" / {comment}" if comment.strip() else "")
    return f"{card:{CARD}}" if len(card) <= CARD and _PRINTABLE.fullmatch(card) else None


def _value(value: Any) -> str | None:
    """Write a value as astropy does: the shortest digits that give the number back."""
    if type(value) is str:
        quoted = "'" + f"{value.replace(chr(39), chr(39) * 2):8}" + "'"
        return f"{quoted:20}" if value else "''"
    if type(value) is bool:
        return f"{'T' if value else 'F':>20}"
    if type(value) is int:
        return f"{value:>20d}"
    if type(value) is float and abs(value) < float("inf"):
        number = str(value).replace("e", "E")
        return f"{number:>20}" if len(number) <= LONGEST_NUMBER else None
    return None


def _by_astropy(keyword: str, value: Any, comment: str) -> str:
    from astropy.io.fits import Card

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a comment that does not fit is cut
        return str(Card(keyword, value, comment or None))
