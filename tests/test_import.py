"""`import astrobench` is quick, its public names are where the manual says, and Jupyter stays outside."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pytest

import astrobench
from astrobench import errors

PUBLIC = [
    *("Image", "Frame", "Frames", "Cube", "Step", "Recipe", "Context", "Report", "STEPS"),
    *("integrate", "explain", "open_image", "save_image"),
    *("AstrobenchError", "InputError", "ParameterError", "ProcessingError", "Stopped"),
]
HEAVY = {"PIL", "astroalign", "astropy", "numba", "numpy", "pydantic", "rich", "scipy", "skimage", "typer"}
JUPYTER = {
    "IPython",
    "anywidget",
    "astrobench_widgets",
    "bokeh",
    "ipykernel",
    "ipywidgets",
    "matplotlib",
    "voila",
}
LIMIT = 0.5  # seconds

LOADED = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_takes_less_than_half_a_second():
    code = "from time import perf_counter as t; a = t(); import astrobench; print(t() - a)"

    seconds = min(float(python(code)) for _ in range(3))

    assert seconds < LIMIT


def test_import_loads_nothing_heavy():
    loaded = set(python(f"import astrobench; {LOADED}").split())

    assert loaded.isdisjoint(HEAVY | JUPYTER)


def test_no_public_name_loads_jupyter_bokeh_or_a_panel():
    loaded = set(python(f"from astrobench import *; import astrobench.cli; {LOADED}").split())

    assert "numpy" in loaded
    assert loaded.isdisjoint(JUPYTER)


def test_the_top_level_holds_exactly_the_public_names():
    assert sorted(astrobench.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(astrobench))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had(name):
    assert getattr(astrobench, name) is not None


def test_steps_are_registered_when_asked_for():
    assert "stack" in python("import astrobench; print(*astrobench.STEPS)").split()


@pytest.mark.parametrize("name", ["integrate", "explain"])
def test_a_function_is_not_hidden_by_the_module_of_its_name(name):
    code = f"import astrobench.{name}; from astrobench import {name}; print(type({name}).__name__)"

    assert python(code).strip() == FunctionType.__name__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'stak'"):
        astrobench.stak  # noqa: B018


def test_errors_at_the_top_level_are_those_of_the_library():
    assert astrobench.InputError is errors.InputError
    assert issubclass(astrobench.Stopped, astrobench.AstrobenchError)
