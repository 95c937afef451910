"""What the integration kernel is given: named groups of arrays and numbers, as tuples that numba understands.

N frames, P pixels; one compiled kernel serves all, so every group has the same types whatever is asked for, and
what is not asked for is an array of one element and a False.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.sortnet import LANES, Doubles, Flags, Floats, Ints

FLOAT32, UINT16, UINT16_FITS = range(3)
MEAN, MEDIAN, SUM, MIN, MAX = range(5)
COMBINATIONS = {"mean": MEAN, "median": MEDIAN, "sum": SUM, "min": MIN, "max": MAX}
ROWS_TOGETHER = 256  # rows loaded at once: 128 KB, within a second-level cache


class Samples(NamedTuple):
    """The samples as recorded: frame k begins at k * step of ``floats`` or ``words``."""

    kind: int
    floats: Floats
    words: NDArray[np.uint16]
    step: int


class Frames(NamedTuple):
    """One number a frame, float32 (N,)."""

    gain: Floats
    offset: Floats
    weight: Floats
    saturation: Floats
    weighted: bool
    saturating: bool


class Apart(NamedTuple):
    """Values judged in place of the samples, and shares of the weight, laid out like the samples."""

    judged: Floats
    judged_step: int
    judging: bool
    share: Floats
    share_step: int
    sharing: bool


class Rule(NamedTuple):
    """Which rule, its limits, and the table of `gesd_limits` as lambda and lambda squared."""

    number: int
    low: float
    high: float
    passes: int
    floor: float
    limits: Doubles
    limits2: Floats


class Noise(NamedTuple):
    """Known noise of each frame, see `integrate_samples`; the same in float32 for whole rows."""

    sky: Doubles
    floor: Doubles
    slope: Doubles
    share: float
    sky32: Floats
    floor32: Floats
    slope32: Floats
    known: bool


class Combining(NamedTuple):
    """How survivors become a value; ``every`` sends each pixel through the exact float64 path."""

    method: int
    equal_weight: float
    truncation: float
    median_factors: Doubles
    every: bool


class Plan(NamedTuple):
    """From `sortnet.sort_plan`."""

    steps: NDArray[np.int64]
    rows: int
    early: int


class Planes(NamedTuple):
    """Results, one number a pixel."""

    value: Floats
    variance: Floats
    coverage: NDArray[np.uint16]
    low: NDArray[np.uint16]
    high: NDArray[np.uint16]
    weight: Floats
    lower: Floats
    upper: Floats


class Work(NamedTuple):
    """Working memory of one thread: blocks of samples, and lanes (one number a pixel of a block)."""

    blocks: Floats
    flat: Floats
    raw: Floats
    weights: Floats
    limits2: Floats
    lowest: Floats
    highest: Floats
    median: Floats
    reached: Floats
    sum1: Floats
    sum2: Floats
    total: Floats
    result: Floats
    spread: Floats
    spare: Floats
    valid: Ints
    saturated: Ints
    limits_for: Ints
    used: Ints
    first: Ints
    last: Ints
    gesd_floats: Floats
    gesd_ints: Ints
    flag: Flags
    sums: Doubles


class Column(NamedTuple):
    """Working memory for the samples of one pixel: in frame order, and sorted with their running sums.

    Apart from `Work`, because tuples are passed number by number, and these go to functions called for a pixel.
    """

    values: Doubles
    judged: Doubles
    weights: Doubles
    code: NDArray[np.int8]
    ordered: Doubles
    running1: Doubles
    running2: Doubles
    scratch: Doubles


def make_column(frames: int) -> Column:
    """Allocate working memory for one pixel."""
    one, two, three, four, five, six, seven = np.zeros((7, frames))
    return Column(one, two, three, np.zeros(frames, np.int8), four, five, six, seven)


def make_work(frames: Frames, plan: Plan, rule: Rule) -> Work:
    """Allocate working memory; padding is +inf, weights are those of the frames in every lane."""
    count = len(frames.gain)
    even = count + count % 2
    blocks = np.full((plan.rows * max(1, ROWS_TOGETHER // plan.rows), LANES), np.inf, np.float32)
    weights = np.zeros((even, LANES), np.float32)
    weights[:count] = frames.weight[:, None]

    def floats() -> Floats:
        return np.zeros(LANES, np.float32)

    def whole(value: int = 0) -> Ints:
        return np.full(LANES, value, np.int32)

    return Work(
        blocks=blocks, flat=blocks.reshape(-1), raw=np.full((even, LANES), np.inf, np.float32), weights=weights,
        limits2=np.full((rule.limits.shape[1], LANES), np.inf, np.float32),
        lowest=floats(), highest=floats(), median=floats(), reached=floats(), sum1=floats(), sum2=floats(),
        total=floats(), result=floats(), spread=floats(), spare=floats(),
        valid=whole(), saturated=whole(), limits_for=whole(-1), used=whole(), first=whole(), last=whole(),
        gesd_floats=np.zeros(7 * LANES, np.float32), gesd_ints=np.zeros(4 * LANES, np.int32),
        flag=np.zeros(LANES, np.bool_), sums=np.zeros((4, LANES)),
    )  # fmt: skip
