"""Combine registered frames into one picture, leaving out samples that do not belong."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.image import Image
from astrobench.step import Area, Step, param

if TYPE_CHECKING:
    from astrobench.steps._plan import Plan

Rejection = Literal["auto", "none", "sigma", "mad", "winsorized", "gesd", "minmax", "percentile", "model"]
Combination = Literal["mean", "median", "sum", "min", "max"]
Levels = Literal["none", "additive", "multiplicative", "additive+scaling", "multiplicative+scaling"]
Weights = Literal["equal", "noise", "fwhm", "stars", "exposure", "manual"]
ScaleFrom = Literal["auto", "stars", "ikss", "mad"]


class Stack(Step):
    """Combine registered frames into one picture, leaving out samples that do not belong."""

    area: ClassVar[Area] = "stack"
    takes: ClassVar[type] = Cube
    gives: ClassVar[type] = Image

    rejection: Rejection = param(
        "auto", "How outliers are recognised; auto chooses by the number of frames and the noise"
    )
    low: float | None = param(
        None,
        "Reject below: in sigma; a count for minmax, a share for percentile; none: as customary",
        ge=0,
        le=1000,
    )
    high: float | None = param(
        None,
        "Reject above: in sigma; a count for minmax, a share for percentile; none: as customary",
        ge=0,
        le=1000,
    )
    combination: Combination = param("mean", "How the samples that are left become one value")
    normalisation: Levels = param(
        "additive+scaling", "How frames are brought to one sky level and one brightness"
    )
    scale_from: ScaleFrom = param(
        "auto", "What tells the brightness of a frame: its stars, or the spread of its samples", advanced=True
    )
    weights: Weights = param("noise", "How much a frame counts")
    manual_weights: tuple[float, ...] | None = param(
        None, "One weight a frame, for weights = manual", advanced=True
    )
    gain: float | None = param(
        None,
        "Gain of the camera; measured from the frames if not given",
        unit="e-/ADU",
        gt=0,
        le=1e6,
        advanced=True,
    )
    read_noise: float | None = param(
        None,
        "Read noise of the camera; measured from the frames if not given",
        unit="e-",
        ge=0,
        le=1e6,
        advanced=True,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.rejection == "percentile" and max(self.low or 0, self.high or 0) > 1:
            raise ValueError(
                "low and high are shares of the median for rejection = 'percentile'; allowed: 0 to 1."
            )
        if self.rejection == "minmax" and any(v is not None and v != int(v) for v in (self.low, self.high)):
            raise ValueError(
                "low and high are counts of samples for rejection = 'minmax'; give whole numbers."
            )
        if self.weights == "manual" and not self.manual_weights:
            raise ValueError("weights = 'manual' needs manual_weights, one a frame.")
        if self.manual_weights is not None and min(self.manual_weights, default=0.0) < 0:
            raise ValueError("manual_weights must be 0 or more.")
        if self.read_noise is not None and self.gain is None:
            raise ValueError("read_noise in electrons needs gain as well.")
        return self

    def apply(self, cube: Cube, context: Context) -> Image:
        """Return the stack with its variance, coverage, weight, rejection and saturation maps."""
        from astrobench.steps._integration import integrate_cube
        from astrobench.steps._stack_facts import tell_plan

        with context.part(0.0, 0.25):
            plan = stacking_plan(cube, self, context)
            tell_plan(cube, plan, self.weights, context)
        with context.part(0.25, 1.0):
            if cube.patterns:
                from astrobench.steps._own_pixels import integrate_own_pixels

                return integrate_own_pixels(cube, plan, context)
            return integrate_cube(cube, plan, context)


_PLANS: weakref.WeakKeyDictionary[Cube, dict[Stack, Plan]] = weakref.WeakKeyDictionary()


def stacking_plan(cube: Cube, step: Stack, context: Context) -> Plan:
    """Measure a cube and decide what `step` does with it; kept as long as the cube lives."""
    from astrobench.steps._noise_model import noise_model
    from astrobench.steps._normalisation import normalise_cube
    from astrobench.steps._plan import Plan
    from astrobench.steps._rejection import choose

    kept = _PLANS.setdefault(cube, {})
    if step not in kept:
        normalisation = normalise_cube(
            cube, step.normalisation, step.scale_from, step.weights, step.manual_weights, context
        )
        model = noise_model(cube, normalisation, step.gain, step.read_noise)
        kept[step] = Plan(
            normalisation, model, choose(step, int(normalisation.alive.sum()), model), step.combination
        )
    return kept[step]
