"""A model that was seen to work before the first step."""

from __future__ import annotations

import numpy as np

from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError, SftlibError
from sftlib.models.memory import is_out_of_memory
from sftlib.models.opening import first_line
from sftlib.models.sources import seeded
from sftlib.run.fitted import Fitted
from sftlib.run.settle import settled


def usable(fitted: Fitted, encoded: Encoded, *, own_module: bool) -> Fitted:
    """The same, settled and seen to work: a model that cannot be called is to be told before the first step.

    Args:
        fitted: the model.
        encoded: training rows.
        own_module: the model was passed in as an object: it also has to prove that its loss has a gradient.

    Raises:
        OptionError: what the model does on a row of the data, or does not.
    """
    try:
        fitted = settled(fitted, encoded)
        if not own_module:
            return fitted
        forward = fitted.forward()
        batch = fitted.feed(encoded).of(np.array([encoded.cost.argmax()]))
        fitted.model.eval()  # the loop switches to training; a look must leave nothing behind
        with seeded(fitted.settings["seed"]), forward.prepared():
            loss = fitted.task.loss(forward(batch), batch).total
    except SftlibError:
        raise
    except Exception as error:  # whatever a user's own module raises
        if is_out_of_memory(error):
            raise
        raise OptionError(
            f"model={fitted.settings['model']}: it cannot be called with {fitted.encoder.hands}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error
    if not loss.requires_grad:
        raise OptionError(
            f"model={fitted.settings['model']}: its scores do not depend on a parameter that can be trained"
        )
    return fitted
