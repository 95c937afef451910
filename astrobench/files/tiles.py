"""Unpack tile-compressed FITS (.fz) in a process of its own.

A damaged tile can crash the decompressor (measured: HCOMPRESS aborts, RICE reads out of bounds); here it
ends a helper, and the run goes on with a sentence. Helpers stay for the next file: starting one takes 0.5 s.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from astrobench.errors import InputError

WORKER = Path(__file__).with_name("tile_worker.py")
ROOM = 512 << 20  # bytes beside the picture itself, several times, that unpacking may take
COPIES = 8
SECONDS = 4.0  # to start and to unpack a megapixel many times over ...
SECONDS_A_PIXEL = 1e-6  # ... and for large pictures; RICE takes 1.5e-8

_idle: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def unpack_tiles(path: Path, hdu: int, pixels: int) -> NDArray[Any]:
    """Return the pixels of a tile-compressed HDU as uint16 or float32.

    Raises
    ------
    InputError
        If the tiles are damaged, whether that raises an error, crashes or never ends.
    """
    worker = _take()
    clock = threading.Timer(SECONDS + pixels * SECONDS_A_PIXEL, worker.kill)
    clock.start()
    try:
        memory = ROOM + COPIES * 4 * pixels
        request = {"path": str(path.absolute()), "hdu": hdu, "memory": memory}
        array = _ask(worker, request, pixels)
    except (EOFError, OSError, ValueError):
        _end(worker)
        array = None
    except BaseException:
        _end(worker)
        raise
    finally:
        clock.cancel()
    if worker.poll() is None:
        with _lock:
            _idle.append(worker)
    if array is None:
        raise InputError(f"{path.name} cannot be decoded: it is damaged. Copy it again.")
    return array


def _ask(worker: subprocess.Popen[bytes], request: dict[str, Any], pixels: int) -> NDArray[Any] | None:
    requests, answers = cast(BinaryIO, worker.stdin), cast(BinaryIO, worker.stdout)
    requests.write(json.dumps(request).encode() + b"\n")
    requests.flush()
    line = answers.readline()
    if not line:
        raise EOFError
    answer = json.loads(line)
    if "error" in answer:
        return None
    array: NDArray[Any] = np.empty(tuple(answer["shape"]), answer["dtype"])
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = answers.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return array if array.size == pixels else None


def _take() -> subprocess.Popen[bytes]:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
    try:
        return subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"No helper to unpack .fz files could be started: {reason}.") from None


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    for stream in (worker.stdin, worker.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # what was not yet written to a helper that is gone
                continue
    worker.wait()


@atexit.register
def end_helpers() -> None:
    """End the idle helpers."""
    with _lock:
        while _idle:
            _end(_idle.pop())
