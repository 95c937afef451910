"""Show why a pixel of a stack is what it is: every sample, what became of it, and by which limit."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from astrobench.context import Context
from astrobench.cube import Cube, Strip, plain_samples
from astrobench.errors import ParameterError
from astrobench.steps.stack import Stack, stacking_plan

COLOURS = ("red", "green", "blue")
TITLES = ("frame", "raw", "normalised", "weight", "limits", "verdict")
VERDICTS = {
    "kept": "kept",
    "low": "rejected: too low",
    "high": "rejected: too high",
    "range": "rejected: saturated",
    "missing": "does not reach this pixel",
}


EVENED = (
    "Each raw value is one pixel of the sensor. Here is plain sky: the stack shows the mean of this and the eight "
    "pixels around it, with weights 4, 2 and 1."
)
SHARED = (
    "Each raw value is one pixel of the sensor. Here the light changes from pixel to pixel: a sample counts by the "
    "share of its drop that falls on this pixel, and the limits hold for its value freed of the slope it sits on. "
    "What the places of the samples, up to 1.4 px beside this pixel, add to their mean is taken off in the stack."
)


@dataclass(frozen=True)
class SampleAccount:
    """One frame's sample of the pixel.

    Parameters
    ----------
    frame : str
    raw : float
        As the frame has it [ADU]; NaN where it does not reach.
    normalised : float
        Brought to the common level [ADU]; this is what enters the result.
    judged : float
        What the rule saw; differs from `normalised` where the sample was moved to the centre of the pixel.
    weight : float
        How much it counts if kept.
    verdict : {"kept", "low", "high", "range", "missing"}
    lower, upper : float
        Between these the rule keeps this frame's samples [ADU]; infinite where it has no limit.
    """

    frame: str
    raw: float
    normalised: float
    judged: float
    weight: float
    verdict: str
    lower: float
    upper: float


@dataclass(frozen=True)
class ChannelAccount:
    """One channel of the pixel: the result and the samples behind it.

    Parameters
    ----------
    channel : str
        ``"mono"``, ``"red"``, ``"green"`` or ``"blue"``.
    value, sigma : float
        What the kept samples give [ADU].
    stack, stack_sigma : float
        What the stack holds [ADU]; differs where neighbours or the places of the samples have a part in it.
    rule : str
        That judged this pixel.
    kept, low, high, coverage : int
        Samples kept, rejected below and above (saturated ones included), and valid.
    samples : tuple of SampleAccount
        One a frame.
    """

    channel: str
    value: float
    sigma: float
    stack: float
    stack_sigma: float
    rule: str
    kept: int
    low: int
    high: int
    coverage: int
    samples: tuple[SampleAccount, ...]


@dataclass(frozen=True)
class Explanation:
    """Account of one pixel; prints itself as a table.

    Parameters
    ----------
    x, y : int
        Column and row in the stack.
    combination : str
    channels : tuple of ChannelAccount
    note : str
        What else made the value of the picture, if anything did.
    """

    x: int
    y: int
    combination: str
    channels: tuple[ChannelAccount, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is no number is None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def __str__(self) -> str:
        lines = [f"Pixel x = {self.x}, y = {self.y} of the stack"]
        for account in self.channels:
            lines += ["", _heading(account, self.combination)]
            width = max([len(sample.frame) for sample in account.samples] + [5])
            lines.append(f"{'frame':<{width}}  {'raw':>10}  {'normalised':>10}  {'weight':>6}  {'limits':>23}  verdict")
            for sample in account.samples:
                limits = f"{_number(sample.lower):>11} {_number(sample.upper):>11}"
                lines.append(
                    f"{sample.frame:<{width}}  {_number(sample.raw):>10}  {_number(sample.normalised):>10}  "
                    f"{sample.weight:>6.3f}  {limits}  {VERDICTS[sample.verdict]}"
                )
        return "\n".join([*lines, "", self.note] if self.note else lines)

    def _repr_html_(self) -> str:
        parts = [f"<p>Pixel x = {self.x}, y = {self.y} of the stack</p>", f"<p>{html.escape(self.note)}</p>"]
        for account in self.channels:
            titles = "".join(f"<th>{title}</th>" for title in TITLES)
            rows = "".join(_row(sample) for sample in account.samples)
            heading = html.escape(_heading(account, self.combination))
            parts.append(f"<p>{heading}</p><table><tr>{titles}</tr>{rows}</table>")
        return "".join(parts)


def _row(sample: SampleAccount) -> str:
    """One line of the table for a notebook; what was not kept is red."""
    limits = f"{_number(sample.lower)} to {_number(sample.upper)}"
    cells = (
        html.escape(sample.frame),
        _number(sample.raw),
        _number(sample.normalised),
        f"{sample.weight:.3f}",
        limits,
        VERDICTS[sample.verdict],
    )
    style = "" if sample.verdict == "kept" else " style='color:#c33'"
    return f"<tr{style}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def explain(cube: Cube, x: int, y: int, step: Stack | None = None, context: Context | None = None) -> Explanation:
    """Tell what became of every sample of one pixel.

    The same plan is used as for the stack: measured once a cube and step, and kept as long as the cube lives.

    Parameters
    ----------
    cube : Cube
    x, y : int
        Column and row of the stack, 0-based.
    step : Stack, optional
        The step that made the stack; with its defaults if not given.
    context : Context, optional

    Raises
    ------
    ParameterError
        If the pixel lies outside.
    """
    _, channels, height, width = cube.shape
    if not (0 <= x < width and 0 <= y < height):
        raise ParameterError(
            f"The pixel x = {x}, y = {y} lies outside the stack; x goes from 0 to {width - 1}, "
            f"y from 0 to {height - 1}."
        )
    step, context = step or Stack(), context or Context()
    plan = stacking_plan(cube, step, context)
    note, final = "", None
    if cube.patterns:
        from astrobench.steps._own_pixels import pixel_strips

        plan, strips, final = pixel_strips(cube, plan, int(x), int(y))
        note = EVENED if strips[0].share is None else SHARED
    else:
        strips = [_one_pixel(cube.strip(channel, y, y + 1), x) for channel in range(channels)]
    accounts = tuple(
        _account(cube, plan, strip, channel, final[channel] if final else None) for channel, strip in enumerate(strips)
    )
    return Explanation(int(x), int(y), step.combination, accounts, note)


def _account(cube: Cube, plan: Any, strip: Strip, channel: int, final: tuple[float, float] | None) -> ChannelAccount:
    """Account of one channel; `final` is value and sigma in the stack where they are not those of the samples."""
    from astrobench.kernels.bounds import model_bounds, rule_bounds
    from astrobench.steps._rejection import ALPHA, MOST_SHARE

    found, _ = plan.integrate(strip, channel)
    n = plan.normalisation
    gain, offset = n.gain[:, channel].astype(np.float32), n.offset[:, channel].astype(np.float32)
    raw = plain_samples(strip).ravel()
    normalised = raw * gain + offset
    judged = normalised if strip.shift is None else (raw + strip.shift.ravel()) * gain + offset
    share = np.ones(len(raw)) if strip.share is None else np.nan_to_num(strip.share.ravel())
    valid = np.isfinite(raw) & (share > 0)
    gone = found.rejected > 0
    saturated = gone & (raw >= n.saturation)
    kept = valid & ~gone
    rule, low = plan.rule_for(int(found.coverage[0]))
    limits = plan.judgement
    seen = judged.astype(float)
    if rule == "model":
        lower, upper = model_bounds(seen[kept], plan.deviations(channel, seen[kept]), low, limits.high)
    else:
        part = valid & ~saturated
        lower, upper = rule_bounds(rule, seen, part, kept, low, limits.high, ALPHA, MOST_SHARE)
    middle = np.median(seen[kept]) if kept.any() else 0.0
    samples = tuple(
        SampleAccount(
            frame=cube.names[k],
            raw=float(raw[k]),
            normalised=float(normalised[k]),
            judged=float(judged[k]),
            weight=float(n.weight[k, channel] * share[k]) if valid[k] else 0.0,
            verdict=_verdict(bool(valid[k]), bool(gone[k]), bool(saturated[k]), seen[k] > middle),
            lower=float(lower[k]),
            upper=float(upper[k]),
        )
        for k in range(len(raw))
    )
    value, sigma = float(found.value[0]), float(np.sqrt(found.variance[0]))
    stack, stack_sigma = final or (value, sigma)
    return ChannelAccount(
        channel="mono" if cube.shape[1] == 1 else COLOURS[channel],
        value=value,
        sigma=sigma,
        stack=stack,
        stack_sigma=stack_sigma,
        rule=rule,
        kept=int(kept.sum()),
        low=int(found.low[0]),
        high=int(found.high[0]),
        coverage=int(found.coverage[0]),
        samples=samples,
    )


def _one_pixel(strip: Strip, x: int) -> Strip:
    def cut(array: Any) -> Any:
        return None if array is None else np.ascontiguousarray(array[:, :, x : x + 1])

    return Strip(cut(strip.samples), strip.swapped, cut(strip.share), cut(strip.shift))


def _verdict(valid: bool, gone: bool, saturated: bool, above: bool) -> str:
    if not valid:
        return "missing"
    if not gone:
        return "kept"
    if saturated:
        return "range"
    return "high" if above else "low"


def _heading(account: ChannelAccount, combination: str) -> str:
    shown = ""
    if account.stack != account.value:
        shown = f"in the stack {_number(account.stack)} ADU, sigma {_number(account.stack_sigma)}; "
    return (
        f"{account.channel}: {combination} {_number(account.value)} ADU, sigma {_number(account.sigma)}; {shown}"
        f"{account.kept} of {account.coverage} samples kept, {account.low} rejected low and {account.high} "
        f"high by the rule {account.rule}"
    )


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
