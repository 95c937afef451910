"""Say what is installed and how much machine there is, and compile the kernels."""

from __future__ import annotations

import gc
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from astrobench.context import Context

OPTIONAL = ("jupyterlab", "ipywidgets", "voila", "bokeh", "papermill")


def examine() -> Iterator[str]:
    """Yield the findings as lines of text."""
    from astrobench.recipe import versions

    context = Context()
    yield ", ".join(f"{name} {number}" for name, number in versions().items())
    yield f"{platform.system()} {platform.machine()}, {context.workers} cores"
    yield f"memory: {context.memory_budget / 1e9:.1f} GB for buffers (half of what is free)"
    folder = context.scratch
    while not folder.exists():
        folder = folder.parent
    yield f"scratch: {context.scratch}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free"
    for package in OPTIONAL:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package}: not installed; pip install 'astrobench[workbench]' brings it"
    start = time.perf_counter()
    warm_up()
    yield f"kernels ready in {time.perf_counter() - start:.1f} s; from now on they load from the cache"


def compile_ahead() -> subprocess.Popen[bytes]:
    """Compile half of the kernels in a process of its own, while this one simulates, measures and registers.

    A process compiles on one core only; both share the cache on disk. The integration kernel alone takes a third
    of all compilation, so this process waits for it rather than compile it a second time.
    """
    work = "from astrobench.doctor import compile_half; compile_half()"
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, "-c", work], stdin=nowhere, stdout=nowhere, stderr=nowhere)
    from astrobench.kernels.integrate import compiling_elsewhere  # takes a second, which the other one uses

    compiling_elsewhere.append(lambda: process.poll() is None)
    return process


def compile_half() -> None:
    """Compile what measures stars, needed first, and the kernel that rejects and combines; or load them."""
    gc.disable()  # a twelfth of the time goes into looking for garbage among what the compiler keeps
    compile_stars()
    compile_integration()
    gc.enable()


def compile_stars() -> None:
    """Compile the kernels that measure the shapes of stars and their light, or load them from the cache."""
    import numpy as np

    from astrobench.kernels.brightness import stamp_fluxes
    from astrobench.kernels.star_shape import measure

    plane, place = np.zeros((48, 48), np.float32), np.array([[24, 24]])
    measure(plane, plane, place, 1.5, 6.0)
    stamps, everywhere = np.zeros((1, 9, 9), np.float32), np.ones((9, 9), np.bool_)
    stamp_fluxes(stamps, stamps, everywhere, everywhere, 1.0, np.empty((1, 2)), np.empty(1))


def compile_integration() -> None:
    """Compile the kernel that rejects and combines, or load it from the cache."""
    import numpy as np

    from astrobench.kernels.integrate import integrate_samples

    integrate_samples(np.ones((5, 256), np.float32))


def warm_up() -> None:
    """Run a tiny night through every kernel, so that everything is compiled and cached."""
    from astrobench.recipe import Recipe
    from astrobench.simulate import simulate_night

    with tempfile.TemporaryDirectory(prefix="astrobench-") as folder:
        night = simulate_night(Path(folder) / "night", frames=6, shape=(480, 270), faults=False, workers=1)
        context = Context(scratch=Path(folder) / "scratch", output=Path(folder) / "out")
        (Path(folder) / "out").mkdir()
        Recipe.load("deep-sky").run(night.paths[0].parent, context)
