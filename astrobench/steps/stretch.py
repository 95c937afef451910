"""Bend the linear values so that the eye sees faint and bright at once."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.image import Image
from astrobench.kernels.tone import (
    Levels,
    asinh_strength,
    autostretch,
    black_point,
    measure_levels,
    stretch_asinh,
)
from astrobench.step import Area, Step, param


class Stretch(Step):
    """Make the picture visible: dark sky, faint arms, stars with their colours."""

    area: ClassVar[Area] = "finish"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    method: Literal["asinh", "autostretch"] = param(
        "asinh", "asinh keeps the colours of stars; autostretch (midtones) lifts more and pales them"
    )
    target: float = param(0.11, "How bright the sky becomes", label="sky brightness", gt=0, lt=0.5)
    shadows: float = param(
        -2.2, "Black point, from the sky's median", label="shadows clip", unit="sigma", ge=-10, le=0
    )
    linked: bool = param(True, "autostretch: one curve for all channels, which keeps the balance of colours")
    strength: float | None = param(
        None,
        "asinh: strength; if not given, what brings the sky to its brightness",
        ge=0,
        le=1e6,
        log_scale=True,
        advanced=True,
    )

    def apply(self, image: Image, context: Context) -> Image:
        """Return the picture with display values in [0, 1]."""
        context.progress(0.0, "stretching")
        known = [each for each in map(measure_levels, image.data) if each is not None]
        if not known:
            raise ProcessingError("The picture holds no data at all, so there is nothing to stretch.")
        if image.unit == "display":
            context.report.fact(
                "stretch.again",
                "The picture was stretched before and is stretched once more.",
                level="warning",
            )
        context.progress(0.3, "stretching")
        if self.method == "autostretch":
            data = autostretch(image.data, self.target, self.shadows, self.linked)
            context.report.fact(
                "stretch.autostretch",
                "Midtones autostretch: black at {shadows:g} sigma from the sky, sky at {target:g}, {how}.",
                shadows=self.shadows,
                target=self.target,
                how="channels linked" if self.linked else "each channel its own",
            )
        else:
            data = self._asinh(image, known, context)
        context.progress(0.9, "stretching")
        dropped = [name for name in ("variance", "weight") if getattr(image, name) is not None]
        if dropped:
            context.report.fact(
                "stretch.dropped",
                "Left behind, because they describe linear values: {maps}. They stay in the master.",
                maps=" and ".join(dropped),
            )
        context.progress(1.0, "stretching")
        return image.replace(data=data, variance=None, weight=None, unit="display")

    def _asinh(self, image: Image, known: list[Levels], context: Context) -> np.ndarray:
        sky = Levels(*(float(np.mean(column)) for column in zip(*known, strict=True)))
        black, white = black_point(sky, self.shadows), max(each.high for each in known)
        share = (sky.median - black) / (white - black) if white > black else 0.0
        strength = asinh_strength(share, self.target) if self.strength is None else self.strength
        context.report.fact(
            "stretch.asinh",
            "Asinh stretch of strength {strength:.0f} with colours kept: black at {black:.4g}, white at "
            "{white:.4g}, sky at {target:.2g}.",
            strength=strength,
            black=black,
            white=white,
            target=self.target,
        )
        return stretch_asinh(image.data, black, white, strength)
