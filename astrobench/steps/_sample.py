"""Take from a cube the few samples its statistics rest on: a grid of the sky and the light of its stars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.cube import Cube, Strip, plain_samples
from astrobench.cube_mosaics import MosaicSource
from astrobench.kernels.bright_stars import aperture_and_ring, bright_places, stamps_at, typical_fwhm
from astrobench.kernels.brightness import stamp_fluxes
from astrobench.kernels.statistics import median_mad, spatial_noise

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BAND_PIXELS = 3_000_000  # of one plane that are read; more tells nothing new
BAND_ROWS = 128
GRID_POINTS = 16_384  # the median of as many has an error of 1 % of the noise
GRID_BYTES = 64 * 2**20  # of the grids of all frames together
APART = 4  # px; interpolation and nearest samples of a colour make nearer pixels share noise
MOST_STARS = 64  # fainter ones add little
CORE = 6  # px around a star's centre whose scatter tells how noise grows with light, on its flanks too
FULL_UINT16 = 65535.0
NEAR_FULL = 0.9


@dataclass(frozen=True, eq=False)
class Sample:
    """What was taken from one channel.

    Parameters
    ----------
    grid : (N, R, K) float32
        The same points in every frame [ADU of each frame]; NaN: no data.
    flux, flux_error : (N, S) float64
        Light of the same stars in every frame [ADU]; NaN where it could not be measured.
    cores : (N, S, E, E) float32
        Samples around the centre of each star; NaN: no data or saturated.
    places : (S, 2) int
        Row and column of those centres.
    lag : int
        Points of the grid after which two share no light of the same raw pixels.
    zeros : (N,) float64
        Share of the samples that are exactly 0 (clipped by the camera).
    """

    grid: F32
    flux: F64
    flux_error: F64
    cores: F32
    places: NDArray[np.intp]
    lag: int
    zeros: F64


@dataclass(frozen=True)
class _Plan:
    """Which rows are read, which points of them make the grid, and where the stars are."""

    bands: tuple[tuple[int, int], ...]
    stride: int
    places: tuple[NDArray[np.intp], ...]  # per band, rows relative to it
    shapes: tuple[F32, ...]  # clean stamps of the same stars above their sky
    aperture: NDArray[np.bool_]
    ring: NDArray[np.bool_]


def take_samples(
    cube: Cube, saturation: F64, context: Context, text: str = "measuring levels"
) -> list[Sample]:
    """Read the bands of every frame once; return one `Sample` a channel."""
    plan = _plan(cube, saturation)
    count, channels = cube.shape[:2]

    def work(frame: int) -> list[tuple[F32, F64, F32, float]]:
        context.check_stop()
        return _measure(cube, frame, plan, float(saturation[frame]))

    found = context.map(work, range(count), text)
    stars = [rows + np.array([band[0], 0]) for rows, band in zip(plan.places, plan.bands, strict=True)]
    places = np.concatenate(stars).astype(np.intp)
    lag = -(-APART // plan.stride)
    samples = []
    for channel in range(channels):
        grids, lights, cores, zeros = zip(*[each[channel] for each in found], strict=True)
        light = np.stack(lights)
        samples.append(
            Sample(np.stack(grids), light[..., 0], light[..., 1], np.stack(cores), places, lag, np.array(zeros))
        )
    return samples


def judged_plane(strip: Strip) -> F32:
    """Return the samples of a one-frame strip as they are judged, (h, W) float32."""
    plane = plain_samples(strip)[0]
    if strip.shift is not None:
        plane = plane + strip.shift[0]
    if strip.samples.dtype.kind == "f" and np.isinf(plane).any():
        plane = np.where(np.isinf(plane), np.float32(np.nan), plane)
    return np.asarray(plane, np.float32)


def _plan(cube: Cube, saturation: F64) -> _Plan:
    count, channels, height, width = cube.shape
    bands = _bands(height, width)
    rows = sum(y1 - y0 for y0, y1 in bands)
    points = max(4096, min(GRID_POINTS, GRID_BYTES // (4 * count * channels)))
    stride = max(1, int(np.sqrt(rows * width / points)))
    alive = _alive(cube)
    planes = [_clean(cube, alive, min(1, channels - 1), band) for band in bands]
    limit = NEAR_FULL * float(np.min(saturation))
    found = [bright_places(plane, limit) for plane in planes]
    fwhm = _fwhm(planes, found)
    aperture, ring = aperture_and_ring(fwhm)
    half = aperture.shape[0] // 2
    places = _brightest(planes, found, half)
    stamps = [stamps_at(plane, place, half) for plane, place in zip(planes, places, strict=True)]
    shapes = tuple(_above_sky(stamp, ring) for stamp in stamps)
    return _Plan(bands, stride, places, shapes, aperture, ring)


def _alive(cube: Cube) -> NDArray[np.intp]:
    """Return the frames that hold any data, by a look at a few rows; all if none does there."""
    count, channels, height, _ = cube.shape
    seen = np.zeros(count, bool)
    for y in sorted({height // 4, height // 2, 3 * height // 4}):
        strip = cube.strip(min(1, channels - 1), y, y + 1)
        if strip.samples.dtype.kind != "f":
            return np.arange(count)
        seen |= np.isfinite(plain_samples(strip)).any(axis=(1, 2))
    return np.flatnonzero(seen) if seen.any() else np.arange(count)


def _bands(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Rows to read: all of a small picture, evenly spaced bands of a large one."""
    if height * width <= BAND_PIXELS or height <= 2 * BAND_ROWS:
        return ((0, height),)
    count = max(2, round(BAND_PIXELS / (width * BAND_ROWS)))
    starts = np.linspace(0, height - BAND_ROWS, 2 * count + 1).astype(int)[1::2]
    return tuple((int(y), int(y) + BAND_ROWS) for y in starts)


