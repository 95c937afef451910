"""Cubes on disk: written frame by frame, read strip by strip, found again by key.

Layout of a stored cube: a folder named by its key with ``samples.f32`` (N, C, H, W, native float32) and
``cube.npz`` with everything else. A folder is complete once ``cube.npz`` is there; it is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.errors import ProcessingError
from astrobench.frames import Frames

CACHE_BYTES = 20 * 2**30  # the cache never grows beyond this ...
CACHE_SHARE = 0.1  # ... nor beyond this share of what the disk has free
SAMPLES, FACTS = "samples.f32", "cube.npz"


class StoredSource:
    """Float32 samples (N, C, H, W) in one file, read without mapping so that memory stays bounded."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path = path
        self.shape = shape

    def strip(self, frames: NDArray[np.intp], channel: int, y0: int, y1: int) -> Strip:
        """Read rows y0..y1 of one channel of the named frames."""
        _, channels, height, width = self.shape
        samples = np.empty((len(frames), y1 - y0, width), np.float32)
        with open(self.path, "rb", buffering=0) as file:
            for row, frame in zip(samples, frames, strict=True):
                file.seek(4 * (((int(frame) * channels + channel) * height + y0) * width))
                if file.readinto(memoryview(row).cast("B")) != row.nbytes:
                    raise ProcessingError(f"The scratch file {self.path.name} is shorter than it should be.")
        return Strip(samples)


class CubeWriter:
    """Write registered frames to a new cube folder; give it its final name when all are there."""

    def __init__(self, context: Context, shape: tuple[int, int, int, int], key: str) -> None:
        self.shape = shape
        self.final = cube_folder(context) / key
        self.folder = cube_folder(context) / f".{key}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        need = 4 * int(np.prod(shape, dtype=np.int64))
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if need > 0.95 * free:
            self.discard()
            raise ProcessingError(
                f"The registered frames need {need / 1e9:.1f} GB of scratch; {free / 1e9:.1f} GB are free. "
                "Give --scratch a folder on a larger disk, or register fewer frames."
            )
        with open(self.folder / SAMPLES, "wb") as file:
            file.truncate(need)

    def put(self, frame: int, planes: NDArray[np.float32], y0: int = 0) -> None:
        """Write rows y0.. of all channels of one frame; safe from several threads."""
        _, channels, height, width = self.shape
        with open(self.folder / SAMPLES, "r+b", buffering=0) as file:
            for channel in range(channels):
                file.seek(4 * (((frame * channels + channel) * height + y0) * width))
                view = memoryview(np.ascontiguousarray(planes[channel], dtype=np.float32)).cast("B")
                while view:
                    view = view[file.write(view) :]

    def finish(self, facts: dict[str, Any]) -> Path:
        """Store the facts, move the folder to its place and return it."""
        with open(self.folder / (FACTS + ".part"), "wb") as file:
            np.savez(file, **facts)
        os.replace(self.folder / (FACTS + ".part"), self.folder / FACTS)
        if self.final.exists():
            shutil.rmtree(self.final, ignore_errors=True)
        os.replace(self.folder, self.final)
        return self.final

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def cube_folder(context: Context) -> Path:
    """Return the folder that holds stored cubes."""
    return context.scratch / "cubes"


def key_of(*parts: Any) -> str:
    """Return a key that changes when any part does."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def find(context: Context, key: str) -> Path | None:
    """Return the folder of a complete stored cube, and mark it as used now."""
    folder = cube_folder(context) / key
    if not (folder / FACTS).is_file():
        return None
    os.utime(folder)
    return folder


def load(folder: Path, frames: Frames) -> Cube:
    """Open a stored cube over its frames."""
    with np.load(folder / FACTS, allow_pickle=False) as stored:
        facts = {name: stored[name] for name in stored.files}
    shape = tuple(int(n) for n in facts["shape"])
    assert len(shape) == 4
    return Cube(
        source=StoredSource(folder / SAMPLES, shape),
        shape=shape,
        names=tuple(str(name) for name in facts["names"]),
        frames=frames,
        transforms=facts["transforms"],
        noise=facts["noise"],
        saturation=facts["saturation"],
        exposure=facts["exposure"],
        reference=int(facts["reference"]),
        method=str(facts["method"]),
        key=folder.name,
        scratch=folder,
    )


def prune(context: Context, keep: str) -> int:
    """Remove stored cubes, oldest first, until the cache is within its limits; return the bytes freed."""
    root = cube_folder(context)
    if not root.is_dir():
        return 0
    limit = min(CACHE_BYTES, CACHE_SHARE * shutil.disk_usage(root).free)
    stored = []
    for folder in root.iterdir():
        if folder.name.startswith("."):
            _remove_left_over(folder)
        elif (folder / SAMPLES).is_file():
            stored.append((folder.stat().st_mtime, (folder / SAMPLES).stat().st_size, folder))
    total = sum(size for _, size, _ in stored)
    freed = 0
    for _, size, folder in sorted(stored, key=lambda each: each[0]):
        if total - freed <= limit:
            break
        if folder.name != keep:
            shutil.rmtree(folder, ignore_errors=True)
            freed += size
    return freed


def _remove_left_over(folder: Path) -> None:
    """Remove what a run left that was killed more than a day ago."""
    if time.time() - folder.stat().st_mtime > 86400:
        shutil.rmtree(folder, ignore_errors=True)
