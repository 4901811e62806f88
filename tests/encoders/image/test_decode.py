"""Pixels of every kind of picture: upright, red-green-blue, scaled and not cut off; what cannot be read is named."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib.data.pixels import decode
from sftlib.errors import DataError
from tests.pictures import BROKEN, RED, WHITE, animated, half_clear, image, pixels, png_of, saved, turned

pytest.importorskip("PIL")

LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}, "PPM": {}, "JPEG2000": {}}
UNLIKE = pixels(3, 24, 16)  # no two turns of it are alike


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_files_come_back(form: str, tmp_path: Path) -> None:
    content = saved(form=form, **LOSSLESS[form])
    path = tmp_path / "picture.whatever"
    path.write_bytes(content)
    for value in (content, path, str(path)):
        found = decode(value)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert (found == pixels()).all()


@pytest.mark.parametrize("form", ["JPEG", "AVIF", "GIF"])
def test_lossy_files_come_close(form: str) -> None:
    try:
        content = saved(form=form)
    except (KeyError, OSError):
        pytest.skip(f"this pillow does not write {form}")
    assert np.abs(decode(content).astype(int) - pixels()).mean() < 8


# What numpy does to the picture as it is stored, for each orientation.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_says_what_is_up(orientation: int, form: str) -> None:
    expected = TURNS[orientation](UNLIKE).astype(int)
    found = decode(turned(orientation, form, UNLIKE))
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < (6 if form == "JPEG" else 1e-9)


def test_exif_is_applied_to_images_too(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a.png").write_bytes(turned(6, "PNG", UNLIKE))
    with Image.open(tmp_path / "a.png") as opened:
        assert (decode(opened) == np.rot90(UNLIKE, -1)).all()


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_orientations_that_mean_nothing(orientation: int) -> None:
    assert (decode(turned(orientation, "PNG", UNLIKE)) == UNLIKE).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_that_is_damaged() -> None:
    content = saved(form="JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=100)
    assert np.abs(decode(content).astype(int) - pixels()).mean() < 6


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_every_mode_becomes_colours(mode: str) -> None:
    plain = image(mode="L") if mode in ("L", "1") else image()
    found = decode(plain.convert(mode))
    assert found.shape == (20, 30, 3)
    if mode == "L":
        assert (found == np.asarray(plain)[..., None]).all()
    elif mode == "1":
        assert set(np.unique(found)) <= {0, 255}
    elif mode != "P":
        assert np.abs(found.astype(int) - pixels()).mean() < 4


def test_a_cmyk_jpeg_is_not_a_negative() -> None:
    found = decode(saved(image(mode="CMYK"), "JPEG", quality=95))
    assert np.abs(found.astype(int) - pixels()).mean() < 8


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bits_are_scaled(form: str) -> None:
    grey = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    found = decode(saved(image(grey), form))
    assert (found == np.rint(grey / 257)[..., None]).all()
    assert found.min() == 0
    assert found.max() == 255


def test_16_bits_a_colour_are_scaled() -> None:
    """By their upper byte, as pillow reads them: nowhere off by more than 1."""
    values = np.random.default_rng(0).integers(0, 65_536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    found = decode(png_of(7, 5, rows, depth=16)).astype(int)
    assert np.abs(found - values / 257).max() <= 1


@pytest.mark.parametrize("whole", [np.int32, np.uint16])
def test_16_bits_of_an_image(whole: type) -> None:
    assert decode(image(np.array([[0, 257, 65_535]], whole)))[0, :, 0].tolist() == [0, 1, 255]


def test_what_is_clear_is_white() -> None:
    expected = np.empty((4, 8, 3), np.uint8)
    expected[:, :4], expected[:, 4:] = RED, WHITE
    for content in (saved(half_clear()), saved(half_clear(), "WEBP", lossless=True), half_clear()):
        assert (decode(content) == expected).all()


def test_half_clear_grey_is_half_white() -> None:
    array = np.full((2, 2, 2), (0, 128), np.uint8)
    assert (decode(saved(image(array, None))) == 127).all()


def test_a_palette_with_a_clear_colour() -> None:
    from PIL import Image

    picture = Image.new("P", (4, 2), 0)
    picture.putpalette([0, 0, 0, *RED, 0, 0, 255])
    picture.putdata([0, 1, 2, 1] * 2)
    for clear in (0, b"\x00\xff\xff"):
        found = decode(saved(picture, transparency=clear))
        assert found[0].tolist() == [list(WHITE), list(RED), [0, 0, 255], list(RED)]


def test_one_colour_that_stands_for_clear() -> None:
    found = decode(saved(image(np.array([[RED, (1, 2, 3)]], np.uint8)), transparency=(1, 2, 3)))
    assert found.tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_is_read(form: str) -> None:
    found = decode(animated(form)).astype(int)
    assert np.abs(found - RED).max() <= 3


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3)])
def test_arrays(shape: tuple[int, ...]) -> None:
    given = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = decode(given)
    assert found.shape == (2, 3, 3)
    assert (found == given.reshape(2, 3, -1)).all()
    found[:] = 0
    assert given.any()


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    """In bounded time and memory, whatever the header says."""
    said, make = BROKEN[name]
    path = tmp_path / f"broken {name}"
    path.write_bytes(make())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(DataError, match=said) as caught:
        decode(path)
    assert path.name in str(caught.value)
    with pytest.raises(DataError, match=said):
        decode(path.read_bytes())
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("nowhere.jpg", "'nowhere.jpg' is a file that does not exist"),
        ("http://example.org/a.jpg", "an address instead of a path: nothing is fetched"),
        ("a\0b.jpg", "a path that no file can have"),
        (".", "a folder instead of a file"),
        (3, "a picture is of type int: expected a path, bytes, a PIL image"),
        (None, "of type NoneType"),
        (np.zeros((2, 2, 3), np.float32), r"float32 of shape \(2, 2, 3\): expected uint8"),
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((8,), np.uint8), r"shape \(8,\)"),
    ],
    ids=repr,
)
def test_what_is_no_picture(value: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        decode(value)


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with a name")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="a pipe or device"):
        decode(tmp_path / "pipe.jpg")


@pytest.mark.filterwarnings("ignore:Image size")
def test_the_limit_is_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 599)
    with pytest.raises(DataError, match=r"more than 599 pixels \(30 x 20\)"):
        decode(saved())
    with pytest.raises(DataError, match="more than 599 pixels"):
        decode(image())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(saved()).shape == (20, 30, 3)
