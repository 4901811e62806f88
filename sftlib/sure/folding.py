"""A temperature inside the last layer of a model: scores divided by it, with nothing beside the weights.

Which layer that is is not believed by its name but tried: dividing its weights must divide the scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sftlib.errors import OptionError

_TRIED = 2.0  # exact in every number format
_APART = 1e-4  # of the largest score


def last_layer(model: nn.Module, scores: Callable[[], Tensor], outputs: int) -> tuple[str, nn.Linear]:
    """The layer that a model's scores come straight out of, and its name.

    Args:
        model: in evaluation mode.
        scores: what it says of a few rows, whenever asked.
        outputs: how many scores a row has.

    Raises:
        OptionError: there is none.
    """
    expected = scores() / _TRIED
    shared = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == outputs
        and module.weight.is_floating_point()
        and shared[id(module.weight)] == 1
    ]
    for name, layer in reversed(layers):
        with _divided(layer):
            found = scores()
        if float((found - expected).abs().max()) <= _APART * max(float(expected.abs().max()), 1e-6):
            return name, layer
    raise OptionError(
        f"calibrate: the scores of {type(model).__name__} come straight out of no linear layer, so a temperature "
        "cannot be folded into it; scikit-learn's CalibratedClassifierCV works on probabilities alone"
    )


@torch.no_grad()
def fold(layer: nn.Linear, temperature: float) -> None:
    """Divide what a layer says by a temperature, for good."""
    layer.weight.div_(temperature)
    if layer.bias is not None:
        layer.bias.div_(temperature)


@contextmanager
def _divided(layer: nn.Linear) -> Iterator[None]:
    fold(layer, _TRIED)
    try:
        yield
    finally:
        fold(layer, 1 / _TRIED)
