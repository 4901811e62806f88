"""What tasks with one output vector per picture have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.base import Draws, Mixed
from sftlib.encoders.batch import Batch
from sftlib.encoders.draws import Draw
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.image.augment import Pixels
from sftlib.encoders.image.encoder import PIXELS, ImageEncoder
from sftlib.encoders.image.inputs import Image
from sftlib.errors import DataError, OptionError
from sftlib.models.files.folder import is_transformers_model
from sftlib.models.heads import random_like, with_outputs
from sftlib.models.outputs import logits
from sftlib.support.canvas import Drawn, Gallery, drawn
from sftlib.support.values import Problem
from sftlib.tasks.base import Label, Task
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
    mixes = True

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
    def mix(self, batch: Batch, encoded: Encoded, mixed: Mixed) -> Batch:
        targets = encoded.targets["target"]
        assert isinstance(targets, np.ndarray)
        own, others = (self.shares(torch.from_numpy(targets[rows])) for rows in (batch.rows.numpy(), mixed.partners))
        share = torch.from_numpy(mixed.shares).to(own.dtype)[:, None]  # (B, 1)
        return replace(batch, targets={**batch.targets, "target": share * own + (1 - share) * others})

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return ("image",)

    @final
    def preview(self, data: TaskDataset, row: int, encoder: Any, *, seed: int) -> Gallery:
        return views(self, data, row, encoder, self._drawn, seed=seed)

    def _drawn(self, pixels: Pixels, batch: Batch, when: str) -> Drawn:
        return drawn(pixels, caption=f"{when}: {told(batch.targets['target'][0], self.label_names)}")

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


#: Draws targets on a picture: pixels, the batch of that one row, and when it is seen so.
Drawing = Callable[[Pixels, Batch, str], Drawn]

_EPOCHS = 5  # of training that a preview shows


def views(task: Task, data: TaskDataset, row: int, encoder: ImageEncoder, drawing: Drawing, *, seed: int) -> Gallery:
    """How a row is shown in evaluation, and in the first epochs of training where that differs.

    Args:
        task: lays it out.
        data: all rows, since what is drawn for one depends on its number.
        row: its number.
        encoder: reads it.
        drawing: draws what is learned on it.
        seed: of the run.
    """
    encoded, rows = task.encode(data, encoder), np.array([row])
    looks: dict[str, Draws | None] = {"in evaluation": None}
    looks |= {f"epoch {epoch + 1}": partial(Draw, seed, epoch) for epoch in range(_EPOCHS if encoder.draws else 0)}
    shown = []
    for when, draws in looks.items():
        batch = task.collate(encoded, rows, encoder, draws)
        shown += [
            drawing(encoder.pixels(values[0]), batch, when)
            for name, values in batch.inputs.items()
            if name.startswith(PIXELS)
        ]
    return Gallery(shown)


def told(target: Tensor, names: Sequence[Label] | None) -> str:
    """A target in words.

    Example:
        >>> told(torch.tensor(1), ["ant", "bee"]), told(torch.tensor([0.25, 0.75]), ["ant", "bee"])
        ('bee', 'ant 0.25, bee 0.75')
        >>> told(torch.tensor([1.5]), None)
        '1.5'
    """
    if names is None:
        return f"{float(target[0]):.4g}"
    if target.ndim == 0:
        return str(names[int(target)])
    shares = [(name, share) for name, share in zip(names, target.tolist(), strict=True) if share > 0]
    return ", ".join(f"{name}" if share == 1 else f"{name} {share:.2f}" for name, share in shares) or "no label"
