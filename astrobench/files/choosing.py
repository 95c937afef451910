"""Choose which lights of a scan run together: one target, one kind of filter, one shape for each camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from astrobench.files.names import target_key
from astrobench.files.sky import separation

SAME_FIELD = 0.3  # degrees between pointings of one target under two names
BROADBAND = ("", "ircut", "ir-cut", "ir cut", "uvir", "uv/ir", "uv-ir", "uv/ir cut")


class Known(Protocol):
    """What the choice looks at; a `Frame` is one."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def camera(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102
    @property
    def filter(self) -> str: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def planes(self) -> int: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102
    @property
    def bayer(self) -> str | None: ...  # noqa: D102
    @property
    def date(self) -> datetime | None: ...  # noqa: D102
    @property
    def ra(self) -> float | None: ...  # noqa: D102
    @property
    def dec(self) -> float | None: ...  # noqa: D102


K = TypeVar("K", bound=Known)


def choose(frames: Mapping[int, K], mix_filters: bool) -> dict[int, str]:
    """Return the frames to set aside, each with the reason and the remedy.

    Parameters
    ----------
    frames : mapping of int to frame
        The lights, by their place in the scan.
    mix_filters : bool
        Whether frames through different filters may run together.
    """
    aside: dict[int, str] = {}
    rules = [_copies, _other_targets, *([] if mix_filters else [_other_filters]), _other_shapes]
    for rule in rules:
        left = {place: frame for place, frame in frames.items() if place not in aside}
        aside.update(rule(left))
    return aside


def filter_class(frame: Known) -> str:
    """Return the filter as it is compared; for a colour camera an infrared cut is as good as no filter."""
    name = frame.filter.strip().lower()
    is_colour = frame.bayer is not None or frame.planes == 3
    return "broadband" if is_colour and name in BROADBAND else name


def _copies(frames: Mapping[int, K]) -> dict[int, str]:
    """Set aside the second copy of one exposure, met in another folder."""
    first: dict[Hashable, str] = {}
    aside = {}
    for place, frame in frames.items():
        if frame.date is None:
            continue
        key = (frame.camera, frame.date, frame.path.name, frame.width, frame.height, frame.planes)
        if key in first:
            aside[place] = f"is a copy of {first[key]}"
        else:
            first[key] = frame.name
    return aside


def _other_targets(frames: Mapping[int, K]) -> dict[int, str]:
    names = _one_name_for_each_field(list(frames.values()))
    keys = {place: names.get(target_key(frame.target), "") for place, frame in frames.items() if frame.target}
    main = _largest(keys.values())
    return {
        place: f"shows {frames[place].target}, while most frames show "
        f"{next(frames[i].target for i in keys if keys[i] == main)}; run it on its own"
        for place, key in keys.items()
        if key != main
    }


def _one_name_for_each_field(frames: Sequence[Known]) -> dict[str, str]:
    """Map each target's key to the key of the first target that lies in the same field."""
    first: dict[str, Known] = {}
    for frame in frames:
        key = target_key(frame.target)
        if key and (key not in first or first[key].ra is None):
            first[key] = frame
    names: dict[str, str] = {}
    for key, frame in first.items():
        same = (other for other in names if names[other] == other and _is_near(first[other], frame))
        names[key] = next(same, key)
    return names


def _is_near(one: Known, other: Known) -> bool:
    if one.ra is None or one.dec is None or other.ra is None or other.dec is None:
        return False
    return separation(one.ra, one.dec, other.ra, other.dec) < SAME_FIELD


def _other_filters(frames: Mapping[int, K]) -> dict[int, str]:
    keys = {place: filter_class(frame) for place, frame in frames.items()}
    main = _largest(keys.values())
    remedy = "run it on its own, or allow filters to be mixed"
    return {
        place: f"was taken through {_filter_words(key)}, most frames through {_filter_words(main)}; {remedy}"
        for place, key in keys.items()
        if key != main
    }


def _filter_words(key: str) -> str:
    if key == "broadband":
        return "no filter or an infrared cut"
    return f"the filter {key.upper()}" if key else "no filter"


def _other_shapes(frames: Mapping[int, K]) -> dict[int, str]:
    """Set aside what differs from the frames of its own camera; cameras may differ from each other."""
    aside = {}
    for camera in sorted({frame.camera for frame in frames.values()}):
        own = {place: frame for place, frame in frames.items() if frame.camera == camera}
        for describe in (_shape, _storage):
            left = {place: describe(frame) for place, frame in own.items() if place not in aside}
            main = _largest(left.values())
            aside.update(
                {
                    place: f"is {text}, while the other frames of {camera or 'its camera'} are {main}"
                    for place, text in left.items()
                    if text != main
                }
            )
    return aside


def _shape(frame: Known) -> str:
    return f"{frame.width} x {frame.height} pixels" + (" in three colours" if frame.planes == 3 else "")


def _storage(frame: Known) -> str:
    return f"stored as {frame.dtype}"


def _largest(keys: Iterable[str]) -> str:
    """Return the most frequent key; of equals the first."""
    counted = Counter(keys)
    return max(counted, key=counted.__getitem__) if counted else ""
