"""One micro-batch: what the model sees of a few rows, and what only the loss sees.

Letters: ``B`` rows of the micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.encoders.encoded import Column, Filed, Ragged
from sftlib.models.device import sent

#: Stands where a target is none: beyond a row's end, and on what is not to be learned.
IGNORED = -100


@final
@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Attributes:
        rows: (B,) row numbers in `Encoded`; they identify a row to dropout, whatever batch it comes in.
        cost: (B,) what each row takes of the pass.
        inputs: name -> (B, ...); what the model sees.
        targets: name -> (B, ...), or (B, S) of targets of different lengths; what only the loss sees.
        notes: the same, of what the task needs to read the model's answer.
        of_step: counts of the whole effective batch, by the names that `Task.counts` gave them, for losses of several
            denominators.
        known_by: what identifies the content of each row; only where outputs of frozen layers are kept.
        before: the batch that this one was before it moved to a device; None of one that never moved.
    """

    rows: Tensor
    cost: Tensor
    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    of_step: Mapping[str, float] = field(default_factory=dict)
    known_by: tuple[bytes, ...] = ()
    before: Batch | None = None

    @property
    def at_hand(self) -> Batch:
        """The same where the host reads it without waiting for a device."""
        return self if self.before is None else self.before

    def to(self, device: torch.device) -> Batch:
        """The same on a device, which need not have it yet when this returns."""
        if device.type == "cpu":
            return self
        moved = partial(sent, device=device)
        return replace(
            self,
            rows=moved(self.rows),
            cost=moved(self.cost),
            inputs={name: moved(value) for name, value in self.inputs.items()},
            targets={name: moved(value) for name, value in self.targets.items()},
            notes={name: moved(value) for name, value in self.notes.items()},
            before=self.at_hand,
        )


def places(chosen: Tensor, device: torch.device) -> tuple[Tensor, ...]:
    """Where a mask that the host has is true, as indices on a device.

    Choosing by a mask that lies on a device would have the host wait for it, to learn how much is chosen.

    Example:
        >>> [part.tolist() for part in places(torch.tensor([[True, False], [True, True]]), torch.device("cpu"))]
        [[0, 1, 1], [0, 0, 1]]
    """
    return tuple(sent(part, device) for part in chosen.nonzero(as_tuple=True))


def laid_out(columns: Mapping[str, Column], rows: NDArray[np.int64], fill: float) -> dict[str, Tensor]:
    """What belongs to the chosen rows, as tensors; what has a length for each row is filled up on the right.

    Raises:
        TypeError: a filed column: what it refers to is for an encoder to decode.
    """
    return {name: torch.from_numpy(_array(values, rows, fill)) for name, values in columns.items()}


def _array(values: Column, rows: NDArray[np.int64], fill: float) -> NDArray[Any]:
    if isinstance(values, Filed):
        raise TypeError("a column of references cannot be laid out; load it")
    return values.padded(rows, fill=fill) if isinstance(values, Ragged) else np.asarray(values[rows])
