"""Truths about near points, with scipy's k-d tree as the judge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from astrobench.kernels.neighbours import count_within, nearest_few, pairs_within


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 4), st.floats(0.01, 60), st.integers(0, 2**31))
def test_the_pairs_within_a_radius_are_those_of_a_tree(n: int, m: int, axes: int, radius: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    points, others = random.uniform(0, 100, (n, axes)), random.uniform(0, 100, (m, axes))

    near = pairs_within(points, others, radius)

    expected = cKDTree(points).sparse_distance_matrix(cKDTree(others), radius, output_type="ndarray") if n and m else []
    found = dict(zip(zip(near.first.tolist(), near.second.tolist(), strict=True), near.distance, strict=True))
    assert len(near.first) == len(found) == len(expected)
    for i, j, distance in expected:
        assert found[i, j] == pytest.approx(distance)
    assert (np.diff(near.first) >= 0).all()


@pytest.mark.parametrize("axes", [2, 4])
@pytest.mark.parametrize("side", [1.0, 300.0])  # all of them near each other; hardly any
def test_the_counts_within_a_radius_are_those_of_a_tree(axes: int, side: float) -> None:
    points = np.random.default_rng(axes).uniform(0, side, (500, axes))

    counts = count_within(points, 3.0)

    assert counts.tolist() == cKDTree(points).query_ball_point(points, 3.0, return_length=True).tolist()


@pytest.mark.parametrize("n", [2, 9, 120])
def test_the_nearest_few_are_those_of_a_tree(n: int) -> None:
    points = np.random.default_rng(n).uniform(0, 1000, (n, 2))
    count = min(7, n - 1)

    few = nearest_few(points, count)

    assert few.tolist() == cKDTree(points).query(points, count + 1)[1][:, 1:].tolist()


def test_points_on_one_place_are_each_others_nearest_and_never_their_own() -> None:
    few = nearest_few(np.array([[5.0, 5.0], [5.0, 5.0], [90.0, 5.0]]), 1)

    assert few[:2, 0].tolist() == [1, 0]
