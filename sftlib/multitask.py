"""Several tasks at once: the rows of each, and whether they help one another."""

from __future__ import annotations

from sftlib.data.several import MultiTask
from sftlib.metrics.several import TaskMetrics
from sftlib.selection.transfer import Transfer, transfer

__all__ = ["MultiTask", "TaskMetrics", "Transfer", "transfer"]
