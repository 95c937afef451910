"""What must not change the integrated result, and how it changes with what must."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from astrobench.kernels.integrate import Integrated, integrate_samples

DEVIATION = ("sigma", "mad", "winsorized", "gesd")
SYMMETRIC = (*DEVIATION, "minmax")
ALL = (*SYMMETRIC, "none")
COUNTS = ("coverage", "low", "high", "rejected")
ULP = 2.0**-23


def integrate(x: np.ndarray, rule: str, **options: Any) -> Integrated:
    limits = {"low": 1, "high": 1} if rule == "minmax" else {"low": 2.5, "high": 2.5}
    return integrate_samples(np.ascontiguousarray(x, np.float32), rule=rule, **{**limits, **options})


@st.composite
def cubes(draw: st.DrawFn, least: int = 1, missing: bool = True) -> np.ndarray:
    """Small cubes of small whole numbers: sums are exact and samples tie often."""
    frames = draw(st.integers(least, 14))
    x = draw(arrays(np.float32, (frames, 6), elements=st.integers(-40, 40).map(float)))
    far = draw(arrays(np.bool_, x.shape, elements=st.sampled_from([False] * 7 + [True])))
    x = np.where(far, x * 64, x)
    if missing:
        gone = draw(arrays(np.bool_, x.shape, elements=st.sampled_from([False] * 5 + [True])))
        x = np.where(gone, np.nan, x)
    return x.astype(np.float32)


def assert_same(a: Integrated, b: Integrated, *names: str) -> None:
    for name in names or Integrated._fields:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("rule", ALL)
@settings(max_examples=40)
@given(x=cubes(), power=st.integers(-3, 6), shift=st.integers(-500, 500))
def test_shift_and_scale_pass_through(rule: str, x: np.ndarray, power: int, shift: int) -> None:
    a = np.float32(2.0**power)
    before = integrate(x, rule)
    after = integrate(x * a + np.float32(shift), rule)
    assert_same(before, after, *COUNTS)
    size = np.abs(before.value * a) + abs(shift) + 1
    assert np.nanmax(np.abs(after.value - (before.value * a + shift)) / size, initial=0) < 4 * ULP
    np.testing.assert_allclose(after.variance, before.variance * a * a, rtol=1e-4, atol=1e-4 * float(a * a))


@pytest.mark.parametrize("rule", ALL)
@settings(max_examples=40)
@given(x=cubes(), seed=st.integers(0, 1000))
def test_order_of_frames_does_not_matter(rule: str, x: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(x))
    before, after = integrate(x, rule), integrate(x[order], rule)
    assert_same(before, after, "coverage", "lower", "upper") if rule != "gesd" else None
    if np.all([len(np.unique(np.abs(v - np.mean(v)))) == len(v) for v in np.nan_to_num(x, nan=1e6).T]):
        assert_same(before, after, "low", "high")
        np.testing.assert_allclose(after.value, before.value, rtol=1.01 * ULP, atol=1e-6)
        np.testing.assert_array_equal(before.rejected[order], after.rejected)


@pytest.mark.parametrize("rule", SYMMETRIC)
@settings(max_examples=40)
@given(x=cubes())
def test_reflection_swaps_low_and_high(rule: str, x: np.ndarray) -> None:
    before, after = integrate(x, rule), integrate(-x, rule)
    enough = before.coverage > 2  # two samples: the rank rule drops the upper one
    np.testing.assert_array_equal(before.low[enough], after.high[enough])
    np.testing.assert_array_equal(before.high[enough], after.low[enough])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rule", ALL)
@settings(max_examples=30)
@given(x=cubes(least=2, missing=False), gone=st.integers(0, 13), mark=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_missing_sample_is_an_absent_frame(
    rule: str, weighted: bool, x: np.ndarray, gone: int, mark: float
) -> None:
    gone %= len(x)
    weight = np.arange(1, len(x) + 1, dtype=np.float32) if weighted else None
    holed = x.copy()
    holed[gone] = mark
    rest = np.arange(len(x)) != gone
    before = integrate(x[rest], rule, weight=None if weight is None else weight[rest])
    after = integrate(holed, rule, weight=weight)
    assert_same(before, after, "coverage", "low", "high", "value", "weight", "lower", "upper")
    np.testing.assert_array_equal(before.rejected, after.rejected[rest])


@pytest.mark.parametrize("rule", ALL)
@settings(max_examples=30)
@given(x=cubes(), factor=st.sampled_from([0.5, 2.0, 8.0]))
def test_only_ratios_of_weights_matter(rule: str, x: np.ndarray, factor: float) -> None:
    plain = integrate(x, rule)
    assert_same(plain, integrate(x, rule, weight=np.full(len(x), factor)), *COUNTS, "value", "variance")
    weight = np.linspace(1, 3, len(x), dtype=np.float32)
    one, other = integrate(x, rule, weight=weight), integrate(x, rule, weight=weight * np.float32(factor))
    assert_same(one, other, *COUNTS, "value", "variance")
    np.testing.assert_allclose(other.weight, one.weight * factor, rtol=1e-6)


@settings(max_examples=30)
@given(x=cubes(least=5))
def test_frame_of_weight_zero_votes_but_is_not_combined(x: np.ndarray) -> None:
    weight = np.ones(len(x), np.float32)
    weight[0] = 0
    result = integrate(x, "none", weight=weight)
    np.testing.assert_array_equal(result.value, integrate(x[1:], "none").value)
    assert_same(integrate(x, "mad", weight=weight), integrate(x, "mad"), "coverage", "low", "high", "rejected")


@settings(max_examples=40)
@given(x=cubes())
def test_without_rejection_the_numpy_results_come_out(x: np.ndarray) -> None:
    some = np.isfinite(x).any(0)
    wide = x[:, some].astype(np.float64)
    empty = np.full(x.shape[1], np.nan)
    expected = {"mean": np.nanmean, "median": np.nanmedian, "min": np.nanmin, "max": np.nanmax}
    for combine, function in expected.items():
        reference = empty.copy()
        if some.any():
            reference[some] = function(wide, axis=0)
        np.testing.assert_allclose(
            integrate(x, "none", combine=combine).value, reference, rtol=1.01 * ULP, err_msg=combine
        )
        if combine == "mean":
            np.testing.assert_allclose(
                integrate(x, "none", combine="sum").value, len(x) * reference, rtol=1.01 * ULP
            )


@pytest.mark.parametrize("rule", DEVIATION)
def test_few_or_equal_samples_lose_nothing(rule: str) -> None:
    rng = np.random.default_rng(1)
    for frames in (1, 2, 3):
        x = rng.normal(0, 1, (frames, 40)).astype(np.float32)
        x[0] *= 1000
        result = integrate(x, rule)
        assert not result.low.any() and not result.high.any()
        np.testing.assert_allclose(result.value, x.astype(np.float64).mean(0), rtol=1e-5)
    equal = integrate(np.full((20, 40), 7.3), rule)
    assert not equal.low.any() and not equal.high.any()
    np.testing.assert_array_equal(equal.value, np.float32(7.3))


def test_rank_rule_cuts_a_fixed_count_of_equal_samples_by_frame_index() -> None:
    x = np.full((6, 200), 5.0, np.float32)
    result = integrate(x, "minmax", low=2, high=1)
    assert (result.low == 2).all() and (result.high == 1).all()
    np.testing.assert_array_equal(result.rejected, [200, 200, 0, 0, 0, 200])


@pytest.mark.parametrize("rule", [*ALL, "percentile"])
@settings(max_examples=30)
@given(x=cubes())
def test_something_survives_and_counts_add_up(rule: str, x: np.ndarray) -> None:
    options = {"low": 0.01, "high": 0.01} if rule == "percentile" else {}
    result = integrate(x, rule, **options)
    valid = np.isfinite(x).sum(0)
    np.testing.assert_array_equal(result.coverage, valid)
    gone = result.low.astype(int) + result.high
    assert (gone[valid > 0] < valid[valid > 0]).all() and gone.sum() == result.rejected.sum()
    np.testing.assert_array_equal(result.weight, valid - gone)
    np.testing.assert_array_equal(np.isnan(result.value), valid == 0)
    assert np.nanmin(result.lower - result.value, initial=0) <= 0 <= np.nanmax(result.upper - result.value, initial=0)


@pytest.mark.parametrize("rule", DEVIATION)
@settings(max_examples=30)
@given(x=cubes(least=6, missing=False), more=st.sampled_from([2.0, 10.0, 1000.0]))
def test_pushing_a_rejected_sample_further_out_keeps_it_rejected(rule: str, x: np.ndarray, more: float) -> None:
    before = integrate(x, rule)
    top = x.argmax(0)
    columns = np.arange(x.shape[1])
    x[top, columns] += np.float32(more) * np.abs(x[top, columns])
    after = integrate(x, rule)
    assert (after.high[before.high > 0] > 0).all()


def night(frames: int = 23, pixels: int = 70_000) -> np.ndarray:
    rng = np.random.default_rng(2)
    x = rng.normal(900, 12, (frames, pixels)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] += 400
    x[rng.random(x.shape) < 0.01] = np.nan
    return x


@pytest.mark.parametrize("rule", ["none", "sigma", "mad", "winsorized", "gesd", "minmax", "percentile", "model"])
def test_threads_and_strips_change_no_bit(rule: str) -> None:
    x = night()
    options: dict[str, Any] = {
        "gain": np.linspace(0.9, 1.1, len(x)), "offset": np.linspace(-3, 3, len(x)),
        "weight": np.linspace(1, 2, len(x)), "noise_floor": 150.0, "noise_slope": 0.01, "noise_share": 0.02,
    }  # fmt: skip
    if rule == "percentile":
        options |= {"low": 0.05, "high": 0.05}
    for some in ({}, options):
        if rule == "model":
            some = options
        whole = integrate(x, rule, **some)
        assert_same(whole, integrate(x, rule, threads=3, **some))
        cuts = [0, 1, 130, 4097, 33_001, x.shape[1]]
        parts = [integrate_strip(x, a, b, rule, some) for a, b in itertools.pairwise(cuts)]
        for name in Integrated._fields[:8]:
            joined = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)
        np.testing.assert_array_equal(sum(part.rejected for part in parts), whole.rejected)


def integrate_strip(x: np.ndarray, a: int, b: int, rule: str, options: dict[str, Any]) -> Integrated:
    """Integrate a view of some columns, rows apart by the width of the whole."""
    limits = {"low": 1, "high": 1} if rule == "minmax" else {"low": 2.5, "high": 2.5}
    return integrate_samples(x[:, a:b], rule=rule, **{**limits, **options})


@pytest.mark.parametrize("rule", [*ALL, "percentile"])
def test_unsigned_words_equal_their_float_copy_in_any_byte_order(rule: str) -> None:
    words = np.random.default_rng(3).integers(0, 65536, (17, 9000)).astype(np.uint16)
    words[:, 4500:] = 900 + words[:, 4500:] % 64
    gain, offset = np.linspace(0.9, 1.1, 17), np.linspace(-20, 20, 17)
    saturation = np.full(17, 60_000.0)
    stored = (words ^ 0x8000).byteswap()
    for options in ({}, {"gain": gain, "offset": offset}, {"gain": gain, "saturation": saturation}):
        limits = {"low": 1, "high": 1} if rule == "minmax" else {"low": 2.5, "high": 0.5}
        plain = integrate_samples(words.astype(np.float32), rule=rule, **limits, **options)
        assert_same(plain, integrate_samples(words, rule=rule, **limits, **options))
        assert_same(plain, integrate_samples(stored, rule=rule, swapped=True, **limits, **options))
        assert_same(plain, integrate_samples(stored.view(">i2"), rule=rule, swapped=True, **limits, **options))


def test_read_only_and_reversed_rows_are_welcome() -> None:
    x = night(9, 500)
    expected = integrate(x, "gesd")
    frozen = x.copy()
    frozen.flags.writeable = False
    assert_same(expected, integrate_samples(frozen))
    assert_same(expected, integrate_samples(x[::-1].copy()[::-1]))
    assert_same(expected, integrate_samples(np.asfortranarray(x)))


@pytest.mark.parametrize("rule", ["none", "sigma", "gesd", "minmax", "model"])
def test_saturated_samples_are_left_out_unless_all_are(rule: str) -> None:
    x = night(12, 600)
    x[3, :300] = 5000
    x[:, 100] = 5000
    x[:4, 101] = np.nan
    x[4:, 101] = 6000
    level = np.full(12, 4999.0)
    options: dict[str, Any] = {"noise_floor": 150.0} if rule == "model" else {}
    gain = np.linspace(0.5, 2, 12)
    result = integrate(x, rule, saturation=level, gain=gain, **options)
    masked = np.where(x >= 4999, np.nan, x)
    masked[:, 100:102] = x[:, 100:102]
    without = integrate(masked, rule, gain=gain, **options)
    cut = np.isfinite(x).sum(0) - np.isfinite(masked).sum(0)
    np.testing.assert_allclose(result.value, without.value, rtol=1.01 * ULP)
    np.testing.assert_array_equal(result.low, without.low)
    np.testing.assert_array_equal(result.high, without.high + cut)
    np.testing.assert_array_equal(result.coverage, np.isfinite(x).sum(0))
    assert result.rejected.sum() == (result.low.astype(int) + result.high).sum()
    assert np.isfinite(result.value[100:102]).all()


def test_check_is_called_and_may_stop_the_work() -> None:
    x = night(5, 200_000)
    calls: list[int] = []

    class StopNow(Exception):
        pass

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise StopNow

    for threads in (1, 2):
        calls.clear()
        with pytest.raises(StopNow):
            integrate_samples(x, rule="none", check=check, threads=threads)
        assert len(calls) == 2


def test_given_arrays_are_filled() -> None:
    x = night(7, 1000)
    expected = integrate_samples(x)
    planes = Integrated(*(np.zeros(2000, a.dtype)[:1000] for a in expected[:8]), np.full(7, 99, np.int64))
    filled = integrate_samples(x, out=planes)
    assert filled is planes
    assert_same(expected, planes)
    with pytest.raises(ValueError, match="value"):
        integrate_samples(x, out=planes._replace(value=np.zeros(999, np.float32)))
