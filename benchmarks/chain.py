"""Time the whole chain, raw subs to the linear master, beside Siril: whole processes, in turns.

    python benchmarks/chain.py [--rounds 3] [--frames 100] [--subs FOLDER ...]

Without --subs a night is simulated. Start-up is included, the page cache and the kernel cache are warm.
Needs `siril-cli` on the path for the comparison; without it only our own figures are printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIRIL = """requires 1.0.0
setext fit
set32bits
cd lights
convert light -debayer -out=../process
cd ../process
register light -minpairs=5 -transf=similarity
stack r_light rej s 3 3 -norm=addscale -out=../result
close
"""


def timed(command: list[str], home: Path) -> tuple[float, float, float]:
    """Return CPU seconds, wall seconds and peak memory [MiB] of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # a shell that forbids Python to keep compiled modules would have them compiled in every run
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**environment, "HOME": str(home)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{command[0]} failed with status {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, wall, usage.ru_maxrss / 1024


def ours(subs: list[Path], work: Path, recipe: str, *options: str) -> list[str]:
    """Return the command of our own chain."""
    return [sys.executable, "-m", "astrobench", "run", recipe, *map(str, subs), "-o", str(work / "ours"),
            "--scratch", str(work / "scratch"), "--no-cache", *options]  # fmt: skip


def siril(subs: list[Path], work: Path) -> list[str]:
    """Return the command of Siril's chain over links to the same subs."""
    lights = work / "lights"
    lights.mkdir()
    for number, path in enumerate(subs):
        (lights / f"{number:04d}_{path.name}").symlink_to(path)
    (work / "chain.ssf").write_text(SIRIL)
    return ["sh", "-c", f"rm -rf '{work}/process'; siril-cli -d '{work}' -s '{work}/chain.ssf'"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--subs", nargs="*", default=[])
    parser.add_argument("--recipe", default="linear-for-other-tools")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        work = Path(folder)
        if arguments.subs:
            subs = sorted(path.resolve() for each in arguments.subs for path in Path(each).glob("*.fit*"))
        else:
            from astrobench.simulate import simulate_night

            subs = list(simulate_night(work / "night", frames=arguments.frames).paths)
        commands = {"astrobench": ours(subs, work, arguments.recipe)}
        if shutil.which("siril-cli"):
            commands["siril"] = siril(subs, work)
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
        for number in range(arguments.rounds + 1):
            for name, command in commands.items():
                measured = timed(command, work)
                if number:  # the first round warms the caches
                    figures[name].append(measured)
        print(f"{len(subs)} subs, {arguments.recipe}, medians of {arguments.rounds} rounds in turns")
        print(f"{'':12} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9}")
        middle = {
            name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
        }
        for name, (cpu, wall, peak) in middle.items():
            print(f"{name:12} {cpu:8.2f} {wall:8.2f} {peak:9.0f}")
        if "siril" in middle:
            print(f"siril / astrobench: CPU {middle['siril'][0] / middle['astrobench'][0]:.2f}, "
                  f"wall {middle['siril'][1] / middle['astrobench'][1]:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
