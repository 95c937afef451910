"""The integration kernel agrees, sample by sample, with slow float64 twins."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from astrobench.kernels import integrate as kernel
from astrobench.kernels.integrate import Integrated, integrate_samples

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "bench" / "reference_rejection.py"
COMBINATIONS = ("mean", "median", "sum", "min", "max")
RULES: dict[str, dict[str, Any]] = {
    "none": {},
    "sigma": {"low": 2.5, "high": 3.0},
    "mad": {"low": 3.0, "high": 2.5},
    "winsorized": {"low": 3.0, "high": 2.5},
    "gesd": {"alpha": 0.05, "max_fraction": 0.3},
    "minmax": {"low": 1, "high": 2},
    "percentile": {"low": 0.02, "high": 0.01},
}
ULP = 2.0**-23


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


twin = load(ROOT / "tests" / "oracle" / "rejection.py")


def sky(rng: np.random.Generator, frames: int, pixels: int, missing: str = "some") -> np.ndarray:
    """Gaussian sky with outliers of both signs; quantised in a third of the pixels, so that samples tie."""
    x = rng.normal(1000, 10, (frames, pixels))
    hit = rng.random(x.shape) < 0.04
    x[hit] += rng.choice([-300.0, 60.0, 500.0, 30000.0], hit.sum())
    x[:, ::3] = np.round(x[:, ::3] / 4) * 4
    x = x.astype(np.float32)
    if missing == "some":
        x[rng.random(x.shape) < 0.08] = np.nan
    elif missing == "much":
        x[rng.random(x.shape) < rng.random(pixels)] = np.nan
        x[0, ::7] = np.inf
        x[:, ::11] = np.nan
    return x


def assert_agrees(result: Integrated, code: np.ndarray, combined: tuple[np.ndarray, ...], scale: float = 1.0) -> None:
    value, variance, weight = combined
    np.testing.assert_array_equal(result.low, (code == -1).sum(0))
    np.testing.assert_array_equal(result.high, (code == 1).sum(0))
    np.testing.assert_array_equal(result.coverage, (code != 2).sum(0))
    np.testing.assert_array_equal(result.rejected, (np.abs(code) == 1).sum(1))
    np.testing.assert_allclose(result.value, value, rtol=1.01 * ULP)
    np.testing.assert_allclose(result.weight, weight, rtol=1e-6)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(result.variance, (variance * scale).astype(np.float32), rtol=3e-5, atol=1e-6)


def factors(rule: str, options: dict[str, Any], combine: str, code: np.ndarray, weight: Any) -> np.ndarray:
    """Truncation and small-sample factors that the twin leaves out."""
    out = np.ones(code.shape[1])
    if rule in ("sigma", "mad", "winsorized"):
        out /= stats.truncnorm.var(-options["low"], options["high"])
    if combine == "median":
        used = ((code == 0) & (np.ones(len(code)) if weight is None else weight)[:, None].astype(bool)).sum(0)
        out *= kernel.median_factors(len(code))[used]
    return out


@pytest.mark.parametrize("weights", ["none", "random", "some zero", "equal"])
@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_and_combination_agrees_with_the_twin(rule: str, combine: str, weights: str) -> None:
    rng = np.random.default_rng(3)
    for frames, missing in ((12, "none"), (13, "some"), (24, "none"), (27, "none"), (31, "much")):
        x = sky(rng, frames, 400, missing)
        weight = {
            "none": None,
            "random": rng.uniform(0.5, 2, frames).astype(np.float32),
            "some zero": np.where(rng.random(frames) < 0.3, 0, rng.integers(1, 4, frames)).astype(np.float32),
            "equal": np.full(frames, 2.0, np.float32),
        }[weights]
        result = integrate_samples(x, rule=rule, combine=combine, weight=weight, **RULES[rule])
        code = twin.judge(x, rule, **RULES[rule])
        combined = twin.combine(x, code, combine, weight)
        assert_agrees(result, code, combined, factors(rule, RULES[rule], combine, code, weight))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 9, 17, 33, 64, 65, 100, 130, 300])
@pytest.mark.parametrize("rule", RULES)
def test_counts_agree_for_any_number_of_frames(rule: str, frames: int) -> None:
    x = sky(np.random.default_rng(frames), frames, 260, "much")
    result = integrate_samples(x, rule=rule, **RULES[rule])
    code = twin.judge(x, rule, **RULES[rule])
    assert_agrees(result, code, twin.combine(x, code), factors(rule, RULES[rule], "mean", code, None))


@pytest.mark.parametrize("combine", ["mean", "median", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_known_noise_rejects_and_predicts_the_variance(combine: str, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    frames, pixels = 14, 500
    level = rng.choice([100.0, 1000.0, 20000.0], pixels)
    gain = rng.uniform(0.8, 1.3, frames).astype(np.float32)
    offset = rng.uniform(-50, 50, frames).astype(np.float32)
    electrons = 1.7
    noise = {
        "sky": offset.astype(float), "floor": (gain * 6.0) ** 2, "slope": gain / electrons, "share": 0.01,
    }  # fmt: skip
    y = level + rng.normal(size=(frames, pixels)) * np.sqrt(twin.known_variance(level, **noise))
    y[rng.random(y.shape) < 0.03] += 4000
    x = ((y - offset[:, None]) / gain[:, None]).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    y = x * gain[:, None] + offset[:, None]
    weight = rng.uniform(0.5, 2, frames).astype(np.float32) if weighted else None
    for rule, limits in (("model", {"low": 3.0, "high": 4.0}), ("gesd", {})):
        result = integrate_samples(
            x, gain=gain, offset=offset, rule=rule, combine=combine, weight=weight, noise_floor=noise["floor"],
            noise_slope=noise["slope"], noise_share=0.01, **limits,
        )  # fmt: skip
        code = twin.judge(y, rule, **limits, **(noise if rule == "model" else {}))
        combined = twin.combine(y, code, combine, weight, noise)
        assert_agrees(result, code, combined, factors("none", {}, combine, code, None))


@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference rules beside the repository")
@pytest.mark.parametrize("rule", [*RULES, "model"])
def test_codes_agree_with_the_reference_rules(rule: str) -> None:
    reference = load(REFERENCE)
    names = {"lo": "low", "hi": "high", "nlow": "low", "nhigh": "high"}
    rng = np.random.default_rng(7)
    floor, slope = rng.uniform(60, 130, 11), 0.0
    for frames, missing in itertools.product((4, 7, 11), ("none", "some", "much")):
        x = sky(rng, frames, 150, missing)
        options = RULES.get(rule, {"low": 3.0, "high": 3.5})
        if rule == "model":
            result = integrate_samples(x, rule=rule, noise_floor=floor[:frames], **options)
        else:
            result = integrate_samples(x, rule=rule, **options)
        for p in range(x.shape[1]):
            if rule == "model":
                v, code = reference.start(x[:, p])
                while (code == 0).sum() >= 2 and reference.apply_limits(
                    v, code, float(np.median(v[code == 0])), np.sqrt(floor[:frames] + slope), 3.0, 3.5, 1
                ):
                    pass
            else:
                given = {"percentile": "percentile_distance"}.get(rule, rule)
                function = reference.RULES[given]
                known = function.__code__.co_varnames[: function.__code__.co_argcount]
                code = function(x[:, p], **{
                    k: options[names.get(k, k)] for k in known if names.get(k, k) in options
                })  # fmt: skip
            assert ((code == -1).sum(), (code == 1).sum()) == (result.low[p], result.high[p]), x[:, p]
            mask = np.isfinite(x[:, p]) & ((x[:, p] < result.lower[p]) | (x[:, p] > result.upper[p]))
            if rule not in ("minmax", "model") and len(np.unique(x[:, p])) == frames:
                np.testing.assert_array_equal(np.abs(code) == 1, mask)
            value = reference.combine(x[:, p], code)[0]
            np.testing.assert_allclose(result.value[p], value, rtol=1.01 * ULP)


def test_rosner_data_have_three_outliers() -> None:
    rosner = np.array(
        [
            -0.25, 0.68, 0.94, 1.15, 1.20, 1.26, 1.26, 1.34, 1.38, 1.43, 1.49, 1.49, 1.55, 1.56, 1.58, 1.65, 1.69,
            1.70, 1.76, 1.77, 1.81, 1.91, 1.94, 1.96, 1.99, 2.06, 2.09, 2.10, 2.14, 2.15, 2.23, 2.24, 2.26, 2.35,
            2.37, 2.40, 2.47, 2.54, 2.62, 2.64, 2.90, 2.92, 2.92, 2.93, 3.21, 3.26, 3.30, 3.59, 3.68, 4.30, 4.64,
            5.34, 5.42, 6.01,
        ],
        np.float32,
    )  # fmt: skip
    result = integrate_samples(rosner[:, None], max_fraction=10.5 / 54)
    assert (result.low[0], result.high[0]) == (0, 3)
    limits = kernel.gesd_limits(54, 0.05, 10.5 / 54)[54]
    np.testing.assert_allclose(limits[:4], [3.158, 3.151, 3.143, 3.136], atol=2e-3)


@pytest.mark.parametrize(
    ("rule", "frames", "share"),
    [
        ("gesd", 10, 1.40), ("gesd", 20, 0.52), ("gesd", 30, 0.24),
        ("sigma", 20, 0.11), ("sigma", 30, 0.17),
        ("mad", 10, 4.49), ("mad", 20, 2.20), ("mad", 30, 1.32),
        ("winsorized", 10, 1.12), ("winsorized", 20, 0.70), ("winsorized", 30, 0.53),
    ],
)  # fmt: skip
def test_pure_noise_loses_the_known_share_of_samples(rule: str, frames: int, share: float) -> None:
    x = np.random.default_rng(11).normal(0, 1, (frames, 60_000)).astype(np.float32)
    result = integrate_samples(x, rule=rule)
    found = 100 * float((result.low + result.high).sum()) / x.size
    assert found == pytest.approx(share, rel=0.2)


def test_sigma_clipping_rejects_nothing_of_ten_gaussian_samples() -> None:
    x = np.random.default_rng(12).normal(0, 1, (10, 60_000)).astype(np.float32)
    result = integrate_samples(x, rule="sigma")
    assert (result.low + result.high).sum() < 1e-4 * x.size


@pytest.mark.parametrize("combine", ["mean", "median"])
@pytest.mark.parametrize("rule", ["none", "sigma"])
@pytest.mark.parametrize("frames", [5, 10, 21])
def test_variance_is_that_of_repeated_stacks(combine: str, rule: str, frames: int) -> None:
    x = np.random.default_rng(13).normal(500, 7, (frames, 100_000)).astype(np.float32)
    result = integrate_samples(x, rule=rule, combine=combine, low=5, high=5)
    assert float(result.variance.mean()) == pytest.approx(float(result.value.var()), rel=0.02)


def test_weighted_variance_is_that_of_repeated_stacks() -> None:
    sigma = np.array([3.0, 5.0, 8.0, 12.0, 4.0, 6.0])
    x = np.random.default_rng(14).normal(0, sigma[:, None], (6, 100_000)).astype(np.float32)
    result = integrate_samples(x, rule="none", weight=1 / sigma**2)
    assert float(result.variance.mean()) == pytest.approx(float(result.value.var()), rel=0.02)
    assert float(result.value.var()) == pytest.approx(1 / (1 / sigma**2).sum(), rel=0.02)


def test_truncated_variance_is_that_of_the_truncated_gaussian() -> None:
    for low, high in ((3, 3), (2, 2), (4, 2), (2.5, math.inf), (math.inf, math.inf)):
        expected = stats.truncnorm.var(-low, high)
        assert kernel.truncated_variance(low, high) == pytest.approx(expected, rel=1e-6)


def test_judged_values_decide_and_samples_are_combined() -> None:
    rng = np.random.default_rng(15)
    x = sky(rng, 15, 300)
    judged = sky(rng, 15, 300)
    weight = rng.uniform(1, 2, 15).astype(np.float32)
    for rule, combine, w in itertools.product(("gesd", "sigma", "minmax"), COMBINATIONS, (None, weight)):
        low, high = (1, 1) if rule == "minmax" else (3.0, 3.0)
        result = integrate_samples(x, rule=rule, combine=combine, judged=judged, weight=w, low=low, high=high)
        both = np.where(np.isfinite(x), judged, np.nan)
        code = twin.judge(both, rule, low, high)
        options = {"low": 3.0, "high": 3.0}
        assert_agrees(result, code, twin.combine(x, code, combine, w), factors(rule, options, combine, code, None))


def test_shares_weigh_samples_and_zero_share_is_missing() -> None:
    rng = np.random.default_rng(16)
    x = sky(rng, 15, 300)
    share = rng.uniform(0.2, 1, x.shape).astype(np.float32)
    share[rng.random(x.shape) < 0.2] = 0
    share[rng.random(x.shape) < 0.05] = np.nan
    weight = rng.uniform(1, 2, 15).astype(np.float32)
    covered = np.where(share > 0, x, np.nan)
    for rule, combine, w in itertools.product(("none", "gesd"), COMBINATIONS, (None, weight)):
        result = integrate_samples(x, rule=rule, combine=combine, share=share, weight=w)
        code = twin.judge(covered, rule)
        full = np.where(share > 0, share, 0) * (1 if w is None else w[:, None])
        combined = twin.combine(x, code, combine, full)
        assert_agrees(result, code, combined, factors("none", {}, combine, code, None))


def test_wrong_arguments_are_named() -> None:
    x = np.zeros((5, 10), np.float32)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rule": "magic"}, "magic"),
        ({"combine": "mode"}, "mode"),
        ({"gain": np.ones(4)}, "gain"),
        ({"weight": np.array([1, 1, -1, 1, 1])}, "weight"),
        ({"low": -1.0}, "low"),
        ({"rule": "model"}, "noise_floor"),
        ({"judged": np.zeros((5, 9), np.float32)}, "judged"),
        ({"swapped": True}, "float32"),
    ]
    for options, word in cases:
        with pytest.raises(ValueError, match=word):
            integrate_samples(x, **options)
    with pytest.raises(ValueError, match="float64"):
        integrate_samples(np.zeros((5, 10)))
    with pytest.raises(ValueError, match="shape"):
        integrate_samples(np.zeros((0, 10), np.float32))
