"""`DataReport`: what can be known about a data set before a tokenizer or a model is there."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self, final

import numpy as np

from sftlib.data.columns import View
from sftlib.data.kinds.base import Label, RoleKind
from sftlib.data.look.duplicates import Inputs, Matches, normalised
from sftlib.data.look.voices import shared_speakers
from sftlib.data.problems import SHOWN, brief, listed, listed_rows
from sftlib.data.rows import Rows
from sftlib.data.splitting import Index
from sftlib.errors import DataError, OptionError
from sftlib.support.display import html_table, text_table

#: The largest class may have this many times the rows of the smallest before the report speaks of it.
IMBALANCE = 10.0


@final
@dataclass(frozen=True)
class Leakage:
    """What a data set shares with another that should be independent of it.

    Args:
        name: the name of the other.
        rows: its number of rows.
        exact: its rows whose inputs are in this one; pairs are (row here, row there).
        normalised: further rows of it that are here once case, width, spaces and invisible characters are set aside.
        classes_only_here: classes that have rows here but none there.
        classes_only_there: classes that have rows there but none here.
        speakers: what is to be said of speakers who are heard in both; "" where nothing is.
    """

    name: str
    rows: int
    exact: Matches
    normalised: Matches
    classes_only_here: tuple[Label, ...] = ()
    classes_only_there: tuple[Label, ...] = ()
    speakers: str = ""


@final
@dataclass(frozen=True)
class DataReport:
    """What was found in a data set; ``print`` it, or read its fields.

    Args:
        task: the task.
        rows: how many rows.
        label_counts: rows (of tags: words) of each label, in the order of the label names; empty without classes.
        imbalance: rows of the largest class over rows of the smallest that has any; None without classes, and for tags,
            since most words are always outside of everything.
        targets: min, median, mean and max of a numeric target; empty otherwise.
        lengths: for each input that has a length its min, median, mean, p95 and max.
        blank: rows with an input, a turn of the user, or a text that an input is paired with, that holds nothing but
            white space or invisible characters.
        duplicates: rows whose inputs repeat an earlier row's exactly; pairs are (earlier row, row).
        normalised_duplicates: further rows that do so once case, width, spaces and invisible characters are set aside.
        conflicts: rows whose normalised inputs are an earlier row's, with another target.
        similar_labels: labels that differ in case, width or spaces only.
        leakage: what is shared with the other data set; None without one.
        unit: what has a label: ``"rows"``, or ``"words"``.
        measures: what each of ``lengths`` counts: characters of a text, words of tokens, turns of messages, pixels
            of a picture.

    Example:
        >>> from sftlib.data import TaskDataset
        >>> data = TaskDataset({"text": ["Good.", "good. ", "Bad.", ""], "label": [1, 0, 0, 0]})
        >>> for problem in data.report().problems:
        ...     print(problem)
        1 row has the inputs of an earlier row but another target: 0 and 1
        1 row has a blank input: row 3
        1 row repeats an earlier row but for case, width or spaces: 0 and 1
    """

    task: str | None
    rows: int
    label_counts: Mapping[Label, int] = field(default_factory=dict)
    imbalance: float | None = None
    targets: Mapping[str, float] = field(default_factory=dict)
    lengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    blank: tuple[int, ...] = ()
    duplicates: Matches = field(default_factory=Matches)
    normalised_duplicates: Matches = field(default_factory=Matches)
    conflicts: Matches = field(default_factory=Matches)
    similar_labels: tuple[tuple[Label, ...], ...] = ()
    leakage: Leakage | None = None
    unit: str = "rows"
    measures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Rows, other: Rows | None = None, *, other_name: str = "valid") -> Self:
        """Look through a data set in one pass; time grows with its characters.

        Raises:
            DataError: ``other`` has other inputs than ``data``.
        """
        check_other(data, other)
        measures = {role: data.kinds[role].measure for role in data.inputs if len(data) and data.kinds[role].measure}
        inputs = Inputs(data.asked(), data.read_beside())
        exact, loose = inputs.duplicates()
        counts = data.label_counts()
        targets = [(data.kinds[role], data.view(role)) for role in data.targets]
        return cls(
            task=data.task,
            rows=len(data),
            label_counts=counts,
            imbalance=_imbalance(counts) if data.unit == "rows" else None,
            targets=_target_summary(data),
            lengths={role: _lengths(data.kinds[role], data.view(role)) for role in measures},
            blank=tuple(inputs.blank),
            duplicates=exact,
            normalised_duplicates=loose,
            conflicts=inputs.conflicts(lambda rows: comparable(targets, rows)) if targets else Matches(),
            similar_labels=_similar(counts),
            leakage=None
            if other is None
            else replace(
                _leakage(inputs, counts, other, other_name), speakers=shared_speakers(data, other, name=other_name)
            ),
            unit=data.unit,
            measures=measures,
        )

    @property
    def problems(self) -> list[str]:
        """What deserves attention, as sentences, worst first; empty when nothing does."""
        return [sentence for sentence in self._sentences() if sentence]

    def _sentences(self) -> Iterator[str]:
        filled = [label for label, count in self.label_counts.items() if count]
        missing = [label for label, count in self.label_counts.items() if not count]
        if not self.rows:
            yield "there are no rows"
        if self.leakage is not None:
            yield from _leakage_sentences(self.leakage)
        if len(filled) == 1 and (self.unit != "rows" or self.label_counts[filled[0]] == self.rows):
            yield f"every {self.unit[:-1]} has the label {filled[0]!r}: there is nothing to learn"
        yield _pairs(self.conflicts, "has the inputs of an earlier row but another target")
        yield f"{_count(len(missing), 'class', 'classes')} without {self.unit}: {listed(missing)}" if missing else ""
        yield f"{_rows(len(self.blank), 'has')} a blank input: {listed_rows(self.blank)}" if self.blank else ""
        for group in self.similar_labels:
            yield f"the labels {listed(group)} differ in case, width or spaces only"
        yield _pairs(self.duplicates, "repeats an earlier row exactly")
        yield _pairs(self.normalised_duplicates, "repeats an earlier row but for case, width or spaces")
        if self.imbalance is not None and self.imbalance > IMBALANCE:
            yield f"the largest class has {self.imbalance:.0f} times the rows of the smallest"

    def to_dict(self) -> dict[str, Any]:
        """Every field and ``problems``, as dicts, tuples, strings and numbers."""
        return asdict(self) | {"problems": self.problems}

    def table(self) -> list[tuple[str, object]]:
        """What the report shows, as (name, value)."""
        lines: list[tuple[str, object]] = [("rows", self.rows)]
        lines += [(f"label {brief(label)}", count) for label, count in list(self.label_counts.items())[:20]]
        if len(self.label_counts) > 20:
            lines.append(("further labels", len(self.label_counts) - 20))
        lines += [(f"target {name}", value) for name, value in self.targets.items()]
        for role, numbers in self.lengths.items():
            lines += [(f"{role} {self.measures[role]}, {name}", value) for name, value in numbers.items()]
        lines += [
            ("blank inputs", len(self.blank)),
            ("exact duplicates", self.duplicates.count),
            ("normalised duplicates", self.normalised_duplicates.count),
            ("conflicting targets", self.conflicts.count),
        ]
        if self.leakage is not None:
            lines += [
                (f"{self.leakage.name}: rows", self.leakage.rows),
                (f"{self.leakage.name}: rows found here exactly", self.leakage.exact.count),
                (f"{self.leakage.name}: rows found here normalised", self.leakage.normalised.count),
            ]
        return lines

    def __str__(self) -> str:
        problems = [f"* {problem}" for problem in self.problems]
        return "\n".join([text_table(["data", "value"], self.table()), *problems])

    def _repr_html_(self) -> str:
        table = html_table(["data", "value"], self.table(), caption=f"DataReport: {self.task or 'no task'}")
        problems = html_table(["problems, worst first"], [[problem] for problem in self.problems])
        return table + problems if self.problems else table


def check_other(data: Rows, other: Rows | None) -> None:
    """Refuse what cannot be compared.

    Raises:
        OptionError: ``other`` is no data set.
        DataError: it has other inputs.
    """
    if other is None:
        return
    if not isinstance(other, Rows):
        raise OptionError(f"report({brief(other)}): expected a TaskDataset")
    if data.main_inputs != other.main_inputs:
        found = f"{data.main_inputs} and {other.main_inputs}"
        raise DataError(f"only data sets with the same inputs can be compared, found {found}")


def _leakage(inputs: Inputs, counts: Mapping[Label, int], other: Rows, name: str) -> Leakage:
    exact, loose = inputs.found_in(Inputs(other.asked()))
    # With the type beside the label, since True == 1.
    here = {(type(label), label) for label, count in counts.items() if count}
    there = {(type(label), label) for label, count in other.label_counts().items() if count}
    compare = bool(here and there)
    return Leakage(
        name=name,
        rows=len(other),
        exact=exact,
        normalised=loose,
        classes_only_here=tuple(k[1] for k in _typed(counts) if k in here - there) if compare else (),
        classes_only_there=tuple(k[1] for k in _typed(other.label_counts()) if k in there - here) if compare else (),
    )


def _typed(labels: Mapping[Label, int]) -> list[tuple[type, Label]]:
    return [(type(label), label) for label in labels]


def comparable(targets: Sequence[tuple[RoleKind, View]], rows: Index) -> list[Hashable]:
    """The targets of some rows, to be compared."""
    columns = [map(kind.comparable, view.take(rows)) for kind, view in targets]
    return list(zip(*columns, strict=True))


def _imbalance(counts: Mapping[Label, int]) -> float | None:
    filled = [count for count in counts.values() if count]
    return max(filled) / min(filled) if filled else None


def _lengths(kind: RoleKind, values: View) -> dict[str, float]:
    lengths = np.fromiter(map(kind.size, values), np.int64, len(values))
    return _summary(lengths) | {"p95": float(np.percentile(lengths, 95)), "max": int(lengths.max())}


def _summary(numbers: Any) -> dict[str, float]:
    return {"min": numbers.min().item(), "median": float(np.median(numbers)), "mean": float(numbers.mean())}


def _target_summary(data: Rows) -> dict[str, float]:
    numbers = [data.view(role) for role in data.targets if len(data) and not data.kinds[role].holds_labels]
    if not numbers or not all(isinstance(value, float) for value in numbers[0]):
        return {}
    values = np.fromiter(numbers[0], np.float64, len(data))
    return _summary(values) | {"max": float(values.max())}


def _similar(counts: Mapping[Label, int]) -> tuple[tuple[Label, ...], ...]:
    groups: dict[str, list[Label]] = {}
    for label in counts:
        if isinstance(label, str):
            groups.setdefault(normalised(label), []).append(label)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _leakage_sentences(leakage: Leakage) -> Iterator[str]:
    name = leakage.name
    if leakage.classes_only_there:
        yield f"{name} has labels that are never seen here: {listed(leakage.classes_only_there)}"
    yield _pairs(leakage.exact, "stands here too", of=f" of {name}")
    yield leakage.speakers
    yield _pairs(leakage.normalised, "stands here too but for case, width or spaces", of=f" of {name}")
    if leakage.classes_only_here:
        yield f"{name} has no rows of {listed(leakage.classes_only_here)}"


def _pairs(matches: Matches, what: str, *, of: str = "") -> str:
    """A sentence about matching rows, in the singular or plural; empty when there are none."""
    if not matches.count:
        return ""
    verb, _, rest = what.partition(" ")
    shown = ", ".join(f"{first} and {row}" for first, row in matches.pairs[:SHOWN])
    more = f" and {matches.count - SHOWN:,} more" if matches.count > SHOWN else ""
    return f"{_rows(matches.count, verb, of)} {rest}: {shown}{more}"


_PLURAL = {"has": "have", "repeats": "repeat", "stands": "stand"}


def _rows(count: int, verb: str, of: str = "") -> str:
    return f"1 row{of} {verb}" if count == 1 else f"{count:,} rows{of} {_PLURAL[verb]}"


def _count(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {many}"
