"""Stars: where they are, how wide, how stretched, and nothing that is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter
from scipy.spatial import cKDTree

from astrobench.kernels import star_filter
from astrobench.kernels.stars import Stars, detect, sky_map

SUBS = Path(os.environ.get("ASTROBENCH_SUBS", Path(__file__).parents[3] / "data"))
NOISE = 20.0
TRIANGLE = np.array([1, 2, 1], np.float32) / 4


def luminance(image: np.ndarray) -> np.ndarray:
    return convolve1d(convolve1d(image, TRIANGLE, axis=0), TRIANGLE, axis=1)


def scene(
    rng: np.random.Generator, fwhm: float = 3.0, eccentricity: float = 0.0, beta: float = 3.0,
    angle: float = 0.6, side: int = 600, columns: int = 9, snr: tuple[float, float] = (20, 300),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """A frame of separate Moffat stars (beta = inf: Gaussian), their x, y and matched-filter S/N."""
    cell = side / columns
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(columns)), axis=-1).reshape(-1, 2)
    xy = (grid + 0.5) * cell + rng.uniform(-0.2, 0.2, grid.shape) * cell
    strength = np.exp(rng.uniform(*np.log(snr), len(xy)))
    amplitude = strength * NOISE / (np.sqrt(np.pi) * fwhm / 2.3548)
    image = rng.normal(1000.0, NOISE, (side, side))
    short = np.sqrt(1 - eccentricity**2)
    reach = int(8 * fwhm)
    for (x, y), height in zip(xy, amplitude, strict=True):
        rows = slice(max(0, int(y) - reach), int(y) + reach)
        cols = slice(max(0, int(x) - reach), int(x) + reach)
        v, u = np.mgrid[rows, cols][:, : image.shape[0] - rows.start, : image.shape[1] - cols.start]
        a = ((u - x) * np.cos(angle) + (v - y) * np.sin(angle)) * np.sqrt(short)
        b = (-(u - x) * np.sin(angle) + (v - y) * np.cos(angle)) / np.sqrt(short)
        q = (a**2 + b**2) / (fwhm / 2) ** 2
        profile = np.exp(-np.log(2) * q) if np.isinf(beta) else (1 + q * (2 ** (1 / beta) - 1)) ** -beta
        image[rows, cols] += height * profile
    return image.astype(np.float32), xy, strength


def pairs(stars: Stars, xy: np.ndarray, reach: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of stars and of the truth they belong to."""
    distance, nearest = cKDTree(xy).query(np.c_[stars.x, stars.y])
    found = np.flatnonzero(distance < reach)
    return found, nearest[found]


@pytest.mark.parametrize("beta", [2.5, 4.0, np.inf])
@pytest.mark.parametrize(("fwhm", "eccentricity"), [(2.0, 0.0), (3.0, 0.6), (3.0, 0.85), (9.0, 0.5)])
def test_width_and_eccentricity_are_right_within_five_percent(
    beta: float, fwhm: float, eccentricity: float
) -> None:
    image, xy, _ = scene(np.random.default_rng(1), fwhm, eccentricity, beta, side=900 if fwhm > 5 else 600)

    stars, _, _ = detect(image)

    found, _ = pairs(stars, xy, 0.5 * fwhm)
    strong = found[stars.snr[found] > 20]
    assert len(strong) > 50
    assert np.median(stars.fwhm[strong]) == pytest.approx(fwhm, rel=0.05)
    assert np.median(stars.eccentricity[strong]) == pytest.approx(
        eccentricity, rel=0.05, abs=0.0 if eccentricity else 0.25
    )
    if eccentricity:
        assert np.median(stars.angle[strong]) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(("fwhm", "beta"), [(1.8, np.inf), (2.2, 3.0), (3.0, 2.5), (4.5, 4.0)])
def test_width_before_the_luminance_blur_is_recovered(fwhm: float, beta: float) -> None:
    image, xy, _ = scene(np.random.default_rng(2), fwhm, 0.0, beta, snr=(50, 1000))

    stars, _, _ = detect(luminance(image), blur_variance=0.5)

    found, _ = pairs(stars, xy)
    assert np.median(stars.fwhm[found]) == pytest.approx(fwhm, rel=0.05)


