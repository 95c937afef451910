"""explain() tells what the stack did at a pixel: the same values, the same verdicts, always."""

import json

import numpy as np
import pytest

from astrobench import Context, Cube, ParameterError, explain
from astrobench.steps.stack import Stack

RULES = ["auto", "none", "sigma", "mad", "winsorized", "gesd", "minmax", "percentile", "model"]


def frames(count, seed=3):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:90, :100]
    truth = 1000 + 3000 * np.exp(-((x - 50) ** 2 + (y - 40) ** 2) / 6)
    clean = rng.uniform(0.8, 1.2, (count, 1, 1)) * truth + rng.uniform(-50, 50, (count, 1, 1))
    samples = rng.normal(clean, np.sqrt(clean))
    hit = rng.random(samples.shape) < 0.02
    samples[hit] += 10 ** rng.uniform(2, 4, hit.sum())
    samples[1, :, :12] = np.nan
    samples[: count - 2, :5] = np.nan
    samples[: count - 1, :2] = np.nan
    samples[:, 80, 80] = np.nan
    return samples.astype(np.float32)


@pytest.mark.parametrize("count", [4, 8, 18])
@pytest.mark.parametrize("rule", RULES)
def test_it_agrees_with_the_stack_at_every_pixel(rule, count):
    cube = Cube.from_array(frames(count))
    step = Stack(rejection=rule)
    image = step.apply(cube, Context(workers=1))
    rng = np.random.default_rng(7)
    busy = np.argwhere(image.reject_high[0] + image.reject_low[0] > 0)
    places = [*rng.integers(0, (90, 100), (15, 2)), *rng.permutation(busy)[:15], (1, 50), (3, 50), (80, 80)]
    for y, x in places:
        account = explain(cube, int(x), int(y), step).channels[0]
        verdicts = [sample.verdict for sample in account.samples]
        np.testing.assert_equal(np.float32(account.value), image.data[0, y, x])
        np.testing.assert_equal(np.float32(account.sigma), np.sqrt(image.variance[0, y, x]))
        assert verdicts.count("low") == image.reject_low[0, y, x]
        assert verdicts.count("high") == image.reject_high[0, y, x]
        assert len(verdicts) - verdicts.count("missing") == image.coverage[0, y, x]
        kept = [sample for sample in account.samples if sample.verdict == "kept"]
        if kept and rule not in ("minmax",):
            total = sum(sample.weight for sample in kept)
            mean = sum(sample.weight * sample.normalised for sample in kept) / total
            assert account.value == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("rule", ["sigma", "mad", "winsorized", "model", "percentile"])
def test_the_limits_part_kept_from_rejected(rule):
    cube = Cube.from_array(frames(18))
    step = Stack(rejection=rule)
    image = step.apply(cube, Context(workers=1))
    for y, x in np.argwhere(image.reject_high[0, 5:] > 0)[:40] + np.array([5, 0]):
        for sample in explain(cube, int(x), int(y), step).channels[0].samples:
            if sample.verdict == "kept":
                assert sample.lower - 1e-3 <= sample.judged <= sample.upper + 1e-3
            elif sample.verdict == "high":
                assert sample.judged > sample.upper - 1e-3


def test_a_cosmic_ray_is_shown_with_its_frame_and_the_limit_it_broke():
    samples = frames(10)
    samples[6, 60, 70] = 9000
    explanation = explain(Cube.from_array(samples), 70, 60)
    found = explanation.channels[0].samples[6]
    assert (found.frame, found.verdict, found.raw) == ("frame 7", "high", 9000)
    assert found.normalised > found.upper
    assert "frame 7" in str(explanation)
    assert "too high" in str(explanation)
    assert "too high" in explanation._repr_html_()


def test_saturated_samples_are_told_from_outliers():
    samples = np.full((6, 40, 40), 1000, np.uint16)
    samples += np.random.default_rng(0).integers(0, 50, samples.shape).astype(np.uint16)
    samples[2, 20, 20] = 65535
    account = explain(Cube.from_array(samples), 20, 20).channels[0]
    assert account.samples[2].verdict == "range"
    assert account.high == 1


def test_colours_are_named_and_plain_values_fit_json():
    samples = frames(5)
    explanation = explain(Cube.from_array(np.stack([samples] * 3, axis=1)), 80, 80)
    assert [account.channel for account in explanation.channels] == ["red", "green", "blue"]
    plain = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert plain["channels"][0]["value"] is None
    assert plain["channels"][0]["samples"][0]["verdict"] == "missing"


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (100, 0), (0, 90)])
def test_a_pixel_outside_is_refused_in_a_sentence(x, y):
    with pytest.raises(ParameterError, match="outside the stack; x goes from 0 to 99, y from 0 to 89"):
        explain(Cube.from_array(frames(4)), x, y)
