"""Answers against the definition of SQuAD 2.0's official script, written out anew."""

from __future__ import annotations

import collections
import math
import random
import re
import string
from typing import Any

import pytest

from sftlib.errors import DataError, OptionError
from sftlib.metrics import Answers, Metrics
from tests.metrics.makers import Answer, in_batches

WORDS = "the a an Normans, normans of France; 10th century u.s. (US) — é the. A-an x—the—y".split()


def normalized(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces."""
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text, flags=re.UNICODE).split())


def official_f1(gold: str, found: str) -> float:
    gold_words, found_words = normalized(gold).split(), normalized(found).split()
    same = sum((collections.Counter(gold_words) & collections.Counter(found_words)).values())
    if not gold_words or not found_words:
        return float(gold_words == found_words)
    if not same:
        return 0.0
    precision, recall = same / len(found_words), same / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def official(true: list[list[str]], found: list[str]) -> dict[str, float]:
    exact, f1 = [], []
    for answers, text in zip(true, found, strict=True):
        golds = [answer for answer in answers if normalized(answer)] or [""]
        exact.append(max(float(normalized(gold) == normalized(text)) for gold in golds))
        f1.append(max(official_f1(gold, text) for gold in golds))
    have = [row for row, answers in enumerate(true) if answers]
    none = [row for row, answers in enumerate(true) if not answers]

    def mean(values: list[float], rows: list[int]) -> float:
        return sum(values[row] for row in rows) / len(rows) if rows else math.nan

    return {
        "exact_match": mean(exact, [*have, *none]),
        "f1": mean(f1, [*have, *none]),
        "has_answer_exact_match": mean(exact, have),
        "has_answer_f1": mean(f1, have),
        "no_answer_accuracy": mean(exact, none),
    }


def random_rows(seed: int) -> tuple[list[list[str]], list[str]]:
    rng = random.Random(seed)

    def text() -> str:
        return rng.choice([" ", "  ", "\n"]).join(rng.choices(WORDS, k=rng.randint(0, 4)))

    true = [[text() for _ in range(rng.choice([0, 1, 1, 3]))] for _ in range(rng.randint(1, 8))]
    return true, [rng.choice([*answers, text(), ""]) for answers in true]


def test_values_are_the_official_ones() -> None:
    for seed in range(1000):
        true, found = random_rows(seed)
        metrics = in_batches(Metrics(Answers.names), [Answer(text or None) for text in found], true, 3)
        assert dict(metrics) == pytest.approx(official(true, found), abs=1e-9, nan_ok=True), seed


def test_references_as_data_sets_have_them() -> None:
    true = [{"text": ["Paris", "the city of Paris"], "answer_start": [3, 0]}, {"text": [], "answer_start": []}]
    assert Metrics(["f1", "exact_match"]).update(["paris", ""], true)["exact_match"] == 1.0
    assert Metrics(["f1"]).update(["Paris."], [["Paris"]])["f1"] == 1.0


def test_functions_get_answers_as_given() -> None:
    def longest(references: Any, predictions: Any) -> float:
        return float(max(map(len, references)) + max(map(len, predictions)))

    metrics = Metrics(["f1", longest]).update(["abc", ""], [["abc", "ab"], []])
    assert metrics["longest"] == 5.0
    assert metrics.interval("longest", resamples=20)[1] == 5.0


def test_rows_that_cannot_be() -> None:
    metrics = Metrics(["f1"], family=Answers)
    with pytest.raises(
        DataError, match=r"predictions, row 1: expected a text, got \[3\]\n.*references, row 0: expected"
    ):
        metrics.update(["a", 3], [5, ["a"]])
    assert metrics.rows == 0
    with pytest.raises(OptionError, match="label_names are for classification"):
        Metrics(["f1"], label_names=("a", "b"), family=Answers)
