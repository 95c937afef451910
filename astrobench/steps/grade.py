"""Keep the frames that help, set aside those that harm, each with its reason."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.frames import Frame, Frames
from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.step import Step, param

FLOOR = 0.05  # the spread of a measure is taken as at least this share of its median
FEWER_STARS = 0.1  # star counts vary by this share from frame to frame without any cloud
BLURRED = 1.5  # a frame wider than this times the typical one is out of focus; below, its weight does
DIM = 0.6  # a frame in which less than this share of the starlight came through is clouded
MOST = 0.3  # share of the frames that the automatic rule may set aside at most

Quantity = Literal["fwhm", "eccentricity", "stars", "sky", "noise", "snr", "transparency", "score"]
HIGHER_IS_BETTER = {"stars", "snr", "transparency", "score"}


class Grade(Step):
    """Set frames aside by their measures. By default it finds clouds, defocus and trailing by itself."""

    area = "frames"
    takes = Frames
    gives = Frames

    rule: Literal["auto", "threshold", "percent", "best", "sigma", "none"] = param(
        "auto",
        "How frames are chosen: 'auto' sets aside what stands out on the bad side; 'threshold', 'percent' (to keep), "
        "'best' (number to keep) and 'sigma' use `by` and `value`; 'none' keeps all",
    )
    by: Quantity = param("score", "Measure that the other rules go by")
    value: float = param(0.0, "Threshold, percentage, number or sigma, as the rule says", ge=0)
    exclude: tuple[str, ...] = param((), "Names of frames to set aside in any case")
    include: tuple[str, ...] = param((), "Names of frames to keep in any case")

    def apply(self, frames: Frames, context: Context) -> Frames:
        """Return the frames, those that fail set aside with their reason."""
        lights = [frame for frame in frames.used if frame.measures]
        if self.rule not in ("none",) and not lights and not self.exclude:
            raise ProcessingError("Frames cannot be graded before they are measured. Put the step 'measure' first.")
        reasons: dict[str, str] = {}
        for group in _by_group(lights).values():
            reasons.update(_auto(group) if self.rule == "auto" else self._chosen(group))
        for frame in frames.used:
            if frame.path.name in self.exclude:
                reasons[str(frame.path)] = "is named in `exclude`"
            if frame.path.name in self.include:
                reasons.pop(str(frame.path), None)
        unknown = set(self.exclude + self.include) - {frame.path.name for frame in frames}
        if unknown:
            context.report.fact(
                "unknown names", "Not among the frames: {names}.", "warning", names=", ".join(sorted(unknown))
            )
        for frame in lights:
            if str(frame.path) in reasons:
                context.report.fact(
                    "set aside", "{name} {reason}.", name=frame.path.name, reason=reasons[str(frame.path)]
                )
        context.report.fact(
            "kept",
            "{kept} of {total} frames kept.",
            kept=len(frames.used) - len(reasons),
            total=len(frames.used),
        )
        graded = frames.set_aside(reasons)
        if not len(graded.used):
            raise ProcessingError(f"The rule '{self.rule}' leaves no frame. Loosen it or use rule = \"none\".")
        return graded

    def _chosen(self, frames: list[Frame]) -> dict[str, str]:
        """Apply the rule that the user chose."""
        if self.rule == "none":
            return {}
        values = _values(frames, self.by)
        goodness = values if self.by in HIGHER_IS_BETTER else -values
        order = np.argsort(-goodness, kind="stable")
        keep = np.ones(len(frames), bool)
        limit = ""
        if self.rule == "threshold":
            keep = values >= self.value if self.by in HIGHER_IS_BETTER else values <= self.value
            limit = f"limit {self.value:g}"
        elif self.rule == "sigma":
            middle, spread = _middle(values)
            keep = goodness >= (middle if self.by in HIGHER_IS_BETTER else -middle) - self.value * spread
            limit = f"median {middle:.3g}, {self.value:g} sigma of {spread:.2g}"
        else:
            count = int(self.value) if self.rule == "best" else round(len(frames) * self.value / 100)
            keep[order[max(1, count) :]] = False
            limit = f"the best {max(1, count)} are kept"
        return {
            str(frame.path): f"has the {self.by} {value:.3g} ({limit})"
            for frame, value, kept in zip(frames, values, keep, strict=True)
            if not kept
        }


def _auto(frames: list[Frame]) -> dict[str, str]:
    """Find what stands out on the bad side: trailing, defocus, clouds (limits: Grading in the README)."""
    fwhm, eccentricity, stars, sky = (_values(frames, name) for name in ("fwhm", "eccentricity", "stars", "sky"))
    clear = _values(frames, "transparency")
    if len(frames) < 4:
        return {}
    wide = max(_limit(fwhm, 3), BLURRED * float(np.nanmedian(fwhm)))
    long = max(0.75, _limit(eccentricity, 3))
    few = float(np.nanmedian(stars)) - 3 * max(_middle(stars)[1], FEWER_STARS * float(np.nanmedian(stars)))
    bright = _limit(sky, 6)
    verdicts: list[tuple[float, str, str]] = []
    for i, frame in enumerate(frames):
        found = []
        if frame.measures is not None and frame.measures.stars == 0:
            found.append((1e9, "shows no stars: clouds or focus"))
        if eccentricity[i] > long:
            found.append((10.0, f"is trailed: eccentricity {eccentricity[i]:.2f} (limit {long:.2f})"))
        if fwhm[i] > wide:
            found.append((5.0, f"is out of focus: FWHM {fwhm[i]:.1f} px (limit {wide:.1f})"))
        if stars[i] < few:
            found.append((few / max(stars[i], 1), f"is clouded: {stars[i]:.0f} stars (limit {few:.0f})"))
        if clear[i] < DIM:
            found.append(
                (DIM / clear[i], f"is clouded: {clear[i]:.0%} of the starlight came through (limit {DIM:.0%})")
            )
        if sky[i] > max(bright, 1.5 * float(np.nanmedian(sky))):
            found.append((sky[i] / bright, f"has a bright sky: {sky[i]:.0f} ADU (limit {bright:.0f})"))
        if found:
            weight, text = max(found)
            verdicts.append((weight, str(frame.path), text))
    verdicts.sort(reverse=True)
    return {path: text for _, path, text in verdicts[: int(MOST * len(frames))]}


def _values(frames: list[Frame], name: str) -> NDArray[np.float64]:
    return np.array([getattr(frame.measures, name) for frame in frames], dtype=np.float64)


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(np.nanmedian(values))
    spread = MAD_TO_SIGMA * float(np.nanmedian(np.abs(values - middle)))
    return middle, max(spread, FLOOR * abs(middle))


def _limit(values: NDArray[np.float64], sigmas: float) -> float:
    middle, spread = _middle(values)
    return middle + sigmas * spread


def _by_group(frames: list[Frame]) -> dict[str, list[Frame]]:
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.group, []).append(frame)
    return groups
