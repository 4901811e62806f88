"""Answers that are a number: a metric function, as a user could write it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

_NUMBER = re.compile(r"(?:(?<![\w.,)])[-+\u2212]\s?)?[$€£]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")


def last_number(text: str) -> Decimal | None:
    """The number that a text arrives at: the first after the last ``####``, else the last of all.

    Signs, thousands commas, a currency sign in front and a full stop behind are understood.

    Example:
        >>> (
        ...     last_number("2 + 2 = 4, so she has $1,004. #### 1,004"),
        ...     last_number("minus: -3.50."),
        ...     last_number("none"),
        ... )
        (Decimal('1004'), Decimal('-3.50'), None)
    """
    _, mark, rest = text.rpartition("####")
    found = _NUMBER.findall(rest)
    if not found:
        return None
    bare = re.sub(r"[,$€£\s]", "", found[0] if mark else found[-1]).replace("\u2212", "-")
    return Decimal(bare)


def number_match(references: Sequence[str | Sequence[str]], predictions: Sequence[str]) -> float:
    """Share of rows whose answer arrives at the number of the reference (or of one of several), as in GSM8K.

    Give it to ``metrics=`` like a function of your own.

    Args:
        references: texts (N,) that end in the right number, or several a row.
        predictions: generated texts (N,).

    Returns:
        From 0 to 1. A row whose reference has no number is wrong.

    Example:
        >>> from sftlib.metrics import Metrics, number_match
        >>> metrics = Metrics(["exact_match", number_match])
        >>> metrics.update(["So it is 1,200.", "7"], ["600 * 2 = 1200 #### 1200", "#### 8"])
        Metrics(exact_match=0.0000, number_match=0.5000, rows=2)
    """
    right = 0
    for reference, prediction in zip(references, predictions, strict=True):
        texts = [reference] if isinstance(reference, str) else reference
        numbers = {last_number(text) for text in texts} - {None}
        right += last_number(prediction) in numbers
    return right / len(predictions) if len(predictions) else float("nan")
