"""Compare the roads from colour mosaics to a stack: sharpness, colour, noise and time.

    python benchmarks/colour.py [--fwhm 1.8 2.5 3.5] [--count 6 10 20] [--rotation 1.0] [--cosmics 20]

Field: 1080 x 1920 px GRBG, sky 1000, noise 25 ADU, 300 Gaussian stars of peak 2000 to 30000 and of R/G and
B/G from 0.4 to 1.6, dithered by +-10 px, turned by +- the given angle; cosmic rays of 300 to 20000 ADU.
fwhm: fitted FWHM over the truth. colour: rms error of star R/G and B/G [%]. core: rms error within 1.5 FWHM
over the peak [%]. n1, n8: noise of one sky pixel and of 8 x 8 means over that of one raw sample. cpu: ms per
frame, files and registration included for Siril only.
Siril (RCD, register, sigma clip) and STScI's drizzle are measured beside it where installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from astrobench.kernels import cfa, cfa_place, cfa_sky, dither
from astrobench.kernels.debayer import debayer
from astrobench.kernels.displaced import centred, displaced
from astrobench.kernels.integrate import integrate_samples
from astrobench.kernels.warp import warp

SHAPE, SKY, SIGMA, PATTERN = (1920, 1080), 1000.0, 25.0, "GRBG"
Planes = NDArray[np.float32]
SIRIL = """requires 1.0.0
setext fit
set32bits
cd lights
convert light -debayer -out=../process
cd ../process
setref light 1
register light
stack r_light rej s 3 3 -norm=addscale -out=../result
close
"""


class Field:
    """Stars of known place and light, and the frames that show them."""

    def __init__(self, fwhm: float, count: int, rotation: float, cosmics: int) -> None:
        rng = np.random.default_rng(11)
        places: list[tuple[float, float]] = []
        while len(places) < 300:
            x, y = rng.uniform(25, SHAPE[1] - 25), rng.uniform(25, SHAPE[0] - 25)
            if all((x - a) ** 2 + (y - b) ** 2 > 900 for a, b in places):
                places.append((x, y))
        green = 10 ** rng.uniform(np.log10(2000), np.log10(30000), 300)
        self.fwhm, self.xy = fwhm, np.array(places)
        self.light = np.c_[green * rng.uniform(0.4, 1.6, 300), green, green * rng.uniform(0.4, 1.6, 300)]
        shifts = rng.uniform(-10, 10, (count, 2))
        shifts[0] = 0
        angles = np.radians(np.r_[0, np.linspace(-rotation, rotation, max(count - 1, 1))])[:count]
        self.raws, self.matrices = [], []
        for (dx, dy), angle in zip(shifts, angles, strict=True):
            c, s = np.cos(angle), np.sin(angle)
            cx, cy = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
            across, down = cx - c * cx + s * cy + dx, cy - s * cx - c * cy + dy
            matrix = np.array([[c, -s, across], [s, c, down], [0, 0, 1]])
            planes = self.planes(self.xy @ matrix[:2, :2].T + matrix[:2, 2])
            raw = np.empty(SHAPE)
            for k, colour in enumerate(PATTERN):
                raw[k // 2 :: 2, k % 2 :: 2] = planes["RGB".index(colour), k // 2 :: 2, k % 2 :: 2]
            raw += rng.normal(0, SIGMA, SHAPE)
            y, x = rng.integers(0, SHAPE[0], cosmics), rng.integers(0, SHAPE[1], cosmics)
            raw[y, x] += rng.uniform(300, 20000, cosmics)
            self.raws.append(np.clip(raw + 0.5, 0, 65535).astype(np.uint16))
            self.matrices.append(matrix)

    def planes(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the noiseless colour planes with the stars at the given places."""
        planes = np.full((3, *SHAPE), SKY)
        scale = self.fwhm / 2.3548
        for (x, y), light in zip(xy, self.light, strict=True):
            top, left = max(0, int(y) - 14), max(0, int(x) - 14)
            bottom, right = min(SHAPE[0], int(y) + 16), min(SHAPE[1], int(x) + 16)
            if top < bottom and left < right:
                down = np.exp(-0.5 * ((np.arange(top, bottom) - y) / scale) ** 2)
                across = np.exp(-0.5 * ((np.arange(left, right) - x) / scale) ** 2)
                planes[:, top:bottom, left:right] += light[:, None, None] * np.outer(down, across)
        return planes


