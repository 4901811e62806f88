"""Metrics of generated texts: what each reads off one row, and how sums over rows make its value."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, final

from sftlib.metrics.edits import alignment, common_length, edit_distance
from sftlib.metrics.summed import rate, ratio
from sftlib.support.extras import require

Numbers = Mapping[str, float]


class Measure(ABC):
    """One metric of texts."""

    @abstractmethod
    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        """The numbers of one row, always under the same names; ``true`` holds one reference at least."""

    @abstractmethod
    def value(self, sums: Numbers, rows: int) -> float:
        """The metric of sums over ``rows`` rows."""


@final
class Mean(Measure):
    """The mean over rows of the best score that one of the references gives."""

    def __init__(self, score: Callable[[str, str], float]) -> None:
        self._score = score

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        return {"score": max(self._score(found, text) for text in true)}

    def value(self, sums: Numbers, rows: int) -> float:
        return sums["score"] / rows


@final
class ErrorRate(Measure):
    """Edits over the length of the references; of several references the one with the fewest edits counts."""

    def __init__(self, units: Callable[[str], Sequence[Hashable]]) -> None:
        self._units = units

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        units = self._units(found)
        edits, length = min((edit_distance(self._units(text), units), -len(self._units(text))) for text in true)
        return {"edits": edits, "length": -length}

    def value(self, sums: Numbers, rows: int) -> float:
        return ratio(sums["edits"], sums["length"])


@final
class EditRate(Measure):
    """Edits of one kind over the words of the first reference.

    Args:
        kind: tells by the words of a pair, of which one may be None, whether it is counted.
    """

    def __init__(self, kind: Callable[[str | None, str | None], bool]) -> None:
        self._kind = kind

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        said, heard = true[0].split(), found.split()
        pairs = [(None if i is None else said[i], None if j is None else heard[j]) for i, j in alignment(said, heard)]
        return {"edits": sum(self._kind(*pair) for pair in pairs), "length": len(said)}

    def value(self, sums: Numbers, rows: int) -> float:
        return ratio(sums["edits"], sums["length"])


@final
class ChrF(Measure):
    """chrF2 of Popović (2015): character n-grams up to six, without white space, of the reference that fits best."""

    ORDERS: Final = range(1, 7)

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        grams = {order: _grams(found, order) for order in self.ORDERS}
        return max((self._counts(grams, text) for text in true), key=lambda counts: self.value(counts, 1))

    def value(self, sums: Numbers, rows: int) -> float:
        precisions, recalls = [], []
        for order in self.ORDERS:
            found, true, same = (sums[f"{what} {order}"] for what in ("found", "true", "same"))
            if found and true:
                precisions.append(same / found)
                recalls.append(same / true)
        precision, recall = (rate(sum(values), len(values)) for values in (precisions, recalls))
        return 100 * rate(5 * precision * recall, 4 * precision + recall)

    def _counts(self, found: Mapping[int, Counter[str]], text: str) -> Numbers:
        counts = {}
        for order in self.ORDERS:
            true = _grams(text, order)
            counts[f"found {order}"] = found[order].total() if true else 0
            counts[f"true {order}"] = true.total()
            counts[f"same {order}"] = (found[order] & true).total()
        return counts


@final
class Bleu(Measure):
    """BLEU-4 of sacrebleu: its tokenizer ``13a``, exponential smoothing, the closest reference length."""

    ORDERS: Final = range(4)

    def __init__(self) -> None:
        self._sacrebleu: Any = require("sacrebleu.metrics", extra="metrics", purpose="the metric 'bleu'").BLEU
        self._scorer = self._sacrebleu(effective_order=True)  # silences advice about sentences; counts are the same

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        score = self._scorer.sentence_score(found, list(true))
        same = {f"same {order}": score.counts[order] for order in self.ORDERS}
        total = {f"found {order}": score.totals[order] for order in self.ORDERS}
        return {**same, **total, "length": score.sys_len, "true length": score.ref_len}

    def value(self, sums: Numbers, rows: int) -> float:
        same, total = ([int(sums[f"{what} {order}"]) for order in self.ORDERS] for what in ("same", "found"))
        lengths = int(sums["length"]), int(sums["true length"])
        return float(self._sacrebleu.compute_bleu(same, total, *lengths, smooth_method="exp").score)


@final
class Ter(Measure):
    """Translation edit rate of sacrebleu: edits with shifts of blocks, over the mean length of the references."""

    def __init__(self) -> None:
        self._scorer: Any = require("sacrebleu.metrics", extra="metrics", purpose="the metric 'ter'").TER()

    def numbers(self, found: str, true: Sequence[str]) -> Numbers:
        score = self._scorer.sentence_score(found, list(true))
        return {"edits": score.num_edits, "length": score.ref_length}

    def value(self, sums: Numbers, rows: int) -> float:
        if not sums["length"]:
            return 100.0 if sums["edits"] else 0.0
        return 100 * sums["edits"] / sums["length"]


def same_text(found: str, true: str) -> float:
    """1 when two texts are equal but for white space around them."""
    return float(found.strip() == true.strip())


def rouge_n(order: int) -> Callable[[str, str], float]:
    """F1 of word n-grams, as ROUGE-N has it."""

    def score(found: str, true: str) -> float:
        first, second = (Counter(zip(*(words[n:] for n in range(order)), strict=False)) for words in _pair(found, true))
        return rate(2 * (first & second).total(), first.total() + second.total())

    return score


def rouge_l(found: str, true: str) -> float:
    """F1 of the longest common subsequence of words, as ROUGE-L has it."""
    first, second = _pair(found, true)
    return rate(2 * common_length(first, second), len(first) + len(second))


def _pair(found: str, true: str) -> tuple[list[str], list[str]]:
    """The words that ROUGE knows: runs of a to z and digits."""
    return _ROUGE_WORD.findall(found.lower()), _ROUGE_WORD.findall(true.lower())


def _grams(text: str, order: int) -> Counter[str]:
    bare = "".join(text.split())
    return Counter(bare[place : place + order] for place in range(len(bare) - order + 1))


_ROUGE_WORD: Final = re.compile("[a-z0-9]+")

MEASURES: Final[dict[str, Callable[[], Measure]]] = {
    "exact_match": lambda: Mean(same_text),
    "bleu": Bleu,
    "chrf": ChrF,
    "ter": Ter,
    "rouge1": lambda: Mean(rouge_n(1)),
    "rouge2": lambda: Mean(rouge_n(2)),
    "rougeL": lambda: Mean(rouge_l),
    "error_rate": lambda: ErrorRate(str.split),
    "character_error_rate": lambda: ErrorRate(str.strip),
}
