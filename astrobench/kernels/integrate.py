"""Combine the samples of every pixel into one value, leaving out samples that do not belong.

Arrays in, arrays out: `integrate_samples` checks, prepares tables and shares the pixels among threads; the work
is in `integrate_blocks`. Rules and combinations follow the references named in `reject`.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astrobench.kernels.integrate_blocks import integrate_range
from astrobench.kernels.integrate_inputs import (
    COMBINATIONS,
    FLOAT32,
    MAX,
    MEDIAN,
    MIN,
    UINT16,
    UINT16_FITS,
    Apart,
    Column,
    Combining,
    Frames,
    Noise,
    Plan,
    Planes,
    Rule,
    Samples,
    Work,
    make_column,
    make_work,
)  # fmt: skip
from astrobench.kernels.reject import GESD, MAD, MINMAX, MODEL, RULES, SIGMA, WINSORIZED
from astrobench.kernels.sortnet import LANES, sort_plan

RANGE = 256 * LANES  # pixels between two looks at `check`: about a millisecond at 30 frames
GESD_LEAST = 4  # fewer samples are not tested
MOST_FRAMES = 65535  # counts are uint16
# n var(median) / sigma^2 of n = 0, 1, 2... Gaussian samples
MEDIAN_FACTORS = (
    1.0, 1.0, 1.0, 1.3460, 1.1928, 1.4342, 1.2885, 1.4731, 1.3454, 1.4949, 1.3833,
    1.5088, 1.4102, 1.5184, 1.4303, 1.5254, 1.4460, 1.5308, 1.4585, 1.5350, 1.4687,
)  # fmt: skip

PAUSE = 0.05  # seconds between two looks at another process

Array = NDArray[Any]

# Whether another process still compiles this kernel; asked before its first use here, because both compiling takes
# twice as long as waiting for the cache.
compiling_elsewhere: list[Callable[[], bool]] = []


class Integrated(NamedTuple):
    """Result of `integrate_samples`; P pixels, N frames.

    ``(x < lower) | (x > upper)`` on normalised samples x rebuilds any frame's rejection mask, except where equal
    samples were split by frame index, and for the noise model, whose limits differ from frame to frame.
    """

    value: NDArray[np.float32]
    """(P,) combined value; NaN where nothing is left."""
    variance: NDArray[np.float32]
    """(P,) variance of ``value``, data units squared; NaN where it cannot be known."""
    coverage: NDArray[np.uint16]
    """(P,) valid samples."""
    low: NDArray[np.uint16]
    """(P,) samples rejected below."""
    high: NDArray[np.uint16]
    """(P,) samples rejected above, saturated ones included."""
    weight: NDArray[np.float32]
    """(P,) sum of the weights of the survivors."""
    lower: NDArray[np.float32]
    """(P,) smallest kept judged value."""
    upper: NDArray[np.float32]
    """(P,) largest kept judged value."""
    rejected: NDArray[np.int64]
    """(N,) samples rejected per frame, low and high."""


def integrate_samples(
    samples: Array,
    *,
    gain: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    rule: str = "gesd",
    low: float = 3.0,
    high: float = 3.0,
    combine: str = "mean",
    passes: int | None = None,
    noise_floor: ArrayLike | None = None,
    noise_slope: ArrayLike | None = None,
    noise_share: float = 0.0,
    noise_sky: ArrayLike | None = None,
    scale_floor: float = 0.0,
    alpha: float = 0.05,
    max_fraction: float = 0.3,
    saturation: ArrayLike | None = None,
    judged: NDArray[np.float32] | None = None,
    share: NDArray[np.float32] | None = None,
    swapped: bool = False,
    threads: int = 1,
    check: Callable[[], object] | None = None,
    out: Integrated | None = None,
) -> Integrated:
    """Reject outliers among the samples of every pixel and combine the rest.

    Parameters
    ----------
    samples : (N, P) float32 or uint16
        One row per frame, each row contiguous. float32: NaN and infinity are missing. uint16: all are valid.
    gain, offset : (N,), optional
        Normalised sample y = x * gain + offset, in float32 with two roundings; default 1 and 0.
    weight : (N,), optional
        Frame weights, >= 0. A frame of weight 0 takes part in the judgement but not in the combination.
    rule : str
        none, sigma, mad, winsorized, gesd, minmax, percentile or model; see Notes.
    low, high : float
        Limits below and above: in scales (sigma, mad, winsorized, model), in counts (minmax), in shares of the
        median (percentile).
    combine : str
        mean (weighted), median (weighted: mean of lower and upper weighted median), sum (N times the mean), min,
        max.
    passes : int, optional
        Most passes of an iterated rule; default: until nothing changes.
    noise_floor, noise_slope, noise_share, noise_sky
        Known noise, normalised units. The variance of a sample of frame k with true value m is
        ``noise_floor[k] + noise_slope[k] * s + (noise_share * s)**2`` with ``s = max(m - noise_sky[k], 0)``:
        ``noise_floor`` (N,) is the variance at ``noise_sky`` (N,), ``noise_slope`` (N,) the variance per unit of
        signal (gain / electrons per ADU), ``noise_share`` the part of the signal that differs from frame to
        frame (seeing, clouds, interpolation). ``noise_sky`` defaults to ``offset``, the level of a raw zero:
        then this is the CCD equation of IRAF's ccdclip with data above bias.
    scale_floor : float
        Least scale of sigma, mad, winsorized and gesd, normalised units; 0.5 ADU times gain for integer data.
    alpha, max_fraction : float
        Significance, and largest share of a pixel's samples that gesd may reject.
    saturation : (N,), optional
        A raw sample at or above its frame's level is left out before normalisation and counted as high, unless
        every valid sample of the pixel is.
    judged : (N, P) float32, optional
        Values, already normalised, on which the rule decides instead; needs float32 samples.
    share : (N, P) float32, optional
        Factor of the weight per sample (area covered); 0 or NaN is missing; needs float32 samples.
    swapped : bool
        16-bit samples hold FITS bytes as read from disk (big-endian, offset 32768).
    threads : int
        Threads; the result has the same bits for any number.
    check : callable, optional
        Called between ranges of pixels in the calling thread; what it raises ends the work.
    out : Integrated, optional
        Arrays to overwrite.

    Returns
    -------
    Integrated
        Flat arrays; see there.

    Raises
    ------
    ValueError
        For arrays or numbers that do not fit together.

    Notes
    -----
    sigma, mad, winsorized: passes about the median of the survivors with the sample standard deviation, with
    1.4826 MAD, with Huber's Winsorised sigma, until nothing changes; at least 3 samples stay. gesd: Rosner's
    generalised ESD test from 4 samples. minmax: fixed counts, equal samples by frame index. percentile: one pass
    about the median. model: passes about the median with the known noise; at least 1 sample stays.

    Variance, with known noise: sum w^2 var_k(value) / (sum w)^2. Without: sum w (x - mean)^2 / ((n - 1) sum w)
    over the n survivors of weight above 0, unbiased where w is inverse to the variance, divided for sigma, mad
    and winsorized by the variance of a standard Gaussian cut at -low and high. A median's variance is that of
    the mean times its small-sample factor; min and max have none (NaN).
    """
    number = _choice("rule", rule, RULES)
    combination = _choice("combine", combine, COMBINATIONS)
    frames = samples.shape[0] if samples.ndim == 2 else 0
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"samples has shape {samples.shape}; (N, P) with N from 1 to {MOST_FRAMES} is needed")
    pixels = samples.shape[1]
    data = _data(samples, swapped)
    if (judged is not None or share is not None) and data.kind != FLOAT32:
        raise ValueError(f"judged and share need float32 samples, these are {samples.dtype}")
    if min(low, high) < 0 or math.isnan(low) or math.isnan(high):
        raise ValueError(f"low is {low}, high is {high}; limits must be 0 or more")

    gains = _per_frame("gain", gain, frames, 1.0)
    offsets = _per_frame("offset", offset, frames, 0.0)
    weights = _per_frame("weight", weight, frames, 1.0)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weight holds a negative or non-finite number")
    differing = bool((weights != weights[0]).any()) or weights[0] == 0
    weighted = differing or share is not None or judged is not None
    levels = _per_frame("saturation", saturation, frames, math.inf)
    if number == MODEL and noise_floor is None and noise_slope is None:
        raise ValueError("rule model needs noise_floor or noise_slope")

    per_frame = Frames(gains, offsets, weights, levels, weighted, saturation is not None)
    apart = Apart(
        *_plane("judged", judged, samples.shape), judged is not None,
        *_plane("share", share, samples.shape), share is not None,
    )  # fmt: skip
    every = combination in (MIN, MAX) and not bool((weights > 0).all())
    if judged is not None:
        every = combination in (MEDIAN, MIN, MAX) or number == MODEL
    if number == MINMAX:
        low, high = min(int(low), frames), min(int(high), frames)
    limits = gesd_limits(frames, alpha, max_fraction) if number == GESD else np.full((1, 1), np.inf)
    judge = Rule(
        number, float(low), float(high), frames if passes is None else int(passes), float(scale_floor), limits,
        (limits * limits).astype(np.float32),
    )  # fmt: skip
    noise = _noise(frames, offsets, noise_sky, noise_floor, noise_slope, noise_share)
    cut = truncated_variance(low, high) if number in (SIGMA, MAD, WINSORIZED) else 1.0
    combining = Combining(
        combination, 1.0 if weighted else float(weights[0]), 1.0 / cut, median_factors(frames), every
    )
    plan = Plan(*sort_plan(frames))

    result = allocate(frames, pixels) if out is None else out
    _check_out(result, frames, pixels)
    result.rejected[:] = 0
    _wait_for_others(check)
    lock = threading.Lock()
    stop = threading.Event()
    spare: list[tuple[Work, Column]] = []

    def work(begin: int) -> None:
        if stop.is_set():
            return
        rejected = np.zeros(frames, np.int64)
        with lock:
            memory = spare.pop() if spare else (make_work(per_frame, plan, judge), make_column(frames))
        end = min(begin + RANGE, pixels)
        integrate_range(
            begin, end, data, per_frame, apart, judge, noise, combining, plan, *memory, Planes(*result[:8]), rejected
        )
        with lock:
            result.rejected[:] += rejected
            spare.append(memory)

    share_out(work, range(0, pixels, RANGE), threads, check, stop)
    return result


def _wait_for_others(check: Callable[[], object] | None) -> None:
    while compiling_elsewhere:
        if not compiling_elsewhere[-1]():
            compiling_elsewhere.pop()
            continue
        if check is not None:
            check()
        time.sleep(PAUSE)


def share_out(
    work: Callable[[int], None],
    begins: range,
    threads: int,
    check: Callable[[], object] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run ``work`` for every begin; ``check`` runs in the calling thread, and ``stop`` is set where it raises."""
    if threads <= 1 or len(begins) <= 1:
        for begin in begins:
            if check is not None:
                check()
            work(begin)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for _ in pool.map(work, begins):
                if check is not None:
                    check()
        except BaseException:
            if stop is not None:
                stop.set()
            raise


