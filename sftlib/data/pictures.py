"""Opening pictures: whatever holds one in, a pillow image out, or what is wrong with it.

pillow is asked for formats that hold pixels only: it would hand others, such as EPS, to programs of their own. What a
header says is believed for its size alone, and only up to pillow's own limit against decompression bombs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from sftlib.data.problems import brief
from sftlib.support.checking import nearest
from sftlib.support.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split())

#: Pixels from which a picture is decoded while no other one of its kind is: some hundred bytes would fill the memory.
LARGE = 2**24

NOT_THERE = "a file that does not exist"

_ORIENTATION = 0x0112
#: EXIF orientation -> how the picture is turned so that up is up, by the names of `PIL.Image.Transpose`.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_DEPTHS = ("I", "I;16", "I;16B", "I;16L", "I;16N")

_AGAIN = "copy it again from where it came, or drop these rows"
_CONVERT = f"pictures are read as {', '.join(FORMATS)}: convert it with another program, or drop these rows"


class UnreadableError(Exception):
    """A picture that cannot be used.

    Attributes:
        what: the kind of problem, read after "rows with".
        mend: how to mend it.
        note: said of this picture alone.
    """

    def __init__(self, what: str, mend: str, note: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend
        self.note = note


class Facts(NamedTuple):
    """What is known of a picture that was read once.

    Attributes:
        digest: SHA-256 of its file.
        pixels: width times height.
        remarks: what is not read as it stands, as clauses; see `remarks_of`.
    """

    digest: bytes
    pixels: int
    remarks: tuple[str, ...]


def pillow() -> Any:
    """The module ``PIL.Image``, with the formats that it has.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    module = require("PIL.Image", extra="image", purpose="reading pictures")
    module.init()
    return module


