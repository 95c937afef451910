"""Centre, size, shape and light of single stars by adaptive elliptical Gaussian moments."""

from __future__ import annotations

import numpy as np
from numba import njit

from astrobench.kernels.star_filter import F32, F64, I64, middle

WINDOW = 3.2  # window radius in its own sigmas; the correction tables of stars.py assume this value
MAX_PASSES = 20
DAMPED_FROM = 6  # a pixel on the window's rim may go in and out in turns; half steps end that
TOLERANCE = 1e-3  # relative change of size and centre shift in sigmas at which the passes stop
LOOSE = 20.0  # times the tolerance is still a star when the passes run out

# Columns of the table that `measure` fills.
X, Y, PEAK, CXX, CXY, CYY, FLUX, FOURTH, SHARP, STATUS, FLAT, TOP, COLUMNS = range(13)
GOOD, DRIFTED, SHAPELESS, NO_DATA = 0.0, 1.0, 2.0, 3.0


@njit(nogil=True, cache=True, error_model="numpy")
def _ring_median(flat: F32, x: float, y: float, inner: float, outer: float, buffer: F32) -> float:
    """Median of the pixels between two radii; large rings are sampled on a coarser grid."""
    height, width = flat.shape
    step = max(1, int(outer / 14))
    count = 0
    for v in range(max(int(y - outer), 0), min(int(y + outer) + 1, height), step):
        for u in range(max(int(x - outer), 0), min(int(x + outer) + 1, width), step):
            distance = (u - x) ** 2 + (v - y) ** 2
            if inner * inner <= distance <= outer * outer and count < buffer.size:
                buffer[count] = flat[v, u]
                count += 1
    if count < 8:
        return 0.0
    low, high = float(buffer[:count].min()), float(buffer[:count].max())
    return middle(buffer, count, low, high, 18)


@njit(nogil=True, cache=True, error_model="numpy")
def _moments(flat: F32, sky: float, x: float, y: float, cxx: float, cxy: float, cyy: float, out: F64) -> None:
    """Moments 0, 1, 2 and radial 4 of the image under an elliptical Gaussian window; out (8,).

    The exponential is stepped along a row by two multiplications (its second difference is constant).
    """
    height, width = flat.shape
    det = cxx * cyy - cxy * cxy
    p, q, r = cyy / det, -cxy / det, cxx / det
    reach = WINDOW * np.sqrt(cyy)
    second = np.exp(-p)
    out[:] = 0.0
    for v in range(max(int(np.ceil(y - reach)), 0), min(int(np.floor(y + reach)), height - 1) + 1):
        dy = v - y
        # The row's chord of the ellipse rho^2 <= WINDOW^2.
        centre = -q * dy / p
        rest = WINDOW * WINDOW - (r - q * q / p) * dy * dy
        if rest <= 0:
            continue
        chord = np.sqrt(rest / p)
        start = max(int(np.ceil(x + centre - chord)), 0)
        stop = min(int(np.floor(x + centre + chord)), width - 1) + 1
        dx = start - x
        weight = np.exp(-0.5 * (p * dx * dx + 2 * q * dx * dy + r * dy * dy))
        ratio = np.exp(-0.5 * (p * (2 * dx + 1) + 2 * q * dy))
        for u in range(start, stop):
            dx = u - x
            light = weight * (flat[v, u] - sky)
            rho2 = p * dx * dx + 2 * q * dx * dy + r * dy * dy
            out[0] += light
            out[1] += light * dx
            out[2] += light * dy
            out[3] += light * dx * dx
            out[4] += light * dx * dy
            out[5] += light * dy * dy
            out[6] += light * rho2 * rho2
            out[7] += weight * weight
            weight *= ratio
            ratio *= second


