"""Write 8-bit PNG pictures, row 0 on top, with their story as text."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from astrobench.files.beside import written_beside
from astrobench.files.display import STRIP, caption, srgb_profile, story, to_bytes
from astrobench.image import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # kinds of colour
AVERAGE = 3  # the filter that suits noise on slopes: the mean of the pixels to the left and above is taken off
LEVEL = 4


def write_png(path: str | Path, image: Image, *, private: bool = True) -> None:
    """Write a picture as 8-bit PNG with an sRGB profile and its story as iTXt.

    Parameters
    ----------
    path : path
    image : Image
        Display values in [0, 1] are written as they are; linear data are shown through an autostretch.
        Pixels without data are black.
    private : bool
        Leave site coordinates, people and the telescope's name out.

    Raises
    ------
    InputError
        If the file cannot be written.

    References
    ----------
    W3C, Portable Network Graphics (PNG) Specification, second edition (2003).
    """
    told = story(image, private)
    texts = {"Software": told["software"]}
    if "object" in told:
        texts["Title"] = str(told["object"])
    if caption(told):
        texts["Description"] = caption(told)
    texts["astrobench"] = json.dumps(told)
    pixels = to_bytes(image)
    height, width, channels = pixels.shape
    with written_beside(path) as beside, beside.open("wb") as file:
        file.write(SIGNATURE)
        _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, RGB if channels == 3 else GREY, 0, 0, 0))
        if channels == 3:
            _write_chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(srgb_profile()))
        for keyword, text in texts.items():
            _write_chunk(file, b"iTXt", keyword.encode("latin-1") + bytes(5) + text.encode("utf-8"))
        _write_pixels(file, pixels)
        _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    """Write length, kind, content and their checksum."""
    file.write(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
    )


def _write_pixels(file: BinaryIO, pixels: NDArray[np.uint8]) -> None:
    """Write the rows filtered and compressed.

    Noise repeats no strings: codes for single bytes and runs take half the time of a search, and fewer bytes.
    """
    height, width, channels = pixels.shape
    rows = pixels.reshape(height, width * channels)
    above = np.zeros_like(rows[:1])
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    for start in range(0, height, STRIP):
        strip = rows[start : start + STRIP]
        up = np.concatenate([above, strip[:-1]])
        left = np.zeros_like(strip)
        left[:, channels:] = strip[:, :-channels]
        filtered = np.empty((len(strip), 1 + strip.shape[1]), np.uint8)
        filtered[:, 0] = AVERAGE
        # (left & up) + (left ^ up) // 2 is the mean of both rounded down, without a ninth bit.
        np.subtract(strip, (left & up) + ((left ^ up) >> np.uint8(1)), out=filtered[:, 1:])
        _write_chunk(file, b"IDAT", packer.compress(filtered.data))
        above = strip[-1:]
    _write_chunk(file, b"IDAT", packer.flush())
