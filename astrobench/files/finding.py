"""Find the FITS files that a folder, a glob or a list means."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from astrobench.errors import InputError
from astrobench.files.kinds import is_fits_name

OUTPUT_MARKS = ("report.json", "result.fits")  # a folder that holds both was written by a run
NOT_ENTERED = ("truth",)  # a simulated night keeps its true scene there
MOST_FOLDERS = 20_000

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class Found:
    """The files that a source means, in natural order, and what was passed by."""

    files: tuple[Path, ...]
    root: Path
    ignored: int = 0
    outputs: int = 0

    def name_of(self, path: Path) -> str:
        """Return the file's name as reports give it: from the common folder down."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.name


def find_files(source: Source | Iterable[Source]) -> Found:
    """List the FITS files of a folder (with its sub-folders), of a glob, or of a list of both and of files.

    Hidden folders, folders written by astrobench and folders named ``truth`` are not entered unless given
    by name. A file or folder met twice, through a link for example, counts once.

    Raises
    ------
    InputError
        If something that was named is not there.
    """
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    search = _Search()
    given: list[Path] = []
    for each in sources:
        for path in _expanded(each):
            given.append(path)
            if path.is_dir():
                search.enter(path, is_given=True)
            else:
                search.take(path)
    return Found(tuple(search.files), _common_folder(given), search.ignored, search.outputs)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key by which ``Light_2`` comes before ``Light_10``."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts]


def _expanded(source: Source) -> list[Path]:
    """Return the paths that a name or pattern stands for."""
    try:
        path = Path(source).expanduser()
        if os.path.lexists(path):
            return [path]
        names = glob.glob(str(path), recursive=True) if glob.has_magic(str(path)) else []
    except (OSError, ValueError, RuntimeError):
        names = []
        path = Path(str(source).replace("\0", "?"))
    if not names:
        raise InputError(f"'{path}' does not exist. Give a folder, FITS files or a pattern like night/*.fit.")
    return sorted((Path(name) for name in names), key=natural)


def _common_folder(paths: list[Path]) -> Path:
    folders = [path if path.is_dir() else path.parent for path in paths]
    try:
        common = os.path.commonpath(folders) if folders else "."
    except ValueError:  # on two drives, or absolute and relative
        return Path()
    return Path(common)


class _Search:
    """A walk through folders that enters none twice and follows links."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.ignored = 0
        self.outputs = 0
        self._seen: set[tuple[int, int]] = set()

    def take(self, path: Path) -> None:
        """Note a file, once."""
        if not is_fits_name(path.name):
            self.ignored += 1
        elif self._is_new(path):
            self.files.append(path)

    def enter(self, folder: Path, is_given: bool = False) -> None:
        """Note the files of a folder and of the folders inside it."""
        waiting = [(folder, is_given)]
        while waiting and len(self._seen) < MOST_FOLDERS * 100:
            here, is_given = waiting.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda entry: natural(Path(entry.name)))
            except OSError as error:
                if is_given:
                    raise InputError(
                        f"The folder {here.name} cannot be read: {(error.strerror or '').lower()}."
                    ) from None
                self.ignored += 1
                continue
            names = {entry.name for entry in entries}
            if not is_given and all(mark in names for mark in OUTPUT_MARKS):
                self.outputs += 1
                continue
            if not self._is_new(here):
                continue
            inner = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    if entry.name.lower() not in NOT_ENTERED:
                        inner.append((Path(entry.path), False))
                else:
                    self.take(Path(entry.path))
            waiting.extend(reversed(inner))

    def _is_new(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:  # a broken or circular link: reading it will tell why
            return True
        key = (status.st_dev, status.st_ino)
        if status.st_ino and key in self._seen:
            return False
        self._seen.add(key)
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
