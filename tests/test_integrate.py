"""integrate() takes any cube of real numbers and gives what the step gives."""

import numpy as np
import pytest

import astrobench
from astrobench import Context, Cube, ParameterError, integrate
from astrobench.steps.stack import Stack


@pytest.fixture(scope="module")
def samples():
    samples = np.random.default_rng(1).normal(500, 20, (8, 50, 60))
    samples[3, 20, 30] += 900
    samples[:2, :, :5] = np.nan
    return samples


def test_it_is_a_function_of_the_package():
    assert callable(astrobench.integrate)


def test_it_gives_what_the_step_gives(samples):
    image = integrate(samples, rejection="sigma", low=4)
    step = Stack(rejection="sigma", low=4).apply(Cube.from_array(samples), Context())
    np.testing.assert_array_equal(image.data, step.data)
    np.testing.assert_array_equal(image.reject_high, step.reject_high)


def test_an_outlier_is_left_out_and_gaps_are_counted(samples):
    image = integrate(samples)
    assert image.reject_high[0, 20, 30] == 1
    assert image.data[0, 20, 30] == pytest.approx(500, abs=40)
    assert image.coverage[0, 10, 2] == 6
    assert image.coverage[0, 10, 20] == 8


@pytest.mark.parametrize(
    "kind", ["uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", ">f4"]
)
def test_every_real_dtype_is_taken(kind):
    values = np.random.default_rng(2).integers(50, 90, (5, 20, 20))
    expected = integrate(values.astype(np.float64), normalisation="none", rejection="none", weights="equal")
    image = integrate(values.astype(kind), normalisation="none", rejection="none", weights="equal")
    np.testing.assert_array_equal(image.data, expected.data)
    assert image.data[0] == pytest.approx(values.mean(axis=0), rel=1e-6)


def test_masked_is_missing(samples):
    masked = np.ma.masked_invalid(samples)
    masked.data[~np.isfinite(samples)] = 12345
    np.testing.assert_array_equal(integrate(masked).data, integrate(samples).data)


def test_lists_and_colour_and_exposure_are_taken(samples):
    image = integrate([[[1, 2], [3, 4]]] * 3, exposure=30)
    np.testing.assert_array_equal(image.data[0], [[1, 2], [3, 4]])
    assert image.header["TOTALEXP"] == 90
    assert integrate(np.stack([samples] * 3, axis=1)).shape == (3, 50, 60)


def test_facts_go_into_the_given_context(samples):
    context = Context()
    integrate(samples, context=context)
    assert context.report.find("rejection")


@pytest.mark.parametrize(
    ("cube", "words"),
    [
        (np.zeros((3, 4)), "shape"),
        (np.zeros((3, 2, 4, 4)), "shape"),
        (np.zeros((0, 4, 4)), "shape"),
        (np.zeros((3, 4, 4), complex), "real numbers"),
        (np.array([[["a"]]]), "real numbers"),
    ],
)
def test_what_is_no_cube_is_refused_in_a_sentence(cube, words):
    with pytest.raises(ParameterError, match=words):
        integrate(cube)


def test_an_unknown_parameter_is_named():
    with pytest.raises(ParameterError, match="Did you mean rejection"):
        integrate(np.zeros((3, 4, 4)), rejecton="sigma")
