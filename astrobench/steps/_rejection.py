"""Choose how outliers are recognised, and know what the choice can and cannot find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from astrobench.kernels.integrate import integrate_samples
from astrobench.steps._noise_model import NoiseModel

if TYPE_CHECKING:
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
TRIALS = 200_000  # samples of pure noise that tell what a rule rejects by chance


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
        return Judgement(
            step.rejection, low if step.low is None else step.low, high if step.high is None else step.high
        )
    low, high = (4.0 if given is None else given for given in (step.low, step.high))
    if count < 2:
        return Judgement("none", why="a single frame has nothing to be compared with")
    if model.known and count < FEW:
        why = f"the noise is known, and the scatter of only {count} samples says little"
        return Judgement("model", low, high, few=3, why=why)
    if count >= FEW:
        why = f"{count} samples show their own scatter; it finds groups of outliers and spares good samples"
        return Judgement("gesd", low, high, few=FEW if model.known else 0, why=why)
    if count >= FEW_UNKNOWN:
        return Judgement(
            "winsorized",
            why=f"the noise could not be measured; of {count} samples it finds pairs of outliers",
        )
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
    found = integrate_samples(noise + np.float32(level), noise_floor=np.ones(count), **limits(judgement))
    return float(found.low.sum() / noise.size), float(found.high.sum() / noise.size)


@lru_cache(maxsize=64)
def lost_depth(judgement: Judgement, count: int) -> float:
    """Return the variance of a mean after the rule over that of as many samples as the rule keeps.

    A rule takes samples from the tails, and where noise alone made them far the rest lies off the truth: of 15
    Gaussian samples the mean after the generalised ESD test has 1.06 times the variance sigma^2 / n of the kept.
    The plain mean of the same samples takes most of the trial's own scatter out of the figure.
    """
    if judgement.rule in ("none", "minmax", "percentile") or count < 2:
        return 1.0
    noise = np.random.default_rng(count).standard_normal((count, max(256, TRIALS // count)), dtype=np.float32)
    found = integrate_samples(noise, noise_floor=np.ones(count), **limits(judgement))
    plain = noise.mean(axis=0, dtype=np.float64)
    gained = np.var(found.value, dtype=np.float64) / np.var(plain)
    return max(1.0, float(gained / (np.mean(found.variance, dtype=np.float64) * count)))


def limits(judgement: Judgement) -> dict[str, Any]:
    """Arguments of `integrate_samples` for a rule."""
    return {
        "rule": judgement.rule,
        "low": judgement.low,
        "high": judgement.high,
        "alpha": ALPHA,
        "max_fraction": MOST_SHARE,
    }
