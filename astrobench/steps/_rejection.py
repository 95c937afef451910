"""Choose how outliers are recognised, and know what the choice can and cannot find."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.cube import Strip, plain_samples
from astrobench.kernels.integrate import Integrated, integrate_samples
from astrobench.steps._noise_model import NoiseModel
from astrobench.steps._normalisation import Normalisation

if TYPE_CHECKING:
    from collections.abc import Callable

    from astrobench.steps.stack import Stack

# Customary limits, below and above.
LIMITS = {
    "sigma": (3.0, 3.0),
    "mad": (3.0, 3.0),
    "winsorized": (3.0, 3.0),
    "model": (4.0, 4.0),
    "minmax": (1.0, 1.0),
    "percentile": (0.2, 0.1),
}
ALPHA, MOST_SHARE = 0.05, 0.3  # of the generalised ESD test
FEW = 15  # frames; below it the scatter of a pixel's own samples says little, and the noise model judges
FEW_UNKNOWN = 5  # frames; from here on the samples' own scatter can judge when the noise is not known
CHUNK = 65_536  # pixels of thin coverage that are judged again at a time
TRIALS = 16_384  # pixels of pure noise that tell what a rule rejects by chance


@dataclass(frozen=True)
class Judgement:
    """A rule with its limits, and why it was chosen.

    Parameters
    ----------
    rule : str
        Rule of `integrate_samples`.
    low, high : float
    few : int
        Pixels with fewer samples than this are judged by the noise model instead; 0: none.
    why : str
        The reason in words; empty if the user chose.
    """

    rule: str
    low: float = 3.0
    high: float = 3.0
    few: int = 0
    why: str = ""


def choose(step: Stack, count: int, model: NoiseModel) -> Judgement:
    """Return the rule that `Stack.rejection` asks for, or for `auto` the one that suits the frames."""
    if step.rejection != "auto":
        low, high = LIMITS.get(step.rejection, (3.0, 3.0))
        return Judgement(step.rejection, low if step.low is None else step.low, high if step.high is None else step.high)
    low, high = (4.0 if given is None else given for given in (step.low, step.high))
    if count < 2:
        return Judgement("none", why="a single frame has nothing to be compared with")
    if model.known and count < FEW:
        why = f"the noise is known, and the scatter of only {count} samples says little"
        return Judgement("model", low, high, few=3, why=why)
    if count >= FEW:
        why = f"{count} samples show their own scatter; it finds groups of outliers and rejects the fewest good samples"
        return Judgement("gesd", low, high, few=FEW if model.known else 0, why=why)
    if count >= FEW_UNKNOWN:
        return Judgement("winsorized", why=f"the noise could not be measured; of {count} samples it finds pairs of outliers")
    return Judgement("none", why=f"{count} samples without known noise do not show which one is wrong")


def most_outliers(judgement: Judgement, count: int) -> int:
    """Return how many equal far outliers on one side the rule still finds among `count` samples."""
    rule, limit = judgement.rule, judgement.high
    if rule == "gesd":
        return 0 if count < 4 else min(max(1, int(MOST_SHARE * count)), count - 3)
    if rule == "sigma":
        # about the median, m equal outliers among n lie sqrt(n (n - 1) / (m (n - m))) sample sigmas away
        found = [m for m in range(1, count // 2 + 1) if count * (count - 1) > limit**2 * m * (count - m)]
        return max(found, default=0) if count > 3 else 0
    if rule in ("mad", "winsorized"):
        return max(0, math.ceil(count / 2) - 1) if count > 3 else 0
    if rule in ("model", "percentile"):
        return max(0, math.ceil(count / 2) - 1)
    return int(limit) if rule == "minmax" else 0


def expected_shares(judgement: Judgement, count: int) -> tuple[float, float]:
    """Return the shares of samples that the rule rejects low and high of pure Gaussian noise."""
    if judgement.rule == "none":
        return 0.0, 0.0
    level = 1000.0 if judgement.rule == "percentile" else 0.0
    noise = np.random.default_rng(count).standard_normal((count, max(256, TRIALS // count)), dtype=np.float32)
    found = integrate_samples(noise + np.float32(level), noise_floor=np.ones(count), **_limits(judgement))
    return float(found.low.sum() / noise.size), float(found.high.sum() / noise.size)


def _limits(judgement: Judgement) -> dict[str, Any]:
    return {
        "rule": judgement.rule, "low": judgement.low, "high": judgement.high, "alpha": ALPHA, "max_fraction": MOST_SHARE
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that decides what becomes of the samples of a pixel."""

    normalisation: Normalisation
    model: NoiseModel
    judgement: Judgement
    combination: str

    def arguments(self, channel: int) -> dict[str, Any]:
        """Arguments of `integrate_samples` that are the same for every pixel of a channel."""
        n = self.normalisation
        known = self.model.arguments(channel)
        saturation = {"saturation": n.saturation} if np.isfinite(n.saturation).any() else {}
        return {
            "gain": n.gain[:, channel],
            "offset": n.offset[:, channel],
            "weight": n.weight[:, channel],
            "combine": self.combination,
            **saturation,
            **known,
            **_limits(self.judgement),
        }

    def integrate(
        self,
        strip: Strip,
        channel: int,
        threads: int = 1,
        check: Callable[[], object] | None = None,
        out: Integrated | None = None,
    ) -> Integrated:
        """Reject and combine the samples of a strip; flat results, P = h * W."""
        count = strip.samples.shape[0]
        samples, judged, share = self._flat(strip, channel)
        arguments = self.arguments(channel)
        found = integrate_samples(
            samples, judged=judged, share=share, swapped=strip.swapped, threads=threads, check=check, out=out, **arguments
        )
        few = self.judgement.few
        if few > 0:
            thin = np.flatnonzero((found.coverage > 0) & (found.coverage < min(few, count + 1)))
            for start in range(0, thin.size, CHUNK):
                if check is not None:
                    check()
                self._judge_again(found, thin[start : start + CHUNK], samples, judged, share, strip.swapped, arguments)
        return found

    def _flat(
        self, strip: Strip, channel: int
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None, NDArray[np.float32] | None]:
        count = strip.samples.shape[0]
        samples = strip.samples.reshape(count, -1)
        share = None if strip.share is None else strip.share.reshape(count, -1)
        judged = None
        if strip.shift is not None:
            gain = self.normalisation.gain[:, channel].astype(np.float32)[:, None]
            offset = self.normalisation.offset[:, channel].astype(np.float32)[:, None]
            judged = strip.shift.reshape(count, -1) + samples
            judged *= gain
            judged += offset
        return samples, judged, share

    def _judge_again(
        self,
        found: Integrated,
        pixels: NDArray[np.intp],
        samples: NDArray[Any],
        judged: NDArray[np.float32] | None,
        share: NDArray[np.float32] | None,
        swapped: bool,
        arguments: dict[str, Any],
    ) -> None:
        """Let the noise model judge pixels that few frames reach; of two samples only the higher one can be wrong."""

        def cut(array: NDArray[Any] | None, chosen: NDArray[np.intp]) -> NDArray[Any] | None:
            return None if array is None else np.ascontiguousarray(array[:, chosen])

        for chosen, low in ((found.coverage[pixels] > 2, arguments["low"]), (found.coverage[pixels] <= 2, math.inf)):
            some = pixels[chosen]
            if some.size == 0:
                continue
            part = {"judged": cut(judged, some), "share": cut(share, some), "swapped": swapped}
            before = integrate_samples(cut(samples, some), **part, **arguments)  # type: ignore[arg-type]
            again = {**arguments, "rule": "model", "low": low}
            after = integrate_samples(cut(samples, some), **part, **again)  # type: ignore[arg-type]
            for mine, theirs in zip(found[:8], after[:8], strict=True):
                mine[some] = theirs
            found.rejected[:] += after.rejected - before.rejected


def with_rule(plan: Plan, **changes: Any) -> Plan:
    """Return the plan with another judgement; for comparisons."""
    return replace(plan, judgement=replace(plan.judgement, **changes))
