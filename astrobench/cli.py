"""The command line: `astrobench demo | simulate | scan | run | explain | steps | show | doctor`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from astrobench.context import Context
from astrobench.errors import AstrobenchError, InputError, ParameterError

PLAIN_SECONDS = 5.0  # without a terminal, a line of progress at most this often

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a night of raw frames into a finished picture, and see why each pixel is what it is.",
)

Memory = Annotated[str, typer.Option("--memory", help="Memory for buffers, e.g. 512M or 4G; half of what is free")]
Workers = Annotated[int, typer.Option("--workers", min=0, help="Threads; 0: all cores")]
Scratch = Annotated[Path | None, typer.Option("--scratch", help="Folder for scratch files and the cache")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results")]


def main() -> None:
    """Run the command line and end with an exit code: 0 done, 2 parameter, 3 input, 4 processing, 130 stopped."""
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except AstrobenchError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Stopped.", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line itself
            _fail(f"{error.format_message()} See astrobench --help.", 2)
        if os.environ.get("ASTROBENCH_DEBUG"):
            raise
        _fail(
            f"Something unexpected happened ({type(error).__name__}: {error}). This is a defect of astrobench; "
            "run again with ASTROBENCH_DEBUG=1 and report what it prints.",
            4,
        )


def _fail(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(code)


# --- commands -------------------------------------------------------------------------------------
@app.command()
def demo(
    out: Out = Path("astrobench-demo"),
    frames: Annotated[int, typer.Option(min=4, help="Frames of the simulated night")] = 30,
    memory: Memory = "",
    workers: Workers = 0,
    scratch: Scratch = None,
) -> None:
    """Simulate a night, make a picture of it and say where everything lies."""
    from astrobench.simulate import simulate_night

    start = time.perf_counter()
    with _context(memory, workers, scratch) as context:
        night = simulate_night(
            out / "night", frames=frames, progress=context.progress, workers=context.workers
        )
        folder = night.paths[0].parent
        print(f"A simulated night of {frames} frames lies in {folder} ({time.perf_counter() - start:.1f} s).")
    with _context(memory, workers, scratch) as context:
        _run("deep-sky", [folder], out, [], context)
    print(f"From nothing to the picture: {time.perf_counter() - start:.1f} s.")


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write the night")],
    frames: Annotated[int, typer.Option(min=1)] = 30,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Write a folder of simulated Seestar subs, with the truth beside them."""
    from astrobench.simulate import simulate_night

    with _context("", 0, None) as context:
        night = simulate_night(folder, frames=frames, seed=seed, progress=context.progress, workers=context.workers)
    print(f"{frames} subs in {night.paths[0].parent}")
    for path, reason in night.bad.items():
        print(f"  {Path(path).name}: {reason}")


