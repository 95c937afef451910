"""Tell what a stack did: levels, weights, noise, what was rejected and what could not have been found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.steps._noise_model import CERTAIN, NoiseModel
from astrobench.steps._normalisation import Normalisation
from astrobench.steps._plan import Plan
from astrobench.steps._rejection import expected_shares, most_outliers

F64 = NDArray[np.float64]

MUCH_REJECTED = 0.05  # of one frame
CLIPPED = 0.005  # share of zeros from which they are worth a word
ODD_NOISE = 1.3  # noise as calculated over noise as found
NAMED = 5  # frames that a sentence names


def tell_plan(cube: Cube, plan: Plan, weights: str, context: Context) -> None:
    """Report levels, scales, weights, noise and the rule before the pixels are combined."""
    n = plan.normalisation
    _tell_normalisation(cube, n, context)
    _tell_zeros(n, context)
    count = int(n.alive.sum())
    effective = effective_frames(n.weight)
    context.report.fact(
        "weights",
        "Weights ({kind}) from {low:.3g} to {high:.3g}; {count} frames count as {effective:.1f} equal ones.",
        kind=weights, low=n.weight.min(), high=n.weight.max(), count=count, effective=float(effective.mean()),
        per_frame=n.weight, names=cube.names,
    )  # fmt: skip
    _tell_noise(plan.model, n, context)
    _tell_rule(plan, count, context)


def effective_frames(weight: F64) -> F64:
    """Return (sum w)^2 / sum w^2 of each channel."""
    return np.asarray(weight.sum(axis=0) ** 2 / (weight**2).sum(axis=0))


def _tell_normalisation(cube: Cube, n: Normalisation, context: Context) -> None:
    count = cube.shape[0]
    dead = [cube.names[k] for k in range(count) if not n.alive[k]]
    if dead:
        context.report.fact(
            "no data", "{count} frames hold no sample on the grid and do not count: {names}.", "warning",
            count=len(dead), names=", ".join(dead[:NAMED]),
        )  # fmt: skip
    sources = {str(name): int((n.source == name).any(axis=1).sum()) for name in np.unique(n.source)}
    scaled = ", ".join(f"{name} for {k} frames" for name, k in sources.items() if name != "none")
    how = f"; brightness from {scaled}" if scaled else ""
    context.report.fact(
        "normalisation",
        "Frames brought to the level of {reference} ({kind}{how}): sky {low:.5g} to {high:.5g} ADU, "
        "brightness {dim:.3g} to {bright:.3g}.",
        reference=cube.names[n.reference], kind=n.kind, how=how, low=n.location.min(), high=n.location.max(),
        dim=n.scale.min(), bright=n.scale.max(), sources=sources, sky=n.location, brightness=n.scale,
        error=n.scale_error, stars=n.stars, gain=n.gain, offset=n.offset,
    )  # fmt: skip
    if not n.common:
        context.report.fact(
            "small overlap",
            "The frames have little area in common; their levels follow from the overlaps.",
            "warning",
        )
    weak = sorted({str(name) for name in np.unique(n.source)} & {"IKSS", "median/MAD"})
    if weak:
        context.report.fact(
            "scale from spread",
            "Too few stars and too little structure to compare brightness: it follows from the spread of the "
            "samples ({weak}), which mixes in noise and seeing.",
            weak=", ".join(weak),
        )


def _tell_zeros(n: Normalisation, context: Context) -> None:
    share = float(n.zeros.max())
    if share > CLIPPED:
        context.report.fact(
            "clipped at 0",
            "Up to {share:.1%} of the samples of a frame are exactly 0: clipped by the camera, used as is.",
            share=share,
        )


def _tell_noise(model: NoiseModel, n: Normalisation, context: Context) -> None:
    if not model.known:
        context.report.fact(
            "noise model",
            "The noise of the frames could not be measured; the scatter of each pixel's samples is used.",
        )
        return
    sky = np.sqrt(model.floor)
    camera = model.camera_gain
    if np.isfinite(camera).any():
        known = f"{np.nanmedian(camera):.3g} electrons per ADU"
    else:
        known = f"no gain (nothing bright enough to tell it to {CERTAIN:g} standard errors)"
    context.report.fact(
        "noise model",
        "Noise of a sample on the sky {low:.3g} to {high:.3g} ADU; above it {known}, and {share:.1%} of a "
        "star's light differs from frame to frame.",
        low=sky.min(), high=sky.max(), known=known, share=float(model.share.max()), camera_gain=camera,
        sky_noise=sky, slope=model.slope,
    )  # fmt: skip
    if not 1 / ODD_NOISE < model.ratio < ODD_NOISE:
        context.report.fact(
            "gain and noise disagree",
            "With the gain and read noise given, the sky's noise would be {ratio:.2f} times what the frames "
            "show. Check both, or leave them out to have them measured.",
            "warning", ratio=model.ratio,
        )  # fmt: skip


def _tell_rule(plan: Plan, count: int, context: Context) -> None:
    judgement = plan.judgement
    most = most_outliers(judgement, count)
    limits = "" if judgement.rule in ("none", "gesd") else f" {judgement.low:g}/{judgement.high:g}"
    why = f" because {judgement.why}" if judgement.why else ""
    few = (
        f" Pixels with fewer than {judgement.few} samples are judged by the noise model."
        if judgement.few and judgement.rule != "model"
        else ""
    )
    context.report.fact(
        "rejection",
        "Rejection {rule}{limits}{why}. Of {count} samples it finds at most {most} outliers a side.{few}",
        rule=judgement.rule, limits=limits, why=why, count=count, most=most, few=few, low=judgement.low,
        high=judgement.high,
    )  # fmt: skip


def tell_result(
    cube: Cube, plan: Plan, rejected: NDArray[np.int64], sums: dict[str, float], context: Context
) -> None:
    """Report what was rejected, in all and of each frame, and the exposure that went in.

    Parameters
    ----------
    rejected : (N, C) int64
    sums : mapping
        Sums over all pixels of ``coverage``, ``reject_low``, ``reject_high`` and ``flags``.
    """
    count = int(plan.normalisation.alive.sum())
    total = max(1.0, sums["coverage"])
    low, high = expected_shares(plan.judgement, count)
    context.report.fact(
        "rejected",
        "{low:.3%} of the samples rejected low and {high:.3%} high; noise alone explains {by_chance_low:.3%} "
        "and {by_chance_high:.3%}.",
        low=sums["reject_low"] / total, high=sums["reject_high"] / total,
        by_chance_low=low, by_chance_high=high,
    )  # fmt: skip
    share = rejected_shares(cube, plan.normalisation, rejected)
    worst = np.argsort(-share, kind="stable")[:NAMED]
    much = [k for k in worst if share[k] > max(MUCH_REJECTED, 3 * (low + high))]
    named = ", ".join(f"{cube.names[k]} ({share[k]:.1%})" for k in much)
    context.report.fact(
        "rejected per frame",
        "Much of some frames was rejected: {named}. A cloud, a trail or a bad registration is likely."
        if much else "No frame lost more than {most:.2%} of its samples.",
        "warning" if much else "info",
        named=named, most=float(share.max()), share=share, names=cube.names,
    )  # fmt: skip
    if sums["flags"] > 0:
        context.report.fact(
            "saturated",
            "{pixels} pixels are saturated in every frame and marked so.",
            pixels=int(sums["flags"]),
        )
    exposure = total_exposure(cube, plan.normalisation)
    if exposure is not None:
        context.report.fact("exposure", "{seconds:g} s of exposure in {frames} frames.", seconds=exposure[0],
                            frames=exposure[1])  # fmt: skip


def rejected_shares(cube: Cube, n: Normalisation, rejected: NDArray[np.int64]) -> F64:
    """Return the share of each frame's samples that was rejected, (N,)."""
    _, _, height, width = cube.shape
    seen = np.array([[np.isfinite(plane).mean() for plane in sample.grid] for sample in n.samples])
    return np.asarray(rejected.sum(axis=1) / np.maximum(seen.sum(axis=0) * height * width, 1))


