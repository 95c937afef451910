"""What a simulated night says of itself is true of its files."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from scipy.optimize import least_squares

from astrobench.simulate import Night, simulate_night
from astrobench.simulate.optics import MOFFAT_BETA

HALF = 7  # px around a star that a fit looks at


def moffat(p: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sky, peak, x, y, FWHM -> surface."""
    alpha = p[4] / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    return p[0] + p[1] * (1 + ((x - p[2]) ** 2 + (y - p[3]) ** 2) / alpha**2) ** -MOFFAT_BETA


def fit_green(data: NDArray[np.uint16], x: float, y: float) -> NDArray[np.float64]:
    """Fit a star to the green pixels of a raw frame."""
    rows, columns = np.mgrid[int(y) - HALF : int(y) + HALF + 1, int(x) - HALF : int(x) + HALF + 1]
    green = (rows + columns) % 2 == 0
    rows, columns = rows[green].astype(float), columns[green].astype(float)
    values = data[rows.astype(int), columns.astype(int)].astype(float)
    start = np.array([1000.0, values.max() - 1000.0, x, y, 3.0])
    return least_squares(lambda p: moffat(p, rows, columns) - values, start).x


def lonely_stars(night: Night, k: int) -> list[tuple[float, float, float]]:
    """Bright, unsaturated, isolated stars of frame k: x, y there and green flux."""
    inverse = np.linalg.inv(night.transforms[k])
    places = np.column_stack([night.stars["x"], night.stars["y"]]) @ inverse[:2, :2].T + inverse[:2, 2]
    out = []
    for i, (x, y) in enumerate(places):
        flux = night.stars["flux_g"][i]
        away = np.hypot(*(places - (x, y)).T)
        away[i] = np.inf
        inside = 12 < x < night.shape[1] - 13 and 12 < y < night.shape[0] - 13
        if inside and 2e4 < flux < 6e5 and away[night.stars["flux_g"] > 0.01 * flux].min() > 14:
            out.append((x, y, flux))
    return out


def test_stars_lie_where_the_transforms_say(star_night: Night) -> None:
    seen = 0
    for k, path in enumerate(star_night.paths):
        data = fits.getdata(path)
        for x, y, flux in lonely_stars(star_night, k):
            fit = fit_green(data, x, y)
            assert np.hypot(fit[2] - x, fit[3] - y) < 0.02
            assert fit[4] == pytest.approx(star_night.fwhm[k], rel=0.01)
            alpha = star_night.fwhm[k] / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
            assert fit[1] * np.pi * alpha**2 / (MOFFAT_BETA - 1) == pytest.approx(flux, rel=0.01)
            seen += 1
    assert seen >= 10


def test_the_field_turns_about_its_centre_at_the_rate_asked_for(star_night: Night) -> None:
    seconds = np.array([np.datetime64(t) for t in star_night.started]).astype("datetime64[us]").astype(float)
    angle = np.rad2deg(np.arctan2(star_night.transforms[:, 1, 0], star_night.transforms[:, 0, 0]))
    rate = np.diff(angle) / np.diff(seconds / 1e6) * 3600
    assert rate == pytest.approx([600.0] * 4, rel=1e-6)
    centre = np.array([134.5, 239.5, 1.0])
    moved = (star_night.transforms @ centre)[:, :2] - centre[:2]
    assert np.all(np.abs(moved) < 30)
    assert np.ptp(moved, axis=0).max() > 1


def test_without_dither_and_rotation_every_frame_is_the_reference(flat_nights: Night) -> None:
    assert np.array_equal(flat_nights.transforms, np.tile(np.eye(3), (16, 1, 1)))


