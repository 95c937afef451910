"""Fit a smooth surface to the sky: objects left alone, Chebyshev polynomials, degree chosen by hold-out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.sky_samples import Samples

F64 = NDArray[np.float64]
Cells = NDArray[np.bool_]

TINY = 1e-12  # keeps a noiseless picture from dividing by zero
ROBUST_PASSES = 12
BIWEIGHT_REACH = 3.0  # sigma above the surface from which a sample has no say
SINGULAR = 1e-11  # of the largest singular value: terms that the samples leave open stay 0
MOST_FLEXIBLE = 6  # degree; 28 terms, beyond which corners run away
SAFE_DEGREE = 4  # the most where a corner has no sample: degree 6 missed by more than the gradient there
SAMPLES_A_TERM = 4
OBJECT_PEAK, OBJECT_EDGE = 6.0, 2.0  # sigma: an object has a cell above the one, and reaches to the other
LEAST_SCALE = 2.0  # sample errors: real skies are never smoother (crowded stars, walking noise)
FILLED = 0.08  # share of the cells left as sky, below which an object is said to fill the picture
HOLD_OUT_FOLDS, HOLD_OUT_BLOCK = 5, 4
WITHIN = 1.1  # of the best hold-out error: good enough for the plainer surface
EARNED = 0.85  # a degree must make the plane's hold-out error 0.85 degree times smaller, or it fits nebulae


def terms(degree: int) -> list[tuple[int, int]]:
    """Return the (power of y, power of x) of all terms up to a total degree, plainest first."""
    return [(total - k, k) for total in range(degree + 1) for k in range(total + 1)]


def term_count(degree: int) -> int:
    """Return how many terms a polynomial of this total degree has."""
    return (degree + 1) * (degree + 2) // 2


def chebyshev(positions: F64, size: int, degree: int) -> F64:
    """Return T_0..T_degree, (N, degree + 1), of positions [px] scaled so that 0..size - 1 becomes [-1, 1]."""
    return np.asarray(
        np.polynomial.chebyshev.chebvander(2 * positions / max(size - 1, 1) - 1, degree), np.float64
    )


class Surface(NamedTuple):
    """A polynomial surface: (D + 1, D + 1) coefficients of T_i(y) T_j(x) over a picture of H x W."""

    coefficients: F64
    height: int
    width: int

    def at(self, y: F64, x: F64) -> F64:
        """Return the surface on the grid of row positions `y` (R,) and column positions `x` (C,), (R, C)."""
        degree = self.coefficients.shape[0] - 1
        rows, columns = chebyshev(y, self.height, degree), chebyshev(x, self.width, degree)
        return np.asarray(np.einsum("ri,ij,cj->rc", rows, self.coefficients, columns, optimize=True))

    def picture(self, offset: float = 0.0) -> NDArray[np.float32]:
        """Return the surface minus `offset` at every pixel, (H, W) float32.

        It is taken off before rounding to float32, so that a small gradient on a high sky stays exact.
        """
        degree = self.coefficients.shape[0] - 1
        coefficients = self.coefficients.copy()
        coefficients[0, 0] -= offset
        columns = chebyshev(np.arange(self.width, dtype=np.float64), self.width, degree)
        rows = chebyshev(np.arange(self.height, dtype=np.float64), self.height, degree).astype(np.float32)
        across = np.einsum("ij,cj->ic", coefficients, columns).astype(np.float32)
        result = np.zeros((self.height, self.width), np.float32)
        for power in range(degree + 1):
            result += rows[:, power, None] * across[power]
        return result


def basis(samples: Samples, height: int, width: int) -> F64:
    """Return the terms at the cells' centres, (R, C, T), plainest first: lower degrees use the first."""
    rows = chebyshev(samples.y, height, MOST_FLEXIBLE)
    columns = chebyshev(samples.x, width, MOST_FLEXIBLE)
    return np.stack([rows[:, i, None] * columns[None, :, j] for i, j in terms(MOST_FLEXIBLE)], axis=-1)


def solve(design: F64, value: F64, weight: F64, degree: int) -> F64:
    """Solve the weighted normal equations of a degree; a Chebyshev basis keeps them well conditioned.

    Summed without BLAS, whose threads cost more than such small sums and whose order of summing may differ.

    Parameters
    ----------
    design : (R, C, T) float64
        As `basis` gives it.
    value, weight : (R, C) float64
        Weight 0 leaves a sample out.
    degree : int

    Returns
    -------
    (T of the degree,) float64

    Raises
    ------
    ValueError
        With fewer samples than terms.
    """
    used = weight > 0
    count = term_count(degree)
    if used.sum() < count:
        raise ValueError(f"{int(used.sum())} samples cannot fix the {count} terms of degree {degree}")
    matrix = design[used][:, :count]
    scaled = matrix * (weight[used] / weight.max())[:, None]
    middle = float(np.median(value[used]))
    right = np.einsum("nk,n->k", scaled, value[used] - middle)
    solution = np.linalg.lstsq(np.einsum("nk,nl->kl", scaled, matrix), right, rcond=SINGULAR)[0]
    solution[0] += middle
    return np.asarray(solution)


