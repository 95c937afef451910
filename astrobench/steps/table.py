"""The table of steps and parameters: for the README, for the terminal, always from the declarations.

``python -m astrobench.steps.table README.md`` writes it between its two markers.
"""

from __future__ import annotations

import json
import sys
import textwrap
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from astrobench.errors import InputError
from astrobench.step import STEPS, Step, allowed

BEGIN = "<!-- steps: written by `make docs` from the code -->"
END = "<!-- end of steps -->"
NOUNS = {"Frames": "frames", "Cube": "registered samples", "Image": "picture"}
ORDER = Path(__file__).parents[1] / "presets" / "deep-sky.toml"
WIDTH = 100  # columns of a terminal


def in_order() -> list[type[Step]]:
    """Return every step: those of a deep-sky picture as they follow one another, then the others by name."""
    usual = [each["do"] for each in tomllib.loads(ORDER.read_text(encoding="utf-8"))["step"]]
    known = [name for name in usual if name in STEPS]
    return [STEPS[name] for name in (*known, *sorted(set(STEPS) - set(known)))]


def markdown_table(steps: Iterable[type[Step]] | None = None) -> str:
    """Return the steps as a Markdown table, followed by a folded table of parameters for each step."""
    steps = in_order() if steps is None else list(steps)
    lines = ["| step | what it does | takes | gives |", "|---|---|---|---|"]
    lines += [_row(f"`{each.name()}`", purpose(each), *_ends(each)) for each in steps]
    for each in steps:
        if not each.model_fields:
            continue
        lines += ["", f"<details><summary><code>{each.name()}</code></summary>", ""]
        lines += ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
        for name, field in each.model_fields.items():
            lines.append(_row(f"`{name}`", _code(field.default), allowed(field), field.description or ""))
        lines += ["", "</details>"]
    return "\n".join(lines)


def text_table(steps: Iterable[type[Step]] | None = None) -> str:
    """Return the steps and their parameters as plain text for a terminal."""
    lines: list[str] = []
    for each in in_order() if steps is None else steps:
        takes, gives = _ends(each)
        lines += [f"{each.name()} ({takes} -> {gives}): {purpose(each)}"]
        for name, field in each.model_fields.items():
            lines += _paragraph(f"{name} = {_written(field.default)}", field)
        lines.append("")
    return "\n".join(lines).rstrip()


def purpose(step: type[Step]) -> str:
    """Return the first sentence of a step's docstring."""
    return (step.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ").strip()


def with_table(text: str) -> str:
    """Return a Markdown text with the table between its markers written anew.

    Raises
    ------
    InputError
        If the text has not exactly one pair of markers.
    """
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise InputError(f"The text has no place for the table of steps. Mark it with {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{markdown_table()}\n\n{END}{after}"


def _ends(step: type[Step]) -> tuple[str, str]:
    return NOUNS[step.takes.__name__], NOUNS[step.gives.__name__]


def _row(*cells: str) -> str:
    escaped = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _written(default: Any) -> str:
    """Write a default as a recipe would; what is not set at all is left to the step."""
    return "not set" if default is None else json.dumps(default, ensure_ascii=False)


def _code(default: Any) -> str:
    return _written(default) if default is None else f"`{_written(default)}`"


def _paragraph(start: str, field: FieldInfo) -> list[str]:
    text = f"{start}  [{allowed(field)}]  {field.description or ''}"
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
