"""Write the picture to files."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import field_validator

from astrobench.context import Context
from astrobench.errors import ParameterError
from astrobench.image import Image
from astrobench.step import Area, Step, param

SUFFIX = {"fits": ".fits", "tiff": ".tif", "png": ".png", "jpeg": ".jpg"}


class Export(Step):
    """Write the picture in the formats that are asked for, top row on top, never mirrored."""

    area: ClassVar[Area] = "export"
    takes: ClassVar[type] = Image
    gives: ClassVar[type] = Image

    formats: tuple[Literal["fits", "tiff", "png", "jpeg"], ...] = param(
        ("fits", "png"), "What to write: fits (everything), tiff (16 bits), png and jpeg (8 bits)"
    )
    file_name: str = param("result", "Name of the files, without suffix")

    @field_validator("formats")
    @classmethod
    def _some_format(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if not formats:
            raise ValueError("no format is given; name at least one of fits, tiff, png, jpeg.")
        return tuple(dict.fromkeys(formats))

    @field_validator("file_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not name.strip() or name.startswith(".") or any(each in name for each in '/\\:*?"<>|\0'):
            raise ValueError(f"'{name}' is no plain file name; folders are chosen with the output folder.")
        return name

    def apply(self, image: Image, context: Context) -> Image:
        """Write the files and return the picture as it came."""
        if context.output is None:
            raise ParameterError(
                "Export does not know where to write: no output folder is set. "
                "Give one with -o OUT on the command line or Context(output=...) in Python."
            )
        from astrobench.files import save_image

        holes = int(np.count_nonzero(~np.isfinite(image.data).all(axis=0)))
        for number, each in enumerate(self.formats):
            context.progress(number / len(self.formats), f"writing {each}")
            path = context.output / f"{self.file_name}{SUFFIX[each]}"
            save_image(image, path, private=context.private)
            context.report.fact("export.file", "Wrote {name}.", name=path.name, path=path)
            if each != "fits":
                self._say_what_changed(image, each, holes, context)
        if not context.private:
            context.report.fact("export.not_private", "Site and telescope are written too, as asked.")
        context.progress(1.0, "written")
        return image

    def _say_what_changed(self, image: Image, kind: str, holes: int, context: Context) -> None:
        if image.unit == "ADU" and kind in ("png", "jpeg"):
            context.report.fact(
                "export.shown",
                "The data are linear; the {kind} shows them through an autostretch.",
                kind=kind.upper(),
            )
        if image.unit == "ADU" and kind == "tiff":
            from astrobench.files.tiff import linear_range

            low, high = linear_range(image.data)
            pedestal = f" A pedestal of {-low:.4g} was added, because values are negative." if low < 0 else ""
            context.report.fact(
                "export.scaled",
                "The data are linear; {low:.4g} to {high:.4g} fill the 16 bits of the TIFF.{pedestal}",
                low=low,
                high=high,
                pedestal=pedestal,
            )
        if holes:
            context.report.fact(
                "export.holes",
                "{holes} pixels without data are black in the {kind}.",
                holes=holes,
                kind=kind.upper(),
            )
