"""Sequence regression: one number per sequence, or several of which some may be missing.

Letters: ``N`` rows, ``B`` rows of a batch, ``T`` targets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from sftlib.data.dataset import TaskDataset
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.errors import DataError
from sftlib.metrics import Metrics, TargetNumbers
from sftlib.metrics import Regression as RegressionMetrics
from sftlib.models.device import sent
from sftlib.models.output_scale import exactly, scale_output
from sftlib.models.sources import Head
from sftlib.support.checking import above_zero, checked_fields, is_number, true_or_false
from sftlib.support.values import Problem
from sftlib.tasks.base import LossSum
from sftlib.tasks.pairs import Form
from sftlib.tasks.regression import Regression
from sftlib.tasks.sequence.letters import LetterTask
from sftlib.tasks.sequence.targets import (
    TargetWeights,
    by_name,
    check_names,
    counted,
    names_of,
    table_of,
    weights_of,
    weights_problems,
    with_marks,
)


@final
@dataclass(frozen=True)
class Values:
    """Several numbers.

    Attributes:
        values: target -> its number, in the units of the training targets.
    """

    values: Mapping[str, float] = field(hash=False)

    def __repr__(self) -> str:
        return f"Prediction(values={{{', '.join(f'{name!r}: {value:.6g}' for name, value in self.values.items())}}})"


@dataclass(frozen=True, kw_only=True)
class Learned(Form):
    """What training data decided.

    Attributes:
        targets: their names, in the order of the outputs.
        means: of each, in training.
        deviations: of each, in training; 1 where errors are counted in the targets' own units.
        weights: of each in the loss, or None.
        several: whether rows have a mapping of targets, and not one number.
    """

    targets: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...] | None = None
    several: bool = False

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        names, count = self.targets, len(self.targets) if isinstance(self.targets, tuple) else 0
        yield not (count and all(isinstance(name, str) for name in names)) and "targets: expected a list of names"
        yield true_or_false("several", self.several)
        given = {"means": self.means, "deviations": self.deviations, "weights": self.weights or (1.0,) * count}
        for name, numbers in given.items():
            low = -float("inf") if name == "means" else 0.0
            good = isinstance(numbers, tuple) and len(numbers) == count
            if not (good and all(is_number(number) and low <= number < float("inf") for number in numbers)):
                yield f"{name}: expected a finite number for each of {count} targets"
        if isinstance(self.deviations, tuple) and not all(self.deviations):
            yield "deviations: expected numbers above 0"


@final
@checked_fields
@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceRegression(LetterTask):
    """A number per sequence, or several (``targets=[...]``), by squared error; gaps count nowhere.

    Errors are measured in deviations of each target in training, so that none outweighs the others by its unit, and the
    last layer learns in such units. What it computes with is in the units of the data (`sftlib.models.output_scale`),
    and so are the model, its predictions and the saved folder. The loss is a mean over the targets that are there. What
    the last layer reads is not dropped out, unless ``FineTuner(dropout=...)`` asks for it: the mean of squared errors
    under dropout is that of all features and a penalty on each, by its mean square, which on features that stay as
    they are is most of what is learned (measured in docs/benchmarks.md).

    Args:
        huber_delta: error, in deviations, at which the loss turns from squared to linear (Huber, 1964), or None.
        standardize: False to measure errors in the units of the data.
        target_weights: target -> how much its errors count; 1 where it is not named.
        learned: names, means and deviations of the targets; from the training data.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> data = TaskDataset(
        ...     {"sequence": ["CCO", "c1ccccc1"], "logS": [1.1, -1.6], "logP": [None, 2.1]},
        ...     targets=["logS", "logP"],
        ... )
        >>> SequenceRegression(target_weights={"logS": 2}).learned_from(data).known.means
        (-0.25, 2.1)
    """

    name = "sequence-regression"
    usual_metrics = ("rmse", "mae", "r2", "pearson", "spearman")
    shares_body = False  # targets with gaps: how many count is known of each row alone

    huber_delta: float | None = None
    standardize: bool = True
    target_weights: TargetWeights = None
    learned: Learned | None = None

    def problems(self) -> Iterable[Problem]:
        delta = self.huber_delta
        yield delta is not None and above_zero("huber_delta", delta, otherwise="None for squared error")
        yield true_or_false("standardize", self.standardize)
        yield from weights_problems(self.target_weights)

    def learned_from(self, data: TaskDataset) -> Self:
        several = "targets" in data.roles
        names = names_of(data) if several else (data.roles["target"],)
        table = self._table(data, names)
        empty = [name for name, column in zip(names, table.T, strict=True) if np.isnan(column).all()]
        if empty:
            raise DataError(f"targets {', '.join(map(repr, empty))}: no training row has one; leave the column out")
        means, deviations = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
        flat = deviations <= 1e-12 * np.maximum(np.abs(means), 1.0)
        kept = np.where(flat, 1.0, deviations) if self.standardize else np.ones(len(names))
        learned = Learned(
            targets=names,
            means=tuple(means.tolist()),
            deviations=tuple(kept.tolist()),
            weights=weights_of(self.target_weights, names),
            several=several,
            pair=self.has_pairs(data.roles),
        )
        return replace(self, learned=learned)

    def _table(self, data: TaskDataset, names: Sequence[str]) -> NDArray[np.float64]:
        """(N, T) the targets, nan where one is missing."""
        if "targets" in data.roles:
            return table_of(data, names)
        return np.fromiter(data.view("target"), np.float64, len(data))[:, None]

    @property
    def head(self) -> Head:
        known = self.known
        labels = known.targets if known.several else ()
        return Head(
            auto_class=self.auto_class,
            outputs=len(known.targets),
            problem_type="regression",
            labels=labels,
            drops=False,  # a part of a sum that is left out is an error of the number
        )

    def prepare(self, model: nn.Module, encoder: Encoder) -> None:
        if self.standardize:
            scale_output(model, self.known.deviations, self.known.means)

    def check_targets(self, data: TaskDataset) -> None:
        several = "targets" in data.roles
        if several != self.known.several:
            had, has = ("targets=[...]", "target=...") if self.known.several else ("target=...", "targets=[...]")
            raise DataError(f"the data set has {has}, the model learned {had}")
        if several:
            check_names(data, self.known.targets)

    def targets(self, data: TaskDataset) -> NDArray[np.float32]:
        """(N, 2, T) the numbers with 0 in gaps, and 1 where they are there."""
        return with_marks(self._table(data, self.known.targets))

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        """What the model returns, its last layer in fp32."""
        with exactly(model, len(self.known.targets)):
            return call(model, inputs)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        """Summed errors in deviations; the count is the number of targets that are there, or of their weights."""
        scores = self.scores(outputs, batch)  # (B, T)
        target, counts = counted(batch.targets["target"], self.known.weights, scores)
        deviations = sent(torch.tensor(self.known.deviations, dtype=scores.dtype), scores.device)
        scores, target = scores / deviations, target / deviations
        if self.huber_delta is None:
            errors = functional.mse_loss(scores, target, reduction="none")
        else:
            errors = functional.huber_loss(scores, target, reduction="none", delta=self.huber_delta)
        return LossSum((errors * counts).sum(), counts.sum())

    def decode(self, outputs: Any, batch: Batch) -> list[Any]:
        rows = self.scores(outputs, batch).tolist()
        if not self.known.several:
            return [Regression(value) for (value,) in rows]
        return [Values(values) for values in by_name(self.known.targets, rows)]

    def references(self, data: TaskDataset) -> Sequence[Any]:
        references: Sequence[Any] = data.column("targets" if self.known.several else "target")
        return references

    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        family = TargetNumbers.of(self.known.targets) if self.known.several else RegressionMetrics
        chosen = self.usual_metrics if names is None else names
        return Metrics(["loss", *(name for name in chosen if name != "loss")], family=family)
