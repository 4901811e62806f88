"""What tasks have in common whose targets lie in a picture: masks, boxes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.data.dataset import TaskDataset
from sftlib.data.pictures import size_of
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded, Filed
from sftlib.encoders.image.augment import Pixels
from sftlib.encoders.image.encoder import PIXELS, ImageEncoder
from sftlib.encoders.image.inputs import Image
from sftlib.encoders.image.places import scaling, size_before
from sftlib.errors import OptionError
from sftlib.models.sources import ModelSource
from sftlib.support.canvas import Drawn, Gallery
from sftlib.tasks.base import Task
from sftlib.tasks.image.pictures import example_pictures, picture_of, views

Moves = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, repr=False)
class PlacedTask(Task):
    """A picture in, and targets that lie in it: it is shown from edge to edge, and they move along."""

    inputs = Image

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return ("image",)

    @final
    def open(self, inputs: Image, source: ModelSource) -> ImageEncoder:
        return inputs.open_whole(source)

    @final
    def place(self, batch: Batch, encoded: Encoded, encoder: ImageEncoder, moved: Moves | None) -> Batch:
        if not encoder.shows_all:
            raise OptionError(
                f"{self.name}: pictures must be shown from edge to edge, without crops and margins, since what is "
                "learned lies in them; give Image(processor=...) and Image(size=...) to the tuner"
            )
        if moved is None:  # nobody read them
            moved = np.stack([scaling(size_of(_picture(encoded, row)), encoder.size) for row in batch.rows.tolist()])
        sizes = np.array([size_before(one, encoder.size) for one in moved], np.int64)  # (B, 2)
        batch = replace(batch, notes={**batch.notes, "size": torch.from_numpy(sizes)})
        return self.put(batch, encoded, encoder.size, moved) if encoded.targets else batch

    @abstractmethod
    def put(self, batch: Batch, encoded: Encoded, size: tuple[int, int], moved: Moves) -> Batch:
        """Put targets into a batch, moved as their pictures were.

        Args:
            batch: as it was laid out.
            encoded: the data set, labelled.
            size: height and width of what the model sees.
            moved: (B, 3, 3) how the picture of each row was moved.
        """

    @final
    def preview(self, data: TaskDataset, row: int, encoder: Any, *, seed: int) -> Gallery:
        return views(self, data, row, encoder, self.drawn, seed=seed)

    @abstractmethod
    def drawn(self, pixels: Pixels, batch: Batch, when: str) -> Drawn:
        """Targets drawn on what the model sees.

        Args:
            pixels: (H, W, 3) uint8.
            batch: of this row alone.
            when: it is seen so, for the caption.
        """

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        return {"image": picture_of(example)}

    def examples(self) -> list[object]:
        return example_pictures()


def _picture(encoded: Encoded, row: int) -> Any:
    pictures = encoded.inputs[PIXELS]
    assert isinstance(pictures, Filed)
    return pictures[row]
