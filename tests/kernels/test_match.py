"""Matching: finds what is there, refuses what is not, and says why."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from astrobench.kernels import match as matching
from astrobench.kernels.match import Match, NoMatch, flux_ratio, match, surprise
from astrobench.kernels.stars import Stars, detect
from astrobench.kernels.transform import apply

SUBS = Path(os.environ.get("ASTROBENCH_SUBS", Path(__file__).parents[3] / "data"))
H, W = 1920, 1080
Lists = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def lists(
    seed: int, common: int, spurious: float = 0.3, *, angle: float = 10.0, scale: float = 1.0,
    mirror: bool = False, overlap: float = 1.0, jitter: float = 0.2, magnitude: float = 0.2,
    bright: bool = False,
) -> Lists:  # fmt: skip
    """Two lists with `common` stars of one sky (of a frame, when the overlap is small), and their map."""
    rng = np.random.default_rng([seed, common])
    turn = np.radians(rng.uniform(-angle, angle))
    truth = np.eye(3)
    truth[:2, :2] = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirror:
        truth[:2, :2] = truth[:2, :2] @ np.diag([-1, 1])
    middle = np.array([(W - 1) / 2, (H - 1) / 2])
    move = rng.uniform(-60, 60, 2) if overlap == 1 else np.array([0.0, (1 - overlap) * H])
    truth[:2, 2] = middle + move - truth[:2, :2] @ middle
    count = common if overlap == 1 else int(common * 9e6 / (W * H))
    sky = rng.uniform(-1000, 2000, (40 * count, 2)) + middle - 500
    seen = apply(np.linalg.inv(truth), sky)
    there = ((sky > 0) & (sky < [W, H])).all(axis=1)
    here = ((seen > 0) & (seen < [W, H])).all(axis=1)
    if overlap == 1:
        here = there = np.isin(np.arange(len(sky)), np.flatnonzero(here & there)[:common])
    else:
        here[count:] = there[count:] = False
    flux = 1 / rng.uniform(0.01, 1, len(sky))

    def observe(xy: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        false = round(len(xy) * spurious / (1 - spurious))
        extra = 1 / rng.uniform(0.01, 1, false)
        if bright:
            extra = light.max() * (1 + rng.random(false))
        order = rng.permutation(len(xy) + false)
        places = np.concatenate(
            [xy + rng.normal(0, jitter, xy.shape), rng.uniform(0, 1, (false, 2)) * [W, H]]
        )
        light = np.concatenate([light * 10 ** (0.4 * rng.normal(0, magnitude, len(xy))), extra])
        return places[order], light[order]

    src, src_flux = observe(seen[here], flux[here])
    dst, dst_flux = observe(sky[there], flux[there])
    return src, dst, src_flux, dst_flux, truth


def run(data: Lists, **options: object) -> Match | NoMatch:
    return match(*data[:4], src_shape=(H, W), dst_shape=(H, W), **options)


def is_right(found: Match | NoMatch, truth: np.ndarray) -> bool:
    if isinstance(found, NoMatch):
        return False
    corners = np.array([[0, 0], [W, 0], [0, H], [W, H]], float)
    return bool(np.abs(apply(found.matrix, corners) - apply(truth, corners)).max() < 3)


CASES = {
    "8 common": (dict(common=8, spurious=0.0), {}, 1.0),
    "12 common, 60 % spurious": (dict(common=12, spurious=0.6), {}, 0.97),
    "60 common, 80 % spurious": (dict(common=60, spurious=0.8), {}, 0.9),
    "any rotation": (dict(common=60, angle=180.0), {}, 1.0),
    "mirrored": (dict(common=60, mirror=True), dict(allow_flip=True), 1.0),
    "25 % overlap, 60": (dict(common=60, overlap=0.25), {}, 0.95),
    "25 % overlap, 200": (dict(common=200, overlap=0.25), {}, 0.95),
    "scale 0.7": (dict(common=60, scale=0.7), dict(scale=(0.5, 2.0)), 1.0),
    "one magnitude of noise": (dict(common=60, magnitude=1.0), {}, 1.0),
    "spurious brighter than the stars": (dict(common=60, bright=True), {}, 1.0),
    "2000 common": (dict(common=2000), {}, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_lists_of_one_sky_are_matched(name: str) -> None:
    make, options, share = CASES[name]
    trials = 6 if make["common"] == 2000 else 24
    right = 0
    for seed in range(trials):
        data = lists(seed, **make)
        found = run(data, **options)
        right += is_right(found, data[4])
        assert isinstance(found, NoMatch) or is_right(found, data[4]), "a wrong match is worse than none"
    assert right >= np.floor(share * trials)


@pytest.mark.parametrize("scale", [(0.9, 1.1), (0.5, 2.0)])
def test_unrelated_lists_are_refused_with_the_cause(scale: tuple[float, float]) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, m = np.exp(rng.uniform(np.log(20), np.log(400), 2)).astype(int)
        data = (rng.uniform(0, 1, (n, 2)) * [W, H], rng.uniform(0, 1, (m, 2)) * [W, H],
                rng.random(n), rng.random(m), np.eye(3))  # fmt: skip
        found = run(data, scale=scale, allow_flip=seed % 2 == 1, guess=np.eye(3) if seed % 3 == 0 else None)
        assert isinstance(found, NoMatch)
        assert f"{n} stars here, {m} in the reference" in found.cause
        assert "needed" in found.cause
        assert found.evidence < 10


def test_partners_are_true_partners_and_the_fit_is_good() -> None:
    data = lists(1, 100, jitter=0.1)
    found = run(data)
    assert isinstance(found, Match)
    assert 85 <= len(found.src_index) <= 102
    assert len(set(found.dst_index.tolist())) == len(found.dst_index)
    distance = np.hypot(*(apply(data[4], data[0][found.src_index]) - data[1][found.dst_index]).T)
    assert (distance < 1).mean() > 0.98
    assert found.rms == pytest.approx(0.2, rel=0.3)
    assert not found.mirrored


def test_same_lists_give_the_same_answer() -> None:
    data = lists(2, 40)
    first, second = run(data), run(data)
    assert isinstance(first, Match)
    assert isinstance(second, Match)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    np.testing.assert_array_equal(first.src_index, second.src_index)


def test_mirrored_lists_are_refused_unless_allowed() -> None:
    data = lists(3, 60, mirror=True)
    assert isinstance(run(data), NoMatch)
    found = run(data, allow_flip=True)
    assert isinstance(found, Match)
    assert found.mirrored


def test_a_guess_finds_few_stars_that_triangles_cannot_prove() -> None:
    proven = 0
    for seed in range(20):
        data = lists(seed, 4, spurious=0.5, jitter=0.1)
        off = np.eye(3)
        off[:2, 2] = [40, -30]
        found = run(data, guess=off @ data[4])
        assert isinstance(found, NoMatch) or is_right(found, data[4])
        proven += isinstance(found, Match)
    assert proven >= 16
    assert (
        sum(isinstance(run(lists(seed, 4, spurious=0.5, jitter=0.1)), Match) for seed in range(20)) < proven
    )


def test_a_wrong_guess_does_no_harm() -> None:
    data = lists(5, 60, angle=180.0)
    assert is_right(run(data, guess=np.eye(3)), data[4])


def test_a_shift_is_a_shift() -> None:
    data = lists(6, 30, angle=0.0)
    found = run(data, model="shift")
    assert is_right(found, data[4])
    assert isinstance(found, Match)
    np.testing.assert_array_equal(found.matrix[:2, :2], np.eye(2))
    assert isinstance(run(lists(7, 30, angle=30.0), model="shift"), NoMatch)


def test_a_cluster_does_not_hold_all_triangles() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        dst = np.concatenate([rng.normal([500, 900], 25, (300, 2)), rng.uniform(0, 1, (25, 2)) * [W, H]])
        flux = np.concatenate([5 / rng.uniform(0.01, 1, 300), 1 / rng.uniform(0.01, 1, 25)])
        turn = rng.uniform(-np.pi, np.pi)
        truth = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        truth[:2, 2] = np.array([W / 2, H / 2]) - truth[:2, :2] @ [W / 2, H / 2]
        here, there = rng.random(325) > 0.2, rng.random(325) > 0.2
        src = apply(np.linalg.inv(truth), dst[here]) + rng.normal(0, 0.2, (here.sum(), 2))
        found = run((src, dst[there], flux[here], flux[there], truth))
        assert is_right(found, truth)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (2, 50), (3, 3), (50, 1)])
def test_few_stars_are_refused_in_words(n: int, m: int) -> None:
    rng = np.random.default_rng(8)
    found = run(
        (rng.uniform(0, 1000, (n, 2)), rng.uniform(0, 1000, (m, 2)), rng.random(n), rng.random(m), np.eye(3))
    )
    assert isinstance(found, NoMatch)
    assert found.cause.startswith(f"{n} stars here, {m} in the reference")


def test_identical_and_degenerate_lists_do_not_raise() -> None:
    rng = np.random.default_rng(9)
    xy, flux = rng.uniform(0, 1000, (30, 2)), rng.random(30)
    found = run((xy, xy, flux, flux, np.eye(3)))
    assert is_right(found, np.eye(3))
    line = np.c_[np.arange(30) * 30.0, np.arange(30) * 30.0]
    same = np.full((30, 2), 500.0)
    for strange in (line, same):
        run((strange, strange, flux, flux, np.eye(3)))
        run((strange, xy, flux, flux, np.eye(3)), guess=np.eye(3), model="auto")


def test_evidence_counts_how_unlikely_chance_is() -> None:
    from scipy.stats import poisson

    assert surprise(2, 0.1) == 0
    for pairs, expected in ((5, 0.01), (12, 3.0), (60, 20.0)):
        assert surprise(pairs, expected) == pytest.approx(
            -np.log10(poisson.sf(pairs - 3, expected)), rel=1e-6
        )
    assert surprise(500, 0.01) > surprise(400, 0.01) > 700


def test_flux_ratio_with_clouds_variables_and_honest_error() -> None:
    rng = np.random.default_rng(10)
    pulls = []
    for _ in range(200):
        true = 1 / rng.uniform(0.01, 1, 40) * 1000
        snr = true / 100
        reference, frame = true * (1 + rng.normal(0, 1 / snr)), 0.62 * true * (1 + rng.normal(0, 1 / snr))
        frame[:4] *= 1.8
        result = flux_ratio(frame, reference, snr, snr)
        pulls.append((result.ratio - 0.62) / result.error)
    assert abs(np.mean(pulls)) < 0.5
    assert 0.5 < np.std(pulls) < 1.5
    assert flux_ratio(np.zeros(3), np.ones(3)).used == 0
    assert flux_ratio(np.full(5, 3.0), np.full(5, 2.0)).ratio == pytest.approx(1.5)


def luminance_stars(path: Path) -> Stars:
    from astropy.io import fits

    triangle = np.array([1, 2, 1], np.float32) / 4
    raw = fits.getdata(path).astype(np.float32)
    blurred = convolve1d(convolve1d(raw, triangle, axis=0), triangle, axis=1)
    return detect(blurred, blur_variance=0.5, saturation=65535.0)[0]


def onto(stars: Stars, reference: Stars, shape: tuple[int, int]) -> Match | NoMatch:
    return match(np.c_[stars.x, stars.y], np.c_[reference.x, reference.y], stars.flux, reference.flux,
                 src_shape=shape, dst_shape=shape)  # fmt: skip


@pytest.mark.skipif(not (SUBS / "m94" / "a").exists(), reason="the real subs are not here")
def test_real_subs_of_two_telescopes_and_69_degrees_are_matched() -> None:
    # Shift of the frame's centre and rotation, measured on half-size images: good to a pixel.
    known = {"212710": (-8.0, -7.4, -0.03), "212539": (-34.3, -28.3, 0.0), "014513": (28.4, -5.9, -0.30),
             "225435": (79.4, 25.6, 69.37), "225516": (73.5, -80.9, 69.51)}  # fmt: skip
    reference = luminance_stars(next((SUBS / "m94" / "a").glob("*212046.fit")))
    for name, (dx, dy, angle) in known.items():
        found = onto(luminance_stars(next((SUBS / "m94").glob(f"*/*{name}.fit"))), reference, (H, W))
        assert isinstance(found, Match)
        assert len(found.src_index) >= 25
        assert found.rms < 0.4
        middle = np.array([[(W - 1) / 2, (H - 1) / 2]])
        assert (apply(found.matrix, middle) - middle)[0] == pytest.approx([dx, dy], abs=0.5)
        assert np.degrees(np.arctan2(found.matrix[1, 0], found.matrix[0, 0])) == pytest.approx(
            angle, abs=0.05
        )


def test_second_effort_is_what_dense_false_stars_need() -> None:
    first_only = matching.EFFORTS[:1]
    found = {True: 0, False: 0}
    for seed in range(12):
        data = lists(seed, 60, 0.8)
        found[True] += isinstance(run(data), Match)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(matching, "EFFORTS", first_only)
            found[False] += isinstance(run(data), Match)
    assert found[True] >= found[False]
    assert found[True] >= 11
