"""The variance map tells how far stacks of many nights scatter: on sky, on nebula and on stars."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.cube_store import load
from astrobench.frames import Frames
from astrobench.image import Image
from astrobench.simulate import Night, simulate_night
from astrobench.steps.align import Alignment
from astrobench.steps.debayer import Debayer
from astrobench.steps.measure import Measure
from astrobench.steps.register import Register
from astrobench.steps.resample import Grid, put_on_grid
from astrobench.steps.stack import Stack

NIGHTS, FRAMES, SHAPE = 12, 16, (256, 192)
EDGE = 24  # px; the dither leaves them to some frames only
# The promise is 5 % over 40 nights. A median over P pixels of variances of n nights that share their noise over 16
# pixels has an error of sqrt(pi / 2 * 2 / (n - 1) * 16 / P); 4 of those are allowed beside.
PROMISE = 0.05


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> list[Night]:
    folder = tmp_path_factory.mktemp("nights")
    more = {"frames": FRAMES, "seed": 3, "shape": SHAPE, "faults": False, "steady": True}
    return [simulate_night(folder / f"{n}", night=n, **more) for n in range(NIGHTS)]


def own_pixels(night: Night, context: Context) -> Cube:
    frames = Measure().apply(Frames.scan(night.paths[0].parent), context)
    aligned = [Alignment(m, 0.0, 0, "true", is_reference=k == 0) for k, m in enumerate(night.transforms)]
    grid, debayer = Grid(night.shape, np.eye(3)), Debayer(method="direct")
    return load(put_on_grid(list(frames), aligned, grid, "direct", debayer, Register(), "night", context), frames)


def mono(night: Night, context: Context) -> Cube:
    rng = np.random.default_rng(night.night)
    light = night.scene()[1] + night.sky_image(0)[1]
    sigma = np.sqrt(light / night.gain + night.read_noise**2)
    return Cube.from_array(light + sigma * rng.standard_normal((FRAMES, *night.shape), dtype=np.float32))


def kinds(night: Night) -> dict[str, NDArray[np.bool_]]:
    green = night.scene()[1]
    sigma = float(np.sqrt(night.sky[0, 1, 0] / night.gain))
    inside = np.zeros(night.shape, bool)
    inside[EDGE:-EDGE, EDGE:-EDGE] = True
    step = maximum_filter(green, 3) - minimum_filter(green, 3)
    lit = maximum_filter(step, 15) > 0.3 * sigma
    middle = np.median(green[inside & ~lit])
    return {
        "sky": inside & ~lit & (green < middle),
        "nebula": inside & ~lit & (green > middle),
        "stars": inside & (step > 0.5 * sigma),
    }


def levelled(images: list[Image]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring nights to one level by medians and to one scale by bright pixels."""
    data = np.stack([image.data.astype(np.float64) for image in images])
    variance = np.stack([image.variance.astype(np.float64) for image in images])
    inner = (slice(None), slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    mean = data.mean(axis=0)
    for k in range(NIGHTS):
        for c in range(data.shape[1]):
            a, b = (np.median(each[inner][c]) for each in (data[k], mean))
            light = mean[inner][c] - b
            bright = light > np.percentile(light, 98)
            scale = np.sum(light[bright] ** 2) / np.sum(light[bright] * (data[k][inner][c][bright] - a))
            data[k, c], variance[k, c] = (data[k, c] - a) * scale + b, variance[k, c] * scale**2
    return data, variance


@pytest.mark.parametrize("road", [own_pixels, mono])
def test_stated_variance_is_the_scatter_of_nights(road, nights, tmp_path):
    context = Context(scratch=tmp_path, use_cache=False)
    data, variance = levelled([Stack().apply(road(night, context), context) for night in nights])
    usual = (1 - 2 / (9 * (NIGHTS - 1))) ** 3  # median of chi^2 over its mean (Wilson and Hilferty 1931)
    # with the places of its samples a pixel's precision differs from night to night: the mean is what scatters
    ratio = variance.mean(axis=0) / (data.var(axis=0, ddof=1) / usual)
    for kind, where in kinds(nights[0]).items():
        assert where.sum() > 400, kind
        error = np.sqrt(np.pi / (NIGHTS - 1) * (16 if len(ratio) == 3 else 1) / where.sum())
        for plane in ratio:
            assert np.median(plane[where]) == pytest.approx(1, abs=PROMISE + 4 * error), kind
