"""Media: pictures, by path or as they are, identified by what they hold and not by where they lie."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.kinds.base import DROP_OR_FILL, is_missing, kind_of
from sftlib.data.kinds.filed import FiledRole
from sftlib.data.kinds.stamped import StampedFile, stamp_of, unwrapped
from sftlib.data.kinds.values import Fault
from sftlib.data.pictures import (
    Facts,
    UnreadableError,
    check_size,
    check_values,
    facts_of,
    load,
    opened,
    path_of,
    remarks_of,
    upright,
)

_FORM = "give a path, bytes, a PIL image, or an (H, W) or (H, W, 3) array of uint8"

Gate = AbstractContextManager[Any]


@final
class ImageRole(FiledRole):
    r"""A picture in every row: a path, the bytes of a file, a PIL image, or an (H, W) or (H, W, 3) array of uint8.

    Every picture is decoded to its end before it passes, in threads. Paths become absolute; what the file holds is its
    identity, so that a copy of it is the same picture.

    Args:
        folder: what relative paths start from; None for the working directory.
        seen: what is known of files and bytes that were read; None to forget it. `bound` makes one for a data set.

    Example:
        >>> print(*ImageRole().check([None, b""]).lines("image"), sep="\n")
        image: 1 row with a missing value: row 0; drop these rows or fill them in
        image: 1 row with an empty file: row 1 (0 bytes); copy it again from where it came, or drop these rows
        >>> ImageRole().identity(b"a") == ImageRole().identity(b"b")
        False
    """

    measure = "pixels"
    thing = "picture"

    def __init__(self, folder: Path | None = None, seen: dict[StampedFile | bytes, Facts] | None = None) -> None:
        super().__init__(folder, seen)
        self._digests: dict[StampedFile, bytes] = {}  # of files that were never decoded here

    def _looking(self) -> Callable[[object], Fault | None]:
        gate = threading.Lock()
        return lambda value: self._fault(value, gate)

    def _fault(self, value: object, gate: Gate) -> Fault | None:
        """What is wrong with one value."""
        value = unwrapped(value)
        if is_missing(value) or (isinstance(value, str) and not value):
            return Fault("a missing value", None, DROP_OR_FILL)
        if isinstance(value, np.ndarray):
            return _array_fault(value)
        try:
            if isinstance(value, str | os.PathLike):
                self._of_file(path_of(value, self._folder), gate)
            elif isinstance(value, bytes | bytearray | memoryview):
                self._of_bytes(bytes(value), gate)
            elif _is_image(value):
                with gate:  # one that stands in several rows is read once, and not in two threads
                    _read(value)
            else:
                return Fault(f"{kind_of(value)} instead of a picture", None, _FORM)
        except UnreadableError as problem:
            return self._unreadable(value, problem)
        return None

    def _of_file(self, path: str, gate: Gate | None = None) -> Facts:
        """What is known of a file, which is read if it was not read before or has changed."""
        seen: dict[Any, Facts] = {} if self._seen is None else self._seen
        stamp = stamp_of(path) if seen else None
        if stamp in seen:
            return seen[stamp]
        with opened(path) as (stream, found):
            facts = facts_of(stream, gate=gate)
        seen[StampedFile(path, found.st_size, found.st_mtime_ns)] = facts
        return facts

    def _of_bytes(self, content: bytes, gate: Gate | None = None) -> Facts:
        seen: dict[Any, Facts] = {} if self._seen is None else self._seen
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen[digest] = facts_of(BytesIO(content), gate=gate)
        return seen[digest]

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Absolute paths, bytes, and arrays and images that nobody else holds."""
        return [self._plain(unwrapped(value)) for value in values]

    def _plain(self, value: Any) -> object:
        if isinstance(value, str | os.PathLike):
            return path_of(value, self._folder)
        if not isinstance(value, np.ndarray):
            return value.copy() if _is_image(value) else bytes(value)
        array = np.array(value, order="C")
        array.flags.writeable = False
        return array

    def identity(self, value: object) -> bytes:
        """SHA-256 of the file, of the bytes, or of the pixels; of a file that did not change it is worked out once.

        Raises:
            DataError: the file is not there any more, or is no picture any more.
        """
        if isinstance(value, bytes):
            return hashlib.sha256(value).digest()
        return self._facts(value).digest if isinstance(value, str) else _pixel_digest(value)

    def digest(self, value: object) -> bytes:
        """As `identity`, of a picture that was read to its end elsewhere: a file is not decoded again to be known.

        Raises:
            DataError: the file is not there any more.
        """
        if not isinstance(value, str):
            return self.identity(value)
        stamp = stamp_of(value)
        if stamp is None or stamp not in self._digests:
            try:
                with opened(value) as (stream, found):
                    digest = hashlib.file_digest(stream, "sha256").digest()
            except UnreadableError as problem:
                raise self._gone(value, problem) from None
            stamp = StampedFile(value, found.st_size, found.st_mtime_ns)
            self._digests[stamp] = digest
        return self._digests[stamp]

    def size(self, value: object) -> int:
        """Width times height."""
        if isinstance(value, np.ndarray):
            return int(value.shape[0] * value.shape[1])
        if isinstance(value, str | bytes):
            return self._facts(value).pixels
        image: Any = value
        return int(image.width * image.height)

    def _facts(self, value: str | bytes) -> Facts:
        try:
            return self._of_file(value) if isinstance(value, str) else self._of_bytes(value)
        except UnreadableError as problem:
            raise self._gone(value, problem) from None

    def _remarks(self, value: object) -> tuple[str, ...]:
        if isinstance(value, np.ndarray):
            return ()
        return self._facts(value).remarks if isinstance(value, str | bytes) else remarks_of(value)


def _is_image(value: object) -> bool:
    """Whether it is a PIL image: told by name, so that pillow is not imported for data that never saw it."""
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def _read(image: Any) -> None:
    check_size(image)
    load(image)
    check_values(image)


def _array_fault(array: NDArray[Any]) -> Fault | None:
    found = f"{array.dtype} of shape {array.shape}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3)
        mend = "put the channels last, with .transpose(1, 2, 0)" if channels_first else _FORM
        return Fault("an array of another shape than (H, W) or (H, W, 3)", None, mend, found)
    if array.dtype != np.uint8:
        mend = "scale it to whole numbers from 0 to 255 and convert with .astype('uint8')"
        return Fault("an array of other numbers than uint8", None, mend, found)
    return None if array.size else Fault("a picture without pixels", None, "drop these rows", found)


def _pixel_digest(value: Any) -> bytes:
    """Of an array, or of an image that is turned upright; a plain image and its array are the same."""
    if not isinstance(value, np.ndarray):
        image = upright(value)
        if image.mode not in ("L", "RGB") or image.has_transparency_data:
            palette = image.getpalette("RGB") if image.mode == "P" else None
            facts = repr((image.mode, image.size, palette, image.info.get("transparency")))
            return hashlib.sha256(facts.encode() + image.tobytes()).digest()
        value = np.asarray(image)
    return hashlib.sha256(repr(value.shape).encode() + value.tobytes()).digest()
