"""Cubes on disk: written frame by frame, read strip by strip, found again by key.

Layout of a stored cube: a folder named by its key with ``samples`` and ``cube.npz``. ``samples`` holds the frames one
after the other, in the byte order of the machine: the registered planes (C, H, W) float32, or the mosaic as recorded
where each colour is taken from its own pixels (see `cube_mosaics`). ``cube.npz`` has everything else. A folder is
complete once ``cube.npz`` is there; it is written last. The name of a folder that is not to be kept begins with a
dot; it belongs to one run alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Source, Strip
from astrobench.cube_mosaics import Mosaics, MosaicSource
from astrobench.errors import InputError, ProcessingError
from astrobench.frames import Frames
from astrobench.stored_file import StoredFile

CACHE_BYTES = 20 * 2**30  # the cache never grows beyond this ...
CACHE_SHARE = 0.1  # ... nor beyond this share of what the disk has free
MOST_FILLED = 0.95  # share of the free scratch that one run may take
LEFT_OVER_SECONDS = 86400  # a folder of a run that is gone is removed after this time
SAMPLES, FACTS = "samples", "cube.npz"


class PlaneSource:
    """Float32 samples (N, C, H, W) in one file."""

    def __init__(self, file: StoredFile, shape: tuple[int, int, int, int]) -> None:
        self.file, self.shape = file, shape

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one channel of the named frames; safe from several threads."""
        _, channels, height, width = self.shape
        samples = np.empty((len(frames), y1 - y0, width), np.float32)
        for row, frame in zip(samples, frames, strict=True):
            self.file.read(row, 4 * (((int(frame) * channels + channel) * height + y0) * width))
        return Strip(samples)


class CubeWriter:
    """Write registered frames to a new cube folder; give it its final name when all are there.

    With the cache switched off, or where the cube alone is larger than the cache may grow, the folder keeps
    its passing name and goes together with the `Cube` that `load` makes of it.

    Raises
    ------
    InputError
        If the scratch folder cannot be written to.
    ProcessingError
        If it has not enough room.
    """

    def __init__(self, context: Context, frame_bytes: Sequence[int], key: str) -> None:
        self.starts = np.concatenate([[0], np.cumsum(frame_bytes, dtype=np.int64)])
        self.final = cube_folder(context) / key
        self.folder = cube_folder(context) / f".{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        need = int(self.starts[-1])
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise _no_scratch(context.scratch, error) from None
        free = shutil.disk_usage(self.folder).free
        if need > MOST_FILLED * free:
            self.discard()
            raise ProcessingError(
                f"The registered frames need {need / 1e9:.1f} GB of scratch; {free / 1e9:.1f} GB are free. "
                "Give --scratch a folder on a larger disk, or register fewer frames."
            )
        self.is_kept = context.use_cache
        if self.is_kept and need > cache_limit(context):
            self.is_kept = False
            context.report.fact(
                "not cached",
                "The registered frames take {size:.1f} GB, more than the cache may hold ({limit:.1f} GB): "
                "they are removed after the run.",
                size=need / 1e9, limit=cache_limit(context) / 1e9,
            )  # fmt: skip
        try:
            with open(self.folder / SAMPLES, "wb") as file:
                file.truncate(need)
        except OSError as error:
            self.discard()
            raise _no_scratch(context.scratch, error) from None

    def put(self, frame: int, samples: NDArray[Any]) -> None:
        """Write the samples of one frame; safe from several threads."""
        view = np.ascontiguousarray(samples).data.cast("B")
        if len(view) != self.starts[frame + 1] - self.starts[frame]:
            raise ValueError(f"frame {frame} has {len(view)} bytes, another number was announced")
        try:
            with open(self.folder / SAMPLES, "r+b", buffering=0) as file:
                file.seek(self.starts[frame])
                while view:
                    view = view[file.write(view) :]
        except OSError as error:
            raise _no_scratch(self.final.parent.parent, error) from None

    def finish(self, facts: dict[str, Any]) -> Path:
        """Store the facts, move the folder to its place and return it."""
        try:
            with open(self.folder / (FACTS + ".part"), "wb") as file:
                np.savez(file, starts=self.starts, **facts)
            os.replace(self.folder / (FACTS + ".part"), self.folder / FACTS)
        except OSError as error:
            raise _no_scratch(self.final.parent.parent, error) from None
        if not self.is_kept:
            return self.folder
        # Whatever bears the name already is damaged, or was made by another run at the same time.
        with contextlib.suppress(OSError):
            os.replace(self.final, self.folder.with_name(self.folder.name + ".old"))
        with contextlib.suppress(OSError):
            os.replace(self.folder, self.final)
        shutil.rmtree(self.folder.with_name(self.folder.name + ".old"), ignore_errors=True)
        return self.final if not self.folder.exists() else self.folder

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def cube_folder(context: Context) -> Path:
    """Return the folder that holds stored cubes."""
    return context.scratch / "cubes"


