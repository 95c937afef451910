"""What is compiled ahead is what a run needs, and a run waits for it."""

from __future__ import annotations

import numpy as np
import pytest

from astrobench import doctor
from astrobench.kernels import integrate
from astrobench.kernels.integrate_blocks import integrate_range
from astrobench.kernels.star_shape import measure
from astrobench.kernels.stars import detect


def test_stars_compiled_ahead_are_the_ones_a_run_measures() -> None:
    doctor.compile_stars()
    before = len(measure.signatures)
    y, x = np.mgrid[:200, :200]
    noise = np.random.default_rng(1).standard_normal((200, 200))
    star = 500 * np.exp(-0.5 * ((x - 100) ** 2 + (y - 90) ** 2) / 1.6**2)
    found, _, _ = detect((1000 + noise + star).astype(np.float32))
    assert len(found.x) == 1
    assert len(measure.signatures) == before


def test_one_kernel_integrates_every_kind_of_samples() -> None:
    doctor.compile_integration()
    before = len(integrate_range.signatures)
    x = np.ones((7, 300), np.float32)
    for samples in (x, x.astype(np.uint16), x[:, ::2], np.asfortranarray(x)):
        integrate.integrate_samples(samples, rule="sigma", weight=np.arange(7.0), threads=2)
    x.flags.writeable = False
    integrate.integrate_samples(x, judged=x, share=x, combine="median")
    assert len(integrate_range.signatures) == before


def test_integration_waits_for_another_process_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [True, True, False]
    monkeypatch.setattr(integrate, "compiling_elsewhere", [lambda: answers.pop(0)])
    looks: list[None] = []
    result = integrate.integrate_samples(np.ones((3, 5), np.float32), check=lambda: looks.append(None))
    assert answers == [] and integrate.compiling_elsewhere == []
    assert len(looks) == 3, "two while waiting, one for the range"
    assert (result.value == 1).all()


def test_waiting_for_another_process_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrate, "compiling_elsewhere", [lambda: True])

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        integrate.integrate_samples(np.ones((3, 5), np.float32), check=stop)
