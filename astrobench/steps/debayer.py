"""Choose how the colours of a Bayer frame come onto the output grid."""

from __future__ import annotations

from typing import Literal

from astrobench.context import Context
from astrobench.frames import Frames
from astrobench.step import Step, param


class Debayer(Step):
    """Say how colours are made; the work is done while frames are registered, one frame at a time."""

    area = "frames"
    takes = Frames
    gives = Frames

    method: Literal["auto", "direct", "directional", "bilinear", "superpixel"] = param(
        "auto",
        "How colours are made: 'direct' takes each colour straight from its own pixels to the output grid (sharp, "
        "true colours, needs dithered frames); the others interpolate every frame first; 'auto' decides by the dither",
    )
    hot_pixels: bool = param(True, "Replace hot and cold pixels found in the light frames themselves")
    hot_sigma: float = param(
        7.0, "How far a pixel must stand out to be hot or cold", unit="sigma", gt=2, le=50, advanced=True
    )

    def apply(self, frames: Frames, context: Context) -> Frames:
        """Note the choice on the frames; nothing is read yet."""
        colour = [frame for frame in frames.used if frame.bayer]
        if not colour:
            context.report.fact("no mosaic", "No frame has a Bayer pattern: nothing to debayer.")
        else:
            patterns = sorted({str(frame.bayer) for frame in colour})
            context.report.fact(
                "pattern",
                "{count} frames with the Bayer pattern {patterns}.",
                count=len(colour),
                patterns=", ".join(patterns),
            )
        return frames.replace(pending=(self,))
