"""What a run will take is told before it starts, and what will not fit is refused."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from astrobench import Context, Frames, ProcessingError, Recipe
from astrobench.estimate import duration, estimate
from astrobench.simulate import simulate_night

FRAMES, HEIGHT, WIDTH = 8, 480, 270
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="session")
def night(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "small-night"
    if not folder.exists():
        simulate_night(folder, frames=FRAMES, shape=(HEIGHT, WIDTH))
    return folder


@pytest.fixture
def told(night, tmp_path):
    """Estimate of a preset on the small night."""

    def tell(preset, **settings):
        context = Context(scratch=tmp_path / "scratch", **settings)
        return estimate(Frames.scan(night), Recipe.load(preset).steps, context, tmp_path / "out" / "below")

    return tell


def test_the_registered_frames_are_what_scratch_must_hold(told):
    assert told("deep-sky").scratch == 4 * 3 * FRAMES * HEIGHT * WIDTH
    assert told("deep-sky").scratch_least == 2 * FRAMES * HEIGHT * WIDTH


@pytest.mark.parametrize("method", ["direct", "directional"])
def test_the_scratch_told_is_what_a_run_takes(told, night, tmp_path, method):
    context = Context(scratch=tmp_path / "scratch", output=tmp_path)

    Recipe.load("linear-for-other-tools").with_settings([f"debayer.method={method}"]).run(night, context)

    (samples,) = (tmp_path / "scratch").rglob("samples")
    expected = told("deep-sky").scratch_least if method == "direct" else told("deep-sky").scratch
    assert 0.5 * expected <= samples.stat().st_size <= expected


def test_the_results_told_are_about_what_a_run_writes(told, night, tmp_path):
    from astrobench.outputs import run_into

    run_into(
        tmp_path / "o", Recipe.load("deep-sky"), Frames.scan(night), Context(scratch=tmp_path / "scratch")
    )

    written = sum(path.stat().st_size for path in (tmp_path / "o").iterdir())
    assert 0.5 * written < told("deep-sky").output < 2 * written


def test_more_workers_and_a_linear_result_take_less_time(told):
    assert told("deep-sky", workers=4).seconds < told("deep-sky", workers=1).seconds
    assert told("linear-for-other-tools").seconds < told("deep-sky").seconds


def test_a_smaller_memory_budget_lowers_what_is_told(told):
    assert told("deep-sky", memory_budget=2**20).memory < told("deep-sky", memory_budget=2**30).memory


def test_nothing_is_made_by_an_estimate(told, tmp_path):
    told("deep-sky").check()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("place", "word"), [("scratch", "--scratch"), ("out", "-o")])
def test_a_run_that_will_not_fit_is_refused_with_what_helps(told, monkeypatch, place, word, tmp_path):
    for folder in ("scratch", "out"):
        (tmp_path / folder).mkdir()
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda p: Usage(0, 0, 1000) if p.name == place else real(p))

    with pytest.raises(ProcessingError, match=word):
        told("deep-sky").check()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3599.7, "1 h"), (7500, "2 h 5 min")],
)
def test_times_are_told_as_people_say_them(seconds, words):
    assert duration(seconds) == words
