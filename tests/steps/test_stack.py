"""Stacking: right values, honest noise, outliers out, stars left alone, the same bits in any memory."""

import numpy as np
import pytest
from scipy import stats

from astrobench.context import Context
from astrobench.cube import Cube, Strip
from astrobench.errors import ParameterError, ProcessingError, Stopped
from astrobench.image import SATURATED
from astrobench.recipe import Recipe
from astrobench.report import Report
from astrobench.steps.stack import Stack, stacking_plan

GAIN, READ = 1.0, 5.0  # e-/ADU, ADU


def scene(rng, height=220, width=260, stars=60, fwhm=3.0, brightest=20_000):
    """Sky with a gradient and stars [ADU]."""
    y, x = np.mgrid[:height, :width].astype(float)
    picture = 1000 + 0.4 * (x - width / 2) + 0.3 * (y - height / 2)
    sigma = fwhm / 2.3548
    for _ in range(stars):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        peak = min(200 / rng.uniform(0.005, 1), brightest)
        picture += peak * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    return picture


def night(seed, frames, scale_jitter=0.1, offset_jitter=150.0, hits=0.002, **kw):
    """Registered frames with a known answer: samples, truth, scale, offset and mask of planted outliers."""
    rng = np.random.default_rng(seed)
    truth = scene(rng, **kw)
    scale = 1 + scale_jitter * rng.uniform(-1, 1, frames)
    offset = offset_jitter * rng.uniform(-1, 1, frames)
    clean = scale[:, None, None] * truth + offset[:, None, None]
    noise = np.sqrt(np.maximum(clean, 1) / GAIN + READ**2)
    samples = rng.normal(clean, noise)
    outliers = rng.random(samples.shape) < hits
    samples[outliers] += (noise * 10 ** rng.uniform(0.8, 2.5, samples.shape))[outliers]
    return samples.astype(np.float32), truth, scale, noise / scale[:, None, None], outliers


def apply(samples, context=None, **parameters):
    context = context or Context(workers=1, memory_budget=1 << 30)
    return Stack(**parameters).apply(Cube.from_array(samples), context)


def residual(image, truth, noise):
    """Residual in units of the best possible noise, after the best linear match, and that noise."""
    ideal = np.sqrt(1 / np.sum(noise**-2.0, axis=0))
    slope, offset = np.polyfit(truth.ravel(), image.data[0].ravel(), 1, w=1 / ideal.ravel())
    return ((image.data[0] - offset) / slope - truth) / ideal


# --- accuracy --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("frames", "jitter", "limit"), [(6, 0.1, 1.05), (10, 0.1, 1.05), (20, 0.1, 1.03), (20, 0.5, 1.03)]
)
def test_noise_is_that_of_the_best_mean_and_no_outlier_is_left(frames, jitter, limit):
    samples, truth, _, noise, outliers = night(
        frames, frames, scale_jitter=jitter, offset_jitter=500 * jitter
    )
    image = apply(samples)
    z = residual(image, truth, noise)
    hit = outliers.any(axis=0)
    assert 1.4826 * np.median(np.abs(z[~hit] - np.median(z[~hit]))) <= limit
    assert np.sqrt(np.mean(z[~hit] ** 2)) <= limit + 0.02
    assert np.mean(z[hit] > 5) <= 1e-4 or (z[hit] > 5).sum() <= 1


def test_pairs_of_outliers_in_six_frames_are_found():
    samples, truth, _, noise, _ = night(3, 6, hits=0)
    samples[1, ::9, ::9] += 3000
    samples[4, ::9, ::9] += 2500
    image = apply(samples)
    assert (image.reject_high[0, ::9, ::9] == 2).all()
    assert np.abs(residual(image, truth, noise)[::9, ::9]).max() < 6


