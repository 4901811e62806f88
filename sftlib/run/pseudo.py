"""``fit(unlabelled=...)``: rows without labels help in rounds of pseudo-labels, where they help.

1. A model learns from the labelled rows and labels the others.
2. Of each label *that it gave* the surest share is taken, so the pool keeps its own proportions; an equal number of
   each label would force wrong labels onto rows of rare ones.
3. A fresh copy learns from labelled and taken rows together; of the words of the latter one in ten is left out, drawn
   from counters, and labelled rows are repeated until they are a quarter of all.

A round is kept only if it is not worse: on the validation rows where there are some; else the whole of it is rehearsed
on half of the labelled rows of each label and judged on the other half, and as many rounds are made as were not worse
there. That none was is a result, and is said.

Nothing depends on the order of the pool. On disk each round is a run in a folder of its own, ``round-0`` and on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from tqdm.auto import tqdm

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief, listed_rows
from sftlib.data.splitting import key
from sftlib.errors import DataError, OptionError
from sftlib.run.few_shot import HEAD_FIRST, halves
from sftlib.run.fitted import Fitted
from sftlib.run.on_disk import Run, RunInMemory
from sftlib.run.open_run import Disk, require_empty
from sftlib.run.prepare import Call
from sftlib.run.recipes import learned
from sftlib.support.display import counted, html_table, text_table
from sftlib.support.extras import require
from sftlib.tasks.base import Label
from sftlib.tasks.single_label import OneLabelTask
from sftlib.train.disk.checkpoint import Checkpoints
from sftlib.train.history import History

SHARES = (0.4, 0.7)  # of the rows of each given label, round by round
_NOISE = 0.1  # of the words of a pseudo-labelled row
_LABELLED = 4  # labelled rows are at least one in so many


@final
@dataclass(frozen=True)
class PseudoLabel:
    """One row of the pool that a round took.

    Attributes:
        row: its number in the pool as given.
        label: that it got.
        confidence: of the model that gave it.
        round: from 1.
        kept: whether the model that learned from it was kept.
    """

    row: int
    label: Label
    confidence: float
    round: int
    kept: bool


@final
@dataclass(frozen=True)
class Round:
    """What a round was like.

    Attributes:
        number: 0 is the model that learned from labelled rows alone.
        taken: rows of the pool that it learned from.
        accuracy: on the rows that judged it.
        kept: whether it was not worse than the last that was kept.
    """

    number: int
    taken: int
    accuracy: float
    kept: bool


@final
@dataclass(frozen=True, repr=False)
class Pseudo:
    """What became of unlabelled rows; prints as a table.

    Attributes:
        rounds: that were made, or rehearsed.
        labels: every pseudo-label that was learned from.
        pool: rows that could be used.
        left_out: why rows of the pool could not be -> how many.
        judged_on: ``"valid"``, or ``"half of train"``.
    """

    rounds: tuple[Round, ...]
    labels: tuple[PseudoLabel, ...]
    pool: int
    left_out: Mapping[str, int]
    judged_on: str

    @property
    def kept(self) -> int:
        """The number of the round whose model was kept; 0 where unlabelled rows did not help."""
        return max((one.number for one in self.rounds if one.kept), default=0)

    def to_frame(self) -> Any:
        """A pandas ``DataFrame``, one line a pseudo-label.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        columns = ("row", "label", "confidence", "round", "kept")
        lines = [{name: getattr(one, name) for name in columns} for one in self.labels]
        return require("pandas", extra="data", purpose="Pseudo.to_frame()").DataFrame(lines, columns=list(columns))

    def _lines(self) -> list[list[object]]:
        return [[one.number, one.taken, one.accuracy, "yes" if one.kept else ""] for one in self.rounds]

    def __str__(self) -> str:
        return f"{text_table(_HEADER, self._lines())}\n{self._sentence()}"

    def __repr__(self) -> str:
        return f"Pseudo(kept={self.kept}, labels={len(self.labels)}, pool={self.pool})"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines(), caption=self._sentence())

    def _sentence(self) -> str:
        left = "".join(f"; {counted(count, 'row')} left out: {why}" for why, count in self.left_out.items() if count)
        said = f"round {self.kept} kept" + ("" if self.kept else ": the unlabelled rows did not help")
        return f"{counted(self.pool, 'unlabelled row')}, judged on {self.judged_on}: {said}{left}"


