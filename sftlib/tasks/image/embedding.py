"""Image embedding: pictures of one identity lie near each other; faces, products, places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.image.inputs import Image
from sftlib.support.canvas import Gallery, drawn
from sftlib.support.checking import checked_fields
from sftlib.tasks.identities import IdentityTask
from sftlib.tasks.image.pictures import example_pictures, picture_of, views


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class ImageEmbedding(IdentityTask):
    """An embedding for each picture, of length 1, in which pictures of one identity lie together.

    ``"arcface"`` and ``"cosface"`` learn a direction for each identity, and a row's loss is its own; ``"triplet"`` and
    ``"contrastive"`` compare the pictures of a step, ``rows_of_each`` of as many identities as fit into ``batch_size``;
    ``"pairs"`` learns from two pictures and a verdict. Identities of validation and test rows may be new.

    The embedding is the mean of the model's last states over all places of the picture, divided by its length, and
    `AutoModel` gives the same of the saved folder. Validation rows choose the similarity from which on two pictures are
    called the same.

    Args:
        objective: what is learned; by the roles of the data when None: ``"arcface"``, or ``"pairs"``.
        margin: by how much a picture is to be nearer to its own identity than to others; by the objective when None.
        scale: factor of the cosines; by the objective when None.
        rows_of_each: pictures of an identity in a step (``"triplet"``, ``"contrastive"``).
        pooling: ``"mean"`` of the last states, the ``"first"`` of them, or the model's own ``"pooler"``.
        far: share of strangers that may pass at the threshold; None for where both errors are nearest to each other.
        learned: objective, identities and threshold; from the data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> ImageEmbedding(objective="triplet", margin=0.2)
        ImageEmbedding(objective='triplet', margin=0.2)
    """

    name = "image-embedding"
    inputs = Image
    media = "image"

    def preview(self, data: TaskDataset, row: int, encoder: Any, *, seed: int) -> Gallery:
        said = f"{'same' if 'same' in data.roles else 'label'} {data[row]['same' if 'same' in data.roles else 'label']}"
        return views(
            self, data, row, encoder, lambda pixels, _, when: drawn(pixels, caption=f"{when}: {said}"), seed=seed
        )

    def one(self, example: object) -> Any:
        return picture_of(example)

    def examples(self) -> list[object]:
        return example_pictures()
