"""Samples of each colour looked up in the mosaics themselves: a sixth of the disk that three planes a frame take."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.matrices = np.linalg.inv(transforms)

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
        from astrobench.kernels import cfa

        height, width = (int(n) for n in self.mosaics.sizes[frame])
        matrix, pattern = self.matrices[frame], self.patterns[frame]
        top, bottom = cfa.rows_needed(matrix, band, self.width, height)
        words = np.empty((max(1, bottom - top), width), self.mosaics.word)
        if bottom > top:
            self.file.read(words, int(self.mosaics.starts[frame]) + top * width * words.itemsize)
        bad = self.mosaics.bad_between(frame, top, bottom)
        flat = [np.broadcast_arrays(columns, rows + band[0]) for rows, columns in places]
        x, y = (np.concatenate([each[k].ravel() for each in flat]).astype(float) for k in range(2))
        ends = np.cumsum([each[0].size for each in flat])[:-1]
        colours = []
        for colour in range(3):
            found = cfa.gather_points(words, top, height, bad, pattern, matrix, colour, x, y)
            parts = np.split(found, ends)
            colours.append([part.reshape(each[0].shape) for part, each in zip(parts, flat, strict=True)])
        return colours

    def colours(self, frames: NDArray[np.intp], channels: tuple[int, ...], y0: int, out: NDArray[np.float32]) -> None:
        """Read rows from y0 of some colours of the named frames into (C, N, h, W); safe from several threads."""
        from astrobench.kernels import cfa

        y1 = y0 + out.shape[2]
        words, light = np.empty(0, self.mosaics.word), np.empty(0, np.float32)
        for k, frame in enumerate(frames):
            height, width = (int(n) for n in self.mosaics.sizes[frame])
            top, bottom = cfa.rows_needed(self.matrices[frame], (y0, y1), self.width, height)
            if bottom <= top:
                out[:, k] = np.nan
                continue
            size = (bottom - top) * width
            if size > words.size:  # one buffer serves all frames: fresh memory costs more than reading into it
                words, light = np.empty(size, self.mosaics.word), np.empty(size, np.float32)
            here = words[:size]
            self.file.read(here, int(self.mosaics.starts[frame]) + top * width * words.itemsize)
            light[:size] = here
            light[self.mosaics.bad_between(int(frame), top, bottom)] = np.nan
            raw = light[:size].reshape(-1, width)
            for c, channel in enumerate(channels):
                cfa.gather_colour(raw, top, height, self.patterns[frame], self.matrices[frame], channel, y0, out[c, k])
