"""Language models: tokens that are predicted right, and what is said of generated texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftlib.metrics.labels import Label
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, no_labels, raise_rows, ratio
from sftlib.metrics.texts import Texts, amounts_of, measures_of, texts_of, value_of


class LanguageModel(Summed):
    """Accuracy of tokens, and of generated answers all that `Texts` computes.

    ``token_accuracy`` is the share of supervised tokens that were the most probable ones. It takes predictions with
    ``.correct`` and ``.tokens`` (how many of how many), or pairs of these two numbers; references are not looked at.
    Metrics of texts take predictions with ``.text``, or strings, and a reference text a row, or several.

    ``perplexity``, which `Metrics` has for every family, is exp(mean loss); the loss must be one per token for that.

    Kept: two numbers a row, and those that the metrics of texts need.
    """

    title = "language model"
    names = ("token_accuracy", *Texts.names)

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        no_labels(label_names)
        super().__init__(names, label_names=None, keep_rows=keep_rows)
        self._counts_tokens = "token_accuracy" in names
        self._measures = measures_of(names)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return True  # asked only when nothing else has token_accuracy

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return "token_accuracy" in names and not label_names

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        amounts: list[dict[Any, float]] = [{} for _ in references]
        if self._counts_tokens:
            for row, (correct, tokens) in zip(amounts, _token_counts(predictions), strict=True):
                row.update({"correct": correct, "tokens": tokens})
        if self._measures:
            for row, found, true in zip(amounts, *texts_of(predictions, references), strict=True):
                row.update(amounts_of(self._measures, found, true))
        read: list[Amounts] = [*amounts]
        return Read(references, [getattr(item, "text", item) for item in predictions], read)

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        if name == "token_accuracy":
            return ratio(sums["correct"], sums["tokens"])
        return value_of(self._measures, name, sums, rows)


def _token_counts(predictions: list[Any]) -> list[tuple[int, int]]:
    counts = [_pair(prediction) for prediction in predictions]
    raise_rows(
        [
            f"predictions, row {row}: 'token_accuracy' needs how many of how many tokens are right (.correct and "
            f".tokens, or a pair of whole numbers), got {predictions[row]!r:.50}"
            for row, pair in enumerate(counts)
            if pair is None
        ]
    )
    return [pair for pair in counts if pair is not None]


def _pair(prediction: Any) -> tuple[int, int] | None:
    if hasattr(prediction, "correct") and hasattr(prediction, "tokens"):
        prediction = (prediction.correct, prediction.tokens)
    try:
        correct, tokens = (int(number) for number in prediction)
    except (TypeError, ValueError):
        return None
    return (correct, tokens) if 0 <= correct <= tokens else None