def test_the_variance_of_a_pixel_is_light_over_gain_plus_read_noise(flat_nights: Night) -> None:
    data = np.stack([fits.getdata(path).astype(np.float64) for path in flat_nights.paths])
    mean, variance = data.mean(axis=0), data.var(axis=0, ddof=1)
    level = flat_nights.expected(0)  # not the noisy mean, which would correlate with the variance
    for low, high in ((780, 950), (950, 1050), (1100, 1500), (1500, 4000)):
        chosen = (level > low) & (level < high)
        expected = level[chosen].mean() / flat_nights.gain + flat_nights.read_noise**2
        error = np.sqrt(2 / 15 / chosen.sum())
        assert chosen.sum() > 300
        assert variance[chosen].mean() == pytest.approx(expected, rel=max(0.01, 4 * error))
    sky = (level > 950) & (level < 1050)
    assert 60 < np.sqrt(variance[sky].mean()) < 90
    unclipped = level < 60000
    assert np.mean((mean - level)[unclipped]) == pytest.approx(0.0, abs=0.3)


def test_few_photons_come_as_poisson_says(tmp_path: Path) -> None:
    night = simulate_night(
        tmp_path, frames=4, shape=(480, 270), faults=False, steady=True, nebula=False, stars=0,
        firmware="4.70", exposure=60.0, rotation=0.0, dither=0.0,
    )  # fmt: skip
    for k, path in enumerate(night.paths):
        expected = night.expected(k)
        sigma = np.sqrt(expected / night.gain + night.read_noise**2)
        pull = (fits.getdata(path) - expected) / sigma
        assert np.mean(pull) == pytest.approx(0.0, abs=0.02)
        assert np.std(pull) == pytest.approx(1.0, abs=0.01)


def test_everything_far_from_the_expected_was_planted(full_night: Night) -> None:
    for k, path in enumerate(full_night.paths):
        data, expected = fits.getdata(path).astype(np.float64), full_night.expected(k)
        open_range = (data > 0) & (data < 65000)
        sigma = np.sqrt(np.maximum(expected, 0) / full_night.gain + full_night.read_noise**2)
        far = open_range & (np.abs(data - expected) > 6 * sigma)
        assert not np.any(far & ~full_night.outliers(k))


def test_every_planted_outlier_is_in_its_pixel(full_night: Night) -> None:
    dead = np.zeros(full_night.shape, bool)
    dead[full_night.dead[:, 0], full_night.dead[:, 1]] = True
    total = 0
    for k, path in enumerate(full_night.paths):
        data, expected = fits.getdata(path).astype(np.float64), full_night.expected(k)
        planted = np.zeros(full_night.shape)
        of_k = full_night.planted[full_night.planted["frame"] == k]
        np.add.at(planted, (of_k["y"], of_k["x"]), of_k["adu"])
        assert np.array_equal(planted > 0, full_night.outliers(k))
        sigma = np.sqrt((expected + planted) / full_night.gain + full_night.read_noise**2)
        strong = (planted > 8 * sigma) & ~dead & (data < 65000)
        assert np.all(np.abs(data - expected - planted)[strong] < 6 * sigma[strong])
        total += int(strong.sum())
    assert total > 20
    kinds = [full_night.outliers(k, "trail") | full_night.outliers(k, "cosmic") for k in range(12)]
    assert all(np.array_equal(kinds[k], full_night.outliers(k)) for k in range(12))
    assert any(full_night.outliers(k, "trail").any() for k in range(12))


def test_hot_pixels_stand_out_in_the_median_of_all_frames(full_night: Night) -> None:
    middle = np.median([fits.getdata(path) for path in full_night.paths], axis=0)
    from scipy.ndimage import median_filter

    excess = middle - median_filter(middle, 5)
    strong = full_night.hot[full_night.hot["adu"] > 2000]
    assert len(strong)
    assert np.all(excess[strong["y"], strong["x"]] > 1500)
    assert np.all(middle[full_night.dead[:, 0], full_night.dead[:, 1]] == 0)
    mask = full_night.hot_mask()
    assert mask.sum() == len(full_night.hot) + len(full_night.dead)


