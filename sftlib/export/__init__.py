"""Smaller models: what a large one knows in a smaller one.

::

    distilling.py  `distill`
    students.py    which model learns: another one, or every other layer of the teacher
    comparing.py   how often two models say the same, and how fast each is beside the other

Everything stands above `FineTuner`, on its public methods and on what it holds.
"""

from __future__ import annotations

from sftlib.export.distilling import Distillation, distill

__all__ = ["Distillation", "distill"]
