"""Recipes are written, read, changed and refused in plain words."""

from __future__ import annotations

import pytest

import astrobench
from astrobench.errors import InputError, ParameterError
from astrobench.recipe import Recipe


@pytest.mark.parametrize("name", Recipe.preset_names())
def test_every_preset_survives_toml_and_json(name):
    recipe = Recipe.load(name)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.description


def test_the_presets_are_named_by_what_they_do():
    assert Recipe.preset_names() == ("deep-sky", "linear-for-other-tools", "quick-look")


def test_a_setting_changes_one_parameter_of_one_step():
    recipe = Recipe.load("deep-sky").with_settings(["stack.rejection=sigma", "stack.low=4", "grade.exclude=['a.fit']"])
    stack = next(step for step in recipe.steps if step.name() == "stack")
    assert (stack.rejection, stack.low) == ("sigma", 4)
    assert next(step for step in recipe.steps if step.name() == "grade").exclude == ("a.fit",)


@pytest.mark.parametrize(
    ("setting", "word"),
    [("stack", "step.parameter=value"), ("blur.size=3", "no step 'blur'"), ("stack.size=3", "no parameter 'size'")],
)
def test_a_wrong_setting_is_refused(setting, word):
    with pytest.raises(ParameterError, match=word):
        Recipe.load("deep-sky").with_settings([setting])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("step = 3", "holds no steps"),
        ("[[step]]\ndo = 'dance'", "'dance' is no step"),
        ("[[step]]\ndo = 'stack'\nlow = -1", "stack.low"),
        ("[[step", "not valid TOML"),
        ("[[step]]\ndo = 'stretch'\n[[step]]\ndo = 'stack'", "Put it earlier"),
        ("[[step]]\ndo = 'measure'\n[[step]]\ndo = 'stack'", "a step between them is missing"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(text, word):
    with pytest.raises(ParameterError, match=word):
        Recipe.from_toml(text)


def test_an_unknown_recipe_names_the_presets():
    with pytest.raises(InputError, match="deep-sky"):
        Recipe.load("no-such-thing")


def test_steps_are_found_at_the_top_level():
    assert {"debayer", "measure", "grade", "register", "stack", "remove_gradient", "export"} <= set(astrobench.STEPS)