def test_variance_map_tells_the_scatter_of_repeated_stacks():
    rng = np.random.default_rng(4)
    truth = scene(rng)
    values, variances = [], []
    for _ in range(30):
        samples = rng.normal(truth, np.sqrt(truth / GAIN + READ**2), (8, *truth.shape)).astype(np.float32)
        image = apply(samples, normalisation="none")
        values.append(image.data[0])
        variances.append(image.variance[0])
    ratio = np.mean(variances, axis=0) / np.var(values, axis=0, ddof=1)
    bright = truth > 1500
    ratio *= stats.chi2.median(29) / 29  # of a measured variance the median is below the mean
    assert np.median(ratio[~bright]) == pytest.approx(1, abs=0.03)
    assert np.median(ratio[bright]) == pytest.approx(1, abs=0.05)


def test_star_cores_survive_changing_seeing():
    rng = np.random.default_rng(6)
    frames = []
    for k in range(12):
        picture = scene(np.random.default_rng(99), fwhm=2.6 + 0.8 * (k % 4) / 3)
        frames.append(rng.normal(picture, np.sqrt(picture / GAIN + READ**2)))
    image = apply(np.array(frames, np.float32))
    core = scene(np.random.default_rng(99)) > 3000
    share = (image.reject_high[0] + image.reject_low[0])[core].sum() / (12.0 * core.sum())
    assert share < 0.02


def test_brightness_comes_from_stars_not_from_the_gradient():
    rng = np.random.default_rng(7)
    truth = scene(rng)
    ramp = np.linspace(-300, 300, truth.shape[1])
    scale = np.array([1, 0.5, 0.8, 0.9, 1.1, 0.6, 1.0, 0.7])
    frames = [s * truth + k * ramp + rng.normal(0, 30, truth.shape) for k, s in enumerate(scale)]
    plan = stacking_plan(Cube.from_array(np.array(frames, np.float32)), Stack(), Context(workers=1))
    assert (plan.normalisation.source == "stars").all()
    found = plan.normalisation.scale[:, 0] / scale
    assert np.std(found / found.mean()) < 0.01


def test_without_stars_the_spread_tells_the_scale_and_a_fact_says_so():
    rng = np.random.default_rng(8)
    context = Context(workers=1)
    apply(rng.normal(100, 5, (5, 80, 90)).astype(np.float32), context)
    assert context.report.find("scale from spread")


# --- invariances -----------------------------------------------------------------------------------
def maps_of(image):
    return {"data": image.data, **dict(image.maps())}


def assert_same(a, b):
    for name, plane in maps_of(a).items():
        np.testing.assert_array_equal(plane, maps_of(b)[name], err_msg=name)


@pytest.fixture(scope="module")
def ragged():
    samples, *_ = night(11, 17, height=200, width=150)
    rng = np.random.default_rng(2)
    for frame in samples:
        y0, y1, x0, x1 = rng.integers(0, 30, 4)
        frame[:y0] = frame[200 - y1 :] = np.nan
        frame[:, :x0] = frame[:, 150 - x1 :] = np.nan
    samples[0, 100, 100] = np.inf
    return samples


@pytest.mark.parametrize(("budget", "workers"), [(1 << 16, 1), (3 << 20, 2), (40 << 20, 3)])
def test_the_same_bits_for_any_memory_and_any_workers(ragged, tmp_path, budget, workers):
    whole = apply(ragged)
    context = Context(workers=workers, memory_budget=budget, scratch=tmp_path / "scratch")
    assert_same(apply(ragged, context), whole)


def test_outputs_that_do_not_fit_lie_in_scratch_and_leave_it_empty(ragged, tmp_path):
    scratch = tmp_path / "scratch"
    image = apply(ragged, Context(workers=1, memory_budget=1 << 16, scratch=scratch))
    assert list(scratch.glob("stack-*/data"))
    del image
    assert not list(scratch.glob("stack-*"))


def test_uint16_gives_what_its_float_copy_gives():
    samples, *_ = night(12, 8)
    words = np.clip(np.round(samples), 0, 60_000).astype(np.uint16)
    assert_same(apply(words), apply(words.astype(np.float64)))


