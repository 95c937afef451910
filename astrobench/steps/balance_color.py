"""Make the sky neutral and the stars white."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.image import SATURATED, Image
from astrobench.kernels.colour import grey_gains, sky_levels, star_colours, white_gains
from astrobench.step import Area, Step, param

ENOUGH_STARS = 5  # below, one red star too many turns the picture
NEAR_FULL = 0.5  # of the brightest pixel: a core above it may have been clipped in some frames


class BalanceColor(Step):
    """Give the sky one level in all channels and scale the colours until white is white."""

    area: ClassVar[Area] = "finish"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    neutral_sky: bool = param(True, "Bring the sky to the same level in all channels", label="neutral sky")
    white: Literal["stars", "grey world", "manual", "none"] = param(
        "stars",
        "What is white: the middle star, all light together, your own gains, or leave colours as they are",
    )
    red: float = param(1.0, "Gain of red with manual white", gt=0, le=10, log_scale=True)
    green: float = param(1.0, "Gain of green with manual white", gt=0, le=10, log_scale=True)
    blue: float = param(1.0, "Gain of blue with manual white", gt=0, le=10, log_scale=True)

    def apply(self, image: Image, context: Context) -> Image:
        """Return the picture with balanced colours, its variance scaled along."""
        context.progress(0.0, "measuring the sky")
        if image.shape[0] == 1:
            context.report.fact("color.mono", "The picture has one channel; there are no colours to balance.")
            context.progress(1.0, "mono")
            return image
        levels = sky_levels(image.data)
        if not np.isfinite(levels).all():
            raise ProcessingError(
                "A channel of the picture holds no data, so its sky cannot be measured. Look at the stack."
            )
        context.progress(0.4, "measuring the stars")
        gains = self._gains(image, levels, context)
        context.progress(0.8, "balancing")
        wanted = np.full(3, levels.mean()) if self.neutral_sky else levels
        scale = gains.astype(np.float32)[:, None, None]
        shift = (wanted - gains * levels).astype(np.float32)[:, None, None]
        data = image.data * scale
        data += shift
        variance = None
        if image.variance is not None:
            variance = np.asarray(image.variance * scale**2, dtype=np.float32)
        if self.neutral_sky:
            context.report.fact(
                "color.sky",
                "Sky made neutral: red {red:+.4g}, green {green:+.4g}, blue {blue:+.4g} taken to {sky:.4g}.",
                red=levels[0],
                green=levels[1],
                blue=levels[2],
                sky=levels.mean(),
            )
        context.report.fact(
            "color.gains",
            "Light above the sky times {red:.3f} in red, {green:.3f} in green, {blue:.3f} in blue; "
            "variance scaled along.",
            red=gains[0],
            green=gains[1],
            blue=gains[2],
            white=self.white,
        )
        context.progress(1.0, "balanced")
        return image.replace(data=data, variance=variance)

    def _gains(self, image: Image, levels: NDArray[np.float64], context: Context) -> NDArray[np.float64]:
        if self.white == "none":
            return np.ones(3)
        if self.white == "manual":
            return np.array([self.red, self.green, self.blue])
        if self.white == "stars":
            gains, used = self._star_gains(image, context)
            if used >= ENOUGH_STARS:
                return gains
            context.report.fact(
                "color.few_stars",
                "Only {used} unsaturated stars are bright enough for a white balance ({least} are needed); "
                "all light together was taken for grey instead.",
                level="warning",
                used=used,
                least=ENOUGH_STARS,
            )
        gains = grey_gains(image.data, levels)
        if np.isfinite(gains).all():
            return gains
        context.report.fact(
            "color.no_white",
            "Nothing stands out of the sky in all channels, so the colours were left as they are.",
            level="warning",
        )
        return np.ones(3)

    def _star_gains(self, image: Image, context: Context) -> tuple[NDArray[np.float64], int]:
        from astrobench.kernels.stars import detect

        light = image.luminance()
        stars, _, _ = detect(light, guard_hot=False, max_stars=500)
        context.progress(0.6, "measuring the stars")
        unusable = image.data.max(axis=0) > NEAR_FULL * np.nanmax(image.data)
        if image.flags is not None:
            unusable |= ((image.flags & SATURATED) != 0).any(axis=0)
        good = ~stars.saturated
        if not good.any():
            return np.ones(3), 0
        fwhm = float(np.median(stars.fwhm[good]))
        gains, used, error = white_gains(
            star_colours(image.data, stars.x[good], stars.y[good], fwhm, unusable)
        )
        if used >= ENOUGH_STARS:
            context.report.fact(
                "color.stars",
                "White from the middle of the {used} brightest unsaturated stars; gains good to {error:.1%}.",
                used=used,
                error=error,
            )
        return gains, used
