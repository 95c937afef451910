"""Files in and out: one module a format; `open_image` and `save_image` choose by the file's name."""

from astrobench.files.pictures import open_image, save_image

__all__ = ["open_image", "save_image"]
