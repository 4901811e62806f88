"""Spans marked by tags, one tag a word: names, chunks, and (by ``accuracy``) parts of speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Self

from sftlib.errors import DataError
from sftlib.metrics.cells import RATES
from sftlib.metrics.inputs import attribute
from sftlib.metrics.labels import Label, LabelIndex, own_types
from sftlib.metrics.multilabel import SETS
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, raise_rows, rate
from sftlib.metrics.tags import OUTSIDE, STRICT, Tag, TagReader, is_scheme, spans, strict_reader

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT = "default"


class Spans(Summed):
    """Precision, recall and F1 of spans, and accuracy of words, as seqeval computes them.

    References and predictions are a list of tags a row, or predictions with ``.tags``. A span is right when its type,
    its first and its last word are. Plain ``f1``, ``precision`` and ``recall`` count all spans together; ``_macro`` is
    the mean over types that came as a reference or a prediction, ``_weighted`` the mean weighted by references. A rate
    of nothing is 0. ``accuracy`` is of words.

    Without ``strict_`` spans are read as conlleval does, also from tags that break their scheme (seqeval's default
    mode). With it they are read by the scheme alone (seqeval's ``mode="strict"``): BIO, BIOES (BILOU), IOE, or IO, as
    the prefixes of ``label_names`` say, or of the references where no names are given.

    Kept: for each row the number of right, found and true spans of each type that it has.
    """

    title = "token classification"
    names = (
        "accuracy",
        *RATES,
        *(f"{rate_name}_{average}" for rate_name in RATES for average in ("macro", "weighted")),
        *(f"strict_{rate_name}" for rate_name in RATES),
        *(f"strict_{rate_name}_{average}" for rate_name in RATES for average in ("macro", "weighted")),
    )

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        super().__init__(names, label_names=label_names, keep_rows=keep_rows)
        self._index = LabelIndex(label_names or (), closed=label_names is not None)
        self._tags = TagReader(label_names)
        self._prefixes = {prefix for prefix, _ in self._tags.read(label_names or ())}
        needed = STRICT if label_names is None else (self._scheme,)
        strict = {scheme: STRICT[scheme] for scheme in needed if any(name.startswith("strict_") for name in names)}
        self._readers = {DEFAULT: spans, **strict}

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        if not all(isinstance(reference, list | tuple) for reference in references):
            return False
        tags = label_names if label_names else [tag for reference in references for tag in reference]
        return bool(tags) and is_scheme(tags)

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names) and is_scheme(label_names or ())

    def merged(self, other: Self) -> Self:
        both = super().merged(other)
        both._index = self._index.merged(other._index)
        both._prefixes = self._prefixes | other._prefixes
        if set(self._readers) != set(other._readers):  # one was given label names, the other not
            closed = self if self._index.closed else other
            both._readers, both._tags = dict(closed._readers), copy(closed._tags)
        return both

    def plot(self, axes: Axes | None) -> Axes:
        from sftlib.metrics.plots import draw_bars

        return draw_bars(self.per_class(), axes)

    @property
    def label_names(self) -> tuple[Label, ...]:
        return self._index.names

    def per_class(self) -> dict[Label, dict[str, float]]:
        """Precision, recall, F1 and support (spans in the references) of each type."""
        table = _by_type(self._sums.total(), DEFAULT)
        return {kind: {**_rates(right, found, true), "support": true} for kind, (right, found, true) in table.items()}

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        true, found = _tag_lists(references, "references"), _tag_lists(attribute(predictions, "tags"), "predictions")
        raise_rows(
            [
                f"row {row}: {len(b)} tags predicted for {len(a)} words"
                for row, (a, b) in enumerate(zip(true, found, strict=True))
                if len(a) != len(b)
            ]
        )
        self._index = self._index.including({"references": enumerate(true), "predictions": enumerate(found)})
        amounts: list[Amounts] = []
        for a, b in zip(true, found, strict=True):
            read = self._tags.read(a)
            self._prefixes.update({prefix for prefix, _ in read} if not self._index.closed else ())
            amounts.append({**self._counts(read, self._tags.read(b)), "words": len(a), "right": _equal(a, b)})
        return Read(true, found, amounts)

    def _counts(self, true: list[Tag], found: list[Tag]) -> Counter[Any]:
        """(reading, type, what) -> number of spans in one row."""
        counts: Counter[Any] = Counter()
        for reading, reader in self._readers.items():
            in_true, in_found = set(reader(true)), set(reader(found))
            for what, some in (("right", in_true & in_found), ("found", in_found), ("true", in_true)):
                counts.update((reading, kind, what) for kind, _, _ in some)
        return counts

    @property
    def _scheme(self) -> str:
        return strict_reader(self._prefixes - {OUTSIDE})

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        if name == "accuracy":
            return rate(sums["right"], sums["words"])
        reading = self._scheme if name.startswith("strict_") else DEFAULT
        stem, _, average = name.removeprefix("strict_").partition("_")
        counts = list(_by_type(sums, reading).values())
        if not counts:
            return 0.0
        if not average:
            return _rates(*(sum(column) for column in zip(*counts, strict=True)))[stem]
        weights = [true if average == "weighted" else 1 for _, _, true in counts]
        values = [_rates(*row)[stem] for row in counts]
        return rate(sum(w * value for w, value in zip(weights, values, strict=True)), sum(weights))


def _by_type(sums: Sums, reading: str) -> dict[Label, tuple[float, float, float]]:
    """Right, found and true spans of each type that has any."""
    kinds = sorted({key[1] for key in sums if isinstance(key, tuple) and key[0] == reading}, key=str)
    rows = {kind: tuple(sums.get((reading, kind, what), 0.0) for what in ("right", "found", "true")) for kind in kinds}
    return {kind: (right, found, true) for kind, (right, found, true) in rows.items() if found or true}


def _rates(right: float, found: float, true: float) -> dict[str, float]:
    precision, recall = rate(right, found), rate(right, true)
    return {"precision": precision, "recall": recall, "f1": rate(2 * precision * recall, precision + recall)}


def _equal(first: list[Label], second: list[Label]) -> int:
    return sum(a == b for a, b in zip(first, second, strict=True))


def _tag_lists(rows: list[Any], what: str) -> list[list[Any]]:
    bad = [row for row, tags in enumerate(rows) if not isinstance(tags, SETS) or isinstance(tags, set | frozenset)]
    if bad:
        raise DataError(f"{what}, row {bad[0]}: expected a list of tags, got {rows[bad[0]]!r:.50}")
    return [own_types(list(tags)) for tags in rows]
