"""`TrainingReport`: what can be known about data once it is known how a model reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.look.report import DataReport
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.text.unknown import UnknownSigns
from sftlib.support.display import counted, html_table, text_table

#: Rows that a report names; all of them are counted.
NAMED = 100
_SHOWN = 5

Rows = NDArray[np.int64]


@final
@dataclass(frozen=True)
class InputReport:
    """What the inputs of one data set take: tokens, or whatever else their encoder counts.

    Args:
        rows: how many rows.
        windows: how many windows they are read in; as many as rows where none is too long, or what is too long is cut.
        lengths: min, median, mean, p95, max and total tokens of a row (of a window where rows have several), control
            tokens included, before anything is cut.
        truncated: how many rows are longer than the limit, and cut.
        truncated_rows: the first hundred of them, by number.
        tokens_lost: tokens that are cut off, over all rows.
        unsupervised: how many rows have supervision that was cut off with their end.
        unsupervised_rows: the first hundred of them, by number.
        unit: what is counted.
    """

    rows: int
    windows: int = 0
    lengths: Mapping[str, float] = field(default_factory=dict)
    truncated: int = 0
    truncated_rows: tuple[int, ...] = ()
    tokens_lost: int = 0
    unsupervised: int = 0
    unsupervised_rows: tuple[int, ...] = ()
    unit: str = "token"

    @classmethod
    def of(cls, encoded: Encoded, unsupervised: Rows, unit: str = "token") -> Self:
        """Count what rows take.

        Args:
            encoded: the rows, cut already.
            unsupervised: (M,) numbers of the rows that lost supervision.
            unit: what their encoder counts.
        """
        lengths = next((p.lengths for p in encoded.inputs.values() if isinstance(p, Ragged)), encoded.cost)
        uncut, cut, owners = lengths + encoded.cut, encoded.truncated, encoded.owners
        truncated, lost = np.unique(owners[cut]), np.unique(owners[unsupervised])
        return cls(
            rows=len(np.unique(owners)),
            windows=len(encoded),
            lengths={
                "min": int(uncut.min()),
                "median": float(np.median(uncut)),
                "mean": float(uncut.mean()),
                "p95": float(np.percentile(uncut, 95)),
                "max": int(uncut.max()),
                "total": int(uncut.sum()),
            },
            truncated=len(truncated),
            truncated_rows=tuple(truncated[:NAMED].tolist()),
            tokens_lost=int(encoded.cut.sum()),
            unsupervised=len(lost),
            unsupervised_rows=tuple(lost[:NAMED].tolist()),
            unit=unit,
        )

    def sentences(self, limit: str, name: str) -> Iterator[str]:
        """What deserves attention.

        Args:
            limit: what a row may take, such as ``"128 tokens"``.
            name: what to call the data, or nothing.
        """
        where = f" of {name}" if name else ""
        if self.windows > self.rows:
            yield f"{counted(self.rows, 'row')}{where} read in {self.windows:,} windows of at most {limit}"
        if self.unsupervised:
            named = _named(self.unsupervised_rows, self.unsupervised)
            end = "its end" if self.unsupervised == 1 else "their end"
            yield f"{counted(self.unsupervised, 'row')}{where} lost supervision with {end}: {named}"
        if self.truncated:
            share, lost = self.truncated / self.rows, self.tokens_lost / self.lengths["total"]
            named = _named(self.truncated_rows, self.truncated)
            yield (
                f"{counted(self.truncated, 'row')}{where} ({share:.1%}) cut to {limit}, "
                f"{lost:.1%} of all {self.unit}s lost: {named}"
            )


@final
@dataclass(frozen=True)
class TrainingReport:
    """What was found in the data of a run; ``print`` it, or read its fields.

    Args:
        data: what can be known without a tokenizer.
        train: what the training rows take.
        valid: what the validation rows take, if there are any.
        max_length: what a row may take; None where rows take what they take.
        batch_size: rows of an optimizer step.
        steps: optimizer steps of the run.
        padding: share of the first epoch's positions that only fill up shorter rows, cut into passes as the run does.
        unknown: for each role of texts what the encoder makes nothing of, where there is something.
    """

    data: DataReport
    train: InputReport
    valid: InputReport | None
    max_length: int | None
    batch_size: int
    steps: int
    padding: float
    unknown: tuple[UnknownSigns, ...] = ()

    @property
    def problems(self) -> list[str]:
        """What deserves attention, as sentences: of the data, worst first, then of the tokens."""
        limit = f"{self.max_length} {self.train.unit}s"
        tokens = list(self.train.sentences(limit, ""))
        if self.valid is not None:
            tokens += self.valid.sentences(limit, "valid")
        learned_first = sorted(self.unknown, key=lambda signs: not signs.learned)
        return [*self.data.problems, *(signs.sentence for signs in learned_first), *tokens]

    def to_dict(self) -> dict[str, Any]:
        """Every field and ``problems``, as dicts, tuples, strings and numbers."""
        return asdict(self) | {"data": self.data.to_dict(), "problems": self.problems}

    def table(self) -> list[tuple[str, object]]:
        """What the report shows, as (name, value)."""
        lines = [*self.data.table(), *self._token_lines("", self.train)]
        if self.valid is not None:
            lines += self._token_lines("valid: ", self.valid)
        lines += [(f"{signs.role}: signs the tokenizer does not know", signs.count) for signs in self.unknown]
        return [
            *lines,
            *([] if self.max_length is None else [(f"longest input, {self.train.unit}s", self.max_length)]),
            (f"padding at {counted(self.batch_size, 'row')}", self.padding),
        ]

    def _token_lines(self, prefix: str, tokens: InputReport) -> list[tuple[str, object]]:
        return [
            *([(f"{prefix}windows", tokens.windows)] if tokens.windows > tokens.rows else []),
            *((f"{prefix}{tokens.unit}s, {name}", value) for name, value in tokens.lengths.items()),
            (f"{prefix}truncated rows", tokens.truncated),
            (f"{prefix}{tokens.unit}s lost", tokens.tokens_lost),
            (f"{prefix}rows that lost supervision", tokens.unsupervised),
        ]

    def __str__(self) -> str:
        problems = [f"* {problem}" for problem in self.problems]
        return "\n".join([text_table(["data", "value"], self.table()), *problems])

    def _repr_html_(self) -> str:
        table = html_table(["data", "value"], self.table(), caption=f"TrainingReport: {self.data.task}")
        problems = html_table(["problems"], [[problem] for problem in self.problems])
        return table + problems if self.problems else table


def padding_share(lengths: Rows, passes: Iterable[Rows]) -> float:
    """The share of positions that only fill up shorter rows.

    Args:
        lengths: (N,) tokens of each row.
        passes: the row numbers that lie side by side.

    Example:
        >>> round(padding_share(np.array([4, 2, 3]), [np.array([0, 1]), np.array([2])]), 3)
        0.182
    """
    used, positions = 0, 0
    for rows in passes:
        used += int(lengths[rows].sum())
        positions += len(rows) * int(lengths[rows].max())
    return 1 - used / positions if positions else 0.0


def _named(rows: tuple[int, ...], count: int) -> str:
    more = f" and {count - _SHOWN:,} more" if count > _SHOWN else ""
    return ", ".join(f"row {row}" for row in rows[:_SHOWN]) + more
