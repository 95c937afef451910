"""One simulated night, stacked once for all tests of truth."""

from __future__ import annotations

import pytest

from astrobench.context import Context
from astrobench.recipe import Recipe, RunResult
from astrobench.simulate import Night, simulate_night


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Thirty full frames with clouds, a defocused and a trailed frame, satellites and cosmic rays."""
    return simulate_night(tmp_path_factory.mktemp("night"), frames=30, seed=4)


@pytest.fixture(scope="session")
def run(night: Night, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """The night as `linear-for-other-tools` stacks it, defaults everywhere."""
    steps = [step for step in Recipe.load("linear-for-other-tools").steps if step.area != "export"]
    context = Context(scratch=tmp_path_factory.mktemp("scratch"))
    return Recipe(tuple(steps)).run(night.paths[0].parent, context)
