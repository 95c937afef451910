"""Damaged and lying files: always a sentence, never another exception, never long, never much memory."""

from __future__ import annotations

import gzip
import io
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrobench.context import Context
from astrobench.errors import AstrobenchError, InputError
from astrobench.files import open_image
from astrobench.frames import Frame, Frames, check_pixels

RawSub = Callable[..., bytes]
LONGEST = 5.0  # seconds for one file
MOST_MEMORY = 64 << 20
LIES: dict[str, dict[str, object]] = {
    "huge": {"NAXIS1": 100_000, "NAXIS2": 100_000},
    "beyond all": {"NAXIS1": 10**18, "NAXIS2": 10**18},
    "negative": {"NAXIS1": -40},
    "both negative": {"NAXIS1": -40, "NAXIS2": -60},
    "zero": {"NAXIS1": 0},
    "one pixel": {"NAXIS1": 1, "NAXIS2": 1},
    "a line": {"NAXIS1": 2400, "NAXIS2": 1},
    "axes 999": {"NAXIS": 999},
    "axes -1": {"NAXIS": -1},
    "axes as text": {"NAXIS": "two"},
    "axis as float": {"NAXIS1": 40.5},
    "axis missing": {"NAXIS2": None},
    "no axes": {"NAXIS": 0},
    "bits 17": {"BITPIX": 17},
    "bits 0": {"BITPIX": 0},
    "bits as text": {"BITPIX": "16"},
    "bits missing": {"BITPIX": None},
    "wider words": {"BITPIX": -64},
    "narrower words": {"BITPIX": 8},
    "zero as text": {"BZERO": "32768"},
    "zero infinite": {"BZERO": 1e400},
    "scale zero": {"BSCALE": 0},
    "scale huge": {"BSCALE": 1e300},
    "blank": {"BLANK": 1000},
    "blank as text": {"BLANK": "none"},
    "date nonsense": {"DATE-OBS": "the day before"},
    "date as number": {"DATE-OBS": 20250327},
    "date far": {"DATE-OBS": "9999-12-31T23:59:59"},
    "exposure negative": {"EXPTIME": -10.0, "EXPOSURE": None},
    "exposure infinite": {"EXPTIME": 1e400},
    "exposure as text": {"EXPTIME": "ten"},
    "position nonsense": {"RA": "north", "DEC": 1e30},
    "focal length zero": {"FOCALLEN": 0, "XPIXSZ": 0},
    "longitude nonsense": {"SITELONG": "far west"},
    "gain as text": {"GAIN": "high"},
    "stack count nonsense": {"STACKCNT": "many"},
    "stack count huge": {"STACKCNT": 10**30},
    "bayer nonsense": {"BAYERPAT": "XYZW"},
    "bayer offset nonsense": {"XBAYROFF": 1e300},
    "object braces": {"OBJECT": "{0} {name} %s <b>"},
    "object unprintable": {"OBJECT": "a\x00\x01\x7f\xff"},
    "kind nonsense": {"IMAGETYP": 7},
    "solution nonsense": {"CTYPE1": "RA---???", "CTYPE2": 5, "CD1_1": "x", "CRVAL1": 1e308},
    "is random groups": {"GROUPS": True, "NAXIS1": 0, "PCOUNT": 10**9, "GCOUNT": 10**9},
    "tiles in the primary": {
        "ZIMAGE": True,
        "ZNAXIS": 2,
        "ZNAXIS1": 100_000,
        "ZNAXIS2": 100_000,
        "ZBITPIX": 16,
    },
}


