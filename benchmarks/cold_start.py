"""The first stack of a new installation, which compiles, beside those that follow; prints a table.

    python benchmarks/cold_start.py [--frames N]

Two processes stack the same files one after the other, with an empty cache of compiled kernels: the first stack of
the first process compiles, that of the second loads. Aim: the second process is at most 1 s slower than a stack
whose kernels are loaded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SHAPE = (960, 540)
HEADER = 2880
CARDS = "SIMPLE  = T;BITPIX  = 16;NAXIS   = 2;NAXIS1  = {};NAXIS2  = {};BZERO   = 32768;BSCALE  = 1;"
CARDS += "EXPTIME = 10.0;IMAGETYP= 'Light   ';END"


def write_frames(folder: Path, count: int) -> None:
    rng = np.random.default_rng(1)
    header = "".join(f"{card:<80}" for card in CARDS.format(SHAPE[1], SHAPE[0]).split(";")).ljust(HEADER).encode()
    for k in range(count):
        words = rng.normal(1000, 30, SHAPE).astype(np.uint16) ^ np.uint16(0x8000)
        data = words.astype(">u2").tobytes()
        (folder / f"frame_{k:04d}.fits").write_bytes(header + data + bytes(-len(data) % HEADER))


def stack_three_times(folder: Path) -> None:
    from astrobench.context import Context
    from astrobench.cube_files import cube_from_files
    from astrobench.frames import Frames
    from astrobench.steps.stack import Stack

    context = Context(scratch=folder / "scratch", workers=2)
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        frames = Frames.scan(sorted(folder.glob("*.fits")), context=context, named=True)
        Stack().apply(cube_from_files(frames, context), context)
        print(time.perf_counter() - wall, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        stack_three_times(a.one)
        return
    print(f"{a.frames} frames of {SHAPE[1]} x {SHAPE[0]}, each line three stacks: wall s (CPU s)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_frames(folder, a.frames)
        env = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
        for label in ("first process, compiles", "second process"):
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(folder)],
                env=env, cwd=ROOT, capture_output=True, text=True, check=True,
            )  # fmt: skip
            runs = [[float(v) for v in line.split()] for line in done.stdout.splitlines()]
            shown = "".join(f"{wall:8.2f} ({cpu:5.2f})" for wall, cpu in runs)
            print(f"{label:25}{shown}", flush=True)
    print(f"first stack of the second process over its third: {runs[0][0] - runs[2][0]:.2f} s, at most 1 s wanted")


if __name__ == "__main__":
    main()
