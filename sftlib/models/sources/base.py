"""What a task wants on top of a body, and what every source of models can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from torch import nn

from sftlib.models.sources.kinds import is_of_class
from sftlib.models.tried import Tried


@final
@dataclass(frozen=True)
class Head:
    """What a task wants on top of a pretrained body.

    Attributes:
        auto_class: transformers' Auto class, such as ``"AutoModelForSequenceClassification"``.
        outputs: width of a new output layer; None where the model brings the one it was trained with.
        problem_type: transformers' name of the problem, stored for its pipelines, where it has one.
        labels: the label of each output as a string; empty when outputs are not classes.
        more: further fields of a transformers config that the head needs, such as the size of a vocabulary.
        advice: what a user may do whose model has no such head, to end a message with.
        rate: what all of a model with this head usually wants to be trained at, where that is not the usual rate.
        drops: whether what the output layer reads is dropped out as the model's config has it; else it never is, as
            far as the config has a word for that.
    """

    auto_class: str
    outputs: int | None = None
    problem_type: str | None = None
    labels: tuple[str, ...] = ()
    advice: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    drops: bool = True

    def settings(self) -> dict[str, Any]:
        """The fields of a transformers config that say the same."""
        if self.outputs is None:
            return dict(self.more)
        names = self.labels or tuple(f"LABEL_{i}" for i in range(self.outputs))
        return {
            "num_labels": self.outputs,
            **({} if self.problem_type is None else {"problem_type": self.problem_type}),
            "id2label": dict(enumerate(names)),
            "label2id": {name: i for i, name in enumerate(names)},
            **self.more,
        }


class ModelSource(ABC):
    """Where a model comes from.

    Attributes:
        drawn: names of the weights that the last `build` drew at random, since the source does not hold them.
        told: what is to be said of the last `build` before the first step.
        lost: of that, what says that something trained is not used: said also where nothing else is shown.
    """

    drawn: frozenset[str] = frozenset()
    told: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def usual_rate(self) -> float | None:
        """The learning rate that the last model of `build` wants, where that is another than of pretrained ones."""
        return None

    @property
    def config(self) -> Any:
        """The config of a model of transformers, None for any other."""
        return None

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call it in messages."""

    @abstractmethod
    def tokenizer(self) -> Any:
        """The tokenizer that belongs to the model, or None."""

    @property
    def tried(self) -> Tried:
        """What trials found of models from here; nothing, unless each of them begins with the very same weights."""
        return Tried()

    def brings(self, auto_class: str) -> bool:
        """Whether the model comes with the head of the class that transformers opens such models in."""
        return is_of_class(self.config, auto_class)

    def image_processor(self) -> Any:
        """The image processor that belongs to the model, or None."""
        return None

    def reading(self, vocabulary: int | None, longest: int | None) -> ModelSource:
        """This source for inputs that are read in one way; another one only where models are made to measure.

        Args:
            vocabulary: how many tokens the inputs may be made of; None where they are of something else.
            longest: tokens of the longest row that was asked for, or None.
        """
        return self

    def like(self, model: nn.Module) -> ModelSource:
        """This source for bodies of the form of one at hand; another one only where models are made to measure."""
        return self

    def feature_extractor(self) -> Any:
        """The feature extractor that belongs to a model of sounds, or None."""
        return None

    @abstractmethod
    def build(self, head: Head, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        """A fresh fp32 copy with the head; what the weights do not hold is drawn from ``seed``.

        Args:
            head: what the task wants.
            dropout: replaces every dropout rate of the model when not None.
            seed: of newly initialised weights.
            pooled: whether a new head is to read what the model was trained to say, where its folder tells; a layer may
                be added for that, so that the model is no longer the one that lies there.

        Raises:
            ArtifactError: the weights cannot be opened.
            OptionError: the model has no such head.
        """
