"""The files that the board's server takes: one TSV for each test file, with ``index`` and ``prediction``."""

from __future__ import annotations

import os
from pathlib import Path

from sftlib import FineTuner
from sftlib.errors import DataError

from .files import GlueData


def submit(tuner: FineTuner, data: GlueData, folder: str | os.PathLike[str]) -> list[Path]:
    """Predict a task's test files and write ``CoLA.tsv``, ``MNLI-m.tsv``, ... into a folder.

    The board wants all eleven files in one zip archive. Similarities are cut to the scale from 0 to 5.

    Args:
        tuner: fitted on the task (on MNLI for AX).
        data: the task.
        folder: made when it is not there; files of these names are overwritten.

    Returns:
        The files written.

    Raises:
        DataError: the task's test files were not found.
    """
    if not data.test:
        names = ", ".join(split.files[0] for split in data.task.test)
        raise DataError(f"{data.task.name} has no test rows to predict: {names} was not in the folder")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for board, rows in data.test.items():
        answers = [_answer(prediction, data) for prediction in tuner.predict(rows)]
        lines = [f"{row['index']}\t{answer}\n" for row, answer in zip(rows, answers, strict=True)]
        path = place / f"{board}.tsv"
        path.write_text("index\tprediction\n" + "".join(lines), encoding="utf-8", newline="\n")
        written.append(path)
    return written


def _answer(prediction: object, data: GlueData) -> str:
    if data.task.labels:
        return str(getattr(prediction, "label"))  # noqa: B009  # of the task's own Prediction class
    return f"{min(max(float(getattr(prediction, 'value')), 0.0), 5.0):.3f}"  # noqa: B009
