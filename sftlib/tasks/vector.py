"""What tasks with one output vector per row have in common, whatever the row is made of.

Letters: ``B`` rows, ``T`` positions, ``K`` outputs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.device import sent
from sftlib.models.outputs import logits
from sftlib.tasks.base import Task


class VectorTask(Task):
    """Something in; ``K`` numbers out."""

    auto_class = "AutoModelForSequenceClassification"
    shares_body = True

    @abstractmethod
    def targets(self, data: TaskDataset) -> NDArray[Any]:
        """(N, ...) what the loss compares outputs with."""

    def shares(self, target: Tensor) -> Tensor:
        """(B, ...) targets that may be added up, where a row is partly one and partly another: as they are."""
        return target

    def check_form(self, data: TaskDataset) -> None:
        """Refuse rows that come in another form than those the model was made for."""
        return

    def check_targets(self, data: TaskDataset) -> None:
        """Refuse targets that this task does not know."""
        return

    @final
    def encode(self, data: TaskDataset, encoder: Any, columns: Encoded | None = None) -> Encoded:
        found = self.written(data, encoder) if columns is None else columns
        if not data.is_labelled:
            return found.with_targets({})
        target = self.targets(data)  # of a long row each of its parts has its target
        return found.with_targets({"target": target if len(found) == len(data) else target[found.owners]})

    def scores(self, outputs: Any, batch: Batch) -> Tensor:
        """(B, K) fp32 outputs of the model, checked against what the task needs.

        Raises:
            OptionError: a model whose output has another shape.
        """
        try:
            found = logits(outputs)
        except (TypeError, IndexError):
            raise OptionError(
                f"the model returned {type(outputs).__name__}; expected scores: a tensor (rows, {self.head.outputs}), "
                "or something that has one as .logits or 'logits', or first in a tuple"
            ) from None
        expected = (len(batch.rows), self.head.outputs)
        if found.shape != expected:
            raise OptionError(
                f"the model returned scores of shape {tuple(found.shape)}; {self.name} on this data needs {expected}: "
                f"rows times {'labels' if self.label_names else 'values'}"
            )
        return found

    @final
    def check_rows(self, data: TaskDataset) -> None:
        self.check_form(data)
        if data.is_labelled:
            self.check_targets(data)


def as_tensor(weights: tuple[float, ...] | None, like: Tensor) -> Tensor | None:
    """Weights as a tensor of the type and device of ``like``."""
    return None if weights is None else sent(torch.tensor(weights, dtype=like.dtype), like.device)
