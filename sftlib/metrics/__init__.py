"""Metrics that accumulate in any batching, merge, and can be read at any time.

::

    core.py            `Metrics`, the front: a mapping of names to values
    base.py            what a family of metrics must answer
    families.py        the list of families, and which one a set of names and references belongs to
    bound.py           a family with options of its own
    classification.py  multilabel.py  regression.py  spans.py  relations.py  answers.py  texts.py  language_model.py
    retrieval.py  detection.py  segmentation.py    one family each
    retrieval.py  targets.py  residues.py  contacts.py                           one family each
    retrieval.py       speech.py
                       one family each
    word_errors.py     which words were heard as which
    retrieval.py  verification.py      one family each
    inputs.py  labels.py  cells.py  scores.py  tags.py  measures.py  edits.py    what they are made of
    rows.py  sums.py  row_sums.py  summed.py                                     what they keep
    numbers.py         a metric function for answers that are a number
    bootstrap.py       intervals
    plots.py           the pictures
    directions.py      which way a metric improves

A new family is one file and one entry in `families.FAMILIES`. scikit-learn and scipy are imported when a value is read.
"""

from __future__ import annotations

from sftlib.metrics.answers import Answers
from sftlib.metrics.base import Family
from sftlib.metrics.bound import Bound, Kind
from sftlib.metrics.classification import Classification
from sftlib.metrics.contacts import Contacts
from sftlib.metrics.core import Metrics
from sftlib.metrics.detection import Detection
from sftlib.metrics.language_model import LanguageModel
from sftlib.metrics.multilabel import MultiLabel
from sftlib.metrics.numbers import number_match
from sftlib.metrics.plots import parity_plot
from sftlib.metrics.regression import Regression
from sftlib.metrics.relations import Relations
from sftlib.metrics.residues import Residues
from sftlib.metrics.retrieval import Retrieval
from sftlib.metrics.segmentation import Segmentation
from sftlib.metrics.spans import Spans
from sftlib.metrics.speech import Speech
from sftlib.metrics.targets import TargetClasses, TargetNumbers
from sftlib.metrics.texts import Texts
from sftlib.metrics.verification import Verification
from sftlib.metrics.word_errors import WordErrors

__all__ = [
    "Answers",
    "Bound",
    "Classification",
    "Contacts",
    "Detection",
    "Family",
    "Kind",
    "LanguageModel",
    "Metrics",
    "MultiLabel",
    "Regression",
    "Relations",
    "Residues",
    "Retrieval",
    "Segmentation",
    "Spans",
    "Speech",
    "TargetClasses",
    "TargetNumbers",
    "Texts",
    "Verification",
    "WordErrors",
    "number_match",
    "parity_plot",
]
