"""`MultiTask`: several data sets, each for a task of its own, for one model to learn together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.look.report import DataReport
from sftlib.data.problems import brief, listed
from sftlib.data.rows import Row
from sftlib.data.stream import no_data_set
from sftlib.errors import DataError, OptionError
from sftlib.support.checking import above_zero, checked, nearest, raise_together, real_number
from sftlib.support.display import html_table, text_table

#: The name of learning several tasks at once.
MULTI_TASK = "multi-task"


class Member(NamedTuple):
    """Something that belongs to one of several tasks.

    Attributes:
        task: the name of the task.
        value: an input, a prediction, what a prediction is compared with.
    """

    task: str
    value: Any


@final
class MultiTask:
    """Named data sets, each for a task of its own: one model learns them together, with a head for each.

    Steps are made of rows of all tasks. With ``mixing=1`` a task has as many of them as its share of the rows, with 0
    all have the same, and between the two ``n ** mixing`` decides (temperature sampling, Raffel et al., 2020, section
    3.5.2; Conneau et al., 2020). An epoch has as many rows as all data sets together; no row of a task comes again
    before all of that task have come.

    Args:
        parts: name -> labelled rows. A name becomes a folder and an entry of the history, so it is an identifier.
        mixing: from 0, every task alike, to 1, by numbers of rows.
        weights: name -> how much a row of this task counts beside a row of another; 1 for those that are not named.

    Raises:
        OptionError: names that are no identifiers, ``mixing`` or weights that cannot be; all of it at once.
        DataError: a part that is no `TaskDataset`, or has no rows.

    Example:
        >>> moods = TaskDataset({"text": ["Fine.", "Poor."], "label": ["good", "bad"]})
        >>> stars = TaskDataset({"text": ["So so."], "target": [2.5]})
        >>> both = MultiTask({"mood": moods, "stars": stars}, mixing=0.5)
        >>> both
        MultiTask(mood=2 rows of text-classification, stars=1 row of text-regression)
        >>> len(both), both["stars"].column("target")
        (3, [2.5])
    """

    @checked
    def __init__(
        self,
        parts: Mapping[str, TaskDataset],
        *,
        mixing: float = 0.5,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if not isinstance(parts, Mapping) or not parts:
            raise OptionError(
                f"MultiTask({brief(parts)}): expected a mapping from a name to a TaskDataset, such as "
                '{"mood": reviews, "topic": news}'
            )
        raise_together(
            [
                *(_name_problem(name) for name in parts),
                real_number("mixing", mixing, 0, 1, expected="a number from 0 (every task alike) to 1 (by rows)"),
                *_weight_problems(weights, parts),
            ]
        )
        _check_parts(parts)
        self.parts: Mapping[str, TaskDataset] = MappingProxyType(dict(parts))
        self.mixing = float(mixing)
        self.weights: Mapping[str, float] = MappingProxyType(
            {name: float((weights or {}).get(name, 1.0)) for name in parts}
        )

    # As a data set.

    @property
    def task(self) -> str:
        """What it is for."""
        return MULTI_TASK

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks, in order."""
        return tuple(self.parts)

    @property
    def tasks(self) -> Mapping[str, str | None]:
        """Name -> the kind of task that its rows are for."""
        return {name: data.task for name, data in self.parts.items()}

    @property
    def main_inputs(self) -> tuple[str, ...]:
        """The names of the tasks: only data sets that have the same can be compared."""
        return self.names

    @property
    def roles(self) -> Mapping[str, str]:
        """None of its own: each part has its roles."""
        return {}

    kinds = inputs = targets = roles

    @property
    def is_labelled(self) -> bool:
        """Whether every part says what is to be learned."""
        return all(data.is_labelled for data in self.parts.values())

    def __len__(self) -> int:
        return sum(map(len, self.parts.values()))

    def __getitem__(self, name: str) -> TaskDataset:
        """The rows of a task.

        Raises:
            KeyError: there is no such task.
        """
        if name not in self.parts:
            raise KeyError(f"{name!r}: {nearest(name, self.parts)}")
        return self.parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[Row]:
        """Every row, task by task, under role names, with the name of its task under ``"task"``."""
        return ({"task": name, **row} for name, data in self.parts.items() for row in data)

    @checked
    def split(self, *fractions: float, seed: int = 0, stratify: bool = True) -> tuple[MultiTask, ...]:
        """Cut the rows of every task into sides of the given shares, each as `TaskDataset.split` does by itself.

        A text that stands in two tasks may lie on two sides; `report` says so.

        Args:
            *fractions: positive shares that add up to 1.
            seed: decides the shuffle.
            stratify: spread every class evenly over the sides.

        Raises:
            OptionError: shares that do not add up to 1.
            DataError: a side of a task would be empty.
        """
        sides = {name: data.split(*fractions, seed=seed, stratify=stratify) for name, data in self.parts.items()}
        return tuple(self._alike({name: side[i] for name, side in sides.items()}) for i in range(len(fractions)))

    def _alike(self, parts: Mapping[str, TaskDataset]) -> MultiTask:
        return MultiTask(parts, mixing=self.mixing, weights={name: self.weights[name] for name in parts})

    def fingerprint(self) -> str:
        """Hex SHA-256 over names, rows, mixing and weights."""
        parts = {name: data.fingerprint() for name, data in self.parts.items()}
        facts = [list(parts.items()), self.mixing, list(self.weights.values())]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def report(self, other: MultiTask | None = None, *, other_name: str = "valid") -> MultiTaskReport:
        """What `TaskDataset.report` finds in each part; and rows of one task that are another's in ``other``.

        Args:
            other: data sets that should be independent of these.
            other_name: what to call them.
        """
        theirs = {} if other is None else dict(other.parts)
        own = {
            name: data.report(_comparable(data, theirs.get(name)), other_name=other_name)
            for name, data in self.parts.items()
        }
        across = [
            f"{len(shared):,} inputs of {name!r} stand in {other_name} under {another!r}: what is asked there was read "
            f"here, such as {brief(shared[0], 60)}"
            for name, data in self.parts.items()
            for another, rows in theirs.items()
            if another != name and (shared := _shared(data, rows))
        ]
        return MultiTaskReport(own, tuple(across))

    def __repr__(self) -> str:
        return f"MultiTask({', '.join(f'{name}={_described(data)}' for name, data in self.parts.items())})"

    def _repr_html_(self) -> str:
        rows = [[name, str(data.task), len(data), self.weights[name]] for name, data in self.parts.items()]
        return html_table(["task", "kind", "rows", "weight"], rows, caption=f"MultiTask, mixing={self.mixing:g}")


