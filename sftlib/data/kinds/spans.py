"""Places in a text: where something begins, and where it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from sftlib.data.kinds.base import DROP_OR_FILL, is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, whole

_PAIR = "write (start, end): whole numbers from 0, the end not included"


@final
class SpanRole(RowKind):
    """A span in every row: a pair of whole numbers from 0, or ``{"start": ..., "end": ...}``; the end is not included.

    Whether they count characters or words follows from the role beside it, ``text`` or ``tokens``. Becomes a tuple.

    Example:
        >>> SpanRole().normalise([[0, 5], {"start": 3, "end": 4}])
        [(0, 5), (3, 4)]
        >>> print(*SpanRole().check([(0, 5), (4, 4)]).lines("head"))
        head: 1 row with an empty span: row 1 ((4, 4)); the end is not included: (3, 4) is one character or word
    """

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("a missing span", None, DROP_OR_FILL)
        pair = _pair(value)
        if pair is None:
            return Fault(f"{kind_of(value)} instead of a span", value, _PAIR)
        start, end = map(whole, pair)
        if start is None or end is None:
            return Fault("a span that is no pair of whole numbers", value, _PAIR)
        if start < 0:
            return Fault("a span that begins before the text", value, _PAIR)
        if end <= start:
            what = "an empty span" if start == end else "a span that ends before it begins"
            return Fault(what, value, "the end is not included: (3, 4) is one character or word")
        return None

    def plain(self, value: object) -> tuple[int, int]:
        start, end = _pair(value) or (0, 0)
        return int(start), int(end)  # type: ignore[call-overload]


def _pair(value: object) -> tuple[object, object] | None:
    """Both ends of whatever a span is written as."""
    if isinstance(value, Mapping):
        return (value["start"], value["end"]) if {"start", "end"} <= value.keys() else None
    ends = as_list(value)
    return (ends[0], ends[1]) if ends is not None and len(ends) == 2 else None
