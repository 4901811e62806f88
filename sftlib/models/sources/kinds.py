"""Of which kind a model is, by its config."""

from __future__ import annotations

import copy
from typing import Any

import transformers


def is_of_class(config: Any, auto_class: str) -> bool:
    """Whether a model as it came is of the class that transformers opens such models in.

    Args:
        config: as it came, or None.
        auto_class: transformers' Auto class, such as ``"AutoModelForTokenClassification"``.
    """
    mapping = getattr(transformers, auto_class)._model_mapping
    found = mapping[type(config)] if type(config) in mapping.keys() else ()  # noqa: SIM118 - a lazy mapping
    names = {kind.__name__ for kind in (found if isinstance(found, tuple) else (found,))}
    return not names.isdisjoint(getattr(config, "architectures", None) or ())


def as_it_came(model: Any) -> Any:
    """The config of a model object, which says what kind of model it is, as that of a folder does."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    return config
