"""What tasks with one output vector per text, or pair of texts, have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sftlib.data.problems import brief
from sftlib.errors import DataError
from sftlib.tasks.pairs import PairTask


@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceTask(PairTask):
    """A text, or a pair of texts, in."""

    role = "text"
    things = "texts"

    def examples(self) -> list[object]:
        texts = ["Good.", "A longer sentence, with a comma and 1 number.", "words " * 20]
        return [(text, "And another.") for text in texts] if self.pair else list(texts)


def one_text(example: object) -> dict[str, Any]:
    """One input of a task that takes single texts and nothing else.

    Raises:
        DataError: it is another thing.

    Example:
        >>> one_text("Once upon a time.")
        {'text': 'Once upon a time.'}
    """
    values: object = {"text": example} if isinstance(example, str) else example
    if not isinstance(values, Mapping) or not isinstance(values.get("text"), str) or len(values) > 1:
        raise DataError(f"this model takes texts: a string, or a mapping with 'text'; found {brief(example, 80)}")
    return {"text": values["text"]}
