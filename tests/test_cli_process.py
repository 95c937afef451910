"""Ctrl-C, a polite kill, a terminal and a reader that has gone: the command line as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from astrobench.simulate import simulate_night

LINES_AT_ONCE = (
    "import astrobench.cli as c; c.PLAIN_SECONDS = (0.0, 0.0); c.main()"  # every line of progress, undelayed
)
STOP_SECONDS = 1.0
NOISE_SECONDS = 1.5  # what a shared machine may add

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals and terminals are those of POSIX")


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """Folder of a small simulated night, the same for every test of the session."""
    folder = tmp_path_factory.getbasetemp() / "small-night"
    if not folder.exists():
        simulate_night(folder, frames=8, shape=(480, 270))
    return folder


def start(words, **named):
    """Start the command line with Ctrl-C as a shell gives it to a program in front."""
    return subprocess.Popen(
        [sys.executable, "-c", LINES_AT_ONCE, *map(str, words)],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **named,
    )


@needs_posix
@pytest.mark.parametrize(
    "moment", ["reading headers", "measuring", "registering", "measuring levels", "writing fits"]
)
def test_ctrl_c_stops_within_a_second_and_leaves_everything_as_it_was(night, tmp_path, moment):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    for name in ("master.fits", "result.fits", "result.png", "report.json"):
        (out / name).write_text("an earlier result")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    words = ("run", "deep-sky", night, "-o", out, "--scratch", scratch, "--set", "stack.low=5")

    with start(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if moment in line:
                break
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        process.wait()
    seconds = time.monotonic() - asked

    assert process.returncode == 130
    assert seconds < STOP_SECONDS + NOISE_SECONDS
    assert "Stopped" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    left = [path for path in scratch.rglob("*") if path.name.startswith(".") or path.name.endswith(".part")]
    assert left == []


@needs_posix
def test_a_stopped_run_leaves_no_new_folder(night, tmp_path):
    words = (
        "run",
        "deep-sky",
        night,
        "-o",
        tmp_path / "new" / "out",
        "--no-cache",
        "--scratch",
        tmp_path / "s",
    )
    with start(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "measuring levels" in line:
                break
        process.terminate()  # what a batch host sends
        process.stderr.read()

    assert process.returncode == 130
    assert not (tmp_path / "new").exists()
    assert [path for path in (tmp_path / "s").rglob("*") if path.is_file()] == []


@needs_posix
def test_a_terminal_shows_a_bar_and_stdout_stays_clean(night, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    seen = bytearray()

    def watch():
        while True:
            try:
                seen.extend(os.read(ours, 4096))
            except OSError:
                return

    reader = threading.Thread(target=watch, daemon=True)
    reader.start()
    words = ("run", "quick-look", night, "-o", tmp_path / "out")
    with start(
        words, stdout=subprocess.PIPE, stderr=theirs, text=True, env={**os.environ, "TERM": "xterm"}
    ) as process:
        said = process.stdout.read()
    os.close(theirs)
    reader.join(5)
    bar = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode(errors="replace"))

    assert process.returncode == 0
    assert re.search(r"\d+ % +\d+:\d\d:\d\d +left", bar)
    assert "\x1b" not in said
    assert "frames are in the picture" in said


@needs_posix
@pytest.mark.parametrize("command", ["steps", "run"])
def test_a_reader_that_has_seen_enough_is_no_error_and_the_work_goes_on(night, tmp_path, command):
    words = ("run", "quick-look", night, "-o", tmp_path / "out") if command == "run" else ("steps",)
    with start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        err = process.stderr.read()

    assert "Error" not in err
    assert process.returncode == 0
    assert (tmp_path / "out" / "result.png").exists() == (command == "run")
