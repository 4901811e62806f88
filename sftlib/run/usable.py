"""A model that was seen to work before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
from sftlib.models.seeds import seeded
from sftlib.models.tried import Tried
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled

T = TypeVar("T")


def usable(fitted: Fitted, encoded: Encoded, *, own_module: bool, tried: Tried | None = None) -> Fitted:
    """The same, settled and seen to work: a model that cannot be called is to be told before the first step.

    Args:
        fitted: the model.
        encoded: training rows.
        own_module: the model was passed in as an object: it also has to prove that its loss has a gradient.
        tried: what was found of models that began as this one.

    Raises:
        OptionError: what the model does on a row of the data, or does not.
    """
    found, learns = _called(fitted, lambda: _looked_at(fitted, encoded, own_module, tried))
    if not learns:
        raise OptionError(
            f"model={fitted.settings['model']}: its scores do not depend on a parameter that can be trained"
        )
    return found


def answering(fitted: Fitted, encoded: Encoded) -> Fitted:
    """The same, settled on rows that are to be answered: what a folder describes may be a model that computes nothing.

    Raises:
        OptionError: what the model does on a row of the data.
    """
    return _called(fitted, lambda: settled(fitted, encoded))


def _called(fitted: Fitted, call: Callable[[], T]) -> T:
    """What a first call of the model gives; a user's own module may raise anything."""
    seen = attempt(call, kinds=(Exception,))
    if seen.value is None:
        raise OptionError(
            f"model={fitted.settings['model']}: it cannot be called with {fitted.encoder.hands}: {seen.reason}"
        ) from seen.error
    return seen.value


def _looked_at(fitted: Fitted, encoded: Encoded, own_module: bool, tried: Tried | None) -> tuple[Fitted, bool]:
    """The same, settled, and whether its loss has a gradient."""
    fitted = settled(fitted, encoded, tried)
    if not own_module:
        return fitted, True
    forward, batch = fitted.forward(), fitted.feed(encoded).of(np.array([encoded.cost.argmax()]))
    fitted.model.eval()  # the loop switches to training; a look must leave nothing behind
    with seeded(fitted.settings["seed"]), forward.prepared():
        return fitted, fitted.task.loss(forward(batch), batch).total.requires_grad
