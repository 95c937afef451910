"""A frame: one file, and what is known of it before and after its pixels were measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError
from astrobench.files.checks import pixel_fault
from astrobench.files.kinds import Kind
from astrobench.files.layout import Layout, find_picture

if TYPE_CHECKING:
    from astrobench.kernels.stars import Stars


@dataclass(frozen=True)
class Measures:
    """What was measured in the pixels of a frame.

    Parameters
    ----------
    stars : int
        Detected stars.
    fwhm : float
        Median full width at half maximum, px.
    fwhm_arcsec : float or None
        The same in arcsec, where the scale is known.
    eccentricity : float
        Median, 0 round to 1 a line.
    sky, noise : float
        Sky level and its noise, ADU.
    snr : float
        Signal to noise of the frame.
    transparency : float or None
        Light that came through, 1 for the best frame.
    score : float or None
        Quality in one number, 1 for the best frame.
    word : str
        The score in a word.
    sky_by_colour, noise_by_colour : tuple of float
        Level and noise of single samples of red, green and blue (or of the one plane), ADU.
    star_list : Stars or None
        The detected stars, brightest first, for matching.
    """

    stars: int
    fwhm: float
    fwhm_arcsec: float | None
    eccentricity: float
    sky: float
    noise: float
    snr: float
    transparency: float | None = None
    score: float | None = None
    word: str = ""
    sky_by_colour: tuple[float, ...] = ()
    noise_by_colour: tuple[float, ...] = ()
    star_list: Stars | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Frame:
    """One file and what is known of it; pixels are read only when asked for.

    Parameters
    ----------
    path : Path
    name : str
        Path from the scanned folder down, as reports give it.
    hdu : int
        Which part of the file holds the picture.
    width, height, planes : int
        Pixels; `planes` is 1 or 3.
    dtype : str
        As stored: ``"uint16"``, ``"float32"``, ...
    kind : {"light", "dark", "flat", "bias", "stack", "picture", "unknown"}
    camera, target, filter : str
        '' where nothing tells.
    exposure : float
        Seconds; 0 where nothing tells.
    gain, temperature : float or None
        As the camera counts it; degrees Celsius.
    date : datetime or None
        Start of the exposure, UTC.
    night : str
        Date of the evening, ``"2025-03-26"``; noon to noon.
    software : str
    bayer : str or None
        Order of the array as stored, first row first.
    row_order : {"TOP-DOWN", "BOTTOM-UP"}
        Whether the first stored row is the top or the bottom of the picture.
    ra, dec : float or None
        Where the telescope was sent, ICRS degrees.
    pixel_scale : float or None
        Arcsec a pixel.
    saturation : float
        Level [ADU] from which a pixel is saturated.
    pedestal : float
        ADU to subtract.
    stack_count : int or None
    total_exposure : float or None
        Of a stack, seconds.
    group : str
        Camera, night, target, filter, exposure, gain in one text.
    use : bool
    reason : str
        Why it is set aside, in words that continue "This frame ...".
    measures : Measures or None
    """

    path: Path
    name: str = ""
    hdu: int = 0
    width: int = 0
    height: int = 0
    planes: int = 1
    dtype: str = "uint16"
    kind: Kind = "unknown"
    camera: str = ""
    target: str = ""
    filter: str = ""
    exposure: float = 0.0
    gain: float | None = None
    temperature: float | None = None
    date: datetime | None = None
    night: str = ""
    software: str = ""
    bayer: str | None = None
    row_order: str = "TOP-DOWN"
    ra: float | None = None
    dec: float | None = None
    pixel_scale: float | None = None
    saturation: float = 65000.0
    pedestal: float = 0.0
    stack_count: int | None = None
    total_exposure: float | None = None
    group: str = ""
    use: bool = True
    reason: str = ""
    measures: Measures | None = None
    layout: Layout | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", Path(self.path).name)

    def read(self) -> NDArray[np.uint16] | NDArray[np.float32]:
        """Return the pixels as stored, fresh, in native byte order.

        Returns
        -------
        (H, W) or (3, H, W), uint16 or float32
            Unsigned 8 and 16 bit integers as uint16, everything else as float32 with NaN where the file has
            no data. Rows are in the order of the file; the pedestal is still there.

        Raises
        ------
        InputError
            If the file cannot be read or is cut off.
        """
        from astrobench.files.fits import read_pixels

        return read_pixels(self._layout())

    def raw_span(self) -> tuple[int, str, bool] | None:
        """Return where the pixels lie in the file, for those who read rows of many files at once.

        Returns
        -------
        offset : int
            Byte of the first pixel; row-major (row, column) or (plane, row, column) from there.
        dtype : str
            ``">i2"`` or ``">f4"``.
        is_unsigned : bool
            Whether the top bit of every word must be turned (BZERO = 32768), which makes it uint16.
            None instead of the three where only `read` can decode the file.
        """
        layout = self._layout()
        if (
            layout.packing != "plain"
            or not layout.is_simple
            or (len(layout.shape) == 3 and layout.shape[0] != 3)
        ):
            return None
        return layout.offset, ">f4" if layout.bitpix == -32 else ">i2", layout.dtype == "uint16"

    def hash(self) -> str:
        """Return the 128-bit xxh3 hash of the file's bytes; a file that did not change is read once."""
        try:
            status = self.path.stat()
            return _hash(self.path, status.st_mtime_ns, status.st_size)
        except OSError as error:
            raise InputError(f"{self.path.name} cannot be read: {(error.strerror or '').lower()}.") from None

    def replace(self, **changes: Any) -> Frame:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def _layout(self) -> Layout:
        return self.layout or find_picture(Path(self.path))


@lru_cache(maxsize=20_000)
def _hash(path: Path, modified: int, size: int) -> str:
    import xxhash

    hasher = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def check_pixels(frame: Frame, array: NDArray[Any]) -> str | None:
    """Return why these pixels cannot be used as a sub (empty, constant, NaN, overexposed), or None.

    Parameters
    ----------
    frame : Frame
    array : (H, W) or (3, H, W)
        What `Frame.read` gave.
    """
    return pixel_fault(array, frame.saturation)
