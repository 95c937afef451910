"""What a run leaves: all or nothing, the same bytes every time, and nobody's home in it."""

from __future__ import annotations

import json
import shutil
import zlib

import numpy as np
import pytest
from astropy.io import fits

from astrobench import Context, Frames, Image, InputError, ParameterError, Recipe, outputs, save_image
from astrobench.outputs import account, check_folder, relative, run_into
from astrobench.recipe import open_source
from astrobench.report import Report
from astrobench.simulate import simulate_night

FRAMES = 8


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "small-night"
    if not folder.exists():
        simulate_night(folder, frames=FRAMES, shape=(480, 270))
    return folder


def made(night, folder, *settings, recipe="deep-sky", **context):
    """Run a recipe into a folder; return the result."""
    steps = Recipe.load(recipe).with_settings(settings)
    given = Context(**{"scratch": folder.parent / "scratch", **context})
    return run_into(folder, steps, Frames.scan(night), given, [night])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the same bytes -------------------------------------------------------------------------------
@pytest.mark.parametrize("recipe", ["deep-sky", "quick-look"])
def test_one_recipe_on_one_input_gives_the_same_bytes_however_it_is_run(night, tmp_path, recipe):
    first = made(night, tmp_path / "a", recipe=recipe, workers=1, memory_budget=2**31)
    ways = {
        "cached": {"workers": 2, "memory_budget": 2**26},
        "small": {"workers": 3, "memory_budget": 2**26, "scratch": tmp_path / "other"},
        "tiny": {"workers": 2, "memory_budget": 2**24, "scratch": tmp_path / "third", "use_cache": False},
    }
    for name, way in ways.items():
        again = made(night, tmp_path / name, recipe=recipe, **way)
        assert bool(again.report.find("cached")) == (name == "cached")
        for file in ("master.fits", "result.fits", "result.png"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "a" / file).read_bytes(), (name, file)
    assert not first.report.find("cached")


def test_other_stacking_settings_register_nothing_again(night, tmp_path):
    made(night, tmp_path / "a")
    again = made(night, tmp_path / "b", "stack.rejection=sigma", "stack.combination=median")

    assert again.report.find("cached")
    assert (tmp_path / "a" / "master.fits").read_bytes() != (tmp_path / "b" / "master.fits").read_bytes()


def test_a_damaged_cache_is_made_again_and_changes_nothing(night, tmp_path):
    made(night, tmp_path / "a")
    (samples,) = (tmp_path / "scratch").rglob("samples")
    samples.write_bytes(samples.read_bytes()[:1000])
    again = made(night, tmp_path / "b")

    assert again.report.find("cache damaged")
    assert (tmp_path / "a" / "master.fits").read_bytes() == (tmp_path / "b" / "master.fits").read_bytes()


def test_without_the_cache_nothing_stays_and_the_cube_lives_as_long_as_it_is_held(night, tmp_path):
    result = made(night, tmp_path / "a", use_cache=False)

    assert np.isfinite(result.cube.plane(0, 0)).any()
    assert "cube" not in json.loads((tmp_path / "a" / "report.json").read_text())
    del result
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []


# --- all or nothing -------------------------------------------------------------------------------
def test_a_run_that_fails_at_the_end_leaves_the_earlier_result_alone(night, tmp_path, monkeypatch):
    made(night, tmp_path / "out")
    before = contents(tmp_path / "out")

    def full(*_, **__):
        raise InputError("the disk is full")

    monkeypatch.setattr(outputs, "save_image", full)
    with pytest.raises(InputError, match="full"):
        made(night, tmp_path / "out", "stack.rejection=none")
    assert contents(tmp_path / "out") == before
    with pytest.raises(InputError, match="full"):
        made(night, tmp_path / "new" / "out", scratch=tmp_path / "scratch")
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_replaced_is_named(night, tmp_path):
    (tmp_path / "out" / "result.png").mkdir(parents=True)

    with pytest.raises(InputError, match=r"result\.png"):
        made(night, tmp_path / "out", recipe="linear-for-other-tools")


def test_a_folder_is_judged_without_being_made(tmp_path):
    (tmp_path / "file").write_text("")

    check_folder(tmp_path / "a" / "b" / "c")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="-o"):
            check_folder(bad)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(night, tmp_path):
    with pytest.raises(InputError, match="output folder"):
        made(night, tmp_path / ("x" * 5000))


def test_results_may_lie_beside_the_subs_but_not_on_them(night, tmp_path):
    folder = tmp_path / "night"
    shutil.copytree(next(night.glob("*_sub")), folder)
    first = next(folder.glob("*.fit"))
    made(folder, folder, recipe="linear-for-other-tools")
    assert made(folder, folder, recipe="linear-for-other-tools").report.frames["total"] == FRAMES
    first.rename(folder / "result.fits")

    with pytest.raises(ParameterError, match="lies in the output folder"):
        made(folder, folder, recipe="linear-for-other-tools")


# --- the account ----------------------------------------------------------------------------------
def test_the_report_names_inputs_from_the_output_folder_and_nobodys_home(night, tmp_path):
    result = made(night, tmp_path / "out")
    text = (tmp_path / "out" / "report.json").read_text()
    report = json.loads(text)

    assert (tmp_path / "out" / report["inputs"][0]).resolve() == night.resolve()
    assert str(tmp_path) not in text
    assert ".astrobench-" not in text
    assert report["files"] == ["master.fits", "report.json", "result.fits", "result.png"]
    assert set(contents(tmp_path / "out")) == set(report["files"])
    assert len(result.report.steps) == len(report["steps"])


