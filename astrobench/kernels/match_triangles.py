"""Propose maps between two star lists from alike triangles that vote for them."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels.neighbours import count_within, nearest_few, pairs_within

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
C128 = NDArray[np.complex128]

GRID = 4  # cells along each side over which one more level of stars is spread, so that no cluster holds all
SPREAD_STARS = 40
FLATTEST = 0.03  # area over longest side squared
ALIKE_SIDES = 0.98  # near-isosceles triangles swap their corners
KEY_RADIUS = 0.03  # in the two side ratios
VOTE_RADIUS = 24.0  # [px], how far two hypotheses may differ in the frame's corners
HYPOTHESES = 20  # clusters of votes that are worth verifying
TRIANGLE_RESIDUAL = 3.0  # [px] rms of a hypothesis on its own triangle


class Triangles(NamedTuple):
    """Scalene triangles of one list."""

    corners: C128  # (n, 3), ordered by the side opposite: shortest, middle, longest
    keys: F64  # (n, 4): two side ratios, orientation (far apart when it differs), log of the longest side


def hypotheses(
    here: Triangles, there: Triangles, shape: tuple[int, int], scale: tuple[float, float], flip: bool
) -> F64:
    """Similarities (k, 3, 3) proposed by triangles, most voted first."""
    straight = _vote(here, there, shape, scale, False)
    if not flip:
        return straight
    turned = _vote(here, there, shape, scale, True)
    return np.concatenate([m[k : k + 1] for k in range(HYPOTHESES) for m in (straight, turned)])


def _spread(xy: F64, order: I64, shape: tuple[int, int]) -> I64:
    """Reorder: the brightest of every cell of a grid first, then the second of every cell."""
    row = np.clip(xy[order, 1] * GRID // shape[0], 0, GRID - 1)
    cell = row * GRID + np.clip(xy[order, 0] * GRID // shape[1], 0, GRID - 1)
    by_cell = np.argsort(cell, kind="stable")
    start = np.searchsorted(cell[by_cell], cell[by_cell])
    rank = np.empty(len(order), np.int64)
    rank[by_cell] = np.arange(len(order)) - start
    return order[np.argsort(rank, kind="stable")]


def triangles(
    xy: F64, order: I64, shape: tuple[int, int], depths: tuple[int, ...], neighbours: int
) -> Triangles:
    """Triangles of each star with two of its nearest neighbours, at several depths of brightness."""
    levels = [order[:depth] for depth in depths[: 1 + int(np.searchsorted(depths, len(xy)))]]
    if len(xy) > SPREAD_STARS:
        levels.append(_spread(xy, order, shape)[:SPREAD_STARS])
    rows = []
    for chosen in levels:
        count = min(neighbours, len(chosen) - 1)
        near = nearest_few(xy[chosen], count)
        first, second = np.array(list(combinations(range(count), 2))).T
        star = np.repeat(np.arange(len(chosen)), len(first))
        rows.append(chosen[np.stack([star, near[:, first].ravel(), near[:, second].ravel()], axis=1)])
    trio = np.sort(np.concatenate(rows), axis=1)
    code = (trio[:, 0] * len(xy) + trio[:, 1]) * len(xy) + trio[:, 2]
    trio = trio[np.unique(code, return_index=True)[1]]
    corners = (xy[:, 0] + 1j * xy[:, 1])[trio]
    sides = np.abs(
        np.stack(
            [corners[:, 1] - corners[:, 2], corners[:, 2] - corners[:, 0], corners[:, 0] - corners[:, 1]],
            axis=1,
        )
    )
    rank = np.argsort(sides, axis=1)
    sides, corners = np.take_along_axis(sides, rank, 1), np.take_along_axis(corners, rank, 1)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = a.real * b.imag - a.imag * b.real
    longest = np.maximum(sides[:, 2], 1e-9)
    r1, r2 = sides[:, 0] / np.maximum(sides[:, 1], 1e-9), sides[:, 1] / longest
    good = (np.abs(cross) / 2 > FLATTEST * longest**2) & (r1 < ALIKE_SIDES) & (r2 < ALIKE_SIDES)
    keys = np.stack([r1, r2, np.sign(cross), np.log(longest)], axis=1)
    return Triangles(corners[good], keys[good])


def _vote(
    here: Triangles, there: Triangles, shape: tuple[int, int], scale: tuple[float, float], mirrored: bool
) -> F64:
    """Gather maps of alike triangles where they put two corners of the frame."""
    if not len(here.keys) or not len(there.keys):
        return np.empty((0, 3, 3))
    low, high = np.log(scale[0]), np.log(scale[1])
    # The log of the size is scaled so that the allowed range fits the radius of the search.
    weights = np.array([1.0, 1.0, 10 * KEY_RADIUS, KEY_RADIUS / max((high - low) / 2 + 0.01, 1e-3)])
    shift = np.array([0, 0, 0, (low + high) / 2])
    flip = np.array([1, 1, -1 if mirrored else 1, 1])
    i, j, _ = pairs_within((here.keys * flip + shift) * weights, there.keys * weights, 1.3 * KEY_RADIUS)
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
    votes = count_within(space, VOTE_RADIUS)
    chosen: list[int] = []
    taken = np.zeros(len(space), bool)
    for k in np.argsort(-votes, kind="stable"):
        if taken[k]:
            continue
        members = pairs_within(space[k : k + 1], space, VOTE_RADIUS).second
        taken[members] = True
        chosen.append(int(k))
        a[k], b[k] = a[members].mean(), b[members].mean()
        if len(chosen) == HYPOTHESES:
            break
    return matrices(a[chosen], b[chosen], mirrored)


def matrices(a: C128, b: C128, mirrored: bool) -> F64:
    """Matrices (k, 3, 3) of z -> a z + b, or of z -> a conj(z) + b."""
    s, zero, one = (-1.0 if mirrored else 1.0), np.zeros(len(a)), np.ones(len(a))
    rows = [a.real, -s * a.imag, b.real, a.imag, s * a.real, b.imag, zero, zero, one]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)
