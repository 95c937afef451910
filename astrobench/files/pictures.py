"""Open and save a picture, whatever its format: the file's name decides which module does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from astrobench.errors import InputError, ParameterError
from astrobench.files.kinds import is_fits_name

if TYPE_CHECKING:
    from astrobench.image import Image

WRITTEN = (".fits", ".fit", ".fts", ".tif", ".tiff", ".png", ".jpg", ".jpeg")


def open_image(path: str | Path) -> Image:
    """Read a picture: a FITS file of any program, or a TIFF.

    Parameters
    ----------
    path : path
        ``.fits``, ``.fit``, ``.fts`` (also ``.gz`` and ``.fz``), ``.tif`` or ``.tiff``.

    Returns
    -------
    Image
        (C, H, W) float32, rows in the order of the file, the scale as stored; NaN where the file has no data.

    Raises
    ------
    InputError
        If the file is missing, broken, or no picture.
    """
    path = Path(path)
    if path.suffix.lower() in (".tif", ".tiff"):
        from astrobench.files.fits import require_regular_file
        from astrobench.files.tiff import read_tiff

        require_regular_file(path)
        return read_tiff(path)
    if is_fits_name(path.name) or path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        from astrobench.files.fits_image import read_fits

        return read_fits(path)
    raise InputError(
        f"{path.name} is a display picture, which holds 8 bits of stretched brightness. "
        "Open the FITS or TIFF file that it was made from."
    )


def save_image(image: Image, path: str | Path, *, private: bool = True, overwrite: bool = True) -> None:
    """Write a picture; the suffix chooses the format.

    Parameters
    ----------
    image : Image
    path : path
        ``.fits``, ``.fit``, ``.fts``: everything the image carries. ``.tif``, ``.png``, ``.jpg``: the data
        alone.
    private : bool
        Leave site coordinates, names of people and serial numbers out.
    overwrite : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    ParameterError
        If the suffix is none of these, or the file exists and may not be replaced.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise ParameterError(
            f"'{path.name}' has no known suffix; pictures are written as {', '.join(WRITTEN)}."
        )
    if not overwrite and path.exists():
        raise ParameterError(f"{path.name} exists already; choose another name or allow it to be replaced.")
    if suffix in (".tif", ".tiff"):
        from astrobench.files.tiff import write_tiff

        write_tiff(path, image, private=private)
    elif suffix == ".png":
        from astrobench.files.png import write_png

        write_png(path, image, private=private)
    elif suffix in (".jpg", ".jpeg"):
        from astrobench.files.jpeg import write_jpeg

        write_jpeg(path, image, private=private)
    else:
        from astrobench.files.fits_write import write_fits

        write_fits(path, image, private=private)
