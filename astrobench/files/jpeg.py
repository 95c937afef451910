"""Write JPEG pictures, row 0 on top, with their story in EXIF and comment."""

from __future__ import annotations

import json
from pathlib import Path

from astrobench.files.beside import written_beside
from astrobench.files.display import caption, srgb_profile, story, to_picture
from astrobench.image import Image

QUALITY = 95
IMAGE_DESCRIPTION, SOFTWARE = 0x010E, 0x0131  # EXIF tags
LONGEST_COMMENT = 65_000  # bytes that fit into one JPEG segment


def write_jpeg(path: str | Path, image: Image, *, private: bool = True) -> None:
    """Write a picture as JPEG of quality 95 with full colour resolution (no chroma subsampling).

    Parameters
    ----------
    path : path
    image : Image
        Display values in [0, 1] are written as they are; linear data are shown through an autostretch.
        Pixels without data are black.
    private : bool
        Leave site coordinates, people and the telescope's name out.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from PIL import Image as PillowImage

    told = story(image, private)
    exif = PillowImage.Exif()
    exif[SOFTWARE] = told["software"]
    if caption(told):
        exif[IMAGE_DESCRIPTION] = caption(told).encode("ascii", "replace").decode("ascii")
    comment = json.dumps(told, ensure_ascii=False).encode()
    if len(comment) > LONGEST_COMMENT:
        comment = json.dumps({key: told[key] for key in told if key != "recipe"}, ensure_ascii=False).encode()
    picture = to_picture(image)
    profile = srgb_profile() if picture.mode == "RGB" else None
    with written_beside(path) as beside:
        picture.save(
            beside,
            "JPEG",
            quality=QUALITY,
            subsampling=0,
            exif=exif,
            icc_profile=profile,
            comment=comment[:LONGEST_COMMENT],
        )
