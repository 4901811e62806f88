"""From whatever holds a picture to its pixels: red, green and blue, upright, 8 bits each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftlib.data.pictures import UnreadableError, check_size, check_values, loaded, opened, path_of, pillow, upright
from sftlib.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]


def decode(value: Any) -> Pixels:
    """The pixels of a picture.

    What a camera wrote into EXIF about up and down is applied. Of several frames the first is taken. Grey becomes three
    equal channels, a palette its colours, 16 bits are scaled to 8 (65,535 becomes 255), and transparent parts are laid
    on white. CMYK is converted without a colour profile, as other libraries do.

    Args:
        value: a path, the bytes of a file, a PIL image, or an (H, W), (H, W, 1) or (H, W, 3) array of uint8.

    Returns:
        (H, W, 3) uint8, contiguous, and nobody else's.

    Raises:
        DataError: it cannot be read; the message names the file.
        MissingExtraError: pillow is not installed.

    Example:
        >>> decode(np.array([[0, 255]], np.uint8)).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    if isinstance(value, np.ndarray):
        return _of_array(value)
    try:
        return _rgb(upright(_image_of(value)))
    except UnreadableError as problem:
        name = f"the picture {os.fspath(value)!r}" if isinstance(value, str | os.PathLike) else "a picture"
        note = f" ({problem.note})" if problem.note else ""
        raise DataError(f"{name} is {problem.what}{note}: {problem.mend}") from None


def _of_array(array: NDArray[Any]) -> Pixels:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        found = f"{array.dtype} of shape {array.shape}"
        raise DataError(f"a picture is an array of {found}: expected uint8 of shape (H, W) or (H, W, 3)")
    shaped = array.reshape(*array.shape[:2], -1)
    return np.array(np.broadcast_to(shaped, (*array.shape[:2], 3)), order="C")


def _image_of(value: Any) -> Image:
    """A decoded pillow image."""
    if isinstance(value, bytes):
        return loaded(value)
    if isinstance(value, str | os.PathLike):
        with opened(path_of(value)) as (stream, _):
            return loaded(stream)
    image: Image = value
    if not isinstance(image, pillow().Image):
        expected = "a path, bytes, a PIL image or an array of uint8"
        raise DataError(f"a picture is of type {type(value).__name__}: expected {expected}")
    check_size(image)
    check_values(image)
    return image


def _rgb(image: Image) -> Pixels:
    """Three channels of 8 bits, of an image in any mode."""
    if image.mode.startswith("I"):
        return _of_array(_scaled(np.asarray(image)))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = pillow().new("RGBA", coloured.size, (255, 255, 255, 255))
        image = pillow().alpha_composite(white, coloured)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"), np.uint8, order="C")


def _scaled(values: NDArray[Any]) -> Pixels:
    """65,535 as 255: pillow's own conversion of 16 bits cuts off at 255, which leaves white pictures."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
