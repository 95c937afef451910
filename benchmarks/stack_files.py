"""Stack registered files, whole processes, beside a plain mean and Siril; prints a table.

    python benchmarks/stack_files.py [24mp30 seestar100 24mp98] [--rounds N] [--budget MB] [--keep FOLDER]

Frames are written first (uint16, a sky with stars, each frame with its own level, brightness and cosmic rays).
Every line is one process, start and imports included, result written; CPU is user + system, wall and peak memory
as the system counts them; medians of the rounds, run in turns. Ours and Siril: sigma clipping 3/3, additive with
scaling. Aims: 6 times less CPU than Siril on 24mp30, 4 times on seestar100; 24mp98 within 400 MiB and 4 times the
wall time of the plain mean.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SETS = {"24mp30": (4000, 6000, 30), "seestar100": (1920, 1080, 100), "24mp98": (4000, 6000, 98)}
HEADER = 2880
SCRIPT = "requires 1.0.0\nsetext fits\nset32bits\ncd frames\nlink f -out=../process\ncd ../process\n"
SCRIPT += "stack f rej s 3 3 -norm=addscale -out=../result\nclose\n"


def write_frames(folder: Path, height: int, width: int, count: int) -> None:
    """Write registered frames; noise tiles are reused, so that 5 GB take less than a minute."""
    rng = np.random.default_rng(1)
    truth = np.full((height, width), 1000, np.float32)
    truth += np.linspace(-150, 150, width, dtype=np.float32)
    stars = np.exp(-0.5 * (np.hypot(*np.mgrid[-8:9, -8:9]) / 1.5) ** 2).astype(np.float32)
    for y, x in rng.integers(8, (height - 9, width - 9), (height * width // 7000, 2)):
        truth[y - 8 : y + 9, x - 8 : x + 9] += min(20 / rng.uniform(5e-4, 1), 40_000) * stars
    noise = rng.standard_normal((1024, width + 4096), dtype=np.float32)
    for k in range(count):
        scale, offset = 1 + 0.1 * rng.uniform(-1, 1), 150 * rng.uniform(-1, 1)
        frame = scale * truth + offset
        for y in range(0, height, 128):
            rows = frame[y : y + 128]
            dy, dx = rng.integers(0, (1024 - 128, 4096))
            rows += noise[dy : dy + len(rows), dx : dx + width] * np.sqrt(rows)
        hits = rng.integers(0, frame.size, frame.size // 20_000)
        frame.reshape(-1)[hits] += rng.uniform(200, 5000, hits.size)
        words = np.clip(frame + 0.5, 0, 65535).astype(np.uint16)
        cards = f"SIMPLE  = T;BITPIX  = 16;NAXIS   = 2;NAXIS1  = {width};NAXIS2  = {height};BZERO   = 32768;"
        cards += "BSCALE  = 1;EXPTIME = 10.0;IMAGETYP= 'Light   ';END"
        header = "".join(f"{card:<80}" for card in cards.split(";")).ljust(HEADER).encode()
        data = (words ^ np.uint16(0x8000)).astype(">u2").tobytes()
        (folder / f"frame_{k + 1:04d}.fits").write_bytes(header + data + bytes(-len(data) % HEADER))


def ours(folder: Path, out: Path, budget: int) -> None:
    """Stack the files of a folder and write the picture."""
    from astrobench.context import Context
    from astrobench.cube_files import cube_from_files
    from astrobench.frames import Frames
    from astrobench.steps.stack import Stack

    context = Context(memory_budget=budget << 20, scratch=out.parent / "scratch", workers=2)
    frames = Frames.scan(sorted(folder.glob("*.fits")), context=context, named=True)
    image = Stack(rejection="sigma").apply(cube_from_files(frames, context), context)
    with out.open("wb") as file:
        for row in image.data[0]:
            file.write(row.astype(">f4").tobytes())


def plain_mean(folder: Path, out: Path) -> None:
    """Add up the files of a folder frame by frame in one pass; no normalisation, no rejection."""
    paths = sorted(folder.glob("*.fits"))
    total = None
    for path in paths:
        words = np.fromfile(path, ">i2", offset=HEADER)
        if total is None:
            total = np.zeros(words.size, np.int64)
        total += words
    assert total is not None
    (total / len(paths) + 32768).astype(">f4").tofile(out)


def measured(command: list[str], env: dict[str, str] | None = None) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak MiB of one process."""
    # a shell that forbids Python to keep compiled modules would have them compiled in every run
    env = {name: value for name, value in (env or os.environ).items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{complaint.decode()}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def siril(home: Path) -> list[str]:
    """Command of Siril on the frames below `home`."""
    (home / "stack.ssf").write_text(SCRIPT)
    (home / "process").mkdir(exist_ok=True)
    return ["siril-cli", "-d", str(home), "-s", str(home / "stack.ssf")]


def bench(name: str, home: Path, rounds: int, budget: int) -> None:
    folder = home / "frames"
    folder.mkdir(parents=True)
    me = [sys.executable, __file__]
    # in a process of its own: a child's peak memory is never counted below what its parent holds
    subprocess.run([*me, "--write", name, "--one", str(folder)], check=True)
    runs = {
        "astrobench sigma 3/3": [*me, "--one", str(folder), "--budget", str(budget)],
        "plain mean, one pass": [*me, "--mean", str(folder)],
    }
    if shutil.which("siril-cli"):
        runs["Siril sigma 3/3"] = siril(home)
    found: dict[str, list[tuple[float, float, float]]] = {label: [] for label in runs}
    env = {**os.environ, "HOME": str(home)}
    measured(runs["astrobench sigma 3/3"])  # compiles what is not compiled yet
    for _ in range(rounds):
        for label, command in runs.items():
            found[label].append(measured(command, env if "Siril" in label else None))
            for part in (home / "process").glob("*"):
                part.unlink()
    print(f"\n{name}: {SETS[name][2]} frames of {SETS[name][1]} x {SETS[name][0]} uint16, {rounds} rounds")
    print(f"{'':24}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}{'CPU, ours = 1':>15}")
    mine = float(np.median([run[0] for run in found["astrobench sigma 3/3"]]))
    for label, values in found.items():
        cpu, wall, peak = np.median(values, axis=0)
        print(f"{label:24}{cpu:8.2f}{wall:8.2f}{peak:10.0f}{cpu / mine:15.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["24mp30", "seestar100"], help=", ".join(SETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=200, help="MB for the buffers of a step")
    parser.add_argument("--keep", type=Path, help="folder for the frames; removed after the run if not given")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", choices=sorted(SETS), help=argparse.SUPPRESS)
    parser.add_argument("--mean", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.write:
        write_frames(a.one, *SETS[a.write])
        return
    if a.one:
        ours(a.one, a.one.parent / "ours.dat", a.budget)
        return
    if a.mean:
        plain_mean(a.mean, a.mean.parent / "mean.dat")
        return
    for name in a.sets:
        home = Path(tempfile.mkdtemp(prefix="stack-files-", dir=a.keep))
        try:
            bench(name, home, a.rounds, a.budget)
        finally:
            if a.keep is None:
                shutil.rmtree(home)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
