"""Loggers: callbacks that tell a tracker what a run does. None is on by itself, and none can end a run.

::

    base.py        `Logger`: what all of them promise
    json_lines.py  `JsonLines`: a file, a line a record
    trackers.py    `TensorBoard`, `MLflow`, `WandB`, `Trackio`, `Aim`

A tracker's package is imported when its logger is made, and not before.
"""

from __future__ import annotations

from sftlib.loggers.base import Logger
from sftlib.loggers.json_lines import JsonLines
from sftlib.loggers.trackers import Aim, MLflow, TensorBoard, Trackio, WandB

__all__ = ["Aim", "JsonLines", "Logger", "MLflow", "TensorBoard", "Trackio", "WandB"]