def _choice(name: str, given: str, table: dict[str, int]) -> int:
    if given not in table:
        raise ValueError(f"{name} is {given!r}; known are {', '.join(table)}")
    return table[given]


def _per_frame(
    name: str, given: ArrayLike | None, frames: int, default: float, dtype: type = np.float32
) -> NDArray[Any]:
    if given is None:
        return np.full(frames, default, dtype)
    array: Array = np.asarray(given, dtype)
    if array.ndim == 0:
        return np.full(frames, array, dtype)
    if array.shape != (frames,):
        raise ValueError(f"{name} has shape {array.shape}, there are {frames} frames")
    return np.array(array, dtype, order="C")


def _noise(
    frames: int, offsets: NDArray[np.float32], sky: ArrayLike | None, floor: ArrayLike | None,
    slope: ArrayLike | None, share: float,
) -> Noise:  # fmt: skip
    levels, floors, slopes = (
        offsets.astype(np.float64) if sky is None else _per_frame("noise_sky", sky, frames, 0.0, np.float64),
        _per_frame("noise_floor", floor, frames, 0.0, np.float64),
        _per_frame("noise_slope", slope, frames, 0.0, np.float64),
    )
    return Noise(
        levels, floors, slopes, float(share), levels.astype(np.float32), floors.astype(np.float32),
        slopes.astype(np.float32), floor is not None or slope is not None,
    )  # fmt: skip


