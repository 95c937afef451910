"""The folder of a simulated night looks like a Seestar's."""

import hashlib
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.time import Time

from astrobench.errors import InputError, ParameterError, Stopped
from astrobench.simulate import Night, simulate_night
from astrobench.simulate.night import TARGET_DEC, TARGET_RA

SMALL = {"frames": 3, "shape": (128, 96)}


def digest(night: Night) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in night.paths]


def test_a_sub_has_the_size_and_type_of_a_real_one(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, frames=1, nebula=False, faults=False)
    assert night.paths[0].stat().st_size == 4_152_960
    with fits.open(night.paths[0]) as file:
        file.verify("exception")
        assert file[0].data.dtype == np.uint16
        assert file[0].data.shape == (1920, 1080)


def test_the_header_is_that_of_a_real_sub_card_by_card(real_sub: Path, full_night: Night) -> None:
    ours, theirs = fits.getheader(full_night.paths[0]), fits.getheader(real_sub)
    assert list(ours.keys()) == list(theirs.keys())
    differ = {"DATE-OBS", "RA", "DEC", "SITELAT", "SITELONG", "TELESCOP", "OBJECT", "PROGRAM", "CCD-TEMP"}
    differ |= {"NAXIS1", "NAXIS2", "FOCUSPOS", "COMMENT"}
    assert str(ours["COMMENT"]) == str(theirs["COMMENT"])
    for card in theirs.cards:
        if card.keyword not in differ:
            assert ours.cards[card.keyword].image == card.image
        if card.keyword != "COMMENT":
            assert type(ours[card.keyword]) is type(card.value)


def test_names_carry_the_local_time_of_saving(full_night: Night) -> None:
    for path, started in zip(full_night.paths, full_night.started, strict=True):
        found = re.fullmatch(r"Light_Sim 1_10\.0s_IRCUT_(\d{8}-\d{6})\.fit", path.name)
        assert found
        assert path.parent.name == "Sim 1_sub"
        saved = datetime.strptime(found[1], "%Y%m%d-%H%M%S") + timedelta(hours=7)
        assert 11.2 < (saved - datetime.fromisoformat(started)).total_seconds() < 13.6
        assert fits.getheader(path)["DATE-OBS"][:19] == started[:19]
    assert [path.name for path in full_night.paths] == sorted(path.name for path in full_night.paths)


def test_the_cadence_pauses_after_each_fifth_frame(full_night: Night) -> None:
    times = [datetime.fromisoformat(t).timestamp() for t in full_night.started]
    gaps = np.diff(times)
    pause = np.arange(1, len(times)) % 5 == 0
    assert np.all(np.abs(gaps[~pause] - 11.3) < 0.1)
    assert np.all((gaps[pause] > 15.9) & (gaps[pause] < 18.1))


def test_coordinates_are_of_the_equinox_of_date(full_night: Night) -> None:
    header = fits.getheader(full_night.paths[0])
    then = FK5(equinox=Time(header["DATE-OBS"]))
    read = SkyCoord(header["RA"], header["DEC"], unit="deg", frame=then)
    true = SkyCoord(TARGET_RA, TARGET_DEC, unit="deg", frame=FK5(equinox="J2000"))
    assert read.transform_to(FK5(equinox="J2000")).separation(true).arcsec < 1.0
    assert np.hypot(header["RA"] - TARGET_RA, header["DEC"] - TARGET_DEC) > 0.1


def test_newer_software_writes_its_own_cards_and_clips(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, frames=1, shape=(480, 270), nebula=False, firmware="4.70", rotation=0.0)
    header, data = fits.getheader(night.paths[0]), fits.getdata(night.paths[0])
    assert (header["PROGRAM"], header["EQMODE"]) == ("4.70", 1)
    assert 0.04 < np.mean(data == 0) < 0.09
    assert 95 < np.median(data) < 120
    assert np.min(np.diff(np.unique(data))) == 1


def test_older_software_leaves_a_comb_of_levels_and_a_few_zeros(full_night: Night) -> None:
    data = fits.getdata(full_night.paths[0])
    levels = np.unique(data)
    assert set(np.diff(levels[(levels > 900) & (levels < 1100)])) == {3, 4}
    assert np.sum(data == 0) == len(full_night.dead)


def test_the_sky_has_the_levels_of_real_subs(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, frames=1, shape=(480, 270), nebula=False)
    data = fits.getdata(night.paths[0])
    medians = [np.median(data[y::2, x::2]) for y, x in ((0, 0), (1, 1), (0, 1), (1, 0))]
    assert medians == pytest.approx([1000, 1000, 842, 797], rel=0.08)


