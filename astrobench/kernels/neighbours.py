"""Pairs of points that lie near each other: what a tree is for, by sweeping along the first axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Near(NamedTuple):
    """Pairs of points no further apart than a radius; every field is an array (n,)."""

    first: I64
    second: I64
    distance: F64


@njit(nogil=True, cache=True, error_model="numpy")
def _sweep(points: F64, others: F64, radius: float, counts: I64, second: I64, distance: F64) -> None:
    """Count each point's neighbours among `others`, sorted by their first axis; fill the pairs where there is room."""
    squared = radius * radius
    filled = 0
    for i in range(points.shape[0]):
        low, high = 0, others.shape[0]
        while low < high:
            middle = (low + high) // 2
            if others[middle, 0] < points[i, 0] - radius:
                low = middle + 1
            else:
                high = middle
        counts[i] = 0
        for j in range(low, others.shape[0]):
            if others[j, 0] > points[i, 0] + radius:
                break
            total = 0.0
            for axis in range(points.shape[1]):
                step = others[j, axis] - points[i, axis]
                total += step * step
            if total <= squared:
                counts[i] += 1
                if filled < second.size:
                    second[filled] = j
                    distance[filled] = np.sqrt(total)
                    filled += 1


def pairs_within(points: F64, others: F64, radius: float) -> Near:
    """Find all pairs of a point and another one within a radius.

    Parameters
    ----------
    points, others : (n, d) and (m, d) float64
        Finite positions.
    radius : float
        Largest distance, inclusive.

    Returns
    -------
    Near
        Indices into `points`, which rise, and into `others`, and the distance.

    Notes
    -----
    Lists of stars have some hundred entries, of which a band as wide as the radius holds a few: the sweep is as
    quick as a k-d tree and has none to build.
    """
    order = np.argsort(others[:, 0], kind="stable")
    ordered = np.ascontiguousarray(others[order], np.float64)
    points = np.ascontiguousarray(points, np.float64)
    counts = np.empty(len(points), np.int64)
    second, distance = np.empty(4 * len(points), np.int64), np.empty(4 * len(points))
    _sweep(points, ordered, radius, counts, second, distance)
    total = int(counts.sum())
    if total > second.size:
        second, distance = np.empty(total, np.int64), np.empty(total)
        _sweep(points, ordered, radius, counts, second, distance)
    return Near(np.repeat(np.arange(len(points)), counts), order[second[:total]], distance[:total])


def count_within(points: F64, radius: float) -> I64:
    """Count for each point (n, d) the points no further than a radius, itself included."""
    counts = np.empty(len(points), np.int64)
    order = np.argsort(points[:, 0], kind="stable")
    ordered = np.ascontiguousarray(points[order], np.float64)
    _sweep(ordered, ordered, radius, counts, np.empty(0, np.int64), np.empty(0))
    result = np.empty_like(counts)
    result[order] = counts
    return result


def nearest_few(points: F64, count: int) -> I64:
    """Indices (n, count) of each point's nearest others, nearest first; for up to a few hundred points."""
    difference = points[:, None] - points[None]
    squared = np.einsum("ijk,ijk->ij", difference, difference)
    np.fill_diagonal(squared, -1.0)  # a point is the nearest to itself, even where two coincide
    return np.argsort(squared, axis=1, kind="stable")[:, 1 : count + 1]
