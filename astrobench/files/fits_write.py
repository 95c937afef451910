"""Write an image to FITS with its maps, recipe and history, block by block and always the same bytes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from astrobench.files.beside import written_beside
from astrobench.files.cards import BLOCK
from astrobench.files.private import is_private_card, is_private_text, without_serial

if TYPE_CHECKING:
    from astropy.io.fits import Header

    from astrobench.image import Image

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
        _write_array(file, image.data, _primary_header(image, private))
        for name, array in image.maps():
            _write_array(file, array, _map_header(image, name))
        if image.recipe is not None:
            _write_recipe(file, image.recipe)


def _write_array(file: BinaryIO, array: NDArray[Any], header: Header) -> None:
    """Write one HDU: header, big-endian words, zeros up to the next block."""
    stored = array[0] if array.shape[0] == 1 else array
    unsigned = stored.dtype == np.uint16
    words = np.dtype(">u2" if unsigned else stored.dtype.newbyteorder(">"))
    header.set("BITPIX", {"f": -8, "i": 8, "u": 8}[words.kind] * words.itemsize)
    header.set("NAXIS", stored.ndim)
    for i, length in enumerate(reversed(stored.shape), 1):
        header.set(f"NAXIS{i}", length, after="NAXIS" if i == 1 else f"NAXIS{i - 1}")
    if unsigned:
        header.set("BZERO", 32768)
        header.set("BSCALE", 1)
    file.write(header.tostring().encode("ascii"))
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


def _primary_header(image: Image, private: bool) -> Header:
    from astropy.io.fits import Header

    header = Header()
    header["SIMPLE"] = (True, "conforms to the FITS standard")
    header["BITPIX"] = -32
    header["NAXIS"] = 3
    header["EXTEND"] = True
    header["CREATOR"] = ("astrobench", "made this picture")
    header["BUNIT"] = "adu" if image.unit == "ADU" else ""
    if image.unit == "display":
        header["STRETCHD"] = (True, "display values from 0 to 1")
    rows = str(image.header.get("ROWORDER", "TOP-DOWN")) if image.header is not None else "TOP-DOWN"
    header["ROWORDER"] = (rows, "which row is stored first")
    if image.header is not None:
        _add_kept_cards(header, image, private)
    _add_wcs(header, image)
    for line in image.history:
        if not (private and is_private_text(line)):
            for chunk in history_chunks(line):
                header.add_history(chunk)
    return header


def _add_kept_cards(header: Header, image: Image, private: bool) -> None:
    """Copy the cards worth keeping, with their comments, in their order."""
    assert image.header is not None
    for card in image.header.cards:
        keyword = card.keyword
        if not keyword or keyword in header or keyword.startswith(("NAXIS", "TTYPE", "TFORM")):
            continue
        if f" {keyword} " in _STRUCTURE or (image.wcs is not None and _WCS_CARD.match(keyword)):
            continue
        if private and is_private_card(keyword):
            continue
        value = without_serial(keyword, card.value) if private else card.value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.append((keyword, value, card.comment), end=True)
    if not private:
        for line in image.header.get("COMMENT", []):
            header.add_comment(str(line))


def _add_wcs(header: Header, image: Image) -> None:
    if image.wcs is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        solution = image.wcs.to_header(relax=True)
    for card in solution.cards:
        if not _WCS_DATES.match(card.keyword):
            header[card.keyword] = (card.value, card.comment)


def _map_header(image: Image, name: str) -> Header:
    from astropy.io.fits import Header

    header = Header()
    header["XTENSION"] = ("IMAGE", "image extension")
    header["BITPIX"] = 8
    header["NAXIS"] = 2
    header["PCOUNT"] = 0
    header["GCOUNT"] = 1
    header["EXTNAME"] = name.upper()
    if name == "variance":
        header["BUNIT"] = "adu2" if image.unit == "ADU" else ""
    _add_wcs(header, image)
    return header


def _write_recipe(file: BinaryIO, recipe: str) -> None:
    """Write the recipe as the one text of a table, which every FITS tool can show."""
    from astropy.io.fits import Header

    content = json.dumps(json.loads(recipe)).encode("ascii")
    header = Header()
    header["XTENSION"] = ("BINTABLE", "binary table extension")
    header["BITPIX"] = 8
    header["NAXIS"] = 2
    header["NAXIS1"] = len(content)
    header["NAXIS2"] = 1
    header["PCOUNT"] = 0
    header["GCOUNT"] = 1
    header["TFIELDS"] = 1
    header["TTYPE1"] = (RECIPE, "JSON")
    header["TFORM1"] = f"{len(content)}A"
    header["EXTNAME"] = RECIPE
    file.write(header.tostring().encode("ascii"))
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
