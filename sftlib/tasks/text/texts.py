"""What tasks with one output vector per text, or pair of texts, have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.errors import DataError
from sftlib.tasks.base import Label
from sftlib.tasks.pairs import Form, PairTask


@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceTask(PairTask):
    """A text, or a pair of texts, in."""

    role = "text"
    things = "texts"

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Form(pair=self.has_pairs(data.roles)))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Form(pair=self.has_pairs(roles)))

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
