"""The command line: `astrobench demo | simulate | scan | run | explain | steps | show | doctor`."""

from __future__ import annotations

import _thread
import atexit
import json
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

from astrobench.context import Context
from astrobench.errors import AstrobenchError, InputError, ParameterError

if TYPE_CHECKING:
    from astrobench.frames import Frames
    from astrobench.recipe import Recipe

PLAIN_SECONDS = 1.0, 5.0  # without a terminal, lines of progress at least and at most this far apart
PATIENCE_SECONDS = 0.4  # after Ctrl-C work may end at its next check; then it is interrupted where it is
TIDY_SECONDS = 2.0  # while it tidies up, Ctrl-C does nothing for this time
MOST_WORKERS = 256
LONGEST_WORDS = 160  # of an error that is a defect of ours
PREVIEW_SIZE = 4000  # pixels of the longer side at most
SHARE_OF_READING = 0.03  # of the progress bar

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn a night of raw frames into a finished picture, and see why each pixel is what it is.",
)

Memory = Annotated[
    str,
    typer.Option("--memory", help="Memory for buffers, e.g. 512M or 4G; else half of what is free"),
]
Workers = Annotated[int, typer.Option("--workers", help="Threads; 0: all cores")]
Scratch = Annotated[Path | None, typer.Option("--scratch", help="Folder for scratch files and the cache")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results")]


def main() -> None:
    """Run the command line; exit with 0 done, 2 setting, 3 input, 4 processing or 130 stopped."""
    is_debug = bool(os.environ.get("ASTROBENCH_DEBUG"))
    if not (is_debug or sys.warnoptions):
        warnings.simplefilter("ignore")  # what a user should know is a fact of the report
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what a terminal cannot show
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except AstrobenchError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Stopped. Nothing half-written was left behind.", 130)
    except BrokenPipeError:
        _go_silent()
        sys.exit(0)
    except (
        SystemExit
    ) as ended:  # click's own end for a reader that has gone is 1, which nothing else here gives
        sys.exit(0 if ended.code == 1 else ended.code)
    except MemoryError:
        _fail("There is not enough memory. Use a smaller --memory, fewer --workers or fewer frames.", 4)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the command line itself
            sentence = error.format_message().strip()
            _fail(f"{sentence}{'' if sentence.endswith(('.', '?')) else '.'} See astrobench --help.", 2)
        if is_debug:
            raise
        _fail(
            f"Something unexpected happened ({type(error).__name__}: {shorten(str(error), LONGEST_WORDS)}). "
            "This is a defect of astrobench; run again with ASTROBENCH_DEBUG=1 and report what it prints.",
            4,
        )


def _fail(sentence: str, code: int) -> None:
    if code == 130:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near; a second Ctrl-C changes nothing
    print(" ".join(sentence.split()), file=sys.stderr, flush=True)
    others = [
        each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon
    ]
    if code == 130 and others:  # a frame in work is not waited for; what it makes is not wanted
        sys.stdout.flush()
        atexit._run_exitfuncs()
        os._exit(code)
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
    from astrobench.doctor import compile_ahead
    from astrobench.outputs import check_folder
    from astrobench.simulate import simulate_night

    start = time.perf_counter()
    check_folder(out)
    compiling = compile_ahead()
    with _context(memory, workers, scratch) as context:
        night = simulate_night(
            out / "night", frames=frames, progress=context.progress, workers=context.workers
        )
        folder = night.paths[0].parent
        seconds = time.perf_counter() - start
        _say(context, f"A simulated night of {frames} frames lies in {folder} ({seconds:.1f} s).")
    with _context(memory, workers, scratch) as context:
        _run("deep-sky", [str(folder)], out, [], context)
    compiling.kill()
    print(f"From nothing to the picture: {time.perf_counter() - start:.1f} s.")


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write the night")],
    frames: Annotated[int, typer.Option(min=1, help="Subs of the night")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Another number is another sky")] = 1,
    workers: Workers = 0,
) -> None:
    """Write a folder of simulated Seestar subs, with the truth beside them."""
    from astrobench.simulate import simulate_night

    with _context("", workers, None) as context:
        night = simulate_night(
            folder, frames=frames, seed=seed, progress=context.progress, workers=context.workers
        )
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

    with _context("", 0, None) as context:
        frames = Frames.scan(inputs, context=context)
    if as_json:
        facts = [fact.to_dict() for fact in context.report.facts]
        told = {"frames": frames.summary(), "groups": frames.group_table(), "facts": facts}
        print(json.dumps(told, indent=2))
        return
    for line in (*_groups(frames), *_told(context)):
        print(line)
    for each in frames.summary()["set_aside"]:
        print(f"  set aside: {each['path']} {each['reason']}")


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A preset, a TOML file, or a picture made by astrobench")],
    inputs: Annotated[list[str], typer.Argument(help="Folders, files or patterns of subs, or a stack")],
    out: Out = Path("astrobench-out"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="step.parameter=value, any number")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell frames, steps, time, disk and memory")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no registered frames")] = False,
    keep_private: Annotated[
        bool, typer.Option("--keep-site", help="Keep site coordinates and serial numbers")
    ] = False,
    memory: Memory = "",
    workers: Workers = 0,
    scratch: Scratch = None,
) -> None:
    """Make a picture: run a recipe on frames."""
    with _context(memory, workers, scratch) as context:
        context.use_cache = not no_cache
        context.private = not keep_private
        _run(recipe, list(inputs), out, settings or [], context, dry_run)


