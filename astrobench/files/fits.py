"""Read the pixels of a FITS file: a quick path for plain ones, astropy for everything else."""

from __future__ import annotations

import dataclasses
import io
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError
from astrobench.files.layout import Layout, find_picture, open_bytes, reading, require_regular_file

__all__ = ["find_picture", "read_pixels", "require_regular_file"]

# Words turned at a time stay in the L2 cache: 0.9 ms CPU for a Seestar sub, astropy 3.9 ms in the same run.
CHUNK = 1 << 16
SAMPLE = 1 << 14
_QUIET = threading.Lock()  # warnings are silenced for the whole process, so by one thread at a time
LARGEST_SHARE = 0.5  # of the free memory that one unpacked file may take

Pixels = NDArray[np.uint16] | NDArray[np.float32]


def read_pixels(layout: Layout) -> Pixels:
    """Return the pixels as fresh uint16 or float32 in native byte order, (H, W) or (3, H, W).

    uint16 stays uint16 and uint8 becomes uint16; everything else becomes float32, NaN where BLANK stands.

    Raises
    ------
    InputError
        If the file is cut off, cannot be unpacked or does not fit in memory.
    """
    _require_memory(layout)
    array: NDArray[Any]
    with reading(layout.path):
        array = _read_simple(layout) if layout.is_simple else _read_any(layout)
    if array.ndim == 3 and array.shape[0] != 3:
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    return array


def sample_pixels(layout: Layout) -> Pixels | None:
    """Return the finite ones of a few thousand pixels from the middle of a plain file; None for others."""
    if layout.packing != "plain" or not layout.is_simple:
        return None
    count = min(SAMPLE, layout.pixels)
    part = dataclasses.replace(
        layout,
        offset=layout.offset + (layout.pixels - count) // 2 * (abs(layout.bitpix) // 8),
        shape=(count,),
    )
    with reading(layout.path):
        pixels: NDArray[Any] = _read_simple(part)
    finite: Pixels = pixels[np.isfinite(pixels)]
    return finite


def _require_memory(layout: Layout) -> None:
    """Refuse what would not fit; a packed file of a few kilobytes can promise gigabytes."""
    needed = layout.pixels * max(4, abs(layout.bitpix) // 8)
    if needed < 1 << 28:
        return
    import psutil

    free = psutil.virtual_memory().available
    if needed > LARGEST_SHARE * free:
        raise InputError(
            f"{layout.path.name} unpacks to {needed / 1e9:.1f} GB, more than half of the free memory "
            f"({free / 1e9:.1f} GB). Crop it, or use a computer with more memory."
        )


def _read_simple(layout: Layout) -> Pixels:
    """Read big-endian words chunk by chunk; no astropy, no second copy of the picture."""
    unsigned = layout.dtype == "uint16"
    stored = np.dtype(">f4" if layout.bitpix == -32 else ">u2" if unsigned else ">i2")
    turn = _turn_unsigned(layout.pixels) if unsigned else _turn
    out: NDArray[Any] = np.empty(layout.pixels, np.uint16 if unsigned else np.float32)
    buffer = np.empty(min(CHUNK, layout.pixels), stored)
    with open_bytes(layout.path, layout.packing) as file:
        file.seek(layout.offset)
        for start in range(0, layout.pixels, CHUNK):
            part = out[start : start + CHUNK]
            words = buffer[: part.size]
            _fill(file, words, layout)
            turn(words, part)
    return out.reshape(layout.shape)


def _turn(words: NDArray[Any], out: NDArray[Any]) -> None:
    out[:] = words


def _turn_unsigned(pixels: int) -> Callable[[NDArray[Any], NDArray[Any]], None]:
    """Return how to undo BZERO = 32768: compiled for pictures, in numpy for samples, which a scan reads."""
    if pixels <= SAMPLE or sys.byteorder != "little":
        return lambda words, out: np.bitwise_xor(words, np.uint16(0x8000), out=out)
    from astrobench.kernels.words import swap_unsigned

    return lambda words, out: swap_unsigned(words.view(np.uint16), out)


def _fill(file: BinaryIO, words: NDArray[Any], layout: Layout) -> None:
    """Read exactly as many bytes as `words` holds."""
    view = words.view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise InputError(
                f"{layout.path.name} ends before its last pixel. Copy it again from the telescope."
            )
        done += count


def _read_any(layout: Layout) -> Pixels:
    """Read through astropy: tile compression, BSCALE, BLANK, other word lengths."""
    if layout.packing == "tiles":
        from astrobench.files.tiles import unpack_tiles

        return unpack_tiles(layout.path, layout.hdu, layout.pixels).reshape(layout.shape)
    from astropy.io import fits

    try:
        with _open_source(layout) as file:
            with _QUIET, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                hdus = fits.open(file, memmap=False)
                hdu = hdus[layout.hdu]
            with hdus:
                data = hdu.data
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # astropy raises a dozen kinds on damaged files
        raise InputError(f"{layout.path.name} cannot be decoded: it is damaged. Copy it again.") from error
    if data is None or data.size != layout.pixels:
        raise InputError(f"{layout.path.name} does not hold the picture that its header promises.")
    array = np.asarray(data).reshape(layout.shape)
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        return np.array(array, dtype=np.uint16, order="C")
    return np.array(array, dtype=np.float32, order="C")


def _open_source(layout: Layout) -> BinaryIO:
    """Open what astropy shall read: the file, or the unpacked bytes up to the end of the picture."""
    if layout.packing != "gzip":
        return layout.path.open("rb")
    needed = layout.offset + layout.pixels * abs(layout.bitpix) // 8
    with open_bytes(layout.path, "gzip") as file:
        content = file.read(needed)
    if len(content) < needed:
        raise InputError(f"{layout.path.name} ends before its last pixel. Copy it again from the telescope.")
    return io.BytesIO(content + bytes(-needed % 2880))
