"""Sources around a source: a body that went on learning, weights that stay in memory."""

from __future__ import annotations

import copy
from typing import Any, final

from torch import nn

from sftlib.models.sources.base import Head, ModelSource
from sftlib.models.sources.kinds import as_it_came, is_of_class
from sftlib.models.sources.making import copy_weights
from sftlib.models.sources.pretrained import PretrainedSource
from sftlib.models.tried import Tried

_ADAPTED = " (adapted)"


@final
class AdaptedSource(ModelSource):
    """A model whose body went on learning from texts; what that body lacks comes from where the model came from.

    Args:
        origin: of the model.
        model: the body as it is now, under another head; kept in memory.
    """

    def __init__(self, origin: ModelSource, model: nn.Module) -> None:
        self._origin = origin.like(model)
        self._model = model.cpu().eval()

    @property
    def usual_rate(self) -> float | None:
        return self._origin.usual_rate

    @property
    def config(self) -> Any:
        return self._origin.config

    @property
    def name(self) -> str:
        name = self._origin.name
        return name if name.endswith(_ADAPTED) else name + _ADAPTED

    def tokenizer(self) -> Any:
        return self._origin.tokenizer()

    def brings(self, auto_class: str) -> bool:
        return self._origin.brings(auto_class) or is_of_class(as_it_came(self._model), auto_class)

    def image_processor(self) -> Any:
        return self._origin.image_processor()

    def reading(self, vocabulary: int | None, longest: int | None) -> AdaptedSource:
        return AdaptedSource(self._origin.reading(vocabulary, longest), self._model)

    def feature_extractor(self) -> Any:
        return self._origin.feature_extractor()

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        model = self._origin.build(head, dropout=dropout, seed=seed, pooled=pooled)
        self.drawn = self._origin.drawn - copy_weights(self._model, model)
        self.told, self.lost = self._origin.told, self._origin.lost
        return model


@final
class HeldSource(ModelSource):
    """A model that is opened once and copied in memory as often as it is asked for.

    Args:
        origin: where it comes from.
    """

    def __init__(self, origin: ModelSource) -> None:
        self._origin = origin
        self._asked: tuple[Head, float | None, int, bool] | None = None
        self._model: nn.Module | None = None
        self._tokenizer: Any = None
        self._tried = Tried()

    @property
    def usual_rate(self) -> float | None:
        return self._origin.usual_rate

    def like(self, model: nn.Module) -> ModelSource:
        return HeldSource(self._origin.like(model))

    @property
    def tried(self) -> Tried:
        return self._tried

    @property
    def config(self) -> Any:
        return self._origin.config

    @property
    def name(self) -> str:
        return self._origin.name

    def tokenizer(self) -> Any:
        if self._tokenizer is None:  # whoever opens it makes a copy
            self._tokenizer = self._origin.tokenizer()
        return self._tokenizer

    def brings(self, auto_class: str) -> bool:
        return self._origin.brings(auto_class)

    def image_processor(self) -> Any:
        return self._origin.image_processor()

    def feature_extractor(self) -> Any:
        return self._origin.feature_extractor()

    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        asked = (head, dropout, seed, pooled)
        if self._model is None or self._asked != asked:
            self._model, self._asked = self._origin.build(head, dropout=dropout, seed=seed, pooled=pooled), asked
            self.drawn, self.told = self._origin.drawn, self._origin.told
        return copy.deepcopy(self._model)


def held(source: ModelSource) -> ModelSource:
    """The same, its weights kept in memory; as it is where they are there already, or lie in fewer bits."""
    return HeldSource(source) if isinstance(source, PretrainedSource) and source.is_plain else source
