"""Smaller models: what a large one knows in a smaller one, and models that run without torch.

::

    distilling.py  `distill`
    students.py    which model learns: another one, or every other layer of the teacher
    exporting.py   `export`
    onnx.py        the files it writes
    reader.py      lies in every exported folder, and needs no torch
    comparing.py   how often two models say the same, and how fast each is beside the other

Everything stands above `FineTuner`, on its public methods and on what it holds.
"""

from __future__ import annotations

from sftlib.export.distilling import Distillation, distill
from sftlib.export.exporting import Export, export

__all__ = ["Distillation", "Export", "distill", "export"]
