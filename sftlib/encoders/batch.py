"""One micro-batch: what the model sees of a few rows, and what only the loss sees.

Letters: ``B`` rows of the micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sftlib.encoders.encoded import Column, Filed, Ragged

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
    """

    rows: Tensor
    cost: Tensor
    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Tensor] = field(default_factory=dict)
    of_step: Mapping[str, float] = field(default_factory=dict)
    known_by: tuple[bytes, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            rows=self.rows.to(device),
            cost=self.cost.to(device),
            inputs={name: value.to(device) for name, value in self.inputs.items()},
            targets={name: value.to(device) for name, value in self.targets.items()},
            notes={name: value.to(device) for name, value in self.notes.items()},
        )


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
