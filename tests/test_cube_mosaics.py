"""Colours looked up in stored mosaics are those of the frames, whatever their size, type and turn."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.cube_store import find, load
from astrobench.errors import ProcessingError
from astrobench.frame import Frame
from astrobench.frames import Frames
from astrobench.kernels import cfa
from astrobench.kernels.cosmetic import find_bad_pixels
from astrobench.steps.align import Alignment
from astrobench.steps.debayer import Debayer
from astrobench.steps.register import Register
from astrobench.steps.resample import Grid, put_on_grid

GRID = Grid((90, 70), np.eye(3))
SIZES = ((80, 64), (96, 72), (60, 100))
TURNS = (0.0, 12.0, 69.5)


def turned(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 40 - 40 * c + 40 * s + 1.3], [s, c, 40 - 40 * s - 40 * c - 0.7], [0, 0, 1]])


@pytest.fixture(params=["uint16", "float32", "pedestal"])
def frames(request, tmp_path) -> list[Frame]:
    """Three frames of other sizes with a hot pixel each; one of floats with a hole, or all with a pedestal."""
    rng = np.random.default_rng(3)
    made = []
    for k, (height, width) in enumerate(SIZES):
        raw = rng.normal(1000, 20, (height, width)).astype(np.uint16)
        raw[30 + k, 40] = 9000
        is_float = request.param == "float32" and k == 1
        data = raw.astype(np.float32) if is_float else raw
        if is_float:
            data[20:24, 10:14] = np.nan
        path = tmp_path / f"{k}.fits"
        fits.PrimaryHDU(data).writeto(path)
        pedestal = 100.0 if request.param == "pedestal" else 0.0
        dtype = "float32" if is_float else "uint16"
        made.append(
            Frame(path=path, width=width, height=height, bayer="GRBG", kind="light", dtype=dtype, pedestal=pedestal)
        )
    return made


def stored(frames: list[Frame], context: Context) -> tuple[Cube, Path]:
    aligned = [Alignment(turned(turn), 0.0, 0, "true", is_reference=k == 0) for k, turn in enumerate(TURNS)]
    folder = put_on_grid(frames, aligned, GRID, "direct", Debayer(), Register(), "mixed", context)
    return load(folder, Frames(tuple(frames))), folder


def expected(frame: Frame, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    raw = frame.read()
    if frame.pedestal:
        raw = raw.astype(np.float32) - np.float32(frame.pedestal)
    light = raw.astype(np.float32)
    light[find_bad_pixels(raw)] = np.nan
    return cfa.gather(light, "GRBG", np.linalg.inv(matrix), GRID.shape)


def test_every_sample_is_the_nearest_raw_pixel_of_its_frame(frames, tmp_path):
    cube, _ = stored(frames, Context(scratch=tmp_path / "s", workers=2))
    whole = np.stack([expected(frame, matrix) for frame, matrix in zip(frames, cube.transforms, strict=True)])
    assert np.isnan(whole[:, 0]).any(axis=(1, 2)).all()
    for channel in range(3):
        np.testing.assert_array_equal(cube.strip(channel, 0, GRID.shape[0]).samples, whole[:, channel])
        np.testing.assert_array_equal(
            cube.strip(channel, 17, 31, np.array([2, 0])).samples, whole[[2, 0], channel, 17:31]
        )
    y, x = np.divmod(np.arange(5, GRID.shape[0] * GRID.shape[1], 7), GRID.shape[1])
    np.testing.assert_array_equal(cube.source.at(x, y), whole[:, :, y, x].swapaxes(0, 1))


def test_a_damaged_store_is_not_found_and_a_shorter_one_is_refused(frames, tmp_path):
    context = Context(scratch=tmp_path / "s", workers=1)
    cube, folder = stored(frames, context)
    assert find(context, folder.name) is not None
    samples = folder / "samples"
    samples.write_bytes(samples.read_bytes()[:-8])
    assert find(context, folder.name) is None
    with pytest.raises(ProcessingError, match="shorter than it should be"):
        cube.strip(0, 0, GRID.shape[0])
