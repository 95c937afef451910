"""A processing step: a verb with declared parameters and one method that does the work.

From the one declaration come validation with a sentence, TOML and JSON, the command line's ``--set``,
the table in the README, the controls of a panel and the line of Python that a panel shows.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from astrobench.context import Context
from astrobench.errors import ParameterError

Area = Literal["frames", "stack", "finish", "export"]


def param(
    default: Any,
    description: str,
    *,
    label: str | None = None,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    log_scale: bool = False,
    advanced: bool = False,
) -> Any:
    """Declare a parameter of a step: its default, what it means, its range and unit.

    Parameters
    ----------
    default : Any
        Value where the user says nothing; it must be valid itself.
    description : str
        One sentence for help texts.
    label : str, optional
        Short name for a control; the field's name in words if not given.
    unit : str
        Unit as shown beside the control: ``"px"``, ``"sigma"``, ``"ADU"``, ...
    ge, gt, le, lt : float, optional
        Bounds.
    log_scale : bool
        Whether a slider should be logarithmic.
    advanced : bool
        Whether a form folds it away.
    """
    extra: dict[str, Any] = {"label": label, "unit": unit, "log_scale": log_scale, "advanced": advanced}
    return Field(
        default, description=description, ge=ge, gt=gt, le=le, lt=lt, validate_default=True, json_schema_extra=extra
    )


class Step(BaseModel):
    """Base of every step. A subclass is registered in `STEPS` under its name in snake case."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    area: ClassVar[Area]
    takes: ClassVar[type]
    gives: ClassVar[type]

    def __init__(self, **parameters: Any) -> None:
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise ParameterError(_sentence(type(self), error)) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__module__.startswith("astrobench."):
            STEPS[cls.name()] = cls

    @classmethod
    def name(cls) -> str:
        """Return the name in recipes and on the command line, for example ``remove_gradient``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def apply(self, value: Any, context: Context) -> Any:
        """Do the work: return a new value and leave the input untouched."""
        raise TypeError(f"{type(self).__name__} does not say how it is applied.")

    def changed(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as plain values."""
        fields = type(self).model_fields
        plain = self.model_dump(mode="json")
        return {key: plain[key] for key in fields if getattr(self, key) != fields[key].default}

    def line(self) -> str:
        """Return the line of Python that makes this step."""
        values = {key: getattr(self, key) for key in self.changed()}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in values.items())})"


STEPS: dict[str, type[Step]] = {}


def allowed(field: FieldInfo) -> str:
    """Say in words which values a parameter takes: ``"above 0 to 10 sigma"``, ``"one of a, b, c"``."""
    choices = _choices(field.annotation)
    if choices:
        return "one of " + ", ".join(str(each) for each in choices)
    unit = (field.json_schema_extra or {}).get("unit", "") if isinstance(field.json_schema_extra, dict) else ""
    low = high = ""
    for bound in field.metadata:
        if getattr(bound, "ge", None) is not None:
            low = f"{bound.ge:g}"
        if getattr(bound, "gt", None) is not None:
            low = f"above {bound.gt:g}"
        if getattr(bound, "le", None) is not None:
            high = f"{bound.le:g}"
        if getattr(bound, "lt", None) is not None:
            high = f"below {bound.lt:g}"
    suffix = f" {unit}" if unit else ""
    if low and high:
        return f"{low} to {high}{suffix}"
    if low:
        return f"{low} or more{suffix}" if not low.startswith("above") else f"{low}{suffix}"
    if high:
        return f"{high} or less{suffix}" if not high.startswith("below") else f"{high}{suffix}"
    if field.annotation is bool:
        return "true or false"
    return f"any {_kind(field.annotation)}{suffix}"


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a Literal, also inside an optional or a tuple."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    for each in get_args(annotation):
        found = _choices(each)
        if found:
            return found
    return ()


def _kind(annotation: Any) -> str:
    names = {float: "number", int: "whole number", str: "text"}
    if annotation in names:
        return names[annotation]
    inner = [each for each in get_args(annotation) if each not in (type(None), Ellipsis)]
    return "list" if get_origin(annotation) in (tuple, list) else _kind(inner[0]) if inner else "value"


def _sentence(step: type[Step], error: ValidationError) -> str:
    """Rewrite what pydantic says into a sentence with the name, the value and what is allowed."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    fields = step.model_fields
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, fields, 1, 0.5)
        hint = f" Did you mean {near[0]}?" if near else f" It has {', '.join(fields) or 'no parameters'}."
        return f"{step.name()} has no parameter '{name}'.{hint}"
    if name not in fields:
        return f"{step.name()}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] == "value_error":
        return f"{step.name()}.{name}: {first['msg'].removeprefix('Value error, ')}"
    given = first["input"]
    return f"{step.name()}.{name} is {given!r}; allowed: {allowed(fields[name])}."