def test_the_input_is_left_untouched(ragged):
    before = ragged.copy()
    apply(ragged)
    np.testing.assert_array_equal(before, ragged)


def test_the_order_of_frames_does_not_matter(ragged):
    order = np.random.default_rng(0).permutation(len(ragged))
    one, other = apply(ragged, scale_from="ikss"), apply(ragged[order], scale_from="ikss")
    assert np.mean(np.abs(one.data - other.data) > 1e-5 * one.data) < 1e-3
    assert np.mean(one.reject_high != other.reject_high) < 1e-3


def test_a_missing_frame_is_as_one_that_is_not_there(ragged):
    with_gap = np.insert(ragged, 5, np.nan, axis=0)
    context = Context(workers=1)
    one, other = apply(ragged, rejection="gesd"), apply(with_gap, context, rejection="gesd")
    np.testing.assert_allclose(one.data, other.data, rtol=2e-5)
    np.testing.assert_array_equal(one.coverage, other.coverage)
    assert context.report.find("no data")


def test_identical_frames_need_no_normalisation():
    frame = scene(np.random.default_rng(3)).astype(np.float32)
    cube = Cube.from_array(np.stack([frame] * 4))
    image = Stack().apply(cube, Context(workers=1))
    n = stacking_plan(cube, Stack(), Context()).normalisation
    assert (n.gain == 1).all()
    assert (n.offset == 0).all()
    np.testing.assert_array_equal(image.data[0], frame)
    assert not image.reject_low.any()
    assert not image.reject_high.any()


def test_doubling_the_data_doubles_the_stack(ragged):
    one, other = apply(ragged), apply(2 * ragged)
    np.testing.assert_allclose(other.data, 2 * one.data, rtol=1e-5)
    np.testing.assert_allclose(other.variance, 4 * one.variance, rtol=1e-3)


# --- strange cubes ---------------------------------------------------------------------------------
def test_one_frame_is_itself():
    frame = scene(np.random.default_rng(1)).astype(np.float32)
    frame[3, 4] = np.nan
    image = apply(frame[None])
    np.testing.assert_array_equal(image.data[0], frame)
    assert image.coverage[0, 3, 4] == 0
    assert np.isnan(image.data[0, 3, 4])


def test_two_frames_lose_only_the_higher_of_two_that_disagree():
    rng = np.random.default_rng(1)
    truth = scene(rng)
    samples = rng.normal(truth, 30, (2, *truth.shape)).astype(np.float32)
    samples[0, 50, 60] += 2000
    image = apply(samples)
    assert image.reject_high[0, 50, 60] == 1
    assert not image.reject_low.any()


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_constant_frames_stay_constant(value):
    image = apply(np.full((6, 30, 40), value, np.float32))
    assert (image.data == value).all()
    assert not image.reject_high.any()


def test_a_cube_without_any_data_is_refused():
    with pytest.raises(ProcessingError, match="nothing to combine"):
        apply(np.full((4, 20, 20), np.nan, np.float32))


def test_infinite_samples_are_missing(ragged):
    broken = ragged.copy()
    broken[~np.isfinite(broken)] = -np.inf
    assert_same(apply(broken), apply(ragged))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (5, 5)])
def test_tiny_pictures_are_stacked(size):
    samples = np.random.default_rng(0).normal(100, 5, (7, *size))
    assert np.isfinite(apply(samples).data).all()


def test_saturated_samples_are_left_out_unless_all_are():
    samples = np.full((6, 40, 40), 1000, np.uint16)
    samples += np.random.default_rng(0).integers(0, 50, samples.shape).astype(np.uint16)
    samples[:, 10, 10] = 65535
    samples[:4, 20, 20] = 65535
    image = apply(samples)
    assert image.flags[0, 10, 10] == SATURATED
    assert image.data[0, 10, 10] > 60_000
    assert image.flags.sum() == 1
    assert image.reject_high[0, 20, 20] == 4
    assert image.data[0, 20, 20] < 1100


