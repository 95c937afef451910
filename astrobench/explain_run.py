"""Answer for a finished run why a pixel of its stack is what it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    out : Path
        Folder that a run wrote; its inputs are found from there.
    x, y : float
        Column and row of the stack, or of the sub named `frame`, which is then mapped into the stack.
    frame : str
        Name of a sub, or the part of it that tells it from the others; empty for a pixel of the stack.
    as_json : bool
        Return JSON instead of a table.

    Raises
    ------
    ParameterError
        If the pixel lies outside the stack, or no sub or several have that name.
    InputError
        If the folder holds no run, or its frames are gone.
    """
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ParameterError(f"x = {x:g}, y = {y:g} is no pixel; give the column and the row as numbers.")
    run = _open_run(out)
    before = tuple(step for step in run.recipe.steps if step.area == "frames")
    stack = next((step for step in run.recipe.steps if isinstance(step, Stack)), Stack())
    cube = Recipe(before, run.recipe.name).run(list(run.inputs), context).cube
    assert cube is not None
    notes = list(_notes(run, cube, context))
    if frame:
        x, y, name = into_stack(cube, frame, x, y)
        notes.append(f"That pixel of {name} lies at x = {x:.2f}, y = {y:.2f} of the stack.")
    column, row = math.floor(x + 0.5), math.floor(y + 0.5)
    explanation = explain(cube, column, row, stack, context)
    if run.crop is not None:
        notes.append(_in_picture(run.crop, column, row))
    if as_json:
        return json.dumps({**explanation.to_dict(), "notes": notes}, indent=2)
    return "\n".join([*notes, str(explanation)])


def into_stack(cube: Cube, frame: str, x: float, y: float) -> tuple[float, float, str]:
    """Map a pixel of a frame into the cube; return x, y and the frame's full name."""
    found = [k for k, name in enumerate(cube.names) if frame in (name, Path(name).stem)]
    found = found or [k for k, name in enumerate(cube.names) if frame in name]
    if len(found) != 1:
        what = "is not among the frames of the stack" if not found else f"fits {len(found)} frames"
        raise ParameterError(f"'{frame}' {what}. Name one of them, for example {cube.names[0]}.")
    place = cube.transforms[found[0]] @ np.array([x, y, 1.0])
    return float(place[0] / place[2]), float(place[1] / place[2]), cube.names[found[0]]


@dataclass(frozen=True)
class _Run:
    """A finished run: its recipe, its inputs, and the rectangle (x, y, width, height) that is shown."""

    recipe: Recipe
    inputs: tuple[Path, ...]
    crop: tuple[int, ...] | None


def _open_run(out: Path) -> _Run:
    if not out.exists():
        raise InputError(f"'{out}' does not exist. Give the folder that `run` wrote.")
    if not (out / REPORT).is_file():
        raise InputError(f"{out} holds no run: there is no {REPORT}. Give the folder that `run` wrote.")
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        inputs = tuple(out / path for path in report["inputs"])
        has_master = MASTER in report["files"]
        crops = [fact["numbers"] for fact in _facts(report) if fact["code"] == "crop.rectangle"]
        crop = tuple(int(crops[-1][key]) for key in ("x", "y", "width", "height")) if crops else None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{out / REPORT} is damaged. Repeat the run to write it again.") from None
    if not has_master or not (out / MASTER).is_file():
        raise InputError(
            f"{out} holds no {MASTER}: the run began with a stacked picture, whose frames it never saw, "
            "or the file was removed. Give the folder of a run that began with frames."
        )
    return _Run(Recipe.load(out / MASTER), inputs, crop)


def _in_picture(crop: tuple[int, ...], column: int, row: int) -> str:
    left, top, width, height = crop
    x, y = column - left, row - top
    if 0 <= x < width and 0 <= y < height:
        return f"In the picture, which is cropped, it is the pixel x = {x}, y = {y}."
    return "The picture is cropped and does not show it."


def _facts(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [fact for step in report["steps"] for fact in step["facts"]]


def _notes(run: _Run, cube: Cube, context: Context) -> list[str]:
    """Return what the reader should know before the table."""
    notes = []
    if cube.scratch is not None and not context.report.find("cached"):
        notes.append("The registered frames were no longer in the cache; they were made again.")
    before = run.recipe.made_with.get("inputs")
    now = {frame.path.name: frame.hash() for frame in cube.frames.used}
    if isinstance(before, dict) and before != now:
        notes.append(
            f"The frames are not those of the run any more: it used {len(before)}, there are {len(now)} now. "
            "The account is that of the stack they give today."
        )
    return notes
