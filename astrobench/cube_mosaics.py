"""Samples of each colour looked up in the mosaics themselves: a sixth of the disk that three planes a frame take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.cube import Strip
from astrobench.stored_file import StoredFile


class Mosaics(NamedTuple):
    """Where the mosaics of a cube lie in its file, and what of them is missing.

    starts : (N,) int64, bytes; sizes : (N, 2) height and width; word : dtype of the file;
    bad : flat indices of hot and cold pixels of all frames, in order; ends : (N,) where those of a frame end.
    """

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    word: np.dtype[Any]
    bad: NDArray[np.int64]
    ends: NDArray[np.int64]

    def bad_between(self, frame: int, first: int, last: int) -> NDArray[np.int64]:
        """Return the bad pixels of a frame in some of its rows, counted from the first of these."""
        width = int(self.sizes[frame, 1])
        here = self.bad[self.ends[frame - 1] if frame else 0 : self.ends[frame]]
        low, high = np.searchsorted(here, (first * width, last * width))
        return np.asarray(here[low:high] - first * width)


class MosaicSource:
    """The nearest raw sample of each colour for every pixel of the grid, read from stored mosaics strip by strip.

    Parameters
    ----------
    file : StoredFile
    mosaics : Mosaics
    patterns : (N,) str
        Bayer order of each frame.
    transforms : (N, 3, 3)
        Pixel of the frame to pixel of the grid.
    width : int
        Of the grid.
    """

    def __init__(
        self,
        file: StoredFile,
        mosaics: Mosaics,
        patterns: Sequence[str],
        transforms: NDArray[np.float64],
        width: int,
    ) -> None:
        self.file, self.mosaics, self.patterns, self.width = file, mosaics, patterns, width
        self.matrices = np.asarray(np.linalg.inv(transforms), np.float64)  # from the grid to each mosaic

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one colour of the named frames; safe from several threads."""
        samples = np.empty((1, len(frames), y1 - y0, self.width), np.float32)
        self.colours(frames, (channel,), y0, samples)
        return Strip(samples[0])

    def pick(
        self, frame: int, band: tuple[int, int], places: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
    ) -> list[list[NDArray[np.float32]]]:
        """Read samples of one frame at some places of rows band[0]..band[1] of the grid.

        Parameters
        ----------
        places : rows, counted from band[0], and columns, of any shape each

        Returns
        -------
        for each colour one float32 array a place, NaN where there is no data
        """
        flat = [np.broadcast_arrays(columns, rows + band[0]) for rows, columns in places]
        x, y = (np.concatenate([each[k].ravel() for each in flat]) for k in range(2))
        ends = np.cumsum([each[0].size for each in flat])[:-1]
        parts = [np.split(colour, ends) for colour in self.at(x, y, np.array([frame]))[:, 0]]
        return [[part.reshape(each[0].shape) for part, each in zip(one, flat, strict=True)] for one in parts]

    def at(
        self, x: NDArray[np.intp], y: NDArray[np.intp], frames: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Read the samples of some pixels of the grid, (3, N, P); safe from several threads."""
        from astrobench.kernels import cfa

        chosen = np.arange(len(self.patterns)) if frames is None else frames
        out = np.empty((3, len(chosen), x.size), np.float32)
        rows = (int(y.min()), int(y.max()) + 1) if y.size else (0, 1)
        places = x.astype(np.float64), y.astype(np.float64)
        for k, mosaic in enumerate(self._rows(chosen, rows)):
            if mosaic is None:
                out[:, k] = np.nan
                continue
            for c in range(3):
                cfa.gather_points(*mosaic, c, *places, out[c, k])
        return out

    def colours(self, frames: NDArray[np.intp], channels: tuple[int, ...], y0: int, out: NDArray[np.float32]) -> None:
        """Read rows from y0 of some colours of the named frames into (C, N, h, W); safe from several threads."""
        from astrobench.kernels import cfa

        for k, mosaic in enumerate(self._rows(frames, (y0, y0 + out.shape[2]))):
            if mosaic is None:
                out[:, k] = np.nan
                continue
            for c, channel in enumerate(channels):
                cfa.gather_colour(*mosaic, channel, y0, out[c, k])

    def _rows(self, frames: NDArray[np.intp], rows: tuple[int, int]) -> Iterator[_Part | None]:
        """Read in turn what some rows of the grid need of each mosaic, bad pixels missing; None: it has none.

        What is read is gone when the next one is.
        """
        from astrobench.kernels.cfa import rows_needed

        memory = _Memory(self.mosaics.word)
        for frame in frames:
            height, width = (int(n) for n in self.mosaics.sizes[frame])
            top, bottom = rows_needed(self.matrices[frame], rows, self.width, height)
            if bottom <= top:
                yield None
                continue
            words, light = memory.of((bottom - top) * width)
            self.file.read(words, int(self.mosaics.starts[frame]) + top * width * words.itemsize)
            light[:] = words
            light[self.mosaics.bad_between(int(frame), top, bottom)] = np.nan
            yield _Part(light.reshape(-1, width), top, height, self.patterns[frame], self.matrices[frame])


class _Part(NamedTuple):
    """Rows of a mosaic from `top`, the height of the whole, its Bayer order, and the matrix from the grid to it."""

    raw: NDArray[np.float32]
    top: int
    height: int
    pattern: str
    matrix: NDArray[np.float64]


class _Memory:
    """One buffer for all frames that are read in turn: fresh memory costs more than reading into it."""

    def __init__(self, word: np.dtype[Any]) -> None:
        self.words, self.light = np.empty(0, word), np.empty(0, np.float32)

    def of(self, size: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return room for so many samples as stored, and as float32."""
        if size > self.words.size:
            self.words, self.light = np.empty(size, self.words.dtype), np.empty(size, np.float32)
        return self.words[:size], self.light[:size]
