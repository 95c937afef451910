"""Read and write TIFF: 16 bits for other programs, row 0 on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError
from astrobench.files.beside import written_beside
from astrobench.files.display import srgb_profile, story
from astrobench.image import Image, Unit

FULL = 65535
MOST_PACKED = 1000  # zlib's best; a file that claims more pixels than that does not hold them


def linear_range(data: NDArray[np.float32]) -> tuple[float, float]:
    """Return the values that become 0 and 65535 when linear data are written as 16 bits.

    The lower end is 0, or the lowest value where some are negative (what is added then is the pedestal).
    """
    finite = data[np.isfinite(data)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = min(float(finite.min()), 0.0), float(finite.max())
    return low, high if high > low else low + 1.0


def write_tiff(path: str | Path, image: Image, *, private: bool = True) -> None:
    """Write a picture as uncompressed 16-bit TIFF.

    Parameters
    ----------
    path : path
    image : Image
        Display values [0, 1] become 0..65535. Linear data are scaled to the full range, with a pedestal where
        values are negative; the description says how, and `read_tiff` undoes it. Pixels without data
        become 0.
    private : bool
        Leave site coordinates, people and the telescope's name out.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    import tifffile

    told = story(image, private)
    low, high = (0.0, 1.0) if image.unit == "display" else linear_range(image.data)
    told["unit"], told["zero"], told["full"] = image.unit, low, high
    scaled = (image.hwc().astype(np.float64) - low) * (FULL / (high - low))
    sixteen = np.rint(np.clip(np.nan_to_num(scaled), 0, FULL)).astype(np.uint16)
    colour = image.shape[0] == 3
    with written_beside(path) as beside:
        tifffile.imwrite(
            beside,
            sixteen,
            photometric="rgb" if colour else "minisblack",
            planarconfig="contig" if colour else None,
            description=json.dumps(told),
            metadata=None,
            software=told["software"],
            iccprofile=srgb_profile() if colour and image.unit == "display" else None,
        )


def read_tiff(path: str | Path) -> Image:
    """Read a TIFF of any program: 8, 16 or 32 bits or float; mono, RGB or RGBA; interleaved or planar.

    Parameters
    ----------
    path : path

    Returns
    -------
    Image
        The first picture of the file. What `write_tiff` made comes back in its own unit and scale. Of
        others, 8-bit pictures are taken for display values and scaled to [0, 1]; all else is taken for linear
        and keeps its values. A fourth channel (opacity) makes pixels NaN where it is 0.

    Raises
    ------
    InputError
        If the file is missing, broken, or no picture.
    """
    import tifffile

    path = Path(path)
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if page.nbytes > MOST_PACKED * path.stat().st_size:
                raise InputError(
                    f"{path.name} claims {page.imagewidth} x {page.imagelength} pixels, which its size "
                    "cannot hold. It is damaged; save it again."
                )
            stored = page.asarray()
            axes, description = page.axes, page.description
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except Exception as error:  # tifffile raises what its decoders raise
        raise InputError(
            f"{path.name} cannot be read as TIFF ({error}). Save it again without compression."
        ) from None
    planes = _planes(stored, axes, path)
    told = _told(description)
    unit: Unit = "display" if told.get("unit") == "display" or planes.dtype == np.uint8 else "ADU"
    opaque = None
    if planes.shape[0] in (2, 4):
        planes, opaque = planes[:-1], planes[-1] > 0
    data = _rescaled(planes, told)
    if opaque is not None:
        data[:, ~opaque] = np.nan
    recipe = json.dumps(told["recipe"], ensure_ascii=False) if "recipe" in told else None
    history = tuple(str(each) for each in told.get("steps", ()))
    return Image(data, header=_header(told), unit=unit, history=history, recipe=recipe)


def _planes(stored: NDArray[Any], axes: str, path: Path) -> NDArray[Any]:
    """Return the pixels as (C, H, W)."""
    if stored.dtype.kind not in "buif":
        raise InputError(f"{path.name} holds pixels of type {stored.dtype}, which is no picture.")
    if stored.ndim == 3 and stored.shape[-1] <= 4 and axes.endswith("S"):
        stored = np.moveaxis(stored, -1, 0)
    elif stored.ndim == 2:
        stored = stored[None]
    if stored.ndim != 3 or stored.shape[0] not in (1, 2, 3, 4):
        raise InputError(f"{path.name} holds an array of {stored.shape}; a picture has 1 or 3 channels.")
    return stored


def _rescaled(planes: NDArray[Any], told: dict[str, Any]) -> NDArray[np.float32]:
    zero, full = told.get("zero"), told.get("full")
    if planes.dtype == np.uint16 and isinstance(zero, int | float) and isinstance(full, int | float):
        return (planes.astype(np.float64) * ((full - zero) / FULL) + zero).astype(np.float32)
    if planes.dtype == np.uint8:
        return planes.astype(np.float32) / np.float32(255)
    return planes.astype(np.float32)


def _told(description: str) -> dict[str, Any]:
    """Return what `write_tiff` noted, or nothing when another program wrote the file."""
    try:
        told = json.loads(description)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and str(told.get("software", "")).startswith("astrobench") else {}


def _header(told: dict[str, Any]) -> Any:
    from astropy.io.fits import Header

    from astrobench.files.display import TOLD

    header = Header()
    for card, word in TOLD.items():
        if isinstance(told.get(word), str | int | float):
            header[card] = told[word]
    return header