_HEADER = ["round", "rows taken", "accuracy", "kept"]


@final
@dataclass(frozen=True)
class Pool:
    """Inputs without labels, in an order of their own.

    Attributes:
        rows: under role names.
        numbers: of each among the rows as given.
        left_out: why others are not here -> how many.
    """

    rows: tuple[Mapping[str, Any], ...]
    numbers: tuple[int, ...]
    left_out: Mapping[str, int]

    @classmethod
    def of(cls, task: OneLabelTask, given: object, *known: TaskDataset | None) -> Pool:
        """What can be used of a list of texts, or of a data set.

        Args:
            task: whose inputs they are.
            given: as the user gave it.
            *known: data whose rows must not be among them.

        Raises:
            DataError: there are none, or rows that are no inputs, all of them.
        """
        rows = _rows(task, given)
        seen = {_normalised(_inputs(row, data)) for data in known if data is not None for row in data}
        left = {"blank": 0, "also labelled": 0, "repeated": 0}
        kept: dict[bytes, tuple[int, Mapping[str, Any]]] = {}
        for number, row in enumerate(rows):
            name = _normalised(row)
            if not any(str(value).strip() for value in row.values()):
                left["blank"] += 1
            elif name in seen:
                left["also labelled"] += 1
            elif name in kept:
                left["repeated"] += 1
                kept[name] = min(kept[name], (number, row), key=lambda one: _exact(one[1]))
            else:
                kept[name] = (number, row)
        if not kept:
            raise DataError(f"unlabelled: none of {counted(len(rows), 'row')} is left ({_counts(left)})")
        ordered = [kept[name] for name in sorted(kept)]  # by content: the order of the pool must not matter
        return cls(tuple(row for _, row in ordered), tuple(number for number, _ in ordered), left)


def _counts(left: Mapping[str, int]) -> str:
    return ", ".join(f"{why}: {count}" for why, count in left.items() if count) or "there are none"


def _inputs(row: Mapping[str, Any], data: TaskDataset) -> dict[str, Any]:
    return {role: row[role] for role in data.inputs}


def _exact(row: Mapping[str, Any]) -> bytes:
    return key([str(row[role]) for role in sorted(row)])


def _normalised(row: Mapping[str, Any]) -> bytes:
    """The same for rows that differ in case and spaces alone."""
    return key([" ".join(str(row[role]).casefold().split()) for role in sorted(row)])


def _rows(task: OneLabelTask, given: object) -> list[dict[str, Any]]:
    if isinstance(given, TaskDataset):
        if set(given.inputs) != set(task.reads):
            raise DataError(
                f"unlabelled: the data set has {', '.join(given.inputs)}, the training rows {', '.join(task.reads)}"
            )
        return [_inputs(row, given) for row in given]
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise DataError(f"unlabelled: found {brief(given)}; expected a list of inputs, or a TaskDataset")
    rows, wrong, why = [], [], ""
    for number, example in enumerate(given):
        try:
            found = task.inputs_of(example)
            if not all(isinstance(value, str) for value in found.values()):
                raise DataError(f"found {brief(found)}, expected texts")
            rows.append(found)
        except DataError as error:
            wrong.append(number)
            why = why or str(error)
    if wrong:
        raise DataError(f"unlabelled: {listed_rows(wrong)}: {why}")
    return rows