@final
@dataclass(frozen=True)
class MultiTaskReport:
    """What can be known of several data sets without a tokenizer.

    Attributes:
        parts: name -> the report of that part.
        across: what concerns two of them.
    """

    parts: Mapping[str, DataReport]
    across: Sequence[str] = ()

    @property
    def problems(self) -> list[str]:
        """A sentence for each problem, with the name of its task."""
        own = [f"{name}: {problem}" for name, report in self.parts.items() for problem in report.problems]
        return [*self.across, *own]

    @property
    def task(self) -> str:
        """What the rows are for."""
        return MULTI_TASK

    def table(self) -> list[tuple[str, object]]:
        """What the reports of the parts show, as (name, value), each name with that of its task."""
        return [(f"{name}: {what}", value) for name, report in self.parts.items() for what, value in report.table()]

    def to_dict(self) -> dict[str, Any]:
        """The reports of the parts by name, and ``problems``."""
        return {**{name: report.to_dict() for name, report in self.parts.items()}, "problems": self.problems}

    def __str__(self) -> str:
        header = ["task", "rows", "problems"]
        lines = [[name, report.rows, len(report.problems)] for name, report in self.parts.items()]
        return "\n".join([text_table(header, lines), *(f"* {problem}" for problem in self.problems)])


def _described(data: TaskDataset) -> str:
    return f"{len(data):,} row{'' if len(data) == 1 else 's'} of {data.task}"


def _name_problem(name: object) -> str | None:
    if isinstance(name, str) and name.isidentifier():
        return None
    return f"MultiTask: the name {name!r:.60} is no identifier (letters, digits and _, not beginning with a digit)"


def _weight_problems(weights: object, parts: Mapping[Any, object]) -> list[str | None]:
    if weights is None:
        return []
    if not isinstance(weights, Mapping):
        hint = "; no rule that sets them by itself beat constants" if weights == "auto" else ""
        return [f"weights={weights!r:.60}: expected a mapping from a name to a number, or None for 1 each{hint}"]
    return [
        f"weights[{name!r:.60}]: {nearest(name, parts)}"
        if name not in parts
        else above_zero(f"weights[{name!r}]", weight, otherwise="leave the task out")
        for name, weight in weights.items()
    ]


def _check_parts(parts: Mapping[str, object]) -> None:
    problems = []
    for name, data in parts.items():
        if not isinstance(data, TaskDataset):
            problems.append(no_data_set(data, f"MultiTask: {name!r}"))
        elif not len(data):
            problems.append(f"MultiTask: the data set {name!r} holds no rows")
    if problems:
        raise DataError("\n".join(problems))


def _comparable(data: TaskDataset, other: TaskDataset | None) -> TaskDataset | None:
    return other if other is not None and other.main_inputs == data.main_inputs else None


def _shared(data: TaskDataset, other: TaskDataset) -> list[Any]:
    """Inputs of the one that the other has as well, where the two read the same roles."""
    if data.main_inputs != other.main_inputs:
        return []
    here = {repr(row): None for row in zip(*data.asked().values(), strict=True)}
    there = {repr(row): row for row in zip(*other.asked().values(), strict=True)}
    return [listed([str(value) for value in there[key]]) for key in here if key in there]