def test_one_frame_is_defocused_one_trailed_and_a_cloud_passes(full_night: Night) -> None:
    reasons = sorted(full_night.bad.values())
    assert reasons == ["cloud", "defocused", "trailed"]
    for k, path in enumerate(full_night.paths):
        why = full_night.bad.get(path)
        assert (full_night.fwhm[k] > 6) == (why == "defocused")
        assert (np.hypot(*full_night.smear[k]) > 5) == (why == "trailed")
        assert (full_night.transparency[k] < 0.6) == (why == "cloud")


def test_a_longer_night_has_a_longer_cloud_and_a_short_one_no_bad_frame(tmp_path: Path) -> None:
    thirty = simulate_night(tmp_path / "thirty", frames=30, shape=(64, 64))
    reasons = list(thirty.bad.values())
    assert [reasons.count(why) for why in ("cloud", "defocused", "trailed")] == [3, 1, 1]
    clouds = [k for k, path in enumerate(thirty.paths) if thirty.bad.get(path) == "cloud"]
    assert clouds == list(range(clouds[0], clouds[0] + 3))
    short = simulate_night(tmp_path / "five", frames=5, shape=(64, 64))
    assert not short.bad
    assert len(short.planted)


def test_without_faults_nothing_is_planted(flat_nights: Night) -> None:
    assert not flat_nights.bad
    assert not len(flat_nights.planted)
    assert not flat_nights.hot_mask().any()


def test_the_scene_can_be_seen_at_any_sharpness_and_from_any_frame(full_night: Night) -> None:
    sharp, soft = full_night.scene(fwhm=2.0), full_night.scene(fwhm=5.0)
    assert sharp.shape == (3, 480, 270)
    assert sharp.max() > 2 * soft.max()
    assert sharp[:, 60:-60, 60:-60].sum() == pytest.approx(soft[:, 60:-60, 60:-60].sum(), rel=0.02)


@pytest.mark.parametrize("steady", [True, False])
def test_a_frame_is_the_scene_through_transparency_sky_and_vignetting(tmp_path: Path, steady: bool) -> None:
    night = simulate_night(tmp_path, frames=3, shape=(480, 270), noise=False, faults=False, steady=steady)
    for k in range(3):
        scene = night.scene(fwhm=float(night.fwhm[k]), transform=night.transforms[k])
        frame = night.flat() * (night.transparency[k] * scene + night.sky_image(k))
        data = fits.getdata(night.paths[k]).astype(float)
        for c, y, x in ((0, 0, 1), (1, 0, 0), (1, 1, 1), (2, 1, 0)):
            off = np.abs(data[y::2, x::2] - np.minimum(frame[c, y::2, x::2], 65520))
            # Rounding alone; but where a night is not steady its stars are not quite round.
            assert np.mean(off < 0.6) > (0.9999 if steady else 0.7)
            assert np.median(off) < 0.4


def test_the_nebula_is_coloured_and_leaves_sky_in_the_corners(tmp_path: Path) -> None:
    scene = simulate_night(tmp_path, frames=1, shape=(960, 540), stars=0).scene()
    assert scene.min() >= 0
    red, green, blue = scene
    assert np.percentile(red, 99) > 300
    assert np.mean(red > 2 * green) > 0.2  # hydrogen
    assert np.mean((green > 1.3 * red) & (green > 50)) > 0.002  # oxygen
    assert np.mean((blue > 1.5 * red) & (blue > 50)) > 0.005  # scattered light
    corners = [
        scene[:, y, x].max()
        for y in (slice(0, 50), slice(-50, None))
        for x in (slice(0, 50), slice(-50, None))
    ]
    assert max(corners) < 40


def test_the_night_has_a_few_saturated_stars_and_many_faint_ones(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, frames=1, faults=False)
    data = fits.getdata(night.paths[0])
    assert 1 <= np.sum(data >= 65000) < 400
    flux = np.sort(night.stars["flux_g"])[::-1]
    assert 0.6 < np.log(900 / 90) / np.log(flux[90] / flux[900]) < 1.1
    assert 0.2 < np.std(-2.5 * np.log10(night.stars["flux_b"] / night.stars["flux_r"])) < 0.8
