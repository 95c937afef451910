"""The process that unpacks tile-compressed FITS for `tiles`; it needs astropy alone and ends with its input.

Reads one JSON request a line, ``{"path": ..., "hdu": ..., "memory": bytes}``; answers with one JSON line,
``{"dtype": ..., "shape": ...}`` followed by the pixels, or ``{"error": ...}``.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any, BinaryIO


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    warnings.simplefilter("ignore")
    for line in requests:
        request = json.loads(line)
        try:
            _limit_memory(int(request["memory"]))
            data = _unpack(request["path"], request["hdu"])
        except Exception as error:  # astropy raises a dozen kinds on damaged files
            answers.write(json.dumps({"error": type(error).__name__}).encode() + b"\n")
        else:
            answers.write(json.dumps({"dtype": data.dtype.str, "shape": data.shape}).encode() + b"\n")
            answers.write(data.data)
        answers.flush()


def _unpack(path: str, hdu: int) -> Any:
    import numpy as np
    from astropy.io import fits

    with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
        data = np.asarray(hdus[hdu].data)
    is_short = data.dtype.kind == "u" and data.dtype.itemsize <= 2
    return np.array(data, dtype=np.uint16 if is_short else np.float32, order="C")


def _limit_memory(extra: int) -> None:
    """Let this process grow by so much and no more; a damaged tile can ask for anything."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError):  # only Linux tells and limits this
        return


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
