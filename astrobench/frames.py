"""Frames: an ordered, immutable selection of files, and the account of what is in use and what is not."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, overload

from astrobench.files.checks import uncovered
from astrobench.files.finding import Source
from astrobench.frame import Frame, Measures, check_pixels
from astrobench.scan import scan_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from astrobench.context import Context

__all__ = ["Frame", "Frames", "Measures", "check_pixels", "uncovered"]

SHOWN_ROWS = 60


@dataclass(frozen=True)
class Frames(Sequence[Frame]):
    """An ordered, immutable selection of frames, with the work that is still to be done on each.

    Parameters
    ----------
    frames : tuple of Frame
    pending : tuple
        Steps that are carried out when a frame is read, for example the debayering that was chosen.
    """

    frames: tuple[Frame, ...] = ()
    pending: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        object.__setattr__(self, "pending", tuple(self.pending))

    @classmethod
    def scan(
        cls,
        source: Source | Iterable[Source],
        *,
        context: Context | None = None,
        named: bool = False,
        mix_filters: bool = False,
    ) -> Self:
        """Find frames and read their headers; what cannot be used is set aside with its reason.

        Parameters
        ----------
        source : path, glob or list of them
            A folder is searched with its sub-folders.
        context : Context, optional
            Told the progress and, in its report, every decision and every header repair.
        named : bool
            The files were given by name one by one: several stacks among them are lights to be stacked again.
        mix_filters : bool
            Frames through different filters may run together.

        Raises
        ------
        InputError
            If there is no FITS file at all.
        """
        return cls(scan_frames(source, context=context, named=named, mix_filters=mix_filters))

    # --- sequence ---------------------------------------------------------------------------------
    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Frame | Self:
        if isinstance(index, slice):
            return self.replace(frames=self.frames[index])
        return self.frames[index]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def replace(self, *, frames: Iterable[Frame] | None = None, pending: Iterable[Any] | None = None) -> Self:
        """Return a copy with other frames or other pending work."""
        return dataclasses.replace(
            self,
            frames=self.frames if frames is None else tuple(frames),
            pending=self.pending if pending is None else tuple(pending),
        )

    def filter(self, keep: Callable[[Frame], bool]) -> Self:
        """Return the frames for which `keep` is true."""
        return self.replace(frames=(frame for frame in self.frames if keep(frame)))

    @property
    def lights(self) -> Self:
        """The lights, set aside or not."""
        return self.filter(lambda frame: frame.kind == "light")

    @property
    def used(self) -> Self:
        """The lights that are in use."""
        return self.filter(lambda frame: frame.kind == "light" and frame.use)

    def set_aside(
        self, which: int | Callable[[Frame], bool] | Mapping[Any, str], reason: str = "set aside by hand"
    ) -> Self:
        """Return a copy in which some frames are no longer used; a frame keeps the first reason it got.

        Parameters
        ----------
        which : int, callable or mapping
            Place of one frame, a test, or a mapping from path, name or place to the reason.
        reason : str
            For a place or a test.
        """
        reasons = which if isinstance(which, Mapping) else {}

        def reason_for(place: int, frame: Frame) -> str | None:
            if isinstance(which, int):
                return reason if place == which % max(1, len(self.frames)) else None
            if callable(which):
                return reason if which(frame) else None
            keys = (frame.path, str(frame.path), frame.name, place)
            return next((reasons[key] for key in keys if key in reasons), None)

        changed = []
        for place, frame in enumerate(self.frames):
            why = reason_for(place, frame)
            changed.append(frame if why is None or not frame.use else frame.replace(use=False, reason=why))
        return self.replace(frames=changed)

    # --- groups and account -----------------------------------------------------------------------
    @property
    def groups(self) -> dict[str, Self]:
        """The lights by camera, night, target, filter, exposure and gain, in the order they appear."""
        found: dict[str, list[Frame]] = {}
        for frame in self.lights:
            found.setdefault(frame.group, []).append(frame)
        return {key: self.replace(frames=frames) for key, frames in found.items()}

    def group_table(self) -> list[dict[str, Any]]:
        """Return one row for each group: what it is, its frames, those in use and their seconds together."""
        rows = []
        for key, members in self.groups.items():
            first, used = members[0], members.used
            rows.append(
                {
                    "group": key,
                    "camera": first.camera,
                    "night": first.night,
                    "target": first.target,
                    "filter": first.filter,
                    "exposure": first.exposure,
                    "gain": first.gain,
                    "frames": len(members),
                    "used": len(used),
                    "seconds": round(sum(frame.exposure for frame in used), 3),
                }
            )
        return rows

    def summary(self) -> dict[str, Any]:
        """Return how many frames there are, how many are in use, and why the others are not.

        Darks, flats and stacks that lay beside the lights are no frames of the run and do not count.
        """
        candidates = [frame for frame in self.frames if frame.kind in ("light", "unknown")]
        aside = [{"path": frame.name, "reason": frame.reason} for frame in candidates if not frame.use]
        return {"total": len(candidates), "used": len(self.used), "set_aside": aside}

    def __repr__(self) -> str:
        return f"Frames({len(self)}: {len(self.used)} lights in use, {len(self.groups)} groups)"

    def _repr_html_(self) -> str:
        table = [{key: row[key] for key in row if key != "group"} for row in self.group_table()]
        aside = [frame for frame in self.frames if not frame.use]
        reasons = [
            {"frame": frame.name, "set aside because it": frame.reason} for frame in aside[:SHOWN_ROWS]
        ]
        more = f"<p>and {len(aside) - SHOWN_ROWS} more</p>" if len(aside) > SHOWN_ROWS else ""
        return _html_table(table) + _html_table(reasons) + more


def _html_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape('' if v is None else str(v))}</td>" for v in row.values())
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
