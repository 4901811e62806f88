"""Audio classification: one of ``K`` labels per sound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, Self, final

from torch import nn

from sftlib.data.dataset import TaskDataset
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields, real_number
from sftlib.support.values import Problem
from sftlib.tasks.audio.sounds import SoundTask, longest_of
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.single_label import Classification, OneLabelTask, SingleLabel


@final
@dataclass(frozen=True, kw_only=True)
class HeardLabels(WeightedLabels):
    """Labels of sounds.

    Attributes:
        seconds: of the longest sound.
    """

    seconds: float = 0.0

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield real_number("seconds", self.seconds, 0, expected="a number of seconds")


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class AudioClassification(OneLabelTask, SoundTask):
    """One of ``K`` labels per sound, by cross-entropy.

    A sound that is longer than ``Audio(longest=...)`` is cut into pieces, each of which has its label in training; its
    probabilities are the mean of theirs.

    Args:
        class_weights: ``"balanced"``, or label -> weight: how much the rows of a label count.
        label_smoothing: share of the target spread over all labels (Szegedy et al., 2016).
        learned: labels and weights; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> AudioClassification(label_smoothing=0.1)
        AudioClassification(label_smoothing=0.1)
    """

    name = "audio-classification"
    auto_class = "AutoModelForAudioClassification"
    family = ClassificationMetrics

    learned: HeardLabels | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        facts = SingleLabel.learned_from(data, self.class_weights)
        return replace(self, learned=HeardLabels(**facts, seconds=longest_of(data)))

    def prepare(self, model: nn.Module, encoder: Any) -> None:
        encoder.fit_to(model, self.known.seconds)

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Classification]) -> Classification:
        if len(pieces) == 1:
            return pieces[0]
        names = self.known.label_names
        mean = {name: fsum(piece.probabilities[name] for piece in pieces) / len(pieces) for name in names}
        best = max(names, key=mean.__getitem__)
        return Classification(best, mean[best], mean)
