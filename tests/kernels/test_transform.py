"""Transforms: exact on exact pairs, unmoved by false ones, no more freedom than the pairs ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrobench.kernels.transform import apply, fit_transform, jacobian, why_impossible

SHAPE = (1920, 1080)
SHIFT = np.array([[1, 0, 12.5], [0, 1, -7.25], [0, 0, 1]])
TURN = np.radians(31.0)
SIMILARITY = np.array(
    [
        [1.01 * np.cos(TURN), -1.01 * np.sin(TURN), 40],
        [1.01 * np.sin(TURN), 1.01 * np.cos(TURN), -3],
        [0, 0, 1],
    ]
)
MIRROR = SIMILARITY @ np.diag([-1.0, 1, 1])
AFFINE = np.array([[1.0, 0.0, 5], [0.0, 1.0015, -8], [0, 0, 1]]) @ SIMILARITY
HOMOGRAPHY = np.array([[1.0, 0.01, 5], [-0.01, 1.0, -8], [4e-7, -2.6e-6, 1]])
EXACT = {
    "shift": SHIFT, "similarity": SIMILARITY, "affine": AFFINE, "homography": HOMOGRAPHY,
}  # fmt: skip


def stars(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 2)) * [SHAPE[1], SHAPE[0]]


def worst(matrix: np.ndarray, truth: np.ndarray) -> float:
    corners = np.array([[0, 0], [SHAPE[1], 0], [0, SHAPE[0]], SHAPE[::-1]], float)
    return float(np.abs(apply(matrix, corners) - apply(truth, corners)).max())


@pytest.mark.parametrize("model", EXACT)
def test_exact_pairs_give_the_exact_map(model: str) -> None:
    src = stars(1, 20)
    matrix, rms, inliers = fit_transform(src, apply(EXACT[model], src), model)
    np.testing.assert_allclose(apply(matrix, src), apply(EXACT[model], src), atol=1e-7)
    assert rms < 1e-7
    assert inliers.all()


@given(
    st.integers(0, 1000), st.floats(-np.pi, np.pi), st.floats(0.5, 2.0), st.floats(-500, 500), st.booleans()
)
def test_any_similarity_is_recovered(
    seed: int, angle: float, scale: float, move: float, mirror: bool
) -> None:
    truth = scale * np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    truth = truth @ np.diag([-1.0 if mirror else 1.0, 1, 1])
    truth[:2, 2], truth[2] = move, [0, 0, 1]
    src = stars(seed, 6)
    matrix, _, _ = fit_transform(src, apply(truth, src), "similarity")
    np.testing.assert_allclose(matrix, truth, atol=1e-6)


@pytest.mark.parametrize("model", EXACT)
def test_a_fifth_of_false_pairs_does_not_move_the_fit(model: str) -> None:
    rng = np.random.default_rng(2)
    src = stars(3, 60)
    dst = apply(EXACT[model], src) + rng.normal(0, 0.1, src.shape)
    dst[:12] += rng.uniform(2, 6, (12, 2))

    matrix, rms, inliers = fit_transform(src, dst, model)

    # The corner error of a homography fitted to 48 stars of 0.1 px.
    assert worst(matrix, EXACT[model]) < 0.25
    assert not inliers[:12].any()
    assert inliers[12:].mean() > 0.95
    assert rms == pytest.approx(0.1 * np.sqrt(2), rel=0.2)


def test_weights_count() -> None:
    rng = np.random.default_rng(4)
    errors = {True: [], False: []}
    for _ in range(30):
        src = rng.uniform(0, 1000, (30, 2))
        noise = np.where(np.arange(30) < 5, 0.01, 0.5)
        dst = src + rng.normal(0, 1, src.shape) * noise[:, None]
        for weighted in errors:
            matrix = fit_transform(src, dst, "similarity", noise**-2.0 if weighted else None)[0]
            errors[weighted].append(np.abs(apply(matrix, src) - src).max())
    assert np.median(errors[True]) < 0.1 * np.median(errors[False])


@pytest.mark.parametrize(
    ("truth", "count", "expected"),
    [(SIMILARITY, 100, "similarity"), (AFFINE, 100, "affine"), (AFFINE, 6, "similarity"),
     (MIRROR, 50, "similarity"), (np.array([[1.0, 0, 5], [0, 1.0, 9], [0, -6e-6, 1]]), 200, "homography")],
)  # fmt: skip
def test_auto_takes_the_simplest_model_that_predicts_unseen_stars(
    truth: np.ndarray, count: int, expected: str
) -> None:
    src = stars(5, count)
    dst = apply(truth, src) + np.random.default_rng(6).normal(0, 0.1, src.shape)

    matrix = fit_transform(src, dst, "auto")[0]

    np.testing.assert_allclose(matrix, fit_transform(src, dst, expected)[0])


def test_auto_does_not_believe_in_impossible_frames() -> None:
    src = stars(7, 100)
    stretched = apply(np.diag([1.0, 1.05, 1.0]), src)
    large, small = np.linalg.svd(fit_transform(src, stretched, "auto")[0][:2, :2], compute_uv=False)
    assert large / small < 1.01


@pytest.mark.parametrize(
    ("matrix", "word"),
    [(np.diag([1.02, 1.0, 1.0]), "stretched"),
     (np.array([[1, 0.012, 0], [0, 1, 0], [0, 0, 1.0]]), "stretched"),
     (np.array([[1, 0.0095, 0], [0, 1, 0], [0, 0, 1.0]]), "sheared"),
     (np.diag([1.2, 1.2, 1.0]), "scale"), (np.array([[1, 0, 0], [0, 1, 0], [0, -1e-3, 1.0]]), "folds"),
     (np.full((3, 3), np.nan), "folds")],
)  # fmt: skip
def test_impossible_maps_are_named(matrix: np.ndarray, word: str) -> None:
    assert word in why_impossible(matrix, SHAPE, (0.9, 1.1))


@pytest.mark.parametrize("matrix", [SHIFT, SIMILARITY, MIRROR, AFFINE, HOMOGRAPHY])
def test_possible_maps_pass(matrix: np.ndarray) -> None:
    assert why_impossible(matrix, SHAPE, (0.9, 1.1)) == ""


def test_jacobian_is_the_slope_of_the_map() -> None:
    point, step = np.array([300.0, 700.0]), 1e-3
    slope = [apply(HOMOGRAPHY, (point + d)[None])[0] - apply(HOMOGRAPHY, (point - d)[None])[0]
             for d in np.eye(2) * step]  # fmt: skip
    np.testing.assert_allclose(jacobian(HOMOGRAPHY, point), np.array(slope).T / (2 * step), atol=1e-7)


def test_too_few_pairs_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="affine needs 3 pairs, got 2"):
        fit_transform(np.zeros((2, 2)), np.zeros((2, 2)), "affine")


def test_coincident_stars_do_not_divide_by_zero() -> None:
    src = np.zeros((5, 2))
    matrix, rms, _ = fit_transform(src, src + 3, "similarity")
    assert np.isfinite(matrix).all()
    assert rms < 1e-6