def test_centroids_reach_the_noise_limit() -> None:
    image, xy, strength = scene(np.random.default_rng(3), beta=np.inf, snr=(8, 1000))

    stars, _, _ = detect(image)

    found, truth = pairs(stars, xy)
    # Sky-limited Gaussian star: sigma_x = sqrt(2) sigma / (S/N) (King 1983).
    expected = np.sqrt(2) * 3.0 / 2.3548 / strength[truth]
    pull = (np.c_[stars.x, stars.y][found] - xy[truth]) / expected[:, None]
    assert np.sqrt(np.mean(pull[strength[truth] > 15] ** 2)) < 1.2
    assert np.abs(np.mean(pull, axis=0)).max() < 0.4


def test_nearly_all_stars_above_eight_sigma_are_found_and_little_else() -> None:
    image, xy, _ = scene(np.random.default_rng(4), snr=(8, 100), side=1000, columns=20)

    stars, _, _ = detect(image)

    found, truth = pairs(stars, xy)
    assert len(set(truth)) > 0.93 * len(xy)
    assert len(stars.x) - len(found) <= 2


def test_flux_is_that_of_the_star_and_sorted() -> None:
    image, xy, strength = scene(np.random.default_rng(5), snr=(60, 1000))

    stars, level, sigma = detect(image)

    found, truth = pairs(stars, xy)
    amplitude = strength * NOISE / (np.sqrt(np.pi) * 3 / 2.3548)
    total = amplitude * np.pi * 1.5**2 / (2 ** (1 / 3) - 1) / 2
    assert np.median(stars.flux[found] / total[truth[: len(found)]]) == pytest.approx(1.0, abs=0.04)
    assert (np.diff(stars.flux) <= 0).all()
    assert level == pytest.approx(1000, abs=2)
    assert sigma == pytest.approx(NOISE, rel=0.05)


