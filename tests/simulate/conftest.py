"""Simulated nights that several tests look at."""

from pathlib import Path

import pytest

from astrobench.simulate import Night, simulate_night


@pytest.fixture(scope="session")
def full_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return twelve small frames with everything switched on."""
    return simulate_night(tmp_path_factory.mktemp("full"), frames=12, shape=(480, 270), seed=5)


@pytest.fixture(scope="session")
def star_night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return five frames of nothing but stars on a flat sky, without noise, turning and dithered."""
    return simulate_night(
        tmp_path_factory.mktemp("stars"),
        frames=5, shape=(480, 270), seed=6, faults=False, noise=False, nebula=False, steady=True,
        stars=60, rotation=600.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def flat_nights(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Return sixteen frames that differ by their noise alone."""
    return simulate_night(
        tmp_path_factory.mktemp("still"),
        frames=16, shape=(480, 270), seed=7, faults=False, steady=True, rotation=0.0, dither=0.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def real_sub(subs: Path) -> Path:
    """Return a sub of a real Seestar."""
    return min((subs / "m94" / "a").glob("*.fit"))
