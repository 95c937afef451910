"""Find stars and match frames, with known truth and beside the peers; prints tables.

    python benchmarks/registration.py [frames lists unrelated stars real speed] [--subs FOLDER] [--trials N]

frames: 1080x1920 px, FWHM 2.8 px, turned by 9 to 90 degrees, 30 % false stars; error = rms over the overlap.
lists, unrelated: star lists with and without a common sky. stars: width, shape, place and light by S/N.
real: subs in FOLDER (m94/a, m94/b, m94/c, m27). speed: CPU milliseconds. Without a name all are run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.spatial import cKDTree

from astrobench.kernels import match as matching
from astrobench.kernels.match import Match, NoMatch, match
from astrobench.kernels.stars import Stars, detect
from astrobench.kernels.transform import apply

H, W = 1920, 1080
SHAPE = (H, W)
MIDDLE = np.array([(W - 1) / 2, (H - 1) / 2])
F64 = NDArray[np.float64]
GRID = np.stack(np.meshgrid(np.linspace(0, W - 1, 20), np.linspace(0, H - 1, 20)), axis=-1).reshape(-1, 2)


def cpu_ms(work: Callable[[], object], rounds: int = 11) -> float:
    """Return the median CPU milliseconds of this thread."""
    spent = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        spent.append(time.thread_time() - start)
    return 1e3 * float(np.median(spent))


def turned(angle: float, move: F64, scale: float = 1.0, mirror: bool = False) -> F64:
    """Return the map that turns by an angle [rad] about the frame's centre, then moves."""
    matrix = np.eye(3)
    matrix[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, :2] = matrix[:2, :2] @ np.diag([-1 if mirror else 1, 1])
    matrix[:2, 2] = MIDDLE + move - matrix[:2, :2] @ MIDDLE
    return matrix


def add_star(image: F64, x: float, y: float, peak: float, sigma: float) -> None:
    """Add a round Gaussian star in place."""
    reach = int(4 * sigma) + 2
    rows = slice(max(0, round(y) - reach), max(0, min(H, round(y) + reach + 1)))
    cols = slice(max(0, round(x) - reach), max(0, min(W, round(x) + reach + 1)))
    v, u = np.arange(rows.start, rows.stop), np.arange(cols.start, cols.stop)
    image[rows, cols] += peak * np.outer(
        np.exp(-0.5 * ((v - y) / sigma) ** 2), np.exp(-0.5 * ((u - x) / sigma) ** 2)
    )


def night(stars: int, seed: int, count: int = 11) -> list[tuple[NDArray[np.float32], F64]]:
    """Return frames and their maps from the first frame; every frame has its own false stars."""
    rng = np.random.default_rng([seed, stars])
    sigma, sky, read = 2.8 / 2.3548, 900.0, 10.0
    noise, side = np.sqrt(sky + read**2), 2400
    number = rng.poisson(stars * side**2 / (H * W))
    xy = rng.uniform(0, side, (number, 2)) - (np.array([side - W, side - H])) / 2
    peak = noise * np.minimum(10 / rng.uniform(0.01, 1, number), 1000)
    frames = []
    for k in range(count):
        matrix = turned(np.radians(9.0 * k), rng.uniform(-60, 60, 2) if k else np.zeros(2))
        image = np.full(SHAPE, sky)
        for (x, y), height in zip(apply(matrix, xy), peak, strict=True):
            if -9 < x < W + 9 and -9 < y < H + 9:
                add_star(image, x, y, height, sigma)
        for _ in range(rng.poisson(0.43 * stars)):
            height = noise * min(10 / rng.uniform(0.01, 1), 1000)
            add_star(image, rng.uniform(0, W), rng.uniform(0, H), height, sigma)
        image = rng.normal(image, np.sqrt(image + read**2))
        frames.append((np.clip(image + 0.5, 0, 65535).astype(np.uint16).astype(np.float32), matrix))
    return frames


