"""Pictures for tests: good ones of every kind, and files that are none, not whole, or traps."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RED, WHITE = (255, 0, 0), (255, 255, 255)


def pixels(seed: int = 0, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    """(H, W, 3) of smooth colours, another picture for each seed."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(a * x / width + b * y / height + c) for a, b, c in generator.uniform(1, 6, (3, 3))]
    return (127 + 120 * np.stack(waves, -1)).astype(np.uint8)


def image(array: NDArray[Any] | None = None, mode: str | None = None) -> Any:
    """A PIL image."""
    from PIL import Image

    found = Image.fromarray(pixels() if array is None else array)
    return found if mode is None else found.convert(mode)


def saved(picture: Any = None, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file that holds a picture."""
    stream = io.BytesIO()
    (image() if picture is None else picture).save(stream, form, **options)
    return stream.getvalue()


def turned(orientation: int, form: str = "JPEG", array: NDArray[Any] | None = None) -> bytes:
    """A file that says in EXIF how it is to be turned."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image(array), form, exif=exif, **({"quality": 100} if form == "JPEG" else {}))


def animated(form: str = "GIF") -> bytes:
    """A red frame, then a green one."""
    from PIL import Image

    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:])


def half_clear() -> Any:
    """RGBA: red on the left, and on the right a green that cannot be seen."""
    array = np.zeros((4, 8, 4), np.uint8)
    array[:, :4] = (*RED, 255)
    array[:, 4:] = (0, 255, 0, 0)
    return image(array)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, rows: bytes = b"", *, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file whose header says what it likes."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    """A PNG file with a comment that grows to 64 MiB."""
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26), 9))
    whole = saved()
    return whole[:33] + bomb + whole[33:]


def _middle(content: bytes, put: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + put + content[half + len(put) :]


#: What must be refused: name -> (how the message says it, the bytes).
BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("an empty file", bytes),
    "text.jpg": ("a file that is no picture", lambda: b"This is no picture at all.\n" * 20),
    "page.png": ("a file that is no picture", lambda: b"<!DOCTYPE html><html>404</html>"),
    "drawing.svg": ("a file that is no picture", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'),
    "script.eps": ("a file that is no picture", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage"),
    "phone.heic": ("a file that is no picture", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)),
    "zeros": ("a file that is no picture", lambda: bytes(10_000)),
    "one byte": ("a file that is no picture", lambda: b"\xff"),
    "cut.jpg": ("a picture that ends too early", lambda: saved(image(pixels(height=300, width=300)), "JPEG")[:5000]),
    "cut.png": ("a picture that ends too early", lambda: saved(image(pixels(height=300, width=300)))[:5000]),
    "cut.webp": ("a", lambda: saved(form="WEBP")[:-40]),
    "cut.gif": ("a picture that ends too early", lambda: saved(form="GIF")[:-200]),
    "cut.tif": ("a", lambda: saved(form="TIFF")[:-200]),
    "cut.bmp": ("a picture that ends too early", lambda: saved(form="BMP")[:-200]),
    "header.jpg": ("a", lambda: saved(form="JPEG")[:40]),
    "header.png": ("a", lambda: saved()[:33]),
    "no rows.png": ("a picture that ends too early", lambda: png_of(30, 20)),
    "damaged.png": ("a", lambda: _middle(saved(image(pixels(height=300, width=300))), b"\0" * 2000)),
    "bomb.png": ("a picture of more than", lambda: png_of(50_000, 50_000)),
    "small bomb.png": ("a picture of more than", lambda: png_of(10_000, 10_000)),
    "wide bomb.png": ("a picture of more than", lambda: png_of(2**31 - 1, 1)),
    "bomb.gif": ("a picture of more than", lambda: b"GIF89a\xff\xff\xff\xff" + saved(form="GIF")[10:]),
    "bomb.bmp": ("a", lambda: saved(form="BMP")[:18] + struct.pack("<ii", 60_000, 60_000) + saved(form="BMP")[26:]),
    "bomb.ppm": ("a picture of more than", lambda: b"P6 90000 90000 255\n" + bytes(100)),
    "text bomb.png": ("a", _text_bomb),
    "no pixels.png": ("a", lambda: png_of(0, 10)),
    "floats.tif": ("a picture of floating-point numbers", lambda: saved(image(np.zeros((4, 4), np.float32)), "TIFF")),
    "deep.tif": ("a picture of numbers beyond 16 bits", lambda: saved(image(np.full((4, 4), 10**6, np.int32)), "TIFF")),
}