def _clean(cube: Cube, alive: NDArray[np.intp], channel: int, band: tuple[int, int]) -> F32:
    """Median of three frames: stars without cosmic rays and trails."""
    count = len(alive)
    chosen = sorted({count // 6, count // 2, count - 1 - count // 6})
    planes = []
    for frame in alive[chosen]:
        plane = judged_plane(cube.strip(channel, *band, np.array([frame]))).copy()
        level = median_mad(plane[::8, ::8]).location
        if np.isfinite(level):
            plane -= np.float32(level)
        planes.append(plane)
    if len(planes) < 3:
        return np.asarray(np.fmin(planes[0], planes[-1]))
    a, b, c = planes
    missing = any(np.isnan(plane[::4, ::4]).any() for plane in planes)
    # the plain ones are three times quicker, but one NaN of three would win
    low, high = (np.fmin, np.fmax) if missing else (np.minimum, np.maximum)
    lower, upper = low(a, b), high(a, b)
    low(upper, c, out=upper)
    return np.asarray(high(lower, upper, out=lower), np.float32)


def _fwhm(planes: list[F32], found: list[tuple[NDArray[np.intp], F64]]) -> float:
    widths = []
    for plane, (places, _) in zip(planes, found, strict=True):
        inside = _inside(places, plane.shape, 8)
        if inside.any():
            widths.append(typical_fwhm(stamps_at(plane, places[inside][:30], 8)))
    return float(np.median(widths)) if widths else 3.0


def _inside(places: NDArray[np.intp], shape: tuple[int, ...], half: int) -> NDArray[np.bool_]:
    y, x = places[:, 0], places[:, 1]
    return np.asarray((y >= half) & (x >= half) & (y < shape[0] - half) & (x < shape[1] - half))


def _brightest(
    planes: list[F32], found: list[tuple[NDArray[np.intp], F64]], half: int
) -> tuple[NDArray[np.intp], ...]:
    """Keep the brightest stars of all bands together that lie far enough inside."""
    kept = []
    for plane, (places, height) in zip(planes, found, strict=True):
        inside = _inside(places, plane.shape, half)
        kept.append((places[inside], height[inside]))
    heights = np.concatenate([height for _, height in kept])
    least = np.sort(heights)[-MOST_STARS] if heights.size > MOST_STARS else 0.0
    return tuple(places[height >= least] for places, height in kept)


def _above_sky(stamps: F32, ring: NDArray[np.bool_]) -> F32:
    if len(stamps) == 0:
        return stamps
    with np.errstate(invalid="ignore"):
        sky = np.nanmedian(np.where(ring, stamps, np.nan).reshape(len(stamps), -1), axis=1)
    return np.asarray(np.nan_to_num(stamps - sky[:, None, None]), np.float32)


def _measure(cube: Cube, frame: int, plan: _Plan, saturation: float) -> list[tuple[F32, F64, F32, float]]:
    """Grid, star light (S, 2), star cores (S, E, E) and share of zeros of each plane of a frame."""
    half = plan.aperture.shape[0] // 2
    offsets = np.arange(-half, half + 1)
    bands = []
    for band, places in zip(plan.bands, plan.places, strict=True):
        points = (np.arange(plan.stride // 2, end, plan.stride) for end in (band[1] - band[0], cube.shape[3]))
        rows = places[:, 0, None, None] + offsets[None, :, None]
        columns = places[:, 1, None, None] + offsets[None, None, :]
        bands.append(_picked(cube, frame, band, [np.ix_(*points), (rows, columns)]))
    found = []
    for channel in range(cube.shape[1]):
        grids, stamps = zip(*[each[channel] for each in bands], strict=True)
        found.append(_lights(np.concatenate(grids), stamps, plan, saturation))
    return found


def _lights(grid: F32, stamps: tuple[F32, ...], plan: _Plan, saturation: float) -> tuple[F32, F64, F32, float]:
    lights, cores, sizes = [], [], []
    half = plan.aperture.shape[0] // 2
    core = slice(half - CORE, half + CORE + 1)
    for band, shapes in zip(stamps, plan.shapes, strict=True):
        light, size = np.empty((len(band), 2)), np.empty(len(band))
        stamp_fluxes(np.ascontiguousarray(band), shapes, plan.aperture, plan.ring, saturation, light, size)
        middle = band[:, core, core]
        cores.append(np.where(middle < saturation, middle, np.float32(np.nan)))
        lights.append(light)
        sizes.append(size)
    light, size = np.concatenate(lights), np.concatenate(sizes)
    return grid, _with_errors(light, size, grid, plan), np.concatenate(cores), float(np.mean(grid == 0))


def _picked(cube: Cube, frame: int, band: tuple[int, int], places: list[Any]) -> list[list[F32]]:
    """Return for each channel the judged samples of one frame at some places, rows counted from the band's first."""
    if isinstance(cube.source, MosaicSource):
        return cube.source.pick(frame, band, places)
    channels = []
    for channel in range(cube.shape[1]):
        strip = cube.strip(channel, *band, np.array([frame]))
        channels.append([judged_plane(_cut(strip, (slice(None), *place))) for place in places])
    return channels


def _cut(strip: Strip, index: Any) -> Strip:
    """Return some samples of a one-frame strip; `index` acts on (1, h, W)."""

    def cut(array: Any) -> Any:
        return None if array is None else array[index]

    return Strip(strip.samples[index], strip.swapped, cut(strip.share), cut(strip.shift))


def _with_errors(light: F64, size: F64, grid: F32, plan: _Plan) -> F64:
    """Return flux and its error: noise of the sky in aperture and ring, and that of the light itself."""
    flux, sky = light[:, 0], light[:, 1]
    variance = spatial_noise(grid) ** 2
    ring = max(1, int(plan.ring.sum()))
    with np.errstate(invalid="ignore", divide="ignore"):
        # All of the sky's variance taken as photon noise: the light then has as much per ADU.
        photon = np.where(sky > 0, np.maximum(flux, 0) * variance / sky, 0.0)
        error = np.sqrt(size * variance * (1 + np.pi / 2 * size / ring) + photon)
    return np.stack([flux, error], axis=1)
