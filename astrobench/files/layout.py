"""Find the picture inside a FITS file: which HDU, where its bytes begin, how they are stored."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Literal, cast

from astrobench.errors import InputError
from astrobench.files.cards import BLOCK, Cards, read_header

Packing = Literal["plain", "gzip", "tiles"]

GZIP_MAGIC = b"\x1f\x8b"
PACKED_BEST = 1100  # deflate shrinks at most 1032 : 1; a file that claims more does not hold its data
LONGEST_SIDE = 200_000
SHORTEST_SIDE = 8
MOST_HDUS = 64


@dataclass(frozen=True)
class Layout:
    """Where the picture of a FITS file lies and how its pixels are stored.

    Parameters
    ----------
    path : Path
    hdu : int
        Number of the HDU, 0 the primary.
    cards : dict
        Header of that HDU over that of the primary.
    offset : int
        First byte of the data (in the unpacked file).
    shape : tuple of int
        Axes in numpy order, those of length 1 dropped: (H, W), (3, H, W) or (H, W, 3).
    bitpix : int
    zero, scale : float
        BZERO and BSCALE.
    blank : int or None
        The stored integer that stands for no data.
    packing : {"plain", "gzip", "tiles"}
    """

    path: Path
    hdu: int
    cards: Cards
    offset: int
    shape: tuple[int, ...]
    bitpix: int
    zero: float
    scale: float
    blank: int | None
    packing: Packing

    @property
    def pixels(self) -> int:
        """Number of stored values."""
        count = 1
        for axis in self.shape:
            count *= axis
        return count

    @property
    def dtype(self) -> str:
        """What the pixels are, as a numpy name: ``uint16``, ``int16``, ``float32``, ..."""
        if self.bitpix < 0:
            return f"float{-self.bitpix}"
        if self.scale == 1.0 and self.bitpix > 8 and self.zero == 2.0 ** (self.bitpix - 1):
            return f"uint{self.bitpix}"
        if self.scale == 1.0 and self.zero == 0.0:
            return "uint8" if self.bitpix == 8 else f"int{self.bitpix}"
        return "float32"

    @property
    def is_simple(self) -> bool:
        """Whether the stored words are the pixels, up to byte order and the unsigned offset."""
        if self.packing == "tiles" or self.blank is not None or self.scale != 1.0:
            return False
        return self.dtype in ("uint16", "int16", "float32")


def require_regular_file(path: Path) -> os.stat_result:
    """Return the file's status; anything that is no regular file is refused before it is opened.

    Opening a named pipe or a device could wait for ever.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path.name} cannot be opened: {reason.lower()}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path.name} is a folder, not a picture.")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path.name} is no regular file (a pipe or a device).")
    if status.st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes).")
    return status


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn complaints of the operating system and the unpacker into an `InputError` with the file's name."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path.name} cannot be unpacked: {_sentence(error)} Copy it again.") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path.name} cannot be read: {reason.lower()}.") from None