class _Memory:
    """Plain memory for numpy, whatever array it came from: read-only ones would compile a second kernel."""

    def __init__(self, owner: Array, length: int) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3,
            "shape": (length,),
            "typestr": owner.dtype.str,
            "data": (owner.__array_interface__["data"][0], False),
        }


def flat_rows(array: Array) -> tuple[Array, int]:
    """Return a flat view over all rows and the distance between rows in samples; copies only odd layouts."""
    size = array.itemsize
    plain = array.strides[1] == size and array.strides[0] >= 0 and array.strides[0] % size == 0
    if not (plain and array.flags.aligned):
        array = np.array(array, order="C")
    step = array.strides[0] // size
    if array.size == 0:
        return np.zeros(1, array.dtype), 0
    return np.asarray(_Memory(array, (array.shape[0] - 1) * step + array.shape[1])), step


def _data(samples: Array, swapped: bool) -> Samples:
    no_floats, no_words = np.zeros(1, np.float32), np.zeros(1, np.uint16)
    if swapped and samples.dtype.kind in "iu" and samples.itemsize == 2:
        flat, step = flat_rows(np.asarray(samples).view(np.uint16))
        return Samples(UINT16_FITS, no_floats, flat, step)
    if samples.dtype == np.uint16 and samples.dtype.isnative and not swapped:
        flat, step = flat_rows(np.asarray(samples))
        return Samples(UINT16, no_floats, flat, step)
    if samples.dtype == np.float32 and samples.dtype.isnative and not swapped:
        flat, step = flat_rows(np.asarray(samples))
        return Samples(FLOAT32, flat, no_words, step)
    raise ValueError(f"samples are {samples.dtype}; float32 or uint16 is needed (16-bit integers if swapped)")


