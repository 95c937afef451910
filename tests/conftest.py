"""What every test shares: real frames where they are, a cache of its own, no network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
LOCAL = ("127.", "localhost", "::1")

# Compilation happens inside the first example, so there is no deadline; CI must not fail by chance.
settings.register_profile("astrobench", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("astrobench")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep tests and the processes they start away from the user's cache of registered frames."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """Refuse every connection that leaves this machine: astrobench works without a network."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        leaves = self.family != getattr(socket, "AF_UNIX", None) and not str(address[0]).startswith(LOCAL)
        if leaves:
            raise OSError(f"A test tried to reach {address[0]}; astrobench must work without a network.")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_only)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with judges and packed real subs beside the repository; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name}/ beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def subs(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the real subs m94/a, m94/b, m94/c and m27; the test is skipped without them.

    ``ASTROBENCH_SUBS`` names it; else the packed subs of the shared folder are unpacked once
    into pytest's cache.
    """
    named = os.environ.get("ASTROBENCH_SUBS")
    if named:
        return Path(named)
    unpack = SHARED / "data" / "unpack.py"
    if not unpack.is_file():
        pytest.skip("no real subs: set ASTROBENCH_SUBS to the folder that holds m94/a and m27")
    cache = getattr(pytestconfig, "cache", None)
    folder = Path(cache.mkdir("subs")) if cache else tmp_path_factory.mktemp("subs")
    subprocess.run([sys.executable, unpack, folder], check=True, capture_output=True)
    return folder
