"""Read a FITS picture of any program into an image: a stack of a telescope, of Siril, or one of our own."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrobench.errors import InputError
from astrobench.files.fits import read_pixels
from astrobench.files.fits_write import RECIPE, joined_history
from astrobench.files.layout import Layout, find_picture
from astrobench.image import MAPS, Image

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.wcs import WCS


def read_fits(path: Path) -> Image:
    """Read the first picture of a FITS file; of our own files the maps, the recipe and the history too.

    Parameters
    ----------
    path : Path
        2-D, or three colours as the first or last axis; in the primary HDU or the first image extension.

    Returns
    -------
    Image
        The top row first: a picture that says ROWORDER = 'BOTTOM-UP', as Siril's do, is turned over with its
        maps and its solution. The scale as stored.

    Raises
    ------
    InputError
        If the file cannot be read or holds no picture.
    """
    layout = find_picture(path)
    pixels = read_pixels(layout)
    with _astropy(layout) as hdus:
        header = hdus[layout.hdu].header
        if layout.hdu:
            header = _inherited(hdus[0].header, header)
        is_own = str(header.get("CREATOR", "")).lower().startswith("astrobench") and layout.hdu == 0
        fields = _maps_and_recipe(hdus, pixels.shape) if is_own else {}
        history = joined_history([str(line) for line in header.get("HISTORY", [])])
        wcs = _wcs(header, pixels.shape)
        if str(header.get("ROWORDER", "")).strip().upper() == "BOTTOM-UP":
            pixels = pixels[..., ::-1, :]
            fields = {name: v[..., ::-1, :] if name in MAPS else v for name, v in fields.items()}
            wcs = None if wcs is None else _turned_over(wcs, pixels.shape[-2])
        return Image(
            np.ascontiguousarray(pixels, dtype=np.float32),
            wcs=wcs,
            header=_cleaned(header),
            unit="display" if header.get("STRETCHD") is True else "ADU",
            history=history,
            **fields,
        )


@contextmanager
def _astropy(layout: Layout) -> Iterator[Any]:
    """Open the file with astropy for its headers and maps."""
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with layout.path.open("rb") as file, fits.open(file, memmap=False) as hdus:
                yield hdus
        except (InputError, MemoryError):
            raise
        except Exception as error:  # astropy raises a dozen kinds on damaged headers
            raise InputError(f"{layout.path.name} has a damaged header or extension. Copy it again.") from error


def _inherited(primary: Header, extension: Header) -> Header:
    """Return the extension's header with what only the primary says (object, dates)."""
    header = extension.copy()
    for card in primary.cards:
        if card.keyword and card.keyword not in header and card.keyword not in ("SIMPLE", "EXTEND"):
            header.append(card, end=True)
    return header


def _maps_and_recipe(hdus: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the maps that fit the picture, and the recipe, as fields of an image."""
    fields: dict[str, Any] = {}
    kinds = {"coverage": np.uint16, "reject_low": np.uint16, "reject_high": np.uint16, "flags": np.uint8}
    for hdu in hdus[1:]:
        name = str(hdu.name).lower()
        if name in MAPS and hdu.data is not None and hdu.data.shape[-2:] == shape[-2:]:
            fields[name] = np.array(hdu.data, dtype=kinds.get(name, np.float32), order="C")
        elif name == RECIPE.lower():
            text = str(hdu.data[RECIPE][0])
            fields["recipe"] = json.dumps(json.loads(text), ensure_ascii=False)
    return fields


def _cleaned(header: Header) -> Header:
    """Return the header without what the image itself holds: the array's form, unit and history."""
    kept = header.copy(strip=True)
    for keyword in ("HISTORY", "STRETCHD", "BUNIT", "EXTNAME", "BZERO", "BSCALE", "BLANK", "EXTEND", "ROWORDER"):
        kept.remove(keyword, ignore_missing=True, remove_all=True)
    return kept


def _turned_over(wcs: WCS, height: int) -> WCS | None:
    """Return the solution for the rows in the other order; one with distortion terms is dropped."""
    if wcs.sip is not None or wcs.cpdis1 is not None or wcs.cpdis2 is not None:
        return None
    turned = wcs.deepcopy()
    turned.wcs.crpix = [wcs.wcs.crpix[0], height + 1 - wcs.wcs.crpix[1]]
    turned.wcs.cd = wcs.pixel_scale_matrix * np.array([1.0, -1.0])
    return turned


def read_recipe(path: Path) -> str | None:
    """Return the recipe stored in a FITS picture as JSON, without reading its pixels; None where there is none."""
    with _astropy(find_picture(path)) as hdus:
        return str(hdus[RECIPE].data[RECIPE][0]) if RECIPE in hdus else None


def _wcs(header: Header, shape: tuple[int, ...]) -> WCS | None:
    """Return the celestial solution of the two picture axes, or None."""
    if not str(header.get("CTYPE1", "")).startswith(("RA", "DEC", "GLON", "ELON")):
        return None
    from astropy.wcs import WCS

    try:
        wcs = WCS(header, naxis=2)
    except Exception:  # a broken solution is no reason to refuse the picture
        return None
    wcs.array_shape = shape[-2:]
    return wcs if wcs.has_celestial else None
