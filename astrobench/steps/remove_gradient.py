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
    Samples,
    Surface,
    choose_degree,
    fit_sky,
    judge_samples,
    most_flexible,
    sample_sky,
    terms,
)
from astrobench.step import Area, Step, param


class RemoveGradient(Step):
    """Fit the sky where there is only sky, and take it away."""

    area: ClassVar[Area] = "finish"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    degree: Literal["auto", 1, 2, 3, 4, 5, 6] = param(
        "auto", "Degree of the fitted surface; auto takes the plainest that foretells samples it has not seen"
    )
    samples: int = param(20, "Sky samples along the shorter side", label="samples per row", ge=5, le=40)
    tolerance: float = param(2.5, "Leave out samples that stand above the sky by more", unit="sigma", ge=0.5, le=10)
    operation: Literal["subtract", "divide"] = param(
        "subtract", "subtract for light pollution and moon, divide for vignetting (needs data without pedestal)"
    )

    def apply(self, image: Image, context: Context) -> Image:
        """Return the picture with a level sky; its median level stays."""
        context.progress(0.0, "sampling the sky")
        _, height, width = image.shape
        channels = []
        for number, plane in enumerate(image.data):
            channels.append(sample_sky(plane, self.samples))
            context.progress(0.5 * (number + 1) / len(image.data), "sampling the sky")
        known = int(np.logical_and.reduce([np.isfinite(each.value) for each in channels]).sum())
        least = 2 * len(terms(1 if self.degree == "auto" else self.degree))
        if known < least:
            raise ProcessingError(
                f"Only {known} sky samples could be taken from the picture of {width} x {height} pixels; "
                f"{least} are needed. Use more samples, a lower degree, or a larger picture."
            )
        judged = judge_samples(channels, self.tolerance, height, width)
        degree = self._degree(channels, judged, height, width, context)
        context.progress(0.7, "taking the gradient away")
        data = np.empty_like(image.data)
        scales = []
        peaks = []
        for plane, samples, out in zip(image.data, channels, data, strict=True):
            surface = fit_sky(samples, judged.kept, degree, height, width)
            model = surface.picture()
            seen = model[::8, ::8]
            peaks.append(float(seen.max() - seen.min()))
            level = np.float32(np.median(seen))
            if self.operation == "subtract":
                np.subtract(plane, model - level, out=out)
            else:
                if not seen.min() > 0:
                    raise ProcessingError("The sky is not above zero everywhere; division needs a level above zero.")
                np.multiply(plane, level / model, out=out)
                scales.append((level / model) ** 2)
            context.check_stop()
        variance = image.variance
        if variance is not None and scales:
            variance = variance * np.stack(scales)
        context.report.fact("gradient.size", "Gradient {peaks} ADU from lowest to highest.", peaks=peaks)
        context.progress(1.0, "gradient taken away")
        return image.replace(data=data, variance=variance)

    def _degree(
        self, channels: list[Samples], judged: Judged, height: int, width: int, context: Context
    ) -> int:
        if self.degree != "auto":
            return min(self.degree, most_flexible(int(judged.kept.sum())))
        degree, errors = choose_degree(channels, judged.kept, height, width)
        context.report.fact("gradient.degree", "Degree {degree}", degree=degree, errors=errors)
        return degree
