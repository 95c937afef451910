"""The truth behind a simulated night: what was in the sky, where each frame looked, what was planted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError

if TYPE_CHECKING:
    from astrobench.simulate.camera import Camera
    from astrobench.simulate.scene import Scene

FORMAT = 1  # raised whenever a seed begins to mean another sky or another camera
TRUTH_FOLDER = "truth"
ARRAYS = (
    "stars",
    "transforms",
    "fwhm",
    "ratio",
    "angle",
    "smear",
    "transparency",
    "sky",
    "hot",
    "dead",
    "planted",
)
NUMBERS = (
    "seed",
    "night",
    "exposure",
    "gain",
    "read_noise",
    "step",
    "vignetting",
    "star_count",
    "nebula",
    "noise",
    "faults",
    "firmware",
)


@dataclass(frozen=True, eq=False)
class Night:
    """A simulated night and everything that is true of it.

    Pixels are 0-based, x = column, y = row, centre of the first pixel (0, 0). ADU are those of the files.
    A frame is flat * (transparency * scene + sky), plus hot pixels and fixed pattern, noise and outliers.

    Attributes
    ----------
    folder : Path
        Holds the folder of the subs and the folder of the truth.
    paths : tuple of Path
        The subs in order of time.
    seed, night : int
        Of the scene and the camera; of the course of the night.
    shape : (H, W)
    exposure : float
        Seconds.
    started : tuple of str
        UT of the start of each exposure, ISO 8601.
    bad : dict of Path to str
        Subs that no stack should hold: 'cloud', 'defocused' or 'trailed'.
    stars : structured ndarray
        x, y in reference pixels, flux_r, flux_g, flux_b in ADU of this exposure, brightest first.
    transforms : ndarray of float64, shape (N, 3, 3)
        Frame pixel to reference pixel: ``reference = T @ (x, y, 1)``.
    fwhm, ratio, angle : ndarray of float64, shape (N,)
        FWHM of the stars [px, geometric mean], minor over major axis, direction of the major axis [rad].
    smear : ndarray of float64, shape (N, 2)
        Way of the stars during an exposure [px]: zero but in the trailed frame.
    transparency : ndarray of float64, shape (N,)
    sky : ndarray of float64, shape (N, 3, 6)
        R, G, B sky in ADU; terms 1, x, y, xx, yy, xy of x, y in -1..1 over the frame.
    gain : float
        e-/ADU.
    read_noise : float
        ADU. The variance of a pixel is expected / gain + read_noise**2.
    step : float
        ADU between two levels of the file.
    vignetting : float
        Share of the light lost in the corners.
    hot : structured ndarray
        y, x, adu of the hot pixels.
    dead : ndarray of int64, shape (n, 2)
        y, x of the pixels that read 0.
    planted : structured ndarray
        frame, y, x, adu, kind ('cosmic' or 'trail') of every outlier pixel.
    star_count : int or None
        Stars asked for.
    nebula, noise, faults : bool
        What was switched on.
    firmware : str
        Software version that was imitated.
    """

    folder: Path
    paths: tuple[Path, ...]
    seed: int
    night: int
    shape: tuple[int, int]
    exposure: float
    started: tuple[str, ...]
    bad: dict[Path, str]
    stars: NDArray[np.void]
    transforms: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    ratio: NDArray[np.float64]
    angle: NDArray[np.float64]
    smear: NDArray[np.float64]
    transparency: NDArray[np.float64]
    sky: NDArray[np.float64]
    gain: float
    read_noise: float
    step: float
    vignetting: float
    hot: NDArray[np.void]
    dead: NDArray[np.int64]
    planted: NDArray[np.void]
    star_count: int | None
    nebula: bool
    noise: bool
    faults: bool
    firmware: str

    @cached_property
    def _sky_above(self) -> Scene:
        from astrobench.simulate.scene import make_scene

        return make_scene(self.seed, self.shape, self.star_count, self.nebula)

    @cached_property
    def _camera(self) -> Camera:
        from astrobench.simulate.camera import make_camera

        return make_camera(
            self.seed,
            self.shape,
            firmware=self.firmware,
            faults=self.faults,
            noise=self.noise,
            vignetting=self.vignetting,
        )

    def scene(
        self, fwhm: float | None = None, transform: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """Picture the sky in colour, without noise, without sky glow, at transparency 1.

        Parameters
        ----------
        fwhm : float, optional
            Of the stars, px; by default the median of the night. The nebula is smooth at this scale
            and the same at any FWHM.
        transform : ndarray of float64, shape (3, 3), optional
            Pixels of the wanted grid to reference pixels, ``night.transforms[k]`` for the grid of frame k;
            by default the reference grid.

        Returns
        -------
        ndarray of float32, shape (3, H, W)
            R, G, B in ADU.
        """
        from astrobench.simulate.scene import render

        width = float(np.median(self.fwhm)) if fwhm is None else fwhm
        grid = np.eye(3) if transform is None else np.asarray(transform, dtype=np.float64)
        everywhere = [np.full((2, 2), c, np.int64) for c in range(3)]
        return np.stack(
            [render(self._sky_above, self.shape, grid, width, c, exposure=self.exposure) for c in everywhere]
        )

    def sky_image(self, k: int) -> NDArray[np.float32]:
        """Sky glow of frame k in colour, (3, H, W) float32 ADU, before vignetting."""
        from astrobench.simulate.optics import add_sky

        image = np.zeros((3, *self.shape), np.float32)
        for c in range(3):
            add_sky(image[c], np.full((2, 2), c, np.int64), 1.0, self.sky[k], 0.0)
        return image

    def flat(self) -> NDArray[np.float32]:
        """Vignetting, (H, W) float32, 1 in the centre."""
        from astrobench.simulate.optics import add_sky

        image = np.ones(self.shape, np.float32)
        add_sky(image, np.zeros((2, 2), np.int64), 1.0, np.zeros((3, 6)), self.vignetting)
        return image

    def expected(self, k: int) -> NDArray[np.float32]:
        """Raw frame k without noise and outliers, (H, W) float32 ADU through the Bayer pattern GRBG."""
        from astrobench.simulate.camera import add_defects
        from astrobench.simulate.exposing import collect_light

        light = collect_light(self, self._sky_above, k)
        add_defects(self._camera, light)
        return light

    def outliers(self, k: int, kind: str | None = None) -> NDArray[np.bool_]:
        """Mask of the outlier pixels planted in frame k.

        Parameters
        ----------
        k : int
        kind : {'cosmic', 'trail'}, optional
            One kind alone. Hot pixels are in `hot_mask`.

        Returns
        -------
        ndarray of bool, shape (H, W)
            In pixels of the raw frame. A trail counts where it adds half the noise of one frame or more.
        """
        chosen = self.planted[self.planted["frame"] == k]
        if kind is not None:
            chosen = chosen[chosen["kind"] == kind]
        mask = np.zeros(self.shape, bool)
        mask[chosen["y"], chosen["x"]] = True
        return mask

    def hot_mask(self) -> NDArray[np.bool_]:
        """Mask of the hot and dead pixels, (H, W) bool, the same in every frame."""
        mask = np.zeros(self.shape, bool)
        mask[self.hot["y"], self.hot["x"]] = True
        mask[self.dead[:, 0], self.dead[:, 1]] = True
        return mask

    def save(self, folder: Path | str | None = None) -> Path:
        """Write the truth as ``night.json`` and ``night.npz``.

        Parameters
        ----------
        folder : Path or str, optional
            By default the folder ``truth`` beside the subs, whose names no scan takes for frames.

        Returns
        -------
        Path
            Of the JSON file.
        """
        place = self.folder / TRUTH_FOLDER if folder is None else Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        text: dict[str, Any] = {"format": FORMAT, "shape": list(self.shape), "started": list(self.started)}
        text |= {name: getattr(self, name) for name in NUMBERS}
        text["folder"] = str(self.folder)
        text["paths"] = [path.relative_to(self.folder).as_posix() for path in self.paths]
        text["bad"] = {path.relative_to(self.folder).as_posix(): why for path, why in self.bad.items()}
        np.savez_compressed(place / "night.npz", **{name: getattr(self, name) for name in ARRAYS})
        file = place / "night.json"
        file.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        return file

    @classmethod
    def load(cls, folder: Path | str) -> Night:
        """Read the truth of a night back.

        Parameters
        ----------
        folder : Path or str
            The folder of the night, or one that `save` wrote.

        Returns
        -------
        Night

        Raises
        ------
        InputError
            When there is no truth, or one of another version.
        """
        place = Path(folder)
        inside = (place / TRUTH_FOLDER / "night.json").exists()
        file = (place / TRUTH_FOLDER if inside else place) / "night.json"
        try:
            text = json.loads(file.read_text(encoding="utf-8"))
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in ARRAYS}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{place} holds no truth of a simulated night: {error}.") from error
        if text.get("format") != FORMAT:
            raise InputError(
                f"The night in {place} was simulated by another version (format {text.get('format')}, "
                f"this one writes {FORMAT}). Simulate it again."
            )
        # A night that was moved as a whole is found where it lies now.
        home = place if inside else Path(text["folder"])
        return cls(
            folder=home,
            paths=tuple(home / name for name in text["paths"]),
            shape=(text["shape"][0], text["shape"][1]),
            started=tuple(text["started"]),
            bad={home / name: why for name, why in text["bad"].items()},
            **{name: text[name] for name in NUMBERS},
            **arrays,
        )
