"""Hold the variance map against the scatter of many nights, and the depth of a stack against the ideal.

    python benchmarks/variance.py [--nights 40] [--frames 20] [--shape 480 270] [--seed 3] [--roads direct ...]

Every night shows the same simulated sky with other pointings and other noise. All are stacked with default settings
on one grid by their true transforms, and brought to one level and scale. Printed for each road, colour and kind of
pixel: the median over pixels of stated variance / scatter^2 of the nights. scatter^2 of n nights has a median of
(1 - 2 / (9 (n - 1)))^3 times its mean, which is allowed for. Of the variances that the nights state for a pixel the
mean counts: with the places of its samples the precision of a pixel differs from night to night, and what scatters
over nights has the mean of their variances (law of total variance). The second three figures are those of the median
night; they lie below where good nights are many and bad ones worse.

depth: noise of 8 x 8 means on plain sky of 30 frames over that of the ideal, which is to weight the same samples by
their true inverse variance (alike on these steady nights) and reject none. Both are taken from the same nights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion, maximum_filter, minimum_filter

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.cube_store import load
from astrobench.frames import Frames
from astrobench.image import Image
from astrobench.simulate import Night, simulate_night
from astrobench.steps.align import Alignment
from astrobench.steps.debayer import Debayer
from astrobench.steps.measure import Measure
from astrobench.steps.register import Register
from astrobench.steps.resample import Grid, put_on_grid
from astrobench.steps.stack import Stack

ROADS = ("direct", "directional", "mono")
KINDS = ("sky", "nebula", "stars")
DEPTH_FRAMES = 30
F64 = NDArray[np.float64]


def registered(night: Night, road: str, context: Context) -> Cube:
    """Put the frames of a night on its own reference grid by their true transforms."""
    frames = Measure().apply(Frames.scan(night.paths[0].parent), context)
    aligned = [Alignment(matrix, 0.0, 0, "true", is_reference=k == 0) for k, matrix in enumerate(night.transforms)]
    grid = Grid(night.shape, np.eye(3))
    debayer = Debayer(method=road)
    return load(put_on_grid(list(frames), aligned, grid, road, debayer, Register(), road, context), frames)


def mono(night: Night) -> Cube:
    """Return frames of a camera without a filter mosaic that looked at the same place all night."""
    rng = np.random.default_rng([night.seed, night.night])
    light = night.scene()[1] + night.sky_image(0)[1]
    sigma = np.sqrt(light / night.gain + night.read_noise**2)
    noise = rng.standard_normal((len(night.paths), *night.shape), dtype=np.float32)
    return Cube.from_array(light + sigma * noise)


def stack(night: Night, road: str, folder: Path, step: Stack | None = None) -> Image:
    """Stack a night, with default settings if no others are given."""
    context = Context(scratch=folder, use_cache=False, workers=2)
    return (step or Stack()).apply(mono(night) if road == "mono" else registered(night, road, context), context)


def kinds(night: Night) -> dict[str, NDArray[np.bool_]]:
    """Tell plain sky, nebula and stars apart by the scene, well inside the frames."""
    green = night.scene()[1]
    sigma = float(np.sqrt(night.sky[0, 1, 0] / night.gain))
    y, x = np.mgrid[: night.shape[0], : night.shape[1]]
    lit = np.zeros(night.shape, bool)
    for star in night.stars:
        near = np.hypot(x - star["x"], y - star["y"])
        lit |= near < (3.0 if star["flux_g"] < 20 * sigma else 12.0 if star["flux_g"] < 600 * sigma else 25.0)
    step = maximum_filter(green, 3) - minimum_filter(green, 3)
    inside = binary_erosion(np.ones(night.shape, bool), iterations=40)
    smooth = inside & ~lit & (step < 0.25 * sigma)
    level = np.percentile(green[smooth], (40, 80))
    star = inside & (step > 0.5 * sigma) & binary_dilation(green > green[smooth].max() + 2 * sigma, iterations=2)
    return {"sky": smooth & (green < level[0]), "nebula": smooth & (green > level[1]), "stars": star}


def levelled(images: list[Image], where: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Bring nights to the level and scale of their mean; return data and stated variance, (n, C, H, W)."""
    data = np.stack([np.asarray(image.data, np.float64) for image in images])
    variance = np.stack([np.asarray(image.variance, np.float64) for image in images])
    for _ in range(2):
        mean = np.nanmean(data, axis=0)
        for k in range(len(data)):
            for c in range(data.shape[1]):
                good = where & np.isfinite(data[k, c]) & np.isfinite(mean[c])
                slope, offset = line(data[k, c][good], mean[c][good])
                data[k, c] = data[k, c] * slope + offset
                variance[k, c] *= slope**2
    return data, variance


