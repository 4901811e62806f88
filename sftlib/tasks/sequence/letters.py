"""What tasks over sequences of letters have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from sftlib.data.problems import brief
from sftlib.encoders.sequence.inputs import Sequence
from sftlib.errors import DataError
from sftlib.tasks.vector import VectorTask

#: Sequences of different lengths in any alphabet: bases, residues and carbons alike, and words of any length.
ANYWHERE = ("C", "CCCCC", "C" * 30)


def one_sequence(example: object) -> dict[str, Any]:
    """One input of a task that takes single sequences.

    Raises:
        DataError: it is another thing.

    Example:
        >>> one_sequence("ACGT")
        {'sequence': 'ACGT'}
    """
    value = example.get("sequence") if isinstance(example, Mapping) and len(example) == 1 else example
    if not isinstance(value, str):
        raise DataError(
            f"this model takes sequences: a string, or a mapping with 'sequence'; found {brief(example, 80)}"
        )
    return {"sequence": value}


@dataclass(frozen=True, kw_only=True, repr=False)
class LetterTask(VectorTask):
    """A sequence in, one vector out."""

    inputs = Sequence

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return ("sequence",)

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        return one_sequence(example)

    def examples(self) -> list[object]:
        return list(ANYWHERE)
