"""Judge the samples of one pixel exactly: the rejection rules, in float64, on sorted samples.

Every rule but the noise model cuts a sorted list only from its ends, so the survivors are always one run
``column[low:high + 1]``. The block code screens whole blocks in float32 with a safety margin and calls these
functions only for the pixels that may lose a sample.

Shared conventions: comparisons are strict (a sample on the limit stays), a scale of zero rejects nothing, and a
pass that would leave fewer than ``keep`` samples rejects only the most deviant ones (equal deviation: the frame
with the lower index goes first) and is the last.

Arguments used throughout: ``column`` (n,) float64, the valid samples of the pixel, ascending; ``frames`` (N,)
float64, the same samples in frame order with +inf where there is none; NaN first where they have not been fetched,
and then a rule that meets a tie answers `UNDECIDED`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.sortnet import Doubles, Floats, Index, part

NONE, SIGMA, MAD, WINSORIZED, GESD, MINMAX, PERCENTILE, MODEL = range(8)
RULES = {
    "none": NONE,
    "sigma": SIGMA,
    "mad": MAD,
    "winsorized": WINSORIZED,
    "gesd": GESD,
    "minmax": MINMAX,
    "percentile": PERCENTILE,
    "model": MODEL,
}

KEEP_DEVIATION = np.int64(3)  # fewer survivors than this say nothing about their own scatter
KEEP_KNOWN = np.int64(1)  # rules whose scale does not come from the samples

UNDECIDED = np.int64(-1)  # instead of a run: a tie needs the frames, fetch them and judge again

ADEV_TO_SIGMA = 1.2533141373155003  # sqrt(pi / 2): mean absolute deviation to sigma
WINSOR_CLAMP = 1.5  # Huber's c
WINSOR_TO_SIGMA = 1.134  # sigma of a Gaussian over the standard deviation of its Winsorised samples
WINSOR_TOLERANCE = 5e-4
WINSOR_PASSES = 100
ROUNDING = 1e-12  # relative; far above that of a few float64 operations


@part
def sort_upwards(values: Doubles, count: int) -> None:
    """Sort ``values[:count]`` in place (Shell's method, Ciura's gaps: little code, quick for some hundreds)."""
    for gap in (301, 132, 57, 23, 10, 4, 1):
        for i in range(gap, count):
            x = values[i]
            j = i
            while j >= gap and values[j - gap] > x:
                values[j] = values[j - gap]
                j -= gap
            values[j] = x


@part
def median_of_run(column: Doubles, low: Index, high: Index) -> float:
    """Median of ``column[low:high + 1]``."""
    total = low + high
    return float(0.5 * (column[total >> 1] + column[(total + 1) >> 1]))


@part
def take_column(
    block: Floats, lane: int, count: int, column: Doubles, sum1: Doubles, sum2: Doubles
) -> tuple[float, int]:
    """Copy one lane of a sorted block with running sums of d and d*d about its median, from the middle outwards.

    Sums of any shorter run around the middle are then two loads, and dropping a far outlier cancels no digits.
    Both halves advance together: the sums wait for each other less. Returns the median and the index where the
    upper half begins.
    """
    middle = count >> 1
    a = np.float64(block[(count - 1) >> 1, lane])
    b = np.float64(block[middle, lane])
    origin = 0.5 * (a + b)
    low1 = 0.0
    low2 = 0.0
    high1 = 0.0
    high2 = 0.0
    for i in range(middle):
        below = np.uintp(middle - 1 - i)  # unsigned: no test for counting from the end
        above = np.uintp(middle + i)
        x = np.float64(block[below, lane])
        y = np.float64(block[above, lane])
        column[below] = x
        column[above] = y
        x -= origin
        y -= origin
        low1 += x
        low2 += x * x
        high1 += y
        high2 += y * y
        sum1[below] = low1
        sum2[below] = low2
        sum1[above] = high1
        sum2[above] = high2
    if count & 1:
        y = np.float64(block[count - 1, lane])
        column[count - 1] = y
        y -= origin
        sum1[count - 1] = high1 + y
        sum2[count - 1] = high2 + y * y
    return origin, middle


@part
def run_sums(sum1: Doubles, sum2: Doubles, middle: Index, low: Index, high: Index) -> tuple[float, float]:
    """Give the sums of d and d*d over ``column[low:high + 1]`` from `take_column`."""
    s1 = 0.0
    s2 = 0.0
    if low < middle:
        s1 = sum1[low]
        s2 = sum2[low]
        if high < middle - 1:
            s1 -= sum1[high + 1]
            s2 -= sum2[high + 1]
    if high >= middle:
        s1 += sum1[high]
        s2 += sum2[high]
        if low > middle:
            s1 -= sum1[low - 1]
            s2 -= sum2[low - 1]
    return s1, s2


@part
def nth_frame_with(frames: Doubles, value: float, skip: int) -> int:
    """Index of the (skip + 1)-th frame whose sample equals ``value``."""
    for k in range(frames.size):
        if frames[k] == value:
            if skip == 0:
                return k
            skip -= 1
    return frames.size


@part
def low_end_first(column: Doubles, frames: Doubles, count: int, low: Index, high: Index) -> int:
    """Break a tie between the two ends of the run: 1 where the lower one has the lower frame index, else 0.

    -1 where the frames have not been fetched: ties are rare, so they are fetched on demand.
    """
    if np.isnan(frames[0]):
        return -1
    below = 0
    while low - below > 0 and column[low - below - 1] == column[low]:
        below += 1
    above = 0
    while high + above < count - 1 and column[high + above + 1] == column[high]:
        above += 1
    lower = nth_frame_with(frames, column[low], below) < nth_frame_with(frames, column[high], above)
    return 1 if lower else 0


@part
def beyond(deviation: float, scale: float, k: float) -> bool:
    """Whether deviation / scale > k, dividing only where a product cannot tell."""
    limit = k * scale
    if deviation < limit * (1.0 - ROUNDING):
        return False
    if deviation > limit * (1.0 + ROUNDING):
        return True
    return deviation / scale > k


@part
def clip_ends(
    column: Doubles, frames: Doubles, count: int, low: Index, high: Index, centre: float, scale: float, k_low: float,
    k_high: float, keep: int,
) -> tuple[Index, Index, bool]:  # fmt: skip
    """One clipping pass over the run; returns the new run and whether another pass makes sense."""
    if not scale > 0.0:
        return low, high, False
    first = low
    last = high
    while first <= high and beyond(centre - column[first], scale, k_low):
        first += 1
    while last >= first and beyond(column[last] - centre, scale, k_high):
        last -= 1
    if first == low and last == high:
        return low, high, False
    if last - first + 1 >= keep:
        return first, last, True
    allowed = max(0, high - low + 1 - keep)
    first_candidates = first
    last_candidates = last
    for _ in range(allowed):
        z_low = -1.0
        z_high = -1.0
        if low < first_candidates:
            z_low = (centre - column[low]) / scale
        if high > last_candidates:
            z_high = (column[high] - centre) / scale
        choice = 1 if z_low > z_high else 0
        if z_low == z_high:
            choice = low_end_first(column, frames, count, low, high)
        if choice < 0:
            return UNDECIDED, UNDECIDED, False
        low += choice
        high -= 1 - choice
    return low, high, False


@part
def mad_of_run(column: Doubles, low: Index, high: Index, centre: float) -> float:
    """Median of |x - centre|: the nearest samples form a window of the sorted run; binary search."""
    n = high - low + 1
    half = n >> 1
    first = low
    last = high - half
    while first < last:
        q = (first + last) >> 1
        if centre - column[q] > column[q + half + 1] - centre:
            first = q + 1
        else:
            last = q
    below = abs(centre - column[first])
    above = abs(column[first + half] - centre)
    if n & 1:
        return float(max(below, above))
    if below > above:
        following = max(abs(centre - column[first + 1]), above)
    else:
        following = max(below, abs(column[first + half - 1] - centre))
    return float(0.5 * (max(below, above) + following))


@part
def mad_scale(column: Doubles, low: Index, high: Index, centre: float) -> float:
    """1.4826 MAD; where that is 0 (most samples equal) sqrt(pi / 2) times the mean absolute deviation."""
    scale = MAD_TO_SIGMA * mad_of_run(column, low, high, centre)
    if scale > 0.0:
        return float(scale)
    total = 0.0
    for i in range(low, high + 1):
        total += abs(column[i] - centre)
    return float(ADEV_TO_SIGMA * total / (high - low + 1))


@part
def winsor_scale(
    column: Doubles, low: Index, high: Index, centre: float, origin: float, middle: Index, sum1: Doubles, sum2: Doubles
) -> float:
    """Sigma of the run by iterated Winsorisation about its median (Huber; Siril, PixInsight 1.8).

    Each pass clamps the already clamped samples, so the clamp only tightens and the count of clamped samples
    at either end only grows: a pass costs a few steps of two indices.
    """
    n = high - low + 1
    upper_half = low + (n >> 1)
    shift = centre - origin
    s1, s2 = run_sums(sum1, sum2, middle, low, high)
    sigma = math.sqrt(max(s2 - s1 * s1 / n, 0.0) / (n - 1))
    clamp = np.inf
    first = low
    last = high
    for turn in range(WINSOR_PASSES):
        if not sigma > 0.0:
            break
        clamp = min(clamp, WINSOR_CLAMP * sigma)
        while first < upper_half and centre - column[first] > clamp:
            first += 1
        while last >= upper_half and column[last] - centre > clamp:
            last -= 1
        s1, s2 = run_sums(sum1, sum2, middle, first, last)
        inside = last - first + 1
        s2 += shift * (inside * shift - 2.0 * s1)
        s1 -= inside * shift
        s1 += clamp * ((high - last) - (first - low))
        s2 += clamp * clamp * (n - inside)
        before = sigma
        sigma = WINSOR_TO_SIGMA * math.sqrt(max(s2 - s1 * s1 / n, 0.0) / (n - 1))
        if turn >= 1 and abs(sigma - before) < WINSOR_TOLERANCE * before:
            break
    return sigma


@part
def clip_iterated(
    rule: int, column: Doubles, frames: Doubles, count: int, k_low: float, k_high: float, passes: int, floor: float,
    origin: float, middle: Index, sum1: Doubles, sum2: Doubles,
) -> tuple[Index, Index]:  # fmt: skip
    """Clip about the median of the survivors; returns the surviving run.

    Scale: standard deviation (sigma), MAD (mad), Winsorised sigma (winsorized), each at least ``floor``, or the
    median itself, once (percentile: distance as a share of the median; needs data with a true zero).
    """
    low = np.int64(0)
    high = count - 1
    keep = KEEP_DEVIATION
    if rule == PERCENTILE:
        keep = KEEP_KNOWN
        passes = min(passes, 1)
    for _ in range(passes):
        n = high - low + 1
        if n <= keep:
            break
        centre = median_of_run(column, low, high)
        if rule == PERCENTILE:
            scale = centre
        elif rule == MAD:
            scale = max(mad_scale(column, low, high, centre), floor)
        elif rule == WINSORIZED:
            scale = max(winsor_scale(column, low, high, centre, origin, middle, sum1, sum2), floor)
        else:
            s1, s2 = run_sums(sum1, sum2, middle, low, high)
            scale = max(math.sqrt(max(s2 - s1 * s1 / n, 0.0) / (n - 1)), floor)
        low, high, more = clip_ends(column, frames, count, low, high, centre, scale, k_low, k_high, keep)
        if not more:
            break
    return low, high


@part
def gesd(
    column: Doubles, frames: Doubles, count: int, limits: Doubles, row: int, floor: float, origin: float, middle: Index,
    sum1: Doubles, sum2: Doubles,
) -> tuple[Index, Index]:  # fmt: skip
    """Generalised extreme studentised deviate test (Rosner 1983; NIST handbook 1.3.5.17.3).

    The sample farthest from the mean is always an end of the run, so a removal costs two loads. The number of
    outliers is the largest i with R_i > lambda_i, found by going through all of them.

    ``limits[row]`` holds lambda_1... for this count, +inf behind the last.
    """
    low = np.int64(0)
    high = count - 1
    best_low = low
    best_high = high
    for i in range(limits.shape[1]):
        limit = limits[row, i]
        if limit == np.inf:
            break
        n = high - low + 1
        s1, s2 = run_sums(sum1, sum2, middle, low, high)
        mean = s1 / n
        scale = max(math.sqrt(max(s2 - s1 * mean, 0.0) / (n - 1)), floor)
        if not scale > 0.0:
            break
        below = mean - (column[low] - origin)
        above = (column[high] - origin) - mean
        choice = 1 if below > above else 0
        if below == above:
            choice = low_end_first(column, frames, count, low, high)
        if choice < 0:
            return UNDECIDED, UNDECIDED
        low += choice
        high -= 1 - choice
        if (below if choice == 1 else above) / scale > limit:
            best_low = low
            best_high = high
    return best_low, best_high


@part
def minmax(count: int, n_low: Index, n_high: Index) -> tuple[Index, Index]:
    """Drop the lowest and highest samples; counts are cut in proportion when nothing would be left."""
    allowed = max(np.int64(0), count - KEEP_KNOWN)
    if n_low + n_high > allowed:
        high_share = min(n_high, math.ceil(allowed * n_high / (n_low + n_high)))
        n_low = allowed - high_share
        n_high = high_share
    return n_low, count - 1 - n_high


@part
def model_variance(level: float, sky: float, floor: float, slope: float, share: float) -> float:
    """Variance of a sample of known noise whose true value is ``level``; all in normalised units."""
    signal = max(level - sky, 0.0)
    return floor + slope * signal + (share * signal) ** 2


@part
def model(
    column: Doubles, frames: Doubles, code: NDArray[np.int8], count: int, k_low: float, k_high: float, passes: int,
    sky: Doubles, floor: Doubles, slope: Doubles, share: float, deviation: Doubles,
) -> tuple[Index, Index]:  # fmt: skip
    """Clip about the median by each frame's known noise; marks ``code`` (N,) int8 with 1 where rejected.

    ``column`` loses the rejected samples (the survivors stay sorted at its start). Returns the counts of low and
    high rejections. ``deviation`` (N,) float64 is scratch.
    """
    n_low = 0
    n_high = 0
    n = count
    for _ in range(passes):
        if n <= KEEP_KNOWN:
            break
        centre = median_of_run(column, np.int64(0), n - 1)
        candidates = 0
        for k in range(frames.size):
            deviation[k] = 0.0
            if code[k] != 0:
                continue
            variance = model_variance(centre, sky[k], floor[k], slope[k], share)
            if not variance > 0.0:
                continue
            z = (frames[k] - centre) / math.sqrt(variance)
            if z > k_high or z < -k_low:
                deviation[k] = z
                candidates += 1
        if candidates == 0:
            break
        allowed = min(candidates, int(n - KEEP_KNOWN))
        for _turn in range(allowed):
            worst = 0
            for k in range(1, frames.size):
                if abs(deviation[k]) > abs(deviation[worst]):
                    worst = k
            code[worst] = 1
            if deviation[worst] > 0.0:
                n_high += 1
            else:
                n_low += 1
            deviation[worst] = 0.0
            place = 0
            while column[place] != frames[worst]:
                place += 1
            n -= 1
            for i in range(place, n):
                column[i] = column[i + 1]
        if allowed < candidates:
            break
    return n_low, n_high
