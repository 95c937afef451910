"""The account of a run: every decision that was taken for the user, with its numbers."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

Level = Literal["info", "warning"]


@dataclass(frozen=True)
class Fact:
    """One decision or finding.

    Parameters
    ----------
    step : str
        Name of the step that found it, for example ``"register"``.
    code : str
        Stable name for programs and tests, for example ``"reference"``.
    text : str
        A sentence for people, numbers filled in.
    numbers : Mapping
        The figures behind the sentence.
    level : {"info", "warning"}
        Whether somebody should look at it.
    """

    step: str
    code: str
    text: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    level: Level = "info"

    def to_dict(self) -> dict[str, Any]:
        """Return the fact as plain values for JSON."""
        plain = {key: _plain(value) for key, value in self.numbers.items()}
        return {"step": self.step, "code": self.code, "text": self.text, "level": self.level, "numbers": plain}


@dataclass
class StepRecord:
    """Time and facts of one step of a run."""

    name: str
    seconds: float = 0.0
    facts: list[Fact] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values for JSON."""
        return {
            "name": self.name,
            "seconds": round(self.seconds, 3),
            "facts": [fact.to_dict() for fact in self.facts],
        }


class Report:
    """Collects facts step by step; shows itself as a table in a notebook."""

    def __init__(self) -> None:
        self.steps: list[StepRecord] = []
        self.frames: dict[str, Any] = {}
        self.groups: list[dict[str, Any]] = []
        self.run: dict[str, Any] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[StepRecord]:
        """Open a step: facts added inside belong to it and its time is taken."""
        record = StepRecord(name)
        self.steps.append(record)
        start = perf_counter()
        try:
            yield record
        finally:
            record.seconds = perf_counter() - start

    def fact(self, code: str, text: str, level: Level = "info", **numbers: Any) -> Fact:
        """Add a fact to the open step; `text` is a format string over `numbers`."""
        if not self.steps:
            self.steps.append(StepRecord("input"))
        record = self.steps[-1]
        fact = Fact(record.name, code, text.format(**numbers) if numbers else text, numbers, level)
        record.facts.append(fact)
        return fact

    @property
    def facts(self) -> list[Fact]:
        """All facts in the order in which they were found."""
        return [fact for record in self.steps for fact in record.facts]

    @property
    def warnings(self) -> list[Fact]:
        """Facts that somebody should look at."""
        return [fact for fact in self.facts if fact.level == "warning"]

    def find(self, code: str) -> list[Fact]:
        """Return the facts with this code."""
        return [fact for fact in self.facts if fact.code == code]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as plain values for JSON."""
        return {
            **_plain(self.run),
            "frames": _plain(self.frames),
            "groups": _plain(self.groups),
            "steps": [record.to_dict() for record in self.steps],
        }

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        lines = [f"{record.name} ({record.seconds:.1f} s)" for record in self.steps]
        return f"Report({len(self.facts)} facts, {len(self.warnings)} warnings: " + ", ".join(lines) + ")"

    def _repr_html_(self) -> str:
        rows = []
        for record in self.steps:
            rows.append(f"<tr><th colspan=2>{html.escape(record.name)} &middot; {record.seconds:.1f} s</th></tr>")
            for fact in record.facts:
                mark = "&#9888;" if fact.level == "warning" else ""
                rows.append(f"<tr><td>{mark}</td><td style='text-align:left'>{html.escape(fact.text)}</td></tr>")
        return "<table>" + "".join(rows) + "</table>"


def _plain(value: Any) -> Any:
    """Turn numpy values, paths and tuples into what JSON can hold; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Path):
        return value.as_posix()
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)
