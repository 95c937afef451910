"""How a step meets the outside: progress, stop, memory, scratch, workers, report."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from astrobench.errors import Stopped
from astrobench.report import Report

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[float, str], None]

LOOK_SECONDS = 0.2  # how often a stop is looked for while work goes on in other threads
LEAVE_SECONDS = 0.3  # how long work in flight may finish after a stop; then it is left behind


def _nothing(fraction: float, text: str) -> None:
    """Progress that nobody watches."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_memory_budget() -> int:
    """Return half of the free memory, in bytes."""
    import psutil

    return int(psutil.virtual_memory().available) // 2


def default_scratch() -> Path:
    """Return the folder for scratch files and the cache of registered frames."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("astrobench"))


@dataclass
class Context:
    """What a step may use and whom it tells.

    Parameters
    ----------
    progress_to : callable
        Receives ``(fraction, text)``, fraction in [0, 1] over the whole run.
    memory_budget : int
        Bytes that the buffers of a step may take together (half of the free memory if not given).
    scratch : Path
        Folder for scratch files; made when first needed.
    workers : int
        Threads for heavy work.
    report : Report
        Where facts go.
    use_cache : bool
        Whether registered frames may be taken from and kept in the cache.
    output : Path or None
        Folder that `Export` writes to.
    private : bool
        Leave site coordinates and serial numbers out of everything that is written.
    is_ending : bool
        Whether work has begun to end because of a stop; what comes now is tidying up.
    """

    progress_to: Progress = _nothing
    memory_budget: int = field(default_factory=default_memory_budget)
    scratch: Path = field(default_factory=default_scratch)
    workers: int = field(default_factory=usable_cores)
    report: Report = field(default_factory=Report)
    use_cache: bool = True
    output: Path | None = None
    private: bool = True
    is_ending: bool = field(default=False, init=False, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _span: tuple[float, float] = field(default=(0.0, 1.0), repr=False)

    def stop(self) -> None:
        """Ask the running step to stop at its next check."""
        self._stop.set()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def check_stop(self) -> None:
        """Raise `Stopped` if somebody asked for it."""
        if self._stop.is_set():
            self.is_ending = True
            raise Stopped("Stopped on request. Nothing half-written was left behind.")

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the current step is (0 to 1), and stop here if asked to."""
        self.check_stop()
        low, high = self._span
        self.progress_to(low + (high - low) * min(max(fraction, 0.0), 1.0), text)

    @contextmanager
    def part(self, low: float, high: float) -> Iterator[None]:
        """Map progress 0..1 inside to low..high of the current span."""
        outer = self._span
        width = outer[1] - outer[0]
        self._span = (outer[0] + width * low, outer[0] + width * high)
        try:
            yield
        finally:
            self._span = outer

    def map(
        self, work: Callable[[T], R], items: Iterable[T], text: str = "", workers: int | None = None
    ) -> list[R]:
        """Apply `work` to every item on `workers` threads, in order, with progress and stop.

        `workers` is fewer where the memory does not allow as many as the context has. At most two items a
        worker are in flight, so that memory stays bounded. A stop is noticed within `LOOK_SECONDS`, however long
        one item takes; what is in flight then is left to itself.
        """
        items = list(items)
        results: list[R] = []
        waiting: list[Future[R]] = []
        workers = max(1, workers or self.workers)
        pool = ThreadPoolExecutor(max_workers=workers)
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * workers:
                    results.append(self._outcome(waiting[0]))
                    del waiting[0]
                    self.progress(len(results) / len(items), text)
            while waiting:
                results.append(self._outcome(waiting[0]))
                del waiting[0]
                self.progress(len(results) / len(items), text)
        finally:
            pool.shutdown(wait=not self.is_stopped, cancel_futures=True)
            if self.is_stopped:
                wait([future for future in waiting if not future.cancelled()], LEAVE_SECONDS)
        return results

    def _outcome(self, future: Future[R]) -> R:
        """Wait for the result of work on another thread, and for a stop."""
        while not wait([future], LOOK_SECONDS).done:
            self.check_stop()
        return future.result()
