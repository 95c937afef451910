"""Run a stacking plan over the strips of a cube: read ahead, reject and combine, write the maps."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.image import SATURATED, Image
from astrobench.kernels.integrate import Integrated
from astrobench.steps._plan import Plan
from astrobench.steps._stack_facts import stack_header, tell_result

PLANES = {
    "data": np.float32,
    "variance": np.float32,
    "coverage": np.uint16,
    "weight": np.float32,
    "reject_low": np.uint16,
    "reject_high": np.uint16,
    "flags": np.uint8,
}
PIXEL_BYTES = sum(np.dtype(kind).itemsize for kind in PLANES.values())
BUFFER_BYTES = 38  # of one pixel of a strip: the kernel's results
STRIP_BYTES = 24 * 2**20  # samples that are worked on at a time: taller strips leave the caches, no gain
TICK = 0.2  # seconds between two signs of life


class Outputs:
    """The planes of the result: in memory, or in files of the scratch folder where they would not fit."""

    def __init__(self, shape: tuple[int, int, int], folder: Path | None) -> None:
        self.shape = shape
        self.planes: dict[str, NDArray[Any]] = {}
        self.files: dict[str, int] = {}
        self.folder = folder
        if folder is None:
            self.planes = {name: _small_pages(shape, kind) for name, kind in PLANES.items()}
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.home = Path(tempfile.mkdtemp(prefix="stack-", dir=folder))
        size = int(np.prod(shape))
        for name, kind in PLANES.items():
            self.files[name] = os.open(self.home / name, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
            os.truncate(self.files[name], size * np.dtype(kind).itemsize)

    def put(self, name: str, channel: int, y0: int, rows: NDArray[Any]) -> None:
        """Store rows y0.. of one plane."""
        if self.folder is None:
            self.planes[name][channel, y0 : y0 + len(rows)] = rows
            return
        # plain writes: pages written through a memory map would count as resident
        _, height, width = self.shape
        place = (channel * height + y0) * width * rows.itemsize
        os.lseek(self.files[name], place, os.SEEK_SET)
        view = np.ascontiguousarray(rows).data.cast("B")
        while view:
            view = view[os.write(self.files[name], view) :]

    def finish(self) -> dict[str, NDArray[Any]]:
        """Return the planes; scratch files go when the last array that shows them does."""
        if self.folder is None:
            return self.planes
        for name, kind in PLANES.items():
            os.close(self.files[name])
            plane = np.memmap(self.home / name, dtype=kind, mode="r", shape=self.shape)
            weakref.finalize(plane, _remove, self.home / name)
            self.planes[name] = plane
        self.files = {}
        return self.planes

    def discard(self) -> None:
        """Remove what was written."""
        for name, file in self.files.items():
            os.close(file)
            _remove(self.home / name)


def _small_pages(shape: tuple[int, int, int], kind: type) -> NDArray[Any]:
    """Return an array of fresh memory; numpy would ask for huge pages, five times slower to touch first."""
    size = int(np.prod(shape))
    return np.frombuffer(mmap(-1, size * np.dtype(kind).itemsize), kind, size).reshape(shape)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def integrate_cube(cube: Cube, plan: Plan, context: Context) -> Image:
    """Return the stack of a cube with all its maps."""
    count, channels, height, width = cube.shape
    need = channels * height * width * PIXEL_BYTES
    in_memory = need <= context.memory_budget // 2
    outputs = Outputs((channels, height, width), None if in_memory else context.scratch)
    rows = _strip_rows(cube, context.memory_budget - (need if in_memory else 0))
    rejected = np.zeros((count, channels), np.int64)
    sums = dict.fromkeys(("coverage", "reject_low", "reject_high", "flags"), 0.0)
    try:
        for channel, y0, strip, tell in _read_ahead(cube, rows, context):
            found, full = plan.integrate(strip, channel, context.workers, tell)
            rejected[:, channel] += found.rejected
            planes_found = maps(found, full)
            for name, flat in planes_found.items():
                outputs.put(name, channel, y0, flat.reshape(-1, width))
            for name in sums:
                sums[name] += float(planes_found[name].sum(dtype=np.int64))
        planes = outputs.finish()
    except BaseException:
        outputs.discard()
        raise
    tell_result(cube, plan, rejected, sums, context)
    header = stack_header(cube, plan.normalisation)
    return Image(planes.pop("data"), header=header).replace(**planes)


def _strip_rows(cube: Cube, budget: int) -> int:
    """Rows of a strip so that two of them (one read ahead) and their results fit the budget."""
    count, _, height, width = cube.shape
    probe = cube.strip(0, 0, 1)
    size = probe.samples.itemsize + 4 * (probe.share is not None) + 8 * (probe.shift is not None)
    fitting = budget // (width * (2 * count * size + BUFFER_BYTES))
    rows = int(min(fitting, STRIP_BYTES // (width * count * size)))
    return min(max(rows, 1), height)


def _read_ahead(cube: Cube, rows: int, context: Context) -> Iterator[tuple[int, int, Strip, Any]]:
    """Yield (channel, first row, strip, check) with the next strip being read meanwhile."""
    count, channels, height, _ = cube.shape
    jobs = [(c, y0, min(y0 + rows, height)) for c in range(channels) for y0 in range(0, height, rows)]
    total = channels * height
    last = monotonic()

    def read(job: tuple[int, int, int]) -> Strip:
        return cube.strip(*job)

    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(read, jobs[0])
        for i, job in enumerate(jobs):
            strip = waiting.result()
            if i + 1 < len(jobs):
                waiting = reader.submit(read, jobs[i + 1])
            done = job[0] * height + job[1]

            def tell(done: int = done, job: tuple[int, int, int] = job) -> None:
                nonlocal last
                context.check_stop()
                if monotonic() - last > TICK:
                    last = monotonic()
                    context.progress(
                        done / total, f"stacking {count} frames, rows {job[1]} to {job[2]} of {height}"
                    )

            tell()
            yield job[0], job[1], strip, tell


def maps(found: Integrated, full: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """Return the planes of the result, flat, by the names of `PLANES`."""
    flags = np.zeros(found.value.size, np.uint8)
    flags[full] = SATURATED
    return {
        "data": found.value,
        "variance": found.variance,
        "coverage": found.coverage,
        "weight": found.weight,
        "reject_low": found.low,
        "reject_high": found.high,
        "flags": flags,
    }
