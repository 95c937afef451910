"""Write an image to FITS with its maps, recipe and history, block by block and always the same bytes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from astrobench.files.beside import written_beside
from astrobench.files.cards import BLOCK
from astrobench.files.header_cards import header_bytes
from astrobench.files.private import is_private_card, is_private_text, without_serial

if TYPE_CHECKING:
    from astrobench.image import Card, Image

Fields = dict[str, tuple[Any, str]]  # value and comment by keyword, in the order of the header

WRITTEN_AT_ONCE = 1 << 22  # bytes; a picture that lies in a scratch file is never in memory as a whole
HISTORY_WIDTH = 70
CONTINUED = "  "
RECIPE = "RECIPE"

# Written from the image itself; what the header says of them is out of date.
_STRUCTURE = (
    " SIMPLE XTENSION BITPIX NAXIS EXTEND PCOUNT GCOUNT GROUPS BZERO BSCALE BLANK BUNIT EXTNAME EXTVER "
    "INHERIT CHECKSUM DATASUM DATAMIN DATAMAX CREATOR STRETCHD ROWORDER END HISTORY COMMENT CONTINUE "
    "LONGSTRN BAYERPAT COLORTYP BAYRPAT XBAYROFF YBAYROFF "
)
_WCS_CARD = re.compile(
    r"(WCSAXES|CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|LONPOLE|LATPOLE|MJDREF|RADESYS|RADECSYS|EQUINOX|EPOCH)"
    r"|(CD|PC|PV)\d_|(A|B|AP|BP)_"
)
_WCS_DATES = re.compile(r"DATE|MJD|TIMESYS")  # astropy derives them from DATE-OBS, which is kept as it is


def write_fits(path: Path, image: Image, *, private: bool = True) -> None:
    """Write an image as float32 (C, H, W), or (H, W) for mono, with an extension for each map it carries.

    Parameters
    ----------
    path : Path
        Written beside its place and renamed.
    image : Image
        Arrays may lie in scratch files; they are written in blocks of 4 MB.
    private : bool
        Leave out cards that tell the site, people and serial numbers.

    Notes
    -----
    Nothing of the moment or the computer is written: the same image gives the same bytes.
    """
    with written_beside(path) as beside, beside.open("wb") as file:
        _write_array(file, image.data, *_primary_header(image, private))
        for name, array in image.maps():
            _write_array(file, array, _map_header(image, name))
        if image.recipe is not None:
            _write_recipe(file, image.recipe)


def _write_array(file: BinaryIO, array: NDArray[Any], fields: Fields, texts: Iterable[Card] = ()) -> None:
    """Write one HDU: its kind, its form, the other cards, big-endian words, zeros up to the next block."""
    stored = array[0] if array.shape[0] == 1 else array
    unsigned = stored.dtype == np.uint16
    words = np.dtype(">u2" if unsigned else stored.dtype.newbyteorder(">"))
    kind, *others = fields.items()
    form: Fields = {"BITPIX": ({"f": -8, "i": 8, "u": 8}[words.kind] * words.itemsize, ""), "NAXIS": (stored.ndim, "")}
    form.update({f"NAXIS{i}": (length, "") for i, length in enumerate(reversed(stored.shape), 1)})
    scale: Fields = {"BZERO": (32768, ""), "BSCALE": (1, "")} if unsigned else {}
    file.write(header_bytes([*_cards(dict([kind]) | form | dict(others)), *texts, *_cards(scale)]))
    for part in _blocks(stored):
        block = part.astype(words)
        if unsigned:
            block ^= np.uint16(0x8000)
        file.write(block.data)
    file.write(bytes(-(stored.size * words.itemsize) % BLOCK))


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield runs of rows, plane by plane, of at most 4 MB."""
    planes = array if array.ndim == 3 else array[None]
    rows = max(1, WRITTEN_AT_ONCE // max(1, planes.shape[2] * array.dtype.itemsize))
    for plane in planes:
        for start in range(0, plane.shape[0], rows):
            yield plane[start : start + rows]


def _cards(fields: Fields) -> list[Card]:
    return [(keyword, value, comment) for keyword, (value, comment) in fields.items()]


def _primary_header(image: Image, private: bool) -> tuple[Fields, list[Card]]:
    """Return what the primary header says besides the form of the array, and its COMMENT and HISTORY."""
    header: Fields = {"SIMPLE": (True, "conforms to the FITS standard"), "EXTEND": (True, "")}
    header["CREATOR"] = ("astrobench", "made this picture")
    header["BUNIT"] = ("adu" if image.unit == "ADU" else "", "")
    if image.unit == "display":
        header["STRETCHD"] = (True, "display values from 0 to 1")
    cards = image.cards()
    rows = next((str(value) for keyword, value, _ in cards if keyword == "ROWORDER"), "TOP-DOWN")
    header["ROWORDER"] = (rows, "which row is stored first")
    _add_kept_cards(header, image, private)
    _add_wcs(header, image)
    texts: list[Card] = [] if private else [card for card in cards if card[0] == "COMMENT"]
    for line in image.history:
        if not (private and is_private_text(line)):
            texts.extend(("HISTORY", chunk, "") for chunk in history_chunks(line))
    return header, texts


def _add_kept_cards(header: Fields, image: Image, private: bool) -> None:
    """Copy the cards worth keeping, with their comments, in their order."""
    for keyword, value, comment in image.cards():
        if not keyword or keyword in header or keyword.startswith(("NAXIS", "TTYPE", "TFORM")):
            continue
        if f" {keyword} " in _STRUCTURE or (image.wcs is not None and _WCS_CARD.match(keyword)):
            continue
        if private and is_private_card(keyword):
            continue
        header[keyword] = (without_serial(keyword, value) if private else value, comment)


def _add_wcs(header: Fields, image: Image) -> None:
    if image.wcs is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = image.wcs.to_header(relax=True)
    for card in solution.cards:
        if not _WCS_DATES.match(card.keyword):
            header[card.keyword] = (card.value, card.comment)


def _map_header(image: Image, name: str) -> Fields:
    header: Fields = {"XTENSION": ("IMAGE", "image extension"), "PCOUNT": (0, ""), "GCOUNT": (1, "")}
    header["EXTNAME"] = (name.upper(), "")
    if name == "variance":
        header["BUNIT"] = ("adu2" if image.unit == "ADU" else "", "")
    _add_wcs(header, image)
    return header


def _write_recipe(file: BinaryIO, recipe: str) -> None:
    """Write the recipe as the one text of a table, which every FITS tool can show."""
    content = json.dumps(json.loads(recipe)).encode("ascii")
    header: Fields = {"XTENSION": ("BINTABLE", "binary table extension"), "BITPIX": (8, ""), "NAXIS": (2, "")}
    header |= {"NAXIS1": (len(content), ""), "NAXIS2": (1, ""), "PCOUNT": (0, ""), "GCOUNT": (1, "")}
    header |= {"TFIELDS": (1, ""), "TTYPE1": (RECIPE, "JSON"), "TFORM1": (f"{len(content)}A", "")}
    header["EXTNAME"] = (RECIPE, "")
    file.write(header_bytes(_cards(header)))
    file.write(content + bytes(-len(content) % BLOCK))


def history_chunks(line: str) -> list[str]:
    """Cut a line into cards; those after the first begin with two blanks, so that they can be joined."""
    rest = line.encode("ascii", "backslashreplace").decode("ascii").replace("\n", " ").strip()
    chunks: list[str] = []
    while rest or not chunks:
        lead = CONTINUED if chunks else ""
        end = HISTORY_WIDTH - len(lead)
        while end > 1 and len(rest) > end and (rest[end - 1] == " " or rest[end] == " "):
            end -= 1  # blanks at either end of a card are lost
        chunks.append(lead + rest[:end])
        rest = rest[end:]
    return chunks


def joined_history(cards: list[str]) -> tuple[str, ...]:
    """Return the lines that `history_chunks` cut."""
    lines: list[str] = []
    for card in cards:
        if card.startswith(CONTINUED) and lines:
            lines[-1] += card[len(CONTINUED) :]
        elif card.strip():
            lines.append(card)
    return tuple(lines)
