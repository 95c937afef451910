"""A run over a folder of good subs and of everything that should not be there."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from astrobench import cli
from astrobench.simulate import simulate_night

GOOD = 20
LONGEST = 5.0  # seconds that all the damaged files together may add
SHAPE = (480, 270)


@pytest.fixture(scope="module")
def subs(tmp_path_factory):
    """Paths of twenty good small subs."""
    night = simulate_night(
        tmp_path_factory.mktemp("hostile") / "n", frames=GOOD, shape=SHAPE, faults=False, dither=4
    )
    return sorted(night.paths)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the linear recipe in this process; return exit code, stdout, stderr and seconds."""

    def go(folder, out, *words):
        line = [
            "astrobench",
            "run",
            "linear-for-other-tools",
            folder,
            "-o",
            out,
            "--set",
            'export.formats=["fits"]',
        ]
        monkeypatch.setattr(sys, "argv", [*map(str, line), *map(str, words)])
        start = time.perf_counter()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        seconds = time.perf_counter() - start
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err, seconds

    return go


def copied(subs, folder):
    folder.mkdir(parents=True)
    for path in subs:
        shutil.copy(path, folder)
    return folder


def with_header(good, **cards):
    """Return the bytes of a sub whose cards lie."""
    text = good[: 2880 * 2]
    for key, value in cards.items():
        at = text.index(f"{key:<8}=".encode())
        card = f"{key:<8}= {value:>20}".ljust(80).encode()
        text = text[:at] + card + text[at + 80 :]
    return text + good[2880 * 2 :]


def with_pixels(path, pixels):
    """Return the bytes of a sub that shows these pixels instead."""
    import io

    stream = io.BytesIO()
    with fits.open(path) as hdus:
        header = hdus[0].header.copy()
    for key in ("BZERO", "BSCALE"):
        if np.asarray(pixels).dtype.kind == "f":
            header.remove(key, ignore_missing=True)
    fits.PrimaryHDU(pixels, header).writeto(stream, output_verify="silentfix")
    return stream.getvalue()


def damaged(subs):
    """Yield (name, bytes) of many files that should not be stacked."""
    good = subs[3].read_bytes()
    random = np.random.default_rng(7)
    for number, share in enumerate((0.0, 0.01, 0.2, 0.5, 0.9, 0.999)):
        yield f"cut {number}.fit", good[: int(share * len(good))]
    for number in range(20):
        header = bytearray(good[:5760])
        for place in random.integers(0, 5760, 40):
            header[place] ^= 1 << random.integers(0, 8)
        yield f"flipped {number}.fit", bytes(header)
    lies = {
        "huge": {"NAXIS1": 100_000, "NAXIS2": 100_000}, "beyond": {"NAXIS1": 10**18},
        "negative": {"NAXIS1": -270},
        "zero": {"NAXIS2": 0}, "axes": {"NAXIS": 999}, "bits": {"BITPIX": 17}, "wide": {"BITPIX": -64},
        "line": {"NAXIS1": 129_600, "NAXIS2": 1}, "turned": {"NAXIS1": 480, "NAXIS2": 270},
        "other size": {"NAXIS1": 200, "NAXIS2": 200},
    }  # fmt: skip
    for name, cards in lies.items():
        yield f"lie {name}.fit", with_header(good, **cards)
    yield "text.fit", b"clear skies\n" * 500
    yield "empty.fit", b""
    yield "zeros.fit", bytes(len(good))
    yield "noise.fits", random.bytes(10_000)
    yield "picture.fit", b"\x89PNG\r\n\x1a\n" + random.bytes(5000)
    yield "packed.fit.gz", b"\x1f\x8b" + random.bytes(3000)
    yield "nan.fit", with_pixels(subs[3], np.full(SHAPE, np.nan, np.float32))
    yield "infinite.fit", with_pixels(subs[3], np.full(SHAPE, np.inf, np.float32))
    yield "constant.fit", with_pixels(subs[3], np.full(SHAPE, 1000, np.uint16))
    yield "black.fit", with_pixels(subs[3], np.zeros(SHAPE, np.uint16))
    yield "saturated.fit", with_pixels(subs[3], np.full(SHAPE, 65535, np.uint16))
    yield "sky only.fit", with_pixels(subs[3], random.normal(1000, 80, SHAPE).astype(np.uint16))
    yield "cube.fit", with_pixels(subs[3], np.zeros((5, 8, 8), np.uint16))


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.is_symlink()}


