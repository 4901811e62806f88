"""One forward pass: the right inputs, the right layout and precision, dropout masks that know the rows.

Letters: ``B`` rows, ``K`` outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from sftlib.encoders.base import Call
from sftlib.encoders.batch import Batch
from sftlib.models.checkpointing import checkpointed
from sftlib.models.dropout import DropoutMasks, row_dropout
from sftlib.models.layouts.layout import Layout
from sftlib.models.precision import Precision
from sftlib.models.randomness import settled_randomness

Ask = Callable[[nn.Module, Callable[..., Any], Mapping[str, Any]], Any]
Inputs = Mapping[str, Tensor]


class Draw(Protocol):
    """What the model is shown of a batch, as `sftlib.tasks.base.Task.draw` says it."""

    def __call__(self, inputs: Inputs, /, *, seed: int, step: int | None) -> Inputs: ...


def as_they_are(inputs: Inputs, /, *, seed: int, step: int | None) -> Inputs:
    """The rows as collated."""
    return inputs


def plainly(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    """Whatever the model returns."""
    return call(model, inputs)


@final
class Forward:
    """Calls a model on batches.

    Args:
        model: the module; it never sees labels.
        device: where it lies.
        precision: number format of the products.
        layout: how rows lie inside the model.
        call: hands inputs to the model, as `sftlib.encoders.base.Encoder.calling` says it.
        seed: of the dropout masks.
        ask: what of the model's answer is wanted, as `sftlib.tasks.base.Task.ask` says it.
        checkpointing: whether layers compute twice what they would have to keep.
        draw: what the model is shown.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: torch.device,
        precision: Precision,
        layout: Layout,
        call: Call,
        seed: int,
        ask: Ask = plainly,
        checkpointing: bool = False,
        draw: Draw = as_they_are,
    ) -> None:
        self._checkpointing = checkpointing
        self.model = model
        self.device = device
        self.precision = precision
        self.layout = layout
        self._seed = seed
        self._masks = DropoutMasks(seed)
        self._call = call
        self._ask = ask
        self._draw = draw

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Within this context the model computes our way; afterwards it is made of its own parts again."""
        twice = checkpointed(self.model, self._masks, on=self._checkpointing)
        dropped, settled = row_dropout(self.model, self._masks), settled_randomness(self.model, self._masks)
        with dropped, settled, self.layout.installed(self.model), twice:
            yield

    def train(self, batch: Batch, *, step: int) -> Any:
        """A pass with dropout.

        Args:
            batch: on the model's device.
            step: optimizer step, from 0.

        Returns:
            Whatever the model returns.
        """
        # Models that call dropout inside their own functions draw from torch's generator: seeded by what this pass
        # works on, they repeat themselves after a resume, though not under another layout.
        seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed(((self._seed * 1_000_003 + step) * 1_000_003 + int(batch.at_hand.rows[0])) % 2**63)
        more = self.layout.arguments(self._masks, batch.at_hand.inputs, batch.known_by, device=self.device)
        flat = (more["sequences"].rows, more["sequences"].positions) if "sequences" in more else None
        with self._masks.laid_out(step, batch.rows, flat), self.layout.watching(self._masks):
            return self._pass(self._draw(batch.inputs, seed=self._seed, step=step), more)

    def works(self) -> bool:
        """Whether a pass that was just made met everything that the layout handed the model."""
        return self.layout.works(self._masks)

    def __call__(self, batch: Batch) -> Any:
        """A pass without dropout, when the model is in evaluation mode."""
        more = self.layout.arguments(self._masks, batch.at_hand.inputs, batch.known_by, device=self.device)
        return self._pass(self._draw(batch.inputs, seed=self._seed, step=None), more)

    def _pass(self, inputs: Mapping[str, Tensor], more: Mapping[str, Any]) -> Any:
        with self.precision.autocast(self.device):
            return self._ask(self.model, self._call, {**inputs, **more})

    @contextlib.contextmanager
    def plain(self) -> Iterator[nn.Module]:
        """Within this context the model is called as transformers does, with its own attention: for generating."""
        with self.layout.lifted(self.model), self.precision.autocast(self.device):
            yield self.model
