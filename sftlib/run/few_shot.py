"""Few labels: a head fitted on what the body makes of the rows, the body taught by all pairs of them, the head anew.

1. The body is computed once for all labelled rows, read by the mean over each row where its folder says that it was
   made to be; a logistic regression on these vectors is the first head.
2. The body learns from all pairs of class-balanced batches (`sftlib.tasks.contrast`).
3. A logistic regression on what it makes of the rows now becomes the head.

With ``few_shot=True`` a guard looks first: taught by half of the rows of each label, is it better on the other half
than the head on the body as it was? If not, the body stays as it was. ``"contrast"`` does without the guard.

Letters: ``N`` rows, ``H`` features, ``K`` labels.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import listed
from sftlib.encoders.encoded import Encoded
from sftlib.errors import OptionError
from sftlib.models.frozen.freezing import BACKBONE
from sftlib.models.open_head import close_head
from sftlib.run.assemble import assemble
from sftlib.run.fitted import Fitted
from sftlib.run.on_disk import Run, RunInMemory
from sftlib.run.prepare import Call, prepare
from sftlib.run.settle import settled
from sftlib.support.display import counted
from sftlib.tasks.contrast import Contrast
from sftlib.tasks.single_label import OneLabelTask

#: The way in which a fitted head is only where a plain run begins; see `sftlib.run.head_first`.
HEAD_FIRST = "head-first"

_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
_USUAL_STRENGTH = 30.0
_SMALL = 20_000  # rows times labels up to which the strength is chosen by trying
_FEWEST_STEPS, _MOST_STEPS = 40, 160
_BATCH, _LARGEST_BATCH = 32, 192
_LOOKS = 8  # how often a row is seen
_MANY = 1_000  # rows a label

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Recipe:
    """How long, and on how many rows at once.

    Attributes:
        steps: optimizer steps.
        batch_size: rows of a step: two of each label, where there is room.
    """

    steps: int
    batch_size: int

    @classmethod
    def of(cls, arguments: Arguments, rows: int, labels: int) -> Recipe:
        """By the number of rows and labels, where the options do not say.

        Example:
            >>> from types import SimpleNamespace
            >>> usual = SimpleNamespace(batch_size=32, max_steps=None)
            >>> Recipe.of(usual, rows=48, labels=6), Recipe.of(usual, rows=616, labels=77)
            (Recipe(steps=40, batch_size=32), Recipe(steps=40, batch_size=154))
        """
        size = arguments.batch_size
        if size == _BATCH:
            size = max(_BATCH, min(2 * labels, _LARGEST_BATCH))
        steps = max(_FEWEST_STEPS, min(_MOST_STEPS, math.ceil(_LOOKS * rows / size)))
        return cls(arguments.max_steps or steps, size)


def check_few_shot(arguments: Arguments, task: object) -> None:
    """Refuse what few-shot learning cannot do.

    Raises:
        OptionError: another task than one label a row, or options that do not go with it.
    """
    if not isinstance(task, OneLabelTask):
        raise OptionError(
            f"few_shot={arguments.few_shot!r}: it needs one label a row, and the task is {getattr(task, 'name', task)};"
            " leave few_shot= out"
        )
    asked = [name for name in ("keep_best", "early_stopping") if getattr(arguments, name) is not None]
    if arguments.few_shot == HEAD_FIRST:
        asked = []
        if arguments.adapter is not None:
            raise OptionError(
                f"few_shot={HEAD_FIRST!r} and adapter=: an adapter begins at nothing and leaves the body as it is; "
                "leave one of them out"
            )
    if asked:
        raise OptionError(
            f"few_shot={arguments.few_shot!r} and {', '.join(asked)}: its head is fitted when the steps are over, so "
            "there is no better epoch to go back to; leave one of them out"
        )
    if arguments.quantize is not None:
        raise OptionError(f"few_shot={arguments.few_shot!r}: weights in fewer bits do not learn; leave quantize= out")


def with_head(call: Call) -> Fitted:
    """The body as it came, under a head that is fitted on what it makes of the training rows; judged on the others.

    Raises:
        OptionError: a model without an output layer that can be told.
    """
    plain = _Learner.of(call).plain()
    train = plain.encode(call.train)
    plain = settled(plain, train)
    features = _features(plain, call.train, train)
    return _finished(call, plain, train, features, np.asarray(train.targets["target"]), {})


def few_shot(call: Call, run: Run) -> Fitted:
    """The tuned model.

    Args:
        call: what is asked for.
        run: what it leaves on disk: the steps of the body.

    Raises:
        OptionError: a model without an output layer that can be told.
    """
    assert isinstance(call.task, OneLabelTask)
    learner = _Learner.of(call)
    plain = learner.plain()
    train = plain.encode(call.train)
    plain = settled(plain, train)
    target = np.asarray(train.targets["target"])
    before = _features(plain, call.train, train)
    facts: dict[str, Any] = {"kept": "frozen"}
    if call.arguments.freeze != BACKBONE:
        better = call.arguments.few_shot == "contrast" or learner.is_better(before, target, facts)
        if better:
            facts["kept"] = "tuned"
    if facts["kept"] == "frozen":
        _tell(call, facts)
        return _finished(call, plain, train, before, target, facts)
    tuned = learner.taught(call.train, run, whole=True)
    _tell(call, facts)
    return _finished(call, tuned, train, _features(tuned, call.train, train), target, facts)


@final
@dataclass(frozen=True)
class _Learner:
    """Teaches a body by pairs.

    Attributes:
        call: what is asked for, with what the recipe says.
        task: of the pairs.
    """

    call: Call
    task: Contrast

    @classmethod
    def of(cls, call: Call) -> _Learner:
        assert isinstance(call.task, OneLabelTask)
        names = call.task.label_names or ()
        recipe = Recipe.of(call.arguments, len(call.train), len(names))
        arguments = replace(call.arguments, max_steps=recipe.steps, batch_size=recipe.batch_size)
        task = Contrast(inner=call.task)
        return cls(replace(call, arguments=arguments, task=task, valid=None), task)

    def plain(self) -> Fitted:
        """The body as it is."""
        made = assemble(self.call.arguments, self.call.source, self.task)
        return replace(made, encodings=self.call.encodings)

    def taught(self, train: TaskDataset, run: Run, *, whole: bool) -> Fitted:
        """The body taught by these rows.

        Args:
            train: labelled rows.
            run: what is left on disk.
            whole: whether these are all rows; a look takes half as many steps and is not told.
        """
        call = replace(self.call, train=train)
        if not whole:
            steps = max(_FEWEST_STEPS // 2, (call.arguments.max_steps or 0) // 2)
            arguments = replace(call.arguments, max_steps=steps)
            call = replace(call, arguments=arguments, callbacks=(), progress=False)
        fitting = prepare(call, run)
        fitting.go()
        return fitting.fitted

    def is_better(self, before: NDArray[np.float32], target: NDArray[np.int64], facts: dict[str, Any]) -> bool:
        """Whether the body taught by half of the rows is better on the other half than the body as it was.

        Args:
            before: (N, H) what the body made of the rows.
            target: (N,) numbers of their labels.
            facts: where to write what was found.
        """
        train = self.call.train
        first, second = halves(target, self.call.arguments.seed)
        if not len(second):
            return True  # no label has a second row: there is nothing to look at
        taught = self.taught(train.select(first), RunInMemory(), whole=False)
        after = _features(taught, train, taught.encode(train))
        weights = self.task.inner.known.class_weights
        right = [
            int(
                (
                    _Head.fitted(x[first], target[first], weights, len(weights or ())).labels(x[second])
                    == target[second]
                ).sum()
            )
            for x in (before, after)
        ]
        facts["looked_at"] = len(second)
        facts["right_before"], facts["right_after"] = right
        return right[1] >= right[0]


def _tell(call: Call, facts: dict[str, Any]) -> None:
    if not call.progress:
        return
    if "looked_at" in facts:
        tqdm.write(
            f"few_shot: taught by half of the rows, right on {facts['right_after']} of {facts['looked_at']} others; "
            f"as it was, on {facts['right_before']}"
        )
    counts = Counter(call.train.column("label"))
    single, usual = [label for label, count in counts.items() if count == 1], median(counts.values())
    if single:
        tqdm.write(f"few_shot: {listed(single, 5)}: one row each, so no pair of the same label")
    if usual > _MANY:
        tqdm.write(f"few_shot: {usual:,.0f} rows a label; the plain run is as good and simpler")
    kept = "the body is taught by pairs" if facts["kept"] == "tuned" else "the body stays as it was, its head is fitted"
    tqdm.write(f"few_shot: {kept}; {counted(len(call.train), 'row')}")


def _features(fitted: Fitted, data: TaskDataset, encoded: Encoded) -> NDArray[np.float32]:
    """(N, H) what the output layer would read."""
    return np.stack(fitted.predict(data, encoded))


def _finished(
    call: Call,
    fitted: Fitted,
    train: Encoded,
    features: NDArray[np.float32],
    target: NDArray[np.int64],
    facts: dict[str, Any],
) -> Fitted:
    """The model with its head, judged on the validation rows."""
    task = call.task
    assert isinstance(task, OneLabelTask)
    head = _Head.fitted(features, target, task.known.class_weights, len(task.known.label_names))
    close_head(fitted.model, torch.from_numpy(head.weight).float(), torch.from_numpy(head.bias).float())
    done = replace(fitted, task=task, layout=None, recall=None, decided={"few_shot": facts})
    done = settled(replace(done, samples=[task.inputs_of(row) for row in _inputs(call.train)]), train)
    if call.valid is None:
        return done
    metrics = done.evaluate(call.valid, done.encode(call.valid), call.metric_names).to_dict()
    steps = len(done.history.steps)
    done.history.add_evaluation({"step": steps, "epoch": 1, **{f"valid_{name}": v for name, v in metrics.items()}})
    return replace(done, metrics=metrics)


def _inputs(train: TaskDataset) -> list[dict[str, Any]]:
    return [{role: row[role] for role in train.inputs} for row in train[:3]]


def halves(target: NDArray[Any], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of half of the rows of each label, and of the others; a label with one row has it in the first."""
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, 0x68616C76], dtype=np.uint64)))
    first, second = [], []
    for label in np.unique(target):
        members = generator.permutation(np.flatnonzero(target == label))
        half = (len(members) + 1) // 2
        first.append(members[:half])
        second.append(members[half:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


@final
@dataclass(frozen=True)
class _Head:
    """Logistic regression in the form of an output layer.

    Attributes:
        weight: (K, H)
        bias: (K,)
    """

    weight: Floats
    bias: Floats

    @classmethod
    def fitted(
        cls, features: NDArray[np.float32], target: NDArray[np.int64], weights: tuple[float, ...] | None, labels: int
    ) -> _Head:
        """Fitted on vectors.

        Args:
            features: (N, H)
            target: (N,) numbers of labels.
            weights: of each label, or None.
            labels: K, of which some may have no row here.
        """
        labels = max(labels, int(target.max()) + 1)
        scale = float(np.linalg.norm(features, axis=1).mean()) or 1.0  # to length 1 on average
        x = features.astype(np.float64) / scale
        model = _regression(x, target, weights)
        coefficients, intercept = model.coef_, model.intercept_
        if len(coefficients) == 1:  # of two labels one score alone; half of it for, half against
            coefficients, intercept = (
                np.stack([-coefficients[0], coefficients[0]]) / 2,
                np.array([-1, 1]) * intercept / 2,
            )
        weight, bias = np.zeros((labels, x.shape[1])), np.full(labels, float(intercept.min()) - 10.0)
        weight[model.classes_], bias[model.classes_] = coefficients / scale, intercept
        return cls(weight, bias)

    def labels(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N,) the number of the best label of each row."""
        return np.asarray((features @ self.weight.T + self.bias).argmax(axis=1))


def _regression(x: Floats, target: NDArray[np.int64], weights: tuple[float, ...] | None) -> Any:
    from sklearn.linear_model import LogisticRegression

    weighted = None if weights is None else dict(enumerate(weights))
    strength = _strength(x, target, weighted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged to the last digit
        return LogisticRegression(C=strength, class_weight=weighted, max_iter=1_000).fit(x, target)


def _strength(x: Floats, target: NDArray[np.int64], weighted: dict[int, float] | None) -> float:
    """The one whose probabilities are best on rows left out; the usual one where a label has a single row."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    labels, counts = np.unique(target, return_counts=True)
    fewest = int(counts.min())
    if fewest < 2 or len(target) * len(labels) > _SMALL:
        return _USUAL_STRENGTH
    parts = StratifiedKFold(min(fewest, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = [
            cross_val_score(
                LogisticRegression(C=strength, class_weight=weighted, max_iter=1_000),
                x,
                target,
                cv=parts,
                scoring="neg_log_loss",
            ).mean()
            for strength in _STRENGTHS
        ]
    return _STRENGTHS[int(np.argmax(scores))]
