"""Tell what a run will take before it is started: frames, time, disk, memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.frames import Frame, Frames
from astrobench.step import Step

# Seconds of one core per megapixel and frame, measured on a 2.7 GHz server core; a hint, not a promise.
SECONDS_PER_MEGAPIXEL = {"measure": 0.02, "register": 0.08, "stack": 0.02}
FINISH_SECONDS_PER_MEGAPIXEL = 1.5
START_SECONDS = 2.0
BASE_MEMORY = 250e6  # Python, NumPy, Numba and the kernels
MOST_FILLED = 0.95  # share of what is free that a run may take
MAP_BYTES = 26  # bytes a pixel and channel of the master with all its maps


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Parameters
    ----------
    frames, megapixels : int, float
        Frames in use and the size of one.
    seconds : float
        Rough time on this many workers.
    scratch_least, scratch : float
        Bytes on the scratch disk if each colour can be taken from its own pixels, and at most.
    output, memory : float
        Bytes in the output folder, and resident at most.
    scratch_free, output_free : float
        Bytes free on the scratch disk and where the results go.
    """

    frames: int
    megapixels: float
    seconds: float
    scratch_least: float
    scratch: float
    output: float
    memory: float
    scratch_free: float
    output_free: float

    def check(self) -> None:
        """Raise `ProcessingError` where scratch or the results will not fit."""
        if self.scratch_least > MOST_FILLED * self.scratch_free:
            raise ProcessingError(
                f"The run needs {self.scratch_least / 1e9:.1f} GB of scratch; {self.scratch_free / 1e9:.1f} GB are "
                "free. Give --scratch a folder on a larger disk, or use fewer frames."
            )
        if self.output > MOST_FILLED * self.output_free:
            raise ProcessingError(
                f"The results need {self.output / 1e6:.0f} MB; {self.output_free / 1e6:.0f} MB are free "
                "there. Name a folder on a larger disk with -o, or make room."
            )

    def lines(self) -> list[str]:
        """Return the estimate as sentences."""
        return [
            f"{self.frames} frames of {self.megapixels:.1f} megapixels",
            f"about {duration(self.seconds)}",
            f"{_span(self.scratch_least, self.scratch)} GB of scratch ({self.scratch_free / 1e9:.0f} GB free)",
            f"{self.output / 1e6:.0f} MB of results",
            f"at most {self.memory / 1e9:.2f} GB of memory",
        ]


def estimate(frames: Frames, steps: Sequence[Step], context: Context, output: Path) -> Estimate:
    """Return what these steps will take on these frames, with the results going to the folder `output`."""
    used = list(frames.used)
    names = {step.name() for step in steps}
    pixels = float(np.median([frame.width * frame.height for frame in used])) if used else 0.0
    megapixels = pixels / 1e6
    colour = any(frame.bayer or frame.planes == 3 for frame in used)
    channels = 3 if colour else 1
    each = sum(cost for name, cost in SECONDS_PER_MEGAPIXEL.items() if name in names)
    seconds = START_SECONDS + each * megapixels * len(used) / max(1, context.workers)
    if any(step.area == "finish" for step in steps):
        seconds += FINISH_SECONDS_PER_MEGAPIXEL * megapixels
    register = next((step for step in steps if step.name() == "register"), None)
    written = register is not None and getattr(register, "transform", "") != "none"
    scratch = 4.0 * pixels * channels * len(used) if written else 0.0
    least = 2.0 * pixels * len(used) if written and _may_be_direct(used, steps) else scratch
    results = pixels * channels * (MAP_BYTES + 4)
    one_frame = 4.0 * pixels * (1 + 2 * channels) * context.workers
    buffers = min(context.memory_budget, scratch or 4.0 * pixels * len(used))
    memory = BASE_MEMORY + buffers + one_frame + 2 * results
    room = _free(context.scratch), _free(output)
    return Estimate(len(used), megapixels, seconds, least, scratch, results, memory, *room)


def _may_be_direct(used: list[Frame], steps: Sequence[Step]) -> bool:
    """Whether the mosaics themselves may be all that is stored; the dither decides later."""
    method = next((getattr(step, "method", "auto") for step in steps if step.name() == "debayer"), "auto")
    mosaics = all(frame.bayer and frame.planes == 1 and frame.dtype == "uint16" for frame in used)
    return mosaics and method in ("auto", "direct")


def _span(least: float, most: float) -> str:
    low, high = f"{least / 1e9:.2f}", f"{most / 1e9:.2f}"
    return high if low == high else f"{low} to {high}"


def _free(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def duration(seconds: float) -> str:
    """Return a time in words: ``"40 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(whole / 60), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