def cache_limit(context: Context) -> float:
    """Return how many bytes the cache may take."""
    return min(CACHE_BYTES, CACHE_SHARE * shutil.disk_usage(cube_folder(context)).free)


def key_of(*parts: Any) -> str:
    """Return a key that changes when any part does."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def find(context: Context, key: str) -> Path | None:
    """Return the folder of a complete stored cube, marked as used now; None where it is absent or damaged."""
    folder = cube_folder(context) / key
    if not (folder / FACTS).exists():
        return None
    facts = _read_facts(folder)
    if facts is None:
        context.report.fact(
            "cache damaged", "The stored samples in {folder} are damaged; the frames are registered again.",
            folder=folder.name,
        )  # fmt: skip
        return None
    with contextlib.suppress(OSError):  # a cache that can only be read still serves
        os.utime(folder)
    return folder


def load(folder: Path, frames: Frames) -> Cube:
    """Open a stored cube over its frames.

    A folder that is not kept in the cache is removed when nobody holds the cube any more.

    Raises
    ------
    ProcessingError
        If the folder is damaged, or was taken away meanwhile.
    """
    facts = _read_facts(folder)
    try:
        if facts is None:
            raise OSError
        shape = _shape(facts)
        is_kept = not folder.name.startswith(".")
        file = StoredFile(folder / SAMPLES, is_kept=is_kept)
    except OSError:
        raise ProcessingError(
            f"The stored samples in {folder} are damaged or gone. Run again: the frames are registered anew."
        ) from None
    return Cube(
        source=_source(file, facts),
        shape=shape,
        names=tuple(str(name) for name in facts["names"]),
        frames=frames,
        transforms=facts["transforms"],
        noise=facts["noise"],
        saturation=facts["saturation"],
        exposure=facts["exposure"],
        reference=int(facts["reference"]),
        method=str(facts["method"]),
        key=folder.name if is_kept else "",
        patterns=tuple(str(pattern) for pattern in facts["patterns"]),
        scratch=folder,
    )


def _source(file: StoredFile, facts: dict[str, NDArray[Any]]) -> Source:
    """Return what reads the samples of a stored cube."""
    if not len(facts["patterns"]):
        return PlaneSource(file, _shape(facts))
    word = np.dtype(str(facts["word"]))
    mosaics = Mosaics(facts["starts"], facts["sizes"], word, facts["bad"], facts["ends"])
    patterns = [str(pattern) for pattern in facts["patterns"]]
    return MosaicSource(file, mosaics, patterns, facts["transforms"], _shape(facts)[3])


def prune(context: Context, keep: str) -> int:
    """Remove stored cubes, oldest first, until the cache is within its limits; return the bytes freed."""
    root = cube_folder(context)
    if not root.is_dir():
        return 0
    limit = cache_limit(context)
    stored = []
    for folder in root.iterdir():
        try:
            if folder.name.startswith("."):
                _remove_left_over(folder)
            elif folder.is_dir():
                stored.append((folder.stat().st_mtime, (folder / SAMPLES).stat().st_size, folder))
        except OSError:  # another run has just removed it
            continue
    total = sum(size for _, size, _ in stored)
    freed = 0
    for _, size, folder in sorted(stored, key=lambda each: each[0]):
        if total - freed <= limit:
            break
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)
            freed += size
    return freed


def _shape(facts: dict[str, NDArray[Any]]) -> tuple[int, int, int, int]:
    count, channels, height, width = (int(n) for n in facts["shape"])
    return count, channels, height, width


def _read_facts(folder: Path) -> dict[str, NDArray[Any]] | None:
    """Return what is stored beside the samples, or None if that or the samples are damaged."""
    try:
        with open(folder / FACTS, "rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = {name: stored[name] for name in stored.files}
        count, channels, height, width = _shape(facts)
        expected = {"transforms": (count, 3, 3), "noise": (count, channels), "names": (count,)}
        expected |= {"saturation": (count,), "exposure": (count,), "reference": (), "method": ()}
        expected |= {"starts": (count + 1,)}
        if len(facts["patterns"]):
            expected |= {"sizes": (count, 2), "ends": (count,), "bad": (int(facts["ends"][-1]),), "word": ()}
        fits = all(facts[name].shape == size for name, size in expected.items())
        is_whole = (folder / SAMPLES).stat().st_size == int(facts["starts"][-1])
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return None
    return facts if fits and is_whole and height > 0 and width > 0 else None


def _remove_left_over(folder: Path) -> None:
    """Remove what a run left that was killed; its process is gone and nothing was added for a day."""
    import psutil

    owner = folder.name.split(".")[2:3]
    is_alive = bool(owner) and owner[0].isdigit() and psutil.pid_exists(int(owner[0]))
    if not is_alive and time.time() - folder.stat().st_mtime > LEFT_OVER_SECONDS:
        shutil.rmtree(folder, ignore_errors=True)


def _no_scratch(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"The scratch folder {folder} cannot be written to: {(error.strerror or str(error)).lower()}. "
        "Name another with --scratch, or make room."
    )