def onto(
    stars: Stars, reference: Stars, shape: tuple[int, int] = SHAPE, **options: object
) -> Match | NoMatch:
    """Match one detected list with another."""
    return match(np.c_[stars.x, stars.y], np.c_[reference.x, reference.y], stars.flux, reference.flux,
                 src_shape=shape, dst_shape=shape, **options)  # type: ignore[arg-type]  # fmt: skip


def overlap_error(found: F64, truth: F64) -> float:
    """Return the rms distance [px] over a 20x20 grid of the reference inside the frame."""
    there = apply(truth, GRID)
    inside = ((there >= 0) & (there < [W, H])).all(axis=1)
    return float(np.sqrt(np.mean(np.sum((apply(found, there[inside]) - GRID[inside]) ** 2, axis=1))))


def by_astroalign(image: NDArray[np.float32], reference: NDArray[np.float32]) -> F64 | None:
    """Return astroalign's map with its default settings, None when it gives up."""
    import astroalign

    try:
        return np.asarray(astroalign.find_transform(image, reference)[0].params)
    except (astroalign.MaxIterError, TypeError, ValueError):
        return None


def frames(trials: int, with_peer: bool = True) -> None:
    print("\nframes: success of 10 x seeds, rms error [px]; detect and match CPU ms")
    print(f"{'stars':>6} {'ours':>8} {'wrong':>6} {'median':>8} {'max':>7} {'detect':>7} {'match':>6}"
          f" | {'astroalign':>10} {'wrong':>6} {'median':>8}")  # fmt: skip
    for stars in (15, 30, 60, 150, 500, 2000):
        ours: list[float] = []
        peer: list[float] = []
        spent_detect, spent_match, tried = [], [], 0
        for seed in range(1, trials + 1):
            images = night(stars, seed)
            lists = []
            for image, _ in images:
                start = time.thread_time()
                lists.append(detect(image)[0])
                spent_detect.append(time.thread_time() - start)
            for k in range(1, len(images)):
                tried += 1
                start = time.thread_time()
                found = onto(lists[k], lists[0])
                spent_match.append(time.thread_time() - start)
                if isinstance(found, Match):
                    ours.append(overlap_error(found.matrix, images[k][1]))
                else:
                    print(f"       refused: seed {seed}, frame {k + 1}: {found.cause}")
                theirs = by_astroalign(images[k][0], images[0][0]) if with_peer else None
                if theirs is not None:
                    peer.append(overlap_error(theirs, images[k][1]))
        good, peer_good = [e for e in ours if e < 1], [e for e in peer if e < 1]
        print(f"{stars:6d} {len(good):5d}/{tried} {len(ours) - len(good):6d}"
              f" {np.median(good):8.4f} {max(good):7.3f}"
              f" {1e3 * np.median(spent_detect):7.1f} {1e3 * np.median(spent_match):6.1f}"
              f" | {len(peer_good):7d}/{tried} {len(peer) - len(peer_good):6d}"
              f" {np.median(peer_good) if peer_good else np.nan:8.4f}", flush=True)  # fmt: skip


