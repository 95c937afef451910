"""Simulate a night with a Seestar: a folder of raw subs and the truth about them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError, ParameterError
from astrobench.simulate.truth import TRUTH_FOLDER, Night

if TYPE_CHECKING:
    from astrobench.simulate.camera import Camera
    from astrobench.simulate.conditions import Conditions
    from astrobench.simulate.scene import Scene

FIRST_NIGHT = datetime(2025, 3, 20, 6, 40)  # UT; the target crosses the meridian
SIDEREAL_DAY = timedelta(hours=23, minutes=56, seconds=4)
TARGET_RA, TARGET_DEC = 176.2, 50.5  # J2000 degrees: passes 19 degrees north of the zenith, turning 40 deg/h
SKY_ADU = {"4.43": 1000.0, "4.70": 110.0}  # green sky in 10 s, as measured on subs of these versions
VIGNETTING = 0.04  # what the factory flat leaves
SAVING_S = (2.2, 3.5)  # from the end of an exposure to the time in the name of its file
SENSOR_C = 25.0
LARGEST_DITHER = 40.0  # px; the sky is made to this margin


def simulate_night(
    folder: Path | str,
    *,
    frames: int = 30,
    seed: int = 1,
    shape: tuple[int, int] = (1920, 1080),
    faults: bool = True,
    noise: bool = True,
    nebula: bool = True,
    stars: int | None = None,
    steady: bool = False,
    fwhm: float = 3.4,
    rotation: float = 40.0,
    dither: float = 15.0,
    exposure: float = 10.0,
    firmware: Literal["4.43", "4.70"] = "4.43",
    target: str = "Sim 1",
    night: int = 0,
    start: datetime | None = None,
    progress: Callable[[float, str], None] | None = None,
    workers: int = 2,
) -> Night:
    """Simulate a night: write a folder of raw subs like a Seestar's and return what is true of it.

    The subs go to ``folder/<target>_sub``, the truth to ``folder/truth``. The same arguments give the same
    files, whatever the number of workers.

    Parameters
    ----------
    folder : Path or str
        Made when absent. A simulated night that is there already is replaced, anything else is refused.
    frames : int, default 30
    seed : int, default 1
        Chooses the sky and the camera.
    shape : (H, W), default (1920, 1080)
        Even numbers of pixels, 64 at least.
    faults : bool, default True
        Hot and dead pixels, cosmic rays, satellite trails; from 6 frames on a passing cloud, one defocused
        and one trailed frame.
    noise : bool, default True
        Photon and read noise, fixed pattern, coarse levels.
    nebula : bool, default True
        False leaves stars alone in the sky.
    stars : int, optional
        Number within a frame; by default 1200 a megapixel. 0 leaves the nebula alone in the sky.
    steady : bool, default False
        Flat sky, no vignetting, round stars; sky, seeing and transparency constant.
    fwhm : float, default 3.4
        Typical FWHM of the stars, px.
    rotation : float, default 40
        Field rotation, degrees an hour.
    dither : float, default 15
        Largest offset from the mean pointing along each axis, px, 40 at most. 0: no dither and no drift.
    exposure : float, default 10
        Seconds of one sub, 2 to 60.
    firmware : {'4.43', '4.70'}, default '4.43'
        '4.70' takes off a dark without a pedestal: sky 110 ADU, 6 % of the pixels clipped to 0.
    target : str, default 'Sim 1'
    night : int, default 0
        Another number is another night on the same sky with the same camera.
    start : datetime, optional
        Of the first exposure, UT where it has no time zone; by default the target crosses the meridian.
    progress : callable, optional
        Called with the share done (0..1) and a few words; may raise `Stopped`.
    workers : int, default 2
        Threads.

    Returns
    -------
    Night

    Raises
    ------
    ParameterError
        When an argument is out of its range.
    InputError
        When the folder holds something else or cannot be written.
    Stopped
        When `progress` raised it; no sub is left behind.
    """
    from astrobench.simulate.camera import make_camera
    from astrobench.simulate.conditions import make_conditions
    from astrobench.simulate.scene import make_scene
    from astrobench.simulate.seestar import sub_name

    _check(frames, shape, stars, fwhm, dither, exposure, firmware, target, workers)
    place = Path(folder)
    subs = _clear(place, target)
    level = SKY_ADU[firmware] * exposure / 10.0
    vignetting = 0.0 if steady else VIGNETTING
    scene = make_scene(seed, shape, stars, nebula, workers)
    camera = make_camera(seed, shape, firmware=firmware, faults=faults, noise=noise, vignetting=vignetting)
    course = make_conditions(
        (seed, night),
        frames,
        shape,
        exposure=exposure,
        fwhm=fwhm,
        sky=level,
        rotation=rotation,
        dither=dither,
        steady=steady,
        faults=faults,
    )
    began = start or FIRST_NIGHT + night * SIDEREAL_DAY
    if began.tzinfo is not None:
        began = began.astimezone(UTC).replace(tzinfo=None)
    times = [began + timedelta(seconds=float(s)) for s in course.seconds]
    delays = np.random.default_rng([seed, night, 14]).uniform(*SAVING_S, frames)
    names = [
        sub_name(target, exposure, time + timedelta(seconds=exposure + float(delay)))
        for time, delay in zip(times, delays, strict=True)
    ]
    catalogue = scene.stars.copy()
    for colour in ("flux_r", "flux_g", "flux_b"):
        catalogue[colour] *= exposure / 10.0
    truth = Night(
        folder=place,
        paths=tuple(subs / name for name in names),
        seed=seed,
        night=night,
        shape=shape,
        exposure=exposure,
        started=tuple(time.isoformat() for time in times),
        bad={subs / names[k]: why for k, why in course.bad.items()},
        stars=catalogue,
        transforms=course.transforms,
        fwhm=course.fwhm,
        ratio=course.ratio,
        angle=course.angle,
        smear=course.smear,
        transparency=course.transparency,
        sky=course.sky,
        gain=camera.gain,
        read_noise=camera.read_noise,
        step=camera.step,
        vignetting=vignetting,
        hot=camera.hot,
        dead=camera.dead,
        planted=_plant((seed, night), course, shape, level, faults),
        star_count=stars,
        nebula=nebula,
        noise=noise,
        faults=faults,
        firmware=firmware,
    )
    _take(truth, scene, camera, times, target, rotation == 0.0, progress, workers)
    truth.save()
    return truth


def _check(
    frames: int,
    shape: tuple[int, int],
    stars: int | None,
    fwhm: float,
    dither: float,
    exposure: float,
    firmware: str,
    target: str,
    workers: int,
) -> None:
    """Refuse what cannot be simulated, each with its range."""
    rules = (
        (1 <= frames <= 10_000, f"frames={frames}: a night has 1 to 10000 frames."),
        (
            len(shape) == 2 and all(64 <= n <= 8192 and n % 2 == 0 for n in shape),
            f"shape={shape}: give (height, width) in even numbers of pixels from 64 to 8192.",
        ),
        (stars is None or 0 <= stars <= 100_000, f"stars={stars}: give 0 to 100000."),
        (1.0 <= fwhm <= 12.0, f"fwhm={fwhm}: give 1 to 12 px."),
        (0.0 <= dither <= LARGEST_DITHER, f"dither={dither}: give 0 to {LARGEST_DITHER:g} px."),
        (2.0 <= exposure <= 60.0, f"exposure={exposure}: give 2 to 60 s."),
        (firmware in SKY_ADU, f"firmware={firmware!r}: known are {', '.join(map(repr, SKY_ADU))}."),
        (
            target.isascii()
            and target.isprintable()
            and 0 < len(target.strip()) <= 40
            and not set(target) & set('/\\:*?"<>|'),
            f"target={target!r}: give 1 to 40 plain ASCII characters that a file name may hold.",
        ),
        (workers >= 1, f"workers={workers}: give 1 or more."),
    )
    for holds, message in rules:
        if not holds:
            raise ParameterError(message)


def _clear(folder: Path, target: str) -> Path:
    """Make room for a night: remove an earlier simulated one, refuse to touch anything else."""
    subs = folder / f"{target}_sub"
    try:
        if (folder / TRUTH_FOLDER / "night.json").exists():
            for path in Night.load(folder).paths:
                path.unlink(missing_ok=True)
        if subs.exists() and any(subs.iterdir()):
            raise InputError(
                f"{subs} holds files that are not a simulated night. Name another folder or empty this one."
            )
        subs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{subs} cannot be written: {error}. Name another folder.") from error
    return subs


def _plant(
    seed: tuple[int, int], course: Conditions, shape: tuple[int, int], level: float, faults: bool
) -> NDArray[np.void]:
    """Draw the outliers of all frames; a night with faults has at least one trail."""
    from astrobench.simulate.camera import GAIN, READ_NOISE
    from astrobench.simulate.outliers import OUTLIER, TRAILS_PER_FRAME, cosmic_rays, satellite_trails

    if not faults:
        return np.zeros(0, OUTLIER)
    sigma = float(np.hypot(np.sqrt(level / GAIN), READ_NOISE))
    count = len(course.fwhm)
    trails = np.random.default_rng([*seed, 13]).poisson(TRAILS_PER_FRAME, count)
    if trails.sum() == 0:
        trails[count // 2] = 1
    parts = []
    for k in range(count):
        rng = np.random.default_rng([*seed, 30, k])
        parts.append(cosmic_rays(rng, k, shape, sigma))
        parts.append(satellite_trails(rng, k, shape, sigma, float(course.fwhm[k]), int(trails[k])))
    return np.concatenate(parts)


def _take(
    truth: Night,
    scene: Scene,
    camera: Camera,
    times: list[datetime],
    target: str,
    equatorial: bool,
    progress: Callable[[float, str], None] | None,
    workers: int,
) -> None:
    """Expose and write every frame; whatever stops it, no sub is left behind."""
    from astrobench.simulate.exposing import expose
    from astrobench.simulate.seestar import equinox_of_date, header_cards, write_sub

    ra, dec = equinox_of_date(TARGET_RA, TARGET_DEC, times[0])
    count = len(times)

    def one(k: int) -> None:
        numbers = expose(truth, scene, camera, k)
        cards = header_cards(
            truth.shape,
            target=target,
            exposure=truth.exposure,
            started=times[k],
            ra=ra,
            dec=dec,
            temperature=SENSOR_C - 3.0 * k / count,
            program=truth.firmware,
            equatorial=equatorial,
        )
        write_sub(truth.paths[k], numbers, cards)

    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(one, k) for k in range(count)]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                if progress is not None:
                    progress(done / count, f"frame {done} of {count}")
        except BaseException as error:
            pool.shutdown(wait=True, cancel_futures=True)
            for path in truth.paths:
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise InputError(f"A sub could not be written: {error}.") from error
            raise
