"""A cube whose samples stay in the files of already registered frames: rows are read where they lie."""

from __future__ import annotations

import os
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.errors import InputError, ProcessingError
from astrobench.frames import Frame, Frames, uncovered

LEAST_ZEROS = 8  # along the edges of a frame; fewer are clipped pixels, not a border
TOP_BIT = np.uint16(0x8000)
BUFFERS = 2  # strips in work at a time: one is judged while the next is read


@dataclass(frozen=True)
class _Pixels:
    """Where the pixels of one frame lie: `dtype` of the words, and whether their top bit is turned."""

    path: Path
    offset: int
    dtype: str
    is_unsigned: bool


class _Buffers:
    """Memory for strips, used again as soon as nobody holds what was read into it.

    Fresh memory is cleared page by page when it is first written to, which takes as long as reading the strip.
    """

    def __init__(self) -> None:
        self.kept = [np.empty(0, np.uint8) for _ in range(BUFFERS)]
        self.lock = Lock()
        self.alone = sys.getrefcount(self.kept[0])  # references to a buffer in no other hands

    def take(self, shape: tuple[int, int, int], dtype: type) -> NDArray[Any]:
        """Return an array of undefined contents."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with self.lock:
            for i in range(len(self.kept)):
                if sys.getrefcount(self.kept[i]) == self.alone:
                    if self.kept[i].size < size:
                        self.kept[i] = np.empty(size, np.uint8)
                    return self.kept[i][:size].view(dtype).reshape(shape)
        return np.empty(shape, dtype)


class FileSource:
    """Reads rows of registered frames straight from their files.

    Parameters
    ----------
    pixels : one `_Pixels` a frame
    shape : (N, C, H, W)
    holes : one (R, 3) int32 array a frame
        Row, first and last + 1 column of every run of pixels that the frame does not cover.
    """

    def __init__(
        self, pixels: list[_Pixels], shape: tuple[int, int, int, int], holes: list[NDArray[np.int32]]
    ) -> None:
        self.pixels = pixels
        self.shape = shape
        self.holes = holes
        self.buffers = _Buffers()
        self.as_stored = all(p.is_unsigned for p in pixels) and not any(len(h) for h in holes)

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one channel of the named frames."""
        _, _, height, width = self.shape
        size = (len(frames), y1 - y0, width)
        if self.as_stored:
            words = self.buffers.take(size, np.uint16)
            for row, k in zip(words, frames, strict=True):
                _read(self.pixels[k], (channel * height + y0) * width, row)
            return Strip(words, swapped=True)
        samples = self.buffers.take(size, np.float32)
        for plane, k in zip(samples, frames, strict=True):
            self._decode(int(k), channel, y0, plane)
        return Strip(samples)

    def _decode(self, frame: int, channel: int, y0: int, plane: NDArray[np.float32]) -> None:
        """Fill a plane with the rows from y0 on; NaN where the frame does not reach."""
        pixels = self.pixels[frame]
        _, _, height, width = self.shape
        words = np.empty(plane.shape, pixels.dtype)
        _read(pixels, (channel * height + y0) * width, words)
        if pixels.is_unsigned:
            plane[:] = words.byteswap().view(np.uint16) ^ TOP_BIT
        else:
            plane[:] = words
        holes = self.holes[frame]
        first, last = np.searchsorted(holes[:, 0], (y0, y0 + len(plane)))
        for y, x0, x1 in holes[first:last]:
            plane[y - y0, x0:x1] = np.nan


def _read(pixels: _Pixels, first: int, out: NDArray[Any]) -> None:
    """Fill an array with the words from the `first` one on."""
    with open(pixels.path, "rb", buffering=0) as file:
        file.seek(pixels.offset + first * out.itemsize)
        view = out.view(np.uint8).data.cast("B")
        while view:
            got = file.readinto(view)
            if not got:
                raise InputError(
                    f"{pixels.path.name} ends before its last row. It was cut off while we read it."
                )
            view = view[got:]


