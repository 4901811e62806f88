"""Tags of words and the spans that they mark.

A tag is read as a prefix and a type. ``O`` is outside of every span. ``L-`` and ``U-`` (BILOU) are read as ``E-`` and
``S-`` (BIOES), of which they are other names. A tag without a prefix, such as ``PER`` or ``NOUN``, is an ``I-`` of that
type, so that equal neighbours form one span.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from sftlib.metrics.labels import Label

Tag = tuple[str, Label]
"""Prefix (one of ``OIBES``) and type."""
Span = tuple[Label, int, int]
"""Type, first and last word."""
SpanReader = Callable[[Sequence[Tag]], Iterator[Span]]

_PREFIXED: Final = re.compile(r"[BIESLU](-.*)?", re.DOTALL)
_SAME: Final = {"L": "E", "U": "S"}
OUTSIDE: Final = "O"


def is_scheme(tags: Iterable[object]) -> bool:
    """Whether every tag is ``O`` or has a prefix, and so was written in a scheme.

    Example:
        >>> is_scheme(["O", "B-PER", "U-LOC"]), is_scheme(["B-PER", "NOUN"])
        (True, False)
    """
    return all(isinstance(tag, str) and (tag == OUTSIDE or _PREFIXED.fullmatch(tag)) for tag in tags)


class TagReader:
    """Reads tags as prefixes and types.

    Args:
        tags: all tags, when they are known: prefixes are then read only if all have one. Otherwise each tag says so
            itself.

    Example:
        >>> TagReader(None).read(["O", "B-PER", "L-PER", "NOUN"])
        [('O', '_'), ('B', 'PER'), ('E', 'PER'), ('I', 'NOUN')]
        >>> TagReader(["N", "S", "O"]).read(["S"])
        [('I', 'S')]
    """

    def __init__(self, tags: Sequence[Label] | None) -> None:
        self._plain = tags is not None and not is_scheme(tags)
        self._known: dict[Label, Tag] = {}

    def read(self, tags: Iterable[Label]) -> list[Tag]:
        """Prefix and type of each tag."""
        known = self._known
        return [known[tag] if tag in known else known.setdefault(tag, self._split(tag)) for tag in tags]

    def _split(self, tag: Label) -> Tag:
        if tag == OUTSIDE:
            return OUTSIDE, "_"
        if self._plain or not isinstance(tag, str) or not _PREFIXED.fullmatch(tag):
            return "I", tag
        return _SAME.get(tag[0], tag[0]), tag[2:] or "_"


def spans(tags: Sequence[Tag]) -> Iterator[Span]:
    """Spans as conlleval reads them: a new one begins wherever prefix or type say so, whatever the scheme allows.

    Example:
        >>> list(spans(TagReader(None).read(["I-PER", "I-PER", "B-PER", "O", "I-LOC", "E-LOC"])))
        [('PER', 0, 1), ('PER', 2, 2), ('LOC', 4, 5)]
    """
    start, before, kind = 0, OUTSIDE, "_"  # type: int, str, Label
    for place, (prefix, this) in enumerate([*tags, (OUTSIDE, "_")]):
        breaks = this != kind or prefix in "OBS" or before in "OES"
        if breaks and before != OUTSIDE:
            yield kind, start, place - 1
        if breaks:
            start = place
        before, kind = prefix, this


def strict_iob2(tags: Sequence[Tag]) -> Iterator[Span]:
    """A ``B`` and every ``I`` of its type that follows; an ``I`` without its ``B`` is no span."""
    start, kind = -1, None  # type: int, Label | None
    for place, (prefix, this) in enumerate([*tags, (OUTSIDE, "_")]):
        if prefix == "I" and this == kind:
            continue
        if kind is not None:
            yield kind, start, place - 1
        start, kind = place, this if prefix == "B" else None


def strict_iobes(tags: Sequence[Tag]) -> Iterator[Span]:
    """An ``S``, or ``B``, any ``I`` and ``E`` of one type."""
    start, kind = -1, None  # type: int, Label | None
    for place, (prefix, this) in enumerate(tags):
        if prefix == "I" and this == kind:
            continue
        if prefix == "S":
            yield this, place, place
        elif prefix == "E" and kind is not None and this == kind:
            yield this, start, place
        start, kind = place, this if prefix == "B" else None


def strict_ioe2(tags: Sequence[Tag]) -> Iterator[Span]:
    """Any ``I`` and an ``E`` of one type."""
    start, kind = -1, None  # type: int, Label | None
    for place, (prefix, this) in enumerate(tags):
        if prefix in "IE" and this != kind:
            start = place
        if prefix == "E":
            yield this, start, place
        kind = this if prefix == "I" else None


def strict_reader(prefixes: Iterable[str]) -> str:
    """The name of the scheme that a set of prefixes belongs to.

    Example:
        >>> strict_reader("OBI"), strict_reader("OBIES"), strict_reader("OIE"), strict_reader("OI")
        ('IOB2', 'IOBES', 'IOE2', 'IO')
    """
    found = set(prefixes)
    if "S" in found or {"B", "E"} <= found:
        return "IOBES"
    return "IOE2" if "E" in found else "IOB2" if "B" in found else "IO"


STRICT: Final[dict[str, SpanReader]] = {
    "IOB2": strict_iob2,
    "IOBES": strict_iobes,
    "IOE2": strict_ioe2,
    "IO": spans,
}
