"""Stored cubes: found again, never shared by accident, no harm when damaged, no larger than allowed."""

from __future__ import annotations

import gc
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from astrobench import Context, Frames, InputError, ProcessingError, cube_store

SHAPE = (3, 1, 6, 5)
KEY = "abc"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def context(tmp_path):
    return Context(scratch=tmp_path / "scratch", workers=1)


def facts(shape=SHAPE):
    count, channels = shape[:2]
    return {
        "shape": np.array(shape), "names": np.array([f"{k}.fit" for k in range(count)]),
        "transforms": np.tile(np.eye(3), (count, 1, 1)), "noise": np.ones((count, channels)),
        "saturation": np.full(count, np.inf), "exposure": np.full(count, 10.0),
        "reference": np.array(0), "method": np.array("by a test"), "patterns": np.array([], dtype=str),
    }  # fmt: skip


def writer_of(context, shape=SHAPE, key=KEY):
    return cube_store.CubeWriter(context, [4 * int(np.prod(shape[1:]))] * shape[0], key)


def store(context, key=KEY, shape=SHAPE, value=0.0):
    writer = writer_of(context, shape, key)
    for frame in range(shape[0]):
        writer.put(frame, np.full(shape[1:], value + frame, np.float32))
    return writer.finish(facts(shape))


def files(context):
    return sorted(path.relative_to(context.scratch).as_posix() for path in context.scratch.rglob("samples"))


def first_values(cube):
    return [float(cube.plane(frame, 0)[0, 0]) for frame in range(len(cube))]


def test_what_was_written_is_read_back_by_rows_and_frames(context):
    shape = (3, 3, 6, 5)
    data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    data[1, 2, 3, 4] = np.nan
    writer = writer_of(context, shape)
    for frame in (2, 0, 1):
        writer.put(frame, data[frame])
    cube = cube_store.load(writer.finish(facts(shape)), Frames(()))

    for channel in range(3):
        np.testing.assert_array_equal(cube.strip(channel, 2, 5).samples, data[:, channel, 2:5])
    np.testing.assert_array_equal(cube.strip(1, 0, 6, np.array([2, 0])).samples, data[[2, 0], 1])
    assert cube.names == ("0.fit", "1.fit", "2.fit")


def test_a_cube_is_found_by_its_key_and_by_no_other(context):
    store(context)

    assert cube_store.find(context, KEY) is not None
    assert cube_store.find(context, "other") is None


def test_a_cube_that_is_not_finished_is_not_found_and_can_be_discarded(context):
    writer = writer_of(context)

    assert cube_store.find(context, KEY) is None
    writer.discard()
    assert files(context) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: os.truncate(folder / cube_store.SAMPLES, 100),
        lambda folder: (folder / cube_store.SAMPLES).unlink(),
        lambda folder: os.truncate(folder / cube_store.FACTS, 200),
        lambda folder: (folder / cube_store.FACTS).write_bytes(b""),
        lambda folder: (folder / cube_store.FACTS).write_text("clear skies"),
        lambda folder: np.savez(folder / cube_store.FACTS, shape=np.array(SHAPE)),
        lambda folder: np.savez(folder / cube_store.FACTS, **{**facts(), "noise": np.ones(2)}),
    ],
)
def test_a_damaged_cube_is_not_used_and_is_replaced(context, damage):
    damage(store(context))

    assert cube_store.find(context, KEY) is None
    assert context.report.find("cache damaged")
    store(context, value=7)
    folder = cube_store.find(context, KEY)
    assert first_values(cube_store.load(folder, Frames(()))) == [7, 8, 9]


def test_a_cube_that_is_gone_is_an_error_in_words(context):
    with pytest.raises(ProcessingError, match="Run again"):
        cube_store.load(context.scratch / "gone", Frames(()))


