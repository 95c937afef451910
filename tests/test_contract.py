"""What every registered step promises, tested on every one of them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from astrobench import (
    STEPS,
    Context,
    Cube,
    Frames,
    Image,
    ParameterError,
    Recipe,
    Stopped,
    open_image,
    save_image,
)
from astrobench.image import MAPS
from astrobench.outputs import run_into
from astrobench.simulate import simulate_night
from astrobench.step import allowed

FRAMES, SHAPE = 8, (480, 270)
NAMES = sorted(STEPS)
ON_FRAMES = [name for name in NAMES if STEPS[name].takes is Frames]
ON_IMAGES = [name for name in NAMES if STEPS[name].takes is Image]


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """Folder of a small simulated night, the same for every test of the session."""
    folder = tmp_path_factory.getbasetemp() / "small-night"
    if not folder.exists():
        simulate_night(folder, frames=FRAMES, shape=SHAPE)
    return folder


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def stages(night, scratch):
    """Frames, cube and image as each step of a deep-sky run receives them."""
    context = Context(scratch=scratch)
    value, found = Frames.scan(night), {}
    for step in Recipe.load("linear-for-other-tools").steps:
        found[step.name()] = value
        if step.name() != "export":
            value = step.apply(value, context)
    return found


@pytest.fixture(scope="module")
def picture(stages):
    """Linear colour stack with all maps, a solution, and a hole in it."""
    image = stages["export"]
    data, variance = image.data.copy(), image.variance.copy()
    data[:, 100:110, 50:60] = variance[:, 100:110, 50:60] = np.nan
    coverage = image.coverage.copy()
    coverage[:, 100:110, 50:60] = 0
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [176.2, 50.5], [135.0, 240.0]
    wcs.wcs.cdelt = [-6.6e-4, 6.6e-4]
    wcs.array_shape = SHAPE
    return image.replace(data=data, variance=variance, coverage=coverage, wcs=wcs)


@pytest.fixture
def given(stages, picture):
    """What a step takes."""

    def find(name):
        return picture if STEPS[name].takes is Image else stages[name]

    return find


def applied(name, value, tmp_path, **settings):
    context = Context(output=tmp_path, **{"scratch": tmp_path / "scratch", **settings})
    with context.report.step(name):
        return STEPS[name]().apply(value, context), context


def samples(cube):
    return np.stack([[cube.plane(k, c) for c in range(cube.shape[1])] for k in range(cube.shape[0])])


def copied(value):
    """Return everything that a value holds, apart from it."""
    if isinstance(value, Image):
        maps = {name: array.copy() for name, array in value.maps()}
        return {"data": value.data.copy(), **maps, "header": repr(value.header), "history": value.history}
    if isinstance(value, Cube):
        return {"samples": samples(value), "noise": value.noise.copy(), "transforms": value.transforms.copy()}
    return {"frames": repr(value.frames), "bytes": [frame.path.read_bytes() for frame in value]}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


# --- declarations ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_its_defaults_are_valid_and_survive_toml_and_json(name):
    recipe = Recipe((STEPS[name](),), name="one")

    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is_and_every_parameter_says_what_it_means(name):
    step = STEPS[name]

    assert step.name() == name
    assert step.area in ("frames", "stack", "finish", "export")
    assert step.takes in (Frames, Cube, Image)
    assert step.gives in (Frames, Cube, Image)
    assert step.__doc__.strip().splitlines()[0].endswith(".")
    assert all(field.description and not field.is_required() for field in step.model_fields.values())


def wrong_values():
    for name in NAMES:
        for parameter, field in STEPS[name].model_fields.items():
            bounds = {
                k: v
                for each in field.metadata
                for k in ("ge", "gt", "le", "lt")
                if (v := getattr(each, k, None)) is not None
            }
            if "ge" in bounds or "gt" in bounds:
                yield name, parameter, bounds.get("ge", bounds.get("gt")) - 1
            if "le" in bounds or "lt" in bounds:
                yield name, parameter, bounds.get("le", bounds.get("lt")) + 1
            if "text" not in allowed(field) and "list" not in allowed(field):
                yield name, parameter, "banana"
            yield name, parameter, {"a": 1}


@pytest.mark.parametrize(("name", "parameter", "value"), list(wrong_values()))
def test_a_bad_value_is_refused_with_the_parameter_and_its_range(name, parameter, value):
    with pytest.raises(ParameterError) as caught:
        STEPS[name](**{parameter: value})

    sentence = str(caught.value)
    assert f"{name}.{parameter}" in sentence
    assert allowed(STEPS[name].model_fields[parameter]) in sentence


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_refused_where_a_number_is_wanted(name, value):
    for parameter, field in STEPS[name].model_fields.items():
        if field.annotation is float:
            with pytest.raises(ParameterError, match=f"{name}.{parameter}"):
                STEPS[name](**{parameter: value})


# --- carried out ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_left_untouched(name, given, tmp_path):
    value = given(name)
    before = copied(value)

    result, _ = applied(name, value, tmp_path)

    assert_same(copied(value), before)
    assert isinstance(result, STEPS[name].gives)


@pytest.mark.parametrize("name", NAMES)
def test_progress_rises_and_reaches_its_end(name, given, tmp_path):
    seen = []
    recipe = Recipe((STEPS[name](),))
    context = Context(
        scratch=tmp_path / "s",
        output=tmp_path,
        progress_to=lambda fraction, text: seen.append((fraction, text)),
    )

    recipe.run(given(name), context)

    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert all(isinstance(text, str) for _, text in seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_is_honoured_at_once(name, given, tmp_path):
    context = Context(scratch=tmp_path / "s", output=tmp_path / "out")
    context.output.mkdir()
    context.stop()

    with pytest.raises(Stopped):
        Recipe((STEPS[name](),)).run(given(name), context)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("debayer", "grade")])
def test_a_step_that_works_on_pixels_looks_for_a_stop_itself(name, given, tmp_path):
    context = Context(scratch=tmp_path / "s", output=tmp_path / "out", workers=2)
    context.output.mkdir()
    context.stop()

    with pytest.raises(Stopped):
        STEPS[name]().apply(given(name), context)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_the_same_with_any_number_of_workers_and_any_memory(name, given, tmp_path):
    settings = [
        {"workers": 1, "memory_budget": 2**30},
        {"workers": 3, "memory_budget": 2**24},
        {"workers": 2, "memory_budget": 2**20},
    ]
    results = []
    for number, each in enumerate(settings):
        folder = tmp_path / str(number)
        folder.mkdir()
        result, _ = applied(name, given(name), folder, **each)
        results.append(copied(result))

    assert_same(results[0], results[1])
    assert_same(results[0], results[2])


# --- pictures -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ON_IMAGES)
def test_missing_pixels_never_become_values(name, picture, tmp_path):
    marked = picture.replace(flags=None)
    result, _ = applied(name, marked, tmp_path)

    assert np.isnan(result.data).any(axis=0).sum() == 100
    assert np.count_nonzero(np.isnan(result.data)) == 300


@pytest.mark.parametrize("name", ON_IMAGES)
def test_maps_and_solution_are_kept_or_left_behind_with_a_fact(name, picture, tmp_path):
    result, context = applied(name, picture, tmp_path)
    told = " ".join(fact.text for fact in context.report.facts)
    dropped = [each for each in MAPS if getattr(picture, each) is not None and getattr(result, each) is None]

    assert all(each.replace("_", " ") in told or each in told for each in dropped)
    assert result.wcs is not None or "coordinates" in told
    for each, array in result.maps():
        assert array.shape[1:] == result.shape[1:], each


@pytest.mark.parametrize("name", ON_IMAGES)
def test_the_solution_still_points_at_the_same_stars(name, picture, tmp_path):
    result, _ = applied(name, picture, tmp_path)
    hole_before = np.argwhere(np.isnan(picture.data[0]))[0][::-1]
    hole_after = np.argwhere(np.isnan(result.data[0]))[0][::-1]

    before = picture.wcs.pixel_to_world_values(*hole_before)
    after = result.wcs.pixel_to_world_values(*hole_after)
    np.testing.assert_allclose(after, before, atol=1e-9)


# --- written down with the picture ----------------------------------------------------------------
def test_the_recipe_is_stored_in_the_picture_with_versions_and_hashes_and_read_back(night, tmp_path, scratch):
    recipe = Recipe.load("deep-sky").with_settings(["stack.rejection=sigma", "stack.low=3.5"])
    result = run_into(tmp_path, recipe, Frames.scan(night), Context(scratch=scratch), [night])

    for name in ("master.fits", "result.fits"):
        stored = Recipe.load(tmp_path / name)
        assert stored.steps == recipe.steps
        assert stored.name == "deep-sky"
        assert {"python", "astrobench", "numpy", "numba"} <= set(stored.made_with["versions"])
        used = {frame.path.name: frame.hash() for frame in result.frames.used}
        assert stored.made_with["inputs"] == used
    history = open_image(tmp_path / "result.fits").history
    assert history == tuple(
        step.line() for step in recipe.steps if step.takes is not Frames and step.name() != "export"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_survives_the_fits_file(name, tmp_path):
    step = STEPS[name]()
    recipe = Recipe((step,), name="Größe M 31", made_with={"inputs": {"夜.fit": "00"}})
    image = Image(np.zeros((1, 8, 8), np.float32), recipe=recipe.to_json(), history=(step.line(),))

    save_image(image, tmp_path / "a.fits")

    assert Recipe.load(tmp_path / "a.fits") == recipe
    assert open_image(tmp_path / "a.fits").history == (step.line(),)
    with fits.open(tmp_path / "a.fits") as hdus:
        assert json.loads(hdus["RECIPE"].data["RECIPE"][0])["step"][0]["do"] == name


@pytest.mark.parametrize("name", ON_FRAMES)
def test_every_frame_that_goes_has_its_reason(name, given, tmp_path):
    result, _ = applied(name, given(name), tmp_path)
    frames = result.frames if isinstance(result, Cube) else result

    assert all(frame.reason for frame in frames if not frame.use)
    assert {frame.path for frame in frames} == {frame.path for frame in given(name)}


def test_an_image_cannot_be_changed():
    image = Image(np.zeros((1, 4, 4), np.float32))

    with pytest.raises(dataclasses.FrozenInstanceError):
        image.data = np.ones((1, 4, 4), np.float32)
