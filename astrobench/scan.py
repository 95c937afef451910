"""From files to frames: read the headers, tell the kinds, choose what runs together, and account for it."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from astrobench.context import Context
from astrobench.errors import InputError
from astrobench.files.choosing import choose, filter_class
from astrobench.files.finding import Found, Source, find_files, natural
from astrobench.files.fits import sample_pixels
from astrobench.files.headers import REPAIRS, HeaderFacts, read_facts
from astrobench.files.kinds import Kind, kind_of
from astrobench.files.layout import Layout, find_picture
from astrobench.files.names import read_name
from astrobench.frame import Frame
from astrobench.report import Report

READERS = 8  # headers on a network share wait for the network, not for the processor
UNIT_SCALE = 1.5  # float pixels below this are on a scale of 0 to 1
UNIT_SATURATION = 0.992  # 65000 / 65535
PEDESTAL_SHARE = 0.5  # a pedestal that a tenth of the pixels lie this far below is not there


@dataclass
class _Scanned:
    """A frame with what only the scan needs to know: which unit took it, and what was mended."""

    frame: Frame
    unit: str = ""
    repairs: dict[str, str] = field(default_factory=dict)


def scan_frames(
    source: Source | Iterable[Source], *, context: Context | None, named: bool, mix_filters: bool
) -> tuple[Frame, ...]:
    """Scan as `Frames.scan` describes."""
    context = context or Context()
    found = find_files(source)
    if not found.files:
        if named:
            return ()
        others = f"{found.ignored} files of other kinds" if found.ignored else "nothing else either"
        raise InputError(
            f"There is no FITS file in {found.root.name or 'this folder'} ({others}). Subs end in .fit or "
            ".fits; on a Seestar, saving single frames must be switched on."
        )
    scanned = sorted(_read_all(found, context), key=_by_time)
    _number_units(scanned)
    frames = [each.frame.replace(group=_group(each.frame)) for each in scanned]
    if named and len(frames) > 1 and not any(frame.kind == "light" for frame in frames):
        context.report.fact(
            "stacks_named", "All files are stacks and were named: they are stacked as lights."
        )
        frames = [
            frame.replace(kind="light") if frame.kind in ("stack", "picture") else frame for frame in frames
        ]
    frames = [_aside_if_finished(frame) for frame in frames]
    lights = {place: frame for place, frame in enumerate(frames) if frame.kind == "light"}
    for place, reason in choose(lights, mix_filters).items():
        frames[place] = frames[place].replace(use=False, reason=reason)
    _account(context.report, found, scanned, frames)
    return tuple(frames)


def _read_all(found: Found, context: Context) -> list[_Scanned]:
    """Read the headers on several threads; a file that cannot be read becomes a frame set aside."""
    scanned = []
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        paths = iter(found.files)
        while batch := list(islice(paths, 100)):
            scanned += list(pool.map(lambda path: _read_one(path, found.name_of(path)), batch))
            context.progress(len(scanned) / len(found.files), "reading headers")
    return scanned


def _read_one(path: Path, name: str) -> _Scanned:
    try:
        layout = find_picture(path)
        return _frame_of(layout, name)
    except InputError as error:
        reason = str(error).removeprefix(path.name).strip()
        return _Scanned(Frame(path=path, name=name, kind="unknown", use=False, reason=reason))


def _frame_of(layout: Layout, name: str) -> _Scanned:
    path, cards = layout.path, layout.cards
    shape = layout.shape
    planes = 3 if len(shape) == 3 else 1
    height, width = (shape[1:] if shape[0] == 3 else shape[:2]) if planes == 3 else shape
    told = read_name(path.name)
    facts = read_facts(
        cards, planes=planes, height=height, dtype=layout.dtype, name=told, folder=path.absolute().parent.name
    )
    kind = kind_of(cards, planes, told, path.absolute().parent.name)
    if kind == "unknown":
        kind = _kind_from_content(layout, planes, facts)
    values = {each.name: getattr(facts, each.name) for each in dataclasses.fields(facts)}
    repairs, unit = dict(values.pop("repairs")), values.pop("unit")
    values.update(_from_content(layout, facts.saturation, facts.pedestal, repairs))
    frame = Frame(
        path=path,
        name=name,
        hdu=layout.hdu,
        width=width,
        height=height,
        planes=planes,
        dtype=layout.dtype,
        kind=kind,
        layout=dataclasses.replace(layout, cards={}),
        **values,
    )
    return _Scanned(frame, unit, repairs)


def _from_content(
    layout: Layout, saturation: float, pedestal: float, repairs: dict[str, str]
) -> dict[str, float]:
    """Look at a few thousand pixels where the header leaves the scale or the pedestal open."""
    is_open = pedestal > 0 or (layout.bitpix < 0 and "SATURATE" not in layout.cards)
    sample = sample_pixels(layout) if is_open else None
    if sample is None or not sample.size:
        return {}
    values = {}
    if layout.bitpix < 0 and "SATURATE" not in layout.cards and float(sample.max()) <= UNIT_SCALE:
        values["saturation"] = UNIT_SATURATION
    if pedestal > 0 and float(np.percentile(sample, 10)) < PEDESTAL_SHARE * pedestal:
        repairs["pedestal_absent"] = f"{pedestal:g}"
        values["pedestal"] = 0.0
    return values


def _kind_from_content(layout: Layout, planes: int, facts: HeaderFacts) -> Kind:
    """Tell a finished picture from a sub where neither header nor name says anything.

    Three colours on a scale of 0 to 1, without exposure and date, are what picture programs write.
    """
    if planes == 3 and layout.bitpix < 0 and not facts.exposure and facts.date is None:
        sample = sample_pixels(layout)
        if sample is not None and sample.size and float(sample.max()) <= 1.0:
            return "picture"
    return "light"


def _by_time(each: _Scanned) -> tuple[bool, float, list[tuple[int, int, str]]]:
    date = each.frame.date
    return date is None, date.timestamp() if date else 0.0, natural(Path(each.frame.name))


def _number_units(scanned: Sequence[_Scanned]) -> None:
    """Tell telescopes of one model apart by a number, in the order of their first frame."""
    units: dict[str, list[str]] = defaultdict(list)
    for each in scanned:
        if each.unit and each.unit not in units[each.frame.camera]:
            units[each.frame.camera].append(each.unit)
    for each in scanned:
        known = units[each.frame.camera]
        if len(known) > 1 and each.unit:
            number = known.index(each.unit) + 1
            each.frame = each.frame.replace(camera=f"{each.frame.camera} no. {number}")


def _group(frame: Frame) -> str:
    parts = [frame.camera, frame.night, frame.target, frame.filter]
    parts += [f"{frame.exposure:g} s"] if frame.exposure else []
    parts += [f"gain {frame.gain:g}"] if frame.gain is not None else []
    return ", ".join(part for part in parts if part) or "all"


def _aside_if_finished(frame: Frame) -> Frame:
    if frame.kind not in ("stack", "picture") or not frame.use:
        return frame
    word = "stack" if frame.kind == "stack" else "finished picture"
    return frame.replace(use=False, reason=f"is a {word}, not a raw frame")


# --- the account ----------------------------------------------------------------------------------
def _account(report: Report, found: Found, scanned: Sequence[_Scanned], frames: Sequence[Frame]) -> None:
    counts: Counter[str] = Counter(frame.kind for frame in frames)
    lights = [frame for frame in frames if frame.kind == "light"]
    report.fact(
        "found",
        "{files} FITS files found, {lights} of them lights; {used} can be used."
        + (" {ignored} files of other kinds were passed by." if found.ignored else ""),
        files=len(frames),
        lights=len(lights),
        used=sum(frame.use for frame in lights),
        ignored=found.ignored,
    )
    for kind, word in (("dark", "darks"), ("flat", "flats"), ("bias", "bias frames"), ("stack", "stacks")):
        if counts[kind]:
            report.fact(
                "beside",
                "{count} {word} lie beside the lights; they are not stacked.",
                count=counts[kind],
                word=word,
            )
    if counts["picture"]:
        report.fact(
            "beside",
            "{count} finished pictures lie beside the lights; they are not stacked.",
            count=counts["picture"],
        )
    if found.outputs:
        report.fact("outputs", "{count} folders of earlier results were not searched.", count=found.outputs)
    _account_of_repairs(report, scanned)
    for reason, count, example in _reasons(frames):
        text = "{count} frames are set aside, {example} among them: it {reason}."
        if count == 1:
            text = "{example} is set aside: it {reason}."
        report.fact("set_aside", text, "warning", count=count, example=example, reason=reason.rstrip("."))
    named_filters = {frame.filter for frame in lights if frame.use}
    if len({filter_class(frame) for frame in lights if frame.use}) > 1:
        listed = ", ".join(sorted(each or "none" for each in named_filters))
        report.fact(
            "filters", "Frames through different filters run together, as asked: {filters}.", filters=listed
        )


def _account_of_repairs(report: Report, scanned: Sequence[_Scanned]) -> None:
    """Add one fact for each kind of repair, however many frames it met."""
    met: dict[str, list[str]] = defaultdict(list)
    for each in scanned:
        for code, value in each.repairs.items():
            met[code].append(value)
    for code, text in REPAIRS.items():
        if code in met:
            values = list(dict.fromkeys(met[code]))
            listed = ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
            report.fact(f"header.{code}", text, count=len(met[code]), value=listed)


def _reasons(frames: Sequence[Frame]) -> list[tuple[str, int, str]]:
    """Return each reason with its count and one frame's name."""
    counted: dict[str, list[str]] = defaultdict(list)
    for frame in frames:
        if not frame.use and frame.kind in ("light", "unknown"):
            counted[frame.reason].append(frame.name)
    return [(reason, len(names), names[0]) for reason, names in counted.items()]
