"""Speech to text: edits over what was said."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from sftlib.metrics.bound import Bound
from sftlib.metrics.labels import Label
from sftlib.metrics.measures import EditRate, ErrorRate, Mean, Measure, same_text
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, no_labels
from sftlib.metrics.texts import amounts_of, texts_of, value_of
from sftlib.support.spoken import NORMALIZERS

_NORMALIZED = "_normalized"


class Speech(Summed):
    """Word and character error rates, of texts as they stand and as they are spoken.

    Edits are summed over all rows and divided by the words (or characters, blanks among them) of the references, as
    jiwer does. ``wer_normalized`` and ``cer_normalized`` compare texts without case, punctuation and what else the
    normaliser takes away. They can exceed 1; without any word in the references they are nan. ``substitution_rate``,
    ``deletion_rate`` and ``insertion_rate`` are the parts of ``wer``, counted as jiwer counts them; which words they
    are says `WordErrors`. ``exact_match`` is the share of texts without an error, but for white space around.

    Args:
        names: the metrics asked for.
        label_names: None.
        keep_rows: whether user functions will ask for rows.
        normalizer: one of ``"none"``, ``"basic"`` and ``"english"``.

    Kept: edits and lengths of each row.
    """

    title = "speech recognition"
    names = (
        "wer",
        "cer",
        "wer_normalized",
        "cer_normalized",
        "substitution_rate",
        "deletion_rate",
        "insertion_rate",
        "exact_match",
    )

    def __init__(
        self,
        names: Sequence[str],
        *,
        label_names: Sequence[Label] | None,
        keep_rows: bool,
        normalizer: str = "basic",
    ) -> None:
        no_labels(label_names)
        super().__init__(names, label_names=None, keep_rows=keep_rows)
        self._normalize = NORMALIZERS[normalizer]
        units: dict[str, Measure] = {
            "wer": ErrorRate(str.split),
            "cer": ErrorRate(str.strip),
            "substitution_rate": EditRate(lambda said, heard: None not in (said, heard) and said != heard),
            "deletion_rate": EditRate(lambda _, heard: heard is None),
            "insertion_rate": EditRate(lambda said, _: said is None),
            "exact_match": Mean(same_text),
        }
        self._plain = {name: units[name] for name in names if name in units}
        self._spoken = {name: units[name.removesuffix(_NORMALIZED)] for name in names if name.endswith(_NORMALIZED)}

    @classmethod
    def normalizing(cls, normalizer: str) -> Bound:
        """The family with a normaliser; ``"none"`` leaves ``"basic"``, since there is a rate without one anyway."""
        return Bound(cls, {"normalizer": "basic" if normalizer == "none" else normalizer})

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return not label_names and all(isinstance(row, str) for row in references)

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        found, true = texts_of(predictions, references)
        amounts: list[Amounts] = []
        for text, others in zip(found, true, strict=True):
            row: dict[Hashable, float] = dict(amounts_of(self._plain, text, others))
            if self._spoken:
                spoken = [self._normalize(other) for other in others]
                row.update(amounts_of(self._spoken, self._normalize(text), spoken))
            amounts.append(row)
        return Read(references, found, amounts)

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        return value_of(self._plain | self._spoken, name, sums, rows)
