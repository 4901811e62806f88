"""Which words of a text were heard as which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, final

from sftlib.metrics.edits import alignment
from sftlib.metrics.summed import ratio
from sftlib.metrics.texts import texts_of
from sftlib.support.checking import choice, raise_together
from sftlib.support.display import html_table, text_table
from sftlib.support.spoken import NORMALIZERS

_SHOWN = 10


@final
@dataclass(frozen=True)
class WordErrors:
    """The edits behind a word error rate, by kind and by word; sums over rows, as jiwer counts them.

    Attributes:
        words: of the references.
        hits: of these, heard as they are.
        substitutions: heard as another word.
        deletions: not heard.
        insertions: heard where there are none.
        confused: (word, what was heard instead) -> how often.
        missed: word -> how often it was not heard.
        added: word -> how often it was heard where there was none.

    Example:
        >>> errors = WordErrors.of(["a cat sat down", "one"], ["the cat sat", "one two"])
        >>> errors.substitutions, errors.deletions, errors.insertions, errors.wer
        (1, 1, 1, 0.6)
        >>> errors.confused
        Counter({('the', 'a'): 1})
        >>> print(errors)
        of 5 words                     count   rate
        ...
    """

    words: int = 0
    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    confused: Mapping[tuple[str, str], int] = field(default_factory=Counter)
    missed: Mapping[str, int] = field(default_factory=Counter)
    added: Mapping[str, int] = field(default_factory=Counter)

    @classmethod
    def of(cls, predictions: Iterable[Any], references: Iterable[str], *, normalizer: str = "none") -> Self:
        """Compare texts.

        Args:
            predictions: texts, or predictions with ``.text``.
            references: what was said.
            normalizer: what becomes of both first: ``"none"``, ``"basic"`` or ``"english"``.

        Raises:
            OptionError: no such normaliser, or what is no text.
        """
        raise_together([choice("normalizer", normalizer, NORMALIZERS)])
        normalize = NORMALIZERS[normalizer]
        found, true = texts_of(list(predictions), list(references))
        words, hits = 0, 0
        confused: Counter[tuple[str, str]] = Counter()
        missed: Counter[str] = Counter()
        added: Counter[str] = Counter()
        for text, (reference, *_) in zip(found, true, strict=True):
            said, heard = normalize(reference).split(), normalize(text).split()
            words += len(said)
            for i, j in alignment(said, heard):
                if i is None:
                    assert j is not None
                    added[heard[j]] += 1
                elif j is None:
                    missed[said[i]] += 1
                elif said[i] == heard[j]:
                    hits += 1
                else:
                    confused[said[i], heard[j]] += 1
        return cls(words, hits, confused.total(), missed.total(), added.total(), confused, missed, added)

    @property
    def wer(self) -> float:
        """Edits by words; nan without any word."""
        return ratio(self.substitutions + self.deletions + self.insertions, self.words)

    def to_dict(self) -> dict[str, int | float]:
        """The counts and the rate."""
        names = ("words", "hits", "substitutions", "deletions", "insertions")
        return {name: getattr(self, name) for name in names} | {"wer": self.wer}

    def most(self, count: int = _SHOWN) -> list[tuple[str, str, int]]:
        """The most frequent errors: (said, heard, how often), where nothing was said or heard an empty text."""
        pairs: Counter[tuple[str, str]] = Counter(self.confused)
        pairs.update({(word, ""): often for word, often in self.missed.items()})
        pairs.update({("", word): often for word, often in self.added.items()})
        ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        return [(said, heard, often) for (said, heard), often in ordered[:count]]

    def _kinds(self) -> list[tuple[str, int, float]]:
        counts = {
            "heard as another word": self.substitutions,
            "not heard": self.deletions,
            "heard where there was none": self.insertions,
        }
        return [(kind, count, ratio(count, self.words)) for kind, count in counts.items()]

    def __str__(self) -> str:
        kinds = text_table([f"of {self.words:,} words", "count", "rate"], self._kinds())
        most = [(said or "(nothing)", heard or "(nothing)", often) for said, heard, often in self.most()]
        return f"{kinds}\n\n{text_table(['said', 'heard', 'count'], most)}" if most else kinds

    def _repr_html_(self) -> str:
        kinds = html_table([f"of {self.words:,} words", "count", "rate"], self._kinds())
        most = [(said or "(nothing)", heard or "(nothing)", often) for said, heard, often in self.most()]
        return kinds + html_table(["said", "heard", "count"], most, caption="Most frequent errors")