def _values(design: F64, solution: F64) -> F64:
    return np.asarray(np.einsum("rck,k->rc", design[..., : solution.size], solution))


def fit_sky(samples: Samples, kept: Cells, degree: int, height: int, width: int) -> Surface:
    """Fit the surface of a degree to the kept samples, each with the weight of its error."""
    solution = solve(basis(samples, height, width), samples.value, trust(samples) * kept, degree)
    coefficients = np.zeros((degree + 1, degree + 1))
    for (i, j), value in zip(terms(degree), solution, strict=True):
        coefficients[i, j] = value
    return Surface(coefficients, height, width)


def trust(samples: Samples) -> F64:
    """Return weights 1 / error^2, at most that of ten usual samples; 0 where there is none."""
    known = np.isfinite(samples.value)
    if not known.any():
        return np.zeros(known.shape)
    least = max(float(np.median(samples.error[known])) / np.sqrt(10), TINY)
    with np.errstate(invalid="ignore"):
        return np.where(known, 1 / np.maximum(samples.error, least) ** 2, 0.0)


def robust_residual(design: F64, samples: Samples, left: Cells, degree: int) -> tuple[F64, float]:
    """Compare all samples with a surface through those that are left, although some may still lie on objects.

    Iterated weights: Tukey's biweight above the surface (an object far above loses all influence), Huber's
    below. The scale comes from the samples below the surface, where no object disturbs it.

    Returns
    -------
    residual : (R, C) float64
        Samples minus surface; NaN where there is no sample.
    scale : float
        Sigma of the samples below the surface, at least twice their median error.
    """
    base = trust(samples) * left
    weight = base
    floor = LEAST_SCALE * float(np.median(samples.error[left]))
    for _ in range(ROBUST_PASSES):
        residual = samples.value - _values(design, solve(design, samples.value, weight, degree))
        below = residual[left & (residual < 0)]
        scale = max(MAD_TO_SIGMA * float(np.median(-below)) if below.size else 0.0, floor, TINY)
        u = np.where(left, residual / scale, 0.0)
        biweight = np.clip(1 - (u / BIWEIGHT_REACH) ** 2, 0, 1) ** 2
        huber = 1 / np.maximum(1, -u / BIWEIGHT_REACH)
        fresh = base * np.where(u > 0, biweight, huber)
        if (fresh > 0).sum() < 2 * term_count(degree) or np.allclose(fresh, weight, rtol=1e-2):
            break
        weight = fresh
    return residual, scale


class Judged(NamedTuple):
    """What became of every sample, all (R, C) bool: on an object, or too bright for its place, or kept.

    `filled` says that objects fill the picture.
    """

    objects: Cells
    bright: Cells
    kept: Cells
    filled: bool


def judge_samples(channels: list[Samples], tolerance: float, height: int, width: int) -> Judged:
    """Tell sky from objects on the same cells in all channels.

    A bright cell belongs to the summit uphill of it. A summit inside the picture is an object (nebula,
    galaxy), and all its cells go, with one cell around them; a summit on the border is a glow of the sky,
    which must stay: a fit that loses the samples of a glow leaves the glow and reports a perfect fit. (An
    object that runs out of the picture with its brightest part cannot be told from a glow.) The surface to
    compare with grows from a plane to degree 6, each fitted to what the one before left, so that objects are
    known before the surface is flexible enough to swallow them.

    Parameters
    ----------
    channels : list of Samples
    tolerance : float
        Sigma above the surface from which a single cell is left out (bright stars, small galaxies).
    height, width : int
        Of the picture.

    Returns
    -------
    Judged
        Where next to nothing is left as sky (`filled`), the cells along the border are kept instead.
    """
    from scipy import ndimage  # half a second to import, and only this rule needs it

    known = known_cells(channels)
    design = basis(channels[0], height, width)
    objects, bright = np.zeros(known.shape, bool), np.zeros(known.shape, bool)
    for degree in range(1, MOST_FLEXIBLE + 1):
        left = known & ~objects & ~bright
        if degree > 1 and left.sum() < SAMPLES_A_TERM * term_count(degree):
            break
        found, spots = np.zeros(known.shape, bool), np.zeros(known.shape, bool)
        for samples in channels:
            residual, scale = robust_residual(design, samples, left, degree)
            noise = np.maximum(scale, np.where(known, samples.error, np.inf))
            excess = np.where(known, residual, 0) / noise
            summits, glow = _summits(excess)
            found |= summits
            spots |= (excess > tolerance) & ~glow
        objects = ndimage.binary_dilation(found, np.ones((3, 3))) & known
        bright = spots & known & ~objects
    kept = known & ~objects & ~bright
    filled = bool(kept.sum() < max(SAMPLES_A_TERM * term_count(1), FILLED * known.sum()))
    return Judged(objects, bright, known & _border(known.shape) if filled else kept, filled)


