"""Frames are set aside for reasons that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrobench.context import Context
from astrobench.errors import ProcessingError
from astrobench.frames import Frame, Frames, Measures
from astrobench.steps.grade import Grade


def frame(number: int, group: str = "g", **measures: float) -> Frame:
    values = {"stars": 100, "fwhm": 3.0, "eccentricity": 0.4, "sky": 1000.0, "noise": 80.0, "snr": 20.0,
              "transparency": 1.0, "score": 1.0} | measures  # fmt: skip
    return Frame(
        path=Path(f"f{number}.fit"), name=f"f{number}.fit", kind="light", group=group,
        measures=Measures(fwhm_arcsec=None, **values),
    )  # fmt: skip


def night(**odd: float) -> Frames:
    """Ten ordinary frames and one odd one."""
    return Frames((*(frame(k, fwhm=3.0 + 0.02 * k) for k in range(10)), frame(10, **odd)))


def aside(frames: Frames, **settings: object) -> dict[str, str]:
    graded = Grade(**settings).apply(frames, Context())
    return {each.name: each.reason for each in graded if not each.use}


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        ({"fwhm": 6.0}, "out of focus"),
        ({"eccentricity": 0.93}, "trailed"),
        ({"eccentricity": 0.93, "fwhm": 6.0}, "trailed"),
        ({"stars": 40}, "clouded"),
        ({"transparency": 0.4}, "clouded"),
        ({"sky": 3000.0}, "bright sky"),
        ({"stars": 0, "fwhm": float("nan"), "eccentricity": float("nan")}, "no stars"),
    ],
)
def test_the_default_finds_what_is_wrong_and_says_it(odd, word):
    found = aside(night(**odd))
    assert list(found) == ["f10.fit"]
    assert word in found["f10.fit"]


@pytest.mark.parametrize("odd", [{"fwhm": 2.2}, {"stars": 180}, {"sky": 700.0}, {"eccentricity": 0.1}])
def test_a_frame_that_is_better_than_the_others_stays(odd):
    assert aside(night(**odd)) == {}


def test_another_telescope_is_judged_among_its_own_frames():
    other = [frame(20 + k, "second", fwhm=6.0, stars=30) for k in range(6)]
    assert aside(Frames((*night(), *other))) == {}


def test_never_more_than_a_third_goes_by_itself():
    frames = Frames([frame(k, fwhm=3.0 if k < 6 else 9.0) for k in range(10)])
    assert len(aside(frames)) <= 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rule": "best", "value": 3}, 3),
        ({"rule": "percent", "value": 50}, 6),
        ({"rule": "threshold", "by": "fwhm", "value": 3.05}, 3),
        ({"rule": "none"}, 11),
        ({"rule": "none", "exclude": ("f1.fit",)}, 10),
        ({"rule": "best", "value": 1, "include": ("f7.fit", "f8.fit")}, 3),
    ],
)
def test_the_user_may_choose_the_rule(settings, expected):
    frames = Frames([frame(k, fwhm=3.0 + 0.02 * k, score=1.0 - 0.01 * k) for k in range(11)])
    assert len(Grade(**settings).apply(frames, Context()).used) == expected


def test_a_rule_that_leaves_nothing_is_refused():
    with pytest.raises(ProcessingError, match="leaves no frame"):
        Grade(rule="threshold", by="fwhm", value=1.0).apply(night(), Context())


def test_frames_without_measures_are_refused_with_the_remedy():
    bare = Frames((Frame(path=Path("a.fit"), kind="light"),))
    with pytest.raises(ProcessingError, match="'measure'"):
        Grade().apply(bare, Context())


def test_an_unknown_name_is_told():
    context = Context()
    Grade(rule="none", exclude=("zzz.fit",)).apply(night(), context)
    assert "zzz.fit" in context.report.find("unknown names")[0].text
