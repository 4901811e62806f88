"""GLUE: its tasks from the official files or the hub, a run over all or some, the board's table and its submissions.

::

    board.py       the eleven tasks: files, columns, labels, official metrics
    files.py       official TSV files as data sets
    hub.py         the same from the Hugging Face hub
    submission.py  what the board's server takes
    runs.py        fine-tune over tasks; the table and its average
    __main__.py    ``python -m examples.glue MODEL FOLDER``

Built on public methods of `FineTuner` and `TaskDataset` only.
"""

from __future__ import annotations

from .board import TASKS, GlueTask
from .files import GlueData, load
from .hub import load_hub
from .runs import Board, run
from .submission import submit

__all__ = ["TASKS", "Board", "GlueData", "GlueTask", "load", "load_hub", "run", "submit"]
