"""Texts against sacrebleu, and against ROUGE and error rates written out as plain tables."""

from __future__ import annotations

import math
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from sftlib.errors import DataError, MissingExtraError
from sftlib.metrics import LanguageModel, Metrics, Texts, number_match
from sftlib.metrics.directions import higher_is_better
from sftlib.metrics.edits import common_length, edit_distance
from sftlib.metrics.numbers import last_number
from tests.metrics.makers import Spoken, Text, in_batches

WORDS = "the cat sat on a mat , The dog's mat. Übung 中文 x-ray 10".split()
OWN = ["exact_match", "chrf", "rouge1", "rouge2", "rougeL", "error_rate", "character_error_rate"]


def random_rows(seed: int, rows: int = 6, references: int = 1) -> tuple[list[list[str]], list[str]]:
    """References (all with as many), and predictions that share words with the first."""
    rng = random.Random(seed)

    def text() -> list[str]:
        return rng.choices(WORDS, k=rng.randint(1, 9))

    true = [[text() for _ in range(references)] for _ in range(rng.randint(1, rows))]
    found = [[word if rng.random() < 0.7 else rng.choice(WORDS) for word in row[0]] for row in true]
    found = [row[rng.randint(0, 1) :] if rng.random() < 0.7 else [*row[2:], *row[:2]] for row in found]
    return [[" ".join(words) for words in row] for row in true], [" ".join(words) for words in found]


@pytest.mark.parametrize("references", [1, 3])
def test_corpus_scores_are_sacrebleus(references: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    for seed in range(100):
        true, found = random_rows(seed, references=references)
        metrics = in_batches(Metrics(["bleu", "chrf", "ter"]), [Text(text) for text in found], true, 2)
        streams = [list(stream) for stream in zip(*true, strict=True)]
        expected = {name: getattr(sacrebleu, f"corpus_{name}")(found, streams).score for name in metrics}
        assert dict(metrics) == pytest.approx(expected, abs=1e-9), seed


def test_rows_may_have_references_of_different_number() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    metrics = Metrics(["bleu", "chrf", "ter"]).update(
        ["the cat sat on a mat", "a dog"], [["the cat sat on the mat", "cat on mat"], "the dog"]
    )
    streams = [["the cat sat on the mat", "the dog"], ["cat on mat", None]]
    for name in metrics:
        score = getattr(sacrebleu, f"corpus_{name}")(["the cat sat on a mat", "a dog"], streams).score
        assert metrics[name] == pytest.approx(score, abs=1e-9)


def table_distance(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Levenshtein's distance by the full table."""
    above = list(range(len(second) + 1))
    for row, left in enumerate(first, 1):
        here = [row]
        for column, right in enumerate(second, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (left != right)))
        above = here
    return above[-1]


def table_common(first: Sequence[Any], second: Sequence[Any]) -> int:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for row, left in enumerate(first, 1):
        for column, right in enumerate(second, 1):
            longer = max(table[row - 1][column], table[row][column - 1])
            table[row][column] = table[row - 1][column - 1] + 1 if left == right else longer
    return table[-1][-1]


def rouge_tokens(text: str) -> list[str]:
    return re.sub("[^a-z0-9]+", " ", text.lower()).split()


def f_measure(same: int, found: int, true: int) -> float:
    precision, recall = same / max(found, 1), same / max(true, 1)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rouge(name: str, true: str, found: str) -> float:
    a, b = rouge_tokens(true), rouge_tokens(found)
    if name == "rougeL":
        return f_measure(table_common(a, b), len(b), len(a))
    order = int(name[-1])
    grams = [Counter(tuple(side[at : at + order]) for at in range(len(side) - order + 1)) for side in (a, b)]
    same = sum(min(count, grams[1][gram]) for gram, count in grams[0].items())
    return f_measure(same, sum(grams[1].values()), sum(grams[0].values()))


def test_own_scores_are_those_of_plain_tables() -> None:
    for seed in range(200):
        true, found = random_rows(seed)
        first = [row[0] for row in true]
        metrics = in_batches(Metrics(OWN), found, first, 2)
        pairs = list(zip(first, found, strict=True))
        expected = {
            name: sum(rouge(name, *pair) for pair in pairs) / len(pairs) for name in ("rouge1", "rouge2", "rougeL")
        }
        expected["error_rate"] = sum(table_distance(a.split(), b.split()) for a, b in pairs) / sum(
            len(a.split()) for a in first
        )
        expected["character_error_rate"] = sum(table_distance(*pair) for pair in pairs) / sum(map(len, first))
        expected["exact_match"] = sum(a == b for a, b in pairs) / len(pairs)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9), seed


