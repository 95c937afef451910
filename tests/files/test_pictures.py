"""Pictures in TIFF, PNG and JPEG: never mirrored, honest about what the format cannot hold, discreet."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from astropy.io.fits import Header
from PIL import Image as PillowImage

from astrobench.errors import InputError
from astrobench.files import open_image, save_image
from astrobench.files.beside import written_beside
from astrobench.files.jpeg import write_jpeg
from astrobench.files.png import write_png
from astrobench.files.tiff import read_tiff, write_tiff
from astrobench.image import Image

RECIPE = json.dumps({"name": "deep-sky", "step": [{"do": "stretch", "target": 0.12}]})


def arrow(channels: int = 3, height: int = 40, width: int = 24) -> np.ndarray:
    """A picture without any symmetry: bright top left, a bar on the right, a ramp downwards."""
    data = np.full((channels, height, width), 0.1, np.float32)
    data[:, :12, :10] = 0.9
    data[:, 8:30, -3:] = 0.6
    data += np.linspace(0, 0.09, height, dtype=np.float32)[:, None]
    if channels == 3:
        data[2] *= 0.5
    return data


def finished(data: np.ndarray) -> Image:
    header = Header()
    header["OBJECT"], header["EXPTIME"], header["STACKCNT"], header["FILTER"] = "M 94", 10.0, 24, "IRCUT"
    header["SITELAT"], header["SITELONG"], header["TELESCOP"] = 52.123456, 13.654321, "S50_1d3fe189"
    return Image(data, unit="display", header=header, history=("Stretch(target=0.12)",), recipe=RECIPE)


def seen(path: Path) -> np.ndarray:
    """Read a file with another program's eyes: (C, H, W) in [0, 1]."""
    if path.suffix == ".tif":
        stored = tifffile.imread(path) / 65535
    else:
        with PillowImage.open(path) as picture:
            stored = np.asarray(picture) / 255
    return stored[None] if stored.ndim == 2 else np.moveaxis(stored, -1, 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "step"), [(".tif", 1e-5), (".png", 0.0021), (".jpg", 0.15), (".fits", 1e-7)]
)
def test_no_format_mirrors_or_turns_the_picture(
    tmp_path: Path, channels: int, suffix: str, step: float
) -> None:
    data = arrow(channels)
    path = tmp_path / f"picture{suffix}"
    save_image(finished(data), path)
    back = open_image(path).data if suffix == ".fits" else seen(path)
    assert back.shape == data.shape
    assert np.abs(back - data).max() < step
    assert np.abs(back - data).mean() < 0.01
    for turned in (data[:, ::-1], data[:, :, ::-1], data[:, ::-1, ::-1]):
        assert np.abs(back - turned).mean() > 0.05


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg"])
def test_a_picture_tells_its_story_but_not_the_place(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save_image(finished(arrow()), path)
    content = path.read_bytes()
    for word in (b"M 94", b"deep-sky", b"IRCUT", b"astrobench"):
        assert word in content
    for secret in (b"52.1234", b"13.6543", b"1d3fe189", b"SITELAT"):
        assert secret not in content


def test_the_place_is_told_when_asked_for(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", finished(arrow()), private=False)
    assert b"52.123456" in (tmp_path / "a.png").read_bytes()


def test_stretched_colour_carries_an_srgb_profile_and_linear_data_do_not(tmp_path: Path) -> None:
    image = finished(arrow())
    write_png(tmp_path / "a.png", image)
    write_jpeg(tmp_path / "a.jpg", image)
    write_tiff(tmp_path / "a.tif", image)
    write_tiff(tmp_path / "b.tif", image.replace(unit="ADU"))
    for name in ("a.png", "a.jpg"):
        with PillowImage.open(tmp_path / name) as picture:
            assert picture.info["icc_profile"]
    for name, there in (("a.tif", True), ("b.tif", False)):
        with tifffile.TiffFile(tmp_path / name) as file:
            assert bool(file.pages.first.iccprofile) is there


@pytest.mark.parametrize("unit", ["display", "ADU"])
def test_a_tiff_comes_back_in_its_own_scale(tmp_path: Path, unit: str) -> None:
    data = arrow() if unit == "display" else arrow() * 4000 - 300
    image = finished(data).replace(unit=unit)
    write_tiff(tmp_path / "a.tif", image)
    back = read_tiff(tmp_path / "a.tif")
    assert back.unit == unit
    assert np.abs(back.data - data).max() <= 0.51 * np.ptp(data) / 65535 + 1e-4
    assert back.header["OBJECT"] == "M 94"
    assert json.loads(back.recipe) == json.loads(RECIPE)


def test_missing_pixels_are_black_and_faults_do_not_spread(tmp_path: Path) -> None:
    data = arrow()
    data[:, 20, 12] = np.nan
    for suffix in (".tif", ".png"):
        save_image(finished(data), tmp_path / f"a{suffix}")
        back = seen(tmp_path / f"a{suffix}")
        assert (back[:, 20, 12] == 0).all()
        assert np.abs(back - data)[:, 22:].max() < 0.0021


def stored_as(kind: str, path: Path) -> np.ndarray:
    """Write what other programs write; return the values that should come back."""
    data = arrow()
    sixteen = np.rint(data * 60000).astype(np.uint16)
    if kind == "8-bit RGB":
        eight = np.rint(data * 255).astype(np.uint8)
        tifffile.imwrite(path, np.moveaxis(eight, 0, -1), photometric="rgb")
        return eight / 255
    if kind == "16-bit planar":
        tifffile.imwrite(path, sixteen, photometric="rgb", planarconfig="separate")
    elif kind == "16-bit mono":
        tifffile.imwrite(path, sixteen[0], photometric="minisblack")
        return sixteen[:1]
    elif kind == "RGB with opacity":
        alpha = np.full((1, *data.shape[1:]), 65535, np.uint16)
        both = np.moveaxis(np.concatenate([sixteen, alpha]), 0, -1)
        tifffile.imwrite(path, both, photometric="rgb", extrasamples=["unassalpha"])
    elif kind == "float":
        tifffile.imwrite(path, np.moveaxis(data, 0, -1), photometric="rgb")
        return data
    else:
        tifffile.imwrite(path, np.moveaxis(sixteen, 0, -1), photometric="rgb", compression="zlib")
    return sixteen


@pytest.mark.parametrize(
    "kind", ["8-bit RGB", "16-bit planar", "16-bit mono", "16-bit compressed", "RGB with opacity", "float"]
)
def test_tiffs_of_other_programs_are_read(tmp_path: Path, kind: str) -> None:
    expected = stored_as(kind, tmp_path / "a.tif")
    image = read_tiff(tmp_path / "a.tif")
    assert image.data == pytest.approx(np.asarray(expected, np.float32), abs=1e-6)
    assert image.unit == ("display" if kind == "8-bit RGB" else "ADU")


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no picture at all", b"MM\0*" + bytes(50)])
def test_what_is_no_tiff_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.tif"):
        read_tiff(tmp_path / "a.tif")


def test_a_truncated_tiff_is_refused_in_a_sentence(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", finished(arrow(3, 200, 200)))
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a\.tif"):
        read_tiff(tmp_path / "a.tif")


def test_a_tiff_that_claims_a_size_it_does_not_have_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", finished(arrow(1)))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages.first.tags["ImageWidth"].overwrite(400_000)
        file.pages.first.tags["ImageLength"].overwrite(400_000)
    with pytest.raises(InputError, match="claims"):
        read_tiff(tmp_path / "a.tif")


def test_a_missing_tiff_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.tif"):
        read_tiff(tmp_path / "gone.tif")


def test_a_crash_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fails() -> None:
        with written_beside(path) as beside:
            beside.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file, no folder")
    with pytest.raises(InputError, match="Choose another output folder"):
        write_png(tmp_path / "blocked" / "a.png", finished(arrow()))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 65), (3, 65, 7), (3, 200, 31)])
def test_a_png_gives_every_byte_back(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    bytes_ = np.random.default_rng(shape[1]).integers(0, 256, shape).astype(np.uint8)

    write_png(tmp_path / "a.png", Image(bytes_.astype(np.float32) / 255, unit="display"))

    with PillowImage.open(tmp_path / "a.png") as picture:
        picture.verify()  # checksums
    with PillowImage.open(tmp_path / "a.png") as picture:
        back = np.asarray(picture)
    assert (back == (bytes_[0] if shape[0] == 1 else np.moveaxis(bytes_, 0, -1))).all()
