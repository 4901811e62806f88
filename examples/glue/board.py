"""The tasks of GLUE as the board defines them (Wang et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from sftlib.errors import OptionError

Label = str | int


@final
@dataclass(frozen=True)
class Split:
    """One official file.

    Args:
        files: where it may lie in the folder; the first that exists is read.
        board: the board's name for its scores and its submission.
        hub: the split's name on the hub.
        columns: role -> column where they differ from the task's own; numbers count columns of a file without header.
        header: whether the first line names the columns.
    """

    files: tuple[str, ...]
    board: str
    hub: str
    columns: Mapping[str, str | int] = field(default_factory=dict)
    header: bool = True


@final
@dataclass(frozen=True)
class GlueTask:
    """One task.

    Args:
        name: such as ``"mrpc"``.
        metrics: the official ones, in the board's order.
        columns: role -> column of the official files.
        hub_columns: the columns of ``text`` and ``text_pair`` on the hub.
        labels: as the official files write them; none for numbers. Their order is the hub's.
        train: the training file; none where another task's model is used.
        valid: validation files.
        test: files to predict.
        model_of: the task whose model predicts this one.
    """

    name: str
    metrics: tuple[str, ...]
    columns: Mapping[str, str | int]
    hub_columns: tuple[str, ...]
    labels: tuple[Label, ...]
    train: Split | None
    valid: tuple[Split, ...]
    test: tuple[Split, ...]
    model_of: str | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """Every file, training first."""
        return (*([self.train] if self.train else []), *self.valid, *self.test)

    @property
    def target(self) -> str:
        """The role of what is to be learned."""
        return "label" if self.labels else "target"


def find(task: str) -> GlueTask:
    """The task of this name.

    Raises:
        OptionError: there is none.

    Example:
        >>> find("mrpc").metrics
        ('f1', 'accuracy')
    """
    if task not in TASKS:
        raise OptionError(f"task={task!r}: expected one of {', '.join(TASKS)}")
    return TASKS[task]


def _task(
    name: str,
    folder: str,
    metrics: Sequence[str],
    columns: Mapping[str, str | int],
    hub_columns: Sequence[str],
    labels: Sequence[Label],
) -> GlueTask:
    """A task with one file each of training, validation and test."""
    return GlueTask(
        name=name,
        metrics=tuple(metrics),
        columns=columns,
        hub_columns=tuple(hub_columns),
        labels=tuple(labels),
        train=Split((f"{folder}/train.tsv",), folder, "train"),
        valid=(Split((f"{folder}/dev.tsv",), folder, "validation"),),
        test=(Split((f"{folder}/test.tsv",), folder, "test"),),
    )


def _cola() -> GlueTask:
    columns = {"text": 3, "label": 1}
    return GlueTask(
        name="cola",
        metrics=("mcc",),
        columns=columns,
        hub_columns=("sentence",),
        labels=(0, 1),
        train=Split(("CoLA/train.tsv",), "CoLA", "train", columns, header=False),
        valid=(Split(("CoLA/dev.tsv",), "CoLA", "validation", columns, header=False),),
        test=(Split(("CoLA/test.tsv",), "CoLA", "test", {"text": "sentence"}),),
    )


def _mnli() -> GlueTask:
    sides = (("matched", "MNLI-m"), ("mismatched", "MNLI-mm"))
    return GlueTask(
        name="mnli",
        metrics=("accuracy",),
        columns=_SENTENCES | {"label": "gold_label"},
        hub_columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        train=Split(("MNLI/train.tsv",), "MNLI", "train"),
        valid=tuple(Split((f"MNLI/dev_{side}.tsv",), board, f"validation_{side}") for side, board in sides),
        test=tuple(Split((f"MNLI/test_{side}.tsv",), board, f"test_{side}") for side, board in sides),
    )


def _ax() -> GlueTask:
    files = ("AX/AX.tsv", "AX.tsv", "diagnostic/diagnostic.tsv", "diagnostic/AX.tsv")
    return GlueTask(
        name="ax",
        metrics=("mcc",),
        columns=_SENTENCES,
        hub_columns=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        train=None,
        valid=(),
        test=(Split(files, "AX", "test"),),
        model_of="mnli",
    )


_SENTENCES: Final[dict[str, str | int]] = {"text": "sentence1", "text_pair": "sentence2"}
_STRINGS: Final[dict[str, str | int]] = {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"}
_QUESTIONS: Final[dict[str, str | int]] = {"text": "question1", "text_pair": "question2", "label": "is_duplicate"}
_BOTH: Final = ("sentence1", "sentence2")
_ENTAILED: Final = ("entailment", "not_entailment")

TASKS: Final[dict[str, GlueTask]] = {
    task.name: task
    for task in (
        _cola(),
        _task("sst2", "SST-2", ["accuracy"], {"text": "sentence", "label": "label"}, ["sentence"], (0, 1)),
        _task("mrpc", "MRPC", ["f1", "accuracy"], _STRINGS, _BOTH, (0, 1)),
        _task("stsb", "STS-B", ["pearson", "spearman"], _SENTENCES | {"target": "score"}, _BOTH, ()),
        _task("qqp", "QQP", ["f1", "accuracy"], _QUESTIONS, ["question1", "question2"], (0, 1)),
        _mnli(),
        _task(
            "qnli",
            "QNLI",
            ["accuracy"],
            {"text": "question", "text_pair": "sentence", "label": "label"},
            ["question", "sentence"],
            _ENTAILED,
        ),
        _task("rte", "RTE", ["accuracy"], _SENTENCES | {"label": "label"}, _BOTH, _ENTAILED),
        _task("wnli", "WNLI", ["accuracy"], _SENTENCES | {"label": "label"}, _BOTH, (0, 1)),
        _ax(),
    )
}
"""Every task, in the order of the board. The nine of its average are those before ``ax``."""

AVERAGED: Final = tuple(name for name in TASKS if name != "ax")