def test_distances_of_long_and_empty_sequences() -> None:
    rng = random.Random(0)
    for size in (0, 1, 2, 31, 64, 65, 200):
        first, second = (rng.choices("abcd", k=size + rng.randint(0, 3)) for _ in range(2))
        assert edit_distance(first, second) == table_distance(first, second)
        assert common_length(first, second) == table_common(first, second)
        assert edit_distance(first, []) == edit_distance([], first) == len(first)
        assert common_length(first, []) == common_length([], first) == 0


def test_the_best_reference_counts() -> None:
    metrics = Metrics(OWN).update(["b c"], [["a", "b c d", "b c"]])
    assert all(metrics[name] == (0 if "rate" in name else 100 if name == "chrf" else 1) for name in OWN)
    assert Metrics(["error_rate"]).update(["b"], [["a", "a b"]])["error_rate"] == 0.5


def test_nothing_to_compare_with() -> None:
    empty = Metrics(OWN).update([""], [[""]])
    assert math.isnan(empty["error_rate"])
    assert empty["exact_match"] == 1.0
    assert empty["rougeL"] == empty["chrf"] == 0.0


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        (["a", 3], ["a", "b"], "predictions, row 1: expected a text, got 3"),
        (["a"], [[]], r"references, row 0: expected a text or a list of one or more, got \[\]"),
        ([Text("a"), "b"], ["a", "b"], "row 1: all must be Prediction objects with .text, or none"),
    ],
)
def test_rows_that_cannot_be(found: Any, true: Any, message: str) -> None:
    metrics = Metrics(["exact_match"], family=Texts)
    with pytest.raises(DataError, match=message):
        metrics.update(found, true)
    assert metrics.rows == 0


def test_sacrebleu_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    Metrics(OWN)
    with pytest.raises(
        MissingExtraError, match=r"'bleu' needs the package 'sacrebleu'.*pip install 'sftlib\[metrics\]'"
    ):
        Metrics(["bleu"])


def test_rates_of_errors_and_perplexity_fall() -> None:
    falling = ["ter", "error_rate", "character_error_rate", "perplexity", "loss"]
    assert not any(higher_is_better(name) for name in falling)
    assert all(higher_is_better(name) for name in ("bleu", "chrf", "rougeL", "token_accuracy", "exact_match"))


def test_perplexity_is_of_the_mean_loss() -> None:
    metrics = Metrics(["perplexity", "loss"]).update([], [], 6.0, 4).update([], [], 2.0, 4)
    assert metrics["perplexity"] == pytest.approx(math.exp(1.0), abs=1e-12)
    assert math.isnan(Metrics(["perplexity"])["perplexity"])
    assert Metrics(["perplexity"]).update([], [], 1e6, 1)["perplexity"] == math.inf


def test_tokens_are_counted_over_all_rows() -> None:
    for kind in (Spoken, lambda correct, tokens: (correct, tokens)):
        metrics = Metrics(["token_accuracy", "perplexity"]).update([kind(1, 4), kind(0, 0)], [None, "x"], 2.0, 4)
        metrics.update([kind(6, 6)], ["y"], 0.0, 6)
        assert dict(metrics) == pytest.approx({"token_accuracy": 0.7, "perplexity": math.exp(0.2)})
    low, high = metrics.interval("token_accuracy", resamples=50)
    assert low <= 0.7 <= high
    with pytest.raises(DataError, match=r"predictions, row 0: 'token_accuracy' needs how many of how many.*'a'"):
        metrics.update(["a"], ["b"])


def test_a_language_model_is_scored_by_what_it_says_too() -> None:
    names = ["token_accuracy", "exact_match", "rouge1", number_match]
    metrics = Metrics(names).update([Spoken(1, 2, "It is 12."), Spoken(2, 2, "x")], ["#### 12", "x"])
    assert dict(metrics) == {"token_accuracy": 0.75, "exact_match": 0.5, "rouge1": 0.75, "number_match": 0.5}
    told = Metrics(["loss", number_match], family=LanguageModel).update([Spoken(0, 1, "8")], ["#### 8"], 1.0, 1)
    assert told["number_match"] == 1.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She pays $1,250.50.", "1250.50"),
        ("10 - 3 = 7\n#### 7", "7"),
        ("#### -1,000", "-1000"),
        ("#### $18 a day for 3 days", "18"),
        ("It fell to \u22125", "-5"),
        ("so 10-4", "4"),
        ("from 3 to +9", "9"),
        ("half is .5", "0.5"),
        ("3 apples #### none", None),
        ("(2, 3)", "3"),
        ("v2 is 7.", "7"),
        ("", None),
    ],
)
def test_the_number_a_text_arrives_at(text: str, number: str | None) -> None:
    found = last_number(text)
    assert found == (None if number is None else Decimal(number))


def test_gsm8k_answers_match_themselves_only() -> None:
    assert number_match(["1 + 1 = 2\n#### 2", "#### 1,000", "no number"], ["2.0", "1000", "no number"]) == 2 / 3
    assert number_match([["#### 3", "#### 4"]], ["4"]) == 1.0