def test_zeros_of_the_camera_are_values():
    samples = (
        np.maximum(np.random.default_rng(3).normal(155, 100, (12, 100, 100)), 0).round().astype(np.uint16)
    )
    context = Context(workers=1)
    image = apply(samples, context, normalisation="additive")
    assert (image.coverage == 12).all()
    assert np.mean(image.data) == pytest.approx(samples.mean(), rel=0.02)
    assert context.report.find("clipped at 0")


def test_colour_frames_are_stacked_channel_by_channel():
    samples, *_ = night(21, 7)
    colour = np.stack([samples, 0.5 * samples + 20, 2 * samples], axis=1)
    image = apply(colour)
    assert image.shape[0] == 3
    alone = apply(colour[:, 1])
    assert np.corrcoef(image.data[1].ravel(), alone.data[0].ravel())[0, 1] > 0.9999


class Shifted:
    """Samples with a share and a shift, as a colour plane of single sensor pixels has them."""

    def __init__(self, samples, share, shift):
        self.parts = samples, share, shift

    def strip(self, frames, channel, y0, y1):
        samples, share, shift = (np.ascontiguousarray(part[frames, y0:y1]) for part in self.parts)
        return Strip(samples, share=share, shift=shift)


def test_a_sample_is_judged_where_it_belongs_and_combined_as_it_is():
    rng = np.random.default_rng(5)
    samples = rng.normal(1000, 30, (20, 60, 60)).astype(np.float32)
    shift = np.zeros_like(samples)
    samples[3, 20, 20] += 900  # on the flank of a star: known from the shift, no outlier
    shift[3, 20, 20] = -900
    samples[4, 30, 30] += 900
    share = rng.choice(np.array([0, 0.5, 1], np.float32), samples.shape, p=[0.2, 0.3, 0.5])
    share[3, 20, 20] = share[4, 30, 30] = 1
    plain = Cube.from_array(samples)
    cube = Cube(
        Shifted(samples, share, shift), plain.shape, plain.names, plain.frames, plain.transforms, plain.noise,
        plain.saturation, plain.exposure,
    )  # fmt: skip
    image = Stack(normalisation="none", weights="equal").apply(cube, Context(workers=1))
    np.testing.assert_array_equal(image.coverage[0], (share > 0).sum(axis=0))
    assert image.reject_high[0, 20, 20] == 0
    assert image.reject_high[0, 30, 30] == 1
    expected = np.average(samples[:, 20, 20], weights=share[:, 20, 20])
    assert image.data[0, 20, 20] == pytest.approx(expected, rel=1e-5)


# --- parameters, facts, context --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rejection": "percentile", "low": 3}, "shares"),
        ({"rejection": "minmax", "high": 1.5}, "whole numbers"),
        ({"weights": "manual"}, "manual_weights"),
        ({"manual_weights": (1.0, -1.0)}, "0 or more"),
        ({"read_noise": 3.0}, "gain"),
        ({"rejection": "magic"}, "allowed: one of auto"),
        ({"low": -1}, "0 to 1000"),
    ],
)
def test_impossible_parameters_are_refused_in_a_sentence(parameters, words):
    with pytest.raises(ParameterError, match=words):
        Stack(**parameters)


def test_weights_need_what_they_rest_on(ragged):
    for weights, words in (("fwhm", "measure"), ("stars", "measure"), ("exposure", "exposure time")):
        with pytest.raises(ParameterError, match=words):
            apply(ragged, weights=weights)
    with pytest.raises(ParameterError, match="2 values; the cube has 17"):
        apply(ragged, weights="manual", manual_weights=(1.0, 2.0))
    with pytest.raises(ProcessingError, match="weight 0"):
        apply(ragged, weights="manual", manual_weights=(0.0,) * 17)


def test_multiplicative_levels_need_a_sky_above_zero(ragged):
    with pytest.raises(ProcessingError, match="above 0"):
        apply(ragged - 2000, normalisation="multiplicative")


