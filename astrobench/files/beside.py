"""Write a file beside its place and rename it: a crash leaves the old file or the new one, never a half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astrobench.errors import InputError


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; when all went well it becomes `path`, else nothing is left.

    Raises
    ------
    InputError
        If the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _cannot(path, error) from None
    beside = Path(name)
    try:
        yield beside
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)  # mkstemp makes files that only their owner may read
        os.replace(beside, path)
    except OSError as error:
        raise _cannot(path, error) from None
    finally:
        beside.unlink(missing_ok=True)


def _cannot(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path.name} cannot be written to {path.parent}: {error.strerror or error}. "
        "Choose another output folder or make room."
    )
