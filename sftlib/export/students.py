"""Which model learns from another: one of its own, or every other layer of the teacher (DistilBERT's start)."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
from torch import nn

from sftlib.errors import OptionError
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.models.pooling import averages
from sftlib.models.pretrained import Pretrained
from sftlib.models.structure import layers_of
from sftlib.support.checking import raise_together, whole_number

#: Options that say how the teacher itself was made of its model, and are no advice for another.
_OF_THE_TEACHER = ("adapter", "freeze", "few_shot", "learning_rate")
_WATCHING = ("early_stopping", "keep_best")


def student_of(tuner: FineTuner, student: Any, layers: int | None, *, watched: bool) -> FineTuner:
    """The tuner that is to learn, not fitted.

    Args:
        tuner: the teacher.
        student: a name, folder, `Pretrained`, module, or a `FineTuner` with options of its own; None for layers of the
            teacher.
        layers: how many; half of them when None.
        watched: whether there are validation rows.

    Raises:
        OptionError: what is no model, or a teacher whose layers cannot be told.
    """
    if student is not None and layers is not None:
        raise OptionError(f"student={student!r:.60} and layers={layers!r}: a student is one or the other")
    if isinstance(student, FineTuner):
        if student is tuner:
            raise OptionError("student: it is the teacher itself; give another model, or layers=")
        return student.clone()
    asked = {name: value for name, value in tuner.get_params(deep=False).items() if name not in _OF_THE_TEACHER}
    if not watched:
        asked = {name: value for name, value in asked.items() if name not in _WATCHING}
    if student is not None:
        own = {} if isinstance(student, str | os.PathLike | Pretrained) else _reading(tuner)
        return FineTuner(**{**asked, "tokenizer": None, **own, "model": student})
    return FineTuner(**{**asked, **_reading(tuner), "model": shortened(tuner, layers)})


def shortened(tuner: FineTuner, layers: int | None) -> nn.Module:
    """A copy of a tuned model with some of its layers, evenly chosen, the first and the last among them.

    A layer at the end that only averages, which sentence encoders get under a new head, stays, and is not counted.

    Args:
        tuner: fitted; an adapter is merged.
        layers: how many of them; half, rounded up, when None.

    Raises:
        OptionError: more layers than there are, or a model without a single list of layers.
    """
    fitted = fitted_of(tuner, "distill")
    if fitted.settings.get("adapter") is not None:
        fitted = fitted_of(tuner.merge(), "distill")
    model = copy.deepcopy(fitted.model).cpu()
    found, name = layers_of(model), type(model).__name__
    if found is None:
        raise OptionError(f"distill: the layers of {name} cannot be told apart; give student=, a name or a model")
    own = len(found) - averages(found[-1])
    wanted = (own + 1) // 2 if layers is None else layers
    raise_together([whole_number("layers", wanted, at_least=1, at_most=own)])
    kept = {*np.linspace(0, own - 1, wanted).round().astype(int).tolist(), *range(own, len(found))}
    _keep(model, found, kept)
    return model


def _keep(model: Any, layers: nn.ModuleList, kept: set[int]) -> None:
    config, count = model.config, len(layers)
    for place in reversed(range(count)):
        if place not in kept:
            del layers[place]
    for name, value in vars(config).items():  # what a config says of each layer
        if isinstance(value, list | tuple) and len(value) == count:
            setattr(config, name, [one for place, one in enumerate(value) if place in kept])
    config.num_hidden_layers = len(kept)


def _reading(tuner: FineTuner) -> dict[str, Any]:
    """How the teacher reads inputs, for a model object that comes without any of it."""
    return {"inputs": None, **fitted_of(tuner, "distill").encoder.given}
