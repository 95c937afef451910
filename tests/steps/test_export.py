"""Export: the files that were asked for, the picture as it came, and what a format cannot hold is said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from astrobench.context import Context
from astrobench.errors import ParameterError
from astrobench.files import open_image
from astrobench.files.tiff import read_tiff
from astrobench.image import Image
from astrobench.steps.export import Export


def picture(channels: int = 3) -> Image:
    data = np.random.default_rng(0).normal(100, 20, (channels, 40, 30)).astype(np.float32)
    data[:, :10, :10] += 500
    return Image(data)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_is_written_with_the_top_row_on_top(tmp_path: Path, channels: int) -> None:
    image = picture(channels)
    result = Export(formats=("fits", "tiff", "png", "jpeg")).apply(image, Context(output=tmp_path))
    assert result is image
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "result.fits",
        "result.jpg",
        "result.png",
        "result.tif",
    ]
    assert np.array_equal(open_image(tmp_path / "result.fits").data, image.data)
    for name in ("result.png", "result.jpg"):
        with PillowImage.open(tmp_path / name) as shown:
            assert shown.size == (30, 40)
            grey = np.asarray(shown.convert("L")).astype(float)
        assert grey[:10, :10].mean() > 2 * grey[30:, 20:].mean()


def test_linear_data_in_picture_formats_are_explained(tmp_path: Path) -> None:
    context = Context(output=tmp_path)
    image = picture()
    image = image.replace(data=image.data - 200)
    Export(formats=("tiff", "png", "jpeg")).apply(image, context)
    assert len(context.report.find("export.shown")) == 2
    assert "pedestal" in context.report.find("export.scaled")[0].text
    back = read_tiff(tmp_path / "result.tif").data
    assert back == pytest.approx(image.data, abs=float(np.ptp(image.data)) / 65535)


def test_holes_are_counted(tmp_path: Path) -> None:
    image = picture()
    image.data[0, 3, 4] = np.nan
    context = Context(output=tmp_path)
    Export(formats=("png",)).apply(image, context)
    assert context.report.find("export.holes")[0].numbers["holes"] == 1


def test_without_an_output_folder_the_remedy_is_named() -> None:
    with pytest.raises(ParameterError, match="-o OUT"):
        Export().apply(picture(), Context())


@pytest.mark.parametrize("name", ["", "../out", "a/b", "a\\b", ".hidden"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=r"export\.file_name"):
        Export(file_name=name)


def test_unknown_and_missing_formats_are_refused() -> None:
    with pytest.raises(ParameterError, match="fits, tiff, png, jpeg"):
        Export(formats=("bmp",))
    with pytest.raises(ParameterError, match="at least one"):
        Export(formats=())


def test_the_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        Export(formats=("fits", "tiff", "png", "jpeg")).apply(picture(), Context(output=tmp_path / folder))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
