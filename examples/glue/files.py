"""The official TSV files as data sets.

They are no CSV: quotes mean nothing in them (`csv.QUOTE_NONE`), and a few lines of QQP are cut short, which official
readers skip.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from sftlib.data import TaskDataset
from sftlib.errors import DataError

from .board import GlueTask, Split, find

MOST_SKIPPED = 0.01  # share of broken lines beyond which a file is another one

Rows = dict[str, list[Any]]


@final
@dataclass(frozen=True)
class GlueData:
    """The data sets of one task.

    Attributes:
        task: what the board says about it.
        train: labelled rows; None for the diagnostic task, which has none.
        valid: the board's name (``"MRPC"``, ``"MNLI-mm"``) -> labelled rows.
        test: the board's name -> rows without labels, with the column ``index``; those whose file is there.
        skipped: file -> numbers of the lines that lack columns and were left out.
    """

    task: GlueTask
    train: TaskDataset | None
    valid: dict[str, TaskDataset]
    test: dict[str, TaskDataset]
    skipped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def load(folder: str | os.PathLike[str], task: str) -> GlueData:
    """One task from the official folder, as ``download_glue_data.py`` or the board's archives leave it.

    Labels are those of the files: ``0`` and ``1``, or words such as ``"entailment"``. Test files may be missing.

    Args:
        folder: that holds ``CoLA/``, ``SST-2/``, ``MRPC/``, ...
        task: ``"cola"``, ``"sst2"``, ``"mrpc"``, ``"stsb"``, ``"qqp"``, ``"mnli"``, ``"qnli"``, ``"rte"``, ``"wnli"``
            or ``"ax"``.

    Raises:
        OptionError: there is no such task.
        DataError: a file is missing, or is not in the official format.
    """
    found, place = find(task), Path(folder)
    files = [(split, _existing(place, split)) for split in found.splits]
    lost = [split for split, path in files if path is None and (split not in found.test or not found.train)]
    if lost:
        listed = ", ".join(str(place / split.files[0]) for split in lost)
        raise DataError(f"there is no {listed}: expected the official files of GLUE in this layout")
    skipped: dict[str, tuple[int, ...]] = {}
    sets: dict[str, TaskDataset] = {}  # by the split's name on the hub, which is its own
    for split, path in files:
        if path is not None:
            sets[split.hub], lines = _read(path, found, split, labelled=split not in found.test)
            skipped.update({path.relative_to(place).as_posix(): lines} if lines else {})
    return GlueData(
        found,
        train=sets[found.train.hub] if found.train else None,
        valid={split.board: sets[split.hub] for split in found.valid},
        test={split.board: sets[split.hub] for split in found.test if split.hub in sets},
        skipped=skipped,
    )


def dataset(task: GlueTask, rows: Rows, *, labelled: bool) -> TaskDataset:
    """Columns under role names as a data set of the task's kind."""
    roles = {role: role for role in ("text", "text_pair") if role in rows}
    if not labelled:
        kind = "text-classification" if task.labels else "text-regression"
        return TaskDataset(rows, task=kind, **roles)
    names = sorted(task.labels, key=str) if task.labels else None
    return TaskDataset(rows, label_names=names, **roles, **{task.target: task.target})


def _existing(place: Path, split: Split) -> Path | None:
    return next((place / file for file in split.files if (place / file).is_file()), None)


def _read(path: Path, task: GlueTask, split: Split, *, labelled: bool) -> tuple[TaskDataset, tuple[int, ...]]:
    """A file's rows, and the numbers of the lines that were left out."""
    wanted = {role: column for role, column in (split.columns or task.columns).items() if labelled or role in _INPUTS}
    lines = _lines(path)
    header = next(lines)[1] if split.header else []
    places = _places(path, header, wanted)
    rows: Rows = {role: [] for role in wanted} | ({} if labelled else {"index": []})
    skipped, problems = [], []
    count = 0
    for number, cells in lines:
        count += 1
        if len(cells) <= max(places.values()):
            skipped.append(number)
            continue
        for role, column in places.items():
            rows[role].append(cells[column])
        if not labelled:
            rows["index"].append(cells[0])
        elif (target := _target(cells[places[task.target]], task)) is None:
            problems.append(f"{path}, line {number}: {_unknown(cells[places[task.target]], task)}")
        else:
            rows[task.target][-1] = target
    if len(skipped) > MOST_SKIPPED * count:
        problems.append(f"{path}: {len(skipped)} of {count} lines lack columns, the first is line {skipped[0]}")
    if problems or not count:
        raise DataError("\n".join(problems[:10]) or f"{path} has no rows")
    return dataset(task, rows, labelled=labelled), tuple(skipped)


_INPUTS = ("text", "text_pair")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            for number, line in enumerate(stream, 1):
                if bare := line.rstrip("\r\n"):
                    yield number, bare.split("\t")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from None


def _places(path: Path, header: list[str], wanted: Mapping[str, str | int]) -> dict[str, int]:
    missing = [column for column in wanted.values() if isinstance(column, str) and column not in header]
    if missing:
        raise DataError(f"{path}, line 1: expected a header with {', '.join(map(repr, missing))}; it has {header}")
    return {role: column if isinstance(column, int) else header.index(column) for role, column in wanted.items()}


def _target(cell: str, task: GlueTask) -> str | int | float | None:
    """The label or number that a cell writes; None when it is none of the task's."""
    if not task.labels:
        try:
            return float(cell)
        except ValueError:
            return None
    return next((label for label in task.labels if str(label) == cell), None)


def _unknown(cell: str, task: GlueTask) -> str:
    expected = f"one of {', '.join(map(str, task.labels))}" if task.labels else "a number"
    return f"{task.target} {cell!r:.40}: expected {expected}"
