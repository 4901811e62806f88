"""A forward pass that was seen to work before the first step."""

from __future__ import annotations

import numpy as np

from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
from sftlib.models.sources import seeded
from sftlib.run.fitted import Fitted
from sftlib.train.forward import Forward


def usable_forward(fitted: Fitted, encoded: Encoded, *, own_module: bool) -> Forward:
    """The forward pass, after it was seen to work: a model that cannot be called is to be told before the first step.

    Args:
        fitted: the model.
        encoded: training rows.
        own_module: the model was passed in as an object: it also has to prove that its loss has a gradient.

    Raises:
        OptionError: what the model does on a row of the data, or does not.
    """
    # A user's own module may raise anything.
    tried = attempt(lambda: _looked_at(fitted, encoded, own_module), kinds=(Exception,))
    if tried.value is None:
        raise OptionError(
            f"model={fitted.settings['model']}: it cannot be called with input_ids and attention_mask (rows, tokens): "
            f"{tried.reason}"
        ) from tried.error
    forward, learns = tried.value
    if not learns:
        raise OptionError(
            f"model={fitted.settings['model']}: its scores do not depend on a parameter that can be trained"
        )
    return forward


def _looked_at(fitted: Fitted, encoded: Encoded, own_module: bool) -> tuple[Forward, bool]:
    """The forward pass, and whether its loss has a gradient."""
    forward = fitted.forward(encoded)
    if not own_module:
        return forward, True
    longest = np.array([encoded.lengths.argmax()])
    batch = fitted.task.collate(encoded, longest, fitted.encoder).to(fitted.device)
    fitted.model.eval()  # the loop switches to training; a look must leave nothing behind
    with seeded(fitted.settings["seed"]), forward.prepared():
        return forward, fitted.task.loss(forward(batch), batch).total.requires_grad
