"""Cut the picture to where enough frames reach, or to a given rectangle."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from astrobench.context import Context
from astrobench.errors import ParameterError, ProcessingError
from astrobench.image import Image
from astrobench.kernels.rectangle import largest_rectangle
from astrobench.step import Area, Step, param

BLOCK = 8  # pixels; the largest rectangle is searched on blocks and then grown by single rows and columns


class Crop(Step):
    """Cut away the ragged, noisy edges that only few frames reach."""

    area: ClassVar[Area] = "finish"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    share: float = param(
        0.6,
        "Keep where at least this share of the most frames reaches; 0.6 is 1.3 times the noise",
        gt=0,
        le=1,
    )
    x: int | None = param(None, "First column of an explicit rectangle", unit="px", ge=0, advanced=True)
    y: int | None = param(None, "First row of an explicit rectangle", unit="px", ge=0, advanced=True)
    width: int | None = param(None, "Width of an explicit rectangle", unit="px", ge=1, advanced=True)
    height: int | None = param(None, "Height of an explicit rectangle", unit="px", ge=1, advanced=True)

    def apply(self, image: Image, context: Context) -> Image:
        """Return the picture, its maps and its coordinates cut to the rectangle."""
        context.progress(0.0, "cropping")
        rectangle = self._explicit(image) if self._is_explicit() else self._covered(image, context)
        x, y, width, height = rectangle
        _, full_height, full_width = image.shape
        if (width, height) == (full_width, full_height):
            context.report.fact("crop.nothing", "Nothing to crop: the whole picture is covered well.")
            context.progress(1.0, "cropping")
            return image
        context.report.fact(
            "crop.rectangle",
            "Cropped from {full_width} x {full_height} to {width} x {height} pixels, from column {x}, row "
            "{y}; all maps and the coordinates go along.",
            x=x,
            y=y,
            width=width,
            height=height,
            full_width=full_width,
            full_height=full_height,
        )
        context.progress(1.0, "cropping")
        return crop(image, x, y, width, height)

    def _is_explicit(self) -> bool:
        return any(value is not None for value in (self.x, self.y, self.width, self.height))

    def _explicit(self, image: Image) -> tuple[int, int, int, int]:
        _, full_height, full_width = image.shape
        x, y = self.x or 0, self.y or 0
        width = full_width - x if self.width is None else self.width
        height = full_height - y if self.height is None else self.height
        if x + width > full_width or y + height > full_height or width < 1 or height < 1:
            raise ParameterError(
                f"The rectangle x={x}, y={y}, width={width}, height={height} does not fit into the "
                f"picture of {full_width} x {full_height} pixels. Choose a smaller one."
            )
        return x, y, width, height

    def _covered(self, image: Image, context: Context) -> tuple[int, int, int, int]:
        finite = np.isfinite(image.data).all(axis=0)
        if image.coverage is None:
            good = finite
            context.report.fact(
                "crop.no_coverage", "The picture carries no coverage map; it is cut to where there are data."
            )
        else:
            reach = image.coverage.min(axis=0)
            good = finite & (reach >= self.share * max(int(reach.max()), 1))
        context.check_stop()
        rectangle = covered_rectangle(fill_holes(np.asarray(good)))
        if rectangle[2] == 0:
            raise ProcessingError(
                "No pixel of the picture holds data in all channels, so there is nothing to crop to. "
                "Look at the steps before: the stack is empty."
            )
        return rectangle


def crop(image: Image, x: int, y: int, width: int, height: int) -> Image:
    """Return the rectangle of a picture with its maps; the reference pixel of the WCS moves along."""
    window = (slice(None), slice(y, y + height), slice(x, x + width))
    changes: dict[str, Any] = {name: value[window].copy() for name, value in image.maps()}
    if image.wcs is not None:
        wcs = image.wcs.deepcopy()
        wcs.wcs.crpix = wcs.wcs.crpix - np.array([x, y], float)
        if wcs.sip is not None:
            from astropy.wcs import Sip

            old = wcs.sip
            wcs.sip = Sip(old.a, old.b, old.ap, old.bp, old.crpix - np.array([x, y], float))
        wcs.pixel_shape = (width, height)
        changes["wcs"] = wcs
    return image.replace(data=image.data[window].copy(), **changes)


def fill_holes(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take holes inside (dead pixels, burnt cores) for good: a rectangle need not avoid them."""
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(good))


def covered_rectangle(good: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return (x, y, width, height) of the largest rectangle of good pixels, within a fraction of a block.

    Searched exactly on blocks of 8 x 8 pixels, then grown row by row and column by column.
    """
    height, width = good.shape
    block = max(1, min(BLOCK, height // 16, width // 16))
    rows, columns = height // block, width // block
    blocks = good[: rows * block, : columns * block].reshape(rows, block, columns, block)
    coarse: NDArray[np.bool_] = np.asarray(blocks.all(axis=(1, 3)))
    if not coarse.any():
        coarse, block = good, 1
    y0, y1, x0, x1 = (block * each for each in largest_rectangle(coarse))
    grown = y1 > y0
    while grown:
        grown = False
        if y0 > 0 and good[y0 - 1, x0:x1].all():
            y0, grown = y0 - 1, True
        if y1 < height and good[y1, x0:x1].all():
            y1, grown = y1 + 1, True
        if x0 > 0 and good[y0:y1, x0 - 1].all():
            x0, grown = x0 - 1, True
        if x1 < width and good[y0:y1, x1].all():
            x1, grown = x1 + 1, True
    return x0, y0, x1 - x0, y1 - y0