def integrate(samples: Planes, **more: object) -> tuple[Planes, Planes]:
    """Value and variance of samples (N, 3, P) by generalised ESD, with the known noise."""
    floor = np.full(len(samples), SIGMA**2)
    results = []
    for c in range(3):
        chosen = {k: v[:, c].copy() if isinstance(v, np.ndarray) else v for k, v in more.items()}
        results.append(integrate_samples(samples[:, c].copy(), rule="gesd", noise_floor=floor, **chosen))
    return np.stack([r.value for r in results]), np.stack([r.variance for r in results])


def own_pixels(field: Field) -> Planes:
    """Stack each colour from its own pixels, as the module `cfa` describes."""
    frames = zip(field.raws, field.matrices, strict=True)
    cube = np.stack([cfa.gather(raw, PATTERN, matrix, SHAPE) for raw, matrix in frames])
    flat = cube.reshape(len(cube), 3, -1)
    data, variance = integrate(flat)
    noise = np.sqrt(np.nanmedian(variance, axis=1))
    gate = cfa_sky.structure(data.reshape(3, *SHAPE), noise, [SIGMA] * 3)
    pixels = np.flatnonzero(gate > 0)
    samples = np.ascontiguousarray(flat[:, :, pixels])
    for _ in range(2):
        model = data.reshape(3, *SHAPE)
        steep = cfa_sky.steepness(model, pixels)
        placed = [
            cfa_place.place(s, pixels, PATTERN, m, model, gate, steep, noise=[SIGMA] * 3)
            for s, m in zip(samples, field.matrices, strict=True)
        ]
        judged, share = (np.stack([p[k] for p in placed]) for k in range(2))
        more = {"judged": judged, "share": share, "scale_floor": SIGMA}
        data[:, pixels], variance[:, pixels] = integrate(samples, **more)
    sharp, weight = data.reshape(3, *SHAPE), np.ones((len(cube), 3))
    moved = displaced(samples.swapaxes(0, 1), pixels, [PATTERN] * len(cube), field.matrices, sharp, gate, weight)
    data[:, pixels], variance[:, pixels] = centred(data[:, pixels], variance[:, pixels], *moved)
    common = cfa_sky.common_light(field.matrices, PATTERN, SHAPE, SHAPE)
    return cfa_sky.smooth_sky(data.reshape(3, *SHAPE), variance.reshape(3, *SHAPE), gate, common)[0]


def debayered(method: str) -> Callable[[Field], Planes]:
    def road(field: Field) -> Planes:
        frames = zip(field.raws, field.matrices, strict=True)
        cube = np.stack([warp(debayer(raw, PATTERN, method), matrix, SHAPE) for raw, matrix in frames])
        return integrate(cube.reshape(len(cube), 3, -1))[0].reshape(3, *SHAPE)

    return road


