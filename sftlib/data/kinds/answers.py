"""Answers that stand in a text: what each says, and where it begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from sftlib.data.kinds.base import encodable, is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, whole
from sftlib.data.problems import brief

_FORM = 'write {"text": [...], "answer_start": [...]}, with empty lists for a question without an answer'
_FROM_ZERO = "answer_start counts the characters of the context before the answer, from 0"


@final
class AnswersRole(RowKind):
    """The answers to the question of every row, each with the character of the context that it begins at.

    A mapping with the lists ``text`` and ``answer_start``, as `datasets` keeps them, or a list of mappings with one of
    each, as SQuAD's files have them. None at all means that the context does not answer the question.

    Example:
        >>> AnswersRole().normalise([[{"text": "Paris", "answer_start": 9}], []])
        [{'text': ['Paris'], 'answer_start': [9]}, {'text': [], 'answer_start': []}]
    """

    def fault(self, value: object) -> Fault | None:
        if is_missing(value):
            return Fault("missing answers", None, _FORM)
        texts, starts = _lists(value)
        if texts is None or starts is None:
            return Fault(f"{kind_of(value)} that holds no answers", value, _FORM)
        if len(texts) != len(starts):
            return Fault("another number of texts than of starts", None, _FORM, f"{len(texts)} and {len(starts)}")
        pairs = zip(texts, starts, strict=True)
        return next(filter(None, (_answer_fault(text, start) for text, start in pairs)), None)

    def plain(self, value: object) -> dict[str, list[object]]:
        texts, starts = _lists(value)
        return {"text": [str.__str__(text) for text in texts or ()], "answer_start": [int(at) for at in starts or ()]}  # type: ignore[call-overload]


def _lists(value: object) -> tuple[list[object] | None, list[object] | None]:
    """The texts and the starts of whatever answers are written as."""
    if isinstance(value, Mapping):
        return as_list(value.get("text")), as_list(value.get("answer_start"))
    answers = as_list(value)
    if answers is None or not all(isinstance(answer, Mapping) for answer in answers):
        return None, None
    return [answer.get("text") for answer in answers], [answer.get("answer_start") for answer in answers]


def _answer_fault(text: object, start: object) -> Fault | None:
    if is_missing(text) or not isinstance(text, str):
        return Fault(f"{'a missing value' if is_missing(text) else kind_of(text)} as answer", text, _FORM)
    if not text.strip():
        return Fault("a blank answer", text, "leave it out: a question without an answer has empty lists")
    if not encodable(text):
        return Fault("an answer that holds a lone surrogate", text, "read the source with its right encoding")
    place = whole(start)
    if place is None or place < 0:
        return Fault("an answer_start that is no whole number from 0", text, _FROM_ZERO, f"at {brief(start)}")
    return None