def list_pair(
    rng: np.random.Generator, common: int, spurious: float = 0.3, angle: float = 10.0, scale: float = 1.0,
    mirror: bool = False, overlap: float = 1.0, magnitude: float = 0.2, bright: bool = False,
) -> tuple[F64, F64, F64, F64, F64]:  # fmt: skip
    """Return two lists (0.2 px jitter) and their map."""
    move = rng.uniform(-60, 60, 2) if overlap == 1 else np.array([0.0, (1 - overlap) * H])
    truth = turned(np.radians(rng.uniform(-angle, angle)), move, scale, mirror)
    number = 40 * common if overlap == 1 else int(common * 16e6 / (W * H))
    sky = MIDDLE + rng.uniform(-2000, 2000, (number, 2))
    seen = apply(np.linalg.inv(truth), sky)
    there, here = ((p > 0).all(axis=1) & (p < [W, H]).all(axis=1) for p in (sky, seen))
    if overlap == 1:
        here = there = np.isin(np.arange(number), np.flatnonzero(here & there)[:common])
    flux = 1 / rng.uniform(0.01, 1, number)
    result = []
    for xy, light in ((seen[here], flux[here]), (sky[there], flux[there])):
        false = round(len(xy) * spurious / (1 - spurious))
        extra = light.max() * (1 + rng.random(false)) if bright else 1 / rng.uniform(0.01, 1, false)
        order = rng.permutation(len(xy) + false)
        places = np.concatenate([xy + rng.normal(0, 0.2, xy.shape), rng.uniform(0, 1, (false, 2)) * [W, H]])
        faded = light * 10 ** (0.4 * rng.normal(0, magnitude, len(xy)))
        result += [places[order], np.concatenate([faded, extra])[order]]
    return result[0], result[2], result[1], result[3], truth


LISTS: dict[str, tuple[dict[str, float], dict[str, object]]] = {
    "8 common, no spurious": ({"common": 8, "spurious": 0}, {}),
    "12 common, 60 % spurious": ({"common": 12, "spurious": 0.6}, {}),
    "25 common, 60 % spurious": ({"common": 25, "spurious": 0.6}, {}),
    "200 common, 60 % spurious": ({"common": 200, "spurious": 0.6}, {}),
    "60 common, 80 % spurious": ({"common": 60, "spurious": 0.8}, {}),
    "60, any rotation": ({"common": 60, "angle": 180}, {}),
    "60, spurious the brightest": ({"common": 60, "bright": True}, {}),
    "60, scale 0.7, range 0.5-2": ({"common": 60, "scale": 0.7}, {"scale": (0.5, 2.0)}),
    "60, mirrored": ({"common": 60, "mirror": True}, {"allow_flip": True}),
    "60, overlap 25 %": ({"common": 60, "overlap": 0.25}, {}),
    "200, overlap 25 %": ({"common": 200, "overlap": 0.25}, {}),
    "60, 1 mag of noise": ({"common": 60, "magnitude": 1}, {}),
    "2000 common": ({"common": 2000}, {}),
    "60, with a guess": ({"common": 60, "angle": 2}, {"guess": np.eye(3)}),
}


def lists(trials: int) -> None:
    print(f"\nlists: {trials} trials each, 30 % spurious where not said; right = all corners within 3 px")
    print(f"{'case':28} {'right':>6} {'wrong':>6} {'least evidence':>15} {'CPU ms':>7} {'worst':>6}")
    corners = np.array([[0, 0], [W, 0], [0, H], [W, H]], float)
    for name, (make, options) in LISTS.items():
        right, wrong, evidence, spent = 0, 0, [], []
        for seed in range(trials):
            data = list_pair(np.random.default_rng([seed, 7]), **make)  # type: ignore[arg-type]
            start = time.thread_time()
            found = match(*data[:4], src_shape=SHAPE, dst_shape=SHAPE, **options)  # type: ignore[arg-type]
            spent.append(time.thread_time() - start)
            if isinstance(found, Match):
                near = np.abs(apply(found.matrix, corners) - apply(data[4], corners)).max() < 3
                right, wrong = right + near, wrong + (not near)
                evidence.append(found.evidence)
        print(f"{name:28} {right:6d} {wrong:6d} {min(evidence, default=0):15.1f}"
              f" {1e3 * np.median(spent):7.1f} {1e3 * max(spent):6.0f}", flush=True)  # fmt: skip


