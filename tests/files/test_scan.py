"""A scan finds the lights, keeps apart what must not be mixed, and accounts for all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from astrobench.context import Context
from astrobench.errors import InputError
from astrobench.frames import Frame, Frames, check_pixels

WriteNight = Callable[..., list[Path]]
WriteSub = Callable[..., Path]


def scan(source: Any, **options: Any) -> tuple[Frames, Context]:
    context = Context()
    return Frames.scan(source, context=context, **options), context


def reasons(frames: Frames) -> dict[str, str]:
    return {frame.name: frame.reason for frame in frames if not frame.use}


# --- finding --------------------------------------------------------------------------------------
def test_a_folder_of_subs_is_used_whole(write_night: WriteNight, tmp_path: Path) -> None:
    paths = write_night(5)

    frames, context = scan(tmp_path)

    assert [frame.path for frame in frames] == paths
    assert frames.summary() == {"total": 5, "used": 5, "set_aside": []}
    assert frames[0].night == "2025-03-26"
    assert frames[0].group == "Seestar S50, 2025-03-26, M 94, IRCUT, 10 s, gain 80"
    assert context.report.find("found")[0].numbers["used"] == 5


def test_folder_list_and_glob_mean_the_same_frames(write_night: WriteNight, tmp_path: Path) -> None:
    paths = write_night(3)
    folder = paths[0].parent

    by_folder = Frames.scan(folder)

    assert Frames.scan(paths) == by_folder
    assert Frames.scan(str(folder / "*.fit")) == by_folder
    assert Frames.scan([folder, *paths, str(folder / "Light*")]) == by_folder


def test_frames_come_in_the_order_of_time_whatever_the_order_of_the_input(write_night: WriteNight) -> None:
    paths = write_night(12)

    assert [frame.path for frame in Frames.scan(paths[::-1])] == paths


def test_other_files_and_earlier_results_are_passed_by(write_night: WriteNight, tmp_path: Path) -> None:
    folder = write_night(2)[0].parent
    (folder / "Light_M 94_thn.jpg").write_bytes(b"jpg")
    for name in ("out", ".hidden", "truth"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.fits").write_bytes((folder / next(iter(os.listdir(folder)))).read_bytes())
    (tmp_path / "out" / "report.json").write_text("{}")

    frames, context = scan(tmp_path)

    assert len(frames) == 2
    assert context.report.find("found")[0].numbers["ignored"] == 1
    assert context.report.find("outputs")


def test_links_and_loops_count_every_file_once(write_night: WriteNight, tmp_path: Path) -> None:
    folder = write_night(2)[0].parent
    (folder / "again").symlink_to(folder)
    (tmp_path / "up").symlink_to(tmp_path)
    for path in list(folder.glob("*.fit")):
        (tmp_path / f"link_{path.name}").symlink_to(path)

    assert len(Frames.scan(tmp_path)) == 2


def test_a_copy_in_another_folder_is_set_aside(write_night: WriteNight, tmp_path: Path) -> None:
    paths = write_night(2)
    copy = tmp_path / "copies" / paths[0].name
    copy.parent.mkdir()
    copy.write_bytes(paths[0].read_bytes())

    frames, _ = scan(tmp_path)

    assert len(frames.used) == 2
    assert "is a copy of" in next(iter(reasons(frames).values()))


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.fit", "bad\0name"])
def test_what_is_not_there_is_an_error_with_its_name(tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Frames.scan(tmp_path / source)


def test_a_folder_without_fits_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")

    with pytest.raises(InputError, match=r"no FITS file .*1 files of other kinds"):
        Frames.scan(tmp_path)


def test_a_single_other_picture_given_by_name_is_left_to_open_image(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")

    assert len(Frames.scan([tmp_path / "a.tif"], named=True)) == 0


# --- kinds ----------------------------------------------------------------------------------------
def test_a_telescopes_stack_beside_its_subs_is_no_light(write_night: WriteNight, write_sub: WriteSub) -> None:
    paths = write_night(3)
    stack = np.full((3, 60, 40), 900, np.uint16)
    write_sub("M 94_sub/Stacked_3_M 94_10.0s_IRCUT_20250326-213000.fit", stack, STACKCNT=3, TOTALEXP=30.0)

    frames, context = scan(paths[0].parent)

    assert len(frames.used) == 3
    assert [frame.kind for frame in frames if not frame.use] == ["stack"]
    assert frames.summary() == {"total": 3, "used": 3, "set_aside": []}
    assert context.report.find("beside")[0].numbers == {"count": 1, "word": "stacks"}


def test_one_stack_given_by_name_is_no_light_but_several_are(write_sub: WriteSub) -> None:
    data = np.random.default_rng(0).normal(900, 9, (3, 60, 40)).astype(np.uint16)
    paths = [
        write_sub(
            f"Stacked_{n}_M 94_10.0s_IRCUT_2025032{n}-213000.fit",
            data,
            STACKCNT=n,
            DATE_OBS=f"2025-03-2{n}T21:00:00",
        )
        for n in (5, 6)
    ]

    assert not Frames.scan(paths[:1], named=True).lights
    assert not Frames.scan(paths).lights
    assert len(Frames.scan(paths, named=True).used) == 2


def test_content_decides_where_header_and_name_say_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(0, 1, (3, 50, 40)).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", noise)
    fits.writeto(tmp_path / "b.fits", noise * 3000)
    fits.writeto(tmp_path / "c.fits", noise[0], fits.Header({"EXPTIME": 10.0}))

    kinds = {frame.name: frame.kind for frame in Frames.scan(tmp_path)}

    assert kinds == {"a.fits": "picture", "b.fits": "light", "c.fits": "light"}


def test_darks_and_flats_stay_known_and_are_not_lights(
    write_night: WriteNight, write_sub: WriteSub, tmp_path: Path
) -> None:
    write_night(2)
    write_sub("dark_1.fit", IMAGETYP="Dark")
    write_sub("flat_1.fit", IMAGETYP="Flat")

    frames, context = scan(tmp_path)

    assert sorted(frame.kind for frame in frames) == ["dark", "flat", "light", "light"]
    assert len(context.report.find("beside")) == 2


# --- what runs together ---------------------------------------------------------------------------
def test_filters_are_not_mixed_unless_told_to(write_night: WriteNight, tmp_path: Path) -> None:
    write_night(3)
    write_night(2, folder="lp", FILTER="LP", DATE_OBS="2025-03-28T01:00:00")

    frames, _ = scan(tmp_path)
    mixed, context = scan(tmp_path, mix_filters=True)

    assert len(frames.used) == 3
    assert all("the filter LP" in reason and "on its own" in reason for reason in reasons(frames).values())
    assert len(mixed.used) == 5
    assert context.report.find("filters")


def test_another_target_is_set_aside_but_another_spelling_is_not(
    write_night: WriteNight, tmp_path: Path
) -> None:
    write_night(3)
    write_night(1, folder="spelled", OBJECT="M94", DATE_OBS="2025-03-28T01:00:00")
    write_night(1, folder="catalogue", OBJECT="NGC 4736", DATE_OBS="2025-03-28T02:00:00")
    write_night(2, folder="other", OBJECT="M 31", RA=10.7, DEC=41.3, DATE_OBS="2025-03-28T03:00:00")

    frames, _ = scan(tmp_path)

    assert len(frames.used) == 5
    assert set(reasons(frames).values()) == {"shows M 31, while most frames show M 94; run it on its own"}


def test_nights_and_telescopes_run_together_as_groups(write_night: WriteNight, tmp_path: Path) -> None:
    write_night(3)
    write_night(2, folder="later", DATE_OBS="2025-04-09T20:54:22")
    write_night(2, folder="friend", TELESCOP="S50_4567cdef", DATE_OBS="2025-04-09T21:54:22", shape=(60, 44))
    other = write_night(2, folder="asi", CREATOR="SharpCap", INSTRUME="ZWO ASI224MC", TELESCOP="Newton",
                        FILTER=None, BAYERPAT="RGGB", shape=(44, 60),
                        DATE_OBS="2025-04-10T21:00:00")  # fmt: skip

    frames, _ = scan(tmp_path)

    assert len(frames.used) == 9
    assert [row["camera"] for row in frames.group_table()] == [
        "Seestar S50 no. 1", "Seestar S50 no. 1", "Seestar S50 no. 2", "ZWO ASI224MC",
    ]  # fmt: skip
    assert [row["seconds"] for row in frames.group_table()] == [30.0, 20.0, 20.0, 20.0]
    assert {frame.bayer for frame in frames if frame.path in other} == {"RGGB"}
    assert "4567cdef" not in repr(frames.group_table()) + frames._repr_html_()


def test_a_frame_that_differs_from_its_own_camera_is_set_aside(
    write_night: WriteNight, write_sub: WriteSub, tmp_path: Path
) -> None:
    write_night(3)
    write_sub("odd.fit", np.full((60, 41), 7, np.uint16), DATE_OBS="2025-03-27T02:00:00")
    write_sub("float.fit", np.full((60, 40), 7, np.float32), DATE_OBS="2025-03-27T02:01:00")

    frames, context = scan(tmp_path)

    assert reasons(frames) == {
        "odd.fit": "is 41 x 60 pixels, while the other frames of Seestar S50 are 40 x 60 pixels",
        "float.fit": "is stored as float32, while the other frames of Seestar S50 are stored as uint16",
    }
    assert len(context.report.find("set_aside")) == 2


# --- the account ----------------------------------------------------------------------------------
def test_repairs_are_told_once_with_their_count(write_night: WriteNight, tmp_path: Path) -> None:
    write_night(30, BAYERPAT=None)

    _, context = scan(tmp_path)

    (bayer,) = context.report.find("header.bayer_missing")
    assert bayer.text == "30 frames of a colour camera name no Bayer order; taken as the camera's, GRBG."
    assert context.report.find("header.equinox")[0].numbers["count"] == 30


def test_nothing_private_is_in_facts_frames_or_tables(write_night: WriteNight, tmp_path: Path) -> None:
    write_night(2)
    frames, context = scan(tmp_path)

    said = context.report.to_json() + repr(frames.frames) + frames._repr_html_() + repr(frames.group_table())

    assert not any(secret in said for secret in ("0123abcd", "-70.5", "33.25"))
    assert str(tmp_path) not in context.report.to_json() + repr(frames.summary())


def test_a_pedestal_is_believed_only_where_the_pixels_have_it(write_sub: WriteSub) -> None:
    kept = write_sub("a.fit", BIAS=469)
    gone = write_sub("b.fit", np.random.default_rng(0).integers(0, 200, (60, 40)).astype(np.uint16), BIAS=469)

    assert Frames.scan(kept)[0].pedestal == 469
    frames, context = scan(gone)
    assert frames[0].pedestal == 0
    assert context.report.find("header.pedestal_absent")


def test_float_frames_between_zero_and_one_saturate_near_one(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "a.fits", np.random.default_rng(0).uniform(0, 0.3, (50, 50)).astype(np.float32))
    fits.writeto(tmp_path / "b.fits", np.random.default_rng(0).uniform(0, 300, (50, 50)).astype(np.float32))

    levels = {frame.name: frame.saturation for frame in Frames.scan(tmp_path)}

    assert levels == {"a.fits": pytest.approx(0.992), "b.fits": 65000}


def test_one_bad_sub_among_twenty_leaves_the_other_nineteen(write_night: WriteNight, tmp_path: Path) -> None:
    paths = write_night(20)
    paths[7].write_bytes(paths[7].read_bytes()[:5000])

    frames, context = scan(tmp_path)

    assert len(frames.used) == 19
    assert frames.summary()["set_aside"][0]["path"] == f"M 94_sub/{paths[7].name}"
    assert frames.summary()["set_aside"][0]["reason"].startswith("is cut off")
    assert context.report.find("set_aside")[0].level == "warning"


# --- real subs ------------------------------------------------------------------------------------
def test_the_real_subs_form_their_groups(subs: Path) -> None:
    m94, _ = scan([subs / "m94/a", subs / "m94/b", subs / "m94/c"])
    m27, _ = scan(subs / "m27")

    assert [(row["night"], row["used"]) for row in m94.group_table()] == [
        ("2025-03-26", 20),
        ("2025-04-09", 4),
    ]
    assert {frame.bayer for frame in m94} == {"GRBG"}
    assert m27.summary() == {"total": 6, "used": 6, "set_aside": []}
    assert (m27[0].bayer, m27[0].filter, m27[0].target) == ("RGGB", "", "m27")


# --- speed and the sequence -----------------------------------------------------------------------
def test_a_thousand_subs_are_scanned_in_five_seconds(write_night: WriteNight, tmp_path: Path) -> None:
    content = write_night(1)[0].read_bytes()
    for i in range(1000):
        (tmp_path / f"Light_M 94_10.0s_IRCUT_20250326-{200000 + i}.fit").write_bytes(content)

    start = time.perf_counter()
    frames = Frames.scan(tmp_path)

    assert len(frames) == 1001
    assert time.perf_counter() - start < 5


def test_frames_are_a_sequence_that_never_changes(write_night: WriteNight) -> None:
    frames = Frames.scan(write_night(6)).replace(pending=("debayer",))

    part = frames[1:3]
    less = frames.set_aside(0, "is a test").set_aside(0, "is another reason")
    none = less.set_aside(lambda frame: True, "is unloved").set_aside({frames[1].path: "x"})

    assert isinstance(part, Frames)
    assert part.pending == ("debayer",)
    assert len(frames.used) == 6
    assert (len(less.used), less[0].reason) == (5, "is a test")
    assert len(none.used) == 0
    assert none[1].reason == "is unloved"
    assert len(frames.set_aside({frames[2].name: "x", frames[3].path: "y", 4: "z"}).used) == 3
    assert "6 lights in use" in repr(frames)
    assert "<table>" in less._repr_html_()


def test_the_hash_is_of_the_bytes(write_night: WriteNight) -> None:
    import xxhash

    frame, other = Frames.scan(write_night(2))

    assert frame.hash() == xxhash.xxh3_128(frame.path.read_bytes()).hexdigest()
    assert frame.hash() != other.hash()
    frame.path.write_bytes(other.path.read_bytes() + b" ")
    assert frame.hash() == xxhash.xxh3_128(frame.path.read_bytes()).hexdigest()


def test_a_frame_can_be_made_from_a_path_alone(write_night: WriteNight) -> None:
    path = write_night(1)[0]

    assert check_pixels(Frame(path=path), Frame(path=path).read()) is None
