"""Seeded gradient noise: the raw material of clouds, filaments and dust lanes."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

TABLE = 256  # lattice gradients and permutation length (Perlin 1985)
GRADIENT_X = np.cos(np.arange(TABLE) * (2.0 * np.pi / TABLE))
GRADIENT_Y = np.sin(np.arange(TABLE) * (2.0 * np.pi / TABLE))
LACUNARITY = 2.03  # not 2, so that the lattices of the octaves never coincide
TURN_COS, TURN_SIN = 0.8, 0.6  # each octave is turned, so that no lattice direction shows


def permutation(rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the lattice permutation that makes one noise field differ from another.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of int64, shape (512,)
        The permutation of 0..255, twice over so that sums of two indices need no wrapping.
    """
    p = rng.permutation(TABLE)
    return np.concatenate([p, p]).astype(np.int64)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _corner(hashed: int, dx: float, dy: float) -> float:
    rise: float = GRADIENT_X[hashed] * dx + GRADIENT_Y[hashed] * dy
    return rise


@njit(nogil=True, cache=True, error_model="numpy")
def gradient_noise(x: float, y: float, perm: NDArray[np.int64]) -> float:
    """Gradient noise at one point, about -1..1 (Perlin, SIGGRAPH 2002, quintic fade)."""
    fx, fy = np.floor(x), np.floor(y)
    ix, iy = int(fx) & 255, int(fy) & 255
    dx, dy = x - fx, y - fy
    u = dx * dx * dx * (dx * (dx * 6.0 - 15.0) + 10.0)
    v = dy * dy * dy * (dy * (dy * 6.0 - 15.0) + 10.0)
    left, right = perm[ix], perm[(ix + 1) & 255]
    n00 = _corner(perm[left + iy], dx, dy)
    n10 = _corner(perm[right + iy], dx - 1.0, dy)
    n01 = _corner(perm[left + ((iy + 1) & 255)], dx, dy - 1.0)
    n11 = _corner(perm[right + ((iy + 1) & 255)], dx - 1.0, dy - 1.0)
    top = n00 + u * (n10 - n00)
    bottom = n01 + u * (n11 - n01)
    value: float = 1.41 * (top + v * (bottom - top))
    return value


@njit(nogil=True, cache=True, error_model="numpy")
def cloud(x: float, y: float, perm: NDArray[np.int64], size: float, finest: float, gain: float) -> float:
    """Fractal sum of octaves from cells of `size` down to `finest`, about -1..1."""
    total, weight, amplitude = 0.0, 0.0, 1.0
    cell, px, py = size, x / size, y / size
    while cell >= finest:
        total += amplitude * gradient_noise(px, py, perm)
        weight += amplitude
        amplitude *= gain
        cell /= LACUNARITY
        px, py = (
            LACUNARITY * (TURN_COS * px - TURN_SIN * py) + 17.3,
            LACUNARITY * (TURN_SIN * px + TURN_COS * py) - 9.1,
        )
    return total / weight if weight > 0.0 else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def ridges(x: float, y: float, perm: NDArray[np.int64], size: float, finest: float, gain: float) -> float:
    """Ridged fractal, 0..1: bright threads where the noise passes zero (Musgrave 1994)."""
    total, weight, amplitude, carry = 0.0, 0.0, 1.0, 1.0
    cell, px, py = size, x / size, y / size
    while cell >= finest:
        n = 1.0 - abs(gradient_noise(px, py, perm))
        n = n * n * n
        total += amplitude * n * carry
        weight += amplitude
        carry = min(1.0, 1.6 * n)
        amplitude *= gain
        cell /= LACUNARITY
        px, py = (
            LACUNARITY * (TURN_COS * px - TURN_SIN * py) + 31.7,
            LACUNARITY * (TURN_SIN * px + TURN_COS * py) + 5.3,
        )
    return total / weight if weight > 0.0 else 0.0
