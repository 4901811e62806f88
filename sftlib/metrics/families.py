"""The families of metrics, and which one a set of names and references belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sftlib.errors import OptionError
from sftlib.metrics.answers import Answers
from sftlib.metrics.bound import Kind
from sftlib.metrics.classification import Classification
from sftlib.metrics.contacts import Contacts
from sftlib.metrics.detection import Detection
from sftlib.metrics.labels import Label
from sftlib.metrics.language_model import LanguageModel
from sftlib.metrics.multilabel import MultiLabel
from sftlib.metrics.regression import Regression
from sftlib.metrics.retrieval import Retrieval
from sftlib.metrics.segmentation import Segmentation
from sftlib.metrics.spans import Spans
from sftlib.metrics.speech import Speech
from sftlib.metrics.texts import Texts
from sftlib.metrics.verification import Verification
from sftlib.support.checking import nearest, raise_together
from sftlib.support.elsewhere import metric_elsewhere

FAMILIES: tuple[Kind, ...] = (
    Detection,
    Spans,
    MultiLabel,
    Regression,
    Texts,
    Answers,
    LanguageModel,
    Retrieval,
    Segmentation,
    Contacts,
    Speech,
    Verification,
    Classification,
)
"""In the order in which they are asked whether they accept references; a new family is added here."""


def candidates(
    names: Sequence[str], families: Sequence[Kind], known: Sequence[str], label_names: Sequence[Label] | None
) -> tuple[Kind, ...]:
    """The families that have all these metrics.

    Args:
        names: metric names, without those of ``known``.
        families: to choose from.
        known: names that every family shares, for the message.
        label_names: the labels, if they are known; families that do not fit are left out where others are left.

    Raises:
        OptionError: unknown names, each with the nearest one; or names that no one family has together.
    """
    everything = list(dict.fromkeys([*known, *(name for family in families for name in family.names)]))
    raise_together(f"unknown metric {name!r}: {_hint(name, everything)}" for name in names if name not in everything)
    found = tuple(family for family in families if set(names) <= set(family.names))
    if not found:
        owners = {name: " or ".join(family.title for family in families if name in family.names) for name in names}
        listed = "; ".join(f"{name!r} of {owner}" for name, owner in owners.items())
        raise OptionError(f"these metrics do not go together: {listed}")
    fitting = tuple(family for family in found if family.fits(names, label_names))
    return fitting or found


def _hint(name: str, known: Sequence[str]) -> str:
    elsewhere = metric_elsewhere(name)
    return f"it is called {elsewhere!r} here" if elsewhere in known else nearest(name, known)


def family_for(references: Sequence[Any], families: Sequence[Kind], label_names: Sequence[Label] | None) -> Kind:
    """The family of these references: the only candidate, or the first that accepts them."""
    accepting = (family for family in families if family.accepts(references, label_names))
    return families[0] if len(families) == 1 else next(accepting, families[-1])
