"""What tasks with one output vector per picture have in common."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import nn

from sftlib.data.problems import brief
from sftlib.encoders.image.inputs import Image
from sftlib.errors import DataError, OptionError
from sftlib.models.files.folder import is_transformers_model
from sftlib.models.heads import random_like, with_outputs
from sftlib.models.outputs import logits
from sftlib.support.values import Problem
from sftlib.tasks.vector import VectorTask


@dataclass(frozen=True, kw_only=True, repr=False)
class PictureTask(VectorTask):
    """A picture in.

    Args:
        output_layer: of a module that is not of transformers, the dotted name of its last layer, which is made anew
            with the outputs that the task needs; None to find it where it is certain which one it is.
    """

    inputs = Image
    auto_class = "AutoModelForImageClassification"

    output_layer: str | None = None

    def layer_problem(self) -> Problem:
        """What is wrong with `output_layer`, as far as that can be known without a model."""
        good = self.output_layer is None or (isinstance(self.output_layer, str) and self.output_layer)
        return None if good else f"output_layer={self.output_layer!r:.60}: expected the name of a layer, such as 'fc'"

    @final
    def attach(self, model: nn.Module, encoder: Any, *, seed: int) -> Collection[str]:
        if is_transformers_model(model):
            if self.output_layer is not None:
                raise OptionError(
                    f"output_layer={self.output_layer!r}: {type(model).__name__} is of transformers, which makes its "
                    "output layer by itself; leave it out"
                )
            return ()
        small, outputs = random_like(encoder.smallest()), self.head.outputs
        assert outputs is not None
        name = with_outputs(
            model,
            outputs,
            lambda: logits(encoder.calling(model)(model, small)),
            named=self.output_layer,
            seed=seed,
        )
        return () if name is None else [own for own, _ in model.named_parameters() if own.startswith(f"{name}.")]

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
