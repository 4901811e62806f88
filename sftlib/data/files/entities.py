"""Entities that were marked in whole texts, by the character, as words with a tag each.

Tools for marking write them in their own ways: doccano, Label Studio, Prodigy and spaCy are known here. A text is cut
into words as raw texts are cut for prediction, and once more wherever an entity begins or ends inside of a word.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

from sftlib.data.files.json import parsed, rows_of, starts_as_array
from sftlib.data.files.packed import size_of
from sftlib.data.files.paths import existing
from sftlib.data.files.readers import read_jsonl_rows
from sftlib.data.files.spool import gathered
from sftlib.data.files.tables import Table, open_rows
from sftlib.data.kinds.base import is_missing, kind_of
from sftlib.data.plain import as_list, whole
from sftlib.data.problems import SHOWN, brief, listed
from sftlib.data.words import split_words, splitting_of
from sftlib.errors import DataError
from sftlib.support.checking import choice, raise_together
from sftlib.support.display import counted

SCHEMES = ("BIO", "BIOES")

_ENTITIES = ("entities", "spans", "label", "labels")  # whichever a row has
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_KINDS = ("label", "labels", "type", "tag", "entity")


class Span(NamedTuple):
    """An entity: characters from ``start``, ``end`` not included; what it is; and what it says, where that is told."""

    start: int
    end: int
    label: str
    said: str | None = None


class _OddError(Exception):
    """A row that cannot be used; the message says why."""


class _UnmarkedError(Exception):
    """A row that nobody has marked yet: nothing is known of it, and it is no row without entities."""


def read_entities(
    source: Any,
    *,
    text: str = "text",
    entities: str | None = None,
    scheme: str = "BIO",
    drop_invalid: bool = False,
) -> Table:
    """Columns ``tokens`` and ``tags``, ``text`` as it was, and what else a row has.

    Args:
        source: a JSON Lines file, a file with a JSON array, or rows in any form.
        text: the key of the text.
        entities: the key of its entities; found when None.
        scheme: of the tags, of `SCHEMES`.
        drop_invalid: leave out rows that cannot be used, and say how many.

    Raises:
        OptionError: another scheme.
        DataError: rows of no known layout, spans that overlap or reach beyond their text; all of them.
    """
    raise_together([choice("scheme", scheme, SCHEMES)])
    if isinstance(source, str | os.PathLike):
        file = existing(source)
        rows: Any = parsed(file) if starts_as_array(file) else read_jsonl_rows(file)
        where, size = str(file), size_of(file)
    else:
        where, size = "rows", 0
        rows = source if isinstance(source, list | tuple) else rows_of(open_rows(source))
    conversion = _Conversion(scheme, text, entities)
    table = gathered(conversion.rows(rows), size)
    conversion.tell(where, table.rows, drop_invalid=drop_invalid)
    return table


@final
class _Conversion:
    """Goes through rows; what cannot be used is noted."""

    def __init__(self, scheme: str, text: str, entities: str | None) -> None:
        self._scheme = scheme
        self._text = text
        self._entities = _ENTITIES if entities is None else (entities,)
        self._count = 0
        self._shown: list[str] = []
        self._rejected = self._trimmed = self._unmarked = 0

    def rows(self, rows: Any) -> Iterator[dict[str, Any]]:
        """Those that can be used, as words with tags."""
        for number, row in enumerate(rows):
            try:
                found = self._row(row)
            except _UnmarkedError:
                self._unmarked += 1
                continue
            except _OddError as error:
                self._count += 1
                if self._count <= SHOWN:
                    self._shown.append(f"  row {number}: {error}")
                continue
            if found is not None:
                yield found

    def _row(self, row: Any) -> dict[str, Any] | None:
        text, spans, others = _read(row, self._text, self._entities)
        if isinstance(row, Mapping) and row.get("answer") in ("reject", "ignore"):  # Prodigy's
            self._rejected += 1
            return None
        if not text.strip():
            raise _OddError("the text is blank")
        inside = [self._trim(text, span) for span in spans]
        _check(text, inside)
        words = _words(text, inside)
        tags = _tags(words, inside, self._scheme)
        return {"tokens": [text[a:b] for a, b in words], "tags": tags, "text": text} | others

    def _trim(self, text: str, span: Span) -> Span:
        """A span without the white space around it, which belongs to no word."""
        if not 0 <= span.start < span.end <= len(text):
            return span
        said = text[span.start : span.end]
        if span.said is not None and span.said.strip() != said.strip():
            raise _OddError(
                f"the span {tuple(span[:3])} is said to be {brief(span.said)}, and the text has {brief(said)} there; "
                "spans count characters from 0"
            )
        start = span.start + len(said) - len(said.lstrip())
        end = span.end - (len(said) - len(said.rstrip()))
        if start >= end:
            raise _OddError(f"the span {tuple(span[:3])} holds nothing but white space")
        self._trimmed += (start, end) != (span.start, span.end)
        return Span(start, end, span.label)

    def tell(self, where: str, rows: int, *, drop_invalid: bool) -> None:
        """Say what was left out, or refuse it."""
        log = logging.getLogger("sftlib")
        if self._rejected:
            log.warning("%s: %s marked as rejected or ignored passed over", where, counted(self._rejected, "row"))
        if self._unmarked:
            log.warning("%s: %s passed over that nobody has marked yet", where, counted(self._unmarked, "row"))
        if self._trimmed:
            log.warning("%s: %s taken without the white space at its ends", where, counted(self._trimmed, "span"))
        if not self._count:
            return
        more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
        if drop_invalid and rows:
            said = f"{where}: {self._count:,} of {self._count + rows:,} rows left out:"
            log.warning("%s", "\n".join([said, *self._shown, *more]))
            return
        raise DataError("\n".join([f"{where}: {counted(self._count, 'row')} cannot be used:", *self._shown, *more]))


# Layouts.


def _read(row: Any, key: str, names: Sequence[str]) -> tuple[str, list[Span], dict[str, Any]]:
    """The text of a row, its entities, and its other columns, in whatever layout it is."""
    pair = as_list(row)
    if pair is not None:  # spaCy's: (text, {"entities": [(start, end, label), ...]})
        if len(pair) != 2 or not isinstance(pair[1], Mapping):
            raise _OddError(f"{brief(row)} is no pair of a text and a mapping with 'entities'")
        return _text(pair[0]), _spans(pair[1].get("entities")), {}
    if not isinstance(row, Mapping):
        raise _OddError(f"{kind_of(row)}, expected a mapping with 'text' and its entities")
    if "data" in row and ("annotations" in row or "completions" in row):
        return _label_studio(row)
    if key not in row:
        raise _OddError(f"there is no {key!r} (keys: {listed(row, 8)}); say which key it is with text=...")
    name = next((name for name in names if not is_missing(row.get(name))), None)
    if name is None and not any(name in row for name in names):
        raise _OddError(f"there is none of {listed(names)} (keys: {listed(row, 8)}); say which with entities=...")
    known = (key, "text", "tokens", "tags", *([] if name is None else [name]))
    others = {other: value for other, value in row.items() if other not in known}
    return _text(row[key]), [] if name is None else _spans(row[name]), others


def _label_studio(row: Mapping[str, Any]) -> tuple[str, list[Span], dict[str, Any]]:
    """A task of Label Studio, with what its first annotation that was not cancelled marks."""
    data = row["data"]
    texts = [value for value in data.values() if isinstance(value, str)] if isinstance(data, Mapping) else []
    text = data.get("text") if isinstance(data, Mapping) and "text" in data else (texts[0] if len(texts) == 1 else None)
    if text is None:
        raise _OddError("'data' has no 'text'")
    done = [entry for entry in as_list(row.get("annotations", row.get("completions"))) or () if _counts(entry)]
    if not done:
        raise _UnmarkedError
    if len(done) > 1 and any(_marks(entry) != _marks(done[0]) for entry in done[1:]):
        raise _OddError(f"{len(done)} annotations that differ; keep one")
    others = {"id": row["id"]} if "id" in row else {}
    return _text(text), _spans(_marks(done[0])), others


def _counts(entry: Any) -> bool:
    return isinstance(entry, Mapping) and not entry.get("was_cancelled") and not entry.get("skipped")


def _marks(entry: Mapping[str, Any]) -> list[Any]:
    """The spans of an annotation; relations and choices are something else."""
    results = [result for result in as_list(entry.get("result")) or () if isinstance(result, Mapping)]
    values = [result.get("value") for result in results]
    return [value for value in values if isinstance(value, Mapping) and "start" in value and "end" in value]


def _spans(given: Any) -> list[Span]:
    spans = [] if is_missing(given) else as_list(given)
    if spans is None:
        raise _OddError(f"its entities are {kind_of(given)} ({brief(given)}), expected a list of spans")
    return [_span(span) for span in spans]


def _span(given: Any) -> Span:
    if isinstance(given, Mapping):
        start, end = (next((given[key] for key in keys if key in given), None) for keys in (_STARTS, _ENDS))
        label = next((given[key] for key in _KINDS if not is_missing(given.get(key))), None)
        named = [value for key, value in given.items() if key.endswith("labels")]
        label = named[0] if label is None and named else label
    else:
        parts = as_list(given)
        if parts is None or len(parts) != 3:
            raise _OddError(f"{brief(given)} is no span: expected (start, end, label)")
        start, end, label = parts
    labels = as_list(label)
    if labels is not None:
        if len(labels) != 1:
            raise _OddError(f"the span {brief(given)} has {len(labels)} labels, expected one")
        label = labels[0]
    first, last = whole(start), whole(end)
    if first is None or last is None or not isinstance(label, str) or not label.strip():
        raise _OddError(f"{brief(given)} is no span: expected whole numbers from 0 and a label")
    said = given.get("text") if isinstance(given, Mapping) else None
    return Span(first, last, label.strip(), said if isinstance(said, str) else None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _OddError(f"the text is {kind_of(value)}")
    return str.__str__(value)


# Words and tags.


def _check(text: str, spans: Sequence[Span]) -> None:
    for span in spans:
        if not 0 <= span.start < span.end:
            raise _OddError(f"the span {tuple(span[:3])} is empty or ends before it begins")
        if span.end > len(text):
            raise _OddError(f"the span {tuple(span[:3])} reaches beyond the text, which has {len(text)} characters")
    ordered = sorted({span[:3] for span in spans})
    for one, other in itertools.pairwise(ordered):
        if other[0] < one[1]:
            raise _OddError(
                f"the spans {tuple(one[:3])} and {tuple(other[:3])} overlap, and a word has one tag; keep one"
            )


def _words(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The words of a text, cut wherever an entity begins or ends."""
    splitting = "characters" if splitting_of([text.split()]) == "characters" or _has_signs(text) else "words"
    edges = sorted({edge for span in spans for edge in span[:2]})
    found: list[tuple[int, int]] = []
    for start, end in split_words(text, splitting):
        cuts = [start, *(edge for edge in edges if start < edge < end), end]
        found += itertools.pairwise(cuts)
    return found


def _has_signs(text: str) -> bool:
    """Whether most of a text is written without spaces between words."""
    signs = sum("\u3040" <= sign <= "\u30ff" or "\u4e00" <= sign <= "\u9fff" for sign in text)
    return 2 * signs > len(text)


def _tags(words: Sequence[tuple[int, int]], spans: Sequence[Span], scheme: str) -> list[str]:
    tags = ["O"] * len(words)
    for span in spans:
        inside = [number for number, (start, end) in enumerate(words) if span.start <= start and end <= span.end]
        for place, number in enumerate(inside):
            tags[number] = f"{_mark(place, len(inside), scheme)}-{span.label}"
    return tags


def _mark(place: int, count: int, scheme: str) -> str:
    if scheme == "BIOES":
        if count == 1:
            return "S"
        return "B" if place == 0 else "E" if place == count - 1 else "I"
    return "B" if place == 0 else "I"
