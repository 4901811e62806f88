"""Labels that a model knows: what training data says of them, and checks against them; for every task with labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sftlib.errors import LabelError, OptionError
from sftlib.support.checking import is_number, nearest
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Label

#: What ``class_weights`` may be.
ClassWeights = str | Mapping[Any, float] | None

#: Every label counts as much as any other in sum, or half-way there on a scale of factors.
BALANCED, ROOT = "balanced", "sqrt"

#: Of each of several labels how much a no and how much a yes counts.
AnswerWeights = tuple[tuple[float, float], ...] | None


@dataclass(frozen=True, kw_only=True)
class Labels(Checked):
    """The labels of training data.

    Attributes:
        label_names: in the order of the outputs.
    """

    label_names: tuple[Label, ...]

    def problems(self) -> Iterable[Problem]:
        names = self.label_names
        good = isinstance(names, tuple) and names and all(isinstance(name, str | int) for name in names)
        if not good or len({type(name) for name in names}) > 1 or len({*names}) < len(names):
            yield "label_names: expected a list of different labels of one type: strings, whole numbers or booleans"
        yield from super().problems()


@dataclass(frozen=True, kw_only=True)
class WeightedLabels(Labels):
    """Labels, of which some may count more than others.

    Attributes:
        class_weights: a weight for each label, or None.
    """

    class_weights: tuple[float, ...] | None = None

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        weights, count = self.class_weights, len(self.label_names) if isinstance(self.label_names, tuple) else 0
        good = isinstance(weights, tuple) and len(weights) == count
        if weights is not None and not (good and all(is_number(w) and 0 <= w < float("inf") for w in weights)):
            yield f"class_weights: expected null, or a number of at least 0 for each of {count:,} labels"


@dataclass(frozen=True, kw_only=True)
class SeveralLabels(Labels):
    """Labels of which a row may have any number.

    Attributes:
        thresholds: the probability from which each label is given; one half for all when None.
        class_weights: of each label how much a no and how much a yes counts, or None.
    """

    thresholds: tuple[float, ...] | None = None
    class_weights: AnswerWeights = None

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        cuts, count = self.thresholds, len(self.label_names) if isinstance(self.label_names, tuple) else 0
        good = isinstance(cuts, tuple) and len(cuts) == count
        if cuts is not None and not (good and all(is_number(cut) and 0 <= cut <= 1 for cut in cuts)):
            yield f"thresholds: expected null, or a number from 0 to 1 for each of {count:,} labels"
        yield answers_problem(self.class_weights, count)


def weights_problems(weights: ClassWeights) -> Iterator[Problem]:
    """What is wrong with a value of ``class_weights``, as far as that can be known without labels."""
    if isinstance(weights, Mapping):
        yield from (
            f"class_weights[{name!r}]={weight!r:.60}: expected a finite number of at least 0"
            for name, weight in weights.items()
            if not is_number(weight) or not 0 <= weight < float("inf")
        )
    elif weights is not None and not (isinstance(weights, str) and weights in (BALANCED, ROOT)):
        yield (
            f"class_weights={weights!r:.60}: expected None, 'balanced', 'sqrt', or a mapping from each label to its "
            "weight, such as {'bad': 2.0, 'good': 1.0}"
        )


def label_weights(option: ClassWeights, labels: Iterable[Label], names: Sequence[Label]) -> tuple[float, ...] | None:
    """A weight for each label name; ``"balanced"`` is scikit-learn's N / (K * count), ``"sqrt"`` its square root.

    Args:
        option: ``class_weights`` as it was given.
        labels: of all rows, or of all words.
        names: every label.

    Raises:
        OptionError: weights that do not fit the labels, all problems at once.
    """
    if not isinstance(option, Mapping):
        whole = None if option is None else _balanced(labels, names)
        return tuple(weight**0.5 for weight in whole) if whole and option == ROOT else whole
    problems = [f"class_weights has no label {name!r}: {nearest(name, names)}" for name in option if name not in names]
    problems += [f"class_weights lacks the label {name!r}" for name in names if name not in option]
    if not problems and not any(option.values()):
        problems = ["class_weights: all weights are 0, nothing would be learned"]
    if problems:
        raise OptionError("\n".join(problems))
    return tuple(float(option[name]) for name in names)


def _balanced(labels: Iterable[Label], names: Sequence[Label]) -> tuple[float, ...]:
    counts = Counter(labels)
    present = [name for name in names if counts[name]]
    return tuple(counts.total() / (len(present) * counts[name]) if counts[name] else 0.0 for name in names)


def answer_weights(
    option: ClassWeights, names: Sequence[Label], yes: Sequence[int], known: Sequence[int]
) -> AnswerWeights:
    """How much a no and a yes of each of several labels count.

    A weight by hand is that of a yes, beside 1 for a no, as torch's ``pos_weight``. ``"balanced"`` is scikit-learn's
    N / (2 * count) of each label's noes and yesses, ``"sqrt"`` its square root; 1 and 1 of a label that all rows have,
    or none.

    Args:
        option: ``class_weights`` as it was given.
        names: every label.
        yes: of each label the rows that have it.
        known: of each label the rows of which it is known whether they have it.

    Raises:
        OptionError: weights that do not fit the labels, all problems at once.

    Example:
        >>> answer_weights("balanced", ["rare", "usual"], yes=[1, 2], known=[4, 4])
        ((0.6666666666666666, 2.0), (1.0, 1.0))
        >>> answer_weights({"rare": 3, "usual": 1}, ["rare", "usual"], yes=[], known=[])
        ((1.0, 3.0), (1.0, 1.0))
    """
    if isinstance(option, Mapping):
        return tuple((1.0, weight) for weight in label_weights(option, (), names) or ())
    if option is None:
        return None
    power = 0.5 if option == ROOT else 1.0
    return tuple(
        ((rows / (2 * (rows - having))) ** power, (rows / (2 * having)) ** power) if 0 < having < rows else (1.0, 1.0)
        for having, rows in zip(yes, known, strict=True)
    )


def answers_problem(weights: object, count: int) -> Problem:
    """What is wrong with `AnswerWeights` of so many labels."""
    pairs = weights if isinstance(weights, tuple) and len(weights) == count else (None,)
    numbers = [number for pair in pairs for number in (pair if isinstance(pair, tuple) and len(pair) == 2 else (None,))]
    if weights is None or all(is_number(number) and 0 <= number < float("inf") for number in numbers):
        return None
    return (
        f"class_weights: expected null, or two numbers of at least 0, for no and for yes, for each of {count:,} labels"
    )


def weighted_answers(scores: Tensor, target: Tensor, weights: AnswerWeights) -> tuple[Tensor, Tensor]:
    """(N, K) the binary cross-entropy of each answer, weighted, and how much it counts.

    Args:
        scores: (N, K)
        target: (N, K) 0 for no and 1 for yes, or a share of yes where rows were mixed.
        weights: of K labels.
    """
    if weights is None:
        errors = functional.binary_cross_entropy_with_logits(scores, target, reduction="none")
        return errors, torch.ones_like(target)
    no, yes = torch.tensor(weights, dtype=target.dtype, device=target.device).T  # (K,) both
    as_no, as_yes = functional.softplus(scores), functional.softplus(-scores)
    return yes * target * as_yes + no * (1 - target) * as_no, yes * target + no * (1 - target)


def check_labels(labels: Sequence[Any], known: Sequence[Any], *, column: str) -> None:
    """Refuse labels that the model does not know.

    Args:
        labels: one label a row, or one list of labels a row.
        known: the model's labels.
        column: where they come from, for the message.

    Raises:
        LabelError: every unknown label with the first rows that bear it, and the nearest known one.
    """
    names = {(type(name), name) for name in known}
    unknown: dict[Any, list[int]] = {}
    for row, value in enumerate(labels):
        for label in value if isinstance(value, list | tuple | set | frozenset) else (value,):
            if (type(label), label) not in names:
                unknown.setdefault(label, []).append(row)
    if unknown:
        raise LabelError("\n".join(_sentence(label, rows, known, column) for label, rows in unknown.items()))


def _sentence(label: Any, rows: list[int], known: Sequence[Any], column: str) -> str:
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return (
        f"column {column!r}, row{'s' if len(rows) > 1 else ''} {shown}: the label {label!r} is not among the "
        f"{len(known)} labels of the training data: {nearest(label, known)}"
    )
