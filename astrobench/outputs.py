"""What a run leaves in its output folder, and what it says of it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astrobench.context import Context
from astrobench.errors import InputError, ParameterError
from astrobench.estimate import duration
from astrobench.files import save_image
from astrobench.frames import Frames
from astrobench.recipe import Recipe, RunResult
from astrobench.report import Report
from astrobench.steps.export import SUFFIX, Export

MASTER, REPORT = "master.fits", "report.json"
TOLD = ("measured", "registered", "rejection", "rejected", "uncovered", "cached", "repeated")
TOLD_ELSEWHERE = ("set aside", "set_aside")
MOST_ASIDE = 12  # frames set aside that are named one by one


def run_into(
    folder: Path, recipe: Recipe, source: Any, context: Context, inputs: Sequence[str | Path] = ()
) -> RunResult:
    """Run a recipe and write master.fits, result.fits, result.png and report.json into a folder.

    Parameters
    ----------
    folder : Path
        Made if it does not exist. The files of an earlier run are replaced when all new ones are complete;
        a run that fails or is stopped leaves them as they were.
    source : Frames, Cube, Image or path
    inputs : sequence of paths
        What the user named as input; noted in the report relative to `folder`, so that `explain` finds it.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    ParameterError
        If the run would overwrite its own input.
    """
    if not any(isinstance(step, Export) for step in recipe.steps):
        recipe = Recipe((*recipe.steps, Export()), recipe.name, recipe.description, recipe.made_with)
    check_folder(folder)
    check_input_stays(folder, recipe, source, inputs)
    report = context.report
    with _beside(folder) as beside:
        context.output = beside
        with context.part(0.0, 0.97):
            result = recipe.run(source, context)
        _compare_with_before(recipe, result.frames, report)
        if result.master is not None:
            context.progress(0.97, f"writing {MASTER}")
            save_image(result.master, beside / MASTER, private=context.private)
        context.progress(0.99, f"writing {REPORT}")
        report.frames = report.frames or {"total": 0, "used": 0, "set_aside": []}
        report.run["inputs"] = [relative(Path(path), folder) for path in inputs]
        report.run["files"] = sorted([*(path.name for path in beside.iterdir()), REPORT])
        if result.cube is not None and result.cube.key:
            report.run["cube"] = result.cube.key
        _name_files_alone(report)
        (beside / REPORT).write_text(report.to_json(), encoding="utf-8", errors="backslashreplace")
        context.progress(1.0, f"writing {REPORT}")
        context.is_ending = True
        for each in sorted(beside.iterdir()):
            _move(each, folder / each.name)
    context.is_ending = False
    context.output = folder
    return result


# --- the folder -----------------------------------------------------------------------------------
def check_folder(folder: Path, kind: str = "output", option: str = "-o") -> None:
    """Say now, before the work, why a folder cannot be written to; nothing is made."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    try:
        is_folder = there.is_dir()
    except OSError as error:
        raise InputError(
            f"The {kind} folder {folder} cannot be made: {_reason(error)}. Name another with {option}."
        ) from None
    if not is_folder:
        raise InputError(
            f"The {kind} folder cannot be {folder}: {there} is no folder. Name another with {option}."
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"The {kind} folder {folder} cannot be written to. Name another with {option}.")


def check_input_stays(folder: Path, recipe: Recipe, source: Any, inputs: Sequence[str | Path]) -> None:
    """Refuse a run that would overwrite its own input, or the account of the run that made it."""
    place = folder.resolve()
    written = {MASTER, REPORT}
    for step in recipe.steps:
        if isinstance(step, Export):
            written |= {f"{step.file_name}{SUFFIX[each]}" for each in step.formats}
    is_night = isinstance(source, Frames)
    for path in [frame.path for frame in source.used] if is_night else [Path(path) for path in inputs]:
        at = path.resolve()
        ends = at.name in written or (not is_night and (place / REPORT).exists())
        if at.parent == place and at.is_file() and ends:
            raise ParameterError(
                f"{path.name}, the input, lies in the output folder {folder}, where results would be "
                "overwritten. Name another folder with -o."
            )


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Give a hidden folder inside the output folder, which is made; leave neither if nothing was written."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".astrobench-", dir=folder))
    except OSError as error:
        raise InputError(
            f"The output folder {folder} cannot be written to: {_reason(error)}. Name another with -o."
        ) from None
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for each in missing:
            try:
                each.rmdir()
            except OSError:  # it holds the results
                break