def test_hot_pixels_and_cosmic_rays_are_no_stars() -> None:
    rng = np.random.default_rng(6)
    image, xy, _ = scene(rng)
    taken = np.round(xy).astype(int)
    free = gaussian_filter(np.zeros_like(image), 1) == 0
    for x, y in taken:
        free[max(0, y - 9) : y + 10, max(0, x - 9) : x + 10] = False
    rows, columns = np.nonzero(free)
    for k in rng.choice(len(rows), 300, replace=False):
        image[rows[k], columns[k]] += rng.uniform(200, 20000)
    for k in rng.choice(len(rows), 20, replace=False):
        for step in range(rng.integers(2, 8)):
            y, x = min(rows[k] + step, 599), min(columns[k] + step // 2, 599)
            image[y, x] += 3000

    for guard in (True, False):
        stars, _, _ = detect(image, guard_hot=guard)
        found, truth = pairs(stars, xy)
        assert len(set(truth)) > 0.9 * len(xy)
        assert len(stars.x) - len(found) <= 4

    blurred, _, _ = detect(luminance(image), blur_variance=0.5)
    assert len(blurred.x) - len(pairs(blurred, xy)[0]) <= 6


def test_saturated_stars_stay_with_their_flag() -> None:
    image, xy, _ = scene(np.random.default_rng(7), snr=(30, 3000))
    clipped = np.minimum(image, 8000)

    for saturation in (8000.0, None):
        stars, _, _ = detect(clipped, saturation=saturation)
        found, truth = pairs(stars, xy)
        deep = image[tuple(np.round(xy[truth]).astype(int).T[::-1])] > 16000
        shallow = image[tuple(np.round(xy[truth]).astype(int).T[::-1])] < 5000
        assert deep.sum() >= 5
        assert stars.saturated[found][deep].all()
        assert not stars.saturated[found][shallow].any()
        assert np.hypot(*(np.c_[stars.x, stars.y][found][deep] - xy[truth][deep]).T).max() < 0.15


def test_trailed_frame_keeps_its_stars_and_tells_the_trail() -> None:
    image, xy, _ = scene(np.random.default_rng(8), fwhm=5.0, eccentricity=0.96, beta=np.inf, snr=(40, 400))

    stars, _, _ = detect(image)

    found, truth = pairs(stars, xy)
    assert len(set(truth)) > 0.9 * len(xy)
    assert len(set(truth)) == len(found)
    assert np.median(stars.eccentricity[found]) == pytest.approx(0.96, rel=0.02)


def test_zeros_are_values_and_do_not_disturb_the_sky() -> None:
    rng = np.random.default_rng(9)
    clipped = np.maximum(rng.normal(25.6, 20, (512, 512)), 0).astype(np.float32)
    scattered = rng.normal(100, 20, (512, 512)).astype(np.float32)
    scattered[rng.random(scattered.shape) < 0.1] = 0

    for image, level in ((clipped, 25.6), (scattered, 100.0)):
        mesh, sigma = sky_map(image)
        assert np.median(mesh) == pytest.approx(level, abs=2)
        assert sigma == pytest.approx(20, rel=0.1)


def test_missing_data_are_left_out() -> None:
    image, xy, _ = scene(np.random.default_rng(10))
    image[:, :200] = np.nan
    image[300:320, 300:320] = np.nan

    stars, level, sigma = detect(image)

    found, truth = pairs(stars, xy)
    inside = xy[:, 0] > 210
    assert level == pytest.approx(1000, abs=3)
    assert sigma == pytest.approx(NOISE, rel=0.05)
    assert (stars.x > 200).all()
    assert len(stars.x) == len(found)
    assert len(set(truth)) > 0.85 * inside.sum()


def test_sky_map_agrees_with_a_slow_twin() -> None:
    image, _, _ = scene(np.random.default_rng(11), side=640)
    image += np.linspace(0, 300, 640, dtype=np.float32)

    mesh, _ = sky_map(image)

    for row, column in ((0, 0), (3, 5), (9, 9)):
        values = image[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64].ravel()
        for _ in range(5):
            middle = np.median(values)
            values = values[np.abs(values - middle) < 3 * 1.4826 * np.median(np.abs(values - middle))]
        # A sample of 1/16 of the pixels; the mesh is a median over 3x3 cells of a tilted sky.
        edge = 25 if row in (0, 9) else 6
        assert mesh[row, column] == pytest.approx(np.median(values), abs=edge)


def test_bisection_finds_the_median() -> None:
    values = np.random.default_rng(12).normal(0, 30, 301).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    assert star_filter.middle(values, len(values), low, high, 24) == pytest.approx(
        np.median(values), abs=1e-3
    )


def test_result_is_the_same_on_another_scratch() -> None:
    image, _, _ = scene(np.random.default_rng(13))
    first, _, _ = detect(image)
    detect(np.ones((300, 700), np.float32))
    second, _, _ = detect(image.copy())
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


STRANGE = {
    "all NaN": np.full((200, 200), np.nan),
    "all infinite": np.full((200, 200), np.inf),
    "constant": np.full((200, 200), 1234.56),
    "all zero": np.zeros((200, 200)),
    "all saturated": np.full((200, 200), 65535.0),
    "tiny": np.random.default_rng(0).normal(100, 10, (16, 16)),
    "one pixel": np.ones((1, 1)),
    "empty": np.empty((0, 5)),
    "one row": np.random.default_rng(0).normal(100, 10, (1, 500)),
    "narrow": np.random.default_rng(0).normal(100, 10, (9, 900)),
    "gradient": np.add.outer(np.arange(300.0), np.arange(300.0)),
    "step": np.repeat([100.0, 50000.0], 100)[None] * np.ones((200, 1)),
    "noise": np.random.default_rng(0).normal(100, 10, (300, 300)),
    "half NaN": np.where(
        np.arange(300)[:, None] < 150, np.nan, np.random.default_rng(1).normal(9, 1, (300, 300))
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_frames_without_stars_have_none_and_raise_nothing(name: str) -> None:
    image = STRANGE[name].astype(np.float32)
    for fwhm in (None, 3.0):
        stars, _, sigma = detect(image, fwhm=fwhm)
        assert len(stars.x) == 0
        assert sigma >= 0


def test_stars_of_a_noiseless_drawing_are_found() -> None:
    image = np.zeros((300, 300), np.float32)
    image[100, 120] = image[200, 60] = 50000
    stars, _, _ = detect(gaussian_filter(image, 1.3) + 100)
    np.testing.assert_allclose(np.sort(stars.x), [60, 120], atol=0.02)


@pytest.mark.skipif(not (SUBS / "m94" / "a").exists(), reason="the real subs are not here")
def test_real_subs_give_sharp_and_soft_frames_their_width() -> None:
    from astropy.io import fits

    width = {}
    for name in ("212323", "212710"):
        path = next((SUBS / "m94" / "a").glob(f"*{name}.fit"))
        raw = fits.getdata(path).astype(np.float32)
        stars, _, _ = detect(luminance(raw), blur_variance=0.5, saturation=65535.0)
        assert 50 < len(stars.x) < 110
        width[name] = np.median(stars.fwhm[stars.snr > 20])
    assert width["212710"] / width["212323"] > 1.2
    assert 1.5 < width["212323"] < 4.5
