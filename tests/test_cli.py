"""The command line as people type it: right, wrong and in anger."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

import astrobench
from astrobench import Image, ParameterError, Recipe, cli, save_image
from astrobench.simulate import simulate_night

FRAMES = 8
RESULTS = {"master.fits", "result.fits", "result.png", "report.json"}
MAPS = {"VARIANCE", "COVERAGE", "WEIGHT", "REJECT_LOW", "REJECT_HIGH"}


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    """Folder of a small simulated night, the same for every test of the session."""
    folder = tmp_path_factory.getbasetemp() / "small-night"
    if not folder.exists():
        simulate_night(folder, frames=FRAMES, shape=(480, 270))
    return folder


@pytest.fixture
def typed(monkeypatch, capsys):
    """Run a command line in this process; return its exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["astrobench", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def finished(night, tmp_path_factory):
    """Output folder of a finished deep-sky run."""
    out = tmp_path_factory.mktemp("finished") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "astrobench", "run", "deep-sky", night, "-o", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (out / "said").write_text(done.stdout)
    (out / "progress").write_text(done.stderr)
    return out


def report_of(out):
    return json.loads((out / "report.json").read_text())


def codes(out):
    return [fact["code"] for step in report_of(out)["steps"] for fact in step["facts"]]


# --- what a run gives -----------------------------------------------------------------------------
def test_a_run_writes_the_files_and_names_that_others_rely_on(finished):
    report = report_of(finished)

    assert {path.name for path in finished.iterdir()} - {"said", "progress"} == RESULTS
    with fits.open(finished / "master.fits") as hdus:
        assert {hdu.name for hdu in hdus} >= MAPS
    assert report["frames"]["total"] == FRAMES
    assert report["frames"]["used"] == FRAMES - len(report["frames"]["set_aside"])
    assert all(set(each) == {"path", "reason"} for each in report["frames"]["set_aside"])
    assert all({"name", "seconds", "facts"} <= set(step) for step in report["steps"])
    assert sum(group["used"] for group in report["groups"]) == report["frames"]["used"]
    assert (finished / report["inputs"][0]).is_dir()


def test_a_run_says_what_became_of_the_night(finished):
    said = (finished / "said").read_text()
    used = report_of(finished)["frames"]["used"]

    assert f"{used} of {FRAMES} frames are in the picture" in said
    assert all(str(finished / name) in said for name in RESULTS)
    assert len(said.splitlines()) < 25
    assert max(map(len, (finished / "progress").read_text().splitlines())) < 100


def test_plain_progress_is_lines_with_a_share_that_never_falls(finished):
    shares = [int(line[:3]) for line in (finished / "progress").read_text().splitlines()]

    assert shares == sorted(shares)
    assert all(0 <= share <= 100 for share in shares)


def test_explain_answers_for_a_run_and_for_a_pixel_of_a_sub(finished, typed):
    name = first_frame(finished)

    code, out, _ = typed("explain", finished, 100, 200, "--frame", name)
    assert code == 0
    assert f"That pixel of {name}" in out
    assert "red" in out
    assert "kept" in out
    code, out, _ = typed("explain", finished, 100, 200, "--json")
    assert code == 0
    assert json.loads(out)["x"] == 100


def first_frame(out):
    return next(iter(Recipe.load(out / "master.fits").made_with["inputs"]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-5", "3"), "outside the stack"),
        (("1e12", "3"), "outside the stack"),
        (("nan", "3"), "no pixel"),
        (("inf", "3"), "no pixel"),
        (("1", "2", "--frame", "nobody"), "not among the frames"),
        (("1", "2", "--frame", "Light"), "fits"),
    ],
)
def test_a_pixel_that_is_none_is_refused(finished, typed, words, sentence):
    code, _, err = typed("explain", finished, *words)

    assert code == 2
    assert sentence in err


def test_explain_without_the_cache_says_that_it_registered_again(finished, typed, tmp_path):
    code, out, _ = typed("explain", finished, 100, 200, "--scratch", tmp_path)

    assert code == 0
    assert "no longer in the cache" in out


def test_explain_of_a_folder_without_a_run_is_refused(typed, tmp_path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "report.json").write_text('{"inputs": 3')

    for folder, sentence in (("nowhere", "does not exist"), (".", "holds no run"), ("damaged", "is damaged")):
        code, _, err = typed("explain", tmp_path / folder, 1, 1)
        assert code == 3
        assert sentence in err


# --- what may be given ----------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2])
def test_a_single_sub_and_two_subs_make_a_picture(night, typed, tmp_path, count):
    subs = sorted(night.glob("*_sub/*.fit"))[1 : 1 + count]

    code, out, err = typed("run", "deep-sky", *subs, "-o", tmp_path / "out")

    assert code == 0, err
    assert f"{count} of {count} frames" in out
    assert report_of(tmp_path / "out")["frames"] == {"total": count, "used": count, "set_aside": []}


def test_paths_with_blanks_and_other_alphabets_are_ordinary(night, typed, tmp_path):
    folder = tmp_path / "Nächte 夜 [1] 100%" / "M 31_sub"
    folder.parent.mkdir()
    shutil.copytree(next(night.glob("*_sub")), folder)

    code, _, err = typed("run", "quick-look", folder.parent, "-o", folder.parent / "Bild {0}")

    assert code == 0, err
    assert (folder.parent / "Bild {0}" / "result.png").exists()


@pytest.mark.parametrize("suffix", ["fits", "tif"])
def test_a_stacked_picture_is_finished_and_the_steps_before_are_skipped(finished, typed, tmp_path, suffix):
    picture = finished / "master.fits"
    if suffix == "tif":
        picture = tmp_path / "stack.tif"
        save_image(astrobench.open_image(finished / "master.fits"), picture)

    code, out, err = typed("run", "deep-sky", picture, "-o", tmp_path / "out")

    assert code == 0, err
    assert "already a stacked picture: debayer, measure, grade, register, stack skipped" in out
    assert codes(tmp_path / "out").count("skipped") == 5
    assert "stretch.asinh" in codes(tmp_path / "out")
    assert report_of(tmp_path / "out")["frames"] == {"total": 0, "used": 0, "set_aside": []}
    assert not (tmp_path / "out" / "master.fits").exists()
    code, _, err = typed("explain", tmp_path / "out", 3, 3)
    assert code == 3
    assert "began with a stacked picture" in err


def test_a_picture_repeats_the_recipe_that_made_it(finished, night, typed, tmp_path):
    code, out, err = typed("run", finished / "result.fits", night, "-o", tmp_path / "again")

    assert code == 0, err
    assert "on the same" in out
    for name in ("master.fits", "result.fits"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()


def test_a_recipe_from_a_picture_says_when_the_frames_differ(finished, night, typed, tmp_path):
    used = first_frame(finished)
    subs = [path for path in sorted(night.glob("*_sub/*.fit")) if path.name != used]

    code, out, _ = typed("run", finished / "result.fits", *subs, "-o", tmp_path / "again")

    assert code == 0
    assert re.search(r"comes from a picture of \d+ frames", out)


def test_settings_reach_the_step_and_the_stored_recipe(night, typed, tmp_path):
    code, _, err = typed(
        "run", "linear-for-other-tools", night, "-o", tmp_path, "--set", "stack.rejection=sigma",
        "--set", "stack.low = 4", "--set", 'export.formats=["fits"]',
    )  # fmt: skip

    assert code == 0, err
    stack = next(step for step in Recipe.load(tmp_path / "master.fits").steps if step.name() == "stack")
    assert (stack.rejection, stack.low) == ("sigma", 4.0)
    assert not (tmp_path / "result.png").exists()


# --- typed in anger -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ("runn deep-sky {night}", 2, "Did you mean 'run'"),
        ("run", 2, "recipe"),
        ("run deep-sky", 2, "inputs"),
        ("run deep-sky {night} --wrokers 2", 2, "--workers"),
        ("run deep-sky {night} --workers -1", 2, "allowed: 0 (all cores) to 256"),
        ("run deep-sky {night} --workers 1000000", 2, "allowed: 0"),
        ("run deep-sky {night} --workers two", 2, "--workers"),
        ("run deep-sky {night} --memory lots", 2, "512M"),
        ("run deep-sky {night} --memory -1G", 2, "512M"),
        ("run deep-sky {night} --memory nan", 2, "512M"),
        ("run deep-sky {night} --memory 1M", 2, "16M or more"),
        ("run deep-sky {night} --memory 9999999999999T", 2, "16M or more"),
        ("run deep-sky {night} --scratch {file}", 3, "is no folder"),
        ("run deep-sky {night} --scratch {file}/below", 3, "scratch folder"),
        ("run deep-sky {night} -o {file}", 3, "is no folder"),
        ("run deep-sky {night} -o {file}/below", 3, "is no folder"),
        ("run deep-sky {night} -o {dangling}", 3, "output folder"),
        ("run deep-sky {night} --set stack", 2, "step.parameter=value"),
        ("run deep-sky {night} --set stack.lwo=3", 2, "Did you mean low"),
        ("run deep-sky {night} --set stack.low=-3", 2, "0 to 1000"),
        ("run deep-sky {night} --set blur.size=3", 2, "no step 'blur'"),
        ("run deep-sky {night} --set register.reference=nobody", 2, "nobody"),
        ("run depp-sky {night}", 3, "deep-sky"),
        ("run {file} {night}", 3, "FITS"),
        ("run {night} {night}", 3, "neither a preset"),
        ("run {toml} {night}", 2, "not valid TOML"),
        ("run {wrong} {night}", 2, "stretch.target"),
        ("run deep-sky {tmp}/missing", 3, "does not exist"),
        ("run deep-sky {tmp}/*.fit", 3, "does not exist"),
        ("run deep-sky {empty}", 3, "no FITS file"),
        ("run deep-sky {texts}", 3, "None of the 1 files"),
        ("run deep-sky {file}", 3, "notes.txt"),
        ("run deep-sky {broken}", 3, "broken.tif"),
        ("scan {tmp}/missing", 3, "does not exist"),
        ("scan {empty}", 3, "no FITS file"),
        ("show {tmp}/missing.fits", 3, "missing.fits"),
        ("show {empty}", 3, "folder"),
        ("show {file}", 3, "notes.txt"),
        ("simulate {file}", 3, "notes.txt"),
        ("simulate {tmp}/night --frames 0", 2, "--frames"),
        ("simulate {tmp}/night --frames many", 2, "--frames"),
        ("simulate {tmp}/night --seed -1", 2, "--seed"),
        ("demo -o {file} --frames 6", 3, "is no folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(typed, night, tmp_path, words, code, sentence):
    (tmp_path / "notes.txt").write_text("clear skies")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "sub.fit").write_text("clear skies")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.tif").write_bytes(b"II*\0" + bytes(range(200)))
    (tmp_path / "recipe.toml").write_text("[[step]\ndo = 'stack'")
    (tmp_path / "wrong.toml").write_text("[[step]]\ndo = 'stretch'\ntarget = 'bright'")
    places = {
        "night": night, "tmp": tmp_path, "file": tmp_path / "notes.txt", "empty": tmp_path / "empty",
        "texts": tmp_path / "texts", "broken": tmp_path / "broken.tif", "toml": tmp_path / "recipe.toml",
        "wrong": tmp_path / "wrong.toml", "dangling": tmp_path / "dangling",
    }  # fmt: skip
    arguments = [word.format(**places) for word in words.split()]
    if arguments[0] == "run" and "-o" not in arguments:
        arguments += ["-o", str(tmp_path / "out")]

    ended, _, err = typed(*arguments)

    told = [line for line in err.splitlines() if not re.match(r"\s*\d+ % ", line)]
    assert (ended, len(told)) == (code, 1), err
    assert sentence in told[0]
    assert "unexpected" not in told[0]
    assert told[0].endswith((".", "?"))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may write anywhere"
)
def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(typed, night, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)

    code, _, err = typed("run", "deep-sky", night, "-o", tmp_path / "locked" / "out")

    assert code == 3
    assert "cannot be written to" in err


def test_a_run_never_overwrites_its_own_input(finished, typed):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}

    code, _, err = typed("run", "deep-sky", finished / "master.fits", "-o", finished)

    assert code == 2
    assert "lies in the output folder" in err
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_defect_of_ours_is_called_one_and_shows_no_traceback(typed, monkeypatch):
    monkeypatch.setattr("astrobench.doctor.examine", lambda: 1 / 0)

    code, _, err = typed("doctor")

    assert code == 4
    assert "defect of astrobench" in err
    assert "Traceback" not in err


