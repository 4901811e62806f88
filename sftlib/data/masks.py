"""Opening masks: a whole number for each pixel of a picture, in a file, in bytes, in an image or as an array.

A mask is read as the numbers it holds, never as colours: of a palette the indices count. What does not keep numbers
(JPEG, colours) is refused.
"""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sftlib.data.pictures import UnreadableError, check_size, check_values, load, loaded, opened, path_of, upright

if TYPE_CHECKING:
    from PIL.Image import Image

Numbers = NDArray[np.integer[Any]]

_GREY = "save the number of the class of each pixel as a grey or palette PNG, or give an (H, W) array of whole numbers"
_FORM = "give a path, or an (H, W) array of whole numbers"


class MaskFacts(NamedTuple):
    """What is known of a mask that was read once.

    Attributes:
        digest: SHA-256 of its numbers and their shape.
        shape: H and W.
        counts: number -> how many pixels have it, in rising order.
    """

    digest: bytes
    shape: tuple[int, int]
    counts: dict[int, int]


def numbers_of(value: Any) -> Numbers:
    """(H, W) the numbers of a mask, as they stand in it.

    Args:
        value: a path, the bytes of a file, a PIL image, or an array or nested list of whole numbers.

    Raises:
        UnreadableError: it is none of these, or holds no whole number for each pixel.

    Example:
        >>> numbers_of([[0, 1], [2, 255]]).tolist()
        [[0, 1], [2, 255]]
    """
    if isinstance(value, str | os.PathLike):
        with opened(path_of(value)) as (stream, _):
            return _of_file(stream)
    if isinstance(value, bytes | bytearray | memoryview):
        return _of_file(BytesIO(bytes(value)))
    if hasattr(value, "getbands"):  # as pillow's images have
        check_size(value)
        load(value)
        check_values(value)
        return _of_image(value)
    if isinstance(value, list | tuple):
        try:
            value = np.array(value)
        except ValueError:  # rows of several lengths
            raise UnreadableError("a list that is no mask, with lines of different lengths", _FORM) from None
    if isinstance(value, np.ndarray):
        return _of_array(value)
    raise UnreadableError(f"{type(value).__name__} instead of a mask", _FORM)


def facts_of_mask(numbers: Numbers) -> MaskFacts:
    """What is known of the numbers of a mask."""
    found, counts = np.unique(numbers, return_counts=True)
    wide = np.ascontiguousarray(numbers, np.int64)
    digest = hashlib.sha256(repr(wide.shape).encode() + wide.tobytes()).digest()
    height, width = numbers.shape
    return MaskFacts(digest, (height, width), dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _of_file(stream: IO[bytes]) -> Numbers:
    image = loaded(stream)
    if image.format in ("JPEG", "MPO", "WEBP", "AVIF"):
        what = f"a mask as {image.format}, which does not keep numbers exactly"
        raise UnreadableError(what, _GREY)
    return _of_image(image)


def _of_image(image: Image) -> Numbers:
    image = upright(image)
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        return _of_array(np.asarray(image))
    bands = np.asarray(image)
    colours = bands[..., :3] if image.mode in ("RGB", "RGBA") else None
    opaque = image.mode == "RGB" or (image.mode == "RGBA" and bool((bands[..., 3] == 255).all()))
    if colours is not None and opaque and bool((colours == colours[..., :1]).all()):
        return _of_array(colours[..., 0])
    raise UnreadableError("a mask in colours, or with transparent parts", _GREY, f"mode {image.mode}")


def _of_array(array: NDArray[Any]) -> Numbers:
    found = f"{array.dtype} of shape {array.shape}"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 or not array.size:
        raise UnreadableError("a mask of another shape than (H, W)", _FORM, found)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        mend = "convert it with .astype('uint8'), if these are the numbers of classes"
        raise UnreadableError("a mask of other than whole numbers", mend, found)
    low, high = int(array.min()), int(array.max())
    return np.array(array, np.uint8 if low >= 0 and high <= 255 else np.int32, order="C")
