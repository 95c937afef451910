"""Every rule, combination, normalisation and weighting against a slow twin written from the definitions."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.kernels.known_noise import DARKEST
from astrobench.steps._rejection import lost_depth
from astrobench.steps.stack import Stack, stacking_plan


def frames_with_outliers(seed, count=9, height=64, width=70):
    """Registered frames of a few stars, with 4 % outliers and a gap."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    truth = 1000 + 2 * x
    for _ in range(12):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        truth += rng.uniform(200, 4000) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4)
    clean = rng.uniform(0.9, 1.1, (count, 1, 1)) * truth + rng.uniform(-100, 100, (count, 1, 1))
    samples = rng.normal(clean, np.sqrt(clean))
    hit = rng.random(samples.shape) < 0.04
    samples[hit] += rng.uniform(100, 3000, hit.sum())
    samples[2, 5:20, :30] = np.nan
    samples[:, 7, 7] = np.nan
    return samples.astype(np.float32)


def twin_codes(v, rule, low, high, model):
    """Kept samples of one pixel by the plain definitions, float64."""
    keep = np.isfinite(v)
    if rule == "none" or keep.sum() < 2:
        return keep
    if rule == "minmax":
        order = sorted(np.flatnonzero(keep), key=lambda k: v[k])
        keep[order[0]] = keep[order[-1]] = False
        return keep
    if rule == "percentile":
        m = np.median(v[keep])
        return keep & (v >= m - low * m) & (v <= m + high * m)
    if rule == "gesd":
        return twin_gesd(v, keep)
    least = 1 if rule == "model" else 3
    while keep.sum() > least:
        x = v[keep]
        m = np.median(x)
        if rule == "model":
            floor, slope, sky, share = model
            s = np.maximum(m - sky, 0)
            sd = np.sqrt(floor + slope * s + (share * s) ** 2)
        elif rule == "sigma":
            sd = np.full(len(v), np.std(x, ddof=1))
        elif rule == "mad":
            sd = np.full(len(v), 1.482602218505602 * np.median(np.abs(x - m)))
        else:
            sd = np.full(len(v), twin_winsor(x))
        z = (v - m) / sd
        bad = keep & ((z < -low) | (z > high))
        worst = sorted(np.flatnonzero(bad), key=lambda k: -abs(z[k]))[: max(0, int(keep.sum()) - least)]
        if not worst:
            break
        keep[worst] = False
        if len(worst) < bad.sum():
            break
    return keep


def twin_gesd(v, keep):
    index = list(np.flatnonzero(keep))
    n = len(index)
    if n < 4:
        return keep
    gone, count = [], 0
    for i in range(1, min(max(1, int(0.3 * n)), n - 3) + 1):
        x = v[index]
        d = np.abs(x - x.mean())
        j = int(np.argmax(d))
        t = stats.t.ppf(1 - 0.05 / (2 * (n - i + 1)), n - i - 1)
        limit = (n - i) * t / math.sqrt((n - i - 1 + t * t) * (n - i + 1))
        significant = d[j] / np.std(x, ddof=1) > limit
        gone.append(index.pop(j))
        count = i if significant else count
    keep[gone[:count]] = False
    return keep


def twin_winsor(x):
    m, s, w = np.median(x), np.std(x, ddof=1), x
    for turn in range(100):
        w = np.clip(w, m - 1.5 * s, m + 1.5 * s)
        before, s = s, 1.134 * np.std(w, ddof=1)
        if turn >= 1 and abs(s - before) < 5e-4 * before:
            break
    return s


def twin_value(v, w, keep, combination):
    keep = keep & (w > 0)
    x, w = v[keep], w[keep]
    if len(x) == 0:
        return math.nan
    mean = np.sum(w * x) / np.sum(w)
    if combination == "median":
        order = np.argsort(x, kind="stable")
        heap = np.cumsum(w[order])
        half = heap[-1] / 2
        i = int(np.searchsorted(heap, half * (1 - 1e-6)))
        on_edge = abs(heap[i] - half) <= 1e-6 * half
        return (x[order][i] + x[order][min(i + 1, len(x) - 1)]) / 2 if on_edge else x[order][i]
    return {"mean": mean, "sum": len(v) * mean, "min": x.min(), "max": x.max()}[combination]


def twin_variance(value, w, keep, model, rule):
    """Below the sky there are fewer photons, down to a quarter; the rule that judges by the noise keeps the sky's."""
    if not keep.any():
        return math.nan
    floor, slope, sky, share = (np.broadcast_to(each, w.shape)[keep] for each in model)
    s, square = value - sky, w[keep] ** 2
    lit = np.maximum(s, 0)
    photons = np.sum(square * (floor + slope * (lit if rule == "model" else s)))
    photons = max(photons, DARKEST * np.sum(square * floor))
    return (photons + np.sum(square * (share * lit) ** 2)) / np.sum(w[keep]) ** 2


LEVELS = ["none", "additive", "multiplicative", "additive+scaling", "multiplicative+scaling"]
KINDS = ["equal", "noise", "manual"]
LIMITS = {"percentile": (0.2, 0.1), "model": (4.0, 4.0)}


@pytest.mark.parametrize(
    "rule", ["none", "sigma", "mad", "winsorized", "gesd", "minmax", "percentile", "model"]
)
@pytest.mark.parametrize("combination", ["mean", "median", "sum", "min", "max"])
def test_stack_agrees_with_the_definitions(rule, combination):
    seed = len(rule) * 31 + len(combination)
    samples = frames_with_outliers(seed)
    pixels = [*np.random.default_rng(1).integers(0, (64, 70), (25, 2)).tolist(), [7, 7], [8, 8]]
    for level, kind in itertools.islice(itertools.product(LEVELS, KINDS), seed % 3, None, 3):
        manual = tuple(float(k % 3) for k in range(1, 10)) if kind == "manual" else None
        step = Stack(
            rejection=rule, combination=combination, normalisation=level, weights=kind, manual_weights=manual
        )
        cube = Cube.from_array(samples)
        image = step.apply(cube, Context(workers=1, memory_budget=1 << 28))
        plan = stacking_plan(cube, step, Context(workers=1))
        n, m = plan.normalisation, plan.model
        model = (m.floor[:, 0], m.slope[:, 0], m.sky[:, 0], m.share[0])
        gain, offset = n.gain[:, 0].astype(np.float32), n.offset[:, 0].astype(np.float32)
        for y, x in pixels:
            v = (samples[:, y, x] * gain + offset).astype(float)
            keep = twin_codes(v, rule, *LIMITS.get(rule, (3.0, 3.0)), model)
            expected = twin_value(v, n.weight[:, 0], keep, combination)
            assert image.data[0, y, x] == pytest.approx(expected, rel=3e-6, nan_ok=True), (level, kind, y, x)
            if combination == "mean":
                variance = twin_variance(expected, n.weight[:, 0], keep, model, rule)
                variance *= lost_depth(plan.judgement, len(v))
                assert image.variance[0, y, x] == pytest.approx(variance, rel=1e-5, nan_ok=True)
            assert image.coverage[0, y, x] == np.isfinite(v).sum()
            assert image.reject_low[0, y, x] + image.reject_high[0, y, x] == np.isfinite(v).sum() - keep.sum()
