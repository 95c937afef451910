"""Each colour reaches the output grid from its own pixels: sharp, true in colour, with a stated variance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from astrobench.kernels import cfa, cfa_place, cfa_sky, dither
from astrobench.kernels.debayer import RED_AT

SKY, SIGMA = 1000.0, 20.0
STARS = ((20.3, 21.8), (60.1, 20.0), (21.0, 59.5), (58.6, 60.4))


def colour_map(pattern: str, shape: tuple[int, int]) -> NDArray[np.int64]:
    cell = np.array(["RGB".index(c) for c in pattern]).reshape(2, 2)
    return np.tile(cell, (shape[0] // 2 + 1, shape[1] // 2 + 1))[: shape[0], : shape[1]]


def turn(degrees: float, dx: float, dy: float, centre: float = 40.0) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(
        [[c, -s, centre * (1 - c + s) + dx], [s, c, centre * (1 - s - c) + dy], [0, 0, 1]],
    )


def nearest_by_search(raw, pattern, matrix, x, y):  # type: ignore[no-untyped-def]
    u, v = (matrix @ [x, y, 1.0])[:2]
    colours = colour_map(pattern, raw.shape)
    j, i = np.mgrid[: raw.shape[0], : raw.shape[1]]
    distance = np.hypot(i - u, j - v)
    return [raw.ravel()[np.argmin(np.where(colours == c, distance, np.inf))] for c in range(3)]


@pytest.mark.parametrize("pattern", RED_AT)
def test_gather_takes_the_nearest_pixel_of_each_colour(pattern: str) -> None:
    rng = np.random.default_rng(1)
    raw = rng.permutation(80 * 80).reshape(80, 80).astype(np.uint16)
    matrix = turn(33.0, 3.3, -2.7)
    planes = cfa.gather(raw, pattern, matrix, (80, 80))
    for x, y in rng.integers(20, 60, (60, 2)):
        assert planes[:, y, x].tolist() == [float(v) for v in nearest_by_search(raw, pattern, matrix, x, y)]


def test_gather_has_the_same_bits_for_any_division_of_rows() -> None:
    raw = np.random.default_rng(2).integers(0, 65535, (60, 50), dtype=np.uint16)
    matrix = np.array([[0.9, -0.3, 8.0], [0.3, 0.9, -5.0], [1e-4, -2e-4, 1.0]])
    whole = cfa.gather(raw, "GRBG", matrix, (64, 48))
    parts = np.full_like(whole, np.nan)
    for rows in ((0, 1), (1, 40), (40, 64)):
        cfa.gather(raw, "GRBG", matrix, (64, 48), rows=rows, out=parts)
    assert np.array_equal(whole, parts, equal_nan=True)
    assert np.array_equal(whole, cfa.gather(raw.astype(np.float32), "GRBG", matrix, (64, 48)), equal_nan=True)


@pytest.mark.parametrize("degrees", [0.0, 7.0, 69.5, 180.0])
def test_some_rows_of_the_mosaic_are_enough_for_some_rows_of_the_grid(degrees: float) -> None:
    raw = np.random.default_rng(3).normal(size=(60, 50)).astype(np.float32)
    raw[30, 20] = np.nan
    matrix = turn(degrees, 3.3, -2.7)
    whole = cfa.gather(raw, "GBRG", matrix, (70, 55))
    y, x = np.mgrid[:70, :55].astype(float)
    for first, last in ((0, 1), (1, 2), (20, 41), (41, 70)):
        top, bottom = cfa.rows_needed(matrix, (first, last), 55, 60)
        some = np.ascontiguousarray(raw[top:bottom])
        for colour in range(3):
            out = np.full((last - first, 55), 7.0, np.float32)
            if bottom > top:
                cfa.gather_colour(some, top, 60, "GBRG", matrix, colour, first, out)
                assert np.array_equal(out, whole[colour, first:last], equal_nan=True)
            places = x[first:last].ravel(), y[first:last].ravel()
            points = np.full(places[0].shape, np.nan, np.float32)
            if bottom > top:
                cfa.gather_points(some, top, 60, "GBRG", matrix, colour, *places, points)
            assert np.array_equal(points, whole[colour, first:last].ravel(), equal_nan=True)


def test_a_missing_raw_pixel_is_made_up_nowhere_and_outside_is_missing() -> None:
    raw = np.full((40, 40), 7.0, np.float32)
    raw[20, 20] = np.nan
    planes = cfa.gather(raw, "RGGB", np.eye(3), (50, 40))
    assert np.isnan(planes[:, 40:]).all()
    assert np.isnan(planes[0, :40]).sum() == 4
    assert not np.isnan(planes[1:, :40]).any()


def test_wrong_arrays_are_refused() -> None:
    raw = np.zeros((8, 8), np.float32)
    with pytest.raises(ValueError, match="pattern"):
        cfa.gather(raw, "RGBG", np.eye(3), (8, 8))
    with pytest.raises(ValueError, match="float32"):
        cfa.gather(raw.astype(np.float64), "RGGB", np.eye(3), (8, 8))
    with pytest.raises(ValueError, match="rows"):
        cfa.gather(raw, "RGGB", np.eye(3), (8, 8), rows=(0, 9))
    with pytest.raises(ValueError, match="3 x 3"):
        cfa.gather(raw, "RGGB", np.eye(2), (8, 8))


def scene(x, y):  # type: ignore[no-untyped-def]
    """Four stars of FWHM 2.2 px and different colour on a flat sky; (3, ...) ."""
    total = np.zeros((3, *np.shape(x)))
    amplitudes = ((3000, 5000, 2000), (6000, 4000, 4000), (2000, 2500, 4000), (9000, 9000, 9000))
    for (cx, cy), amplitude in zip(STARS, amplitudes, strict=True):
        profile = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (2.2 / 2.3548) ** 2))
        total += np.asarray(amplitude, float).reshape(3, *[1] * np.ndim(x)) * profile
    return total + SKY


def night(count: int, seed: int, noise_seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    noise = np.random.default_rng((seed, noise_seed))
    j, i = np.mgrid[:80, :80].astype(float)
    colours = colour_map("GRBG", (80, 80))
    raws, matrices = [], []
    for k in range(count):
        matrix = turn(0.5 * k, *rng.uniform(-6, 6, 2))
        back = np.linalg.inv(matrix)
        x, y = (back[r, 0] * i + back[r, 1] * j + back[r, 2] for r in range(2))
        planes = scene(x, y)
        mosaic = np.take_along_axis(planes, colours[None], axis=0)[0] + noise.normal(0, SIGMA, (80, 80))
        raws.append(np.clip(mosaic + 0.5, 0, 65535).astype(np.uint16))
        matrices.append(matrix)
    return raws, matrices


def combine(samples, share, variance):  # type: ignore[no-untyped-def]
    valid = np.isfinite(samples)
    weight = np.where(valid, share, 0)
    total = weight.sum(axis=0)
    total[total == 0] = np.nan
    value = (np.where(valid, samples, 0) * weight).sum(axis=0) / total
    return value.astype(np.float32), (variance * (weight**2).sum(axis=0) / total**2).astype(np.float32)


def stack(raws, matrices, pixfrac=cfa_place.PIXFRAC):  # type: ignore[no-untyped-def]
    """The four steps without rejection."""
    cube = np.stack([cfa.gather(r, "GRBG", m, (80, 80)) for r, m in zip(raws, matrices, strict=True)])
    data, variance = combine(cube, np.ones_like(cube), SIGMA**2)
    noise = np.sqrt(np.nanmedian(variance, axis=(1, 2)))
    gate = cfa_sky.structure(data, noise, np.sqrt(len(cube)) * noise)
    pixels = np.flatnonzero(gate > 0)
    steep = cfa_sky.steepness(data, pixels)
    active = np.ascontiguousarray(cube.reshape(len(cube), 3, -1)[:, :, pixels])
    placed = [
        cfa_place.place(a, pixels, "GRBG", m, data, gate, steep, noise=[SIGMA] * 3, pixfrac=pixfrac)
        for a, m in zip(active, matrices, strict=True)
    ]
    share = np.stack([s for _, s in placed])
    data.reshape(3, -1)[:, pixels], variance.reshape(3, -1)[:, pixels] = combine(active, share, SIGMA**2)
    common = cfa_sky.common_light(matrices, "GRBG", (80, 80), (80, 80))
    smooth, spread = cfa_sky.smooth_sky(data, variance, gate, common)
    return smooth, spread, gate, np.stack([j for j, _ in placed]), pixels


def width(plane, x, y):  # type: ignore[no-untyped-def]
    """FWHM by least squares on a grid of Gaussian widths."""
    j, i = np.mgrid[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
    cut = plane[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7] - SKY
    best = []
    for fwhm in np.arange(1.8, 3.6, 0.01):
        g = np.exp(-((i - x) ** 2 + (j - y) ** 2) / (2 * (fwhm / 2.3548) ** 2))
        amplitude = (g * cut).sum() / (g * g).sum()
        best.append((((cut - amplitude * g) ** 2).sum(), fwhm))
    return min(best)[1]


def test_stars_of_twenty_dithered_frames_are_sharp_in_each_colour() -> None:
    smooth, *_ = stack(*night(20, 3))
    for c in range(3):
        widths = [width(smooth[c], x, y) for x, y in STARS]
        assert np.median(widths) < 2.2 * 1.10


def test_star_colours_are_true_within_three_per_cent() -> None:
    smooth, *_ = stack(*night(20, 4))
    j, i = np.mgrid[:80, :80]
    truth = dict(zip(STARS, ((0.6, 0.4), (1.5, 1.0), (0.8, 1.6), (1.0, 1.0)), strict=True))
    errors = []
    for (x, y), (red, blue) in truth.items():
        flux = [(smooth[c] - SKY)[np.hypot(i - x, j - y) < 6].sum() for c in range(3)]
        errors += [flux[0] / flux[1] / red - 1, flux[2] / flux[1] / blue - 1]
    assert np.sqrt(np.mean(np.square(errors))) < 0.03


def test_variance_is_that_of_the_scatter_over_nights_on_sky_and_on_stars() -> None:
    nights = [stack(*night(12, 3, k)) for k in range(40)]
    data = np.stack([n[0] for n in nights])
    stated = np.mean([n[1] for n in nights], axis=0)
    plain, star = np.zeros((80, 80), bool), np.zeros((80, 80), bool)
    plain[34:46, 10:70] = True
    for x, y in ((20, 22), (60, 20), (21, 59), (58, 60)):
        star[y - 3 : y + 4, x - 3 : x + 4] = True
    for where in (plain, star):
        ratio = data.var(axis=0, ddof=1)[:, where].mean(axis=1) / stated[:, where].mean(axis=1)
        # 5 sigma of the mean of some 200 independent variances with 39 degrees of freedom each
        assert np.allclose(ratio, 1, atol=0.09)


def test_a_star_seen_at_different_places_is_no_outlier_and_a_cosmic_ray_is() -> None:
    raws, matrices = night(20, 5)
    _, _, gate, judged, pixels = stack(raws, matrices)
    sharp = gate.ravel()[pixels] > 0.9
    spread = judged[:, :, sharp] - np.nanmedian(judged[:, :, sharp], axis=0)
    assert np.nanmean(np.abs(spread) > 4 * SIGMA) < 0.002
    back = np.linalg.inv(matrices[7])
    x, y = np.rint((matrices[7] @ [20, 24, 1])[:2]).astype(int)
    raws[7][y, x] = 20000
    _, _, _, judged, pixels = stack(raws, matrices)
    colour = colour_map("GRBG", (80, 80))[y, x]
    ox, oy = np.rint((back @ [x, y, 1])[:2]).astype(int)
    struck = judged[:, colour, np.searchsorted(pixels, oy * 80 + ox)]
    assert np.argmax(struck) == 7
    assert struck[7] - np.median(struck) > 4 * SIGMA


def test_plain_sky_opens_the_gate_almost_nowhere_and_a_star_opens_it_wide() -> None:
    rng = np.random.default_rng(6)
    model = rng.normal(SKY, 5, (3, 200, 200)).astype(np.float32)
    assert (cfa_sky.structure(model, [5, 5, 5], [25, 25, 25]) > 0.1).mean() < 0.02
    model[1, 100, 100] += 400
    gate = cfa_sky.structure(model, [5, 5, 5], [25, 25, 25])
    assert (gate[99:102, 99:102] == 1).all()


def test_common_light_without_rotation_is_the_overlap_of_the_cells() -> None:
    rng = np.random.default_rng(7)
    matrices = [turn(0, *rng.uniform(-9, 9, 2)) for _ in range(16)]
    common = cfa_sky.common_light(matrices, "RGGB", (300, 200), (300, 200))
    one = np.array([0, 0.5, 1, 0.5, 0])
    assert np.allclose(common[0], np.outer(one, one), atol=0.12)
    assert np.allclose(common[2], np.outer(one, one), atol=0.12)
    assert np.allclose(common[:, 2, 2], 1)
    assert common[1, 2, 3] == pytest.approx(0.25, abs=0.1)


def test_smoothing_keeps_structure_and_missing_pixels() -> None:
    data = np.random.default_rng(8).normal(0, 1, (3, 20, 20)).astype(np.float32)
    data[0, 5, 5] = np.nan
    gate = np.zeros((20, 20), np.float32)
    gate[10:] = 1
    common = np.zeros((3, 5, 5))
    common[:, 2, 2] = 1  # independent pixels
    smooth, spread = cfa_sky.smooth_sky(data, np.ones_like(data), gate, common)
    assert np.array_equal(smooth[:, 10:], data[:, 10:])
    assert np.isnan(smooth[0, 5, 5])
    assert np.isfinite(smooth).sum() == smooth.size - 1
    assert spread[1, 3, 3] == pytest.approx((36 / 256), rel=1e-5)
    assert spread[1, 12, 3] == 1


@pytest.mark.parametrize(("shifts", "road"), [(0.0, "debayer"), (8.0, "cfa")])
def test_the_road_follows_the_dither(shifts: float, road: str) -> None:
    rng = np.random.default_rng(9)
    matrices = [turn(0, *rng.uniform(-shifts, shifts + 1e-9, 2)) for _ in range(12)]
    assert dither.best_road(matrices, (80, 80))[0] == road
    assert dither.best_road(matrices[:2], (80, 80))[0] == "debayer"
