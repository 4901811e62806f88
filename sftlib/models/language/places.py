"""Scores at chosen places only: a head over a vocabulary is most of the work, and most places need no scores.

Letters: ``B`` rows, ``T`` positions, ``H`` features, ``M`` chosen places of all rows, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sftlib.models.outputs import logits
from sftlib.models.structure import body_of


def scores_at(model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any], places: Tensor) -> Tensor:
    """(M, V) scores of a model that scores every place by itself, at the chosen places in order.

    Where the model has a body under its head, the head sees the hidden states of these places and no others.

    Args:
        model: scores each place from its hidden state alone.
        call: hands inputs to it.
        inputs: name -> (B, T), and what the layout adds.
        places: (B, T) True where a score is wanted.
    """
    body = body_of(model)
    if body is None:
        return logits(call(model, inputs))[places]

    def keep(_: nn.Module, __: Any, outputs: Any) -> Any:
        hidden = outputs[0]  # (B, T, H)
        kept = hidden.flatten(0, 1)[places.flatten()][None]  # (1, M, H)
        return (kept, *outputs[1:]) if isinstance(outputs, tuple) else type(outputs)(last_hidden_state=kept)

    with body.register_forward_hook(keep):  # the last of its hooks: the layout has put rows in their places
        return logits(call(model, inputs))[0]
