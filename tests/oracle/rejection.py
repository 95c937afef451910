"""Slow twin of the integration kernel: plain float64 numpy on whole masks, pixel loops only where counts are capped.

Definitions: rejection passes about the median of the survivors, strict comparisons, at least ``keep`` survivors.
Codes: 0 kept, -1 low, 1 high, 2 no data. Written from the definitions, not from the kernel: nothing is sorted,
nothing screened, every pass looks at every sample.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

F = NDArray[np.float64]
Codes = NDArray[np.int8]


def judge(samples: NDArray[Any], rule: str, low: float = 3.0, high: float = 3.0, **options: Any) -> Codes:
    """Codes (N, P) of the samples (N, P); NaN and infinity are no data."""
    x = np.array(samples, np.float64)
    code = np.where(np.isfinite(x), 0, 2).astype(np.int8)
    if rule in ("sigma", "mad", "winsorized"):
        _iterate(x, code, rule, low, high, options.get("scale_floor", 0.0), options.get("passes"))
    elif rule == "gesd":
        _gesd(x, code, options.get("alpha", 0.05), options.get("max_fraction", 0.3), options.get("scale_floor", 0.0))
    elif rule == "minmax":
        _minmax(x, code, int(low), int(high))
    elif rule == "percentile":
        centre = _median(x, code)
        scale = np.where((code == 0).sum(0) >= 2, np.maximum(centre, 0.0), 0.0)
        _clip(x, code, centre, scale, low, high, 1)
    elif rule == "model":
        _model(x, code, low, high, **options)
    return code


def _median(x: F, code: Codes) -> F:
    ordered = np.sort(np.where(code == 0, x, np.inf), axis=0)
    n = (code == 0).sum(0)
    columns = np.arange(x.shape[1])
    a = ordered[np.maximum(n - 1, 0) // 2, columns]
    b = ordered[n // 2 if len(ordered) > 1 else n * 0, columns] if np.all(n < len(ordered)) else None
    if b is None:
        b = np.vstack([ordered, np.full((1, x.shape[1]), np.inf)])[n // 2, columns]
    with np.errstate(invalid="ignore"):
        return np.where(n > 0, 0.5 * (a + b), np.nan)


def _deviation(x: F, code: Codes) -> F:
    alive = code == 0
    n = alive.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(alive, x, 0.0).sum(0) / n
        squares = np.where(alive, (x - mean) ** 2, 0.0).sum(0)
        return np.where(n > 1, np.sqrt(squares / (n - 1)), 0.0)


def _mad(x: F, code: Codes, centre: F) -> F:
    far = np.abs(x - centre)
    scale = 1.482602218505602 * _median(far, code)
    n = np.maximum((code == 0).sum(0), 1)
    mean = np.where(code == 0, far, 0.0).sum(0) / n
    return np.where(scale > 0, scale, math.sqrt(math.pi / 2) * mean)


def _winsor(x: F, code: Codes, centre: F) -> F:
    w = x.copy()
    sigma = _deviation(w, code)
    running = sigma > 0
    for turn in range(100):
        bounded = np.clip(w, centre - 1.5 * sigma, centre + 1.5 * sigma)
        w = np.where(running, bounded, w)
        after = np.where(running, 1.134 * _deviation(w, code), sigma)
        settled = np.abs(after - sigma) < 5e-4 * sigma if turn >= 1 else np.zeros_like(running)
        sigma = after
        running &= ~settled & (sigma > 0)
        if not running.any():
            break
    return sigma


def _clip(x: F, code: Codes, centre: F, scale: F, low: float, high: float, keep: int) -> NDArray[np.bool_]:
    """One pass; returns the pixels where another pass makes sense."""
    alive = code == 0
    scale = np.broadcast_to(scale, x.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.where(alive & (scale > 0), (x - centre) / scale, 0.0)
    bad = (z > high) | (z < -low)
    allowed = np.maximum(alive.sum(0) - keep, 0)
    capped = bad.sum(0) > allowed
    more: NDArray[np.bool_] = bad.any(0) & ~capped
    for p in np.flatnonzero(capped):
        worst = np.flatnonzero(bad[:, p])
        worst = worst[np.argsort(-np.abs(z[worst, p]), kind="stable")]
        bad[worst[allowed[p] :], p] = False
    code[bad] = np.where(z[bad] > 0, 1, -1)
    return more


def _iterate(x: F, code: Codes, rule: str, low: float, high: float, floor: float, passes: int | None) -> None:
    active = np.flatnonzero((code == 0).sum(0) > 3)
    turn = 0
    while active.size and (passes is None or turn < passes):
        y, c = np.ascontiguousarray(x[:, active]), np.ascontiguousarray(code[:, active])
        centre = _median(y, c)
        if rule == "sigma":
            scale = _deviation(y, c)
        elif rule == "mad":
            scale = _mad(y, c, centre)
        else:
            scale = _winsor(y, c, centre)
        more = _clip(y, c, centre, np.maximum(scale, floor), low, high, 3)
        code[:, active] = c
        active = active[more]
        turn += 1


def _gesd(x: F, code: Codes, alpha: float, fraction: float, floor: float) -> None:
    count = (code == 0).sum(0)
    trial = code.copy()
    columns = np.arange(x.shape[1])
    order = np.zeros(x.shape, np.int64) - 1
    outliers = np.zeros(x.shape[1], np.int64)
    most = np.minimum(np.maximum(1, np.floor(fraction * count)), count - 3).astype(int)
    most[count < 4] = 0
    running = most > 0
    for i in range(1, int(most.max(initial=0)) + 1):
        running &= i <= most
        alive = trial == 0
        n = alive.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(alive, x, 0.0).sum(0) / n
            scale = np.maximum(_deviation(x, trial), floor)
            running &= scale > 0
            far = np.where(alive, np.abs(x - mean), -1.0)
            worst = far.argmax(0)
            ratio = far[worst, columns] / scale
        limit = np.full(x.shape[1], np.inf)
        for m in np.unique(count[running]):
            t = stats.t.ppf(1 - alpha / (2 * (m - i + 1)), m - i - 1)
            limit[count == m] = (m - i) * t / math.sqrt((m - i - 1 + t * t) * (m - i + 1))
        order[worst[running], columns[running]] = i
        trial[worst[running], columns[running]] = np.where(
            x[worst, columns] >= mean, 1, -1
        )[running]
        outliers[running & (ratio > limit)] = i
    out = (order > 0) & (order <= outliers)
    code[out] = trial[out]


def _minmax(x: F, code: Codes, n_low: int, n_high: int) -> None:
    for p in range(x.shape[1]):
        index = np.flatnonzero(code[:, p] == 0)
        index = index[np.argsort(x[index, p], kind="stable")]
        spare = max(0, index.size - 1)
        low, high = n_low, n_high
        if low + high > spare:
            high = min(n_high, math.ceil(spare * n_high / (n_low + n_high)))
            low = spare - high
        code[index[:low], p] = -1
        code[index[index.size - high :], p] = 1


def _model(
    x: F, code: Codes, low: float, high: float, *, sky: Any, floor: Any, slope: Any, share: float = 0.0,
    passes: int | None = None,
) -> None:  # fmt: skip
    turn = 0
    active = np.flatnonzero((code == 0).sum(0) >= 2)
    while active.size and (passes is None or turn < passes):
        y, c = np.ascontiguousarray(x[:, active]), np.ascontiguousarray(code[:, active])
        centre = _median(y, c)
        more = _clip(y, c, centre, np.sqrt(known_variance(centre, sky, floor, slope, share)), low, high, 1)
        code[:, active] = c
        active = active[more]
        turn += 1


def known_variance(level: F, sky: Any, floor: Any, slope: Any, share: float) -> F:
    """Variance (N, P) of samples of true value ``level`` (P,)."""
    signal = np.maximum(level[None, :] - np.asarray(sky, float)[:, None], 0.0)
    out: F = np.asarray(floor, float)[:, None] + np.asarray(slope, float)[:, None] * signal + (share * signal) ** 2
    return out


def combine(
    samples: NDArray[Any], code: Codes, method: str = "mean", weight: Any = None, noise: dict[str, Any] | None = None
) -> tuple[F, F, F]:
    """Value, variance of the value (without truncation and median factors) and weight of the kept samples."""
    x = np.where(code == 0, np.array(samples, np.float64), 0.0)
    w = np.ones(x.shape) if weight is None else np.array(weight, np.float64)
    w = np.where(code == 0, w if w.ndim == 2 else w[:, None], 0.0)
    frames, pixels = x.shape
    total = w.sum(0)
    used = (w > 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (w * x).sum(0) / total
        if method in ("mean", "sum"):
            value = mean
        elif method == "median":
            value = np.array([_weighted_median(x[:, p], w[:, p]) for p in range(pixels)])
        elif method == "min":
            value = np.where(w > 0, x, np.inf).min(0)
        else:
            value = np.where(w > 0, x, -np.inf).max(0)
        value = np.where(used > 0, value, np.nan)
        if method in ("min", "max"):
            variance = np.full(pixels, np.nan)
        elif noise is not None:
            variance = (w * w * known_variance(value, **noise)).sum(0) / total**2
        else:
            variance = np.where(used > 1, (w * (x - mean) ** 2).sum(0) / ((used - 1) * total), np.nan)
    if method == "sum":
        return value * frames, variance * frames**2, total
    return value, variance, total


def _weighted_median(x: F, w: F) -> float:
    x, w = x[w > 0], w[w > 0]
    if not x.size:
        return math.nan
    if np.all(w == w[0]):
        return float(np.median(x))
    order = np.argsort(x, kind="stable")
    x, reached = x[order], np.cumsum(w[order])
    i = int(np.searchsorted(reached, reached[-1] / 2 * (1 - 1e-12)))
    if math.isclose(reached[i], reached[-1] / 2, rel_tol=1e-12) and i + 1 < x.size:
        return float(0.5 * (x[i] + x[i + 1]))
    return float(x[i])