def test_many_frames_set_aside_are_counted_in_the_end(tmp_path):
    report = Report()
    aside = [{"path": f"{k}.fit", "reason": "is clouded"} for k in range(40)]
    report.frames = {"total": 50, "used": 10, "set_aside": aside}
    report.groups = [{"seconds": 100.0}]
    report.run["files"] = ["result.png"]

    lines = account(report, tmp_path)

    assert lines[0] == "10 of 50 frames are in the picture, 1 min 40 s of light."
    assert lines[1] == "  set aside: 0.fit is clouded"
    assert "28 more" in lines[13]
    assert len(lines) == 15


def test_a_path_is_told_from_the_output_folder(tmp_path):
    assert relative(tmp_path / "a", tmp_path / "b") == "../a"


def test_a_file_name_that_is_no_text_is_still_reported(night, tmp_path):
    folder = tmp_path / "night"
    shutil.copytree(next(night.glob("*_sub")), folder)
    try:
        shutil.copy(next(folder.glob("*.fit")), folder / "M31_\udcff.fit")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text alone")
    (folder / "odd_\udcfe.fit").write_text("clear skies")

    made(folder, tmp_path / "out", 'export.formats=["fits"]', recipe="linear-for-other-tools")

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert any("odd_" in each["path"] for each in report["frames"]["set_aside"])


# --- privacy --------------------------------------------------------------------------------------
SECRETS = ("31.95", "111.59", "51a7f00d", "Max Mustermann", "SN-4711", "47.1234")


@pytest.fixture(scope="module")
def told_on(night, tmp_path_factory):
    """Folder of subs whose headers tell where, who and which unit."""
    folder = tmp_path_factory.mktemp("private") / "subs"
    shutil.copytree(next(night.glob("*_sub")), folder)
    for path in folder.glob("*.fit"):
        with fits.open(path, mode="update") as hdus:
            header = hdus[0].header
            header["OBSERVER"], header["SERIALNO"], header["OBSGEO-B"] = "Max Mustermann", "SN-4711", 47.1234
            header.add_history("site latitude 31.9583")
            header.add_comment("taken by Max Mustermann")
    return folder


def readable(path):
    """Return the bytes of a file, with what is packed in it unpacked."""
    raw = path.read_bytes()
    parts, at = [raw], 8
    while path.suffix == ".png" and at < len(raw):
        size = int.from_bytes(raw[at : at + 4])
        body, kind = raw[at + 8 : at + 8 + size], raw[at + 4 : at + 8]
        if kind in (b"zTXt", b"iTXt", b"eXIf", b"iCCP"):
            for start in range(len(body)):
                if body[start : start + 1] == b"\x78":
                    try:
                        parts.append(zlib.decompress(body[start:]))
                    except zlib.error:
                        continue
        at += 12 + size
    return b"\n".join(parts)


def test_no_output_tells_where_who_or_which_unit(told_on, tmp_path):
    formats = 'export.formats=["fits","tiff","png","jpeg"]'
    made(told_on, tmp_path / "private", formats)

    files = sorted((tmp_path / "private").iterdir())
    assert {path.suffix for path in files} == {".fits", ".tif", ".png", ".jpg", ".json"}
    found = [(path.name, s) for path in files for s in SECRETS if s.encode() in readable(path)]
    assert found == []


@pytest.fixture
def finished(told_on, tmp_path):
    """Finish a stack of another program that tells on its owner; return the files that are written."""
    stack = tmp_path / "stack.fits"
    with fits.open(next(told_on.glob("*.fit"))) as hdus:
        header = hdus[0].header
        header["STACKCNT"], header["IMAGETYP"] = 20, "Stack"
        del header["BAYERPAT"]
        data = np.random.default_rng(1).normal(1000, 5, (3, 480, 270)).astype(np.float32)
        fits.PrimaryHDU(data, header).writeto(stack, output_verify="silentfix")

    def finish(formats, **settings):
        context = Context(scratch=tmp_path / "s", **settings)
        recipe = Recipe.from_toml(f'[[step]]\ndo = "stretch"\n[[step]]\ndo = "export"\nformats = {formats}')
        run_into(tmp_path / "out", recipe, open_source(stack, context), context, [stack])
        return sorted((tmp_path / "out").iterdir())

    return finish


def test_a_stack_of_another_program_gives_nothing_away_in_fits_and_report(finished):
    files = finished(["fits"])

    assert [s for path in files for s in SECRETS if s.encode() in readable(path)] == []


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_a_stack_of_another_program_gives_nothing_away_in_pictures(finished, kind):
    files = finished([kind])

    assert [s for path in files for s in SECRETS if s.encode() in readable(path)] == []


def test_the_site_is_kept_where_that_is_asked_for(finished):
    (picture,) = (path for path in finished(["fits"], private=False) if path.suffix == ".fits")

    assert b"31.9583" in picture.read_bytes()
    assert b"51a7f00d" in picture.read_bytes()


def test_a_picture_saved_by_itself_gives_nothing_away(told_on, tmp_path):
    header = fits.getheader(next(told_on.glob("*.fit")))
    image = Image(np.zeros((1, 8, 8), np.float32), header=header)

    save_image(image, tmp_path / "a.fits")

    assert [s for s in SECRETS if s.encode() in (tmp_path / "a.fits").read_bytes()] == []
