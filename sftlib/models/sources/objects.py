"""Models that a user holds in memory."""

from __future__ import annotations

import copy
from typing import Any, final

from torch import nn

from sftlib.errors import OptionError
from sftlib.models.adapters.removal import has_adapter, merged
from sftlib.models.attempts import attempt
from sftlib.models.head_rows import follow_labels
from sftlib.models.opening import opening
from sftlib.models.sources.base import Head, ModelSource
from sftlib.models.sources.making import adjust, copy_weights, drawn, from_config


@final
class ObjectSource(ModelSource):
    """A transformers model object; it is copied, never changed."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def config(self) -> Any:
        return _as_it_came(self._model)

    @property
    def name(self) -> str:
        return type(self._model).__name__

    def tokenizer(self) -> Any:
        return None

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        given = _plain(self._model)
        config = copy.deepcopy(given.config)
        adjust(config, head, dropout)
        with opening(self.name, head.auto_class, config, head.advice):
            model = from_config(head, config, seed)
        copied = copy_weights(given, model)
        self.drawn = frozenset(name for name, _ in model.named_parameters() if name not in copied)
        if not copied:
            raise OptionError(
                f"model={self.name}: no weight of it fits {type(model).__name__}; pass its body or its folder"
            )
        weights = given.state_dict()
        said, new = follow_labels(
            model,
            head,
            _as_it_came(given),
            held=weights.keys(),
            old=lambda: weights,
            fresh=lambda: drawn(head, config, seed),
        )
        self.drawn, self.told, self.lost = self.drawn | new, (said,) if said else (), (said,) if new else ()
        if all(getattr(one, "generation_config", None) is not None for one in (self._model, model)):
            model.generation_config = copy.deepcopy(self._model.generation_config)  # its config does not hold it
        return model  # type: ignore[no-any-return]


@final
class ModuleSource(ModelSource):
    """Any other `torch.nn.Module`: called with ``input_ids`` and what else its ``forward`` names."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @property
    def name(self) -> str:
        return type(self._module).__name__

    def tokenizer(self) -> Any:
        return None

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        module = copy.deepcopy(self._module).float()
        for child in module.modules():
            if dropout is not None and isinstance(child, nn.Dropout):
                child.p = dropout
        return module


def _plain(model: Any) -> Any:
    """A model as it is, or a copy of it with its adapter added to its weights.

    Raises:
        OptionError: that cannot be done.
    """
    if not has_adapter(model):
        return model
    tried = attempt(lambda: merged(model), kinds=(Exception,))
    if tried.value is None or has_adapter(tried.value):
        why = f": {tried.reason}" if tried.value is None else ""
        raise OptionError(
            f"model={type(model).__name__}: its adapter cannot be merged into its weights{why}; merge it yourself, or "
            "pass its base"
        ) from tried.error
    return tried.value


def _as_it_came(model: Any) -> Any:
    """The config of a model object, which says what kind of model it is, as that of a folder does."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    return config