def test_a_frame_of_weight_zero_still_votes(ragged):
    weights = (0.0, *(1.0,) * 16)
    image = apply(ragged, weights="manual", manual_weights=weights)
    assert image.coverage.max() == 17
    assert image.weight.max() == pytest.approx(17, rel=1e-5)


def test_facts_tell_the_choice_what_noise_explains_and_every_frame():
    samples, *_ = night(31, 20)
    samples[7, 60:130] += 2000  # a third of one frame is spoilt
    context = Context(workers=1)
    image = apply(samples, context)
    report: Report = context.report
    rejection, rejected = report.find("rejection")[0], report.find("rejected")[0]
    assert rejection.numbers["rule"] == "gesd"
    assert rejection.numbers["most"] == 6
    assert rejected.numbers["high"] > 5 * rejected.numbers["by_chance_high"]
    assert rejected.numbers["high"] == pytest.approx(image.reject_high.sum() / image.coverage.sum())
    per_frame = report.find("rejected per frame")[0]
    assert per_frame.level == "warning"
    assert "frame 8" in per_frame.text
    assert per_frame.numbers["share"][7] == pytest.approx(70 / 220, abs=0.05)
    weights = report.find("weights")[0]
    assert 17 < weights.numbers["effective"] <= 20
    assert report.find("normalisation")[0].numbers["sources"] == {"stars": 20}


def test_noise_alone_explains_what_is_rejected_of_noise():
    rng = np.random.default_rng(2)
    for rule in ("sigma", "mad", "winsorized", "gesd", "model"):
        context = Context(workers=1)
        apply(
            rng.normal(1000, 20, (10, 200, 200)).astype(np.float32),
            context,
            rejection=rule,
            normalisation="none",
        )
        found = context.report.find("rejected")[0].numbers
        expected = found["by_chance_low"] + found["by_chance_high"]
        assert found["low"] + found["high"] == pytest.approx(expected, rel=0.2, abs=1e-4)


def test_given_gain_and_read_noise_are_used_and_compared():
    samples, *_ = night(32, 10, scale_jitter=0, offset_jitter=0)
    context = Context(workers=1)
    apply(samples, context, gain=GAIN, read_noise=READ)
    assert not context.report.find("gain and noise disagree")
    apply(samples, context, gain=4.0, read_noise=READ)
    assert context.report.find("gain and noise disagree")


def test_exposure_adds_up_in_the_header():
    samples, *_ = night(33, 6)
    image = Stack().apply(Cube.from_array(samples, exposure=10.0), Context(workers=1))
    assert (image.header["EXPTIME"], image.header["STACKCNT"], image.header["TOTALEXP"]) == (10.0, 6, 60.0)


def test_progress_reaches_the_end_and_stop_is_honoured(ragged):
    seen = []
    context = Context(
        workers=1, memory_budget=1 << 20, progress_to=lambda fraction, text: seen.append((fraction, text))
    )
    apply(ragged, context)
    assert seen[-1][0] > 0.2
    assert all(text for _, text in seen)
    context = Context(workers=2, memory_budget=1 << 20)
    context.stop()
    with pytest.raises(Stopped):
        apply(ragged, context)


def test_a_stopped_stack_leaves_no_scratch(ragged, tmp_path):
    context = Context(workers=1, memory_budget=1 << 16, scratch=tmp_path)
    cube = Cube.from_array(ragged)
    stacking_plan(cube, Stack(), context)
    context.stop()
    with pytest.raises(Stopped):
        Stack().apply(cube, context)
    assert not list(tmp_path.glob("stack-*"))


def test_stack_is_a_step_of_a_recipe(ragged):
    recipe = Recipe((Stack(rejection="sigma", low=2.5),))
    again = Recipe.from_toml(recipe.to_toml())
    assert again.steps == recipe.steps
    assert again.run(Cube.from_array(ragged)).master is not None
