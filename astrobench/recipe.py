"""A recipe: the steps from raw frames to a picture, written down, repeatable."""

from __future__ import annotations

import json
import platform
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from astrobench.context import Context
from astrobench.cube import Cube
from astrobench.errors import InputError, ParameterError
from astrobench.frames import Frames
from astrobench.image import Image
from astrobench.report import Report
from astrobench.step import STEPS, Step

KINDS: tuple[type, ...] = (Frames, Cube, Image)
PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class RunResult:
    """What a run gives: the finished picture, the linear master and the account of it."""

    image: Image | None
    master: Image | None
    frames: Frames | None
    cube: Cube | None
    report: Report

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


@dataclass(frozen=True)
class Recipe:
    """An ordered list of steps whose ends meet.

    Parameters
    ----------
    steps : sequence of Step
    name, description : str
    made_with : mapping
        Versions and hashes of the inputs of the run that stored this recipe; empty for a new one.
    """

    steps: tuple[Step, ...]
    name: str = "recipe"
    description: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise ParameterError(f"The recipe '{self.name}' has no steps.")
        for before, after in pairwise(self.steps):
            if KINDS.index(before.gives) > KINDS.index(after.takes):
                raise ParameterError(
                    f"In the recipe '{self.name}', {after.name()} needs {after.takes.__name__} but comes after "
                    f"{before.name()}, which gives {before.gives.__name__}. Put it earlier."
                )
            if before.gives is not after.takes:
                raise ParameterError(
                    f"In the recipe '{self.name}', {before.name()} gives {before.gives.__name__} and {after.name()} "
                    f"needs {after.takes.__name__}: a step between them is missing."
                )

    # --- written down -----------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values; parameters at their defaults are written too."""
        steps = []
        for step in self.steps:
            values = {key: value for key, value in step.model_dump(mode="json").items() if value is not None}
            steps.append({"do": step.name(), **values})
        made = {"made_with": self.made_with} if self.made_with else {}
        return {"name": self.name, "description": self.description, **made, "step": steps}

    def to_toml(self) -> str:
        """Return the recipe as TOML text."""
        import tomli_w

        return tomli_w.dumps(self.to_dict())

    def to_json(self) -> str:
        """Return the recipe as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_dict(cls, content: dict[str, Any], source: str = "recipe") -> Recipe:
        """Make a recipe from plain values, or say in a sentence what is wrong with them."""
        import astrobench.steps  # noqa: F401  registers the steps

        listed = content.get("step")
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise ParameterError(f'{source} holds no steps: a recipe needs [[step]] tables with do = "...".')
        steps = []
        for number, each in enumerate(listed, 1):
            values = dict(each)
            name = values.pop("do", None)
            if name not in STEPS:
                raise ParameterError(
                    f"{source}, step {number}: '{name}' is no step. Known: {', '.join(sorted(STEPS))}."
                )
            steps.append(STEPS[name](**values))
        return cls(
            tuple(steps),
            name=str(content.get("name", source)),
            description=str(content.get("description", "")),
            made_with=dict(content.get("made_with", {})),
        )

    @classmethod
    def from_toml(cls, text: str, source: str = "recipe") -> Recipe:
        """Read a recipe from TOML text."""
        try:
            return cls.from_dict(tomllib.loads(text), source)
        except tomllib.TOMLDecodeError as error:
            raise ParameterError(f"{source} is not valid TOML: {error}.") from None

    @classmethod
    def from_json(cls, text: str, source: str = "recipe") -> Recipe:
        """Read a recipe from JSON text."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ParameterError(f"{source} is not valid JSON: {error}.") from None
        if not isinstance(content, dict):
            raise ParameterError(f"{source} is not a recipe: it holds no table.")
        return cls.from_dict(content, source)

    @classmethod
    def preset_names(cls) -> tuple[str, ...]:
        """Return the names of the recipes that come with astrobench."""
        return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))

    @classmethod
    def load(cls, source: str | Path) -> Recipe:
        """Read a recipe: a preset's name, a TOML or JSON file, or a picture that astrobench made."""
        name = str(source)
        if name in cls.preset_names():
            return cls.from_toml((PRESETS / f"{name}.toml").read_text(encoding="utf-8"), name)
        path = Path(source)
        if not path.is_file():
            raise InputError(
                f"'{name}' is neither a preset ({', '.join(cls.preset_names())}) nor a file. "
                "Give a preset's name, a recipe file or a picture made by astrobench."
            )
        if path.suffix.lower() == ".toml":
            return cls.from_toml(path.read_text(encoding="utf-8"), path.name)
        if path.suffix.lower() == ".json":
            return cls.from_json(path.read_text(encoding="utf-8"), path.name)
        from astrobench.files import open_image
        from astrobench.files.fits_image import read_recipe
        from astrobench.files.kinds import is_fits_name

        stored = read_recipe(path) if is_fits_name(path.name) else open_image(path).recipe
        if stored is None:
            raise InputError(f"{path.name} carries no recipe: it was not made by astrobench.")
        return cls.from_json(stored, path.name)

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """Return a copy with ``step.parameter=value`` settings applied."""
        steps = list(self.steps)
        for setting in settings:
            place, equals, text = setting.partition("=")
            step_name, dot, parameter = place.strip().partition(".")
            if not equals or not dot:
                raise ParameterError(f"'{setting}' is no setting; write step.parameter=value, e.g. stack.low=4.")
            found = [i for i, step in enumerate(steps) if step.name() == step_name]
            if not found:
                names = ", ".join(step.name() for step in steps)
                raise ParameterError(f"The recipe '{self.name}' has no step '{step_name}'. It has {names}.")
            for i in found:
                values = {**steps[i].model_dump(), parameter: _value(text.strip())}
                steps[i] = type(steps[i])(**values)
        return Recipe(tuple(steps), self.name, self.description, self.made_with)

    # --- carried out ------------------------------------------------------------------------------
    def run(self, source: Any, context: Context | None = None) -> RunResult:
        """Carry out the steps on frames, a cube, a picture, or the path of any of them.

        Steps that come before the kind of the input are skipped, each with a fact.
        """
        context = context or Context()
        report = context.report
        if not isinstance(source, KINDS):
            with report.step("input"):
                source = open_source(source, context)
        value = source
        report.run["recipe"] = self.name
        report.run["versions"] = versions()
        frames = value if isinstance(value, Frames) else None
        cube = value if isinstance(value, Cube) else None
        master = None
        shares = _shares(self.steps)
        for step, (low, high) in zip(self.steps, shares, strict=True):
            with report.step(step.name()), context.part(low, high):
                if KINDS.index(step.takes) < KINDS.index(type(value)):
                    kind = type(value).__name__.lower()
                    report.fact("skipped", "Skipped: the input is already {kind}.", kind=kind)
                    continue
                if type(value) is not step.takes:
                    raise ParameterError(
                        f"{step.name()} needs {step.takes.__name__}, but the input is {type(value).__name__}."
                    )
                context.progress(0.0, step.name())
                value = step.apply(value, context)
                if isinstance(value, Image):
                    value = value.replace(history=(*value.history, step.line()), recipe=self._stored(frames))
                context.progress(1.0, step.name())
            frames = value if isinstance(value, Frames) else frames
            if isinstance(value, Cube):
                cube, frames = value, value.frames
            if isinstance(value, Image) and step.takes is Cube:
                master = value
        image = value if isinstance(value, Image) else None
        if frames is not None:
            report.frames = frames.summary()
            report.groups = frames.group_table()
        return RunResult(image, master, frames, cube, report)

    def _stored(self, frames: Frames | None) -> str:
        """Return the recipe as it is stored in a picture: with versions and hashes of the inputs."""
        made: dict[str, Any] = {"versions": versions()}
        if frames is not None:
            made["inputs"] = {frame.path.name: frame.hash() for frame in frames if frame.use}
        return Recipe(self.steps, self.name, self.description, made).to_json()


def versions() -> dict[str, str]:
    """Return the versions that decide what a run computes."""
    found = {"python": platform.python_version()}
    for package in ("astrobench", "numpy", "numba", "scipy", "astropy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # pragma: no cover - a source tree on the path
            found[package] = "unknown"
    return found


def open_source(source: Any, context: Context) -> Frames | Image:
    """Scan frames, or open the one picture that was named."""
    paths = [source] if isinstance(source, str | Path) else list(source)
    if len(paths) == 1 and Path(paths[0]).is_file():
        from astrobench.files import open_image

        frames = Frames.scan(paths, context=context, named=True)
        if not frames.lights:
            return open_image(paths[0])
        return frames
    return Frames.scan(paths, context=context)


def _shares(steps: Sequence[Step]) -> list[tuple[float, float]]:
    """Split the progress bar by what the steps usually cost."""
    cost = {"frames": 1.0, "stack": 3.0, "finish": 0.5, "export": 0.3}
    weights = [cost[step.area] for step in steps]
    edges = [0.0]
    for weight in weights:
        edges.append(edges[-1] + weight / sum(weights))
    return list(pairwise(edges))


def _value(text: str) -> Any:
    """Read a setting's value as TOML would; what is no TOML value is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
