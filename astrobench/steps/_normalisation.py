"""Bring the frames of a cube to one level and scale, and know their noise and weight afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.errors import ParameterError, ProcessingError
from astrobench.kernels import brightness, normalise
from astrobench.kernels.statistics import ikss, median_mad
from astrobench.steps._sample import FULL_UINT16, Sample, take_samples

F64 = NDArray[np.float64]

LEAST_STARS = 10  # a frame needs for its scale to come from them
LARGEST_STRUCTURE_ERROR = 0.03  # of a scale from structure


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Gain, offset, noise and weight of every frame and channel, (N, C) float64 each.

    A normalised sample is ``gain * sample + offset`` [ADU of the reference].

    Parameters
    ----------
    kind : str
        The `Stack.normalisation` it was made for.
    reference : int
        Frame whose levels the others take.
    location, scale : (N, C)
        Sky level [ADU of the frame] and brightness relative to the reference.
    scale_error : (N, C)
        Relative error of the scale; NaN where it is not known.
    source : (N, C) str
        Where the scale comes from: ``"stars"``, ``"structure"``, ``"IKSS"``, ``"median/MAD"``, ``"none"``.
    stars : (N, C) int
        Stars behind it.
    noise : (N, C)
        Standard deviation of a normalised sample on the sky [ADU]; NaN where it is not known.
    weight : (N, C)
        Mean 1 in each channel over the frames that hold data; 0 for the others.
    saturation : (N,)
        A raw sample at or above this is saturated [ADU of the frame]; inf: never.
    zeros : (N, C)
        Share of the samples that are exactly 0.
    common : bool
        Whether all levels were measured over the same area.
    alive : (N,) bool
        Whether the frame holds any data.
    """

    kind: str
    reference: int
    gain: F64
    offset: F64
    location: F64
    scale: F64
    scale_error: F64
    source: NDArray[np.str_]
    stars: NDArray[np.int64]
    noise: F64
    weight: F64
    saturation: F64
    zeros: F64
    common: bool
    alive: NDArray[np.bool_]
    samples: tuple[Sample, ...]

    def sky(self, channel: int) -> float:
        """Level of the sky in the normalised frames [ADU]."""
        return float(self.location[self.reference, channel])


def saturation_levels(cube: Cube) -> F64:
    """Return the saturation level of each frame: as recorded, else the end of the 16-bit range."""
    return np.where(np.isfinite(cube.saturation), cube.saturation, np.inf if _is_float(cube) else FULL_UINT16)


def _is_float(cube: Cube) -> bool:
    return bool(cube.strip(0, 0, 1, np.array([0])).samples.dtype.kind == "f")


def normalise_cube(
    cube: Cube, kind: str, scale_from: str, weights: str, manual: tuple[float, ...] | None, context: Context
) -> Normalisation:
    """Measure the frames of a cube and choose gain, offset and weight of each.

    Parameters
    ----------
    kind, scale_from, weights, manual
        `Stack.normalisation`, `scale_from`, `weights` and `manual_weights`.
    """
    saturation = saturation_levels(cube)
    samples = take_samples(cube, saturation, context)
    channels = [_Channel(sample, kind, scale_from) for sample in samples]
    relative = [channel.information() for channel in channels]
    reference = _reference(np.mean([each / max(each.mean(), 1e-300) for each in relative], axis=0), cube)
    lines = [channel.line(reference) for channel in channels]
    gain, offset, noise = (np.stack(part, axis=1) for part in zip(*lines, strict=True))
    location = np.stack([channel.location for channel in channels], axis=1)
    alive = np.any([channel.alive for channel in channels], axis=0)
    weight = _weights(
        cube, weights, manual, gain, noise, np.stack([channel.alive for channel in channels], axis=1)
    )
    return Normalisation(
        kind=kind,
        reference=reference,
        gain=gain,
        offset=offset,
        location=location,
        scale=np.stack([channel.scale / channel.scale[reference] for channel in channels], axis=1),
        scale_error=np.stack([channel.error for channel in channels], axis=1),
        source=np.stack([channel.source for channel in channels], axis=1),
        stars=np.stack([channel.stars for channel in channels], axis=1),
        noise=noise,
        weight=weight,
        saturation=saturation,
        zeros=np.stack([sample.zeros for sample in samples], axis=1),
        common=all(channel.common for channel in channels),
        alive=alive,
        samples=tuple(samples),
    )


