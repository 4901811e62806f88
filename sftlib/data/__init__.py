"""Rows: from files and frames to checked columns, and what can be known about them before training."""

from sftlib.data.dataset import TaskDataset
from sftlib.data.look.report import DataReport

__all__ = ["DataReport", "TaskDataset"]
