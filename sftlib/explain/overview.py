"""Explaining more than one input: what words do over many rows, and which training rows are like an input."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError
from sftlib.explain.explaining import explain
from sftlib.explain.explanation import Explanation
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of
from sftlib.run.inputs import rows_of
from sftlib.run.looking import features_of
from sftlib.support.checking import checked, raise_together, whole_number
from sftlib.support.display import html_table, text_table
from sftlib.support.extras import require

if TYPE_CHECKING:
    from pandas import DataFrame

_LEAST_ROWS, _OF_EACH = 2, 8


@final
@dataclass(frozen=True)
class Pushing:
    """What a word does for a label.

    Attributes:
        label: that it speaks for, or against.
        word: in small letters.
        mean: of its scores over rows.
        low: of the 95 % interval of the mean.
        high: of the same.
        rows: in which it stands, of those that the model gives this label.
    """

    label: Any
    word: str
    mean: float
    low: float
    high: float
    rows: int


class _Table:
    """Records as a table."""

    _header: tuple[str, ...]

    def _lines(self) -> list[Any]:
        raise NotImplementedError

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON-ready: one entry a line."""
        return [asdict(line) for line in self._lines()]

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame (extra ``data``)."""
        frame: DataFrame = require("pandas", extra="data", purpose="to_frame()").DataFrame(self.to_dict())
        return frame

    def _rows(self) -> list[list[object]]:
        return [[getattr(line, name) for name in self._header] for line in self._lines()]

    def __str__(self) -> str:
        return text_table(list(self._header), self._rows())

    def _repr_html_(self) -> str:
        return html_table(list(self._header), self._rows())


@final
class Summary(_Table, Sequence[Pushing]):
    """The words that push each label most; prints as a table.

    Args:
        words: for each label those that speak for it, then those that speak against it.
        rows: that were explained.
    """

    _header = ("label", "word", "mean", "low", "high", "rows")

    def __init__(self, words: Sequence[Pushing], rows: int) -> None:
        self._words = tuple(words)
        self.rows = rows

    def _lines(self) -> list[Pushing]:
        return list(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, index: Any) -> Any:
        return self._words[index]

    def of(self, label: Any) -> list[Pushing]:
        """The words of one label."""
        return [word for word in self._words if word.label == label]


@checked
def summary(tuner: FineTuner, data: TaskDataset, *, n: int = 200, steps: int = 16) -> Summary:
    """The words that push each label most, over rows; each row is explained for the label that the model gives it.

    Args:
        tuner: a fitted one, over texts.
        data: rows, labelled or not.
        n: rows that are looked at, spread evenly over the data.
        steps: as of `explain`.

    Returns:
        Words that stand in at least two rows, with the 95 % interval of the mean of their scores.

    Raises:
        DataError: there are no rows, or they have no words.
    """
    raise_together([whole_number("n", n, at_least=1)])
    _require_rows("summary", data)
    if not len(data):
        raise DataError("summary: the data set has no rows")
    chosen = np.unique(np.linspace(0, len(data) - 1, min(n, len(data))).astype(int))
    found = explain(tuner, data.select(chosen), steps=steps)
    scores: dict[tuple[Any, str], list[float]] = defaultdict(list)
    for why in found:
        if not isinstance(why, Explanation):
            raise DataError("summary: these inputs have no words")
        of_row: dict[str, float] = defaultdict(float)
        for word in why.words:
            of_row[word.text.lower()] += word.score
        for name, score in of_row.items():
            scores[why.target, name].append(score)
    words = [_pushing(label, name, values) for (label, name), values in scores.items() if len(values) >= _LEAST_ROWS]
    labels = list(dict.fromkeys(word.label for word in words))
    order = sorted(labels, key=str)
    best = [w for label in order for w in _most([word for word in words if word.label == label])]
    return Summary(best, len(found))


def _pushing(label: Any, name: str, values: list[float]) -> Pushing:
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    return Pushing(label, name, mean, mean - half, mean + half, len(values))


def _most(words: list[Pushing]) -> list[Pushing]:
    """The words that surely do most: by the end of the interval that is nearer to 0."""
    by_least = sorted(words, key=lambda word: (-max(word.low, 0.0), -word.mean, word.word))
    against = sorted(words, key=lambda word: (min(word.high, 0.0), word.mean, word.word))
    return [w for w in by_least if w.mean > 0][:_OF_EACH] + [w for w in against if w.high < 0][: _OF_EACH // 2]


@final
@dataclass(frozen=True)
class Example:
    """A training row that is like an input.

    Attributes:
        row: its position in the data.
        similarity: cosine of what the body makes of both, -1 to 1.
        label: its target, as it was given.
        input: what it says.
    """

    row: int
    similarity: float
    label: Any
    input: Any


@final
class Examples(_Table, Sequence[Example]):
    """The nearest training rows, the nearest first; prints as a table."""

    _header = ("row", "similarity", "label", "input")

    def __init__(self, rows: Sequence[Example]) -> None:
        self._examples = tuple(rows)

    def _lines(self) -> list[Example]:
        return list(self._examples)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: Any) -> Any:
        return self._examples[index]


@checked
def examples(tuner: FineTuner, input: Any, train: TaskDataset, *, k: int = 5) -> Examples:
    """The training rows that are nearest to an input, for the tuned model's body: because of these.

    Args:
        tuner: a fitted one.
        input: one input, as `FineTuner.predict` takes it.
        train: labelled rows.
        k: how many.

    Returns:
        Row, similarity, target and input of each.

    Raises:
        DataError: no such input, or no rows.
        OptionError: a model whose body cannot be told from its head.
    """
    raise_together([whole_number("k", k, at_least=1)])
    fitted = fitted_of(tuner, "examples").alone()
    _require_rows("examples", train)
    if not len(train):
        raise DataError("examples: the data set has no rows")
    (row,) = rows_of(fitted.task, [input], use="examples")
    here = features_of(fitted, fitted.read([row])[1])
    there = features_of(fitted, fitted.encode(train))
    near = _unit(there) @ _unit(here)[0]
    found = np.argsort(-near, kind="stable")[:k]
    target = train.targets[0] if train.targets else None
    return Examples(
        [
            Example(
                int(i),
                float(near[i]),
                None if target is None else train[int(i)][target],
                _shown({role: train[int(i)][role] for role in train.inputs}),
            )
            for i in found
        ]
    )


def _require_rows(use: str, data: object) -> None:
    if not isinstance(data, TaskDataset):
        raise DataError(f"{use}: expected a TaskDataset, found {type(data).__name__}; wrap the rows: TaskDataset(rows)")


def _unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _shown(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values
