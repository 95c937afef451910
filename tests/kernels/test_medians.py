"""Truths about the quick median, with numpy's as the judge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrobench.kernels.medians import median


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3000),
    st.sampled_from(["float32", "float64", "uint16", "int32"]),
    st.sampled_from([3.0, 60000.0]),  # many equal values; hardly any
    st.integers(0, 2**31),
)
def test_the_median_is_that_of_numpy_to_the_bit(count: int, kind: str, span: float, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, span, count).astype(kind)

    assert median(values) == float(np.median(values))


def test_planes_and_strided_views_have_the_median_of_their_pixels() -> None:
    plane = np.random.default_rng(1).normal(0, 1, (37, 80)).astype(np.float32)

    assert median(plane) == np.median(plane)
    assert median(plane[::4, 1::3]) == np.median(plane[::4, 1::3])


@pytest.mark.parametrize("values", [[np.inf, 1.0, 2.0], [np.inf, np.inf, 1.0, 2.0], [-np.inf, 0.0]])
def test_infinite_values_have_ranks_too(values: list[float]) -> None:
    assert median(np.array(values)) == np.median(values)
