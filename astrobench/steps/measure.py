"""Measure every light frame: stars, sharpness, sky, noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import InputError, ProcessingError
from astrobench.frames import Frame, Frames, Measures, check_pixels
from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.step import Step, param

NOISE_SAMPLES = 60_000  # pixels a colour that the noise is taken from: 0.5 % precision
RANKS = slice(2, 30)  # stars by brightness whose light tells how clear the sky was; the first may be saturated
SHAPE_SNR = 20.0  # fainter stars read as round, whatever they are
BLUR_VARIANCE = 0.5  # px^2 an axis that the [1 2 1] filter of the luminance adds to a star


class Measure(Step):
    """Find the stars of each frame and measure its sharpness, roundness, sky and noise."""

    area = "frames"
    takes = Frames
    gives = Frames

    threshold: float = param(5.0, "A star must stand this far above the noise", unit="sigma", ge=3, le=20)

    def apply(self, frames: Frames, context: Context) -> Frames:
        """Return the frames with their measures; those with unusable pixels are set aside."""
        lights = frames.used
        if not len(lights):
            raise ProcessingError("No usable light frame is left to measure. Look at the list of frames set aside.")
        found = context.map(lambda frame: _measure(frame, self.threshold), lights, "measuring")
        measured = {frame.path: frame for frame in found}
        good = [frame for frame in found if frame.use and frame.measures]
        for frame in found:
            if not frame.use:
                context.report.fact("set aside", "{name} {reason}.", name=frame.path.name, reason=frame.reason)
        if not good:
            raise ProcessingError(
                "None of the frames could be measured: " + "; ".join(sorted({f.reason for f in found})[:3])
            )
        measured = {**measured, **{f.path: f for f in _scored(_with_transparency(good))}}
        _tell(context, [measured[f.path] for f in good])
        return frames.replace(frames=tuple(measured.get(frame.path, frame) for frame in frames))


def _measure(frame: Frame, threshold: float) -> Frame:
    from astrobench.kernels.debayer import luminance
    from astrobench.kernels.stars import detect

    try:
        pixels = frame.read()
    except InputError as error:
        return dataclasses.replace(frame, use=False, reason=str(error).removeprefix(frame.path.name).strip())
    reason = check_pixels(frame, pixels)
    if reason:
        return dataclasses.replace(frame, use=False, reason=reason)
    mosaic = pixels.ndim == 2 and frame.bayer is not None
    if mosaic:
        grey, blur = luminance(pixels, frame.bayer), BLUR_VARIANCE
    else:
        grey = pixels.astype(np.float32) if pixels.ndim == 2 else pixels.mean(axis=0, dtype=np.float32)
        blur = 0.0
    stars, level, _ = detect(grey, threshold=threshold, saturation=frame.saturation, blur_variance=blur)
    planes = _planes(pixels, frame.bayer)
    noise = tuple(_noise(plane) for plane in planes)
    sky = tuple(_sky(plane[::4, ::4]) for plane in planes)
    fwhm, eccentricity = _typical(stars)
    scale = frame.pixel_scale
    main = len(noise) // 2  # green, or the only plane
    measures = Measures(
        stars=len(stars.x),
        fwhm=fwhm,
        fwhm_arcsec=fwhm * scale if scale else None,
        eccentricity=eccentricity,
        sky=level,
        noise=noise[main],
        snr=float(np.median(stars.snr)) if len(stars.x) else 0.0,
        transparency=None,
        score=None,
        word="",
        sky_by_colour=sky,
        noise_by_colour=noise,
        star_list=stars,
    )
    return dataclasses.replace(frame, measures=measures)


def _planes(pixels: NDArray[Any], bayer: str | None) -> list[NDArray[Any]]:
    """Return the colour planes as the sensor sampled them: R, G, B of a mosaic, or the planes themselves."""
    if pixels.ndim == 3:
        return list(pixels)
    if bayer is None:
        return [pixels]
    chosen = []
    for colour in "RGB":
        row, column = divmod(bayer.index(colour), 2)
        chosen.append(pixels[row::2, column::2])
    return chosen


def _sky(sample: NDArray[Any]) -> float:
    """Median of a sample of a plane, whatever it has no data for."""
    from astrobench.kernels.medians import median

    valid = sample if sample.dtype.kind != "f" else sample[~np.isnan(sample)]
    return median(valid) if valid.size else float("nan")


def _noise(plane: NDArray[Any]) -> float:
    """Noise of one sample on the sky: MAD of second differences in rows and columns (Immerkaer 1996)."""
    from astrobench.kernels.medians import median

    rows = max(1, plane.size // NOISE_SAMPLES)
    height = plane.shape[0]
    starts = np.arange(1, height - 1, rows)
    if not len(starts) or plane.shape[1] < 3:
        return float("nan")
    above, middle, below = (plane[starts + k].astype(np.float32) for k in (-1, 0, 1))
    column = above - 2 * middle + below
    laplace = column[:, :-2] - 2 * column[:, 1:-1] + column[:, 2:]
    if plane.dtype.kind == "f":
        laplace = laplace[np.isfinite(laplace)]
    if not laplace.size:
        return float("nan")
    laplace -= np.float32(median(laplace))
    return MAD_TO_SIGMA * median(np.abs(laplace)) / 6


def _typical(stars: Any) -> tuple[float, float]:
    """Return FWHM [px] and eccentricity of the frame: medians over its brighter unsaturated stars."""
    good = ~stars.saturated & (stars.snr > SHAPE_SNR) & np.isfinite(stars.fwhm)
    if good.sum() < 3:
        good = np.isfinite(stars.fwhm)
    if not good.any():
        return float("nan"), float("nan")
    bright = np.flatnonzero(good)[:100]
    return float(np.median(stars.fwhm[bright])), float(np.median(stars.eccentricity[bright]))


def _with_transparency(frames: list[Frame]) -> list[Frame]:
    """Estimate from the light of the stars of equal rank how clear each frame is, 1 for the typical one of its group.

    Ranks need no matching; registration replaces the estimate by the ratio of the same stars.
    """
    light: dict[str, list[float]] = {}
    values = []
    for frame in frames:
        assert frame.measures is not None
        assert frame.measures.star_list is not None
        flux = frame.measures.star_list.flux[RANKS]
        flux = flux[flux > 0]
        values.append(float(np.mean(np.log(flux))) if len(flux) >= 5 else float("nan"))
        light.setdefault(frame.group, []).append(values[-1])
    typical = {
        group: float(np.median([v for v in each if np.isfinite(v)] or [np.nan])) for group, each in light.items()
    }
    clear = [float(np.exp(value - typical[frame.group])) for frame, value in zip(frames, values, strict=True)]
    return [
        _remeasured(frame, transparency=round(t, 3) if np.isfinite(t) else None)
        for frame, t in zip(frames, clear, strict=True)
    ]


def _remeasured(frame: Frame, **changes: Any) -> Frame:
    """Return the frame with some of its measures changed."""
    assert frame.measures is not None
    return dataclasses.replace(frame, measures=dataclasses.replace(frame.measures, **changes))


def _scored(frames: list[Frame]) -> list[Frame]:
    """Give each frame a score: the depth and sharpness it brings, 1 for the typical frame of this set."""
    bring = []
    for frame in frames:
        m = frame.measures
        assert m is not None
        bring.append(m.stars**0.5 / max(m.noise, 1e-6) / max(m.fwhm, 0.5) ** 2 if m.stars else 0.0)
    typical = float(np.nanmedian(bring)) or 1.0
    scored = []
    for frame, value in zip(frames, bring, strict=True):
        score = value / typical if np.isfinite(value) else 0.0
        scored.append(_remeasured(frame, score=round(score, 3), word=_word(score)))
    return scored


def _word(score: float) -> str:
    for least, word in ((1.15, "excellent"), (0.85, "good"), (0.6, "fair"), (0.3, "poor")):
        if score >= least:
            return word
    return "unusable"


def _tell(context: Context, frames: list[Frame]) -> None:
    table = np.array(
        [[f.measures.fwhm, f.measures.eccentricity, f.measures.stars, f.measures.noise] for f in frames if f.measures]
    )
    fwhm, eccentricity, stars, noise = np.nanmedian(table, axis=0)
    context.report.fact(
        "measured",
        "{count} frames measured: typically {stars:.0f} stars, FWHM {fwhm:.2f} px, eccentricity {eccentricity:.2f}, "
        "noise {noise:.1f} ADU.",
        count=len(frames),
        stars=stars,
        fwhm=fwhm,
        eccentricity=eccentricity,
        noise=noise,
    )