def _move(path: Path, place: Path) -> None:
    try:
        os.replace(path, place)
    except OSError as error:
        raise InputError(
            f"{place.name} in {place.parent} cannot be replaced: {_reason(error)}. "
            "Close the program that has it open, or name another folder with -o."
        ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def relative(path: Path, folder: Path) -> str:
    """Return a path relative to the output folder: no user's name is written where it can be left out."""
    try:
        return Path(os.path.relpath(path.expanduser().resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _name_files_alone(report: Report) -> None:
    """Leave folders out of the facts: files are moved after they were told, and a path may tell a name."""
    for record in report.steps:
        for i, fact in enumerate(record.facts):
            if any(isinstance(value, Path) for value in fact.numbers.values()):
                plain = {key: v.name if isinstance(v, Path) else v for key, v in fact.numbers.items()}
                record.facts[i] = dataclasses.replace(fact, numbers=plain)


def _compare_with_before(recipe: Recipe, frames: Frames | None, report: Report) -> None:
    """Say whether a recipe that was taken from a picture met the same frames and versions again."""
    before = recipe.made_with.get("inputs")
    if not isinstance(before, dict) or frames is None:
        return
    now = {frame.path.name: frame.hash() for frame in frames.used}
    if now == before:
        text = "The recipe was repeated on the same {count} frames as before."
    else:
        text = "The recipe comes from a picture of {before} frames; {same} of these {count} are among them."
    same = sum(before.get(name) == value for name, value in now.items())
    report.fact("repeated", text, count=len(now), before=len(before), same=same)
    was = recipe.made_with.get("versions", {})
    other = [f"{name} {was[name]}" for name in was if was[name] != report.run.get("versions", {}).get(name)]
    if other:
        report.fact(
            "versions", "The picture was made with {versions}: results may differ in the last digits.",
            versions=", ".join(other),
        )  # fmt: skip


# --- what is said of it ---------------------------------------------------------------------------
def account(report: Report, folder: Path) -> list[str]:
    """Return what a run has to say, in lines for a terminal.

    Parameters
    ----------
    report : Report
        Of a finished run.
    folder : Path
        Where its files lie.
    """
    lines = []
    frames = report.frames
    if frames["total"]:
        seconds = sum(row["seconds"] for row in report.groups)
        light = f", {duration(seconds)} of light" if seconds else ""
        lines.append(f"{frames['used']} of {frames['total']} frames are in the picture{light}.")
        for each in frames["set_aside"][:MOST_ASIDE]:
            lines.append(f"  set aside: {each['path']} {each['reason']}")
        more = len(frames["set_aside"]) - MOST_ASIDE
        if more > 0:
            lines.append(f"  set aside: {more} more, each with its reason in {REPORT}")
    skipped = [fact.step for fact in report.find("skipped")]
    if skipped:
        kind = report.find("skipped")[0].numbers.get("kind", "further on")
        word = {"image": "a stacked picture", "cube": "registered"}.get(kind, kind)
        lines.append(f"The input is already {word}: {', '.join(skipped)} skipped.")
    lines += [f"  {fact.text}" for code in TOLD for fact in report.find(code) if fact.level == "info"]
    lines += [f"  ! {fact.text}" for fact in report.warnings if fact.code not in TOLD_ELSEWHERE]
    names = report.run["files"]
    width = max(len(str(folder / name)) for name in names)
    lines += [f"{folder / name!s:{width}}  {_purpose(name)}" for name in names]
    if MASTER not in names and (folder / MASTER).exists():
        lines.append(f"{folder / MASTER!s:{width}}  left from an earlier run")
    return lines


def _purpose(name: str) -> str:
    if name in (MASTER, REPORT):
        return {MASTER: "the linear stack with its maps", REPORT: "every decision and its numbers"}[name]
    purposes = {".tif": "in 16 bits", ".png": "to look at", ".jpg": "to send around"}
    return f"the picture {purposes.get(Path(name).suffix, 'with all it carries')}"
