"""Rows: from files and frames to checked columns, and what can be known about them before training."""

from sftlib.data.dataset import TaskDataset
from sftlib.data.look.report import DataReport
from sftlib.data.several import MultiTask
from sftlib.data.stream import TaskStream

__all__ = ["DataReport", "MultiTask", "TaskDataset", "TaskStream"]
