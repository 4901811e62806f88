"""What an audit found: ranked, as tables; and what `TaskDataset.drop` and `TaskDataset.relabel` ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from numpy.typing import NDArray

from sftlib.audits.dynamics import Dynamics
from sftlib.audits.shown import TEXT, Shown
from sftlib.audits.slices import Slice
from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError
from sftlib.support.display import counted, html_table, text_table
from sftlib.support.extras import require
from sftlib.tasks.base import Label

if TYPE_CHECKING:
    from pandas import DataFrame

_SHOWN, _WIDTH = 10, 60
SURE: Final = 0.9


@final
@dataclass(frozen=True)
class Near:
    """A row beside another.

    Attributes:
        row: its position.
        label: its label.
        similarity: cosine of what the body makes of both.
    """

    row: int
    label: Label
    similarity: float


@final
@dataclass(frozen=True)
class Issue:
    """A label that is doubted.

    Attributes:
        row: the position of the row.
        given: its label.
        suggested: the label that a model which has not seen the row gives it.
        score: how likely the label is wrong, 0 to 1, given how often the model itself is.
        input: what the row says.
        nearest: the rows that are most like it.
    """

    row: int
    given: Label
    suggested: Label
    score: float
    input: Any = field(repr=False)
    nearest: tuple[Near, ...] = field(repr=False, default=())


@final
@dataclass(frozen=True)
class Twins:
    """Two rows that say nearly the same and bear different labels.

    Attributes:
        row: the position of one.
        other: of the other.
        label: of the one.
        other_label: of the other.
        similarity: cosine of what the body makes of both.
    """

    row: int
    other: int
    label: Label
    other_label: Label
    similarity: float


@final
@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is wrong with rows; prints as tables.

    Attributes:
        issues: labels that are doubted, the most doubtful first, as many as seem to be wrong: candidates to look at.
            Where the model itself is often wrong, many are its own errors; those of high score are ``accused``.
        noise: (given, true) -> estimated share of the rows given the one that are truly the other; where it is not 0.
        error_rate: estimated share of wrong labels among all.
        accuracy: of the model on rows that it had not seen, by the labels as they are given.
        twins: pairs of rows that say nearly the same and bear different labels.
        outliers: (row, distance to its neighbours) of rows that are like no other.
        slices: groups of rows; those in which the model fails more often than elsewhere first.
        rows: that were looked at.
        folds: they were cut into.
        full: whether the tuner was fitted on each fold, or its frozen body was looked at.
        is_test: whether the rows are for testing, and must not be changed by what a model says of them.
        probabilities: (N, K) of the labels, by models that had not seen the row.
        label_names: of the columns of ``probabilities``.
        fingerprint: of the data set.
        dynamics: how the rows were learned, where ``dynamics=True`` asked for it.
        shown: how inputs are shown in HTML: in words, as pictures, as players.
    """

    issues: tuple[Issue, ...]
    noise: Mapping[tuple[Label, Label], float] = field(repr=False)
    error_rate: float
    accuracy: float
    twins: tuple[Twins, ...] = field(repr=False)
    outliers: tuple[tuple[int, float], ...] = field(repr=False)
    slices: tuple[Slice, ...] = field(repr=False)
    rows: int
    folds: int
    full: bool
    is_test: bool = False
    probabilities: NDArray[np.float64] = field(repr=False)
    label_names: tuple[Label, ...] = field(repr=False)
    fingerprint: str = field(repr=False)
    dynamics: Dynamics | None = field(repr=False, compare=False, default=None)
    shown: Shown = field(repr=False, compare=False, default=TEXT)

    @property
    def accused(self) -> tuple[Issue, ...]:
        """The issues that `TaskDataset.drop` and `TaskDataset.relabel` take when nothing else is said."""
        return tuple(issue for issue in self.issues if issue.score >= SURE)

    def suspects(self, data: TaskDataset, use: str, *, at_least: float) -> dict[int, Label]:
        """Row -> suggested label, of issues with at least this score.

        Args:
            data: that was audited.
            use: what they are wanted for, for messages.
            at_least: the score.

        Raises:
            DataError: other rows than those that were audited, or rows for testing.
        """
        if self.is_test:
            raise DataError(
                f"{use}: these rows are for testing: a model that chooses its own test rows scores well and is no "
                "better; look at the issues one by one, and mend what is wrong by hand"
            )
        if data.fingerprint() != self.fingerprint:
            raise DataError(
                f"{use}: these are not the {self.rows:,} rows that were audited; give the very data set that "
                "audit() was given, before any other change"
            )
        return {issue.row: issue.suggested for issue in self.issues if issue.score >= at_least}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "rows": self.rows,
            "accuracy": self.accuracy,
            "error_rate": self.error_rate,
            "issues": [asdict(issue) for issue in self.issues],
            "noise": [[given, true, share] for (given, true), share in self.noise.items()],
            "twins": [asdict(pair) for pair in self.twins],
            "outliers": [list(pair) for pair in self.outliers],
            "slices": [asdict(part) for part in self.slices],
        }

    def to_frame(self) -> DataFrame:
        """A pandas DataFrame of the issues (extra ``data``)."""
        pandas = require("pandas", extra="data", purpose="Audit.to_frame()")
        frame: DataFrame = pandas.DataFrame(
            [{name: getattr(issue, name) for name in (*_HEADER[:4], "input")} for issue in self.issues],
            columns=[*_HEADER[:4], "input"],
        )
        return frame

    def _sentence(self) -> str:
        how = "the tuner fitted on" if self.full else "a frozen body, looked at in"
        return (
            f"{counted(self.rows, 'row')}, {how} {self.folds} folds: accuracy {self.accuracy:.3f} on rows not seen; "
            f"about {self.error_rate:.1%} of the labels seem wrong; {counted(len(self.issues), 'issue')} to look "
            f"at, {len(self.accused):,} of them sure (score {SURE} or more), "
            f"{counted(len(self.twins), 'pair')} of twins that disagree, {counted(len(self.outliers), 'outlier')}"
        )

    def _worse(self) -> list[str]:
        return [str(part) for part in self.slices if part.worse][:_SHOWN]

    def _lines(self) -> list[list[object]]:
        return [
            [issue.row, _text(issue.given), _text(issue.suggested), issue.score, _brief(issue.input)]
            for issue in self.issues[:_SHOWN]
        ]

    def __str__(self) -> str:
        table = [text_table(_HEADER, self._lines())] if self.issues else []
        more = [f"... and {len(self.issues) - _SHOWN:,} more"] if len(self.issues) > _SHOWN else []
        learned = [] if self.dynamics is None else [str(self.dynamics)]
        return "\n".join([self._sentence(), *table, *more, *self._worse(), *learned])

    def _repr_html_(self) -> str:
        more = "".join(f"<p>{escape(line)}</p>" for line in self._worse())
        lines = [
            [issue.row, _text(issue.given), _text(issue.suggested), issue.score, self.shown.html(issue.input)]
            for issue in self.issues[:_SHOWN]
        ]
        return html_table(_HEADER, lines, caption=self._sentence()) + more


_HEADER: Final[Sequence[str]] = ("row", "given", "suggested", "score", "input")


def _brief(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _text(label: Label) -> str:
    return str(label)
