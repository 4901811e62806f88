"""`audit`: which labels a model that has not seen them doubts, and what else is wrong with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.arguments import without_recipes
from sftlib.audits.dynamics import dynamics_of
from sftlib.audits.nearby import neighbours, outliers, twins
from sftlib.audits.noise import Noise, noise_of
from sftlib.audits.out_of_fold import folds_of, frozen_probabilities, tuned_probabilities
from sftlib.audits.report import Audit, Issue, Near, Twins
from sftlib.audits.shown import shown_as
from sftlib.audits.slices import slices_of
from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.finetuner import FineTuner
from sftlib.inside import origin_of
from sftlib.run.choose import require_labelled
from sftlib.run.looking import features_of
from sftlib.support.checking import checked, nearest, raise_together, true_or_false, whole_number
from sftlib.tasks.single_label import OneLabelTask

_NEAREST, _LOOKED_AT = 3, 10


@checked
def audit(
    tuner: FineTuner,
    data: TaskDataset,
    *,
    folds: int = 5,
    full: bool = False,
    dynamics: bool = False,
    slices: Sequence[str] | None = None,
    is_test: bool = False,
) -> Audit:
    """Find labels that are probably wrong, twins that disagree, outliers, and groups of rows in which a model fails.

    Every row is judged by a model that has not learned from it: by a logistic regression on the frozen body of the
    model as it was before any tuning (seconds), or with ``full=True`` by the tuner fitted on the other folds. The tuner
    itself is not changed, and need not be fitted.

    Args:
        tuner: whose model is used.
        data: labelled rows, one label each; whatever the inputs are.
        folds: that the rows are cut into.
        full: whether to fit the tuner itself for each fold: better, and as long as so many runs take.
        dynamics: whether to fit the tuner on all rows, too, and to see how it learns each: ``found.dynamics``.
        slices: columns to slice by; all with few values when None.
        is_test: whether the rows are for testing. Issues are listed, and `TaskDataset.drop` and
            `TaskDataset.relabel` refuse to let the model change them.

    Returns:
        The issues, the most doubtful first, and what else was found; ``data.drop(found)``, ``data.relabel(found)``.

    Raises:
        DataError: too few rows, or rows without labels.
        OptionError: a task without one label a row, a model whose body cannot be looked at, columns that are not there.

    Example:
        >>> from sftlib import FineTuner, TaskDataset, audit
        >>> from sftlib.testing import tiny_model, tiny_tokenizer
        >>> rows = {"text": [f"A warm film {n}." for n in range(20)] + [f"The card {n}?" for n in range(20)]}
        >>> data = TaskDataset({**rows, "label": ["film"] * 19 + ["card"] + ["card"] * 20})
        >>> found = audit(FineTuner(tiny_model(), tokenizer=tiny_tokenizer()), data)
        >>> [(issue.row, issue.given, issue.suggested) for issue in found.issues]
        [(19, 'card', 'film')]
        >>> data.relabel(found, at_least=0.5)[19]["label"]
        'film'
    """
    raise_together(
        [
            None if isinstance(tuner, FineTuner) else f"tuner={tuner!r:.60}: expected a FineTuner, fitted or not",
            whole_number("folds", folds, at_least=2),
            true_or_false("full", full),
            true_or_false("dynamics", dynamics),
            true_or_false("is_test", is_test),
        ]
    )
    require_labelled(data, "audit", tuner.task)
    _check_columns(data, slices)
    origin = origin_of(tuner, data).alone()
    if not isinstance(origin.task, OneLabelTask):
        raise OptionError(f"audit: it is for tasks with one label a row; not {origin.task.name}")
    given, names = origin.task.targets(data), origin.task.known.label_names
    _check_rows(data, given, folds)
    features = features_of(origin, origin.encode(data))
    fold = folds_of(data, given, folds, seed=0)
    found = (
        tuned_probabilities(tuner, data, fold)
        if full
        else frozen_probabilities(features, given, fold, len(names), seed=0)
    )
    noise = noise_of(given, found)
    positions, cosines = neighbours(features, _LOOKED_AT)
    right = found.argmax(axis=1) == given
    return Audit(
        issues=tuple(_issues(data, given, noise, names, positions, cosines)),
        noise=_mistaken(noise.joint(given), names, len(data)),
        error_rate=noise.rate,
        accuracy=float(right.mean()),
        twins=tuple(
            Twins(row, other, names[given[row]], names[given[other]], cosine)
            for row, other, cosine in twins(positions, cosines, given)
        ),
        outliers=tuple(outliers(cosines[:, :_NEAREST])),
        slices=tuple(slices_of(data, right, slices)),
        rows=len(data),
        folds=folds,
        full=full,
        is_test=is_test or tuner.is_named_test(data),
        probabilities=noise.probabilities,
        label_names=names,
        fingerprint=data.fingerprint(),
        shown=shown_as(data),
        dynamics=dynamics_of(_plain(tuner), data, origin.task) if dynamics else None,
    )


def _plain(tuner: FineTuner) -> FineTuner:
    """The same options without recipes, and without what looks at validation rows, of which there are none."""
    asked = without_recipes(tuner.get_params(deep=False))
    return tuner.clone().set_params(**asked, early_stopping=None, keep_best=None)


def _check_columns(data: TaskDataset, slices: object) -> None:
    if slices is None:
        return
    if isinstance(slices, str) or not isinstance(slices, Sequence):
        raise OptionError(f"slices={slices!r:.60}: expected a list of columns, such as ['source']")
    raise_together(
        f"slices: the data has no column {name!r}: {nearest(name, data.columns)}"
        for name in slices
        if name not in data.columns
    )


def _check_rows(data: TaskDataset, given: NDArray[np.int64], folds: int) -> None:
    if len(data) < 2 * folds:
        raise DataError(f"audit: {len(data)} rows cannot be cut into {folds} folds; it takes at least {2 * folds}")
    counts = np.bincount(given)
    rare = [label for label, count in enumerate(counts) if 0 < count < 2]
    if len(rare) == len(counts):
        raise DataError("audit: every label has a single row, so nothing can be learned of any from other rows")


def _issues(
    data: TaskDataset,
    given: NDArray[np.int64],
    noise: Noise,
    names: Sequence[Any],
    positions: NDArray[np.int64],
    cosines: NDArray[np.float32],
) -> list[Issue]:
    best = noise.probabilities.argmax(axis=1)
    return [
        Issue(
            row=int(row),
            given=names[given[row]],
            suggested=names[best[row]],
            score=float(noise.wrong[row]),
            input=_input(data, int(row)),
            nearest=tuple(
                Near(int(other), names[given[other]], float(cosine))
                for other, cosine in zip(positions[row, :_NEAREST], cosines[row, :_NEAREST], strict=True)
            ),
        )
        for row in noise.doubted(given)
    ]


def _input(data: TaskDataset, row: int) -> Any:
    values = {role: data[row][role] for role in data.inputs}
    return next(iter(values.values())) if len(values) == 1 else values


def _mistaken(shares: NDArray[np.float64], names: Sequence[Any], rows: int) -> dict[tuple[Any, Any], float]:
    """How many of the rows given a label are truly another, the most often mistaken first; less than a row is none."""
    rates = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12) * (shares * rows >= 0.5)
    pairs = [(float(rates[i, j]), names[i], names[j]) for i, j in zip(*np.nonzero(rates), strict=True) if i != j]
    return {(given, true): rate for rate, given, true in sorted(pairs, key=lambda item: -item[0])}
