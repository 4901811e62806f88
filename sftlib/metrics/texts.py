"""Generated texts: translations, summaries, transcripts, any text to text."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import Label
from sftlib.metrics.measures import MEASURES, Measure
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, no_labels, raise_rows


class Texts(Summed):
    """Metrics of texts against one or several references.

    References are a string or a list of strings a row, predictions strings or predictions with ``.text``.

    * ``exact_match``: share of rows equal to a reference, but for white space around.
    * ``bleu``, ``chrf``, ``ter``: of the corpus, from 0 to 100, as ``sacrebleu.corpus_bleu`` and its siblings compute
      them by default. ``bleu`` and ``ter`` need the extra ``metrics``.
    * ``rouge1``, ``rouge2``, ``rougeL``: mean F1 over rows, from 0 to 1, as rouge_score's without stemming. ROUGE knows
      only the letters a to z and digits: of other scripts it is 0.
    * ``error_rate``: edits over units of the reference, where units are what white space separates (the word error rate
      of jiwer; the phoneme error rate where units are phonemes); ``character_error_rate`` the same of characters. They
      can exceed 1; without any unit in the references they are nan.

    Kept: the counts of each row that the metrics asked for need.
    """

    title = "text generation"
    names = tuple(MEASURES)

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        no_labels(label_names)
        super().__init__(names, label_names=None, keep_rows=keep_rows)
        self._measures = measures_of(names)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return not label_names and all(row and isinstance(row, str | list | tuple) for row in references)

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names) and not label_names

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        found, true = texts_of(predictions, references)
        amounts = [amounts_of(self._measures, a, b) for a, b in zip(found, true, strict=True)]
        return Read(references, found, amounts)

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        return value_of(self._measures, name, sums, rows)


def measures_of(names: Iterable[str]) -> dict[str, Measure]:
    """The measures among these metrics.

    Raises:
        MissingExtraError: one needs a package that is not installed.
    """
    return {name: MEASURES[name]() for name in names if name in MEASURES}


def texts_of(predictions: list[Any], references: list[Any]) -> tuple[list[str], list[list[str]]]:
    """Predicted texts, and the references of each.

    Raises:
        DataError: something is not a text, or a row has no reference.
    """
    found = attribute(predictions, "text")
    true = [[row] if isinstance(row, str) else row for row in references]
    raise_rows(
        [f"predictions, row {row}: expected a text, got {x!r:.50}" for row, x in enumerate(found) if not _is_text(x)]
        + [
            f"references, row {row}: expected a text or a list of one or more, got {texts!r:.50}"
            for row, texts in enumerate(true)
            if not isinstance(texts, list | tuple) or not texts or not all(map(_is_text, texts))
        ]
    )
    return found, [list(texts) for texts in true]


def amounts_of(measures: dict[str, Measure], found: str, true: list[str]) -> Amounts:
    """What the measures read off one row."""
    amounts: dict[Hashable, float] = {}
    for name, measure in measures.items():
        amounts.update({(name, what): number for what, number in measure.numbers(found, true).items()})
    return amounts


def value_of(measures: dict[str, Measure], name: str, sums: Sums, rows: int) -> float:
    """The value of one of the measures."""
    own = {key[1]: number for key, number in sums.items() if isinstance(key, tuple) and key[0] == name}
    return measures[name].value(own, rows)


def _is_text(value: object) -> bool:
    return isinstance(value, str)