def _plane(name: str, given: Array | None, shape: tuple[int, ...]) -> tuple[Array, int]:
    if given is None:
        return np.zeros(1, np.float32), 0
    if given.shape != shape or given.dtype != np.float32:
        raise ValueError(f"{name} is {given.dtype} {given.shape}; float32 {shape} is needed")
    return flat_rows(np.asarray(given))


def allocate(frames: int, pixels: int) -> Integrated:
    """Return memory for the results of so many frames and pixels, contents undefined."""

    def plane(dtype: type) -> Array:
        return np.empty(pixels, dtype)

    return Integrated(
        plane(np.float32), plane(np.float32), plane(np.uint16), plane(np.uint16), plane(np.uint16),
        plane(np.float32), plane(np.float32), plane(np.float32), np.zeros(frames, np.int64),
    )  # fmt: skip


def _check_out(out: Integrated, frames: int, pixels: int) -> None:
    kinds = ("f4", "f4", "u2", "u2", "u2", "f4", "f4", "f4", "i8")
    arrays: list[Array] = list(out)
    for name, array, kind in zip(Integrated._fields, arrays, kinds, strict=True):
        length = frames if name == "rejected" else pixels
        if array.shape != (length,) or array.dtype != np.dtype(kind) or not array.flags.carray:
            raise ValueError(f"out.{name} is {array.dtype} {array.shape}; contiguous {kind} ({length},) is needed")


@lru_cache(maxsize=16)
def gesd_limits(frames: int, alpha: float, max_fraction: float) -> NDArray[np.float64]:
    """Critical values of the generalised ESD test for every number of valid samples.

    Parameters
    ----------
    frames : int
        Largest number of samples.
    alpha : float
        Two-sided significance of each test.
    max_fraction : float
        Share of the samples that may be outliers.

    Returns
    -------
    (frames + 1, K) float64
        Row n holds lambda_1 to lambda_k of n samples, k = floor(max_fraction n) held to 1...n - 3; +inf behind.

    References
    ----------
    Rosner, Technometrics 25 (1983) 165; NIST/SEMATECH e-Handbook 1.3.5.17.3.
    """
    from scipy.special import stdtrit  # a quarter of a second to import, and only this rule needs it

    most = [
        min(max(1, math.floor(max_fraction * n)), n - 3) if n >= GESD_LEAST else 0 for n in range(frames + 1)
    ]
    limits = np.full((frames + 1, max(1, *most)), np.inf)
    for n, k in enumerate(most):
        if k < 1:
            continue
        i = np.arange(1, k + 1)
        t = stdtrit(n - i - 1, 1 - alpha / (2 * (n - i + 1)))
        limits[n, :k] = (n - i) * t / np.sqrt((n - i - 1 + t * t) * (n - i + 1))
    return limits


def truncated_variance(low: float, high: float) -> float:
    """Variance of a standard Gaussian whose tails below -low and above high are cut off.

    0 sigma on both sides leaves nothing: then 1 is returned, the scatter is left as it is.
    """

    def density(z: float) -> float:
        return math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) if math.isfinite(z) else 0.0

    def moment(z: float) -> float:
        return z * density(z) if math.isfinite(z) else 0.0

    inside = 0.5 * (math.erf(high / math.sqrt(2)) + math.erf(low / math.sqrt(2)))
    if inside <= 0:
        return 1.0
    shift = (density(low) - density(high)) / inside
    return max(1.0 - (moment(low) + moment(high)) / inside - shift * shift, 1e-3)


@lru_cache(maxsize=16)
def median_factors(frames: int) -> NDArray[np.float64]:
    """Variance of the median over the variance of the mean, for 0 to ``frames`` Gaussian samples.

    Exact to 20 samples (order statistics integrated numerically), then the series in 1/n; error below 2e-4.
    """
    n = np.maximum(np.arange(frames + 1, dtype=np.float64), 1)
    odd = math.pi / 2 - 0.6742 / n - 0.105 / n**2
    even = math.pi / 2 - (0.6742 + math.pi / 2) / n + 4.3 / n**2
    factors = np.where(np.arange(frames + 1) % 2, odd, even)
    known = MEDIAN_FACTORS[: frames + 1]
    factors[: len(known)] = known
    return factors
