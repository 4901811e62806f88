"""Choosing: how good a way to train is, which of several is best, and which of them cannot be told apart.

::

    folds.py             which rows are held out when
    trial.py             one fit and what it says of the rows held out
    paired.py            scores, and differences of scores, with intervals over rows
    kept.py              results of trials on disk, so that a search that was killed goes on
    cross_validation.py  `cross_validate`
    options.py           what a search may try: lists, and `Range`
    rungs.py             halving: short complete runs first, and who leaves
    search.py            `search`
    race.py              all its candidates, rung by rung
    found.py             what it found
    heads.py             scikit-learn's heads on features of a frozen body
    candidates.py        what `compare` is given
    compare.py           `compare`
    comparison.py        what it found
    transfer.py          `transfer`
    tables.py            how results are shown

Everything stands beside `FineTuner`, on its public methods.
"""

from __future__ import annotations

from sftlib.selection.compare import compare
from sftlib.selection.comparison import Comparison
from sftlib.selection.cross_validation import CrossValidation, cross_validate
from sftlib.selection.options import Range
from sftlib.selection.search import Found, search
from sftlib.selection.transfer import Transfer, transfer

__all__ = [
    "Comparison",
    "CrossValidation",
    "Found",
    "Range",
    "Transfer",
    "compare",
    "cross_validate",
    "search",
    "transfer",
]