@njit(nogil=True, cache=True, error_model="numpy")
def _adapt(flat: F32, sky: float, row: F64, start: float, largest: float, m: F64) -> None:
    """Move, stretch and turn the window until it fits the star; fills the row's centre, shape and status.

    A Gaussian star of covariance S seen through a window W has moments M with 1/M = 1/W + 1/S, so each
    pass takes S = 1 / (1/M - 1/W) as the next window (Bernstein & Jarvis 2002, section 3.1).
    """
    x0, y0 = row[X], row[Y]
    x, y = x0, y0
    cxx, cxy, cyy = start * start, 0.0, start * start
    row[STATUS] = SHAPELESS
    change = np.inf
    for number in range(MAX_PASSES):
        _moments(flat, sky, x, y, cxx, cxy, cyy, m)
        if m[0] <= 0:
            return
        mx, my = m[1] / m[0], m[2] / m[0]
        mxx, mxy, myy = m[3] / m[0] - mx * mx, m[4] / m[0] - mx * my, m[5] / m[0] - my * my
        det_m, det_w = mxx * myy - mxy * mxy, cxx * cyy - cxy * cxy
        if det_m <= 0 or mxx <= 0:
            return
        axx, axy, ayy = myy / det_m - cyy / det_w, -mxy / det_m + cxy / det_w, mxx / det_m - cxx / det_w
        det_a = axx * ayy - axy * axy
        old = cxx + cyy
        if det_a > 0 and axx > 0:
            nxx, nxy, nyy = ayy / det_a, -axy / det_a, axx / det_a
        else:
            nxx, nxy, nyy = 4 * mxx, 4 * mxy, 4 * myy
        # A window that leaps (a neighbour, noise) is held to a factor of two a pass.
        scale = min(max((nxx + nyy) / old, 0.5), 2.0) * old / (nxx + nyy)
        part = 1.0 if number < DAMPED_FROM else 0.5
        cxx += part * (nxx * scale - cxx)
        cxy += part * (nxy * scale - cxy)
        cyy += part * (nyy * scale - cyy)
        step_x, step_y = 2 * part * mx, 2 * part * my
        x += step_x
        y += step_y
        size = np.sqrt(0.5 * (cxx + cyy))
        if cxx * cyy - cxy * cxy < 1e-3 or size > largest:
            return
        if (x - x0) ** 2 + (y - y0) ** 2 > max(2.0, size) ** 2:
            row[STATUS] = DRIFTED
            return
        change = max(abs(cxx + cyy - old) / old, np.sqrt(step_x * step_x + step_y * step_y) / size)
        if change < TOLERANCE:
            break
    if change < LOOSE * TOLERANCE:
        row[STATUS] = GOOD
        _moments(flat, sky, x, y, cxx, cxy, cyy, m)
        row[X], row[Y] = x, y
        row[CXX], row[CXY], row[CYY] = cxx, cxy, cyy
        # Amplitude of the Gaussian = sum(w d) / sum(w w); its volume is 2 pi sqrt(det) amplitude.
        row[FLUX] = 2 * np.pi * np.sqrt(cxx * cyy - cxy * cxy) * m[0] / m[7]
        row[FOURTH] = m[6] / m[0]


@njit(nogil=True, cache=True, error_model="numpy")
def _core(image: F32, flat: F32, row: F64, radius: int, sky: float) -> None:
    """Brightest pixel near the centre, its neighbours' share, pixels on a plateau, missing data."""
    height, width = flat.shape
    cx, cy = round(row[X]), round(row[Y])
    best_x, best_y, best = cx, cy, -np.inf
    for v in range(max(cy - radius, 0), min(cy + radius + 1, height)):
        for u in range(max(cx - radius, 0), min(cx + radius + 1, width)):
            if not np.isfinite(image[v, u]):
                row[STATUS] = NO_DATA
            if flat[v, u] > best:
                best, best_x, best_y = flat[v, u], u, v
    around, count, level_top = 0.0, 0, 0
    for v in range(max(best_y - 1, 0), min(best_y + 2, height)):
        for u in range(max(best_x - 1, 0), min(best_x + 2, width)):
            if v != best_y or u != best_x:
                around += flat[v, u] - sky
                count += 1
    for v in range(max(cy - radius, 0), min(cy + radius + 1, height)):
        for u in range(max(cx - radius, 0), min(cx + radius + 1, width)):
            level_top += flat[v, u] > best * 0.99
    row[PEAK] = best - sky
    row[TOP] = image[best_y, best_x]
    row[SHARP] = around / max(count, 1) / (best - sky) if best > sky else 0.0
    row[FLAT] = level_top


@njit(nogil=True, cache=True, error_model="numpy")
def measure(image: F32, flat: F32, places: I64, start: float, largest: float) -> F64:
    """Measure the stars at `places` (n, 2) rows and columns.

    Parameters
    ----------
    image, flat : (H, W) float32
        The frame as given (only asked where its data are missing) and minus its sky.
    places : (n, 2) int64
        Row and column of each maximum.
    start, largest : float
        Sigma of the first window and the largest allowed [px].

    Returns
    -------
    (n, COLUMNS) float64, the columns named at the top of this module.
    """
    table = np.zeros((len(places), COLUMNS))
    moments = np.empty(8)
    inner = max(5.0, 5.5 * start)
    outer = inner + max(3.0, 2.0 * start)
    buffer = np.empty(int((2 * outer + 3) ** 2), np.float32)
    for k in range(len(places)):
        row = table[k]
        row[X], row[Y] = places[k, 1], places[k, 0]
        sky = _ring_median(flat, row[X], row[Y], inner, outer, buffer)
        _adapt(flat, sky, row, start, largest, moments)
        _core(image, flat, row, max(1, round(1.2 * start)), sky)
    return table
