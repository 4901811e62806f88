"""What is wrong with the rows: labels that a model doubts which has not seen them, twins that disagree, odd ones out.

::

    auditing.py     `audit`
    out_of_fold.py  probabilities of rows by models that have not learned from them
    noise.py        how likely each label is wrong, and how often each is mistaken for another
    nearby.py       rows beside each other in the body's features: neighbours, twins, outliers
    slices.py       groups of rows in which the model fails more often than elsewhere
    dynamics.py     how rows were learned: which the model never came to believe
    shown.py        inputs in tables of HTML: words, small pictures, players
    report.py       what comes out: ranked, as tables; what `TaskDataset.drop` and `relabel` take
"""

from __future__ import annotations

from sftlib.audits.auditing import audit
from sftlib.audits.dynamics import Dynamics
from sftlib.audits.report import Audit, Issue, Twins
from sftlib.audits.slices import Slice

__all__ = ["Audit", "Dynamics", "Issue", "Slice", "Twins", "audit"]