@app.command()
def scan(
    inputs: Annotated[list[str], typer.Argument(help="Folders, files or patterns")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Say what is in a folder: groups of frames, what was repaired, what is set aside and why."""
    from astrobench.frames import Frames

    context = Context()
    frames = Frames.scan(inputs, context=context)
    if as_json:
        facts = [fact.to_dict() for fact in context.report.facts]
        print(json.dumps({"frames": frames.summary(), "groups": frames.group_table(), "facts": facts}, indent=2))
        return
    _print_groups(frames)
    for fact in context.report.facts:
        print(f"{'! ' if fact.level == 'warning' else '  '}{fact.text}")
    for each in frames.summary()["set_aside"]:
        print(f"  set aside: {each['path']}: {each['reason']}")


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A preset, a TOML file, or a picture made by astrobench")],
    inputs: Annotated[list[str], typer.Argument(help="Folders, files or patterns of subs; or one stacked picture")],
    out: Out = Path("astrobench-out"),
    settings: Annotated[list[str] | None, typer.Option("--set", help="step.parameter=value, any number")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell frames, steps, time, disk and memory")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Register again, keep no registered frames")] = False,
    keep_private: Annotated[bool, typer.Option("--keep-site", help="Keep site coordinates and serial numbers")] = False,
    memory: Memory = "",
    workers: Workers = 0,
    scratch: Scratch = None,
) -> None:
    """Make a picture: run a recipe on frames."""
    with _context(memory, workers, scratch) as context:
        context.use_cache = not no_cache
        context.private = not keep_private
        _run(recipe, list(inputs), out, settings or [], context, dry_run)


@app.command()
def explain(
    out: Annotated[Path, typer.Argument(help="Folder of a run")],
    x: Annotated[float, typer.Argument(help="Column, 0-based")],
    y: Annotated[float, typer.Argument(help="Row, 0-based from the top")],
    frame: Annotated[str, typer.Option("--frame", help="x and y are a pixel of this sub")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    memory: Memory = "",
    workers: Workers = 0,
    scratch: Scratch = None,
) -> None:
    """Say why a pixel of the stack is what it is: the sample of every frame, kept or rejected, and by which bound."""
    from astrobench.explain_run import explain_run

    with _context(memory, workers, scratch) as context:
        text = explain_run(out, x, y, frame, context, as_json=as_json)
    print(text)


@app.command()
def steps(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table in the README")] = False,
) -> None:
    """List the steps and their parameters."""
    from astrobench.steps.table import markdown_table, text_table

    print(markdown_table() if markdown else text_table())


@app.command()
def show(
    picture: Annotated[Path, typer.Argument(help="A FITS or TIFF picture")],
    png: Annotated[Path | None, typer.Option("--png", help="Write a preview here")] = None,
    recipe: Annotated[bool, typer.Option("--recipe", help="Print the recipe that made it, as TOML")] = False,
) -> None:
    """Say what is in a picture: size, maps, levels, the steps that made it."""
    from astrobench.files import open_image
    from astrobench.recipe import Recipe

    image = open_image(picture)
    if recipe:
        print(Recipe.load(picture).to_toml())
        return
    print(image)
    import numpy as np

    for name, plane in zip("RGB" if image.shape[0] == 3 else "L", image.data, strict=False):
        low, middle, high = np.nanpercentile(plane[::4, ::4], [1, 50, 99])
        print(f"  {name}: 1 % {low:.4g}, median {middle:.4g}, 99 % {high:.4g}")
    for line in image.history:
        print(f"  {line}")
    if png:
        part = png.with_name(png.name + ".part")
        part.write_bytes(image.preview(4000))
        os.replace(part, png)
        print(f"Preview: {png}")


@app.command()
def doctor() -> None:
    """Say what is installed, how much machine there is, and compile what is compiled at first use."""
    from astrobench.doctor import examine

    for line in examine():
        print(line)


# --- shared by the commands -------------------------------------------------------------------------
def _run(
    recipe_name: str, inputs: list[Any], out: Path, settings: list[str], context: Context, dry_run: bool = False
) -> None:
    from astrobench.estimate import estimate
    from astrobench.frames import Frames
    from astrobench.outputs import MASTER, REPORT, run_into
    from astrobench.recipe import Recipe, open_source

    start = time.perf_counter()
    recipe = Recipe.load(recipe_name).with_settings(settings)
    with context.report.step("input"):
        source = open_source(inputs, context)
    if isinstance(source, Frames):
        _print_groups(source)
        told = estimate(source, recipe.steps, context)
        print("  " + ", ".join(told.lines()))
        if dry_run:
            print("  steps: " + " -> ".join(step.line() for step in recipe.steps))
            return
        told.check()
    elif dry_run:
        print(f"  {source}\n  steps: " + " -> ".join(step.line() for step in recipe.steps))
        return
    result = run_into(out, recipe, source, context, inputs)
    seconds = time.perf_counter() - start
    summary = context.report.frames
    if summary:
        print(f"{summary['used']} of {summary['total']} frames used.")
        for each in summary["set_aside"]:
            print(f"  set aside: {each['path']}: {each['reason']}")
    for fact in context.report.warnings:
        if fact.code != "set aside":
            print(f"  ! {fact.text}")
    for name, what in ((MASTER, "the linear stack with its maps"), ("result.fits", "the picture"),
                       ("result.png", "the picture to look at"), (REPORT, "every decision")):  # fmt: skip
        if (out / name).exists() and (name != MASTER or result.master is not None):
            print(f"  {out / name}: {what}")
    print(f"Done in {seconds:.1f} s.")


def _print_groups(frames: Any) -> None:
    for row in frames.group_table():
        exposure = f"{row['exposure']:g} s" if row["exposure"] else "? s"
        print(
            f"  {row['target'] or 'unknown target'}, {row['night'] or 'unknown night'}, {row['camera']}, "
            f"{row['filter'] or 'no filter'}: {row['used']} of {row['frames']} frames of {exposure}"
        )


@contextmanager
def _context(memory: str, workers: int, scratch: Path | None) -> Iterator[Context]:
    """Make a context with progress on the terminal; Ctrl-C asks the running step to stop."""
    values: dict[str, Any] = {}
    if memory:
        values["memory_budget"] = parse_bytes(memory)
    if workers:
        values["workers"] = workers
    if scratch is not None:
        if scratch.exists() and not scratch.is_dir():
            raise InputError(f"{scratch} is a file; --scratch needs a folder.")
        values["scratch"] = scratch
    context = Context(**values)
    before = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: Any) -> None:
        context.stop()
        signal.signal(signal.SIGINT, before)  # a second Ctrl-C ends at once

    try:
        signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # not in the main thread
        before = None
    try:
        with _progress(context):
            yield context
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def parse_bytes(text: str) -> int:
    """Read an amount of memory: ``512M``, ``4G``, ``1.5GB`` or plain bytes."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    cleaned = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = cleaned[-1:] if cleaned[-1:] in "KMGT" else ""
    try:
        amount = float(cleaned.removesuffix(unit)) * units[unit]
    except ValueError:
        raise ParameterError(f"--memory is '{text}'; write for example 512M or 4G.") from None
    if not amount >= 16 * 2**20:
        raise ParameterError(f"--memory is '{text}'; at least 16M are needed.")
    return int(amount)


@contextmanager
def _progress(context: Context) -> Iterator[None]:
    """Show progress: a bar with elapsed and remaining time on a terminal, a line a step otherwise."""
    if not sys.stderr.isatty():
        kind, told = "", 0.0

        def tell(fraction: float, text: str) -> None:
            """Print a line when the work changes, and every few seconds while it goes on."""
            nonlocal kind, told
            now, words = time.perf_counter(), re.sub(r"[\d.]+", "#", text)
            if text and (words != kind or now - told > PLAIN_SECONDS):
                kind, told = words, now
                print(f"{100 * fraction:3.0f} % {text}", file=sys.stderr, flush=True)

        context.progress_to = tell
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn(), TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        context.progress_to = lambda fraction, text: bar.update(task, completed=fraction, description=text)
        yield