def total_exposure(cube: Cube, n: Normalisation) -> tuple[float, int] | None:
    """Return summed seconds and number of the frames that count; None where the exposure is not known."""
    counted = (n.weight > 0).any(axis=1)
    seconds = cube.exposure[counted]
    return (
        (float(seconds.sum()), int(counted.sum())) if np.isfinite(seconds).all() and counted.any() else None
    )


def stack_header(cube: Cube, n: Normalisation) -> Any:
    """Return the cards of the stack, those of a Seestar's own: EXPTIME of one frame, STACKCNT, TOTALEXP.

    Plain (keyword, value, comment), or an astropy Header where the cube has one.
    """
    header: Any = {} if cube.header is None else cube.header.copy()
    used = [frame for frame in cube.frames if frame.use]
    first = used[0] if used else None
    if first is not None:
        cards = {"OBJECT": first.target, "INSTRUME": first.camera, "FILTER": first.filter}
        dates = sorted(frame.date for frame in used if frame.date is not None)
        cards["DATE-OBS"] = dates[0].isoformat(timespec="milliseconds") if dates else ""
        header.update({key: (value, "") for key, value in cards.items() if value and key not in header})
    counted = int((n.weight > 0).any(axis=1).sum())
    header["STACKCNT"] = (counted, "frames that were combined")
    exposure = total_exposure(cube, n)
    if exposure is not None:
        header["EXPTIME"] = (float(np.median(cube.exposure)), "[s] of one frame")
        header["TOTALEXP"] = (exposure[0], "[s] of all frames together")
    if isinstance(header, dict):
        return tuple((keyword, *value) for keyword, value in header.items())
    return header