@contextmanager
def opened(path: str) -> Iterator[tuple[BufferedReader, os.stat_result]]:
    """A file that is one, open for reading, and what the system says of it.

    Raises:
        UnreadableError: there is none, or it cannot be opened; pipes and devices are never opened.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
            raise UnreadableError(f"{what} instead of a file", "give the path of a file")
        stream = open(path, "rb")  # noqa: SIM115 - closed below; only opening may fail here
    except FileNotFoundError:
        raise UnreadableError(NOT_THERE, "mend the path, or drop these rows") from None
    except OSError as error:
        raise UnreadableError("a file that cannot be opened", "see to its permissions", error.strerror or "") from None
    except ValueError:  # a zero byte, or a lone surrogate
        raise UnreadableError("a path that no file can have", "mend the path, or drop these rows") from None
    with stream:
        yield stream, os.fstat(stream.fileno())


def path_of(value: object, folder: Path | None = None) -> str:
    """The absolute path that a value stands for; ``~`` is the home folder.

    Args:
        value: a string or path.
        folder: what a relative path starts from; None for the working directory.

    Raises:
        UnreadableError: it is an address of the web.
    """
    path = os.fsdecode(os.fspath(value))  # type: ignore[call-overload]
    if "://" in path:
        mend = "nothing is fetched: download the files first, and give their paths"
        raise UnreadableError("an address instead of a path", mend)
    return os.path.abspath(os.path.join(folder or "", os.path.expanduser(path)))


def nearby(path: str) -> str:
    """What is there instead of a file that is not: a clause."""
    folder = Path(path).parent
    if not folder.is_dir():
        return f"there is no such folder as {str(folder)!r}"
    hint = nearest(Path(path).name, [entry.name for entry in os.scandir(folder)])
    return hint if hint.startswith("did you mean") else f"{str(folder)!r} holds nothing of a similar name"


def facts_of(stream: BufferedReader | BytesIO, *, gate: AbstractContextManager[Any] | None = None) -> Facts:
    """Read a picture from its beginning to its end.

    Args:
        stream: of its file.
        gate: held while a large one is decoded.

    Raises:
        UnreadableError: it is none, not whole, or too large.
    """
    digest = hashlib.file_digest(stream, "sha256").digest()
    stream.seek(0)
    image = loaded(stream, gate=gate)
    return Facts(digest, image.width * image.height, remarks_of(image))


def loaded(source: IO[bytes] | bytes, *, gate: AbstractContextManager[Any] | None = None) -> Image:
    """The first frame of a picture, decoded to its last pixel.

    Raises:
        UnreadableError: it is none, not whole, or too large.
    """
    stream = BytesIO(source) if isinstance(source, bytes) else source
    beginning = stream.read(64)
    stream.seek(0)
    if not beginning:
        raise UnreadableError("an empty file", _AGAIN)
    image = _recognised(stream, beginning)
    check_size(image)
    large = image.width * image.height > LARGE
    with gate if gate is not None and large else nullcontext():
        load(image)
    check_values(image)
    return image


def _recognised(stream: IO[bytes], beginning: bytes) -> Image:
    """A picture of which the header was read."""
    module = pillow()
    try:
        image: Image = module.open(stream, formats=[name for name in FORMATS if name in module.OPEN])
    except module.UnidentifiedImageError:
        raise UnreadableError(
            "a file that is no picture, or of no format that is read", _CONVERT, _looks(beginning)
        ) from None
    except (module.DecompressionBombError, module.DecompressionBombWarning):
        raise _too_large() from None
    except Exception as error:  # a dozen types, by what the damage hits
        raise _damaged(error) from None
    return image


def _looks(beginning: bytes) -> str:
    """What a file that is no picture may be instead."""
    start = beginning.lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")):
        return "it looks like SVG or XML"
    if start.startswith(b"<"):
        return "it looks like a web page"
    if start.startswith((b"%!ps", b"%pdf")):
        return "it looks like PostScript or PDF"
    if beginning[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "it looks like HEIC"
    return f"it begins with {beginning[:8]!r}"


def check_size(image: Image) -> None:
    """Refuse a picture without pixels, or with more than pillow's limit allows.

    Raises:
        UnreadableError: saying which.
    """
    limit = pillow().MAX_IMAGE_PIXELS
    if image.width < 1 or image.height < 1:
        raise UnreadableError("a picture without pixels", "drop these rows", f"{image.width} x {image.height}")
    if limit is not None and image.width * image.height > limit:
        raise _too_large(f"{image.width:,} x {image.height:,}")


def _too_large(note: str = "") -> UnreadableError:
    mend = "make it smaller; or, if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
    return UnreadableError(f"a picture of more than {pillow().MAX_IMAGE_PIXELS:,} pixels", mend, note)


def load(image: Image) -> None:
    """Decode the pixels of an image, if that was not done yet.

    Raises:
        UnreadableError: they are damaged or not all there.
    """
    try:
        image.load()
    except MemoryError:
        raise UnreadableError("a picture that does not fit into memory", "make it smaller", f"{image.size}") from None
    except Exception as error:  # as above
        if "truncated" in str(error).lower():
            raise UnreadableError("a picture that ends too early", _AGAIN) from None
        raise _damaged(error) from None


def _damaged(error: Exception) -> UnreadableError:
    return UnreadableError("a damaged picture", _AGAIN, brief(str(error), 60))


def check_values(image: Image) -> None:
    """Refuse pixels of which nothing says how bright they are.

    Raises:
        UnreadableError: floating-point numbers, or whole ones beyond 16 bits.
    """
    mend = "scale it to whole numbers from 0 to 255"
    if image.mode == "F":
        raise UnreadableError("a picture of floating-point numbers", mend)
    if image.mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65_535:
            raise UnreadableError("a picture of numbers beyond 16 bits", mend, f"from {low} to {high}")


def upright(image: Image) -> Image:
    """The picture with its EXIF orientation applied; a new one where it says anything."""
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(getattr(pillow().Transpose, turn))


def _orientation(image: Image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # what lies beside the pixels is damaged in as many ways; the pixels are good
        return None


def remarks_of(image: Image) -> tuple[str, ...]:
    """What of a picture is not read as it stands."""
    found = {
        "with transparent parts, laid on white": sees_through(image),
        "with several frames or pages, of which the first is read": _is_animated(image),
        "with 16 bits a pixel, scaled to 8": image.mode in _DEPTHS,
        "in CMYK, converted to RGB without a colour profile": image.mode == "CMYK",
    }
    return tuple(remark for remark, holds in found.items() if holds)


def sees_through(image: Image) -> bool:
    """Whether any pixel is not wholly opaque."""
    if not image.has_transparency_data:
        return False
    alpha = image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")
    low, _ = alpha.getchannel("A").getextrema()
    return bool(low < 255)


def _is_animated(image: Image) -> bool:
    if getattr(image, "format", None) == "MPO":  # a photograph with previews or a second view
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of a frame that is never read
        return False