def unrelated(trials: int) -> None:
    print(f"\nunrelated: {trials} pairs of 20 to 400 random stars; accepted would be wrong")
    for scale in ((0.9, 1.1), (0.5, 2.0)):
        accepted, evidence, spent = 0, [], []
        for seed in range(trials):
            rng = np.random.default_rng(seed)
            n, m = np.exp(rng.uniform(np.log(20), np.log(400), 2)).astype(int)
            here, there = rng.uniform(0, 1, (n, 2)) * [W, H], rng.uniform(0, 1, (m, 2)) * [W, H]
            start = time.thread_time()
            found = match(here, there, rng.random(n), rng.random(m), src_shape=SHAPE, dst_shape=SHAPE,
                          scale=scale, allow_flip=seed % 2 == 1)  # fmt: skip
            spent.append(time.thread_time() - start)
            accepted += isinstance(found, Match)
            evidence.append(found.evidence)
        print(f"scale {scale}: accepted {accepted}, strongest evidence {np.round(np.sort(evidence)[-3:], 1)}"
              f" of {matching.ENOUGH_EVIDENCE:g}, CPU ms {1e3 * np.median(spent):.0f},"
              f" worst {1e3 * max(spent):.0f}")  # fmt: skip


def moffat_field(
    rng: np.random.Generator, fwhm: float, eccentricity: float, beta: float
) -> tuple[NDArray[np.float32], F64, F64]:
    """Return 1000x1000 px with about 200 separate stars, their places and matched-filter S/N."""
    side, noise, columns = 1000, 20.0, 14
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(columns)), axis=-1).reshape(-1, 2)
    xy = (grid + 0.5 + rng.uniform(-0.2, 0.2, grid.shape)) * side / columns
    snr = np.exp(rng.uniform(np.log(8), np.log(800), len(xy)))
    image = rng.normal(1000.0, noise, (side, side))
    short, reach = np.sqrt(1 - eccentricity**2), int(8 * fwhm)
    for (x, y), strength in zip(xy, snr, strict=True):
        v, u = np.mgrid[max(0, int(y) - reach) : min(side, int(y) + reach),
                        max(0, int(x) - reach) : min(side, int(x) + reach)]  # fmt: skip
        a = ((u - x) * 0.8 + (v - y) * 0.6) * np.sqrt(short)
        b = ((v - y) * 0.8 - (u - x) * 0.6) / np.sqrt(short)
        q = (a**2 + b**2) / (fwhm / 2) ** 2
        profile = np.exp(-np.log(2) * q) if np.isinf(beta) else (1 + q * (2 ** (1 / beta) - 1)) ** -beta
        image[v, u] += strength * noise / (np.sqrt(np.pi) * fwhm / 2.3548) * profile
    return image.astype(np.float32), xy, snr


