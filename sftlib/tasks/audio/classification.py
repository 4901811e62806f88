"""Audio classification: one of ``K`` labels per sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import final

from sftlib.data.dataset import TaskDataset
from sftlib.metrics import Classification as ClassificationMetrics
from sftlib.support.checking import checked_fields
from sftlib.tasks.audio.sounds import SoundTask
from sftlib.tasks.labels import WeightedLabels
from sftlib.tasks.single_label import Classification, OneLabelTask


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

    learned: WeightedLabels | None = None

    def complete(self, data: TaskDataset, row: int, pieces: Sequence[Classification]) -> Classification:
        if len(pieces) == 1:
            return pieces[0]
        names = self.known.label_names
        mean = {name: fsum(piece.probabilities[name] for piece in pieces) / len(pieces) for name in names}
        best = max(names, key=mean.__getitem__)
        return Classification(best, mean[best], mean)