@app.command(context_settings={"ignore_unknown_options": True})  # a negative number is no option
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
    """Say why a pixel is what it is: the sample of every frame, kept or rejected, and by which bound."""
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
    import numpy as np

    from astrobench.files import open_image
    from astrobench.files.beside import written_beside
    from astrobench.recipe import Recipe

    image = open_image(picture)
    if recipe:
        print(Recipe.load(picture).to_toml())
        return
    print(image)
    for name, plane in zip("RGB" if image.shape[0] == 3 else "L", image.data, strict=False):
        seen = plane[::4, ::4][np.isfinite(plane[::4, ::4])]
        levels = np.percentile(seen, [1, 50, 99]) if seen.size else np.full(3, np.nan)
        print(f"  {name}: 1 % {levels[0]:.4g}, median {levels[1]:.4g}, 99 % {levels[2]:.4g}")
    for line in image.history:
        print(f"  {line}")
    if png:
        with written_beside(png) as beside:
            beside.write_bytes(image.preview(PREVIEW_SIZE))
        print(f"Preview: {png}")


@app.command()
def doctor() -> None:
    """Say what is installed, how much machine there is, and compile what is compiled at first use."""
    from astrobench.doctor import examine

    for line in examine():
        print(line)


# --- shared by the commands -------------------------------------------------------------------------
def _run(
    recipe_name: str,
    inputs: list[str],
    out: Path,
    settings: list[str],
    context: Context,
    dry_run: bool = False,
) -> None:
    from astrobench.frames import Frames
    from astrobench.outputs import account, check_folder, run_into
    from astrobench.recipe import Recipe, open_source

    start = time.perf_counter()
    recipe = Recipe.load(recipe_name).with_settings(settings)
    check_folder(out)
    check_folder(context.scratch, "scratch", "--scratch")
    with context.part(0.0, SHARE_OF_READING), context.report.step("input"):
        source = open_source(inputs, context)
    if isinstance(source, Frames):
        _say_before(source, recipe, out, context)
    else:
        _say(context, str(source))
    if dry_run:
        _say(context, "Steps: " + " -> ".join(step.line() for step in recipe.steps), *_told(context))
        return
    with context.part(SHARE_OF_READING, 1.0):
        run_into(out, recipe, source, context, inputs)
    _say(context, *account(context.report, out), f"Done in {time.perf_counter() - start:.1f} s.")


def _say_before(frames: Frames, recipe: Recipe, out: Path, context: Context) -> None:
    """Say what a run will take, and refuse it where that is not there."""
    from astrobench.estimate import estimate

    _say(context, *_groups(frames))
    if not len(frames.used):
        aside = frames.summary()["set_aside"]
        why = f" {aside[0]['path']}, for example, {aside[0]['reason'].rstrip('.')}." if aside else ""
        raise InputError(f"None of the {len(frames)} files is a light frame that can be used.{why}")
    told = estimate(frames, recipe.steps, context, out)
    _say(context, ", ".join(told.lines()))
    told.check()