def line(ours: F64, mean: F64) -> tuple[float, float]:
    """Slope and offset that lay one night on the mean: levels by medians, scale by the bright pixels."""
    a, b = np.median(ours), np.median(mean)
    bright = mean - b > np.percentile(mean - b, 98)
    slope = np.sum((mean - b)[bright] ** 2) / np.sum(((ours - a) * (mean - b))[bright])
    return float(slope), float(b - slope * a)


def ratios(images: list[Image], night: Night) -> dict[str, list[list[float]]]:
    """Return for every kind of pixel the medians of stated variance / scatter^2 of the mean and the median night."""
    where = kinds(night)
    data, variance = levelled(images, np.any(list(where.values()), axis=0))
    n = len(images)
    scatter = np.var(data, axis=0, ddof=1) / (1 - 2 / (9 * (n - 1))) ** 3
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [typical(variance, axis=0) / scatter for typical in (np.mean, np.median)]
    return {
        kind: [[float(np.nanmedian(plane[mask])) for plane in ratio] for ratio in found] for kind, mask in where.items()
    }


def simulated(count: int, frames: int, shape: tuple[int, int], seed: int, folder: Path) -> list[Night]:
    """Simulate nights under one sky."""
    return [
        simulate_night(folder / f"{n}", frames=frames, seed=seed, shape=shape, night=n, faults=False, steady=True)
        for n in range(count)
    ]


def depth(nights: list[Night], road: str, folder: Path) -> list[float]:
    """Noise of 8 x 8 means of stacks over the ideal, one a colour."""
    sky = kinds(nights[0])["sky"]
    where = np.any(list(kinds(nights[0]).values()), axis=0)
    ideal = Stack(rejection="none", weights="equal")
    found = []
    for step in (Stack(), ideal):
        data, _ = levelled([stack(night, road, folder, step) for night in nights], where)
        clean = blocks(sky) == 1
        found.append(np.var(blocks(data)[:, :, clean], axis=0, ddof=1).mean(axis=1))
    return [float(v) for v in np.sqrt(found[0] / found[1])]


def blocks(planes: NDArray[np.generic]) -> F64:
    """8 x 8 means of (..., H, W)."""
    height, width = (size // 8 for size in planes.shape[-2:])
    cut = np.asarray(planes[..., : 8 * height, : 8 * width], np.float64)
    return cut.reshape(*planes.shape[:-2], height, 8, width, 8).mean(axis=(-3, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=40)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=2, default=[480, 270])
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--roads", nargs="*", default=list(ROADS), choices=ROADS)
    parser.add_argument("--depth", type=int, default=10, help="nights of 30 frames; 0: none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        nights = simulated(options.nights, options.frames, tuple(options.shape), options.seed, Path(name))
        where = kinds(nights[0])
        pixels = {k: int(v.sum()) for k, v in where.items()}
        print(f"{options.nights} nights of {options.frames} frames; pixels: {pixels}")
        for road in options.roads:
            found = ratios([stack(night, road, Path(name)) for night in nights], nights[0])
            for kind, each in found.items():
                figures = " | ".join(" ".join(f"{v:6.3f}" for v in part) for part in each)
                print(f"{road:12s} {kind:7s}", figures, flush=True)
        if options.depth:
            nights = simulated(options.depth, DEPTH_FRAMES, tuple(options.shape), options.seed, Path(name))
            for road in options.roads:
                print(f"{road:12s} depth  ", " ".join(f"{v:6.3f}" for v in depth(nights, road, Path(name))), flush=True)


if __name__ == "__main__":
    main()