def mutations(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of files that are damaged in one way each."""
    for length in (1, 9, 79, 80, 2879, 2880, 5759, 5760, 5761, 7000, len(good) - 2881, len(good) - 2880):
        yield f"cut_{length}.fit", good[:length]
    rng = np.random.default_rng(0)
    for i in range(60):
        damaged = bytearray(good)
        for _ in range(1 + i % 4):
            damaged[rng.integers(0, 5760)] ^= 1 << rng.integers(0, 8)
        yield f"flip_{i:02}.fit", bytes(damaged)
    for i in range(6):
        damaged = bytearray(good)
        start = 2880 * int(rng.integers(0, len(good) // 2880))
        damaged[start : start + 2880] = rng.bytes(2880)
        yield f"noise_{i}.fit", bytes(damaged)
    yield "empty.fit", b""
    yield "text.fit", b"These are my observing notes.\n" * 400
    yield "html.fits", b"<!DOCTYPE html><html><body>404</body></html>" * 100
    yield "zeros.fit", bytes(100_000)
    yield "ones.fit", b"\xff" * 100_000
    yield "jpeg.fit", b"\xff\xd8\xff\xe0" + rng.bytes(20_000)
    yield "no_end.fit", good[:2880].replace(b"END" + b" " * 77, b" " * 80) * 30
    yield "cards_for_ever.fit", good[:80] + (b"HISTORY" + b" " * 73) * 200_000
    yield "lower_case.fit", good[:5760].lower() + good[5760:]
    yield "twice.fit", good + good
    yield "rubbish_behind.fit", good + rng.bytes(5000)
    yield "raw.fits.gz", good
    yield "cut.fits.gz", gzip.compress(good)[:-200]
    yield "garbage.fits.gz", b"\x1f\x8b\x08" + rng.bytes(3000)
    yield "flipped.fits.gz", bytes(byte ^ (i % 997 == 500) for i, byte in enumerate(gzip.compress(good)))
    yield "raw.fits.fz", good
    yield "garbage.fits.fz", rng.bytes(30_000)
    yield "garbage_tiles.fits.fz", good[:2880] + rng.bytes(30_000)
    tiles = io.BytesIO()
    picture = rng.normal(1000, 50, (120, 100)).astype(np.uint16)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(picture, compression_type="RICE_1")]).writeto(tiles)
    packed = tiles.getvalue()
    yield "cut.fits.fz", packed[: len(packed) // 2]
    yield "twice_packed.fits.gz", gzip.compress(packed)
    for i in range(30):
        damaged = bytearray(packed)
        for _ in range(1 + 10 * (i % 3)):
            damaged[rng.integers(2880, len(packed))] ^= 1 << rng.integers(0, 8)
        yield f"flip_{i:02}.fits.fz", bytes(damaged)


def lies(raw_sub: RawSub) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of sound files whose header does not tell the truth."""
    for name, cards in LIES.items():
        yield f"lie {name}.fit", raw_sub(None, cards)


def bombs(raw_sub: RawSub) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of small packed files that promise or hold very much."""
    huge = raw_sub(None, {"NAXIS1": 60_000, "NAXIS2": 60_000})
    yield "promise.fits.gz", gzip.compress(huge)
    yield "zeros.fits.gz", gzip.compress(huge[:5760] + bytes(30 << 20))
    yield "header.fits.gz", gzip.compress(huge[:80] + b" " * (30 << 20))


@pytest.fixture
def hostile(tmp_path: Path, raw_sub: RawSub) -> list[Path]:
    """More than a hundred damaged, lying and odd files in one folder."""
    for name, content in [*mutations(raw_sub()), *lies(raw_sub), *bombs(raw_sub)]:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.fit").mkdir()
    (tmp_path / "itself.fit").symlink_to(tmp_path / "itself.fit")
    (tmp_path / "gone.fit").symlink_to(tmp_path / "nowhere")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "loop_a").symlink_to(tmp_path / "loop_b")
    (tmp_path / "loop_b").symlink_to(tmp_path / "loop_a")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.fit")
        (tmp_path / "device.fit").symlink_to("/dev/zero")
    return sorted(
        path for path in tmp_path.iterdir() if path.name.lower().endswith((".fit", ".fits", ".gz", ".fz"))
    )


def outcome(work: Callable[[], object]) -> str:
    """Return what came of it: '' or the sentence; any other exception fails the test by itself."""
    start = time.perf_counter()
    try:
        work()
        said = ""
    except AstrobenchError as error:
        said = str(error)
        assert said[0].isprintable()
        assert said.endswith(".")
        assert "Traceback" not in said
    assert time.perf_counter() - start < LONGEST
    return said


def test_there_are_more_than_a_hundred_of_them(hostile: list[Path]) -> None:
    assert len(hostile) > 160


def test_every_file_alone_gives_frames_or_a_sentence(hostile: list[Path]) -> None:
    for path in hostile:
        outcome(lambda path=path: Frames.scan(path))


def test_a_folder_of_them_keeps_the_good_frames(hostile: list[Path], raw_sub: RawSub, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    for i in range(60):
        stamp = {"DATE-OBS": f"2025-03-27T03:00:{i:02}"}
        (good / f"Light_M 94_10.0s_IRCUT_20250326-2300{i:02}.fit").write_bytes(raw_sub(None, stamp))
    context = Context()

    start = time.perf_counter()
    frames = Frames.scan(tmp_path, context=context)

    assert time.perf_counter() - start < LONGEST
    assert {frame.name for frame in frames.used} >= {f"good/{path.name}" for path in good.iterdir()}
    aside = {each["path"]: each["reason"] for each in frames.summary()["set_aside"]}
    for name in (
        "empty.fit",
        "text.fit",
        "pipe.fit",
        "itself.fit",
        "lie huge.fit",
        "garbage.fits.gz",
        "cut_7000.fit",
    ):
        assert aside[name].endswith(".") or "most frames" in aside[name], name
    assert all(reason for reason in aside.values())
    assert context.report.find("set_aside")


def test_pixels_are_read_or_refused_with_a_sentence(hostile: list[Path]) -> None:
    read = 0
    for path in hostile:

        def work(path: Path = path) -> None:
            nonlocal read
            frame = Frame(path=path)
            check_pixels(frame, frame.read())
            frame.raw_span()
            frame.hash()
            read += 1

        outcome(work)
    assert 20 < read < len(hostile)  # damage to a card that tells no shape is survived


def test_pictures_are_opened_or_refused_with_a_sentence(hostile: list[Path]) -> None:
    for path in hostile:
        outcome(lambda path=path: open_image(path))


def test_lies_about_the_size_cost_no_memory(hostile: list[Path]) -> None:
    tracemalloc.start()
    try:
        for path in hostile:
            outcome(lambda path=path: Frame(path=path).read())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY


def test_what_is_wrong_is_said_of_the_usual_cases(hostile: list[Path], tmp_path: Path) -> None:
    said = {path.name: outcome(lambda path=path: Frame(path=path).read()) for path in hostile}

    assert said["empty.fit"] == "empty.fit is empty (0 bytes)."
    assert "is no FITS file" in said["text.fit"]
    assert "cut off inside its header" in said["cut_2879.fit"]
    assert "cut off: " in said["cut_7000.fit"]
    assert "cut off: " in said["lie huge.fit"]
    assert "an axis of -40 pixels" in said["lie negative.fit"]
    assert "cannot be unpacked" in said["cut.fits.gz"]
    assert "too small to hold" in said["promise.fits.gz"]
    assert "no regular file" in said["pipe.fit"]
    assert "no regular file" in said["device.fit"]
    assert "compressed twice" in said["twice_packed.fits.gz"]


def test_reading_needs_permission(tmp_path: Path, raw_sub: RawSub) -> None:
    path = tmp_path / "a.fit"
    path.write_bytes(raw_sub())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")

    with pytest.raises(InputError, match="permission denied"):
        Frame(path=path).read()