class _Channel:
    """Scale and level of every frame in one channel."""

    def __init__(self, sample: Sample, kind: str, scale_from: str) -> None:
        self.sample = sample
        self.kind = kind
        count = len(sample.grid)
        self.alive = np.asarray(np.isfinite(sample.grid.reshape(count, -1)).any(axis=1))
        self.first = int(np.argmax(self.alive))
        self.raw_noise = np.full(count, np.nan)
        self.scale, self.error = np.ones(count), np.full(count, np.nan)
        self.source = np.full(count, "none", dtype="<U10")
        self.stars = np.zeros(count, np.int64)
        if "scaling" in kind:
            self._measure_scale(scale_from)
        self.location, self.common = normalise.locations(sample.grid, self.scale)
        self.location[~self.alive] = 0.0

    def _measure_scale(self, scale_from: str) -> None:
        missing = self.alive.copy()
        if scale_from in ("auto", "stars"):
            found = brightness.scales_from_stars(self.sample.flux, self.sample.flux_error, LEAST_STARS)
            self.stars = found.used
            missing &= ~self._take(found, np.isfinite(found.scale) & self.alive, "stars")
        if missing.any() and scale_from in ("auto", "stars"):
            level, _ = normalise.locations(self.sample.grid, self.scale)
            found = brightness.scales_from_structure(self.sample.grid, np.nan_to_num(level))
            good = missing & (found.error < LARGEST_STRUCTURE_ERROR * found.scale) & (found.scale > 0)
            missing &= ~self._take(found, good, "structure")
        if missing.any():
            # A dispersion compares with nothing but other dispersions: all frames or none.
            spread = median_mad if scale_from == "mad" else ikss
            size = np.array(
                [
                    spread(plane).scale if on else 1.0
                    for plane, on in zip(self.sample.grid, self.alive, strict=True)
                ]
            )
            trusted = self.alive & ~missing
            unit = (
                np.median(size[trusted] / self.scale[trusted])
                if trusted.any()
                else np.median(size[self.alive])
            )
            usable = missing & (size > 0)
            self.scale[usable] = size[usable] / (unit if unit > 0 else 1.0)
            self.source[usable] = "median/MAD" if scale_from == "mad" else "IKSS"

    def _take(self, found: brightness.Scales, good: NDArray[np.bool_], source: str) -> NDArray[np.bool_]:
        self.scale[good] = found.scale[good]
        self.error[good] = (found.error / found.scale)[good]
        self.source[good] = source
        return good

    def _affine(self, reference: int) -> tuple[F64, F64]:
        location = np.where(self.alive, self.location, self.location[reference])
        gain, offset = normalise.affine(self.kind, location, self.scale, reference)
        # float32 is what the rejection will calculate with
        return gain.astype(np.float32).astype(float), offset.astype(np.float32).astype(float)

    def information(self) -> F64:
        """Inverse variance of each frame at common scale; 0 for a frame without data."""
        if self.kind.startswith("multiplicative") and (self.location[self.alive] <= 0).any():
            worst = int(np.argmin(np.where(self.alive, self.location, np.inf)))
            raise ProcessingError(
                f"Multiplicative normalisation needs sky levels above 0; frame {worst + 1} has "
                f"{self.location[worst]:.4g} ADU. Use stack.normalisation = 'additive+scaling'."
            )
        gain, offset = self._affine(self.first)
        noise = normalise.grid_noise(self.sample.grid, gain, offset, self.sample.lag)
        self.raw_noise = noise / gain
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.alive & (noise > 0), 1.0 / noise**2, np.where(self.alive, 1e-30, 0.0))

    def line(self, reference: int) -> tuple[F64, F64, F64]:
        """Gain, offset and noise of each normalised frame; after `information`."""
        gain, offset = self._affine(reference)
        return gain, offset, self.raw_noise * gain


def _reference(information: F64, cube: Cube) -> int:
    """Frame with the highest transparency squared over noise variance, times sharpness squared."""
    width = _measured(cube, "fwhm")
    if width is not None and np.isfinite(width).all() and (width > 0).all():
        information = information * (np.median(width) / width) ** 2
    return int(np.argmax(information))


def _measured(cube: Cube, name: str) -> F64 | None:
    """Return one measure of all frames, or None where a frame was not measured."""
    used = [frame for frame in cube.frames if frame.use and frame.kind == "light"]
    if len(used) != cube.shape[0]:
        return None
    values = [getattr(frame.measures, name, None) for frame in used]
    if any(value is None for value in values):
        return None
    return np.array(values, dtype=np.float64)


def _weights(
    cube: Cube,
    weights: str,
    manual: tuple[float, ...] | None,
    gain: F64,
    noise: F64,
    alive: NDArray[np.bool_],
) -> F64:
    """Weight of every frame and channel, mean 1 in each channel."""
    count, channels = cube.shape[:2]
    if weights == "manual":
        if manual is None or len(manual) != count:
            given = 0 if manual is None else len(manual)
            raise ParameterError(f"stack.manual_weights has {given} values; the cube has {count} frames.")
        raw = np.tile(np.array(manual, float)[:, None], (1, channels))
    elif weights in ("noise", "fwhm"):
        raw = _inverse_variance(cube, gain, noise)
        if weights == "fwhm":
            raw = raw * _needed(cube, "fwhm", weights)[:, None] ** -2
    elif weights == "stars":
        raw = np.tile(_needed(cube, "stars", weights)[:, None], (1, channels))
    elif weights == "exposure":
        if not (np.isfinite(cube.exposure).all() and (cube.exposure > 0).all()):
            raise ParameterError("stack.weights = 'exposure' needs the exposure time of every frame.")
        raw = np.tile(cube.exposure[:, None], (1, channels))
    else:
        raw = np.ones((count, channels))
    raw = np.where(alive, raw, 0.0)
    mean = raw.sum(axis=0) / np.maximum(alive.sum(axis=0), 1)
    if not (mean > 0).all():
        raise ProcessingError("All frames have the weight 0: there is nothing to combine.")
    return np.asarray(raw / mean)


def _inverse_variance(cube: Cube, gain: F64, noise: F64) -> F64:
    """1 / (gain sigma)^2 with the sigma of raw samples where it was measured, else as found in the cube."""
    raw = cube.noise * gain
    usable = (np.isfinite(raw) & (raw > 0)).all(axis=0)
    sigma = np.where(usable, raw, noise)
    good = np.isfinite(sigma) & (sigma > 0)
    if not good.any():
        return np.ones_like(gain)
    typical = np.median(sigma[good])
    return np.asarray(np.where(good, sigma, typical) ** -2.0)


def _needed(cube: Cube, name: str, weights: str) -> F64:
    values = _measured(cube, name)
    if values is None or not (values > 0).all():
        raise ParameterError(
            f"stack.weights = '{weights}' needs frames measured by the step 'measure', and all above 0. "
            "Use 'noise', 'equal' or 'manual'."
        )
    return values
