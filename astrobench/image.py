"""A picture with what is known of every pixel: variance, coverage, weight, what was rejected."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import ParameterError

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from astropy.nddata import CCDData
    from astropy.wcs import WCS

MAPS = ("variance", "coverage", "weight", "reject_low", "reject_high", "flags")
SATURATED = 1  # bit of `flags`: every sample of this pixel was at saturation
Unit = Literal["ADU", "display"]
Card = tuple[str, Any, str]  # keyword, value, comment


class _HeaderField:
    """Keeps plain cards as they are and makes an astropy Header of them for whoever asks: it takes 0.3 s to load."""

    @overload
    def __get__(self, image: None, owner: type[Image]) -> None: ...
    @overload
    def __get__(self, image: Image, owner: type[Image]) -> Header | None: ...
    def __get__(self, image: Image | None, owner: type[Image]) -> Header | None:
        if image is None:
            return None  # what the field is where nothing is given
        kept: Header | tuple[Card, ...] | None = image.__dict__["_header"]
        if isinstance(kept, tuple):
            from astropy.io.fits import Header

            image.__dict__["_header"] = kept = Header(list(kept))
        return kept

    def __set__(self, image: Image, value: Header | tuple[Card, ...] | None) -> None:
        image.__dict__["_header"] = value


@dataclass(frozen=True, eq=False)
class Image:
    """An immutable picture; a step returns a new one.

    Parameters
    ----------
    data : (C, H, W) float32
        Linear data in ADU without pedestal, or display values in [0, 1] once stretched. NaN: no data.
    variance : (C, H, W) float32, optional
        Variance of `data` in its units squared.
    coverage : (C, H, W) uint16, optional
        Number of frames that reach the pixel.
    weight : (C, H, W) float32, optional
        Sum of the weights of the kept samples.
    reject_low, reject_high : (C, H, W) uint16, optional
        Number of samples rejected below and above.
    flags : (C, H, W) uint8, optional
        Bits: 1 saturated in every frame.
    wcs : astropy WCS, optional
    header : astropy Header, optional
        Cards worth keeping (object, dates, exposure). A tuple of (keyword, value, comment) may be given.
    unit : {"ADU", "display"}
    history : tuple of str
        The steps that made it, each as one line of Python.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None = None
    coverage: NDArray[np.uint16] | None = None
    weight: NDArray[np.float32] | None = None
    reject_low: NDArray[np.uint16] | None = None
    reject_high: NDArray[np.uint16] | None = None
    flags: NDArray[np.uint8] | None = None
    wcs: WCS | None = None
    header: _HeaderField = _HeaderField()
    unit: Unit = "ADU"
    history: tuple[str, ...] = ()
    recipe: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.ndim == 2:
            data = data[None]
        if data.ndim != 3 or data.shape[0] not in (1, 3):
            raise ParameterError(
                f"An image needs the shape (C, H, W) with 1 or 3 channels; this array has {data.shape}."
            )
        object.__setattr__(self, "data", data.astype(np.float32, copy=False))
        for name, value in self.maps():
            if value.ndim == 2:
                value = value[None]
                object.__setattr__(self, name, value)
            if value.shape[1:] != data.shape[1:] or value.shape[0] not in (1, data.shape[0]):
                raise ParameterError(f"The map '{name}' is {value.shape}; the picture is {data.shape}.")

    def maps(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield (name, array) of every map that this image carries."""
        for name in MAPS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.data.shape
        return channels, height, width

    def replace(self, **changes: Any) -> Image:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **{"header": self.__dict__["_header"], **changes})

    def cards(self) -> tuple[Card, ...]:
        """Return the cards of the header as plain tuples, in their order."""
        kept = self.__dict__["_header"]
        if kept is None or isinstance(kept, tuple):
            return kept or ()
        return tuple((card.keyword, card.value, card.comment) for card in kept.cards)

    def hwc(self) -> NDArray[np.float32]:
        """Return the data as (H, W, C), or (H, W) for mono, for scikit-image and plots."""
        return np.asarray(self.data[0] if self.shape[0] == 1 else np.moveaxis(self.data, 0, -1))

    def luminance(self) -> NDArray[np.float32]:
        """Return the mean over the channels, (H, W)."""
        return np.asarray(self.data.mean(axis=0, dtype=np.float32))

    def to_ccddata(self) -> CCDData:
        """Return an astropy CCDData: variance as uncertainty, mask where there is no data."""
        from astropy.nddata import CCDData, VarianceUncertainty

        def flat(planes: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(planes[0]) if self.shape[0] == 1 else planes

        uncertainty = None if self.variance is None else VarianceUncertainty(flat(self.variance))
        unit = "adu" if self.unit == "ADU" else ""
        mask = ~np.isfinite(flat(self.data))
        meta = dict(self.header) if self.header is not None else {}
        return CCDData(flat(self.data), uncertainty=uncertainty, mask=mask, unit=unit, meta=meta)

    @classmethod
    def from_ccddata(cls, ccd: CCDData) -> Image:
        """Make an image from an astropy CCDData; masked pixels become NaN."""
        from astropy.io.fits import Header

        data = np.array(ccd.data, dtype=np.float32)
        if ccd.mask is not None:
            data[np.broadcast_to(ccd.mask, data.shape)] = np.nan
        variance = None
        if ccd.uncertainty is not None:
            variance = np.asarray(ccd.uncertainty.represent_as("var").array, dtype=np.float32)
        header = Header()
        for key, value in ccd.meta.items():
            if isinstance(value, str | int | float | bool) and len(key) <= 8:
                header[key] = value
        return cls(data, variance=variance, wcs=ccd.wcs, header=header)

    def preview(self, size: int = 900) -> bytes:
        """Return a PNG at most `size` pixels high or wide; linear data are shown through an autostretch."""
        from PIL import Image as Picture

        step = max(1, -(-max(self.shape[1:]) // size))
        small = self.data[:, ::step, ::step]
        if self.unit == "ADU":
            from astrobench.kernels.tone import autostretch

            small = autostretch(small)
        eight = (np.nan_to_num(np.clip(small, 0, 1)) * 255 + 0.5).astype(np.uint8)
        picture = Picture.fromarray(eight[0] if eight.shape[0] == 1 else np.moveaxis(eight, 0, -1))
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    def __repr__(self) -> str:
        channels, height, width = self.shape
        names = ", ".join(name for name, _ in self.maps()) or "no maps"
        colour = "colour" if channels == 3 else "mono"
        return f"Image({width} x {height} {colour}, {self.unit}; {names})"

    def _repr_png_(self) -> bytes:
        return self.preview()