def drizzle(field: Field) -> Planes:
    """STScI's drizzle, pixfrac 0.6, without rejection."""
    from drizzle.resample import Drizzle

    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    outputs = [Drizzle(kernel="square", out_shape=SHAPE, disable_ctx=True) for _ in range(3)]
    for raw, matrix in zip(field.raws, field.matrices, strict=True):
        back = np.linalg.inv(matrix)
        places = np.stack([back[r, 0] * x + back[r, 1] * y + back[r, 2] for r in range(2)], axis=-1)
        for c in range(3):
            use = np.zeros(SHAPE, np.float32)
            for k, colour in enumerate(PATTERN):
                if "RGB".index(colour) == c:
                    use[k // 2 :: 2, k % 2 :: 2] = 1
            outputs[c].add_image(raw.astype(np.float32), 1.0, places, scale=1.0, pixfrac=0.6, weight_map=use)
    return np.stack([o.out_img for o in outputs])


def siril(field: Field) -> Planes:
    with tempfile.TemporaryDirectory() as folder:
        lights = Path(folder, "lights")
        lights.mkdir()
        for k, raw in enumerate(field.raws):
            fits.PrimaryHDU(raw, fits.Header([("BAYERPAT", PATTERN)])).writeto(lights / f"l{k:03d}.fits")
        script = Path(folder, "stack.ssf")
        script.write_text(SIRIL)
        subprocess.run(["siril-cli", "-d", folder, "-s", str(script)], check=True, capture_output=True)
        return np.asarray(fits.getdata(Path(folder, "result.fit")), np.float32)


def gaussian(
    at: NDArray[np.float64], peak: float, x: float, y: float, s: float, base: float
) -> NDArray[np.float64]:
    return peak * np.exp(-((at[0] - x) ** 2 + (at[1] - y) ** 2) / (2 * s * s)) + base


def judge(image: Planes, field: Field) -> str:
    """One line of figures."""
    sky = np.nanmedian(image, axis=(1, 2))
    image = np.where(np.isfinite(image), image, sky[:, None, None]) - sky[:, None, None]
    reach = round(3 * field.fwhm) + 4
    j, i = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    flux, width = np.full((300, 3), np.nan), np.full((300, 3), np.nan)
    for k, (x, y) in enumerate(field.xy):
        a, b = round(x), round(y)
        if min(a, b) < reach or a + reach >= SHAPE[1] or b + reach >= SHAPE[0]:
            continue
        distance = np.hypot(i - (x - a), j - (y - b))
        near = distance < 1.6 * field.fwhm + 1
        for c in range(3):
            cut = image[c, b - reach : b + reach + 1, a - reach : a + reach + 1]
            flux[k, c] = (np.clip(3 * field.fwhm + 0.5 - distance, 0, 1) * cut).sum() / field.light[k, c]
            start = [1, x - a, y - b, field.fwhm / 2.3548, 0]
            try:
                fit, _ = curve_fit(gaussian, (i[near], j[near]), cut[near] / cut.max(), start)
            except RuntimeError:
                continue
            width[k, c] = abs(fit[3]) * 2.3548 / field.fwhm
    ratio = flux / flux[:, 1:2]
    ratio = ratio / np.nanmedian(ratio, axis=0)
    scale = np.nanmedian(flux[:, 1]) / (2 * np.pi * (field.fwhm / 2.3548) ** 2)
    error = image / scale - (field.planes(field.xy) - SKY)
    r, far, core = int(1.5 * field.fwhm), np.ones(SHAPE, bool), []
    for (x, y), light in zip(field.xy.astype(int), field.light, strict=True):
        patch = error[:, y - r : y + r + 1, x - r : x + r + 1]
        core.append(np.sqrt((patch**2).mean(axis=(1, 2))) / light)
        far[max(0, y - 14) : y + 15, max(0, x - 14) : x + 15] = False
    far[:60] = far[-60:] = far[:, :60] = far[:, -60:] = False
    blocks = error.reshape(3, SHAPE[0] // 8, 8, SHAPE[1] // 8, 8).mean(axis=(2, 4))
    clean = far.reshape(SHAPE[0] // 8, 8, SHAPE[1] // 8, 8).all(axis=(1, 3))
    columns = (
        ("fwhm", np.nanmedian(width, axis=0), "%.3f"),
        ("colour", 100 * np.sqrt(np.nanmean((ratio[:, ::2] - 1) ** 2, axis=0)), "%.1f"),
        ("core", 100 * np.median(core, axis=0), "%.1f"),
        ("n1", error[:, far].std(axis=1) / SIGMA, "%.3f"),
        ("n8", blocks[:, clean].std(axis=1) / SIGMA, "%.4f"),
    )
    return "  ".join(f"{name} " + " ".join(form % v for v in values) for name, values, form in columns)


def roads() -> dict[str, Callable[[Field], Planes]]:
    """Name every road that can be taken here, and say which cannot."""
    found: dict[str, Callable[[Field], Planes]] = {
        "own pixels (cfa)": own_pixels,
        "bilinear + Lanczos-3": debayered("bilinear"),
        "directional + Lanczos-3": debayered("directional"),
    }
    if find_spec("drizzle"):
        found["STScI drizzle 0.6"] = drizzle
    else:
        print("STScI drizzle is not installed: skipped")
    if shutil.which("siril-cli"):
        found["Siril RCD"] = siril
    else:
        print("Siril is not installed: skipped")
    return found


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--fwhm", type=float, nargs="*", default=[1.8, 2.5, 3.5])
    parser.add_argument("--count", type=int, nargs="*", default=[6, 10, 20])
    parser.add_argument("--rotation", type=float, default=1.0)
    parser.add_argument("--cosmics", type=int, default=20)
    options = parser.parse_args()
    available = roads()
    small = Field(2.5, 4, 0.0, 0)
    for name in list(available)[:3]:
        available[name](small)  # compiles
    for fwhm in options.fwhm:
        for count in options.count:
            field = Field(fwhm, count, options.rotation, options.cosmics)
            road, left = dither.best_road(field.matrices, SHAPE)
            print(f"\nFWHM {fwhm} px, {count} frames: aliasing left {left:.2f}, road {road}")
            for name, stack in available.items():
                begin, children = time.process_time(), getrusage(RUSAGE_CHILDREN)
                try:
                    image = stack(field)
                except (subprocess.CalledProcessError, OSError) as error:
                    print(f"  {name:24s} failed: {error}")
                    continue
                after = getrusage(RUSAGE_CHILDREN)
                spent = time.process_time() - begin
                spent += after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
                print(f"  {name:24s} {judge(image, field)}  cpu {1000 * spent / count:.0f}", flush=True)


if __name__ == "__main__":
    main()