def _sentence(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text[0].lower() + text[1:].rstrip(".") + "."


def open_bytes(path: Path, packing: Packing) -> BinaryIO:
    """Open the file so that reading gives the FITS bytes, unpacked where it is a gzip file."""
    if packing == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb", buffering=0)


def find_picture(path: Path) -> Layout:
    """Read the headers of a FITS file up to its first picture; no pixel is read.

    Raises
    ------
    InputError
        If the file cannot be read, is no FITS file, holds no picture, or is shorter than its header says.
    """
    size = require_regular_file(path).st_size
    with reading(path):
        with path.open("rb", buffering=0) as file:
            start = file.read(BLOCK)
            packed = start[:2] == GZIP_MAGIC
            if not packed:
                return _find(path, cast(BinaryIO, file), start, size, "plain")
        with gzip.open(path, "rb") as unpacked:
            stream = cast(BinaryIO, unpacked)
            return _find(path, stream, stream.read(BLOCK), size * PACKED_BEST, "gzip")


def _find(path: Path, file: BinaryIO, first: bytes, size: int, packing: Packing) -> Layout:
    if first[:9] != b"SIMPLE  =":
        raise InputError(f"{path.name} is no FITS file, whatever its name says.")
    primary, position = read_header(file, path.name, first)
    cards = primary
    for hdu in range(MOST_HDUS):
        tiles = cards.get("ZIMAGE") is True
        shape = _axes(cards, path.name, "Z" if tiles else "")
        is_image = hdu == 0 or tiles or cards.get("XTENSION") == "IMAGE"
        if is_image and len(shape) >= 2:
            merged = {**primary, **cards} if hdu else cards
            layout = _layout(path, hdu, merged, position, shape, "tiles" if tiles else packing)
            if tiles and packing == "gzip":
                raise InputError(f"{path.name} is compressed twice. Unpack it once (gunzip) and try again.")
            _require_size(layout, _data_bytes(cards, path.name) if tiles else None, size)
            return layout
        length = _data_bytes(cards, path.name)
        position = _skip(file, position, length, size)
        block = file.read(BLOCK) if position >= 0 else b""
        if block[:8] != b"XTENSION":
            raise InputError(f"{path.name} holds no picture, only a header or tables.")
        cards, header = read_header(file, path.name, block)
        position += header
    raise InputError(f"{path.name} holds no picture in its first {MOST_HDUS} parts.")


def _skip(file: IO[bytes], position: int, length: int, size: int) -> int:
    """Move to the next header; -1 where the file ends before it."""
    target = position + -(-length // BLOCK) * BLOCK
    if target >= size:
        return -1
    return file.seek(target)


def _integer(cards: Cards, keyword: str, name: str, default: int | None = None) -> int:
    value = cards.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} has a damaged header: {keyword} is {value!r}, not a whole number.")
    return value


def _axes(cards: Cards, name: str, prefix: str = "") -> tuple[int, ...]:
    """Return the axes in numpy order without those of length 1; () where there is no data."""
    count = _integer(cards, f"{prefix}NAXIS", name)
    if not 0 <= count <= 999:
        raise InputError(f"{name} has a damaged header: {prefix}NAXIS is {count}.")
    axes = [_integer(cards, f"{prefix}NAXIS{i}", name) for i in range(1, count + 1)]
    if any(axis < 0 for axis in axes):
        raise InputError(f"{name} has a damaged header: an axis of {min(axes)} pixels.")
    if 0 in axes:
        return ()
    return tuple(axis for axis in reversed(axes) if axis != 1)


def _data_bytes(cards: Cards, name: str) -> int:
    """Return how many bytes of data follow this header (FITS standard 4.4.1, equation 2)."""
    count = _integer(cards, "NAXIS", name)
    if count == 0:
        return 0
    bits = abs(_integer(cards, "BITPIX", name))
    product = 1
    for i in range(1, min(count, 999) + 1):
        product *= max(0, _integer(cards, f"NAXIS{i}", name))
    heap = max(0, _integer(cards, "PCOUNT", name, 0))
    return bits // 8 * max(1, _integer(cards, "GCOUNT", name, 1)) * (heap + product)


def _layout(
    path: Path, hdu: int, cards: Cards, offset: int, shape: tuple[int, ...], packing: Packing
) -> Layout:
    bitpix = _integer(cards, "ZBITPIX" if packing == "tiles" else "BITPIX", path.name)
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise InputError(f"{path.name} has a damaged header: BITPIX is {bitpix}.")
    if len(shape) == 3 and 3 not in (shape[0], shape[2]):
        raise InputError(f"{path.name} is a cube of {shape[0]} planes; a picture has one plane or three.")
    if len(shape) > 3:
        raise InputError(f"{path.name} has {len(shape)} axes; a picture has two, or three with its colours.")
    height, width = shape[:2] if len(shape) == 2 or shape[0] != 3 else shape[1:]
    if min(height, width) < SHORTEST_SIDE or max(height, width) > LONGEST_SIDE:
        raise InputError(f"{path.name} says it is {width} x {height} pixels, which is no usable picture.")
    zero, scale = _real(cards, "BZERO", 0.0, path.name), _real(cards, "BSCALE", 1.0, path.name)
    blank = cards.get("BLANK") if bitpix > 0 else None
    whole = blank if isinstance(blank, int) and not isinstance(blank, bool) else None
    return Layout(path, hdu, cards, offset, shape, bitpix, zero, scale, whole, packing)


def _real(cards: Cards, keyword: str, default: float, name: str) -> float:
    value = cards.get(keyword, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise InputError(f"{name} has a damaged header: {keyword} is {value!r}, not a number.")


def _require_size(layout: Layout, stored: int | None, size: int) -> None:
    """Refuse a file that is shorter than its header says, before anything is allocated for it."""
    whole = layout.pixels * abs(layout.bitpix) // 8
    needed = whole if stored is None else stored
    there = size - layout.offset
    if there >= needed and (stored is None or stored * PACKED_BEST >= whole):
        return
    if layout.packing == "gzip" or there >= needed:
        needed = whole
        raise InputError(
            f"{layout.path.name} is too small to hold the {needed:,} bytes that its header promises."
        )
    raise InputError(
        f"{layout.path.name} is cut off: {max(there, 0):,} of {needed:,} bytes of pixels are there. "
        "Copy it again from the telescope."
    )
