"""A file of samples in the scratch folder that several threads read, and that may have to go after use."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from astrobench.errors import ProcessingError


class StoredFile:
    """A file of samples, read without mapping so that memory stays bounded.

    The file is held open: another run that makes room in the cache does not pull it away. A folder that is
    not kept goes with the last who holds the file, at the latest when Python ends.
    """

    def __init__(self, path: Path, *, is_kept: bool = True) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  closed by _leave
        weakref.finalize(self, _leave, self._file, None if is_kept else path.parent)

    def read(self, into: NDArray[Any], offset: int) -> None:
        """Fill a contiguous array from a place in the file; safe from several threads."""
        if self._read(into.data.cast("B"), offset) != into.nbytes:
            raise ProcessingError(
                f"The scratch file {self.path.name} in {self.path.parent} is shorter than it should be. "
                "Run again: the frames are registered anew."
            )

    def _read(self, view: memoryview, offset: int) -> int:
        """Fill a buffer from a place in the file; return how many bytes there were."""
        done = 0
        if hasattr(os, "preadv"):
            while done < len(view):
                got = os.preadv(self._file.fileno(), [view[done:]], offset + done)
                if not got:
                    break
                done += got
            return done
        with open(self.path, "rb", buffering=0) as file:
            file.seek(offset)
            while done < len(view):
                got = file.readinto(view[done:]) or 0
                if not got:
                    break
                done += got
        return done


def _leave(file: IO[bytes], folder: Path | None) -> None:
    file.close()
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
