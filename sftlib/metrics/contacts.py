"""Contacts between the letters of a sequence: how many of the most probable pairs are some.

``L`` letters of a row.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import MappingProxyType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sftlib.metrics.labels import Label
from sftlib.metrics.row_sums import Amounts
from sftlib.metrics.summed import Read, Summed, Sums, no_labels, raise_rows, ratio

_PARTS = (1, 2, 5)  # of as many pairs as letters
_APART = (6, 12, 24)  # letters from one to the other, at least


def _name(part: int, apart: int) -> str:
    return f"precision_at_l{part if part > 1 else ''}{f'_{apart}' if apart > _APART[0] else ''}"


#: Name -> which part of as many pairs as letters is looked at, and how far apart the letters of a pair are at least.
_NAMED = MappingProxyType({_name(part, apart): (part, apart) for apart in _APART for part in _PARTS})


@final
class Contacts(Summed):
    """The share of contacts among the most probable pairs, as the field scores them (Rao et al., 2021).

    ``precision_at_l`` looks at as many pairs as a row has letters, ``precision_at_l2`` at half as many and
    ``precision_at_l5`` at a fifth, rounded down and one at least, or at all there are where there are fewer. Their
    letters are 6 apart or more; 12 or more in ``precision_at_l_12``, ``precision_at_l2_12`` and
    ``precision_at_l5_12``; 24 or more in those that end in ``_24``. Of equal probabilities the pair with the first
    letter counts before. Each is the mean over rows; a row without such a pair is left out, and one without a contact
    has 0.

    References are an (L, L) array a row, 1 of a contact, 0 of none and -1 of pairs that do not count; predictions the
    same of probabilities, or have it as ``.probabilities``. Of both the part above the diagonal is read.

    Kept: the shares of each row.
    """

    title = "contact prediction"
    names = tuple(_NAMED)

    def __init__(self, names: Sequence[str], *, label_names: Sequence[Label] | None, keep_rows: bool) -> None:
        no_labels(label_names)
        super().__init__(names, label_names=None, keep_rows=keep_rows)

    @classmethod
    def accepts(cls, references: Sequence[Any], label_names: Sequence[Label] | None) -> bool:
        return False  # only where it is asked for: an array of whole numbers is a mask as well

    @classmethod
    def fits(cls, names: Sequence[str], label_names: Sequence[Label] | None) -> bool:
        return bool(names)

    def _read(self, predictions: list[Any], references: list[Any]) -> Read:
        found = [np.asarray(getattr(prediction, "probabilities", prediction)) for prediction in predictions]
        true = [np.asarray(reference) for reference in references]
        pairs = list(zip(found, true, strict=True))
        raise_rows([line for row, pair in enumerate(pairs) for line in _problems(row, *pair)])
        return Read(true, found, [self._of_row(*pair) for pair in pairs])

    def _of_row(self, found: NDArray[Any], true: NDArray[Any]) -> Amounts:
        amounts: dict[Hashable, float] = {}
        for apart in sorted({_NAMED[name][1] for name in self._names}):
            first, second = np.triu_indices(len(true), apart)
            counts = true[first, second] >= 0
            values, hits = found[first, second][counts], true[first, second][counts] > 0
            ranked = np.cumsum(hits[np.argsort(-values.astype(np.float64), kind="stable")])
            for name in self._names:
                part, of = _NAMED[name]
                if of == apart and len(ranked):
                    taken = min(max(len(true) // part, 1), len(ranked))
                    amounts[name, "share"] = float(ranked[taken - 1]) / taken
                    amounts[name, "rows"] = 1.0
        return amounts

    def _of_sums(self, name: str, sums: Sums, rows: int) -> float:
        return ratio(sums.get((name, "share"), 0.0), sums.get((name, "rows"), 0.0))


def _problems(row: int, found: NDArray[Any], true: NDArray[Any]) -> list[str]:
    square = true.ndim == 2 and true.shape[0] == true.shape[1]
    if not square or true.dtype.kind not in "biu":
        return [f"references, row {row}: expected an (L, L) array of 1 (contact), 0 (none) and -1 (does not count)"]
    if found.shape != true.shape or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
        return [
            f"predictions, row {row}: expected probabilities {true.shape}, as many as the reference has, "
            f"got an array {found.shape}" + ("" if found.shape != true.shape else " of other values")
        ]
    return []