def test_too_little_memory_is_said_with_what_helps(typed, night, tmp_path, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr("astrobench.steps.stack.stacking_plan", no_memory)

    code, _, err = typed("run", "deep-sky", night, "-o", tmp_path / "out")

    assert code == 4
    assert "--memory" in err


# --- the other commands ---------------------------------------------------------------------------
def test_a_dry_run_tells_everything_and_does_nothing(night, typed, tmp_path):
    code, out, _ = typed(
        "run", "deep-sky", night, "-o", tmp_path / "out", "--dry-run", "--scratch", tmp_path / "s"
    )

    assert code == 0
    for word in (
        f"{FRAMES} frames",
        "about",
        "of scratch",
        "of memory",
        "of results",
        "Debayer() -> Measure()",
    ):
        assert word in out
    assert list(tmp_path.iterdir()) == []


def test_scan_tells_groups_in_words_and_as_json(night, typed):
    code, out, _ = typed("scan", night)
    assert code == 0
    assert "Sim 1, 2025-03-19, Seestar S50, IRCUT: 8 frames of 10 s" in out
    code, out, _ = typed("scan", night, "--json")
    told = json.loads(out)
    assert told["frames"]["total"] == FRAMES
    assert told["groups"][0]["used"] == FRAMES
    assert any(fact["code"] == "header.equinox" for fact in told["facts"])


def test_show_tells_the_levels_and_gives_back_the_recipe(finished, typed, tmp_path):
    code, out, _ = typed("show", finished / "master.fits", "--png", tmp_path / "a.png")
    assert code == 0
    assert "median" in out
    assert "Stack()" in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = typed("show", finished / "result.fits", "--recipe")
    assert code == 0
    assert Recipe.from_toml(out).steps[0].name() == "debayer"


def test_show_of_a_picture_without_data_is_no_accident(typed, tmp_path):
    save_image(Image(np.full((1, 64, 64), np.nan, np.float32)), tmp_path / "nothing.fits")

    code, out, err = typed("show", tmp_path / "nothing.fits", "--png", tmp_path / "missing" / "a.png")

    assert (code, err) == (0, "")
    assert "median nan" in out


def test_steps_lists_every_step_and_parameter(typed):
    code, out, _ = typed("steps")

    assert code == 0
    for name, step in astrobench.STEPS.items():
        assert name in out
        assert all(parameter in out for parameter in step.model_fields)


def test_doctor_tells_machine_and_versions(typed, monkeypatch):
    monkeypatch.setattr("astrobench.doctor.warm_up", lambda: None)

    code, out, _ = typed("doctor")

    assert code == 0
    for word in ("astrobench", "numba", "cores", "memory", "scratch", "kernels ready"):
        assert word in out


def test_simulate_and_demo_say_where_everything_lies(typed, tmp_path, monkeypatch):
    import astrobench.simulate as simulate

    def small(*arguments, **named):
        return simulate_night(*arguments, **{**named, "shape": (480, 270)})

    monkeypatch.setattr(simulate, "simulate_night", small)
    code, out, err = typed("demo", "-o", tmp_path / "demo", "--frames", 6)
    assert code == 0, err
    assert "result.png" in out
    assert "From nothing to the picture" in out
    code, out, _ = typed("simulate", tmp_path / "night", "--frames", 1)
    assert code == 0
    assert len(list((tmp_path / "night").glob("*_sub/*.fit"))) == 1


@given(st.text(st.sampled_from("0123456789.eE+-_KMGTIB inf"), max_size=8))
def test_any_amount_of_memory_is_read_or_refused(text):
    try:
        amount = cli.parse_bytes(text)
    except ParameterError:
        return
    assert 2**24 <= amount < 2**60


@pytest.mark.parametrize(
    ("text", "amount"), [("512M", 2**29), ("4g", 2**32), ("1.5GiB", 3 * 2**29), (" 33554432 ", 2**25)]
)
def test_amounts_of_memory_are_read_as_people_write_them(text, amount):
    assert cli.parse_bytes(text) == amount
