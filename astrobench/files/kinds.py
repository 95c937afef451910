"""What a file is: a light, a dark, a flat, a bias, a stack, or a finished picture."""

from __future__ import annotations

import re
from typing import Literal

from astrobench.files.cards import Cards, number, text
from astrobench.files.names import NameFacts

Kind = Literal["light", "dark", "flat", "bias", "stack", "picture", "unknown"]

FITS_SUFFIXES = (".fit", ".fits", ".fts", ".fit.gz", ".fits.gz", ".fts.gz", ".fz")
IMAGETYP: tuple[tuple[str, Kind], ...] = (
    ("masterlight", "stack"),
    ("light", "light"),
    ("object", "light"),
    ("science", "light"),
    ("target", "light"),
    ("dark", "dark"),
    ("flat", "flat"),
    ("bias", "bias"),
    ("offset", "bias"),
    ("zero", "bias"),
)
WORDS: tuple[tuple[str, Kind], ...] = (
    (r"(?:^|[_\W])(?:stack|stacked|integration|master[_ ]?light)(?:[_\W\d]|$)", "stack"),
    (r"(?:^|[_\W])(?:result|final|processed|truth)(?:[_\W\d]|$)", "picture"),
    (r"(?:^|[_\W])(?:master)?[_ ]?darks?(?:flats?)?(?:[_\W\d]|$)", "dark"),
    (r"(?:^|[_\W])(?:master)?[_ ]?flats?(?:[_\W\d]|$)", "flat"),
    (r"(?:^|[_\W])(?:master)?[_ ]?(?:bias(?:es)?|offsets?)(?:[_\W\d]|$)", "bias"),
    (r"(?:^|[_\W])(?:lights?|subs?)(?:[_\W\d]|$)", "light"),
)


def is_fits_name(name: str) -> bool:
    """Whether a file's name says that it is FITS, packed or not."""
    return name.lower().endswith(FITS_SUFFIXES)


def is_own(cards: Cards) -> bool:
    """Whether astrobench made this picture; a simulated sub says what it simulates instead."""
    return re.fullmatch(r"astrobench( [\d.]\S*)?", text(cards, "CREATOR"), re.IGNORECASE) is not None


def kind_of(cards: Cards, planes: int, name: NameFacts, folder: str) -> Kind:
    """Tell the kind of a picture from its header, then its name, then its shape.

    A telescope's stack calls itself 'Light' and keeps BAYERPAT, so what speaks for a stack is asked first.

    Parameters
    ----------
    cards : dict
    planes : int
        1 or 3.
    name : NameFacts
        What the file's name tells.
    folder : str
        Name of the folder that holds it.

    Returns
    -------
    kind : str
        ``"unknown"`` where nothing tells; the content may decide.
    """
    if is_own(cards):
        return "picture" if cards.get("STRETCHD") is True else "stack"
    count = number(cards, "STACKCNT", "NCOMBINE", "NUMFRAME") or 0
    if name.kind == "stack" or count > 1:
        return "stack"
    declared = text(cards, "IMAGETYP", "FRAME", "FRAMETYP", "OBSTYPE").lower().replace(" ", "")
    for word, kind in IMAGETYP:
        if word in declared:
            is_seestar_stack = kind == "light" and planes == 3 and "seestar" in text(cards, "CREATOR").lower()
            return "stack" if is_seestar_stack else kind
    if name.kind:
        return name.kind
    for place, words in ((name.stem, WORDS), (folder, WORDS[2:])):
        for pattern, kind in words:
            if re.search(pattern, place, re.IGNORECASE):
                return kind
    if number(cards, "EXPTIME", "EXPOSURE") == 0:
        return "bias"
    return "unknown"
