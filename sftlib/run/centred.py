"""An embedding that begins in the middle of what it is learned from.

Features of a body are all above 0, or lie to one side in some other way, so that any two pictures have a high cosine
and little is left to tell them apart by. Without the mean of the training rows the cosine sees what differs: on faces,
before any training, that more than halved the error (docs/benchmarks.md). So a head that says how (`Centred`) begins
with that mean taken away; what follows learns from there.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from sftlib.encoders.encoded import Encoded
from sftlib.models.own_heads import own_head
from sftlib.models.structure import hooked
from sftlib.run.fitted import Fitted
from sftlib.train.plan import Budget

_ROWS = 1024  # enough for a mean
_OF_A_PASS = 32  # always, so that sums are added up in one order wherever the run is cut


@runtime_checkable
class Centred(Protocol):
    """A model of vectors of which a vector can be taken away."""

    def shift(self, mean: Tensor) -> None:
        """Take (D,) away from every output (B, D), from now on."""


def centre(fitted: Fitted, encoded: Encoded) -> None:
    """Bring the mean of what the model makes of training rows to 0, where the model can do so; in place.

    Args:
        fitted: before its first step.
        encoded: the rows, of which about a thousand are looked at, evenly chosen, as evaluation sees them.
    """
    model = fitted.model
    if own_head(model) is None or not isinstance(model, Centred):  # a module of one's own may have such a method too
        return
    rows = np.unique(np.linspace(0, len(encoded) - 1, min(len(encoded), _ROWS)).astype(np.int64))
    found: list[Tensor] = []

    def look(_: nn.Module, __: object, output: Any) -> None:
        found.append(output.detach().double().cpu())

    forward, was_training = fitted.forward(), model.training
    model.eval()
    with torch.no_grad(), forward.prepared(), hooked([model.register_forward_hook(look)]):
        for _, batch in fitted.feed(encoded, Budget(_OF_A_PASS, 2**62), identified=False).passes(rows):
            forward(batch)
    model.train(was_training)
    model.shift(torch.cat(found).mean(dim=0))