def test_two_writers_of_one_key_never_share_a_folder(context):
    writers = [writer_of(context) for _ in range(2)]
    for value, writer in enumerate(writers):
        for frame in range(3):
            writer.put(frame, np.full(SHAPE[1:], 10.0 * value, np.float32))

    first = cube_store.load(writers[0].finish(facts()), Frames(()))
    second = cube_store.load(writers[1].finish(facts()), Frames(()))
    assert first_values(first) == [0, 0, 0]
    assert first_values(second) == [10, 10, 10]
    assert files(context) == [f"cubes/{KEY}/samples"]


def test_without_the_cache_the_samples_go_with_the_last_who_holds_the_cube(context):
    context.use_cache = False
    cube = cube_store.load(store(context), Frames(()))
    source = cube.source

    assert cube.key == ""
    assert cube_store.find(context, KEY) is None
    del cube
    gc.collect()
    assert len(files(context)) == 1
    del source
    gc.collect()
    assert list((context.scratch / "cubes").iterdir()) == []


def test_a_cube_larger_than_the_cache_may_grow_is_not_kept(context, monkeypatch):
    monkeypatch.setattr(cube_store, "CACHE_BYTES", 100)
    cube = cube_store.load(store(context), Frames(()))

    assert context.report.find("not cached")
    assert first_values(cube) == [0, 1, 2]
    del cube
    gc.collect()
    assert files(context) == []


def test_the_oldest_cubes_go_first_when_the_cache_is_full(context, monkeypatch):
    for age, key in enumerate(("newest", "middle", "oldest")):
        os.utime(store(context, key), (1e9 - age, 1e9 - age))
    cube_store.find(context, "oldest")  # used now
    size = 4 * int(np.prod(SHAPE))
    monkeypatch.setattr(cube_store, "CACHE_BYTES", 2 * size)

    assert cube_store.prune(context, keep="newest") == size
    assert files(context) == ["cubes/newest/samples", "cubes/oldest/samples"]


def test_a_tenth_of_the_free_disk_is_the_limit_where_it_is_small(context, monkeypatch):
    store(context, "old")
    store(context, "new")
    size = 4 * int(np.prod(SHAPE))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 15 * size))

    cube_store.prune(context, keep="new")

    assert files(context) == ["cubes/new/samples"]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="an open file cannot be removed on this system")
def test_a_cube_in_use_survives_another_run_that_makes_room(context):
    cube = cube_store.load(store(context), Frames(()))
    shutil.rmtree(context.scratch)

    assert first_values(cube) == [0, 1, 2]


def test_what_a_killed_run_left_goes_after_a_day_and_what_runs_stays(context):
    root = context.scratch / "cubes"
    gone, fresh, alive = (
        root / f".k.{pid}.x{n}" for n, pid in enumerate((2**22 + 5, 2**22 + 5, os.getpid()))
    )
    for folder in (gone, fresh, alive):
        folder.mkdir(parents=True)
    for folder in (gone, alive):
        os.utime(folder, (1e9, 1e9))

    cube_store.prune(context, keep="")

    assert sorted(root.iterdir()) == sorted([fresh, alive])


def test_samples_that_will_not_fit_are_refused_before_they_are_written(context, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 200))

    with pytest.raises(ProcessingError, match="--scratch"):
        writer_of(context)
    assert files(context) == []


def test_a_scratch_folder_that_cannot_be_made_is_an_error_in_words(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="--scratch"):
        writer_of(Context(scratch=tmp_path / "file"))


def test_a_disk_that_fills_up_is_an_error_in_words(context, monkeypatch):
    writer = writer_of(context)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(InputError, match="no space left"):
        writer.put(0, np.zeros(SHAPE[1:], np.float32))


def test_a_key_depends_on_every_part():
    parts = ["cube", ["a", "b"], {"x": 1}]

    assert cube_store.key_of(*parts) == cube_store.key_of(*parts)
    assert (
        len({cube_store.key_of(*parts), cube_store.key_of("cube", ["b", "a"], {"x": 1}), cube_store.key_of()})
        == 3
    )
    assert Path(cube_store.key_of(*parts)).name == cube_store.key_of(*parts)
