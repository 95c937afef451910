"""A declaration is the check, the help and the recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

import pytest

from astrobench.errors import ParameterError
from astrobench.image import Image
from astrobench.step import STEPS, Step, allowed, param


class Brighten(Step):
    """Multiply a picture."""

    area: ClassVar = "finish"
    takes: ClassVar = Image
    gives: ClassVar = Image

    factor: float = param(2.0, "How much brighter", unit="times", gt=0, le=10)
    mode: Literal["plain", "soft"] = param("plain", "How it rises")
    names: tuple[str, ...] = param((), "Names")
    deep: bool = param(False, "Whether deep")


def test_a_step_outside_the_package_is_not_registered():
    assert "brighten" not in STEPS


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"factor": -1}, ["brighten.factor is -1", "above 0 to 10 times"]),
        ({"factor": 11.0}, ["11.0", "above 0 to 10 times"]),
        ({"factor": float("nan")}, ["factor"]),
        ({"factor": "much"}, ["'much'", "above 0 to 10"]),
        ({"mode": "hard"}, ["'hard'", "one of plain, soft"]),
        ({"facto": 2}, ["no parameter 'facto'", "Did you mean factor?"]),
        ({"zzz": 2}, ["no parameter 'zzz'", "It has factor, mode"]),
        ({"deep": "perhaps"}, ["true or false"]),
    ],
)
def test_a_bad_value_is_refused_in_a_sentence(values, words):
    with pytest.raises(ParameterError) as caught:
        Brighten(**values)
    for word in words:
        assert word in str(caught.value)


def test_the_line_of_python_names_only_what_differs():
    assert Brighten().line() == "Brighten()"
    assert Brighten(factor=3, mode="soft").line() == "Brighten(factor=3.0, mode='soft')"


def test_a_step_cannot_be_changed_after_it_was_made():
    with pytest.raises(ValueError, match="frozen"):
        Brighten().factor = 3.0


def test_what_is_allowed_is_said_in_words():
    fields = Brighten.model_fields
    assert allowed(fields["factor"]) == "above 0 to 10 times"
    assert allowed(fields["mode"]) == "one of plain, soft"
    assert allowed(fields["deep"]) == "true or false"
    assert allowed(fields["names"]) == "any list"
