"""Fit the sky where there is only sky, and take it away."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.image import Image
from astrobench.kernels.gradient import (
    Judged,
    Surface,
    choose_degree,
    corners_sampled,
    fit_sky,
    judge_samples,
    known_cells,
    usual_error,
)
from astrobench.kernels.sky_samples import Samples, sample_sky
from astrobench.step import Area, Step, param

LEAST_SAMPLES = 12  # four for each term of a plane
STIFF = 3.0  # hold-out error over sample error from which structure is left that the surface cannot follow
VISIBLE = 0.2  # of a pixel's noise: what is left below that, no stretch shows
OVERFIT = 1.5  # hold-out error over that of the next plainer surface
LOST_BORDER = 0.5  # share of the cells along one side whose loss makes the surface a guess there
SIDES = ("top", "bottom", "left", "right")
CORNERS = ("top left", "top right", "bottom left", "bottom right")


class RemoveGradient(Step):
    """Fit the sky where there is only sky, and take it away; the median level stays."""

    area: ClassVar[Area] = "finish"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    degree: Literal["auto", 1, 2, 3, 4, 5, 6] = param(
        "auto", "Degree of the fitted surface; auto takes the plainest that foretells samples it has not seen"
    )
    samples: int = param(24, "Sky samples along the shorter side", label="samples per row", ge=5, le=40)
    tolerance: float = param(
        2.5, "Leave out single samples that stand above the surface by more", unit="sigma", ge=0.5, le=10
    )
    operation: Literal["subtract", "divide"] = param(
        "subtract",
        "subtract for light pollution and moonlight, divide for vignetting (data without pedestal)",
    )

    def apply(self, image: Image, context: Context) -> Image:
        """Return the picture with a level sky."""
        channels = self._sample(image, context)
        _, height, width = image.shape
        judged = judge_samples(channels, self.tolerance, height, width)
        self._tell_samples(channels, judged, context)
        context.progress(0.6, "fitting the sky")
        degree = self._degree(channels, judged, height, width, context)
        surfaces = [fit_sky(samples, judged.kept, degree, height, width) for samples in channels]
        context.progress(0.7, "taking the gradient away")
        result = self._take_away(image, surfaces, context)
        self._tell_fit(image, channels, judged, surfaces, context)
        context.progress(1.0, "gradient taken away")
        return result

    def _sample(self, image: Image, context: Context) -> list[Samples]:
        _, height, width = image.shape
        context.progress(0.0, "sampling the sky")
        channels = []
        for number, plane in enumerate(image.data, 1):
            channels.append(sample_sky(plane, self.samples))
            context.progress(0.4 * number / len(image.data), "sampling the sky")
        known = int(known_cells(channels).sum())
        if known < LEAST_SAMPLES:
            raise ProcessingError(
                f"Only {known} sky samples could be taken from this picture of {width} x {height} pixels, "
                f"and a surface needs {LEAST_SAMPLES}. Use more samples per row, or leave RemoveGradient out."
            )
        return channels

    def _degree(
        self, channels: list[Samples], judged: Judged, height: int, width: int, context: Context
    ) -> int:
        """Choose the degree, or hold the given one against what the samples can carry."""
        fact = context.report.fact
        if judged.filled:
            fact(
                "gradient.filled",
                "Next to no cell shows plain sky: the object fills the picture. A plane through the border "
                "was taken, which may hold light of the object.",
                level="warning",
            )
            return 1
        best, errors = choose_degree(channels, judged.kept, height, width)
        if self.degree == "auto":
            fact(
                "gradient.degree",
                "Degree {degree}: the plainest surface that foretells unseen samples well, to {error:.1f} "
                "times their error.",
                degree=best,
                error=errors[best - 1],
                errors=errors,
            )
            degree = best
        else:
            degree = min(self.degree, len(errors))
            if degree < self.degree:
                fact(
                    "gradient.lowered",
                    "The samples carry no more than degree {degree}; {wanted} was asked for.",
                    level="warning",
                    degree=degree,
                    wanted=self.degree,
                )
            if degree > 1 and errors[degree - 1] > OVERFIT * errors[degree - 2]:
                fact(
                    "gradient.overfit",
                    "Degree {degree} foretells unseen samples {times:.1f} times worse than the next plainer "
                    "one: it follows noise. Degree {best} would do.",
                    level="warning",
                    degree=degree,
                    times=errors[degree - 1] / errors[degree - 2],
                    best=best,
                )
        noise = [float(np.median(each.noise[judged.kept])) for each in channels]
        errors_of = [usual_error(each, judged.kept) for each in channels]
        seen = errors[degree - 1] * max(e / max(n, 1e-12) for e, n in zip(errors_of, noise, strict=True))
        if errors[degree - 1] > STIFF and seen > VISIBLE:
            fact(
                "gradient.stiff",
                "The surface misses unseen samples by {times:.1f} times their error, {seen:.2f} times the "
                "noise of a pixel: a sharper gradient, or faint nebulosity, is left in the picture.",
                level="warning",
                times=errors[degree - 1],
                seen=seen,
            )
        return degree

    def _take_away(self, image: Image, surfaces: list[Surface], context: Context) -> Image:
        data = np.empty_like(image.data)
        variance = None
        if image.variance is not None and self.operation == "divide":
            variance = np.broadcast_to(image.variance, data.shape).copy()
        for channel, surface in enumerate(surfaces):
            context.check_stop()
            level = _median_level(surface, image.data[channel])
            model = surface.picture(level)
            if self.operation == "subtract":
                np.subtract(image.data[channel], model, out=data[channel])
                continue
            if not level + float(model.min()) > 0:
                raise ProcessingError(
                    f"The fitted sky falls to {level + float(model.min()):.4g}, and only a sky above 0 can "
                    "be divided by. Use operation='subtract'."
                )
            gain = np.float32(level) / (model + np.float32(level))
            np.multiply(image.data[channel], gain, out=data[channel])
            if variance is not None:
                variance[channel] *= gain * gain
        if self.operation == "divide":
            context.report.fact("gradient.divided", "Divided by the surface; the variance was scaled along.")
            return image.replace(data=data, variance=variance if variance is not None else image.variance)
        return image.replace(data=data)

    def _tell_samples(self, channels: list[Samples], judged: Judged, context: Context) -> None:
        known = known_cells(channels)
        context.report.fact(
            "gradient.samples",
            "{used} of {total} sky samples used; {objects} lie on objects, {bright} are too bright for their "
            "place, {empty} are without data.",
            used=int(judged.kept.sum()),
            total=known.size,
            objects=int(judged.objects.sum()),
            bright=int(judged.bright.sum()),
            empty=int((~known).sum()),
        )
        if judged.filled:
            return
        edges = (judged.kept[0], judged.kept[-1], judged.kept[:, 0], judged.kept[:, -1])
        sampled = corners_sampled(judged.kept)
        places = [
            f"the {side} side" for side, cells in zip(SIDES, edges, strict=True) if cells.mean() < LOST_BORDER
        ]
        places += [
            f"the {corner} corner" for corner, there in zip(CORNERS, sampled, strict=True) if not there
        ]
        if places:
            context.report.fact(
                "gradient.border",
                "Few samples at {where}: the surface is a guess there. Crop first, or look at that part.",
                level="warning",
                where=", ".join(places),
            )

    def _tell_fit(
        self, image: Image, channels: list[Samples], judged: Judged, surfaces: list[Surface], context: Context
    ) -> None:
        peaks, left, ratio = [], [], []
        for samples, surface in zip(channels, surfaces, strict=True):
            model = surface.at(samples.y, samples.x)
            known = np.isfinite(samples.value)
            peaks.append(float(np.ptp(model[known])))
            left.append(float(np.sqrt(np.mean((samples.value - model)[judged.kept] ** 2))))
            ratio.append(peaks[-1] / max(float(np.median(samples.noise[known])), 1e-12))
        context.report.fact(
            "gradient.size",
            "The gradient spanned {largest:.4g} {unit} from lowest to highest, {sigmas:.1f} times the noise "
            "of a pixel.",
            largest=max(peaks),
            sigmas=max(ratio),
            peak_to_peak=peaks,
            unit="ADU" if image.unit == "ADU" else "(display)",
        )
        context.report.fact(
            "gradient.residual",
            "What is left scatters by {rms:.3g}, {times:.1f} times the samples' own error.",
            rms=max(left),
            residuals=left,
            times=max(each / usual_error(s, judged.kept) for each, s in zip(left, channels, strict=True)),
        )
        if judged.objects.any():
            context.report.fact(
                "gradient.objects",
                "Objects cover {share:.0%} of the picture and were left alone; under them the surface bends "
                "by {bend:.3g} at most.",
                share=float(judged.objects.mean()),
                bend=_bend(channels, judged, surfaces),
            )


def _median_level(surface: Surface, plane: NDArray[np.float32]) -> float:
    """Return the median of the surface over the pixels that hold data."""
    height, width = plane.shape
    y, x = np.arange(min(1, height - 1), height, 3), np.arange(min(1, width - 1), width, 3)
    there = np.isfinite(plane[np.ix_(y, x)])
    model = surface.at(y.astype(np.float64), x.astype(np.float64))
    return float(np.median(model[there] if there.any() else model))


def _bend(channels: list[Samples], judged: Judged, surfaces: list[Surface]) -> float:
    """Return by how much the surface bulges up under objects, against a plane of the same cells.

    Much of it may be true sky; it is the most that a nebula can have lost.
    """
    bend = 0.0
    row, column = np.nonzero(judged.objects)
    for samples, surface in zip(channels, surfaces, strict=True):
        model = surface.at(samples.y, samples.x)[row, column]
        plane = np.stack([np.ones(row.size), row, column], axis=1).astype(np.float64)
        away = model - plane @ np.linalg.lstsq(plane, model, rcond=None)[0]
        bend = max(bend, float(np.ptp(away)))
    return bend