def check_unlabelled(task: object) -> None:
    """Refuse tasks whose rows cannot get pseudo-labels.

    Raises:
        OptionError: naming those that can.
    """
    if not isinstance(task, OneLabelTask) or "text" not in task.reads:
        raise OptionError(
            f"unlabelled= helps where each text has one label (text-classification), and the task is "
            f"{getattr(task, 'name', task)}; adapt(texts) lets the model learn from unlabelled texts for any task"
        )


Open = Callable[[int], Run]


def with_unlabelled(call: Call, given: object, disk: Disk) -> Fitted:
    """The model of the last round that was kept; ``decided["pseudo"]`` says how it came to that.

    Args:
        call: what is asked for.
        given: the pool, as the user gave it.
        disk: where each round has a folder.

    Raises:
        DataError: a pool that cannot be used.
        OptionError: a task whose rows cannot get pseudo-labels.
        CheckpointError: ``output_dir`` holds another run.
    """
    assert isinstance(call.task, OneLabelTask)
    pool = Pool.of(call.task, given, call.train, call.valid)
    maker = _Rounds(call, pool)

    if disk.output_dir is not None and not disk.resume:
        folder = Checkpoints(Path(disk.output_dir))
        folder.open()
        require_empty(folder)

    def opened(number: int) -> Run:
        return disk.of_round(number).open(quiet=not call.progress, comm=call.comm)

    if call.valid is not None:
        fitted, pseudo = maker.guarded(opened)
    else:
        fitted, pseudo = maker.made(opened, maker.rehearsed())
    if call.progress:
        tqdm.write(str(pseudo))
    return replace(fitted, decided={**fitted.decided, "pseudo": pseudo})


@final
class _Rounds:
    """Makes rounds.

    Args:
        call: what is asked for.
        pool: rows without labels.
    """

    def __init__(self, call: Call, pool: Pool) -> None:
        self._call = call
        self._pool = pool
        self._labels: list[PseudoLabel] = []

    def guarded(self, opened: Open) -> tuple[Fitted, Pseudo]:
        """Round by round, as long as the validation rows say that it is not worse."""
        with opened(0) as run:
            kept = learned(self._call, run)
        best, rounds, labels = _accuracy(kept, self._call.valid), [], list[PseudoLabel]()
        rounds.append(Round(0, 0, best, True))
        for number, share in enumerate(SHARES, 1):
            found, taken = self._round(kept, self._call.train, number, share, opened)
            accuracy = _accuracy(found, self._call.valid)
            good = accuracy >= best
            rounds.append(Round(number, len(taken), accuracy, good))
            labels += [replace(one, kept=good) for one in taken]
            if not good:
                break
            kept, best = _with_history(kept, found, number), accuracy
        return kept, self._pseudo(rounds, labels, "valid")

    def rehearsed(self) -> list[Round]:
        """The same on half of the labelled rows, judged on the others."""
        target = np.array([str(label) for label in self._call.train.column("label")])
        first, second = halves(target, self._call.arguments.seed)
        if not len(second):
            return [Round(0, 0, math.nan, True)]
        train, others = self._call.train.select(first), self._call.train.select(second)
        quiet = replace(self._call, train=train, callbacks=(), progress=False)
        maker = _Rounds(quiet, self._pool)
        kept = learned(quiet, RunInMemory())
        best = _accuracy(kept, others)
        rounds = [Round(0, 0, best, True)]
        for number, share in enumerate(SHARES, 1):
            kept, taken = maker._round(kept, train, number, share, lambda _: RunInMemory())
            accuracy = _accuracy(kept, others)
            rounds.append(Round(number, len(taken), accuracy, accuracy >= best))
            if accuracy < best:
                break
            best = accuracy
        return rounds

    def made(self, opened: Open, rehearsed: Sequence[Round]) -> tuple[Fitted, Pseudo]:
        """As many rounds as were not worse in the rehearsal."""
        with opened(0) as run:
            kept = learned(self._call, run)
        labels: list[PseudoLabel] = []
        for one in [one for one in rehearsed if one.kept and one.number]:
            found, taken = self._round(kept, self._call.train, one.number, SHARES[one.number - 1], opened)
            labels += taken
            kept = _with_history(kept, found, one.number)
        return kept, self._pseudo(rehearsed, labels, "half of train")

    def _round(
        self, teacher: Fitted, train: TaskDataset, number: int, share: float, opened: Open
    ) -> tuple[Fitted, list[PseudoLabel]]:
        answers = teacher.predict(*teacher.read(self._pool.rows))
        taken = surest(answers, share)
        rows = [self._noised(place, number) for place in taken]
        labels = [answers[place].label for place in taken]
        data = _joined(train, rows, labels)
        # What was asked of few rows is not asked again of many: the guard of rounds looks at the whole of it.
        asked = self._call.arguments.few_shot
        recipe = asked if asked == HEAD_FIRST else "contrast" if asked else None
        arguments = replace(self._call.arguments, few_shot=recipe)
        with opened(number) as run:
            found = learned(replace(self._call, train=data, arguments=arguments, progress=False), run)
        pseudo = [
            PseudoLabel(
                self._pool.numbers[place], answers[place].label, float(answers[place].probability), number, True
            )
            for place in taken
        ]
        return found, pseudo

    def _noised(self, place: int, number: int) -> dict[str, Any]:
        """A row without one in ten of its words, the same in every process; one of two words or less stays whole."""
        seed = self._call.arguments.seed
        row = self._pool.rows[place]
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, number * 2**40 + place], dtype=np.uint64)))
        noised = {}
        for role, text in row.items():
            words = str(text).split()
            kept = [word for word, drawn in zip(words, generator.random(len(words)), strict=True) if drawn >= _NOISE]
            noised[role] = " ".join(kept) if len(words) > 2 and kept else text
        return noised

    def _pseudo(self, rounds: Sequence[Round], labels: Sequence[PseudoLabel], judged_on: str) -> Pseudo:
        ordered = tuple(sorted(labels, key=lambda one: (one.round, one.row)))
        return Pseudo(tuple(rounds), ordered, len(self._pool.rows), self._pool.left_out, judged_on)


