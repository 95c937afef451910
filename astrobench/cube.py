"""Registered samples of every frame on one grid: what stacking combines and `explain` looks into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import ParameterError
from astrobench.frames import Frames


class Strip(NamedTuple):
    """Samples of some rows of one channel, as a rejection kernel takes them.

    samples : (N, h, W) float32, or uint16 without missing values
        In the units of each frame (ADU); NaN where a frame does not reach.
    swapped : bool
        Whether uint16 samples still are as FITS stores them (big-endian, BZERO 32768).
    share : (N, h, W) float32 or None
        Weight of the single sample, 0 where there is none.
    shift : (N, h, W) float32 or None
        What to add to a sample before it is judged, in the units of its frame: it moves the sample from where
        the sensor took it to the centre of the output pixel. The combined value is the sample itself.
    """

    samples: NDArray[Any]
    swapped: bool = False
    share: NDArray[np.float32] | None = None
    shift: NDArray[np.float32] | None = None


class Source(Protocol):
    """Where the samples lie."""

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one channel of the named frames."""
        ...


@dataclass(frozen=True, eq=False)
class Cube:
    """N registered frames of C channels on one H x W grid.

    Parameters
    ----------
    source : Source
        Reads samples from an array, a scratch file or the FITS files themselves.
    shape : (N, C, H, W)
    names : tuple of str
        Name of each frame.
    frames : Frames
        The frames that made it; empty for a plain array.
    transforms : (N, 3, 3) float64
        Pixel of the frame (x, y, 1) to pixel of the cube.
    noise : (N, C) float64
        Noise of one sample on the sky [ADU]; NaN where it was not measured.
    saturation : (N,) float64
        A sample at or above this level is saturated [ADU]; inf where unknown.
    exposure : (N,) float64
        Seconds; NaN where unknown.
    reference : int
        Frame whose grid and levels the others follow.
    method : str
        How the samples came onto the grid, in words.
    key : str
        Identity of inputs and settings in the cache; empty if not kept.
    patterns : tuple of str
        Bayer order of each frame when the samples are the nearest raw pixels of each colour; else empty.
    """

    source: Source
    shape: tuple[int, int, int, int]
    names: tuple[str, ...]
    frames: Frames
    transforms: NDArray[np.float64]
    noise: NDArray[np.float64]
    saturation: NDArray[np.float64]
    exposure: NDArray[np.float64]
    reference: int = 0
    method: str = "as given"
    key: str = ""
    patterns: tuple[str, ...] = ()
    header: Any = None
    scratch: Path | None = field(default=None, repr=False)

    @classmethod
    def from_array(cls, samples: NDArray[Any], *, exposure: float = float("nan")) -> Cube:
        """Make a cube from registered samples (N, H, W) or (N, C, H, W) of any real dtype; NaN or masked: missing."""
        if isinstance(samples, np.ma.MaskedArray):
            samples = np.ma.filled(samples.astype(np.float32), np.nan)
        array = np.asarray(samples)
        if array.ndim == 3:
            array = array[:, None]
        if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in array.shape:
            raise ParameterError(f"A cube needs the shape (N, H, W) or (N, 1 or 3, H, W); this one has {array.shape}.")
        if array.dtype.kind not in "uifb":
            raise ParameterError(f"A cube needs real numbers, not {array.dtype}.")
        if array.dtype != np.uint16:
            array = array.astype(np.float32, copy=False)
        count, channels = array.shape[:2]
        return cls(
            source=ArraySource(array),
            shape=array.shape,
            names=tuple(f"frame {k + 1}" for k in range(count)),
            frames=Frames(()),
            transforms=np.tile(np.eye(3), (count, 1, 1)),
            noise=np.full((count, channels), np.nan),
            saturation=np.full(count, np.inf),
            exposure=np.full(count, exposure),
        )

    def strip(self, channel: int, y0: int, y1: int, frames: NDArray[np.intp] | None = None) -> Strip:
        """Read rows y0..y1 of one channel; of all frames if none are named."""
        chosen = np.arange(self.shape[0]) if frames is None else np.asarray(frames, dtype=np.intp)
        return self.source.strip(chosen, channel, y0, y1)

    def strips(self, memory_budget: int, bytes_per_sample: int = 8) -> Iterator[tuple[int, int]]:
        """Yield (y0, y1) of strips whose samples of one channel fit the budget."""
        count, _, height, width = self.shape
        rows = int(memory_budget // max(1, count * width * bytes_per_sample))
        rows = min(max(rows, 1), height)
        for y0 in range(0, height, rows):
            yield y0, min(y0 + rows, height)

    def plane(self, frame: int, channel: int) -> NDArray[np.float32]:
        """Return one registered frame, (H, W) float32, NaN where it does not reach."""
        strip = self.strip(channel, 0, self.shape[2], np.array([frame]))
        return np.asarray(plain_samples(strip)[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        count, channels, height, width = self.shape
        return f"Cube({count} frames, {channels} x {height} x {width}, {self.method})"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.frames._repr_html_() if len(self.frames) else ''}"


def plain_samples(strip: Strip) -> NDArray[np.float32]:
    """Return the samples of a strip as native float32."""
    samples = strip.samples
    if strip.swapped:
        samples = samples.byteswap() ^ np.uint16(0x8000)
    plain = samples.astype(np.float32, copy=False)
    if strip.share is not None:
        plain = np.where(strip.share > 0, plain, np.float32(np.nan))
    return plain


class ArraySource:
    """Samples in memory."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one channel of the named frames."""
        if len(frames) == self.array.shape[0]:
            return Strip(np.ascontiguousarray(self.array[:, channel, y0:y1]))
        return Strip(np.ascontiguousarray(self.array[frames, channel, y0:y1]))
