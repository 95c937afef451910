"""How the night goes: pointing, rotation, seeing, clouds, sky glow and mishaps, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

READOUT_S = 1.3  # between two exposures of a Seestar: 11.3 s from start to start at 10 s
BLOCK = 5  # frames between two longer pauses, in which the telescope dithers
PAUSE_S = (16.0, 18.0)  # from start to start across such a pause, at 10 s
SKY_MIX = (0.842, 1.0, 0.797)  # R, G, B of the sky of a measured Seestar sub
MOON_MIX = (0.80, 1.0, 0.95)  # a bluer light on the side of the moon
TOWN_MIX = (1.10, 1.0, 0.60)  # and a warmer one on the side of the town
BREATHING = 0.09  # relative spread of the seeing: 3.0 to 3.8 px around 3.4
FEWEST_WITH_MISHAPS = 6
DEFOCUSED, TRAILED, CLOUD = "defocused", "trailed", "cloud"


@dataclass(frozen=True, eq=False)
class Conditions:
    """What differs from frame to frame.

    Attributes
    ----------
    seconds : ndarray of float64, shape (N,)
        Start of each exposure after the first.
    transforms : ndarray of float64, shape (N, 3, 3)
        Frame pixel to reference pixel.
    fwhm, ratio, angle : ndarray of float64, shape (N,)
        Star shape: FWHM [px], minor over major axis, direction of the major axis [rad].
    smear : ndarray of float64, shape (N, 2)
        Way of the stars during the exposure, px.
    transparency : ndarray of float64, shape (N,)
        1 = clear.
    sky : ndarray of float64, shape (N, 3, 6)
        ADU in R, G, B; terms 1, x, y, xx, yy, xy of x, y in -1..1 over the frame.
    bad : dict of int to str
        Frame number to 'cloud', 'defocused' or 'trailed'.
    """

    seconds: NDArray[np.float64]
    transforms: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    ratio: NDArray[np.float64]
    angle: NDArray[np.float64]
    smear: NDArray[np.float64]
    transparency: NDArray[np.float64]
    sky: NDArray[np.float64]
    bad: dict[int, str]


def _wander(rng: np.random.Generator, count: int, memory: float) -> NDArray[np.float64]:
    """Random walk drawn back to zero (Ornstein-Uhlenbeck), unit spread."""
    out = np.empty(count)
    value = rng.standard_normal()
    for k in range(count):
        out[k] = value
        value = memory * value + np.sqrt(1.0 - memory * memory) * rng.standard_normal()
    return np.clip(out, -1.3, 1.3)


def _pointing(
    rng: np.random.Generator,
    seconds: NDArray[np.float64],
    shape: tuple[int, int],
    rotation: float,
    dither: float,
) -> NDArray[np.float64]:
    """Turn about the centre of the field, drift within a block, dither between blocks."""
    count = len(seconds)
    angle = np.deg2rad(rotation * (seconds - seconds.mean()) / 3600.0)
    drift = rng.uniform(-0.08, 0.08, 2) * dither
    shift = np.empty((count, 2))
    for first in range(0, count, BLOCK):
        start = rng.uniform(-dither, dither, 2)
        for k in range(first, min(first + BLOCK, count)):
            shift[k] = start + drift * (k - first) + 0.02 * dither * rng.standard_normal(2)
    centre = np.array([(shape[1] - 1) / 2.0, (shape[0] - 1) / 2.0])
    transforms = np.tile(np.eye(3), (count, 1, 1))
    cosine, sine = np.cos(angle), np.sin(angle)
    transforms[:, 0, 0], transforms[:, 0, 1] = cosine, -sine
    transforms[:, 1, 0], transforms[:, 1, 1] = sine, cosine
    turned = transforms[:, :2, :2] @ centre
    transforms[:, :2, 2] = centre - turned + shift
    return transforms


def _sky(
    rng: np.random.Generator, seconds: NDArray[np.float64], level: float, steady: bool
) -> NDArray[np.float64]:
    """Sky glow: a level that creeps, the moon on one side, a town on the other."""
    count = len(seconds)
    sky = np.zeros((count, 3, 6))
    sky[:, :, 0] = level * np.asarray(SKY_MIX)
    if steady:
        return sky
    when = seconds / max(float(seconds[-1]), 1.0)
    sky[:, :, 0] *= (1.0 + 0.05 * np.sin(2.2 * when + rng.uniform(0, 6)))[:, None]
    moon = rng.uniform(0, 2 * np.pi) + 0.9 * when
    town = rng.uniform(0, 2 * np.pi) - 0.3 * when
    moonlight = level * (0.015 + 0.045 * when)
    townlight = level * (0.050 - 0.020 * when)
    for strength, way, mix in ((moonlight, moon, MOON_MIX), (townlight, town, TOWN_MIX)):
        glow = strength[:, None] * np.asarray(mix)
        sky[:, :, 0] += 0.5 * glow
        sky[:, :, 1] += glow * np.cos(way)[:, None]
        sky[:, :, 2] += glow * np.sin(way)[:, None]
        sky[:, :, 3] += 0.25 * glow * (np.cos(way) ** 2)[:, None]
        sky[:, :, 4] += 0.25 * glow * (np.sin(way) ** 2)[:, None]
        sky[:, :, 5] += 0.25 * glow * np.sin(2 * way)[:, None]
    return sky


def _mishaps(rng: np.random.Generator, count: int) -> dict[int, str]:
    """Choose the cloudy frames (one in ten, together), a defocused and a trailed one."""
    if count < FEWEST_WITH_MISHAPS:
        return {}
    clouds = min(4, max(1, count // 10))
    first = int(rng.integers(1, count - clouds))
    bad = dict.fromkeys(range(first, first + clouds), CLOUD)
    free = [k for k in range(1, count) if k not in bad]
    defocused, trailed = rng.choice(free, 2, replace=False)
    return bad | {int(defocused): DEFOCUSED, int(trailed): TRAILED}


def make_conditions(
    seed: tuple[int, ...],
    frames: int,
    shape: tuple[int, int],
    *,
    exposure: float,
    fwhm: float,
    sky: float,
    rotation: float,
    dither: float,
    steady: bool,
    faults: bool,
) -> Conditions:
    """Draw the course of one night.

    Parameters
    ----------
    seed : tuple of int
        Of the night.
    frames : int
    shape : (H, W)
    exposure : float
        Seconds.
    fwhm : float
        Typical FWHM, px.
    sky : float
        Green sky level, ADU in a frame.
    rotation : float
        Field rotation, degrees an hour.
    dither : float
        Largest offset along each axis, px.
    steady : bool
        Sky flat, sky, seeing and transparency constant, stars round.
    faults : bool
        Clouds, a defocused and a trailed frame.

    Returns
    -------
    Conditions
    """
    rng = np.random.default_rng([*seed, 10])
    pauses = exposure - 10.0 + rng.uniform(*PAUSE_S, frames)
    gaps = np.where(np.arange(1, frames + 1) % BLOCK == 0, pauses, exposure + READOUT_S)
    seconds = np.concatenate([[0.0], np.cumsum(gaps[:-1] + rng.uniform(-0.03, 0.03, frames - 1))])
    transforms = _pointing(rng, seconds, shape, rotation, dither)
    breathing, clear = _wander(rng, frames, 0.85), _wander(rng, frames, 0.9)
    seeing = fwhm * (1.0 + (0.0 if steady else BREATHING) * breathing)
    transparency = np.ones(frames) if steady else 0.965 + 0.025 * clear
    ratio = np.ones(frames) if steady else rng.uniform(0.93, 0.98, frames)
    angle = rng.uniform(0.0, np.pi) + rng.normal(0.0, 0.15, frames)
    glow = _sky(rng, seconds, sky, steady)
    smear = np.zeros((frames, 2))

    bad = _mishaps(np.random.default_rng([*seed, 11]), frames) if faults else {}
    trouble = np.random.default_rng([*seed, 12])
    for k, kind in bad.items():
        if kind == CLOUD:
            thickness = trouble.uniform(0.55, 0.8)
            transparency[k] *= 1.0 - thickness
            glow[k] *= 1.0 + 0.45 * thickness
            glow[k, :, 1:3] += 0.05 * sky * trouble.standard_normal(2)
        elif kind == DEFOCUSED:
            seeing[k] *= trouble.uniform(2.2, 2.6)
        else:
            way = trouble.uniform(0, 2 * np.pi)
            smear[k] = trouble.uniform(11.0, 15.0) * np.array([np.cos(way), np.sin(way)])
    bad = dict(sorted(bad.items()))
    return Conditions(seconds, transforms, seeing, ratio, angle, smear, transparency, glow, bad)