def _groups(frames: Frames) -> Iterator[str]:
    for row in frames.group_table():
        exposure = f"{row['exposure']:g} s" if row["exposure"] else "unknown exposure"
        what = [row[key] or f"unknown {key}" for key in ("target", "night", "camera")]
        count = f"{row['frames']}" if row["used"] == row["frames"] else f"{row['used']} of {row['frames']}"
        plural = "frame" if row["frames"] == 1 else "frames"
        yield f"{', '.join(what)}, {row['filter'] or 'no filter'}: {count} {plural} of {exposure}"


def _told(context: Context) -> Iterator[str]:
    for fact in context.report.facts:
        yield f"{'! ' if fact.level == 'warning' else '  '}{fact.text}"


def _say(context: Context, *lines: str) -> None:
    """Print lines; the bar makes room for them."""
    if isinstance(context.progress_to, _Bar):
        context.progress_to.clear()
    try:
        for line in lines:
            print(line, flush=True)
    except BrokenPipeError:
        _go_silent()


def _go_silent() -> None:
    """Go on without an output that nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _context(memory: str, workers: int, scratch: Path | None) -> Iterator[Context]:
    """Make a context with progress on the terminal; Ctrl-C asks the running step to stop."""
    values: dict[str, Any] = {}
    if memory:
        values["memory_budget"] = parse_bytes(memory)
    if not 0 <= workers <= MOST_WORKERS:
        raise ParameterError(f"--workers is {workers}; allowed: 0 (all cores) to {MOST_WORKERS}.")
    if workers:
        values["workers"] = workers
    if scratch is not None:
        values["scratch"] = scratch
    context = Context(**values)
    with _stoppable(context), _shown(context):
        yield context


@contextmanager
def _stoppable(context: Context) -> Iterator[None]:
    """Let Ctrl-C and a polite kill ask for a stop, and interrupt what does not answer.

    Work ends at its next check. What does not check in time is interrupted where it is, unless it is tidying
    up already.
    """
    asked = 0.0
    timer = threading.Timer(PATIENCE_SECONDS, _thread.interrupt_main)
    timer.daemon = True

    def interrupt(number: int, frame: Any) -> None:
        nonlocal asked
        if not context.is_stopped:
            asked = time.monotonic()
            context.stop()
            timer.start()
        elif not context.is_ending or time.monotonic() - asked > TIDY_SECONDS:
            context.is_ending = True
            raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # started in the background to stay there
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def parse_bytes(text: str) -> int:
    """Read an amount of memory: ``512M``, ``4G``, ``1.5GB`` or plain bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMGT]?)(?:I?B)?\s*", text, re.IGNORECASE | re.ASCII)
    if not found:
        raise ParameterError(f"--memory is '{text}'; write for example 512M or 4G.")
    amount = float(found[1]) * 2 ** (10 * " KMGT".index(found[2].upper() or " "))
    if not 16 * 2**20 <= amount < 2**60:
        raise ParameterError(f"--memory is '{text}'; allowed: 16M or more.")
    return int(amount)


# --- progress -------------------------------------------------------------------------------------
@contextmanager
def _shown(context: Context) -> Iterator[None]:
    """Show progress: a bar with elapsed and remaining time on a terminal, now and then a line otherwise."""
    if not sys.stderr.isatty():
        context.progress_to = _Lines()
        yield
        return
    bar = _Bar()
    context.progress_to = bar
    try:
        yield
    finally:
        bar.clear()


class _Lines:
    """Plain lines: when the work changes, and every few seconds while it goes on."""

    def __init__(self) -> None:
        self.kind, self.told = "", -1e9

    def __call__(self, fraction: float, text: str) -> None:
        now, kind = time.monotonic(), re.sub(r"[\d.]+", "#", text)
        least, most = PLAIN_SECONDS
        if text and now - self.told > (least if kind != self.kind else most):
            self.kind, self.told = kind, now
            print(f"{100 * fraction:3.0f} % {text}", file=sys.stderr, flush=True)


class _Bar:
    """A bar with elapsed and remaining time that makes room for what is printed."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        share, what = TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.description}", markup=False)
        columns = (BarColumn(), share, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), what)
        self.progress = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.progress.add_task("", total=1.0)

    def __call__(self, fraction: float, text: str) -> None:
        self.progress.start()
        self.progress.update(self.task, completed=fraction, description=text)

    def clear(self) -> None:
        """Take the bar away until there is progress again."""
        self.progress.stop()
