"""One forward pass: the right inputs, the right precision, dropout masks that know the rows.

Letters: ``B`` rows, ``T`` positions.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from sftlib.models.dropout import DropoutMasks, row_dropout
from sftlib.models.precision import Precision


@final
class Forward:
    """Calls a model on padded inputs.

    Args:
        model: the module; it never sees labels.
        device: where it lies.
        precision: number format of the products.
        seed: of the dropout masks.
    """

    def __init__(self, model: nn.Module, *, device: torch.device, precision: Precision, seed: int) -> None:
        self.model = model
        self.device = device
        self.precision = precision
        self._seed = seed
        self._masks = DropoutMasks(seed)
        self._extra: dict[str, Any] = {}
        self._call = _calling_convention(model)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Within this context the model attends and drops out our way; afterwards it is made of its own parts again."""
        from sftlib.models.attention import own_attention

        with row_dropout(self.model, self._masks), own_attention(self.model) as owned:
            self._extra = {"dropout_masks": self._masks} if owned else {}
            try:
                yield
            finally:
                self._extra = {}

    def train(self, inputs: Mapping[str, Tensor], rows: Tensor, *, step: int) -> Any:
        """A pass with dropout.

        Args:
            inputs: name -> (B, T).
            rows: (B,) row numbers in the data set.
            step: optimizer step, from 0.

        Returns:
            Whatever the model returns.
        """
        batch, longest = inputs["input_ids"].shape
        positions = torch.arange(longest, device=self.device).expand(batch, longest)
        # Models that call dropout inside their own functions draw from torch's generator: seeded by what this pass
        # works on, they repeat themselves after a resume, though not under another layout.
        torch.manual_seed((self._seed * 1_000_003 + step) * 1_000_003 + int(rows[0]))
        with self._masks.laid_out(step, rows[:, None].expand(batch, longest), positions):
            return self(inputs)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Any:
        """A pass without dropout, when the model is in evaluation mode."""
        with self.precision.autocast(self.device):
            return self._call(self.model, {**inputs, **self._extra})


def logits(outputs: Any) -> Tensor:
    """The scores in whatever a model returned, in fp32: a tensor, ``.logits``, or the first of a tuple."""
    found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
    if found is None and isinstance(outputs, Mapping):
        found = outputs.get("logits")
    if found is None and isinstance(outputs, tuple):
        found = outputs[0]
    if not isinstance(found, Tensor):
        raise TypeError(f"the model returned {type(outputs).__name__}; expected a tensor or something with .logits")
    return found.float()


def _calling_convention(model: nn.Module) -> Any:
    """How to hand inputs to ``model.forward``: by keyword where it names them, else tokens and mask in order."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return lambda module, inputs: module(**inputs)
    names = [p.name for p in parameters]
    if "input_ids" in names:
        return lambda module, inputs: module(**{name: value for name, value in inputs.items() if name in names})
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    if len(required) >= 2:
        return lambda module, inputs: module(inputs["input_ids"], inputs["attention_mask"])
    return lambda module, inputs: module(inputs["input_ids"])
