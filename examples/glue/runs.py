"""A fine-tune over all or some tasks, and the board's table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, final

from sftlib import FineTuner
from sftlib.errors import OptionError

from .board import AVERAGED, TASKS, find
from .files import GlueData, load
from .submission import submit

TITLES = {"mcc": "Matthews", "f1": "F1", "accuracy": "accuracy", "pearson": "Pearson", "spearman": "Spearman"}


@final
@dataclass
class Board:
    """Scores as the board prints them, from 0 to 100 (correlations from -100).

    Args:
        scores: task -> the board's name of a file -> official metric -> value from 0 to 1.

    Example:
        >>> board = Board(
        ...     {"mrpc": {"MRPC": {"f1": 0.893, "accuracy": 0.854}}, "rte": {"RTE": {"accuracy": 0.701}}}
        ... )
        >>> print(board)
        task              metric         score
        MRPC             F1 / accuracy  89.3 / 85.4
        RTE              accuracy       70.1
        average (2 of 9)                78.7
    """

    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def average(self) -> float:
        """The mean over tasks; a task's score is the mean of its metrics and files, and AX is left out. nan if empty.

        Example:
            >>> round(Board({"mnli": {"MNLI-m": {"accuracy": 0.8}, "MNLI-mm": {"accuracy": 0.9}}}).average, 1)
            85.0
        """
        found = [self.task_score(task) for task in AVERAGED if task in self.scores]
        return fmean(found) if found else float("nan")

    def task_score(self, task: str) -> float:
        """The score of one task, from 0 to 100."""
        return 100 * fmean(value for file in self.scores[task].values() for value in file.values())

    def __str__(self) -> str:
        rows = [("task", "metric", "score"), *self._table()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def _table(self) -> list[tuple[str, str, str]]:
        rows = [
            (
                name,
                " / ".join(TITLES[metric] for metric in values),
                " / ".join(f"{100 * v:.1f}" for v in values.values()),
            )
            for task in TASKS
            for name, values in self.scores.get(task, {}).items()
        ]
        run = sum(task in self.scores for task in AVERAGED)
        part = "" if run == len(AVERAGED) else f" ({run} of {len(AVERAGED)})"
        return [*rows, (f"average{part}", "", f"{self.average:.1f}")]


def run(
    model: Any,
    *,
    folder: str | os.PathLike[str],
    tasks: Iterable[str] | None = None,
    options: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Mapping[str, Any]] | None = None,
    submission: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Board:
    """Fine-tune a model on tasks of GLUE, one after another from the same weights, and score the validation files.

    Args:
        model: as for `FineTuner`.
        folder: the official files, as for `load`.
        tasks: names; None takes all nine of the average, and with ``submission`` also ``"ax"``.
        options: of `FineTuner`, for every task.
        task_options: task -> options that this task has otherwise.
        submission: a folder for the board's TSV files; None writes none. ``"ax"`` is predicted by the model of
            ``"mnli"``, and only written: its labels are not public.
        progress: whether to print each task's table when it is done, and bars.

    Returns:
        The board.

    Raises:
        OptionError: unknown tasks or options, ``"ax"`` without ``"mnli"`` or without ``submission``.
        DataError: files are missing or not in the official format; all tasks are read before the first is fitted.
    """
    names = _chosen(tasks, submission is not None, task_options or {})
    sets = {name: load(folder, name) for name in names}
    board = Board()
    for name in names:
        if TASKS[name].model_of is None:
            tuner = _fitted(model, sets[name], {**(options or {}), **(task_options or {}).get(name, {})}, progress)
            board.scores[name] = _scores(tuner, sets[name])
            if submission is not None:
                for other in (other for other in names if other == name or TASKS[other].model_of == name):
                    submit(tuner, sets[other], submission)
            if progress:
                print(board)
    return board


def _chosen(tasks: Iterable[str] | None, submits: bool, own: Mapping[str, Any]) -> list[str]:
    """The tasks to run, in the order of the board."""
    wanted = (
        [tasks] if isinstance(tasks, str) else [*AVERAGED, *(["ax"] if submits else [])] if tasks is None else tasks
    )
    found = {find(name).name for name in wanted}
    for name in own:
        find(name)
    if "ax" in found and not (submits and "mnli" in found):
        raise OptionError(
            "task 'ax' is predicted by the model of 'mnli' and only submitted: give both, and submission="
        )
    return [name for name in TASKS if name in found]


def _fitted(model: Any, data: GlueData, options: Mapping[str, Any], progress: bool) -> FineTuner:
    tuner = FineTuner(model, **{"metrics": list(data.task.metrics), **options})
    assert data.train is not None  # of every task that is fitted
    return tuner.fit(data.train, progress=progress)


def _scores(tuner: FineTuner, data: GlueData) -> dict[str, dict[str, float]]:
    found = {}
    for board, rows in data.valid.items():
        metrics = tuner.evaluate(rows)
        found[board] = {name: metrics[name] for name in data.task.metrics}
    return found
