"""Short answers to questions, or none where a question has none."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import Label
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, no_labels, raise_rows, ratio

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Answers(Summed):
    """Exact match and F1 of answers as the official script of SQuAD 2.0 computes them, from 0 to 1.

    References are a list of right answers a row (or a mapping that has it under ``text``), empty where the question
    has no answer. Predictions are strings or predictions with ``.answer``; an empty string or None is no answer.

    Both are compared without case, punctuation (ASCII) and English articles; the best of a row's right answers
    counts. ``f1`` is the overlap of words. An unanswerable row is right when nothing is answered. ``has_answer_`` and
    ``no_answer_accuracy`` are of the rows with and without an answer, nan when there are none.

    Kept: three numbers a row.
    """

    title = "question answering"
    names = ("exact_match", "f1", "has_answer_exact_match", "has_answer_f1", "no_answer_accuracy")

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        no_labels(label_names)
        super().__init__(names, label_names=None, keep_rows=keep_rows)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return not label_names and all(isinstance(row, list | tuple | Mapping) for row in references)

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names) and not label_names

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        found = ["" if answer is None else answer for answer in attribute(predictions, "answer")]
        true = [_texts(row) for row in references]
        raise_rows(
            [f"predictions, row {row}: expected a text, got {x!r:.50}" for row, x in _not_texts([[a] for a in found])]
            + [f"references, row {row}: expected a list of texts, got {x!r:.50}" for row, x in _not_texts(true)]
        )
        return Read(true, found, [_amounts(a, b) for a, b in zip(true, found, strict=True)])

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        with_answer = sums["with answer"]
        if name == "no_answer_accuracy":
            return ratio(sums["exact of none"], rows - with_answer)
        stem = "exact" if name.endswith("exact_match") else "f1"
        if name.startswith("has_answer_"):
            return ratio(sums[stem], with_answer)
        return (sums[stem] + sums[f"{stem} of none"]) / rows


def exact_match(true: str, found: str) -> float:
    """1 when two answers are equal but for case, punctuation and articles."""
    return float(_words(true) == _words(found))


def overlap(true: str, found: str) -> float:
    """F1 of the words of two answers.

    Example:
        >>> overlap("The Normans", "normans of France")
        0.5
    """
    first, second = _words(true), _words(found)
    if not first or not second:
        return float(first == second)
    common = (Counter(first) & Counter(second)).total()
    return 2 * common / (len(first) + len(second))


def _amounts(true: list[str], found: str) -> Amounts:
    what = "" if true else " of none"
    golds = [text for text in true if _words(text)] or [""]
    return {
        f"exact{what}": max(exact_match(gold, found) for gold in golds),
        f"f1{what}": max(overlap(gold, found) for gold in golds),
        "with answer": bool(true),
        **dict.fromkeys(({"exact", "f1", "exact of none", "f1 of none"} - {f"exact{what}", f"f1{what}"}), 0),
    }


def _words(text: str) -> list[str]:
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()


def _texts(row: Any) -> Any:
    """The right answers of a reference."""
    if isinstance(row, Mapping):
        row = row.get("text", row)
    return [row] if isinstance(row, str) else list(row) if isinstance(row, list | tuple) else row


def _not_texts(rows: list[Any]) -> list[tuple[int, Any]]:
    return [
        (number, row)
        for number, row in enumerate(rows)
        if not isinstance(row, list) or not all(isinstance(text, str) for text in row)
    ]