def surest(answers: Sequence[Any], share: float) -> list[int]:
    """Places of the surest share of the rows of each label that was given.

    Example:
        >>> from types import SimpleNamespace as Said
        >>> said = [Said(label="a", probability=p) for p in (0.9, 0.6, 0.7)] + [
        ...     Said(label="b", probability=0.5)
        ... ]
        >>> surest(said, 0.4)
        [0, 2, 3]
    """
    places: dict[Label, list[int]] = {}
    for place, answer in enumerate(answers):
        places.setdefault(answer.label, []).append(place)
    taken = [
        place
        for members in places.values()
        for place in sorted(members, key=lambda one: (-answers[one].probability, one))[
            : math.ceil(share * len(members))
        ]
    ]
    return sorted(taken)


def _joined(train: TaskDataset, rows: Sequence[Mapping[str, Any]], labels: Sequence[Label]) -> TaskDataset:
    """Labelled rows, repeated until they are a quarter of all, and rows with their pseudo-labels."""
    times = max(1, math.ceil(len(rows) / ((_LABELLED - 1) * len(train))))
    columns: dict[str, list[Any]] = {role: [row[role] for row in [*train, *rows]] for role in train.inputs}
    columns["label"] = [*train.column("label"), *labels]
    own, others = list(range(len(train))), list(range(len(train), len(train) + len(rows)))
    whole = TaskDataset(columns, task=train.task, label_names=train.label_names)
    return whole.select([*own * times, *others])


def _accuracy(fitted: Fitted, data: TaskDataset | None) -> float:
    assert data is not None
    return float(fitted.evaluate(data, fitted.encode(data), ("accuracy",))["accuracy"])


def _with_history(before: Fitted, after: Fitted, number: int) -> Fitted:
    """The later model, with the records of both, each with its round."""
    earlier = [{"round": 0, **record} for record in before.history]
    return replace(after, history=History([*earlier, *({**record, "round": number} for record in after.history)]))
