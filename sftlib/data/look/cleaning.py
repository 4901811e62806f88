"""What becomes of rows with a problem, kind by kind: an error, out, or kept; and how many they were, always said."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, final

import numpy as np

from sftlib.data.look.duplicates import Inputs
from sftlib.data.problems import listed_rows
from sftlib.data.splitting import Index
from sftlib.errors import DataError
from sftlib.support.checking import choice, raise_together

ACTIONS = ("error", "drop", "keep")
_WHAT = {
    "conflicts": ("says what another row says, with another target", "say what another row says, with another target"),
    "leakage": ("stands in the other data set too", "stand in the other data set too"),
    "blank": ("has a blank input", "have a blank input"),
    "duplicates": ("repeats an earlier row exactly", "repeat an earlier row exactly"),
    "normalised_duplicates": (
        "repeats an earlier row but for case, width or spaces",
        "repeat an earlier row but for case, width or spaces",
    ),
}
_DONE = {"drop": "left out", "keep": "kept"}


@final
@dataclass(frozen=True)
class DataPolicy:
    """``"error"``, ``"drop"`` or ``"keep"`` for each kind of problem.

    Attributes:
        conflicts: rows whose inputs are those of another row, with another target; all of them, since nothing says
            which is right.
        leakage: rows that stand in another data set too, exactly or but for case, width or spaces.
        blank: rows with an input of nothing but white space or invisible characters.
        duplicates: rows whose inputs repeat an earlier row's exactly.
        normalised_duplicates: further rows that do so but for case, width or spaces.

    Raises:
        OptionError: another word.
    """

    conflicts: str = "error"
    leakage: str = "error"
    blank: str = "drop"
    duplicates: str = "drop"
    normalised_duplicates: str = "keep"

    def __post_init__(self) -> None:
        raise_together([choice(field.name, getattr(self, field.name), ACTIONS) for field in fields(self)])


class Finding(NamedTuple):
    """The rows that have one kind of problem, and what is done with them."""

    kind: str
    rows: Index
    action: str

    def __str__(self) -> str:
        one, many = _WHAT[self.kind]
        count = f"1 row {one}" if len(self.rows) == 1 else f"{len(self.rows):,} rows {many}"
        return f"{count}: {listed_rows(self.rows.tolist())}"


def findings(policy: DataPolicy, found: Mapping[str, Index]) -> Iterator[Finding]:
    """What was found of each kind, in the order of the policy."""
    for kind, rows in found.items():
        if len(rows):
            yield Finding(kind, rows, getattr(policy, kind))


def problems_of(inputs: Inputs, other: Inputs | None, conflicts: Index) -> dict[str, Index]:
    """Kind -> rows that have it.

    Args:
        inputs: of the data set.
        other: of a data set that should be independent of it.
        conflicts: rows that contradict another row.
    """
    exact, near = inputs.repeated()
    return {
        "conflicts": conflicts,
        "leakage": np.empty(0, np.int64) if other is None else inputs.shared(other),
        "blank": np.array(inputs.blank, np.int64),
        "duplicates": exact,
        "normalised_duplicates": near,
    }


def kept_rows(policy: DataPolicy, count: int, found: Mapping[str, Index]) -> Index:
    """The rows that stay, after everything that was found was said.

    Raises:
        DataError: rows of a kind whose policy is an error, all kinds in one.
    """
    seen = list(findings(policy, found))
    if errors := [finding for finding in seen if finding.action == "error"]:
        ways = [f'{finding}; mend them, or clean({finding.kind}="drop") or "keep"' for finding in errors]
        raise DataError("\n".join(ways))
    stays = np.ones(count, bool)
    for finding in seen:
        logging.getLogger("sftlib").warning("%s (%s)", finding, _DONE[finding.action])
        if finding.action == "drop":
            stays[finding.rows] = False
    return np.flatnonzero(stays)
