"""What of a language model's answer a loss is made of: hidden states, and the layer that turns them into scores.

Letters: ``B`` rows, ``T`` positions, ``H`` hidden width, ``V`` tokens of the vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from sftlib.models.attempts import attempt
from sftlib.models.language.chunked_loss import OutputLayer
from sftlib.models.outputs import logits

_TOLERANCE = 1e-3  # of the largest score; a factor or a cap that is left out is far beyond, bf16 is allowed for


class Hidden(NamedTuple):
    """Hidden states that have not been turned into scores.

    Attributes:
        states: (B, T, H) what the body made of each position.
        layer: makes scores of them.
        products: number format of the products that make them, as the pass that made the states chose it.
    """

    states: Tensor
    layer: OutputLayer
    products: torch.dtype

    def loss(
        self, states: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`OutputLayer.loss` of some of the states."""
        return self.layer.loss(states, targets, products=self.products, smoothing=smoothing, weights=weights)

    def judged(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`OutputLayer.judged` of some of the states."""
        return self.layer.judged(states, targets, products=self.products)


@final
class OutputLayers:
    """The output layers of models that were seen, each found once, by trial."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, OutputLayer | None] = weakref.WeakKeyDictionary()

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """Hidden states and output layer, where the model is known to use them so; otherwise all it returns.

        Args:
            model: in its layout, precision and mode.
            call: hands inputs to a model.
            inputs: name -> (B, T), and what the layout adds.
        """
        if model not in self._known:
            self._known[model] = _found(model, call, inputs)
        layer = self._known[model]
        if layer is None:
            return call(model, inputs)
        states = call(model.base_model, inputs).last_hidden_state
        return Hidden(states, layer, _products(states))


def _products(states: Tensor) -> torch.dtype:
    """What products are made in: as autocast says, where it is on.

    Not in fp16: the loss is scaled after the gradient of the scores was taken, which fp16 would have rounded to 0.
    """
    kind = states.device.type
    if not torch.is_autocast_enabled(kind):
        return states.dtype
    dtype = torch.get_autocast_dtype(kind)
    return torch.float32 if dtype == torch.float16 else dtype


@torch.no_grad()
def _found(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> OutputLayer | None:
    """The layer with which the scores of the last positions of these rows are those that the model gives itself."""
    body = getattr(model, "base_model", model)
    linear = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    if body is model or type(linear) is not nn.Linear:
        return None
    seen: list[Any] = []
    with body.register_forward_hook(lambda _, __, found: seen.append(found)):
        scores = logits(_last(model, call, inputs))[:, -1]  # (B, V)
    states = getattr(seen[-1], "last_hidden_state", None) if seen else None
    if states is None:
        return None
    full = inputs["attention_mask"][:, -1].bool()  # the longest rows; others end in padding
    scores, states = scores[full], states[:, -1][full]
    bound = _TOLERANCE * max(1e-3, float(scores.abs().max()))
    if torch.is_autocast_enabled(states.device.type):
        bound *= 30
    fitting = (
        layer
        for layer in _candidates(linear, model.config)
        if float((layer.scores(states) - scores).abs().max()) <= bound
    )
    return next(fitting, None)


def _last(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    """The model's answer with the scores of the last positions, and of others only where it cannot do without."""
    tried = attempt(lambda: call(model, {**inputs, "logits_to_keep": 1}))
    return call(model, inputs) if tried.error else tried.value


def _candidates(linear: nn.Linear, config: Any) -> Iterator[OutputLayer]:
    """What families do to the scores, by the names that their configs have for it."""
    factors = {1.0}
    if isinstance(scale := getattr(config, "logit_scale", None), int | float):
        factors.add(float(scale))
    for name in ("logits_scaling", "logits_scale"):
        if isinstance(scale := getattr(config, name, None), int | float) and scale:
            factors |= {float(scale), 1.0 / scale}
    cap = getattr(config, "final_logit_softcapping", None)
    for factor in sorted(factors, reverse=True):
        if isinstance(cap, int | float) and cap:  # first: on small scores one cannot see it
            yield OutputLayer(linear, factor, float(cap))
        yield OutputLayer(linear, factor)
