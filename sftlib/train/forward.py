"""One forward pass: the right inputs, the right layout and precision, dropout masks that know the rows.

Letters: ``B`` rows, ``T`` positions, ``K`` outputs.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from sftlib.encoders.batch import Batch
from sftlib.models.checkpointing import checkpointed
from sftlib.models.dropout import DropoutMasks, row_dropout
from sftlib.models.layouts.layout import Layout, choose_layout
from sftlib.models.outputs import logits
from sftlib.models.precision import Fp32, Precision
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
        self._call = _calling_convention(model)
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
        rows, longest = batch.inputs["input_ids"].shape
        positions = torch.arange(longest, device=self.device).expand(rows, longest)
        # Models that call dropout inside their own functions draw from torch's generator: seeded by what this pass
        # works on, they repeat themselves after a resume, though not under another layout.
        seed = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed(((self._seed * 1_000_003 + step) * 1_000_003 + int(batch.rows[0])) % 2**63)
        more = self.layout.arguments(self._masks, batch.lengths, longest)
        flat = more["sequences"].tokens if "sequences" in more else None
        others = {value.shape[1] for value in batch.inputs.values()} - {longest}
        laid_out = self._masks.laid_out(step, batch.rows[:, None].expand(rows, longest), positions, flat, others)
        with laid_out, self.layout.watching(self._masks):
            return self._pass(self._draw(batch.inputs, seed=self._seed, step=step), more)

    def __call__(self, batch: Batch) -> Any:
        """A pass without dropout, when the model is in evaluation mode."""
        more = self.layout.arguments(self._masks, batch.lengths, batch.inputs["input_ids"].shape[1])
        return self._pass(self._draw(batch.inputs, seed=self._seed, step=None), more)

    def _pass(self, inputs: Mapping[str, Tensor], more: Mapping[str, Any]) -> Any:
        with self.precision.autocast(self.device):
            return self._ask(self.model, self._call, {**inputs, **more})

    @contextlib.contextmanager
    def plain(self) -> Iterator[nn.Module]:
        """Within this context the model is called as transformers does, with its own attention: for generating."""
        with self.layout.lifted(self.model), self.precision.autocast(self.device):
            yield self.model


def fitting_layout(
    model: nn.Module,
    batches: Sequence[Batch],
    device: torch.device,
    *,
    padding_free: bool | None,
    ask: Ask = plainly,
    draw: Draw = as_they_are,
) -> Layout:
    """The leanest layout in which the model gives its own answers on these batches.

    Args:
        model: on its device.
        batches: a few rows of different lengths each, the longest of the data among them.
        device: of model and batches.
        padding_free: whether to try rows end to end; None to decide by the width of the model.
        ask: what of the model's answer is looked at.
        draw: what the model is shown.
    """

    def run(layout: Layout) -> Tensor:
        forward = Forward(model, device=device, precision=Fp32(), layout=layout, seed=0, ask=ask, draw=draw)
        with torch.inference_mode(), forward.prepared():
            scores = torch.cat([of_tokens(logits(forward(batch)), batch).flatten() for batch in batches])
        if not layout.works(forward._masks):
            raise ValueError(f"{type(model).__name__} does not hand keywords on to its attention")
        return scores

    was_training = model.training
    model.eval()
    chosen = choose_layout(model, run, padding_free=padding_free)
    model.train(was_training)
    return chosen


def of_tokens(scores: Tensor, batch: Batch) -> Tensor:
    """Scores without those of padding, which mean nothing and differ from layout to layout."""
    if scores.shape[:2] != batch.inputs["input_ids"].shape:
        return scores  # (B, K): of rows
    return scores[batch.inputs["attention_mask"].bool()]  # (N, ...)


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
