"""Truths about writing header cards, with astropy as the judge."""

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from astropy.io.fits import Header
from hypothesis import example, given, settings
from hypothesis import strategies as st

from astrobench.files.header_cards import header_bytes
from astrobench.image import Image

WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)
VALUES = st.one_of(
    WORDS, st.booleans(), st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False)
)


def by_astropy(cards: list[tuple[str, Any, str]]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = Header()
        for card in cards:
            header.append(card, end=True)
        return header.tostring().encode("ascii")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["OBJECT", "A", "CD1_1", "DATE-OBS", "LONGKEYWORD", "lower"]), VALUES, WORDS)
@example("OBJECT", "M 94", " ")
def test_a_card_is_written_as_astropy_writes_it(keyword: str, value: Any, comment: str) -> None:
    cards = [(keyword, value, comment)]

    assert header_bytes(cards) == by_astropy(cards)


@pytest.mark.parametrize(
    "value", [None, np.float32(0.1), np.int16(7), 1e-300, -1.2345678901234567e-100, "", "it's", "x" * 200]
)
def test_rare_values_are_written_as_astropy_writes_them(value: Any) -> None:
    cards = [("OBJECT", value, "what it is"), ("HISTORY", "made by hand", ""), ("COMMENT", "none", "")]

    assert header_bytes(cards) == by_astropy(cards)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "Größe", "two\nlines"])
def test_what_no_header_can_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"FITS header values|not allowed"):
        header_bytes([("OBJECT", value, "")])


def test_a_header_of_many_cards_fills_whole_blocks() -> None:
    cards = [(f"KEY{i}", i, "") for i in range(36)]  # with END one more than a block holds

    written = header_bytes(cards)

    assert len(written) == 2 * 2880
    assert written == by_astropy(cards)


def test_plain_cards_become_an_astropy_header_for_whoever_asks() -> None:
    image = Image(np.zeros((4, 4)), header=(("OBJECT", "M 94", "what it is"), ("STACKCNT", 6, "")))
    copy = image.replace(history=("a step",))

    assert isinstance(copy.header, Header)
    assert copy.header is copy.header
    assert copy.header["OBJECT"] == "M 94"
    assert copy.header.comments["OBJECT"] == "what it is"
    assert copy.cards() == image.cards() == (("OBJECT", "M 94", "what it is"), ("STACKCNT", 6, ""))
    assert Image(np.zeros((4, 4))).header is None


def test_a_picture_of_plain_cards_is_written_without_astropy(tmp_path) -> None:
    program = f"""
import sys, numpy as np
from astrobench.files import save_image
from astrobench.image import Image
image = Image(np.zeros((3, 8, 8)), header=(("OBJECT", "M 94", ""),), history=("a step",), recipe="{{}}")
save_image(image, r"{tmp_path / "a.fits"}")
save_image(image, r"{tmp_path / "a.png"}")
assert not any(name.startswith("astropy") for name in sys.modules)
"""

    subprocess.run([sys.executable, "-c", program], check=True)
