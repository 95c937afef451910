"""Weights by sharpness and by stars: in proportion to what was measured, and the stack is the sharper for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.frame import Frame, Measures
from astrobench.frames import Frames
from astrobench.steps.stack import Stack, stacking_plan

SHARP, SOFT, SKY, NOISE = 2.4, 4.8, 1000.0, 10.0


@pytest.fixture(scope="module")
def cube() -> Cube:
    """Six sharp frames that show 200 stars and six soft ones that show 50, of the same stars and the same noise."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:160, :160].astype(float)
    stars = [(*rng.uniform(12, 148, 2), 10 ** rng.uniform(3.5, 4.5)) for _ in range(25)]
    samples, frames = [], []
    for k in range(12):
        fwhm, count = (SHARP, 200) if k % 2 == 0 else (SOFT, 50)
        light = np.full(x.shape, SKY)
        for a, b, flux in stars:
            spread = (fwhm / 2.3548) ** 2
            light += flux / (2 * np.pi * spread) * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * spread))
        samples.append(rng.normal(light, NOISE).astype(np.float32))
        measures = Measures(stars=count, fwhm=fwhm, fwhm_arcsec=None, eccentricity=0.3, sky=SKY, noise=NOISE, snr=20.0)
        frames.append(Frame(path=Path(f"{k}.fits"), kind="light", measures=measures))
    return replace(Cube.from_array(np.stack(samples)), frames=Frames(tuple(frames)))


def peak(cube: Cube, weights: str) -> float:
    image = Stack(weights=weights, rejection="none", normalisation="additive").apply(cube, Context(workers=1))
    return float(np.max(image.data[0]) - SKY)


@pytest.mark.parametrize(("weights", "ratio"), [("fwhm", (SOFT / SHARP) ** 2), ("stars", 4.0)])
def test_a_frame_counts_in_proportion_to_what_was_measured(cube, weights, ratio):
    step = Stack(weights=weights, normalisation="additive")
    weight = stacking_plan(cube, step, Context(workers=1)).normalisation.weight[:, 0]
    assert np.median(weight[::2]) / np.median(weight[1::2]) == pytest.approx(ratio, rel=0.1)
    assert weight.mean() == pytest.approx(1)


def test_stars_are_sharper_where_sharp_frames_count_more(cube):
    equal, sharper = peak(cube, "equal"), peak(cube, "fwhm")
    # peaks go with the inverse square of the width: mean of 1 and 1/4, and 4 to 1 for the sharp ones
    assert sharper / equal == pytest.approx((4 + 1 / 4) / 5 / ((1 + 1 / 4) / 2), rel=0.05)
