"""astrobench turns a night of raw frames of a smart telescope into a finished picture.

The names below are loaded when they are first used, so that ``import astrobench`` is quick.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astrobench.context import Context
    from astrobench.cube import Cube
    from astrobench.errors import (
        AstrobenchError,
        InputError,
        ParameterError,
        ProcessingError,
        Stopped,
    )
    from astrobench.explain import explain
    from astrobench.files import open_image, save_image
    from astrobench.frames import Frame, Frames
    from astrobench.image import Image
    from astrobench.integrate import integrate
    from astrobench.recipe import Recipe
    from astrobench.report import Report
    from astrobench.step import STEPS, Step

__version__ = "0.1.0"

__all__ = [
    "STEPS",
    "AstrobenchError",
    "Context",
    "Cube",
    "Frame",
    "Frames",
    "Image",
    "InputError",
    "ParameterError",
    "ProcessingError",
    "Recipe",
    "Report",
    "Step",
    "Stopped",
    "explain",
    "integrate",
    "open_image",
    "save_image",
]

_HOME = {
    "STEPS": "step",
    "AstrobenchError": "errors",
    "Context": "context",
    "Cube": "cube",
    "Frame": "frames",
    "Frames": "frames",
    "Image": "image",
    "InputError": "errors",
    "ParameterError": "errors",
    "ProcessingError": "errors",
    "Recipe": "recipe",
    "Report": "report",
    "Step": "step",
    "Stopped": "errors",
    "explain": "explain",
    "integrate": "integrate",
    "open_image": "files",
    "save_image": "files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'astrobench' has no attribute '{name}'")
    if name == "STEPS":
        import_module("astrobench.steps")  # each step registers itself when its module is loaded
    value = getattr(import_module(f"astrobench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``astrobench.integrate`` and ``astrobench.explain`` the functions of that name.

    Python binds a submodule in its package once it is loaded; whoever imports
    ``astrobench.integrate`` first would otherwise hide the function behind the module.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
