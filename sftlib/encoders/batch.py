"""From flat arrays to the tensors of one micro-batch.

Letters: ``B`` rows of the micro-batch, ``T`` tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sftlib.encoders.encoded import Encoded, Ragged, pad_together

#: Stands where a target of a token is none: beyond a row's end, and on tokens that are not to be learned.
IGNORED = -100


@final
@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    Attributes:
        rows: (B,) row numbers in `Encoded`; they identify a row to dropout, whatever batch it comes in.
        lengths: (B,) tokens of each row.
        inputs: name -> (B, T); what the model sees.
        targets: name -> (B, ...), or (B, S) of targets of different lengths; what only the loss sees.
        notes: the same, of what the task needs to read the model's answer.
    """

    rows: torch.Tensor
    lengths: torch.Tensor
    inputs: Mapping[str, torch.Tensor]
    targets: Mapping[str, torch.Tensor]
    notes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        if device.type == "cpu":
            return self
        return Batch(
            rows=self.rows.to(device),
            lengths=self.lengths.to(device),
            inputs={name: value.to(device) for name, value in self.inputs.items()},
            targets={name: value.to(device) for name, value in self.targets.items()},
            notes={name: value.to(device) for name, value in self.notes.items()},
        )


def pad(encoded: Encoded, rows: NDArray[np.int64], *, fill: Mapping[str, int]) -> Batch:
    """Lay rows side by side, filled up on the right, with an attention mask.

    Args:
        encoded: the data set.
        rows: (B,) row numbers.
        fill: value that fills up each input.

    Returns:
        A `Batch` whose inputs are (B, T) int64, among them ``attention_mask``. Targets of tokens are filled up with
        `IGNORED`, notes of tokens with 0.
    """
    padded, mask = pad_together(encoded.inputs, rows, fill=fill)
    inputs = {name: torch.from_numpy(values) for name, values in padded.items()}
    inputs["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
    return Batch(
        rows=torch.from_numpy(rows),
        lengths=torch.from_numpy(encoded.lengths[rows]),
        inputs=inputs,
        targets=_laid_out(encoded.targets, rows, IGNORED),
        notes=_laid_out(encoded.notes, rows, 0),
    )


def _laid_out(
    parts: Mapping[str, NDArray[Any] | Ragged], rows: NDArray[np.int64], fill: int
) -> dict[str, torch.Tensor]:
    """What belongs to the chosen rows; what has a length for each row is filled up."""
    return {
        name: torch.from_numpy(
            values.padded(rows, fill=fill) if isinstance(values, Ragged) else np.asarray(values[rows])
        )
        for name, values in parts.items()
    }
