"""Match two star lists and find the map between their frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaln

from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.match_triangles import hypotheses, matrices, triangles
from astrobench.kernels.neighbours import count_within, pairs_within
from astrobench.kernels.transform import Model, apply, fit_transform, why_impossible

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

# Numbers of brightest stars whose near neighbours form triangles (a false star disturbs only some levels),
# and how many neighbours: the quick set first, the thorough one when that finds nothing.
EFFORTS = (((20, 40, 80), 7), ((30, 60, 120), 10))
TOLERANCES = (12.0, 6.0, 3.0)  # [px], narrowing the pairing
FINE_TOLERANCES = (3.0, 1.5, 0.75)  # [px], at which chance coincidences are counted
ENOUGH_EVIDENCE = 10.0  # of 1000 unrelated pairs of lists the best reached 8.9
ENOUGH_WITH_GUESS = 7.0  # a guess leaves less room for chance: 1000 unrelated pairs reached 4.2
CERTAIN_EVIDENCE = 20.0  # no need to look at further hypotheses
FLUX_FLOOR = 0.01  # relative error of a bright star's flux from flat field and colour
BEST_CENTROID = 1e-3  # [px]; no pair is trusted more
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
        return NoMatch(
            f"{counts[0]} stars here, {counts[1]} in the reference; at least 3 are needed", *counts, 0, 0.0
        )
    pairing = _Pairing(src, dst, dst_shape, scale, shift_only=model == "shift")
    order = np.argsort(-np.asarray(src_flux), kind="stable"), np.argsort(-np.asarray(dst_flux), kind="stable")
    best: _Found | None = None
    enough = ENOUGH_EVIDENCE
    if guess is not None or model == "shift":
        start = np.eye(3) if guess is None else np.asarray(guess, np.float64)
        reach = GUESS_REACH if guess is not None else float(max(*src_shape, *dst_shape))
        best = pairing.best(_shifted(start, src[order[0]], dst[order[1]], reach))
        if guess is not None and best is not None and best.evidence >= ENOUGH_WITH_GUESS:
            enough = ENOUGH_WITH_GUESS
    for effort in EFFORTS if model != "shift" else ():
        if best is not None and best.evidence >= enough:
            break
        here, there = (
            triangles(src, order[0], src_shape, *effort),
            triangles(dst, order[1], dst_shape, *effort),
        )
        other = pairing.best(hypotheses(here, there, src_shape, scale, allow_flip))
        best = other if best is None or (other is not None and other.evidence > best.evidence) else best
    if best is None or best.evidence < enough:
        pairs, evidence = (0, 0.0) if best is None else (len(best.src_index), best.evidence)
        return NoMatch(
            f"{counts[0]} stars here, {counts[1]} in the reference; best agreement {pairs} pairs, "
            f"evidence {evidence:.1f} of {enough:g} needed",
            *counts, pairs, evidence,
        )  # fmt: skip
    return _finish(best, src, dst, np.asarray(src_flux), np.asarray(dst_flux), src_shape, model, scale)


def _finish(
    found: _Found, src: F64, dst: F64, src_flux: F64, dst_flux: F64, shape: tuple[int, int],
    model: Model, scale: tuple[float, float],
) -> Match | NoMatch:  # fmt: skip
    """Fit the wanted model to the pairs, weighted by what their brightness says of their precision."""
    i, j = found.src_index, found.dst_index
    weight = _precision(found.matrix, src[i], dst[j], src_flux[i], dst_flux[j])
    matrix, rms, inliers = fit_transform(src[i], dst[j], model, weight)
    if reason := why_impossible(matrix, shape, scale):
        return NoMatch(
            f"{len(i)} pairs of stars agree, but {reason}", len(src), len(dst), len(i), found.evidence
        )
    mirrored = bool(np.linalg.det(matrix[:2, :2]) < 0)
    return Match(matrix, i[inliers], j[inliers], rms, found.evidence, mirrored)


def _precision(matrix: F64, src: F64, dst: F64, src_flux: F64, dst_flux: F64) -> F64:
    """1 / variance of each pair: a floor plus a term that falls with flux, the likeliest mixture."""
    misfit = np.sum((apply(matrix, src) - dst) ** 2, axis=1) + BEST_CENTROID**2
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
        self, src: F64, dst: F64, dst_shape: tuple[int, int], scale: tuple[float, float], shift_only: bool
    ) -> None:
        self.src, self.dst, self.dst_shape, self.scale, self.shift_only = (
            src,
            dst,
            dst_shape,
            scale,
            shift_only,
        )
        self.density = len(dst) / (dst_shape[0] * dst_shape[1])

    def best(self, candidates: F64) -> _Found | None:
        """Return the candidate of (k, 3, 3) with the strongest evidence; stops at the first certain one."""
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
            if self.shift_only:
                matrix, size = fit_transform(self.src[i], self.dst[j], "shift")[0], 1.0
            else:
                matrix, size = _similarity(self.src[i], self.dst[j], mirrored)
            if not self.scale[0] <= size <= self.scale[1]:
                return None
        i, j, distance, inside = self.partners(matrix, TOLERANCES[-1])
        # The best of three tolerances is three chances to be lucky.
        evidence = max(
            surprise(int(np.sum(distance <= t)), inside * self.density * np.pi * t * t)
            for t in FINE_TOLERANCES
        ) - np.log10(len(FINE_TOLERANCES))
        return _Found(matrix, i, j, max(0.0, float(evidence)))

    def partners(self, matrix: F64, tolerance: float) -> tuple[I64, I64, F64, int]:
        """Pair nearest neighbours one to one; their distances, and how many stars could have a partner."""
        mapped = apply(matrix, self.src)
        height, width = self.dst_shape
        inside = (
            (mapped > -tolerance).all(axis=1)
            & (mapped[:, 0] < width + tolerance)
            & (mapped[:, 1] < height + tolerance)
        )
        index = np.flatnonzero(inside)
        near = pairs_within(mapped[index], self.dst, tolerance)
        order = np.argsort(near.distance, kind="stable")
        # The nearest partner of each star, then the nearest star of each partner.
        order = order[np.unique(near.first[order], return_index=True)[1]]
        order = order[np.argsort(near.distance[order], kind="stable")]
        chosen = order[np.unique(near.second[order], return_index=True)[1]]
        return index[near.first[chosen]], near.second[chosen], near.distance[chosen], len(index)


def _similarity(src: F64, dst: F64, mirrored: bool) -> tuple[F64, float]:
    """Least-squares similarity of one handedness as a matrix, and its scale."""
    p, q = src[:, 0] + (-1j if mirrored else 1j) * src[:, 1], dst[:, 0] + 1j * dst[:, 1]
    p0, q0 = p.mean(), q.mean()
    power = float(np.sum(np.abs(p - p0) ** 2))
    a = np.vdot(p - p0, q - q0) / power if power > 0 else 1.0 + 0j
    return matrices(np.array([a]), np.array([q0 - a * p0]), mirrored)[0], abs(a)


def surprise(pairs: int, expected: float) -> float:
    """-log10 P(X >= pairs - 2) for a Poisson X; two pairs pay for the four parameters of the fit."""
    count = pairs - 2
    if count <= 0:
        return 0.0
    probability = float(gammainc(count, expected))
    if probability > 1e-250:
        return -float(np.log10(probability))
    # The sum is its first term where the probability underflows.
    return float(-(count * np.log(max(expected, 1e-300)) - expected - gammaln(count + 1)) / np.log(10))


def _shifted(start: F64, src: F64, dst: F64, reach: float) -> F64:
    """Return the most voted shifts (k, 3, 3) of the brightest stars on top of a first guess."""
    mapped = apply(start, src[:150])
    difference = (dst[None, :150] - mapped[:, None]).reshape(-1, 2)
    difference = difference[np.abs(difference).max(axis=1) <= reach]
    if len(difference) == 0:
        return np.empty((0, 3, 3))
    cell = 12.0
    best: list[F64] = []
    votes = count_within(difference, cell / 2)
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


class FluxRatio(NamedTuple):
    """Light of a frame's stars relative to the reference's: ratio, its standard error, stars used."""

    ratio: float
    error: float
    used: int


def flux_ratio(
    flux: F64, reference_flux: F64, snr: F64 | None = None, reference_snr: F64 | None = None
) -> FluxRatio:
    """Robust mean of flux / reference_flux over matched stars: the relative transparency.

    Parameters
    ----------
    flux, reference_flux : (n,) float64
        Of the same stars; leave saturated ones out.
    snr, reference_snr : (n,) float64, optional
        Signal to noise of each flux; without them all stars count alike.

    Returns
    -------
    FluxRatio
        NaN ratio and infinite error when no star has light in both.

    Notes
    -----
    Tukey's biweight on the logarithms; besides the stars' noise each pair is granted 1 % for flat field and
    colour. The error is scaled up when the scatter is larger than that explains.
    """
    usable = (flux > 0) & (reference_flux > 0)
    if not usable.any():
        return FluxRatio(float("nan"), float("inf"), 0)
    log = np.log(flux[usable] / reference_flux[usable])
    variance = np.full(len(log), FLUX_FLOOR**2)
    for noise in (snr, reference_snr):
        if noise is not None:
            variance += 1 / np.maximum(noise[usable], 1e-3) ** 2
    root, weight = 1 / np.sqrt(variance), 1 / variance
    centre = float(np.median(log))
    for _ in range(20):
        pull = (log - centre) * root
        spread = max(MAD_TO_SIGMA * float(np.median(np.abs(pull))), 1e-6 * float(root.max()))
        share = np.clip(1 - (pull / (4.685 * spread)) ** 2, 0, None) ** 2
        previous, centre = centre, float(np.sum(share * weight * log) / np.sum(share * weight))
        if abs(centre - previous) < 1e-9:
            break
    kept = share > 0
    excess = 1.0 if len(log) < 3 else spread if snr is None and reference_snr is None else max(1.0, spread)
    error = excess / np.sqrt(np.sum(weight[kept]))
    return FluxRatio(float(np.exp(centre)), float(np.exp(centre) * error), int(kept.sum()))
