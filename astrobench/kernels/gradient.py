"""Fit a smooth surface to the sky: robust samples, objects left alone, Chebyshev polynomials, hold-out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CLIP_LOW, CLIP_HIGH, CLIP_PASSES = 3.0, 2.0, 6  # stars only brighten: clipped harder above
MEDIAN_ERROR = 1.25  # error of a median in units of sigma / sqrt(n), sqrt(pi / 2)
PIXELS_A_CELL = 2048  # enough for a median good to 0.028 sigma
LEAST_PIXELS = 25  # a cell with fewer clear pixels gives no sample
MAD_TO_SIGMA = 1.4826  # 1 / norm.ppf(0.75)
TINY = 1e-12  # keeps a noiseless picture from dividing by zero
ROBUST_PASSES = 30
BIWEIGHT_REACH = 3.0  # sigma above the surface from which a sample has no say
SINGULAR = 1e-11  # of the largest singular value: terms that the samples leave open stay 0
MOST_FLEXIBLE = 6  # degree; 28 terms, beyond which corners run away
SAMPLES_A_TERM = 4
SMALLEST_OBJECT = 3  # cells
OBJECT_PEAK, OBJECT_EDGE = 3.0, 1.0  # sigma: an object has a cell above the one, and reaches to the other
WITHIN = 1.1
HOLD_OUT_FOLDS, HOLD_OUT_BLOCK = 5, 4


class Samples(NamedTuple):
    """Sky samples on a grid of R x C cells.

    ``value`` and ``error`` are (R, C) float64 [unit of the picture], NaN where a cell gives no sample;
    ``x`` (C,) and ``y`` (R,) are the centres of the cells [pixels].
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def cell_grid(height: int, width: int, per_row: int) -> tuple[int, int, int]:
    """Return rows, columns and box size [pixels] of square cells, `per_row` along the shorter side."""
    box = max(1, min(height, width) // per_row)
    return max(1, height // box), max(1, width // box), box


def sample_sky(plane: NDArray[np.float32], per_row: int) -> Samples:
    """Measure the sky in square cells: the median of what asymmetric clipping leaves.

    Parameters
    ----------
    plane : (H, W) float32
        Linear; NaN is left out.
    per_row : int
        Cells along the shorter side.

    Returns
    -------
    Samples
        Error = 1.25 s / sqrt(n), s the standard deviation of what is left. A cell in which less than half
        of the pixels are finite gives no sample.
    """
    height, width = plane.shape
    rows, columns, box = cell_grid(height, width, per_row)
    stride = max(1, int(np.ceil(box / np.sqrt(PIXELS_A_CELL))))
    offsets_y = (height - rows * box) // 2 + np.arange(rows) * box
    offsets_x = (width - columns * box) // 2 + np.arange(columns) * box
    inside = np.arange(stride // 2, box, stride)
    picked = plane[np.ix_((offsets_y[:, None] + inside).ravel(), (offsets_x[:, None] + inside).ravel())]
    m = inside.size
    cells = picked.reshape(rows, m, columns, m).swapaxes(1, 2).reshape(rows * columns, m * m)
    value, error = _clipped_medians(np.sort(cells, axis=1))
    half = (box - 1) / 2
    return Samples(
        value.reshape(rows, columns), error.reshape(rows, columns), offsets_x + half, offsets_y + half
    )


def _clipped_medians(cells: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Clip the sorted pixels of every cell at -3 / +2 sigma around the median; return median and its error.

    Thresholds cut a sorted list only from its ends, so two indices a cell are all the state there is.
    """
    count, size = cells.shape
    finite = np.isfinite(cells).sum(axis=1)
    zero = np.nanmin(cells) if finite.any() else np.float32(0)
    values = np.where(np.isfinite(cells), cells - zero, 0).astype(np.float64)
    ends = ((0, 0), (1, 0))
    sums = np.pad(np.cumsum(values, axis=1), ends)
    squares = np.pad(np.cumsum(values * values, axis=1), ends)
    each = np.arange(count)
    first, stop = np.zeros(count, np.intp), finite.astype(np.intp)

    def median() -> NDArray[np.float64]:
        low = np.clip((first + stop - 1) // 2, 0, size - 1)
        high = np.clip((first + stop) // 2, 0, size - 1)
        middle: NDArray[np.float64] = (values[each, low] + values[each, high]) / 2
        return middle

    for _ in range(CLIP_PASSES):
        n = np.maximum(stop - first, 1)
        mean = (sums[each, stop] - sums[each, first]) / n
        spread = np.sqrt(np.maximum((squares[each, stop] - squares[each, first]) / n - mean * mean, 0))
        middle = median()
        below = (values < (middle - CLIP_LOW * spread)[:, None]) & (np.arange(size) < finite[:, None])
        above = (values > (middle + CLIP_HIGH * spread)[:, None]) & (np.arange(size) < finite[:, None])
        new_first = np.maximum(first, below.sum(axis=1))
        new_stop = np.minimum(stop, finite - above.sum(axis=1))
        if (new_first == first).all() and (new_stop == stop).all():
            break
        first, stop = new_first, np.maximum(new_stop, new_first)
    n = np.maximum(stop - first, 1)
    mean = (sums[each, stop] - sums[each, first]) / n
    spread = np.sqrt(np.maximum((squares[each, stop] - squares[each, first]) / n - mean * mean, 0))
    good = (finite >= max(LEAST_PIXELS, size // 2)) & (stop > first)
    value = np.where(good, median() + zero, np.nan)
    return value, np.where(good, MEDIAN_ERROR * spread / np.sqrt(n), np.nan)


def terms(degree: int) -> list[tuple[int, int]]:
    """Return the (power of y, power of x) of all terms up to a total degree, plainest first."""
    return [(total - k, k) for total in range(degree + 1) for k in range(total + 1)]


def chebyshev(positions: NDArray[np.float64], size: int, degree: int) -> NDArray[np.float64]:
    """Return T_0..T_degree, (N, degree + 1), of pixel positions scaled so that 0..size - 1 becomes [-1, 1]."""
    scaled = 2 * positions / max(size - 1, 1) - 1
    return np.polynomial.chebyshev.chebvander(scaled, degree)


class Surface(NamedTuple):
    """A polynomial surface: (D + 1, D + 1) coefficients of T_i(y) T_j(x) over a picture of H x W."""

    coefficients: NDArray[np.float64]
    height: int
    width: int

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the surface on the grid of row positions `y` (R,) and column positions `x` (C,), (R, C)."""
        degree = self.coefficients.shape[0] - 1
        rows, columns = chebyshev(y, self.height, degree), chebyshev(x, self.width, degree)
        grid: NDArray[np.float64] = rows @ self.coefficients @ columns.T
        return grid

    def picture(self) -> NDArray[np.float32]:
        """Return the surface at every pixel, (H, W) float32."""
        y, x = np.arange(self.height, dtype=np.float64), np.arange(self.width, dtype=np.float64)
        return self.at(y, x).astype(np.float32)


def fit_surface(
    samples: Samples, weight: NDArray[np.float64], degree: int, height: int, width: int
) -> Surface:
    """Fit a polynomial of a total degree to weighted samples by least squares.

    Parameters
    ----------
    samples : Samples
    weight : (R, C) float64
        0 leaves a sample out.
    degree : int
    height, width : int
        Of the picture.

    Raises
    ------
    ValueError
        With fewer samples than terms.
    """
    wanted = terms(degree)
    used = (weight > 0) & np.isfinite(samples.value)
    if used.sum() < len(wanted):
        raise ValueError(f"{int(used.sum())} samples cannot fix the {len(wanted)} terms of degree {degree}")
    solution = _solve(_design(samples, degree, height, width), samples.value, np.where(used, weight, 0))
    return _surface(solution, degree, height, width)


def _surface(solution: NDArray[np.float64], degree: int, height: int, width: int) -> Surface:
    coefficients = np.zeros((degree + 1, degree + 1))
    for (i, j), value in zip(terms(degree), solution, strict=True):
        coefficients[i, j] = value
    return Surface(coefficients, height, width)


def _solve(
    design: NDArray[np.float64], value: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve the weighted normal equations; a Chebyshev basis keeps them well conditioned, and they are small.

    Summed without BLAS, whose threads cost more than such small sums and whose order of summing may differ.
    """
    matrix = design.reshape(-1, design.shape[-1])
    scaled = matrix * (weight / weight.max()).ravel()[:, None]
    middle = float(np.median(value[weight > 0]))
    right = np.einsum("nk,n->k", scaled, np.where(weight > 0, value - middle, 0).ravel())
    solution = np.linalg.lstsq(np.einsum("nk,nl->kl", scaled, matrix), right, rcond=SINGULAR)[0]
    solution[0] += middle
    return np.asarray(solution)


def _design(samples: Samples, degree: int, height: int, width: int) -> NDArray[np.float64]:
    rows, columns = chebyshev(samples.y, height, degree), chebyshev(samples.x, width, degree)
    return np.stack([rows[:, i, None] * columns[None, :, j] for i, j in terms(degree)], axis=-1)


def robust_fit(
    samples: Samples, degree: int, height: int, width: int
) -> tuple[Surface, NDArray[np.float64], float]:
    """Fit the sky although part of the samples lie on objects, which only ever brighten.

    Iterated weights: Tukey's biweight above the surface (an object far above loses all influence), Huber's
    below. The scale comes from the samples below the surface, where no object disturbs it.

    Returns
    -------
    surface : Surface
    residual : (R, C) float64
        Samples minus surface; NaN where there is no sample.
    scale : float
        Sigma of the samples below the surface, at least their median error.
    """
    known = np.isfinite(samples.value)
    base = _trust(samples)
    weight = base
    floor = float(np.nanmedian(samples.error))
    for _ in range(ROBUST_PASSES):
        surface = fit_surface(samples, weight, degree, height, width)
        residual = samples.value - surface.at(samples.y, samples.x)
        below = residual[known & (residual < 0)]
        scale = max(MAD_TO_SIGMA * float(np.median(-below)) if below.size else 0.0, floor, TINY)
        u = np.where(known, residual / scale, 0.0)
        biweight = np.clip(1 - (u / BIWEIGHT_REACH) ** 2, 0, 1) ** 2
        huber = 1 / np.maximum(1, -u / BIWEIGHT_REACH)
        fresh = base * np.where(u > 0, biweight, huber)
        if (fresh > 0).sum() < 2 * len(terms(degree)) or np.allclose(fresh, weight, rtol=1e-3):
            break
        weight = fresh
    return surface, residual, scale


def _trust(samples: Samples) -> NDArray[np.float64]:
    """Return weights 1 / error^2, capped so that no sample counts more than ten usual ones."""
    usual = np.nanmedian(samples.error)
    error = np.maximum(samples.error, max(usual / np.sqrt(10), TINY))
    return np.where(np.isfinite(samples.value), 1 / error**2, 0.0)


class Judged(NamedTuple):
    """What became of every sample, all (R, C) bool: on an object, or too bright for its place, or kept."""

    objects: NDArray[np.bool_]
    bright: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def judge_samples(channels: list[Samples], tolerance: float, height: int, width: int) -> Judged:
    """Tell sky from objects on the same cells in all channels.

    The judge is a flexible robust surface, not the one that is taken away in the end: a stiff one throws out the
    very samples that define a local glow, and then reports a perfect fit. A blob of bright cells inside the
    picture is an object (nebula, galaxy) and goes with one cell around it; a blob at the border is taken for a
    glow of the sky, because an object that runs out of the picture cannot be told from it. Single cells that
    stand out are bright stars or small galaxies.

    Parameters
    ----------
    channels : list of Samples
    tolerance : float
        Sigma above the surface from which a single cell is left out.
    height, width : int
        Of the picture.
    """
    known = np.logical_and.reduce([np.isfinite(samples.value) for samples in channels])
    objects, bright = np.zeros(known.shape, bool), np.zeros(known.shape, bool)
    degree = most_flexible(int(known.sum()))
    for samples in channels:
        _, residual, scale = robust_fit(samples, degree, height, width)
        noise = np.maximum(scale, np.where(known, samples.error, np.inf))
        excess = np.where(known, residual, 0) / np.maximum(noise, TINY)
        blobs, spots = _blobs(excess)
        objects |= blobs
        bright |= spots | ((excess > tolerance) & ~_glow(excess))
    objects = ndimage.binary_dilation(objects, np.ones((3, 3))) & known
    bright &= known & ~objects
    return Judged(objects, bright, known & ~objects & ~bright)


def _blobs(excess: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split bright connected cells into objects (3 cells and more, off the border) and spots (fewer)."""
    labels, count = ndimage.label(excess > OBJECT_EDGE, structure=np.ones((3, 3)))
    objects, spots = np.zeros(excess.shape, bool), np.zeros(excess.shape, bool)
    border = _border(excess.shape)
    for label in range(1, count + 1):
        blob = labels == label
        core = blob & (excess > OBJECT_PEAK)
        if not core.any():
            continue
        if core.sum() < SMALLEST_OBJECT:
            spots |= core
        elif not (core & border).any():
            objects |= blob
    return objects, spots


def _glow(excess: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the bright cells that hang together with the border in a blob of 3 cells and more."""
    labels, _ = ndimage.label(excess > OBJECT_EDGE, structure=np.ones((3, 3)))
    core = excess > OBJECT_PEAK
    at_border = set(labels[core & _border(excess.shape)].tolist()) - {0}
    large = [label for label in at_border if (core & (labels == label)).sum() >= SMALLEST_OBJECT]
    return np.isin(labels, large)


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    border = np.ones(shape, bool)
    border[1:-1, 1:-1] = False
    return border


def most_flexible(samples: int) -> int:
    """Return the highest degree that so many samples can carry: at least 4 samples a term, degree 6 at most."""
    fitting = [degree for degree in range(MOST_FLEXIBLE + 1) if SAMPLES_A_TERM * len(terms(degree)) <= samples]
    return max(fitting, default=0)


def hold_out(
    samples: Samples, weight: NDArray[np.float64], degree: int, height: int, width: int
) -> float:
    """Return the rms by which a surface misses samples that it has not seen; inf where it cannot be fitted.

    Folds are blocks of 4 x 4 cells, not single cells: neighbours know each other's answer.
    """
    rows, columns = samples.value.shape
    block_y, block_x = np.mgrid[0:rows, 0:columns] // HOLD_OUT_BLOCK
    fold = (2 * block_y + block_x) % HOLD_OUT_FOLDS
    total = count = 0.0
    for k in range(HOLD_OUT_FOLDS):
        judged = (fold == k) & (weight > 0)
        try:
            surface = fit_surface(samples, np.where(fold == k, 0.0, weight), degree, height, width)
        except ValueError:
            return float("inf")
        miss = (samples.value - surface.at(samples.y, samples.x))[judged]
        total += float((miss**2).sum())
        count += miss.size
    return float(np.sqrt(total / count)) if count else float("inf")


def choose_degree(
    channels: list[Samples], kept: NDArray[np.bool_], height: int, width: int
) -> tuple[int, list[float]]:
    """Choose the plainest degree whose hold-out error is within 10 % of the best.

    Returns
    -------
    degree : int
    errors : list of float
        Hold-out rms of degree 1, 2, ... in units of the samples' error, over all channels.
    """
    errors = []
    for degree in range(1, most_flexible(int(kept.sum())) + 1):
        ratio = [
            hold_out(samples, _trust(samples) * kept, degree, height, width) / _usual_error(samples, kept)
            for samples in channels
        ]
        errors.append(float(np.sqrt(np.mean(np.square(ratio)))))
    if not errors:
        return 0, []
    plainest = next(i for i, error in enumerate(errors) if error <= WITHIN * min(errors))
    return plainest + 1, errors


def _usual_error(samples: Samples, kept: NDArray[np.bool_]) -> float:
    return max(float(np.median(samples.error[kept])), TINY)


def fit_sky(samples: Samples, kept: NDArray[np.bool_], degree: int, height: int, width: int) -> Surface:
    """Fit the surface of a degree to the kept samples, each with the weight of its error."""
    return fit_surface(samples, _trust(samples) * kept, degree, height, width)