def test_the_same_arguments_give_the_same_files_whatever_the_number_of_workers(tmp_path: Path) -> None:
    one = simulate_night(tmp_path / "one", **SMALL, workers=1)
    three = simulate_night(tmp_path / "three", **SMALL, workers=3)
    other = simulate_night(tmp_path / "other", **SMALL, seed=2)
    assert digest(one) == digest(three)
    assert not set(digest(one)) & set(digest(other))


def test_another_night_sees_the_same_sky_with_the_same_camera(tmp_path: Path) -> None:
    first = simulate_night(tmp_path / "first", **SMALL)
    second = simulate_night(tmp_path / "second", **SMALL, night=1)
    assert np.array_equal(first.stars, second.stars)
    assert np.array_equal(first.hot, second.hot)
    assert np.array_equal(first.scene(fwhm=3.0), second.scene(fwhm=3.0))
    assert not np.array_equal(first.transforms, second.transforms)
    assert not set(digest(first)) & set(digest(second))
    apart = datetime.fromisoformat(second.started[0]) - datetime.fromisoformat(first.started[0])
    assert apart == timedelta(hours=23, minutes=56, seconds=4)


def test_a_start_with_a_time_zone_becomes_ut(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, 2, 0, tzinfo=timezone(timedelta(hours=2)))
    night = simulate_night(tmp_path, frames=1, shape=(64, 64), start=start)
    assert night.started == ("2026-01-01T00:00:00",)


def test_a_simulated_night_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    simulate_night(tmp_path, frames=5, shape=(64, 64))
    night = simulate_night(tmp_path, frames=2, shape=(64, 64))
    assert sorted((tmp_path / "Sim 1_sub").iterdir()) == list(night.paths)
    keep = tmp_path / "Sim 1_sub" / "mine.txt"
    keep.write_text("mine")
    with pytest.raises(InputError, match="not a simulated night"):
        simulate_night(tmp_path, frames=2, shape=(64, 64))
    assert keep.read_text() == "mine"


def test_a_file_in_the_way_is_an_input_error(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        simulate_night(place, **SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"shape": (481, 270)},
        {"fwhm": 0.2},
        {"dither": 50.0},
        {"exposure": 1.0},
        {"firmware": "5"},
        {"target": "../x"},
        {"target": "Ñ"},
        {"stars": -1},
        {"workers": 0},
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=f"^{next(iter(wrong))}="):
        simulate_night(tmp_path, **wrong)
    assert not any(tmp_path.iterdir())


def test_stopping_leaves_no_sub_behind(tmp_path: Path) -> None:
    seen = []

    def stop(share: float, words: str) -> None:
        seen.append((share, words))
        raise Stopped("stopped by the test")

    with pytest.raises(Stopped):
        simulate_night(tmp_path, **SMALL, progress=stop)
    assert seen == [(pytest.approx(1 / 3), "frame 1 of 3")]
    assert not list(tmp_path.rglob("*.fit"))


def test_progress_ends_at_one(tmp_path: Path) -> None:
    shares: list[float] = []
    simulate_night(tmp_path, **SMALL, progress=lambda share, words: shares.append(share))
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_truth_comes_back_also_from_a_folder_that_was_moved(tmp_path: Path) -> None:
    night = simulate_night(tmp_path / "here", frames=6, shape=(96, 64))
    (tmp_path / "here").rename(tmp_path / "there")
    back = Night.load(tmp_path / "there")
    assert [path.exists() for path in back.paths] == [True] * 6
    assert [path.name for path in back.bad] == [path.name for path in night.bad]
    for name in ("transforms", "stars", "fwhm", "sky", "planted", "hot", "dead", "transparency"):
        assert np.array_equal(getattr(back, name), getattr(night, name))
    assert np.array_equal(back.scene(), night.scene())
    assert np.array_equal(back.expected(2), night.expected(2))
    assert not [path for path in (tmp_path / "there" / "truth").iterdir() if "fit" in path.suffix]


def test_truth_of_another_version_is_refused(tmp_path: Path) -> None:
    night = simulate_night(tmp_path, **SMALL)
    file = night.save()
    file.write_text(file.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(InputError, match="Simulate it again"):
        Night.load(tmp_path)
    with pytest.raises(InputError, match="no truth"):
        Night.load(tmp_path / "nowhere")
