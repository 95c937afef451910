"""Stack in memory, each rule beside its peers, one thread against one thread; prints tables.

    python benchmarks/integrate.py [speed threads counts cold] [--frames N] [--rows N] [--rounds N]

speed: CPU nanoseconds a sample and ratio to numpy, astropy and scipy, measured in turns on the same float32 cube
(30 x 1080 x 1920, 0.5 % outliers). threads: wall time of one and two threads. counts: rejected samples against
the float64 twin of the tests. cold: compilation, and the first stack of a second process. Without a name all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.integrate import integrate_samples

ROOT = Path(__file__).parents[1]
WIDTH = 1080
TARGETS = {"median": 12.0, "sigma": 14.0}
CUT = {"low": 1, "high": 1}
SHARES = {"low": 0.2, "high": 0.1}
RULES: dict[str, dict[str, Any]] = {
    "mean": {"rule": "none"},
    "median": {"rule": "none", "combine": "median"},
    "sigma": {"rule": "sigma"},
    "mad": {"rule": "mad"},
    "winsorized": {"rule": "winsorized"},
    "gesd": {"rule": "gesd"},
    "minmax": {"rule": "minmax", **CUT},
    "percentile": {"rule": "percentile", **SHARES},
    "model": {"rule": "model", "noise_floor": 60.0, "noise_slope": 0.04, "noise_sky": 0.0},
}


def cube(frames: int, pixels: int, dtype: type = np.float32) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    x = np.empty((frames, pixels), np.float32)
    for k in range(frames):
        x[k] = 1000 + 10 * rng.standard_normal(pixels, dtype=np.float32)
        hit = rng.integers(0, pixels, pixels // 200)
        x[k, hit] += 300
    return x if dtype is np.float32 else np.round(x).astype(dtype)


def peers() -> dict[str, tuple[str, Callable[[NDArray[Any]], object]]]:
    """One peer a rule; each also gives a combined image."""
    from astropy.stats import mad_std, sigma_clip
    from scipy.stats import trim_mean

    def clip(x: NDArray[Any], **options: Any) -> object:
        return np.nanmean(sigma_clip(x, sigma=3, axis=0, maxiters=None, masked=False, copy=True, **options), axis=0)

    return {
        "mean": ("np.mean", lambda x: np.mean(x, axis=0)),
        "median": ("np.median", lambda x: np.median(x, axis=0)),
        "sigma": ("astropy sigma_clip", clip),
        "mad": ("astropy mad_std", lambda x: clip(x, stdfunc=mad_std)),
        "minmax": ("scipy trim_mean", lambda x: trim_mean(x, 1.01 / len(x), axis=0)),
    }


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def speed(frames: int, pixels: int, rounds: int) -> None:
    x = cube(frames, pixels)
    words = np.round(x).astype(np.uint16)
    weight = np.linspace(0.5, 1.5, frames)
    unit = 1e9 / x.size
    beside = peers()
    print(f"\nspeed: {frames} x {pixels} float32, 0.5 % outliers, one thread, median of {rounds} turns")
    print("rule        ns/sample  weighted   uint16 | peer                 ns/sample  ratio  target")
    for name, options in RULES.items():
        integrate_samples(x[:, :1000], **options)
        own, heavy, small, other = [], [], [], []
        for _ in range(rounds):
            own.append(cpu(lambda o=options: integrate_samples(x, **o)))
            heavy.append(cpu(lambda o=options: integrate_samples(x, weight=weight, **o)))
            small.append(cpu(lambda o=options: integrate_samples(words, **o)))
            if name in beside:
                other.append(cpu(lambda n=name: beside[n][1](x)))
        row = f"{name:11s} {np.median(own) * unit:9.2f} {np.median(heavy) * unit:9.2f} {np.median(small) * unit:8.2f}"
        if other:
            ratio = np.median(np.array(other) / np.array(own))
            target = f"{TARGETS[name]:6.1f}" if name in TARGETS else ""
            row += f" | {beside[name][0]:20s} {np.median(other) * unit:9.2f} {ratio:6.1f}  {target}"
        print(row, flush=True)


def threads(frames: int, pixels: int, rounds: int) -> None:
    x = cube(frames, pixels)
    idle = (os.cpu_count() or 1) - os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"\nthreads: wall time of one over two threads, target 1.8 on idle cores (idle now: about {idle:.1f})")
    for name, options in RULES.items():
        ratios = []
        for _ in range(rounds):
            walls = []
            for count in (1, 2):
                start = time.perf_counter()
                integrate_samples(x, threads=count, **options)
                walls.append(time.perf_counter() - start)
            ratios.append(walls[0] / walls[1])
        print(f"{name:11s} median {np.median(ratios):5.2f}  best {max(ratios):5.2f}", flush=True)


def twin() -> Any:
    spec = spec_from_file_location("rejection_twin", ROOT / "tests" / "oracle" / "rejection.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts() -> None:
    """Compare with the twin in float64 on the same float32 values; nothing is quantised to help."""
    oracle = twin()
    print("\ncounts: pixels whose low or high count, or whose value by more than 1 ulp, differs from the float64 twin")
    print("rule        " + "".join(f"N={n:<5d}" for n in (3, 5, 10, 30, 100, 300)) + " (pixels each)")
    for name in ("sigma", "mad", "winsorized", "gesd", "minmax", "percentile"):
        row = f"{name:11s} "
        for frames in (3, 5, 10, 30, 100, 300):
            pixels = 3_000_000 // (frames * (20 if name == "minmax" else 1))
            rng = np.random.default_rng(frames)
            x = cube(frames, pixels)
            x[rng.random(x.shape, dtype=np.float32) < 0.02] = np.nan
            x[:, ::3] = np.round(x[:, ::3])
            limits = CUT if name == "minmax" else {"low": 0.03, "high": 0.03} if name == "percentile" else {}
            result = integrate_samples(x, rule=name, **limits)
            code = oracle.judge(x, name, **limits)
            wrong = (result.low != (code == -1).sum(0)) | (result.high != (code == 1).sum(0))
            value = oracle.combine(x, code)[0]
            with np.errstate(invalid="ignore"):
                wrong |= np.abs(result.value - value) > np.spacing(np.abs(value).astype(np.float32))
            row += f"{int(wrong.sum()):<7d}"
        print(row, flush=True)


FIRST = """
import time
start = time.process_time()
import numpy as np
from astrobench.kernels.integrate import integrate_samples
loaded = time.process_time()
for dtype in (np.float32, np.uint16):
    integrate_samples(np.zeros((30, 1000), dtype))
print(f"{loaded - start:.2f} {time.process_time() - loaded:.2f}")
"""


def cold() -> None:
    print("\ncold start, CPU seconds of one process: import, then the first stacks (float32 and uint16)")
    with tempfile.TemporaryDirectory() as folder:
        for label in ("first process, compiles", "second process, cached"):
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, "-c", FIRST], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
            )
            print(f"{label:25s} {done.stdout.strip()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["speed", "threads", "counts", "cold", []])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rows", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    parts = given.parts or ["speed", "threads", "counts", "cold"]
    warnings.simplefilter("ignore")
    pixels = WIDTH * given.rows
    if "speed" in parts:
        speed(given.frames, pixels, given.rounds)
    if "threads" in parts:
        threads(given.frames, pixels, given.rounds)
    if "counts" in parts:
        counts()
    if "cold" in parts:
        cold()


if __name__ == "__main__":
    main()
