"""Whether two things of a row are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from sftlib.data.kinds.base import DROP_OR_FILL, RoleKind, is_missing, kind_of
from sftlib.data.problems import Findings

_WORDS = {"true": True, "false": False, "1": True, "0": False}


@final
class SameRole(RoleKind):
    r"""True or False in every row, or 1 or 0; it becomes a bool.

    Example:
        >>> SameRole().normalise(SameRole().parse(["1", "false"]))
        [True, False]
        >>> print(*SameRole().check([True, "yes"]).lines("same"), sep="\n")
        same: 1 row with a str instead of True or False: row 1 ('yes'); write True, False, 1 or 0
    """

    one_label = True

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, or neither True nor False."""
        findings = Findings()
        for row, value in enumerate(values):
            if is_missing(value):
                findings.add(row, "a missing value", None, DROP_OR_FILL)
            elif isinstance(value, bool | np.bool_):
                continue
            elif not isinstance(value, int | np.integer) or int(value) not in (0, 1):
                what = f"{kind_of(value)} instead of True or False"
                findings.add(row, what, value, "write True, False, 1 or 0")
        return findings

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Python's own True and False."""
        return [bool(value) for value in values]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Words and digits of a text file; an empty cell is missing."""
        return [_cell(cell) for cell in cells]


def _cell(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    return _WORDS.get(text.lower(), text) if text else None
