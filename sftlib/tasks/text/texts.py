"""What tasks with one output vector per text, or pair of texts, have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.errors import DataError
from sftlib.support.checking import true_or_false
from sftlib.support.values import Checked, Problem
from sftlib.tasks.base import Label
from sftlib.tasks.vector import VectorTask


@dataclass(frozen=True, kw_only=True)
class Form(Checked):
    """What the rows of a data set are made of.

    Attributes:
        pair: whether rows have a second text.
    """

    pair: bool = False

    def problems(self) -> Iterable[Problem]:
        yield from super().problems()
        yield true_or_false("pair", self.pair)


@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceTask(VectorTask):
    """A text, or a pair of texts, in."""

    learned: Form | None = None

    def learned_from(self, data: TaskDataset) -> Self:
        return replace(self, learned=Form(pair="text_pair" in data.roles))

    def brought(self, names: Sequence[Label], roles: Collection[str]) -> Self:
        return replace(self, learned=Form(pair="text_pair" in roles))

    @final
    @property
    def pair(self) -> bool:
        """Whether rows have a second text."""
        return bool(self.known.pair)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("text", "text_pair") if self.pair else ("text",)

    @final
    def check_form(self, data: TaskDataset) -> None:
        if self.pair != ("text_pair" in data.roles):
            had, has = ("pairs of texts", "single texts") if self.pair else ("single texts", "pairs of texts")
            mend = "name the second text with text_pair=" if self.pair else "leave it out with text_pair=None"
            raise DataError(f"the data set has {has}, the model was made for {had} (role 'text_pair'); {mend}")

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        wanted = ("text", "text_pair") if self.pair else ("text",)
        values: object = example
        if isinstance(example, str):
            values = {"text": example}
        elif isinstance(example, tuple):
            values = dict(zip(("text", "text_pair"), example, strict=False)) if len(example) == 2 else None
        if not isinstance(values, Mapping) or {"text", "text_pair"} & values.keys() != set(wanted):
            raise DataError(self._wanted(example))
        return {role: values[role] for role in wanted}

    def _wanted(self, example: object) -> str:
        shown = brief(example, 80)
        if isinstance(example, list):
            return f"an input is a list: {shown}; give one flat list of inputs"
        if self.pair:
            form = "a tuple of two strings, or a mapping with 'text' and 'text_pair'"
            return f"this model takes pairs: {form}; found {shown}"
        many = "; several texts go into a list" if isinstance(example, tuple) else ""
        return f"this model takes single texts: a string, or a mapping with 'text'; found {shown}{many}"

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
