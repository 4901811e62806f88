"""One answer for several ways of showing a row: the mean over what the model says of each.

Test-time augmentation of sequences: both strands, shifts, or SMILES that begin at other atoms (Bjerrum, 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from itertools import pairwise
from math import fsum
from typing import Any

import numpy as np

from sftlib.encoders.sequence.augment import sequence_augmentations
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.views import Views
from sftlib.errors import OptionError
from sftlib.run.fitted import Fitted
from sftlib.tasks.multi_label import MultiLabel
from sftlib.tasks.regression import Regression
from sftlib.tasks.sequence.regression import Values
from sftlib.tasks.single_label import Classification
from sftlib.tasks.vector import VectorTask


def shown_as(
    views: Views | str | None, fitted: Fitted, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], Callable[[list[Any]], list[Any]]]:
    """The rows and their other views, and what makes one prediction of those of each row.

    Args:
        views: what they are; a string is its `Views` with the defaults; None for the rows alone.
        fitted: predicts them.
        rows: under role names.

    Raises:
        OptionError: no sequences, an augmentation of another alphabet, or a task that has more than one answer a row.
        DataError: letters that the alphabet does not have.
    """
    if views is None:
        return list(rows), list
    wanted, encoder = Views(views) if isinstance(views, str) else views, fitted.encoder
    if not isinstance(encoder, SequenceEncoder) or not isinstance(fitted.task, VectorTask):
        raise OptionError(f"views={views!r}: only classes and numbers of sequences have views, not {fitted.task.name}")
    if fitted.task.reads != ("sequence",):
        raise OptionError(f"views={views!r}: single sequences have views, not pairs of them")
    encoder.checked([row["sequence"] for row in rows])
    (step,) = sequence_augmentations(wanted.augment)
    shown: list[Mapping[str, Any]] = []
    ends = [0]
    for row in rows:
        others = encoder.views(row["sequence"], step, wanted.count)
        shown += [row, *({**row, "sequence": other} for other in others)]
        ends.append(len(shown))
    return shown, lambda found: [mean_of(found[first:end]) for first, end in pairwise(ends)]


def mean_of(predictions: Sequence[Any]) -> Any:
    """One prediction of several: the mean of their probabilities or numbers.

    Example:
        >>> mean_of([Regression(1.0), Regression(2.0)])
        Prediction(value=1.5)
    """
    return predictions[0] if len(predictions) == 1 else _mean(predictions[0], predictions)


@singledispatch
def _mean(first: Any, predictions: Sequence[Any]) -> Any:
    raise OptionError(f"views: of {type(first).__name__} there is no mean")


@_mean.register
def _(first: Classification, predictions: Sequence[Classification]) -> Classification:
    means = _by_name([one.probabilities for one in predictions])
    label = max(means, key=means.__getitem__)
    return replace(first, label=label, probability=means[label], probabilities=means)


@_mean.register
def _(first: MultiLabel, predictions: Sequence[MultiLabel]) -> MultiLabel:
    means = _by_name([one.probabilities for one in predictions])
    return MultiLabel(tuple(name for name, value in means.items() if value >= 0.5), means)


@_mean.register
def _(first: Regression, predictions: Sequence[Regression]) -> Regression:
    return Regression(float(np.mean([one.value for one in predictions])))


@_mean.register
def _(first: Values, predictions: Sequence[Values]) -> Values:
    return Values(_by_name([one.values for one in predictions]))


def _by_name(rows: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    return {name: fsum(row[name] for row in rows) / len(rows) for name in rows[0]}
