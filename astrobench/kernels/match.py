"""Match two star lists and find the map between their frames."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import gammainc, gammaln

from astrobench.kernels.transform import Model, apply, fit_transform, why_impossible

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
C128 = NDArray[np.complex128]

# Numbers of brightest stars whose near neighbours form triangles (a false star disturbs only some levels),
# and how many neighbours: the quick set first, the thorough one when that finds nothing.
EFFORTS = (((20, 40, 80), 7), ((30, 60, 120), 10))
GRID = 4  # cells along each side over which one more level of stars is spread, so that no cluster holds all
SPREAD_STARS = 40
FLATTEST = 0.03  # area over longest side squared
ALIKE_SIDES = 0.98  # near-isosceles triangles swap their corners
KEY_RADIUS = 0.03  # in the two side ratios
VOTE_RADIUS = 24.0  # [px], how far two hypotheses may differ in the frame's corners
HYPOTHESES = 20  # clusters that are verified on the full lists
TRIANGLE_RESIDUAL = 3.0  # [px] rms of a hypothesis on its own triangle
TOLERANCES = (12.0, 6.0, 3.0)  # [px], narrowing the pairing
FINE_TOLERANCES = (3.0, 1.5, 0.75)  # [px], at which chance coincidences are counted
ENOUGH_EVIDENCE = 9.0  # 500 unrelated pairs of lists reach at most 7.4
CERTAIN_EVIDENCE = 20.0  # no need to look at further hypotheses
GUESS_REACH = 100.0  # [px], how far a guess may be shifted


class Match(NamedTuple):
    """Two lists that belong together.

    matrix: (3, 3) src -> dst. src_index, dst_index: partners, (n,) each. rms: of the inliers [px].
    evidence: -log10 of the probability that chance alone gives as many partners. mirrored: bool.
    """

    matrix: F64
    src_index: I64
    dst_index: I64
    rms: float
    evidence: float
    mirrored: bool


class NoMatch(NamedTuple):
    """Two lists that could not be matched, and the cause in a sentence."""

    cause: str
    src_count: int
    dst_count: int
    best_pairs: int
    evidence: float


class _Found(NamedTuple):
    matrix: F64
    src_index: I64
    dst_index: I64
    evidence: float


def match(
    src_xy: F64,
    dst_xy: F64,
    src_flux: F64,
    dst_flux: F64,
    *,
    src_shape: tuple[int, int],
    dst_shape: tuple[int, int],
    model: Model = "similarity",
    allow_flip: bool = False,
    scale: tuple[float, float] = (0.9, 1.1),
    guess: F64 | None = None,
) -> Match | NoMatch:
    """Find the map from one star list to another.

    Triangles among near neighbours at several depths of brightness propose similarities, which vote where
    they put the frame's corners (Groth 1986, with the corner space as the one unit of voting); the best
    are verified on the full lists, and one is accepted by the improbability of its pairs.

    Parameters
    ----------
    src_xy, dst_xy : (n, 2) and (m, 2) float64
        Positions [px].
    src_flux, dst_flux : (n,) and (m,) float64
        Only their order and relative size matter.
    src_shape, dst_shape : (H, W)
        Sizes of the frames [px].
    model : "shift", "similarity", "affine", "homography" or "auto"
        What is fitted to the pairs in the end.
    allow_flip : bool
        Whether dst may be a mirror image of src.
    scale : (float, float)
        Allowed range of the size of dst relative to src.
    guess : (3, 3) float64, optional
        A map expected to be right up to a shift of 100 px, tried first (the previous frame's, say).

    Returns
    -------
    Match or NoMatch
    """
    src, dst = np.asarray(src_xy, np.float64), np.asarray(dst_xy, np.float64)
    counts = len(src), len(dst)
    if min(counts) < 3:
        return NoMatch(f"{counts[0]} stars here, {counts[1]} in the reference; at least 3 are needed", *counts, 0, 0.0)
    pairing = _Pairing(src, dst, src_shape, dst_shape, scale, allow_flip)
    order = np.argsort(-np.asarray(src_flux), kind="stable"), np.argsort(-np.asarray(dst_flux), kind="stable")
    best: _Found | None = None
    if guess is not None or model == "shift":
        start = np.eye(3) if guess is None else np.asarray(guess, np.float64)
        reach = GUESS_REACH if guess is not None else float(max(*src_shape, *dst_shape))
        best = pairing.best(_shifted(start, src[order[0]], dst[order[1]], reach))
    for effort in EFFORTS if model != "shift" else ():
        if best is not None and best.evidence >= ENOUGH_EVIDENCE:
            break
        here, there = _triangles(src, order[0], src_shape, *effort), _triangles(dst, order[1], dst_shape, *effort)
        other = pairing.best(_hypotheses(here, there, src_shape, scale, allow_flip))
        best = other if best is None or (other is not None and other.evidence > best.evidence) else best
    if best is None or best.evidence < ENOUGH_EVIDENCE:
        pairs, evidence = (0, 0.0) if best is None else (len(best.src_index), best.evidence)
        return NoMatch(
            f"{counts[0]} stars here, {counts[1]} in the reference; best agreement {pairs} pairs, "
            f"evidence {evidence:.1f} of {ENOUGH_EVIDENCE:g} needed",
            *counts, pairs, evidence,
        )  # fmt: skip
    return _finish(best, src, dst, np.asarray(src_flux), np.asarray(dst_flux), src_shape, model, scale)


def _finish(
    found: _Found, src: F64, dst: F64, src_flux: F64, dst_flux: F64, shape: tuple[int, int], model: Model, scale: tuple[float, float]
) -> Match | NoMatch:
    """Fit the wanted model to the pairs, weighted by what their brightness says of their precision."""
    i, j = found.src_index, found.dst_index
    weight = _precision(found.matrix, src[i], dst[j], src_flux[i], dst_flux[j])
    matrix, rms, inliers = fit_transform(src[i], dst[j], model, weight)
    if reason := why_impossible(matrix, shape, scale):
        return NoMatch(f"{len(i)} pairs of stars agree, but {reason}", len(src), len(dst), len(i), found.evidence)
    mirrored = bool(np.linalg.det(matrix[:2, :2]) < 0)
    return Match(matrix, i[inliers], j[inliers], rms, found.evidence, mirrored)


def _precision(matrix: F64, src: F64, dst: F64, src_flux: F64, dst_flux: F64) -> F64:
    """1 / variance of each pair: a floor plus a term that falls with flux, the likeliest mixture."""
    misfit = np.sum((apply(matrix, src) - dst) ** 2, axis=1)
    faintness = np.median(src_flux) ** 2 / np.maximum(src_flux, 1e-30) ** 2
    faintness = faintness + np.median(dst_flux) ** 2 / np.maximum(dst_flux, 1e-30) ** 2
    best, weight = -np.inf, np.ones(len(src))
    for share in (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0):
        shape = 1 + share * faintness / 2
        variance = np.mean(misfit / shape) * shape / 2
        likelihood = -float(np.sum(np.log(variance) + misfit / (2 * variance)))
        if likelihood > best:
            best, weight = likelihood, 1 / variance
    return np.asarray(weight)


class _Pairing:
    """Counts how many stars of the full lists a map brings together, and how unlikely that is."""

    def __init__(
        self, src: F64, dst: F64, src_shape: tuple[int, int], dst_shape: tuple[int, int], scale: tuple[float, float], flip: bool
    ) -> None:
        self.src, self.dst, self.dst_shape, self.scale, self.flip = src, dst, dst_shape, scale, flip
        self.tree = cKDTree(dst)
        self.density = len(dst) / (dst_shape[0] * dst_shape[1])

    def best(self, candidates: F64) -> _Found | None:
        """The candidate (k, 3, 3) with the strongest evidence; stops at the first certain one."""
        best: _Found | None = None
        for matrix in candidates:
            found = self.verify(matrix)
            if found is not None and (best is None or found.evidence > best.evidence):
                best = found
                if best.evidence > CERTAIN_EVIDENCE:
                    break
        return best

    def verify(self, matrix: F64) -> _Found | None:
        """Narrow the pairing around a map and weigh the pairs that remain."""
        mirrored = bool(np.linalg.det(matrix[:2, :2]) < 0)
        for tolerance in TOLERANCES:
            i, j = self.partners(matrix, tolerance)[:2]
            if len(i) < 3:
                return None
            matrix, size = _similarity(self.src[i], self.dst[j], mirrored)
            if not self.scale[0] <= size <= self.scale[1]:
                return None
        i, j, distance, inside = self.partners(matrix, TOLERANCES[-1])
        # The best of three tolerances is three chances to be lucky.
        evidence = max(
            surprise(int(np.sum(distance <= t)), inside * self.density * np.pi * t * t) for t in FINE_TOLERANCES
        ) - np.log10(len(FINE_TOLERANCES))
        return _Found(matrix, i, j, max(0.0, float(evidence)))

    def partners(self, matrix: F64, tolerance: float) -> tuple[I64, I64, F64, int]:
        """One-to-one nearest neighbours within a tolerance, their distances, and the stars that could have one."""
        mapped = apply(matrix, self.src)
        height, width = self.dst_shape
        inside = (mapped > -tolerance).all(axis=1) & (mapped[:, 0] < width + tolerance) & (mapped[:, 1] < height + tolerance)
        index = np.flatnonzero(inside)
        distance, partner = self.tree.query(mapped[index], distance_upper_bound=tolerance)
        near = np.isfinite(distance)
        index, distance, partner = index[near], distance[near], partner[near]
        order = np.argsort(distance, kind="stable")
        _, first = np.unique(partner[order], return_index=True)
        chosen = order[first]
        return index[chosen], partner[chosen], distance[chosen], int(inside.sum())


def _similarity(src: F64, dst: F64, mirrored: bool) -> tuple[F64, float]:
    """Least-squares similarity of one handedness as a matrix, and its scale."""
    p, q = src[:, 0] + (-1j if mirrored else 1j) * src[:, 1], dst[:, 0] + 1j * dst[:, 1]
    p0, q0 = p.mean(), q.mean()
    power = float(np.sum(np.abs(p - p0) ** 2))
    a = np.vdot(p - p0, q - q0) / power if power > 0 else 1.0 + 0j
    return _matrices(np.array([a]), np.array([q0 - a * p0]), mirrored)[0], abs(a)


def _matrices(a: C128, b: C128, mirrored: bool) -> F64:
    """Matrices (k, 3, 3) of z -> a z + b, or of z -> a conj(z) + b."""
    s, zero, one = (-1.0 if mirrored else 1.0), np.zeros(len(a)), np.ones(len(a))
    rows = [a.real, -s * a.imag, b.real, a.imag, s * a.real, b.imag, zero, zero, one]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


def surprise(pairs: int, expected: float) -> float:
    """-log10 P(X >= pairs - 2) for a Poisson X; two pairs pay for the four parameters of the fit."""
    count = pairs - 2
    if count <= 0:
        return 0.0
    probability = float(gammainc(count, expected))
    if probability > 1e-250:
        return -np.log10(probability)
    # The sum is its first term where the probability underflows.
    return float(-(count * np.log(max(expected, 1e-300)) - expected - gammaln(count + 1)) / np.log(10))


def _shifted(start: F64, src: F64, dst: F64, reach: float) -> F64:
    """The most voted shifts (k, 3, 3) of the brightest stars on top of a first guess."""
    mapped = apply(start, src[:150])
    difference = (dst[None, :150] - mapped[:, None]).reshape(-1, 2)
    difference = difference[np.abs(difference).max(axis=1) <= reach]
    if len(difference) == 0:
        return np.empty((0, 3, 3))
    cell = 12.0
    best: list[F64] = []
    tree = cKDTree(difference)
    votes = tree.query_ball_point(difference, cell / 2, return_length=True)
    for k in np.argsort(-votes, kind="stable"):
        if all(np.abs(difference[k] - other).max() > cell / 2 for other in best):
            best.append(difference[k])
            if len(best) == 5:
                break
    result = np.repeat(start[None], len(best), axis=0)
    for k, shift in enumerate(best):
        move = np.eye(3)
        move[:2, 2] = shift
        result[k] = move @ start
    return result


class _Triangles(NamedTuple):
    corners: C128  # (n, 3), ordered by the side opposite: shortest, middle, longest
    keys: F64  # (n, 4): two side ratios, orientation (far apart when it differs), log of the longest side


def _hypotheses(
    here: _Triangles, there: _Triangles, shape: tuple[int, int], scale: tuple[float, float], flip: bool
) -> F64:
    """Similarities (k, 3, 3) proposed by triangles, most voted first."""
    straight = _vote(here, there, shape, scale, False)
    if not flip:
        return straight
    turned = _vote(here, there, shape, scale, True)
    return np.concatenate([m[k : k + 1] for k in range(HYPOTHESES) for m in (straight, turned)])


def _spread(xy: F64, order: I64, shape: tuple[int, int]) -> I64:
    """The order again, but the brightest of every cell of a grid first, then the second of every cell."""
    row = np.clip(xy[order, 1] * GRID // shape[0], 0, GRID - 1)
    cell = row * GRID + np.clip(xy[order, 0] * GRID // shape[1], 0, GRID - 1)
    by_cell = np.argsort(cell, kind="stable")
    start = np.searchsorted(cell[by_cell], cell[by_cell])
    rank = np.empty(len(order), np.int64)
    rank[by_cell] = np.arange(len(order)) - start
    return order[np.argsort(rank, kind="stable")]


def _triangles(xy: F64, order: I64, shape: tuple[int, int], depths: tuple[int, ...], neighbours: int) -> _Triangles:
    """Triangles of each star with two of its nearest neighbours, at several depths of brightness."""
    levels = [order[:depth] for depth in depths[: 1 + int(np.searchsorted(depths, len(xy)))]]
    if len(xy) > SPREAD_STARS:
        levels.append(_spread(xy, order, shape)[:SPREAD_STARS])
    rows = []
    for chosen in levels:
        count = min(neighbours, len(chosen) - 1)
        near = cKDTree(xy[chosen]).query(xy[chosen], count + 1)[1][:, 1:]
        first, second = np.array(list(combinations(range(count), 2))).T
        star = np.repeat(np.arange(len(chosen)), len(first))
        rows.append(chosen[np.stack([star, near[:, first].ravel(), near[:, second].ravel()], axis=1)])
    trio = np.sort(np.concatenate(rows), axis=1)
    code = (trio[:, 0] * len(xy) + trio[:, 1]) * len(xy) + trio[:, 2]
    trio = trio[np.unique(code, return_index=True)[1]]
    corners = (xy[:, 0] + 1j * xy[:, 1])[trio]
    sides = np.abs(np.stack([corners[:, 1] - corners[:, 2], corners[:, 2] - corners[:, 0], corners[:, 0] - corners[:, 1]], axis=1))
    rank = np.argsort(sides, axis=1)
    sides, corners = np.take_along_axis(sides, rank, 1), np.take_along_axis(corners, rank, 1)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = a.real * b.imag - a.imag * b.real
    longest = np.maximum(sides[:, 2], 1e-9)
    r1, r2 = sides[:, 0] / np.maximum(sides[:, 1], 1e-9), sides[:, 1] / longest
    good = (np.abs(cross) / 2 > FLATTEST * longest**2) & (r1 < ALIKE_SIDES) & (r2 < ALIKE_SIDES)
    keys = np.stack([r1, r2, np.sign(cross), np.log(longest)], axis=1)
    return _Triangles(corners[good], keys[good])


def _vote(here: _Triangles, there: _Triangles, shape: tuple[int, int], scale: tuple[float, float], mirrored: bool) -> F64:
    """Maps of alike triangles, gathered where they put two corners of the frame."""
    if not len(here.keys) or not len(there.keys):
        return np.empty((0, 3, 3))
    low, high = np.log(scale[0]), np.log(scale[1])
    # The log of the size is scaled so that the allowed range fits the radius of the search.
    weights = np.array([1.0, 1.0, 10 * KEY_RADIUS, KEY_RADIUS / max((high - low) / 2 + 0.01, 1e-3)])
    shift = np.array([0, 0, 0, (low + high) / 2])
    flip = np.array([1, 1, -1 if mirrored else 1, 1])
    near = cKDTree((here.keys * flip + shift) * weights).sparse_distance_matrix(
        cKDTree(there.keys * weights), 1.3 * KEY_RADIUS, output_type="ndarray"
    )
    i, j = near["i"], near["j"]
    p, q = here.corners[i], there.corners[j]
    p = np.conj(p) if mirrored else p
    p0, q0 = p.mean(axis=1, keepdims=True), q.mean(axis=1, keepdims=True)
    a = np.sum((q - q0) * np.conj(p - p0), axis=1) / np.sum(np.abs(p - p0) ** 2, axis=1)
    misfit = np.sqrt(np.mean(np.abs(q - q0 - a[:, None] * (p - p0)) ** 2, axis=1))
    b = q0[:, 0] - a * p0[:, 0]
    good = (misfit < TRIANGLE_RESIDUAL) & (np.abs(a) >= scale[0]) & (np.abs(a) <= scale[1])
    a, b = a[good], b[good]
    if not len(a):
        return np.empty((0, 3, 3))
    height, width = shape
    ends = np.array([0, complex(width - 1, height - 1)])
    ends = np.conj(ends) if mirrored else ends
    mapped = a[:, None] * ends + b[:, None]
    space = np.stack([mapped[:, 0].real, mapped[:, 0].imag, mapped[:, 1].real, mapped[:, 1].imag], axis=1)
    tree = cKDTree(space)
    votes = tree.query_ball_point(space, VOTE_RADIUS, return_length=True)
    chosen: list[int] = []
    taken = np.zeros(len(space), bool)
    for k in np.argsort(-votes, kind="stable"):
        if taken[k]:
            continue
        members = tree.query_ball_point(space[k], VOTE_RADIUS)
        taken[members] = True
        chosen.append(int(k))
        a[k], b[k] = a[members].mean(), b[members].mean()
        if len(chosen) == HYPOTHESES:
            break
    return _matrices(a[chosen], b[chosen], mirrored)
