"""Tell what a run will take before it is started: frames, time, disk, memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.frames import Frames
from astrobench.step import Step

# Seconds of one core per megapixel and frame, measured on a 2.7 GHz server core; a hint, not a promise.
SECONDS_PER_MEGAPIXEL = {"measure": 0.02, "register": 0.05, "stack": 0.02}
FINISH_SECONDS_PER_MEGAPIXEL = 0.7
START_SECONDS = 2.0
BASE_MEMORY = 250e6  # Python, NumPy, Numba and the kernels
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
    scratch, output, memory : float
        Bytes on the scratch disk, in the output folder, and resident at most.
    scratch_free : float
        Bytes free on the scratch disk.
    """

    frames: int
    megapixels: float
    seconds: float
    scratch: float
    output: float
    memory: float
    scratch_free: float

    def check(self) -> None:
        """Raise `ProcessingError` where scratch will not fit."""
        if self.scratch > 0.95 * self.scratch_free:
            raise ProcessingError(
                f"The run needs {self.scratch / 1e9:.1f} GB of scratch; {self.scratch_free / 1e9:.1f} GB are free. "
                "Give --scratch a folder on a larger disk, or use fewer frames."
            )

    def lines(self) -> list[str]:
        """Return the estimate as sentences."""
        return [
            f"{self.frames} frames of {self.megapixels:.1f} megapixels",
            f"about {_duration(self.seconds)}",
            f"{self.scratch / 1e9:.2f} GB of scratch ({self.scratch_free / 1e9:.0f} GB free)",
            f"{self.output / 1e6:.0f} MB of output",
            f"at most {self.memory / 1e9:.2f} GB of memory",
        ]


def estimate(frames: Frames, steps: Sequence[Step], context: Context) -> Estimate:
    """Return what these steps will take on these frames."""
    used = list(frames.used)
    names = {step.name() for step in steps}
    pixels = float(np.median([frame.width * frame.height for frame in used])) if used else 0.0
    megapixels = pixels / 1e6
    colour = any(frame.bayer or frame.planes == 3 for frame in used)
    channels = 3 if colour else 1
    seconds = sum(cost for name, cost in SECONDS_PER_MEGAPIXEL.items() if name in names) * megapixels * len(used)
    finishing = [step for step in steps if step.area == "finish"]
    seconds = START_SECONDS + seconds / max(1, context.workers) + FINISH_SECONDS_PER_MEGAPIXEL * megapixels * bool(
        finishing
    )
    register = next((step for step in steps if step.name() == "register"), None)
    written = register is not None and getattr(register, "transform", "") != "none"
    scratch = 4.0 * pixels * channels * len(used) if written else 0.0
    output = pixels * channels * (MAP_BYTES + 4)
    one_frame = 4.0 * pixels * (1 + 2 * channels) * context.workers
    memory = BASE_MEMORY + min(context.memory_budget, scratch or 4.0 * pixels * len(used)) + one_frame + 2 * output
    return Estimate(len(used), megapixels, seconds, scratch, output, memory, _free(context.scratch))


def _free(folder: Path) -> float:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
