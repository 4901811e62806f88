"""Rows of one label near each other, rows of two labels apart: a task around a task with labels, for few of them.

All pairs of a batch are compared at once: 496 of 32 rows, for 32 passes through the model. The model answers with what
its output layer would read; that layer is away meanwhile, and fitted afterwards.

Letters: ``B`` rows of an effective batch, ``b`` of a micro-batch, ``H`` features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.open_head import open_head
from sftlib.models.outputs import logits
from sftlib.tasks.around import Around
from sftlib.tasks.base import LossSum
from sftlib.tasks.plan import Plan
from sftlib.tasks.single_label import OneLabelTask


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Contrast(Around):
    """The squared error of each pair's cosine, which should be 1 where the labels are equal and 0 where they differ.

    It couples rows, so ``batch_size`` is part of what is learned.

    Args:
        inner: the task with labels, which says what rows are and how they are read.
    """

    taken = ("name", "auto_class", "inputs", "shows_more", "every_row_counts")
    couples_rows = True

    inner: OneLabelTask

    # The model.

    def prepare(self, model: nn.Module, encoder: Encoder) -> None:
        super().prepare(model, encoder)
        outputs = self.head.outputs
        if outputs is None or not open_head(model, outputs):
            raise OptionError(
                f"few_shot: {type(model).__name__} has no linear layer with {outputs} outputs above its body, so no "
                "head can be fitted; leave few_shot= out"
            )

    # What is learned.

    def plan(self, encoded: Encoded, *, batch_size: int, seed: int) -> Plan:
        target = encoded.targets["target"]
        assert isinstance(target, np.ndarray)
        return BalancedPlan(target, batch_size=batch_size, seed=seed)

    def features(self, outputs: Any) -> Tensor:
        """(b, H) what the output layer would read, in fp32.

        Raises:
            OptionError: the model answers with something else than a vector a row.
        """
        found = logits(outputs)
        if found.dim() != 2:
            raise OptionError(f"few_shot: the model answers with {tuple(found.shape)}, not with a vector a row")
        return found

    def by_row(self, outputs: Any, batch: Batch) -> Tensor:
        return self.features(outputs)

    def from_rows(self, lines: Tensor) -> Tensor:
        return lines

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        found = functional.normalize(self.features(outputs), dim=-1)  # (B, H)
        target = batch.targets["target"]
        wanted = (target[:, None] == target[None, :]).to(found.dtype)
        first, second = torch.triu_indices(len(found), len(found), offset=1, device=found.device)
        apart = (found @ found.T - wanted)[first, second]
        return LossSum(apart.square().sum(), found.new_full((), len(first)))

    def decode(self, outputs: Any, batch: Batch) -> list[NDArray[np.float32]]:
        return list(self.features(outputs).float().cpu().numpy())


@final
class BalancedPlan(Plan):
    """As many rows of each label in every step, or where labels are many, two rows of as many labels as there is room.

    Args:
        target: (N,) the number of each row's label.
        batch_size: rows of a step.
        seed: of the draws.

    Example:
        >>> plan = BalancedPlan(np.array([0, 0, 0, 1, 1, 1]), batch_size=4, seed=0)
        >>> sorted(np.array([0, 0, 0, 1, 1, 1])[plan.rows(7)].tolist())
        [0, 0, 1, 1]
    """

    def __init__(self, target: NDArray[np.int64], *, batch_size: int, seed: int) -> None:
        self.steps_per_epoch = max(1, -(-len(target) // batch_size))
        self._members = [np.flatnonzero(target == label) for label in np.unique(target)]
        self._size = batch_size
        self._seed = seed

    def rows(self, step: int) -> NDArray[np.int64]:
        generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, step], dtype=np.uint64)))
        order = generator.permutation(len(self._members))[: max(2, self._size // 2)]
        wanted = [self._size // len(order) + (place < self._size % len(order)) for place in range(len(order))]
        drawn = [generator.permutation(self._members[k])[:count] for k, count in zip(order, wanted, strict=True)]
        return np.concatenate(drawn)
