"""Registered files are stacked from where they lie: the same values as from memory, borders left out."""

import numpy as np
import pytest
from astropy.io import fits

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.cube_files import cube_from_files
from astrobench.errors import InputError
from astrobench.frames import Frames
from astrobench.steps.stack import Stack


def scene(count=6, shape=(90, 110)):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = 900 + x + 2000 * np.exp(-((x - 50) ** 2 + (y - 40) ** 2) / 9)
    return np.round(rng.normal(truth, 30, (count, *shape))).clip(1, 65535)


def write(folder, samples, dtype, **cards):
    for k, frame in enumerate(samples):
        hdu = fits.PrimaryHDU(frame.astype(dtype))
        hdu.header.update({"EXPTIME": 10.0, "IMAGETYP": "Light", **cards})
        hdu.writeto(folder / f"frame_{k:03d}.fits")
    return Frames.scan(sorted(folder.glob("*.fits")), named=True)


@pytest.fixture
def context(tmp_path):
    return Context(workers=2, memory_budget=1 << 20, scratch=tmp_path / "scratch")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
def test_files_give_what_the_array_gives(tmp_path, context, dtype):
    samples = scene()
    cube = cube_from_files(write(tmp_path, samples, dtype), context)
    image = Stack().apply(cube, context)
    expected = Stack().apply(Cube.from_array(samples), Context(workers=1))
    np.testing.assert_array_equal(image.data, expected.data)
    np.testing.assert_array_equal(image.variance, expected.variance)
    assert image.header["TOTALEXP"] == 60
    assert cube.names[0] == "frame_000.fits"


def test_colour_files_give_three_channels(tmp_path, context):
    samples = np.stack([scene(), scene() + 50, scene() + 100], axis=1)
    image = Stack(rejection="none").apply(
        cube_from_files(write(tmp_path, samples, "uint16"), context), context
    )
    expected = Stack(rejection="none").apply(Cube.from_array(samples), Context(workers=1))
    np.testing.assert_array_equal(image.data, expected.data)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_zeros_at_the_border_are_not_covered_and_zeros_inside_are_values(tmp_path, context, dtype):
    samples = scene()
    samples[1, :, :20] = 0
    samples[2, 70:] = 0
    samples[3, 30, 60] = 0
    cube = cube_from_files(write(tmp_path, samples, dtype), context)
    missing = samples.copy()
    missing[1, :, :20] = missing[2, 70:] = np.nan
    for k in range(6):
        np.testing.assert_array_equal(cube.plane(k, 0), missing[k].astype(np.float32))
    fact = context.report.find("uncovered")[0]
    assert fact.numbers["count"] == 2
    image = Stack().apply(cube, context)
    np.testing.assert_array_equal(
        image.data, Stack().apply(Cube.from_array(missing), Context(workers=1)).data
    )


def test_packed_files_are_unpacked_into_scratch_and_leave_nothing(tmp_path, context):
    samples = scene()
    for k, frame in enumerate(samples):
        hdu = fits.CompImageHDU(frame.astype("int16"), compression_type="RICE_1")
        hdu.header.update({"EXPTIME": 10.0, "IMAGETYP": "Light"})
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"frame_{k:03d}.fits.fz")
    frames = Frames.scan(sorted(tmp_path.glob("*.fz")), named=True)
    cube = cube_from_files(frames, context)
    np.testing.assert_array_equal(cube.plane(2, 0), samples[2].astype(np.float32))
    assert list(context.scratch.iterdir())
    del cube
    assert not list(context.scratch.iterdir())


def test_frames_of_different_size_are_refused(tmp_path, context):
    samples = scene()
    (tmp_path / "other").mkdir()
    frames = write(tmp_path, samples[:2], "uint16")
    odd = write(tmp_path / "other", samples[:2, :50], "uint16")
    with pytest.raises(InputError, match=r"frame_000\.fits is 110 x 50 x 1, frame_000\.fits is 110 x 90 x 1"):
        cube_from_files(Frames((*frames, *odd)), context)


def test_a_file_cut_off_meanwhile_is_named(tmp_path, context):
    cube = cube_from_files(write(tmp_path, scene(), "uint16"), context)
    path = tmp_path / "frame_002.fits"
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(InputError, match=r"frame_002\.fits ends before its last row"):
        Stack().apply(cube, context)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_a_strip_in_use_is_never_overwritten_and_one_let_go_gives_its_memory(tmp_path, context, dtype):
    samples = scene()
    cube = cube_from_files(write(tmp_path, samples, dtype), context)
    held = [cube.strip(0, y, y + 30).samples[1:, 2:] for y in (0, 30, 60)]
    copies = [part.copy() for part in held]
    places = {cube.strip(0, 0, 90).samples.ctypes.data for _ in range(3)}
    assert len(places) <= 3
    assert all(np.array_equal(part, copy) for part, copy in zip(held, copies, strict=True))
    del held
    first = cube.strip(0, 0, 30).samples
    second = cube.strip(0, 30, 60).samples
    place = first.ctypes.data
    del first
    assert cube.strip(0, 60, 90).samples.ctypes.data == place
    assert second.shape == (6, 30, 110)
