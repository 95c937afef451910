"""Find stars and measure their place, light, width and shape."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from astrobench.kernels import star_filter, star_shape
from astrobench.kernels.constants import MAD_TO_SIGMA
from astrobench.kernels.medians import median
from astrobench.kernels.neighbours import pairs_within

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

SIGMA_TO_FWHM = 2.354820  # sqrt(8 ln 2)
SKY_BOX = 64  # [px]
FIRST_FWHM = 3.5  # typical of small telescopes; replaced by the measured width when it is far off
REFILTER_RATIO = 1.4  # a filter matched within 40 % loses less than 6 % of the signal to noise
BROAD = 3.0  # the wide Gaussian of the zero-sum filter, in units of the narrow one
SAMPLE_STARS = 60  # stars that decide on the width of the frame
NARROWEST_FWHM = 1.0  # [px]; anything narrower is a pixel's fault, not a star
SHARPEST = 0.15  # mean of the 8 neighbours over the peak; less is a hot pixel or a cosmic ray
POLARISATION_NOISE = 1.8  # noise of each component of (a^2 - b^2) / (a^2 + b^2) times S/N, simulated
SATURATED = 0.9  # share of the full well
SATURATED_LUMINANCE = 0.6  # the same after the 3x3 luminance filter, which dilutes a single saturated pixel
KEPT_PIXELS = 1 << 23  # planes up to this size stay for the next frame
FLOAT_ROUNDING = 1e-6  # of the level: what float32 arithmetic alone leaves in a constant frame
PLATEAU = 5  # pixels within 1 % of the peak that no round star of this width has by itself

# Moffat profiles seen through an adaptive Gaussian window cut at 3.2 sigma (numerical integration;
# beta = inf, 20, 12, 8, 6, 5, 4, 3.5, 3, 2.5, 2, 1.8): mean of rho^4, true FWHM over 2.3548 sigma,
# and true flux over the flux of the fitted Gaussian.
GAUSSIAN_FOURTH = 1.997
FOURTH_MOMENT = np.array(
    [1.997, 2.0203, 2.0359, 2.0554, 2.0749, 2.0904, 2.1136, 2.1301, 2.1519, 2.1822, 2.2271, 2.2517]
)
FWHM_FACTOR = np.array([1.0, 0.9841, 0.9731, 0.9593, 0.9452, 0.9339, 0.9166, 0.9042, 0.8873, 0.8634, 0.8265, 0.8055])
FLUX_FACTOR = np.array([1.0, 1.0142, 1.0246, 1.0392, 1.0559, 1.0709, 1.0967, 1.1179, 1.1505, 1.2066, 1.3230, 1.4128])
# With u = blur variance over seen variance and x = seen fourth moment - 1.997: the excess before the blur
# from (x, x u, x u^2, x u^3, u^2, u^3), and with that x the variance it added over its own from
# (1, u, u^2, x, x u, x u^2).
UNBLURRED_EXCESS = np.array([1.0499, 1.6226, 6.7045, -0.3391, -0.2209, 1.9117])
WIDENING = np.array([1.1120, -0.5183, 1.2900, 0.4198, 12.1521, -21.6665])


class Stars(NamedTuple):
    """Measured stars, brightest first; every field is an array (n,).

    x, y: centre [px], 0-based, centre of the first pixel = (0, 0). flux: light of the fitted profile
    above the local sky [ADU]. peak: brightest pixel above the local sky [ADU]. snr: matched-filter signal
    to noise. fwhm: geometric mean of the two axes' full width at half maximum [px]. eccentricity:
    sqrt(1 - b^2 / a^2). angle: of the major axis from +x towards +y [rad], -pi/2 to pi/2. saturated: bool.
    """

    x: F64
    y: F64
    flux: F64
    peak: F64
    snr: F64
    fwhm: F64
    eccentricity: F64
    angle: F64
    saturated: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Stars:
        """Return some of the stars, by index or mask."""
        return _select(self, index)


def sky_map(image: F32, box: int = 64) -> tuple[F64, float]:
    """Sky level in cells and the noise of one pixel.

    Per cell the 3-sigma-clipped median of about 250 pixels, then a 3x3 median over cells (SExtractor's
    recipe). Zeros are values, only non-finite pixels are left out.

    Parameters
    ----------
    image : (H, W) float32
        One plane.
    box : int
        Cell size [px]; at least 20 times the FWHM of the stars.

    Returns
    -------
    level_mesh : (ceil(H / box), ceil(W / box)) float64
        Sky at the cell centres; NaN everywhere when no cell has data.
    sigma : float
        Median over cells of 1.4826 MAD; 0 for a constant or empty frame.
    """
    image = np.ascontiguousarray(image, np.float32)
    height, width = image.shape
    shape = (max(1, -(-height // box)), max(1, -(-width // box)))
    level, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
    stride = 1 if min(height, width) < 2 * box else max(1, box // 14)
    star_filter.sky_cells(image, box, stride, level, sigma)
    if np.isnan(level).all():
        return level, 0.0
    noise = float(np.nanmedian(sigma))
    padded = np.pad(level, 1, constant_values=np.nan)
    # NaN sorts last: the median of the rest lies around the middle of the finite ones.
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(*shape, 9), axis=2)
    count = np.sum(np.isfinite(windows), axis=2, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, 8)
    level = 0.5 * (np.take_along_axis(windows, low, 2) + np.take_along_axis(windows, high, 2))[:, :, 0]
    level[np.isnan(level)] = np.nanmedian(level)
    return level, noise


def detect(
    image: F32,
    *,
    fwhm: float | None = None,
    threshold: float = 5.0,
    saturation: float | None = None,
    max_stars: int = 2000,
    blur_variance: float = 0.0,
    guard_hot: bool = True,
) -> tuple[Stars, float, float]:
    """Find and measure the stars of one plane.

    A zero-sum matched filter (Gaussian minus one three times as wide) with a threshold on its own noise
    finds them, adaptive elliptical Gaussian moments (Bernstein & Jarvis 2002) measure them, and the mean
    fourth moment of the frame's stars turns the Gaussian widths into those of the actual profile.

    Parameters
    ----------
    image : (H, W) float32
        A mono frame, or the luminance of a Bayer frame (raw convolved with [1 2 1] x [1 2 1] / 16).
        NaN = no data.
    fwhm : float, optional
        Expected FWHM in this image [px]; estimated from the image when not given.
    threshold : float
        In sigmas of the filtered image.
    saturation : float, optional
        Level [ADU] of a full pixel; without it flat-topped stars are taken for saturated.
    max_stars : int
        The brightest ones are kept.
    blur_variance : float
        Variance per axis [px^2] to take off the measured widths (0.5 for the luminance above).
    guard_hot : bool
        Replace isolated hot pixels first; only sensible on frames that were never resampled.

    Returns
    -------
    stars : Stars
        Empty when there are none; never raises for strange data.
    level, sigma : float
        Median sky level and noise of one pixel [ADU]; NaN and 0 when there are no data.
    """
    image = np.ascontiguousarray(image, np.float32)
    mesh, sigma = sky_map(image, SKY_BOX)
    if image.size < 64 or min(image.shape) < 8 or np.isnan(mesh).all():
        return _no_stars(), float("nan"), 0.0
    level = float(np.median(mesh))
    guard = 6 * sigma if guard_hot and sigma > 0 else 0.0
    flat, filtered = _buffers(image.shape)
    star_filter.flatten(image, _levels(mesh, image.shape[1]), SKY_BOX, guard, flat)
    # A frame without noise (a drawing) still has stars; one with nothing but rounding has none.
    least_noise = max(FLOAT_ROUNDING * abs(level), 1e-4 * float(flat.max()) if sigma == 0 else 0.0)
    width = fwhm or FIRST_FWHM
    for _ in range(4):
        places, snr = _maxima(image, flat, filtered, width, threshold, least_noise)
        order = np.argsort(-snr, kind="stable")
        places, snr = places[order], snr[order]
        if fwhm is not None:
            break
        measured = _frame_fwhm(star_shape.measure(image, flat, places[:SAMPLE_STARS], *_window(width)))
        if np.isnan(measured) or 1 / REFILTER_RATIO < measured / width < REFILTER_RATIO:
            break
        width = measured
    places, snr = places[: 2 * max_stars], snr[: 2 * max_stars]
    table = star_shape.measure(image, flat, places, *_window(width))
    stars = _stars(table, snr, saturation, blur_variance, image.shape)
    return _select(stars, slice(max_stars)), level, sigma


_scratch = threading.local()


def _buffers(shape: tuple[int, ...]) -> tuple[F32, F32]:
    """Two float32 planes of this thread, kept between frames of one size.

    Fresh pages from the system cost 4.5 ms a plane of 2 MP, more than the blur itself.
    """
    if getattr(_scratch, "shape", None) != shape:
        planes = np.empty(shape, np.float32), np.empty(shape, np.float32)
        if planes[0].size > KEPT_PIXELS:
            return planes
        _scratch.shape, _scratch.planes = shape, planes
    kept: tuple[F32, F32] = _scratch.planes
    return kept


def _no_stars() -> Stars:
    none = np.empty(0)
    return Stars(none, none, none, none, none, none, none, none, np.empty(0, bool))


def _select(stars: Stars, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Stars:
    return Stars(*(field[which] for field in stars))  # type: ignore[arg-type]


def _levels(mesh: F64, width: int) -> F32:
    """Enlarge the mesh along x to the full width."""
    if mesh.shape[1] == 1:
        return np.repeat(mesh.astype(np.float32), width, axis=1)
    centres = (np.arange(mesh.shape[1]) + 0.5) * SKY_BOX - 0.5
    x = np.clip(np.arange(width), centres[0], centres[-1])
    left = np.minimum(np.searchsorted(centres, x, side="right") - 1, len(centres) - 2)
    slopes = np.diff(mesh, axis=1) / SKY_BOX
    levels = np.take(slopes, left, axis=1) * (x - centres[left]) + np.take(mesh, left, axis=1)
    return np.ascontiguousarray(levels, np.float32)


def _window(fwhm: float) -> tuple[float, float]:
    """Sigma of the first window and the largest one that is still a star."""
    return fwhm / SIGMA_TO_FWHM, max(8.0, 3 * fwhm)


def _taps(sigma: float) -> F32:
    """Half of a unit-sum Gaussian, cut at 3.5 sigma."""
    offsets = np.arange(int(np.ceil(3.5 * sigma)) + 1)
    taps: F64 = np.exp(-0.5 * (offsets / sigma) ** 2)
    return np.asarray(taps / (2 * taps.sum() - taps[0]), np.float32)


def _maxima(
    image: F32, flat: F32, filtered: F32, fwhm: float, threshold: float, least_noise: float
) -> tuple[NDArray[np.int64], F64]:
    """Rows and columns of maxima of the zero-sum filtered frame, and their signal to noise."""
    narrow = fwhm / SIGMA_TO_FWHM
    star_filter.blur(flat, _taps(narrow), filtered)
    # Binning by 4 and the bilinear enlargement already blur by about 1.25 and 2.7 px^2.
    broad = max((BROAD * narrow) ** 2 - 4.0, 1.0) ** 0.5 / 4
    coarse = star_filter.binned4(flat)
    smooth = np.empty_like(coarse)
    star_filter.blur(coarse, _taps(broad), smooth)
    star_filter.subtract_broad(filtered, smooth)
    step = 1 if flat.size < 262144 else 9
    sample = filtered[::step, ::step][np.isfinite(image[::step, ::step])]
    if sample.size == 0:
        return np.empty((0, 2), np.int64), np.empty(0)
    noise = max(MAD_TO_SIGMA * median(np.abs(sample - np.float32(median(sample)))), least_noise)
    if noise <= 0:
        return np.empty((0, 2), np.int64), np.empty(0)
    places, heights = star_filter.maxima(filtered, threshold * noise, max(2, int(np.ceil(fwhm / 2))))
    return places, heights.astype(np.float64) / noise


def _sizes(table: F64) -> F64:
    """Gaussian FWHM of each measured row, geometric mean of the axes."""
    det = np.maximum(table[:, star_shape.CXX] * table[:, star_shape.CYY] - table[:, star_shape.CXY] ** 2, 0)
    return np.asarray(SIGMA_TO_FWHM * det**0.25)


def _frame_fwhm(table: F64) -> float:
    """Median Gaussian FWHM of the rows that look like stars; NaN without any."""
    sizes = _sizes(table)
    usable = (table[:, star_shape.STATUS] == star_shape.GOOD) & (sizes > NARROWEST_FWHM)
    unsaturated = usable & (table[:, star_shape.FLAT] < PLATEAU)
    chosen = unsaturated if unsaturated.sum() >= 3 else usable
    return float(np.median(sizes[chosen])) if chosen.any() else float("nan")


def _stars(table: F64, snr: F64, saturation: float | None, blur_variance: float, shape: tuple[int, ...]) -> Stars:
    """Turn the measured table into stars, without hot pixels, cosmic rays, edges, doubles and odd shapes."""
    t = star_shape
    if saturation is None:
        saturated = table[:, t.FLAT] >= PLATEAU + 0.03 * _sizes(table) ** 2
    else:
        saturated = table[:, t.TOP] >= saturation * (SATURATED_LUMINANCE if blur_variance > 0 else SATURATED)
    good = (table[:, t.STATUS] == t.GOOD) & (table[:, t.SHARP] > SHARPEST)
    seen, fourth, widening = _profile(table[good & ~saturated], snr[good & ~saturated], blur_variance)
    cxx, cxy, cyy = table[:, t.CXX] - widening, table[:, t.CXY], table[:, t.CYY] - widening
    half_sum, half_difference = 0.5 * (cxx + cyy), np.hypot(0.5 * (cxx - cyy), cxy)
    major, minor = half_sum + half_difference, half_sum - half_difference
    good &= minor > (NARROWEST_FWHM / SIGMA_TO_FWHM) ** 2 / 2
    good &= _alike(major, minor, good & ~saturated, saturated)
    margin = np.sqrt(np.maximum(major, 1.0))
    x, y = table[:, t.X], table[:, t.Y]
    good &= (x > margin) & (y > margin) & (x < shape[1] - 1 - margin) & (y < shape[0] - 1 - margin)
    index = _without_doubles(np.flatnonzero(good), table, major)
    index = index[np.argsort(-table[index, t.FLUX], kind="stable")]
    major, minor, half_sum, half_difference = (
        major[index],
        minor[index],
        half_sum[index],
        half_difference[index],
    )
    # Noise alone makes round stars look stretched: take its share off the squared polarisation.
    polarisation = (half_difference / half_sum) ** 2 - 2 * (POLARISATION_NOISE / snr[index]) ** 2
    polarisation = np.sqrt(np.maximum(polarisation, 0.0))
    return Stars(
        x=x[index],
        y=y[index],
        flux=table[index, t.FLUX] * np.interp(seen, FOURTH_MOMENT, FLUX_FACTOR),
        peak=table[index, t.PEAK],
        snr=snr[index],
        fwhm=SIGMA_TO_FWHM * (major * minor) ** 0.25 * np.interp(fourth, FOURTH_MOMENT, FWHM_FACTOR),
        eccentricity=np.sqrt(2 * polarisation / (1 + polarisation)),
        angle=0.5 * np.arctan2(2 * cxy[index], cxx[index] - cyy[index]),
        saturated=saturated[index],
    )


def _profile(table: F64, snr: F64, blur_variance: float) -> tuple[float, float, float]:
    """Average the profile: fourth moment as seen, before the blur, and the variance the blur added [px^2].

    A blur makes a Moffat more Gaussian and widens its adaptive Gaussian by more than its own variance. Both
    relations are polynomials fitted to [1 2 1] / 4 applied to Moffats of beta 2 to infinity; they return the
    FWHM within 1 % from 1.7 px up, within 4 % at 1.5 px.
    """
    if len(table) == 0:
        return GAUSSIAN_FOURTH, GAUSSIAN_FOURTH, blur_variance
    strong = snr > 25
    chosen = table[strong if strong.sum() >= 3 else slice(None)][:200]
    seen = min(max(float(np.median(chosen[:, star_shape.FOURTH])), 1.9), FOURTH_MOMENT[-1])
    if blur_variance == 0:
        return seen, seen, 0.0
    u = min(blur_variance / (float(np.median(_sizes(chosen))) / SIGMA_TO_FWHM) ** 2, 0.5)
    x = seen - GAUSSIAN_FOURTH
    x = float(np.dot(UNBLURRED_EXCESS, [x, x * u, x * u**2, x * u**3, u**2, u**3]))
    x = min(max(x, 0.0), FOURTH_MOMENT[-1] - GAUSSIAN_FOURTH)
    widening = float(np.dot(WIDENING, [1, u, u**2, x, x * u, x * u**2]))
    return seen, GAUSSIAN_FOURTH + x, blur_variance * widening


def _alike(major: F64, minor: F64, typical: NDArray[np.bool_], saturated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are shaped like the frame's stars: no hot pixels, tracks, galaxies or blends."""
    if typical.sum() < 5:
        return minor > 0
    middle_major, middle_minor = np.sqrt(np.median(major[typical])), np.sqrt(np.median(minor[typical]))
    a, b = np.sqrt(np.maximum(major, 0)), np.sqrt(np.maximum(minor, 0))
    largest = np.where(saturated, 4.0, 2.0) * middle_major
    flattest = min(0.5, 0.6 * middle_minor / middle_major)
    return np.asarray((b > 0.55 * middle_minor) & (a < largest) & (b > flattest * a))


def _without_doubles(index: NDArray[np.int64], table: F64, major: F64) -> NDArray[np.int64]:
    """Of rows that moved to the same star keep the first (the most significant)."""
    if index.size < 2:
        return index
    places = table[index][:, [star_shape.X, star_shape.Y]]
    reach = max(1.5, float(np.sqrt(np.median(major[index]))))
    near = pairs_within(places, places, reach)
    keep = np.ones(index.size, bool)
    for k in np.flatnonzero(near.first < near.second):
        first, second = near.first[k], near.second[k]
        if keep[first]:
            keep[second] = False
    return index[keep]
