"""Stand-ins for the Prediction objects of tasks, and seeded rows for the tests of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sftlib.metrics import Metrics


@dataclass(frozen=True)
class Single:
    label: Any
    probability: float
    probabilities: Mapping[Any, float]


@dataclass(frozen=True)
class Several:
    labels: tuple[Any, ...]
    probabilities: Mapping[Any, float]


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Tagged:
    tags: list[str]


@dataclass(frozen=True)
class Answer:
    answer: str | None


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Spoken:
    correct: int
    tokens: int
    text: str = ""


@dataclass(frozen=True)
class Embedded:
    embedding: np.ndarray
    embedding_pair: np.ndarray


def embedded(rng: np.random.Generator, rows: int) -> list[Embedded]:
    """Queries in eight dimensions, and documents that resemble them."""
    queries = rng.standard_normal((rows, 8))
    return [Embedded(query, query + 1.5 * rng.standard_normal(8)) for query in queries]


TAGS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")


def tagged(rng: np.random.Generator, rows: int) -> list[Tagged]:
    """Predictions of five random tags each, every one of TAGS in the first."""
    return [
        Tagged([TAGS[code] for code in (rng.permutation(5) if not row else rng.integers(0, 5, 5))])
        for row in range(rows)
    ]


def single(names: Sequence[Any], scores: np.ndarray) -> list[Single]:
    """Predictions of the label with the highest score."""
    best = scores.argmax(axis=1)
    return [
        Single(names[code], float(row[code]), dict(zip(names, row.tolist(), strict=True)))
        for code, row in zip(best, scores, strict=True)
    ]


def several(names: Sequence[Any], scores: np.ndarray) -> list[Several]:
    """Predictions of the labels with a score above one half."""
    return [
        Several(
            tuple(name for name, score in zip(names, row, strict=True) if score > 0.5),
            dict(zip(names, row.tolist(), strict=True)),
        )
        for row in scores
    ]


def softmax(rng: np.random.Generator, rows: int, labels: int) -> np.ndarray:
    scores = np.exp(2 * rng.standard_normal((rows, labels)))
    return scores / scores.sum(axis=1, keepdims=True)


def in_batches(metrics: Metrics, predictions: Sequence[Any], references: Sequence[Any], size: int) -> Metrics:
    """Feed the rows ``size`` at a time, each row with a loss of 0.1."""
    for start in range(0, len(references), size):
        true = references[start : start + size]
        metrics.update(predictions[start : start + size], true, sum([0.1] * len(true)), len(true))
    return metrics
