"""What tasks with one output vector per picture have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from sftlib.data.problems import brief
from sftlib.encoders.image.inputs import Image
from sftlib.errors import DataError
from sftlib.tasks.vector import VectorTask


@dataclass(frozen=True, kw_only=True, repr=False)
class PictureTask(VectorTask):
    """A picture in."""

    inputs = Image
    auto_class = "AutoModelForImageClassification"

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return ("image",)

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        return {"image": picture_of(example)}

    def examples(self) -> list[object]:
        return example_pictures()


def picture_of(example: object) -> Any:
    """The picture of one input to ``predict``.

    Raises:
        DataError: it is none.
    """
    value = example.get("image") if isinstance(example, Mapping) and len(example) == 1 else example
    if not is_picture(value):
        raise DataError(
            "this model takes pictures: a path, bytes, a PIL image, an array (H, W, 3) of uint8, or a mapping with "
            f"'image'; found {brief(example, 80)}"
        )
    return value


def is_picture(value: object) -> bool:
    """Whether a value may be a picture: what it holds is looked at later."""
    return isinstance(value, str | os.PathLike | bytes | np.ndarray) or hasattr(value, "getbands")


def example_pictures() -> list[object]:
    """Pictures of different shapes: grey, all colours beside each other, and noise."""
    across, down = np.meshgrid(np.arange(60), np.arange(40))
    colours = np.stack([across * 4, down * 6, across + down], axis=-1).astype(np.uint8)
    noise = np.random.Generator(np.random.Philox(key=0)).integers(0, 256, (33, 21, 3), dtype=np.uint8)
    return [np.full((24, 24, 3), 127, np.uint8), colours, noise]