def test_damaged_files_and_other_things_leave_the_stack_of_the_good_ones(subs, run, tmp_path, monkeypatch):
    plain, hostile = copied(subs, tmp_path / "plain"), copied(subs, tmp_path / "hostile" / "night")
    bad = dict(damaged(subs))
    for name, content in bad.items():
        (hostile / name).write_bytes(content)
    (hostile / "folder.fit").mkdir()
    (hostile / "notes.txt").write_text("clear skies")
    if hasattr(os, "symlink"):
        (hostile / "loop.fit").symlink_to(hostile / "loop.fit")
        (hostile / "round").symlink_to(hostile)
        (hostile / "nowhere.fit").symlink_to(tmp_path / "nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(hostile / "pipe.fit")
    monkeypatch.chdir(tmp_path / "hostile")
    scratch = tmp_path / "scratch"
    run(plain, tmp_path / "warm", "--scratch", tmp_path / "other")  # whatever is compiled at first use
    before = tree(tmp_path / "hostile")

    code, out, err, seconds = run(plain, tmp_path / "one", "--scratch", scratch, "--no-cache")
    assert code == 0, err
    code, out, err, more = run("night", tmp_path / "two", "--scratch", scratch, "--no-cache")

    assert code == 0, err
    assert "Traceback" not in err + out
    assert more < seconds + LONGEST
    report = json.loads((tmp_path / "two" / "report.json").read_text())
    aside = {Path(each["path"]).name: each["reason"] for each in report["frames"]["set_aside"]}
    assert report["frames"]["used"] == GOOD
    assert all(reason.strip() for reason in aside.values())
    assert {name for name in bad if name not in aside} <= {"cube.fit"}
    assert (tmp_path / "one" / "master.fits").read_bytes() == (tmp_path / "two" / "master.fits").read_bytes()
    assert tree(tmp_path / "hostile") == before
    assert [path for path in scratch.rglob("*") if path.is_file()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "hostile", "one", "other", "plain", "scratch", "two", "warm",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("cut", lambda path: path.write_bytes(path.read_bytes()[:-5000])),
        ("constant", lambda path: path.write_bytes(with_pixels(path, np.full(SHAPE, 900, np.uint16)))),
        ("text", lambda path: path.write_text("clear skies")),
        ("starless", lambda path: path.write_bytes(
            with_pixels(path, np.random.default_rng(3).normal(1000, 80, SHAPE).astype(np.uint16)))),
    ],
)  # fmt: skip
def test_one_bad_sub_among_twenty_leaves_the_stack_of_the_other_nineteen(subs, run, tmp_path, name, spoil):
    twenty, nineteen = copied(subs, tmp_path / "twenty"), copied(subs, tmp_path / "nineteen")
    spoil(twenty / subs[11].name)
    (nineteen / subs[11].name).unlink()

    code, out, err, _ = run(twenty, tmp_path / "a")
    assert code == 0, err
    assert run(nineteen, tmp_path / "b")[0] == 0

    assert f"{GOOD - 1} of {GOOD} frames are in the picture" in out
    assert f"set aside: {subs[11].name}" in out
    for file in ("master.fits", "result.fits"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_of_nothing_but_damaged_files_is_refused_in_a_sentence(subs, run, tmp_path):
    folder = copied([], tmp_path / "night")
    for name, content in damaged(subs):
        if not name.startswith("sky"):
            (folder / name).write_bytes(content)

    code, _, err, seconds = run(folder, tmp_path / "out")

    assert code in (3, 4)
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert seconds < LONGEST
    assert not (tmp_path / "out").exists()
