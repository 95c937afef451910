"""What a run leaves in its output folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astrobench.context import Context
from astrobench.errors import InputError
from astrobench.files import save_image
from astrobench.recipe import Recipe, RunResult
from astrobench.steps.export import Export

MASTER, REPORT = "master.fits", "report.json"


def run_into(folder: Path, recipe: Recipe, source: Any, context: Context, inputs: Sequence[str | Path] = ()) -> RunResult:
    """Run a recipe and write master.fits, result.fits, result.png and report.json into a folder.

    Parameters
    ----------
    folder : Path
        Made if it does not exist; files of an earlier run are replaced one by one, each only when complete.
    inputs : sequence of paths
        What the user named as input; noted in the report relative to `folder`, so that `explain` finds it again.
    """
    make_folder(folder)
    context.output = folder
    if not any(isinstance(step, Export) for step in recipe.steps):
        recipe = Recipe((*recipe.steps, Export()), recipe.name, recipe.description, recipe.made_with)
    result = recipe.run(source, context)
    if result.master is not None:
        save_image(result.master, folder / MASTER, private=context.private)
    context.report.run["inputs"] = [relative(Path(path), folder) for path in inputs]
    if result.cube is not None:
        context.report.run["cube"] = result.cube.key
    write_text(folder / REPORT, context.report.to_json())
    return result


def make_folder(folder: Path) -> None:
    """Make the output folder, or say why it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file; the output needs a folder. Name another with -o.") from None
    except OSError as error:
        raise InputError(f"The output folder {folder} cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"The output folder {folder} cannot be written to. Name another with -o.")


def write_text(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to the output folder, so that no user's name is written where it can be left out."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()
