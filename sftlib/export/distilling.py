"""`distill`: a small model learns what a large one says, of rows that need no labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sftlib.data.dataset import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.export.comparing import agreement, first_metric, seconds_of
from sftlib.export.students import student_of
from sftlib.finetuner import FineTuner
from sftlib.inside import fitted_of, learned_around, noted
from sftlib.models.sizes import count_parameters
from sftlib.run.choose import check_data, require_labelled
from sftlib.run.fitted import Fitted
from sftlib.run.inputs import rows_of
from sftlib.run.looking import scores_of
from sftlib.selection.paired import Difference, Scores
from sftlib.support.checking import above_zero, checked, raise_together, share, true_or_false
from sftlib.support.display import counted, html_table, text_table
from sftlib.tasks.base import Task
from sftlib.tasks.distilled import Distilled, TeacherScores
from sftlib.tasks.multi_label import MultiLabelTask
from sftlib.tasks.regression import RegressionTask
from sftlib.tasks.single_label import OneLabelTask

_TIMED = 256  # rows
_TEACHABLE = (OneLabelTask, MultiLabelTask, RegressionTask)


@final
@dataclass(frozen=True)
class Line:
    """One model beside the others.

    Attributes:
        name: ``"teacher"``, ``"student"``, or ``"student alone"``, which learned from the labels without a teacher.
        parameters: how many.
        rows_per_second: that it answers on this machine, measured in turn with the others.
        score: by the metric, on the validation rows; None without them.
        low: of the 95 % interval of that score, over rows; None where none is known.
        high: of the same.
        agreement: share of rows of which it says the same as the teacher.
    """

    name: str
    parameters: int
    rows_per_second: float
    score: float | None
    low: float | None
    high: float | None
    agreement: float


@final
@dataclass(frozen=True)
class Distillation:
    """What came of distilling; prints as a table.

    Attributes:
        rows: that were learned from.
        labelled: whether their labels were learned too.
        metric: that scores are by.
        compared_on: ``"valid"``, or ``"the rows learned from"`` where there was nothing else.
        lines: the models.
        difference: score of the student less that of the teacher, paired by rows, with its 95 % interval; None without
            validation rows.
    """

    rows: int
    labelled: bool
    metric: str
    compared_on: str
    lines: tuple[Line, ...]
    difference: Difference | None = None

    @property
    def speedup(self) -> float:
        """Rows a second of the student for each of the teacher."""
        return self.lines[1].rows_per_second / self.lines[0].rows_per_second

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        own = {name: getattr(self, name) for name in ("rows", "labelled", "metric", "compared_on", "speedup")}
        apart = None if self.difference is None else vars(self.difference)
        return {**own, "difference": apart, "lines": [vars(line) for line in self.lines]}

    def _table(self) -> tuple[list[str], list[list[object]]]:
        header = ["model", "parameters", "rows/s", self.metric, "95 %", "as the teacher"]
        return header, [
            [
                line.name,
                line.parameters,
                round(line.rows_per_second, 1),
                line.score,
                "" if line.low is None else f"{line.low:.3f} to {line.high:.3f}",
                line.agreement,
            ]
            for line in self.lines
        ]

    def _sentence(self) -> str:
        labels = "and their labels" if self.labelled else "without labels"
        apart = "" if self.difference is None else f"; {self.metric} {self.difference} of the teacher's"
        return (
            f"learned from what the teacher says of {counted(self.rows, 'row')} {labels}; {self.speedup:.2f} times its "
            f"rows a second{apart}; compared on {self.compared_on}"
        )

    def __str__(self) -> str:
        return f"{text_table(*self._table())}\n{self._sentence()}"

    def _repr_html_(self) -> str:
        return html_table(*self._table(), caption=self._sentence())


@checked
def distill(
    tuner: FineTuner,
    student: Any = None,
    texts: Any = None,
    *,
    layers: int | None = None,
    temperature: float = 2.0,
    alpha: float = 0.9,
    valid: TaskDataset | None = None,
    baseline: bool = False,
    progress: bool = True,
) -> FineTuner:
    """Teach a smaller model what a tuned one says of rows (Hinton et al., 2015, arXiv 1503.02531).

    The teacher is asked once about every row, before the first step. The student learns its probabilities, softened;
    where the rows have labels those too. It knows the teacher's labels, and is an ordinary tuner, to be saved,
    calibrated and used as any other. For tasks with one label, several labels or a number a row, whatever a row is.

    Args:
        tuner: the teacher, fitted or loaded; it is not changed.
        student: a name or folder of a model, a `Pretrained`, a module, or a `FineTuner` with options of its own; None
            for layers of the teacher. Options are the teacher's, but for its adapter, what it froze and its rate.
        texts: rows to ask the teacher about: a list of inputs, or a `TaskDataset`, labelled or not.
        layers: of the teacher that the student begins with, evenly chosen, the first and the last among them; half of
            them when None.
        temperature: that scores of both are divided by, to soften them; of numbers it does nothing.
        alpha: share of the teacher in the loss, where the rows have labels.
        valid: labelled rows to compare both on, observed in each epoch.
        baseline: whether to fit the student without a teacher, too, to see what distilling is worth.
        progress: as in `FineTuner.fit`, and the comparison at the end.

    Returns:
        The student, fitted; ``student.decided["distilled"]`` is a `Distillation`.

    Raises:
        NotFittedError: the teacher was neither fitted nor loaded.
        OptionError: values that options cannot have, a task without scores of whole rows, a student that does not fit.
        DataError: rows that are no inputs of the teacher, or a baseline without labels.

    Example:
        >>> from sftlib import FineTuner, TaskDataset
        >>> from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
        >>> rows = TaskDataset({"text": SENTENCES[:8], "label": ["a", "b"] * 4})
        >>> teacher = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=2)
        >>> teacher = teacher.fit(rows, progress=False)
        >>> small = distill(teacher, texts=SENTENCES, layers=1, progress=False)
        >>> small.model.config.num_hidden_layers, small.label_names
        (1, ('a', 'b'))
    """
    raise_together(
        [
            None if isinstance(tuner, FineTuner) else f"tuner={tuner!r:.60}: expected a fitted FineTuner",
            above_zero("temperature", temperature),
            share("alpha", alpha),
            true_or_false("baseline", baseline),
            true_or_false("progress", progress),
            texts is None
            and "texts: give the rows that the teacher is asked about: a list of inputs, or a TaskDataset",
        ]
    )
    teacher = fitted_of(tuner, "distill").alone()
    task = teacher.task
    if not isinstance(task, _TEACHABLE):
        raise OptionError(f"distill: it is for one label, several labels or a number a row; not {task.name}")
    data = _asked_about(task, texts)
    if valid is not None:
        require_labelled(valid, "distill (valid)", task.name)
        check_data(task, valid, "distill (valid)")
    if baseline and not data.is_labelled:
        raise DataError("distill: baseline=True fits the student on labels, and these rows have none")
    learner = student_of(tuner, student, layers, watched=valid is not None)
    around = partial(_around, teacher=TeacherScores(data, _scores(teacher, data)), temperature=temperature, alpha=alpha)
    found = learned_around(learner, task, around, data, valid, progress=progress)
    models = {"teacher": tuner, "student": found}
    if baseline:
        models["student alone"] = learner.clone().fit(data, valid, progress=False)
    made = compared(models, data, valid)
    if progress:
        tqdm.write(str(made))
    return noted(found, "distilled", made)


def _asked_about(task: Task, texts: Any) -> TaskDataset:
    if isinstance(texts, TaskDataset) and texts.is_labelled:
        require_labelled(texts, "distill", task.name)
        check_data(task, texts, "distill")
        return texts
    rows = [task.inputs_of(texts)] if isinstance(texts, str) else rows_of(task, texts, use="distill")
    if not rows:
        raise DataError("distill: there are no rows to ask the teacher about")
    data = TaskDataset({role: [row[role] for row in rows] for role in rows[0]}, task=task.name)
    check_data(task, data, "distill")
    return data


def _scores(teacher: Fitted, data: TaskDataset) -> NDArray[np.float32]:
    """(N, K) of each row; of one that is read in parts, the mean over them."""
    found, owners = scores_of(teacher, data), teacher.encode(data).owners
    sums: NDArray[np.float64] = np.zeros((len(data), found.shape[1]))
    np.add.at(sums, owners, found)
    return (sums / np.bincount(owners, minlength=len(data))[:, None]).astype(np.float32)


def _around(task: Task, *, teacher: TeacherScores, temperature: float, alpha: float) -> Distilled:
    assert isinstance(task, _TEACHABLE)
    if isinstance(task, OneLabelTask | MultiLabelTask) and task.known.class_weights is not None:
        # The teacher has learned what weights have to say.
        task = replace(task, class_weights=None, learned=replace(task.known, class_weights=None))
    return Distilled(inner=task, teacher=teacher, temperature=temperature, alpha=alpha)


def compared(models: dict[str, FineTuner], data: TaskDataset, valid: TaskDataset | None) -> Distillation:
    """Models beside the first of them.

    Args:
        models: name -> fitted tuner, the teacher first.
        data: rows that were learned from.
        valid: rows to compare them on, or None.
    """
    task = fitted_of(models["teacher"], "distill").task
    metric, rows = first_metric(task), data if valid is None else valid
    said = {name: tuner.predict(rows) for name, tuner in models.items()}
    scores = None if valid is None else Scores(task, metric, task.references(valid), list(said.values()))
    timed = rows.select(range(min(_TIMED, len(rows))))
    seconds = seconds_of({name: partial(tuner.predict, timed) for name, tuner in models.items()})
    lines = []
    for place, (name, tuner) in enumerate(models.items()):
        score = None if scores is None else float(scores.values[place])
        low, high = (None, None) if scores is None else scores.interval(place)
        parameters, alike = count_parameters(tuner.model)[1], agreement(task, said["teacher"], said[name])
        lines.append(Line(name, parameters, len(timed) / seconds[name], score, low, high, alike))
    return Distillation(
        rows=len(data),
        labelled=data.is_labelled,
        metric=metric,
        compared_on="the rows learned from" if valid is None else "valid",
        lines=tuple(lines),
        difference=None if scores is None else scores.difference(1, 0),
    )
