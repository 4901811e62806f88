"""What tasks whose models write texts have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, final

from sftlib.models.language.generation import Generation
from sftlib.support.checking import one_of_types, share
from sftlib.support.values import Problem
from sftlib.tasks.base import Task

#: Metrics for which nothing needs to be written.
WITHOUT_TEXT = frozenset({"loss", "perplexity", "token_accuracy"})

_FEW_TOKENS = 16


@dataclass(frozen=True, kw_only=True, repr=False)
class WritingTask(Task):
    """Something in, texts out, learned by cross-entropy over their tokens."""

    label_smoothing: float = 0.0
    generation: Generation | None = None

    def problems(self) -> Iterable[Problem]:
        expected = "Generation(max_new_tokens=100), or None"
        yield share("label_smoothing", self.label_smoothing)
        yield one_of_types("generation", self.generation, Generation | None, expected)

    def generating(self, generation: Generation) -> Self:
        return replace(self, generation=generation)

    @final
    def brief(self) -> Self:
        asked = self.generation or Generation()
        few = min(_FEW_TOKENS, asked.max_new_tokens)
        return self.generating(replace(asked, max_new_tokens=few, stream=None))
