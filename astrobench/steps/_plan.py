"""The plan of a stack: what becomes of the samples of a pixel, alike for strips and for single pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.cube import Strip
from astrobench.kernels.integrate import Integrated, integrate_samples
from astrobench.kernels.known_noise import mean_variance
from astrobench.kernels.saturation import saturated_pixels
from astrobench.steps._noise_model import NoiseModel
from astrobench.steps._normalisation import Normalisation
from astrobench.steps._rejection import Judgement, limits, lost_depth

Check = Callable[[], object]
CHUNK = 65_536  # pixels that are judged again at a time
PAIR = 2  # samples, of which only the higher one can be known to be wrong


@dataclass(frozen=True)
class _Samples:
    """Flat samples of some pixels, (N, P)."""

    samples: NDArray[Any]
    judged: NDArray[np.float32] | None
    share: NDArray[np.float32] | None
    swapped: bool

    def of(self, pixels: NDArray[np.intp]) -> _Samples:
        """Return the samples of the named pixels."""

        def cut(array: NDArray[Any] | None) -> Any:
            return None if array is None else np.ascontiguousarray(array[:, pixels])

        return _Samples(cut(self.samples), cut(self.judged), cut(self.share), self.swapped)

    def integrate(self, **arguments: Any) -> Integrated:
        """Reject and combine them."""
        return integrate_samples(
            self.samples, judged=self.judged, share=self.share, swapped=self.swapped, **arguments
        )


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
        return {
            "gain": n.gain[:, channel],
            "offset": n.offset[:, channel],
            "weight": n.weight[:, channel],
            "combine": self.combination,
            **self.model.arguments(channel),
            **limits(self.judgement),
        }

    def integrate(
        self,
        strip: Strip,
        channel: int,
        threads: int = 1,
        check: Check | None = None,
        out: Integrated | None = None,
    ) -> tuple[Integrated, NDArray[np.intp]]:
        """Reject and combine the samples of a strip.

        Returns
        -------
        found : Integrated
            Flat, P = h * W.
        full : (S,) int
            Pixels that are saturated in every frame that reaches them.
        """
        every = self._flat(strip, channel)
        arguments = self.arguments(channel)
        if self._variance_apart(every):
            alone = {key: value for key, value in arguments.items() if not key.startswith("noise")}
            found = every.integrate(threads=threads, check=check, out=out, **alone)
            ties = self._known_variance(found, every, channel, threads)
            _again(found, every, ties, alone, arguments, check)
        else:
            found = every.integrate(threads=threads, check=check, out=out, **arguments)
        levels = self.normalisation.saturation
        full = np.empty(0, np.intp)
        if np.isfinite(levels).any():
            # Few pixels are saturated anywhere: only they pay for the test of every sample.
            bright = saturated_pixels(every.samples, every.swapped, levels)
            before, arguments = arguments, {**arguments, "saturation": levels}
            _again(found, every, bright, before, arguments, check)
            full = bright[(found.high[bright] == 0) & (found.coverage[bright] > 0)]
            full = full[_all_full(every.of(full), levels)]
        few = min(self.judgement.few, len(levels) + 1)
        for thin, coverage in (
            ((found.coverage > PAIR) & (found.coverage < few), PAIR + 1),
            ((found.coverage == PAIR) & (few > PAIR), PAIR),
        ):
            rule, low = self.rule_for(coverage)
            again = {**arguments, "rule": rule, "low": low}
            _again(found, every, np.flatnonzero(thin), arguments, again, check)
        if self.model.known and self.combination in ("mean", "sum"):
            found.variance[:] *= np.float32(lost_depth(self.judgement, int(self.normalisation.alive.sum())))
        return found, full

    def _variance_apart(self, every: _Samples) -> bool:
        """Whether the variance can follow from the limits of what was kept, at a fraction of the cost."""
        plain = every.judged is None and every.share is None
        interval = self.judgement.rule != "model" and self.combination in ("mean", "sum")
        return self.model.known and plain and interval

    def _known_variance(
        self, found: Integrated, every: _Samples, channel: int, threads: int
    ) -> NDArray[np.intp]:
        n, model = self.normalisation, self.model
        return mean_variance(
            every.samples,
            found,
            swapped=every.swapped,
            gain=n.gain[:, channel],
            offset=n.offset[:, channel],
            weight=n.weight[:, channel],
            floor=model.floor[:, channel],
            slope=model.slope[:, channel],
            share=float(model.share[channel]),
            sky=float(model.sky[0, channel]),
            times=float(len(n.gain)) if self.combination == "sum" else 1.0,
            threads=threads,
        )

    def rule_for(self, coverage: int) -> tuple[str, float]:
        """Return the rule that judges a pixel with so many samples, and its limit below."""
        count = len(self.normalisation.gain)
        if PAIR <= coverage < min(self.judgement.few, count + 1):
            return "model", self.judgement.low if coverage > PAIR else math.inf
        return self.judgement.rule, self.judgement.low

    def deviations(self, channel: int, kept: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the noise model gives each frame, (N,), at the median of the kept samples."""
        model = self.model
        middle = float(np.median(kept)) if len(kept) else float("nan")
        signal = np.maximum(middle - model.sky[:, channel], 0)
        grown = model.slope[:, channel] * signal + (model.share[channel] * signal) ** 2
        return np.asarray(np.sqrt(model.floor[:, channel] + grown))

    def _flat(self, strip: Strip, channel: int) -> _Samples:
        count = strip.samples.shape[0]
        samples = strip.samples.reshape(count, -1)
        share = None if strip.share is None else strip.share.reshape(count, -1)
        judged = None
        if strip.shift is not None:
            judged = strip.shift.reshape(count, -1) + samples
            judged *= self.normalisation.gain[:, channel].astype(np.float32)[:, None]
            judged += self.normalisation.offset[:, channel].astype(np.float32)[:, None]
        return _Samples(samples, judged, share, strip.swapped)


def _again(
    found: Integrated,
    every: _Samples,
    pixels: NDArray[np.intp],
    before: dict[str, Any],
    after: dict[str, Any],
    check: Check | None,
) -> None:
    """Judge some pixels again with other arguments and put the results in place of the first ones."""
    for start in range(0, pixels.size, CHUNK):
        if check is not None:
            check()
        some = pixels[start : start + CHUNK]
        counted = some[(found.low[some] > 0) | (found.high[some] > 0)]
        if counted.size:
            found.rejected[:] -= every.of(counted).integrate(**before).rejected
        second = every.of(some).integrate(**after)
        for name in Integrated._fields[:-1]:  # all but the counts per frame
            getattr(found, name)[some] = getattr(second, name)
        found.rejected[:] += second.rejected


def _all_full(part: _Samples, levels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether no sample of a pixel is below the saturation of its frame."""
    samples = part.samples.byteswap() ^ np.uint16(0x8000) if part.swapped else part.samples
    below = samples < levels[:, None]
    return np.asarray(~(below if part.share is None else below & (part.share > 0)).any(axis=0))
