"""Answer for a finished run why a pixel of its stack is what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.errors import InputError, ParameterError
from astrobench.explain import explain
from astrobench.outputs import MASTER, REPORT
from astrobench.recipe import Recipe
from astrobench.steps.stack import Stack


def explain_run(out: Path, x: float, y: float, frame: str, context: Context, *, as_json: bool = False) -> str:
    """Return the account of one pixel of the stack in folder `out`.

    Parameters
    ----------
    x, y : float
        Column and row of the stack, or of the sub named `frame`, which is then mapped into the stack.
    frame : str
        Name of a sub, or the part of it that tells it from the others; empty for a pixel of the stack.
    """
    recipe, inputs = _of_run(out)
    before = [step for step in recipe.steps if step.area == "frames"]
    stack = next((step for step in recipe.steps if isinstance(step, Stack)), Stack())
    result = Recipe(tuple(before), recipe.name).run(inputs, context)
    assert result.cube is not None
    lines = []
    if not context.report.find("cached"):
        lines.append("The registered frames were no longer in the cache; they were made again.")
    cube = result.cube
    if frame:
        x, y, name = into_stack(cube, frame, x, y)
        lines.append(f"That pixel of {name} lies at x = {x:.2f}, y = {y:.2f} of the stack.")
    explanation = explain(cube, round(x), round(y), stack, context)
    if as_json:
        return json.dumps(explanation.to_dict(), indent=2)
    return "\n".join([*lines, str(explanation)])


def into_stack(cube: Cube, frame: str, x: float, y: float) -> tuple[float, float, str]:
    """Map a pixel of a frame into the cube; return x, y and the frame's full name."""
    found = [k for k, name in enumerate(cube.names) if name == frame or Path(name).stem == frame]
    found = found or [k for k, name in enumerate(cube.names) if frame in name]
    if len(found) != 1:
        what = "is not among the frames of the stack" if not found else f"fits {len(found)} frames"
        raise ParameterError(f"'{frame}' {what}. Name one of them, for example {cube.names[0]}.")
    place = cube.transforms[found[0]] @ np.array([x, y, 1.0])
    return float(place[0] / place[2]), float(place[1] / place[2]), cube.names[found[0]]


def _of_run(out: Path) -> tuple[Recipe, list[Path]]:
    """Return the recipe and the inputs of the run in a folder."""
    if not (out / MASTER).is_file() or not (out / REPORT).is_file():
        raise InputError(
            f"{out} holds no run: {MASTER} and {REPORT} are needed. Give the folder that `run` wrote."
        )
    try:
        inputs = json.loads((out / REPORT).read_text(encoding="utf-8"))["inputs"]
    except (json.JSONDecodeError, KeyError, UnicodeDecodeError):
        raise InputError(f"{out / REPORT} is damaged. Repeat the run to write it again.") from None
    return Recipe.load(out / MASTER), [out / path for path in inputs]
