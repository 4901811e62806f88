"""A new last layer alone, on a body that stays as it is: where it begins, and how fast it learns.

Nothing else is trained, so what the layer reads of a row never changes. Where no rate is named it learns as if that lay
around 0 and had a usual size (`sftlib.models.input_scale`), and at a rate by how many steps there are: on five sets of
sentences, and from 100 to 2,600 rows, it then comes within about a point of logistic regression on the same features
(docs/benchmarks.md). A rate that is named is that of plain AdamW on the features as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.arguments import Arguments
from sftlib.encoders.encoded import Encoded
from sftlib.models.input_scale import let_scale, scale_input, scaled
from sftlib.models.own_heads import body_under
from sftlib.models.structure import hooked
from sftlib.run.fitted import Fitted
from sftlib.run.rates import ONE_LAYER
from sftlib.train.plan import Budget

_MOVED: Final = 0.75  # peak rate times steps, by which a weight can get where it should be
_FASTEST: Final = 5e-2
_ROWS: Final = 256  # enough for a mean
_OF_A_PASS: Final = 32  # always, so that sums are added up in one order wherever the run is cut


def with_lone_head(fitted: Fitted, arguments: Arguments, encoded: Encoded, steps: int) -> Fitted:
    """The same, where a new layer alone is trained and no rate is named: with its rate, the layer ready to be scaled.

    Args:
        fitted: settled; its model changes in place.
        arguments: the options.
        encoded: rows to learn from.
        steps: of the run.
    """
    named = arguments.learning_rate is not None or arguments.head_learning_rate is not None
    layer = None if named else _lone_layer(fitted)
    if layer is None or not _reads_vectors(fitted, layer, encoded):
        return fitted
    let_scale(layer)
    if arguments.dropout is None:
        _keep_all(fitted.model)
    return replace(fitted, settings={**fitted.settings, "learning_rate": rate_of_a_lone_head(steps)})


def rate_of_a_lone_head(steps: int) -> float:
    """A good peak of the schedule: the fewer steps there are, the larger each has to be.

    Example:
        >>> rate_of_a_lone_head(24), rate_of_a_lone_head(150)
        (0.031, 0.01)
    """
    return min(_FASTEST, max(ONE_LAYER, float(f"{_MOVED / steps:.2g}")))


def begin_in_the_middle(fitted: Fitted, encoded: Encoded) -> None:
    """Scale the lone layer by what it reads of training rows, where there is one; before the first step.

    Args:
        fitted: with what it recalls.
        encoded: the rows, of which a few hundred are looked at, evenly chosen, as evaluation sees them.
    """
    layer = scaled(fitted.model)
    if layer is not None:
        rows = np.unique(np.linspace(0, len(encoded) - 1, min(len(encoded), _ROWS)).astype(np.int64))
        scale_input(layer, torch.cat(_seen(fitted, layer, encoded, rows)))


def _lone_layer(fitted: Fitted) -> nn.Linear | None:
    """The one linear layer that is trained, if it is new and the body behind it is not trained."""
    model, body = fitted.model, body_under(fitted.model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    places = {name.rpartition(".")[0] for name in trained}
    if body is None or len(places) != 1 or not trained <= fitted.drawn or fitted.held.parted:
        return None
    layer = model.get_submodule(places.pop())
    inside = any(layer is module for module in body.modules())
    return layer if type(layer) is nn.Linear and layer.bias is not None and not inside else None


def _keep_all(model: nn.Module) -> None:
    """Nothing of what the layer reads is dropped out: of numbers far to one side that would be noise above all."""
    body = body_under(model)
    inside = set() if body is None else set(body.modules())
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module not in inside:
            module.p = 0.0


def _reads_vectors(fitted: Fitted, layer: nn.Module, encoded: Encoded) -> bool:
    """Whether the layer reads one vector of each row, found by looking on at one row."""
    seen = _seen(fitted, layer, encoded, np.zeros(1, np.int64))
    return len(seen) == 1 and seen[0].dim() == 2


def _seen(fitted: Fitted, layer: nn.Module, encoded: Encoded, rows: np.ndarray[Any, Any]) -> list[Tensor]:
    """What the layer reads of rows, pass by pass."""
    found: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0].detach().float().cpu())

    model, forward = fitted.model, fitted.recalling()
    feed = fitted.feed(encoded, Budget(_OF_A_PASS, 2**62), knows=fitted.knowing(forward))
    was_training = model.training
    model.eval()
    with torch.no_grad(), forward.prepared(), hooked([layer.register_forward_pre_hook(look)]):
        for _, batch in feed.passes(rows):
            forward(batch)
    model.train(was_training)
    return found