def luminance(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the image under [1 2 1] x [1 2 1] / 16."""
    triangle = np.array([1, 2, 1], np.float32) / 4
    return np.asarray(convolve1d(convolve1d(image, triangle, axis=0), triangle, axis=1))


def stars(trials: int) -> None:
    print("\nstars: measured / true FWHM, eccentricity, centroid rms per axis [px], found, by true S/N")
    cases = ((3, 0, np.inf, 0), (3, 0, 3, 0), (2, 0, 4, 0), (3, 0.6, 2.5, 0), (3, 0.85, np.inf, 0),
             (9, 0.5, 4, 0), (2, 0, 3, 0.5), (3, 0.6, 3, 0.5))  # fmt: skip
    for fwhm, ecc, beta, blur in cases:
        rows, total = [], []
        for seed in range(trials):
            image, xy, snr = moffat_field(np.random.default_rng(seed), fwhm, ecc, beta)
            found = detect(luminance(image) if blur else image, blur_variance=blur)[0]
            distance, near = cKDTree(xy).query(np.c_[found.x, found.y])
            true = distance < 0.7 * fwhm
            offset = np.c_[found.x, found.y] - xy[near]
            rows.append(np.c_[snr[near], found.fwhm / fwhm, found.eccentricity, offset][true])
            total.append(snr)
        table, placed = np.concatenate(rows), np.concatenate(total)
        print(f"FWHM {fwhm}, e {ecc}, beta {beta}{', luminance of a mosaic' if blur else ''}")
        for low, high in ((8, 10), (10, 20), (20, 50), (50, 200), (200, 800)):
            part = table[(table[:, 0] >= low) & (table[:, 0] < high)]
            share = len(part) / max(1, np.sum((placed >= low) & (placed < high)))
            print(f"   S/N {low:3d}-{high:3d}: FWHM {np.median(part[:, 1]):.3f}"
                  f"  e {np.median(part[:, 2]):.3f}"
                  f"  place {np.sqrt(np.mean(part[:, 3:] ** 2)):.4f}  found {share:.2f}")  # fmt: skip


def real(folder: Path) -> None:
    from astropy.io import fits

    print("\nreal: every sub onto the first of its target (luminance of the mosaic)")
    for target in ("m94", "m27"):
        paths = sorted((folder / target).glob("**/*.fit*"))
        reference: Stars | None = None
        for path in paths:
            image = luminance(fits.getdata(path).astype(np.float32))
            found, sky, noise = detect(image, blur_variance=0.5, saturation=65535.0)
            reference = found if reference is None else reference
            shape = (image.shape[0], image.shape[1])
            result = onto(found, reference, shape)
            text = (
                f"{target} {path.stem[-6:]:>6} {len(found.x):4d} stars, sky {sky:5.0f}, noise {noise:4.1f}, "
            )
            text += f"FWHM {np.median(found.fwhm):.2f}, e {np.median(found.eccentricity):.2f}, "
            if isinstance(result, NoMatch):
                print(text + "NOT MATCHED: " + result.cause)
                continue
            middle = (np.array(shape[::-1]) - 1)[None] / 2
            dx, dy = (apply(result.matrix, middle) - middle)[0]
            angle = np.degrees(np.arctan2(result.matrix[1, 0], result.matrix[0, 0]))
            size = np.sqrt(np.linalg.det(result.matrix[:2, :2]))
            print(text + f"{len(result.src_index):4d} pairs, rms {result.rms:.3f} px, "
                  f"shift {dx:+6.1f} {dy:+6.1f}, "
                  f"rotation {angle:+7.3f}, scale {size:.5f}, evidence {result.evidence:.0f}")  # fmt: skip


def speed() -> None:
    print("\nspeed: CPU ms of one thread, median of 11, 1080x1920")
    for count in (60, 500, 2000):
        images = night(count, 1, 3)
        (image, _), (second, truth) = images[0], images[1]
        first, other = detect(image)[0], detect(second)[0]
        guess = np.linalg.inv(truth)
        print(f"{count:5d} stars: detect {cpu_ms(lambda i=image: detect(i)):6.1f}, "
              f"match {cpu_ms(lambda a=other, b=first: onto(a, b)):5.1f}, with a guess "
              f"{cpu_ms(lambda a=other, b=first, g=guess: onto(a, b, guess=g)):5.1f}", end="")  # fmt: skip
        try:
            from photutils.detection import DAOStarFinder

            finder = DAOStarFinder(155.0, 2.8)
            print(
                f"; photutils DAOStarFinder alone {cpu_ms(lambda i=image, f=finder: f(i - 900), 3):6.0f}",
                end="",
            )
        except ImportError:
            pass
        print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["frames", "lists", "unrelated", "stars", "real", "speed"])
    parser.add_argument("--subs", type=Path, default=Path("data"))
    parser.add_argument(
        "--trials", type=int, help="seeds of frames (3), trials of lists (40), unrelated (500)"
    )
    asked = parser.parse_args()
    work: dict[str, Callable[[], None]] = {
        "frames": lambda: frames(asked.trials or 3),
        "lists": lambda: lists(asked.trials or 40),
        "unrelated": lambda: unrelated(asked.trials or 500),
        "stars": lambda: stars(asked.trials or 3),
        "real": lambda: real(asked.subs),
        "speed": speed,
    }
    detect(night(30, 1, 1)[0][0])  # compile before the clocks start
    for name in asked.what:
        work[name]()


if __name__ == "__main__":
    main()
