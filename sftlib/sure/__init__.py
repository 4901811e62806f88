"""How sure a model is, said so that it can be relied on: calibrated probabilities, sets that cover, answers withheld.

::

    folding.py      a temperature inside the last layer of a model
    held_out.py     rows that such things may be decided on
    calibration.py  `FineTuner.calibrate`
    conformal.py    `FineTuner.conform`
    deciding.py     `FineTuner.decide`
    cutting.py      `FineTuner.decide` with a metric, for several labels a row
    answers.py      predictions that say more: withheld, as a set, as an interval
    pictures.py     reliability and coverage, drawn

Everything here is decided on rows that the model did not learn from, and leaves its labels as they are.
"""

from __future__ import annotations

from sftlib.sure.calibration import Calibration
from sftlib.sure.conformal import Conformal
from sftlib.sure.cutting import LabelThresholds
from sftlib.sure.deciding import Decision

__all__ = ["Calibration", "Conformal", "Decision", "LabelThresholds"]