def cube_from_files(frames: Frames, context: Context) -> Cube:
    """Make a cube of frames that are registered already; their files are read again for every strip.

    Zeros that are connected to the border are uncovered: other programs fill with them what a frame does not
    reach. Files that cannot be read row by row (packed, scaled) are unpacked into the scratch folder first.

    Parameters
    ----------
    frames : Frames
        The lights in use, all of one size.
    context : Context

    Raises
    ------
    InputError
        If there is no frame, or one has another size than the first.
    """
    used = list(frames.used) or [frame for frame in frames if frame.use]
    if not used:
        raise InputError("There is no frame to stack. Look at the list of frames set aside.")
    first = used[0]
    channels, height, width = first.planes, first.height, first.width
    for frame in used:
        if (frame.planes, frame.height, frame.width) != (channels, height, width):
            raise InputError(
                f"{frame.path.name} is {frame.width} x {frame.height} x {frame.planes}, {first.path.name} is "
                f"{width} x {height} x {channels}: registered frames have one size. Register them first."
            )
    found = context.map(
        lambda frame: _prepared(frame, context.scratch), used, "looking for uncovered borders"
    )
    holes = [hole for _, hole in found]
    shape = (len(used), channels, height, width)
    source = FileSource([pixels for pixels, _ in found], shape, holes)
    bordered = [frame.path.name for frame, hole in zip(used, holes, strict=True) if len(hole)]
    if bordered:
        missing = sum(int((hole[:, 2] - hole[:, 1]).sum()) for hole in holes) / (len(used) * height * width)
        context.report.fact(
            "uncovered",
            "{count} frames have zeros connected to their border, {share:.1%} of all pixels: not covered.",
            count=len(bordered), share=missing, names=bordered,
        )  # fmt: skip
    return Cube(
        source=source,
        shape=shape,
        names=tuple(frame.path.name for frame in used),
        frames=frames,
        transforms=np.tile(np.eye(3), (len(used), 1, 1)),
        noise=np.full((len(used), channels), np.nan),
        saturation=np.array([frame.saturation for frame in used], float),
        exposure=np.array([frame.exposure or np.nan for frame in used], float),
        method="registered before",
    )


def _prepared(frame: Frame, scratch: Path) -> tuple[_Pixels, NDArray[np.int32]]:
    """Return where a frame's pixels lie and what it does not cover."""
    span = frame.raw_span()
    shape = (frame.planes, frame.height, frame.width)
    if span is None:
        array = frame.read().reshape(shape)
        return _unpacked(array, scratch), _holes(array)
    pixels = _Pixels(Path(frame.path), *span)
    if frame.path.stat().st_size < pixels.offset + int(np.prod(shape)) * np.dtype(pixels.dtype).itemsize:
        raise InputError(f"{frame.path.name} is shorter than its header says. Copy it again.")
    if not _has_zero_edge(pixels, shape):
        return pixels, np.empty((0, 3), np.int32)
    return pixels, _holes(frame.read().reshape(shape))


def _has_zero_edge(pixels: _Pixels, shape: tuple[int, int, int]) -> bool:
    """Whether zeros along an edge of the first plane are worth a look at the whole frame."""
    words = np.memmap(pixels.path, pixels.dtype, "r", pixels.offset, shape)[0]
    zero = -(1 << 15) if pixels.is_unsigned else 0
    edges = (words[0], words[-1], words[:, 0], words[:, -1])
    return any(np.count_nonzero(edge == zero) >= LEAST_ZEROS for edge in edges)


def _holes(array: NDArray[Any]) -> NDArray[np.int32]:
    """Return the runs of uncovered pixels as rows of (y, x0, x1)."""
    outside = uncovered(array if array.shape[0] == 3 else array[0])
    if outside is None:
        return np.empty((0, 3), np.int32)
    steps = np.diff(outside.astype(np.int8), axis=1, prepend=0, append=0)
    (y, x0), (_, x1) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return np.stack([y, x0, x1], axis=1).astype(np.int32)


def _unpacked(array: NDArray[Any], scratch: Path) -> _Pixels:
    """Write decoded pixels to a scratch file that goes when nobody reads it any more."""
    scratch.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="frame-", dir=scratch)
    pixels = _Scratch(Path(name), 0, "<f4", False)
    weakref.finalize(pixels, Path(name).unlink, missing_ok=True)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(np.ascontiguousarray(array, "<f4").data)
    except OSError as error:
        raise ProcessingError(
            f"Unpacking into {scratch} failed: {error.strerror}. Give --scratch a larger disk."
        ) from None
    return pixels


class _Scratch(_Pixels):
    """Pixels in a scratch file of our own."""