def known_cells(channels: list[Samples]) -> Cells:
    """Return the cells that give a sample in every channel, (R, C) bool."""
    return np.asarray(np.logical_and.reduce([np.isfinite(samples.value) for samples in channels]))


def _summits(excess: F64) -> tuple[Cells, Cells]:
    """Split bright cells by the summit uphill: inside the picture (objects) or on its border (glow)."""
    from scipy import ndimage

    smooth = ndimage.uniform_filter(excess, 3, mode="nearest")
    rows, columns = excess.shape
    padded = np.pad(smooth, 1, constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(rows, columns, 9)
    step = around.argmax(axis=2)
    row, column = np.mgrid[0:rows, 0:columns]
    summit = ((row + step // 3 - 1) * columns + column + step % 3 - 1).ravel()
    while (summit[summit] != summit).any():
        summit = summit[summit]
    summit = summit.reshape(rows, columns)
    lit = (smooth > OBJECT_EDGE) & (smooth.ravel()[summit] > OBJECT_PEAK)
    on_border = _border(excess.shape).ravel()[summit]
    return lit & ~on_border, lit & on_border


def _border(shape: tuple[int, ...]) -> Cells:
    border = np.ones(shape, bool)
    border[1:-1, 1:-1] = False
    return border


def most_flexible(kept: Cells) -> int:
    """Return the highest degree that the kept cells can carry.

    At least 4 samples a term, degree 6 at most, and 4 at most where one of the four corners (an eighth of the
    picture along each side) has no sample.
    """
    fitting = [
        degree for degree in range(1, MOST_FLEXIBLE + 1) if SAMPLES_A_TERM * term_count(degree) <= kept.sum()
    ]
    highest = max(fitting, default=0)
    return highest if all(corners_sampled(kept)) else min(highest, SAFE_DEGREE)


def corners_sampled(kept: Cells) -> list[bool]:
    """Say whether the corners top left, top right, bottom left, bottom right hold a sample."""
    rows, columns = (max(1, size // 8) for size in kept.shape)
    vertical, horizontal = (slice(rows), slice(-rows, None)), (slice(columns), slice(-columns, None))
    return [bool(kept[y, x].any()) for y in vertical for x in horizontal]


def choose_degree(channels: list[Samples], kept: Cells, height: int, width: int) -> tuple[int, list[float]]:
    """Choose the plainest degree whose hold-out error is within 10 % of the best and that earns its terms.

    Skies become clear quickly as the degree grows (a street light's glow: 15 times better at degree 6 than at
    1), nebulae that fill the picture do not (1.5 to 3 times): a degree that does not pay is fitting nebulae.

    Returns
    -------
    degree : int
        0 where the samples do not even carry a plane.
    errors : list of float
        Hold-out rms of degree 1, 2, ... in units of the samples' error, over all channels.
    """
    errors = []
    design = basis(channels[0], height, width)
    for degree in range(1, most_flexible(kept) + 1):
        ratio = [hold_out(design, each, kept, degree) / usual_error(each, kept) for each in channels]
        errors.append(float(np.sqrt(np.mean(np.square(ratio)))))
    if not errors:
        return 0, []
    degree = 1 + next(i for i, error in enumerate(errors) if error <= WITHIN * min(errors))
    while degree > 1 and errors[0] < EARNED * degree * errors[degree - 1]:
        degree -= 1
    return degree, errors


def hold_out(design: F64, samples: Samples, kept: Cells, degree: int) -> float:
    """Return the rms by which a surface misses samples that it has not seen; inf where it cannot be fitted.

    Folds are blocks of 4 x 4 cells, not single cells: neighbours know each other's answer.
    """
    weight = trust(samples) * kept
    block_y, block_x = np.mgrid[0 : kept.shape[0], 0 : kept.shape[1]] // HOLD_OUT_BLOCK
    fold = (2 * block_y + block_x) % HOLD_OUT_FOLDS
    total, count = 0.0, 0
    for k in range(HOLD_OUT_FOLDS):
        judged = (fold == k) & (weight > 0)
        if not judged.any():
            continue
        try:
            solution = solve(design, samples.value, np.where(fold == k, 0.0, weight), degree)
        except ValueError:
            return float("inf")
        miss = samples.value[judged] - _values(design, solution)[judged]
        total += float((miss**2).sum())
        count += miss.size
    return float(np.sqrt(total / count))


def usual_error(samples: Samples, kept: Cells) -> float:
    """Return the median error of the kept samples [unit of the picture], never 0."""
    return max(float(np.median(samples.error[kept])), TINY)
