"""What tasks over sequences of letters have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sftlib.data.problems import brief
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.inputs import Sequence as SequenceInputs
from sftlib.errors import DataError, OptionError
from sftlib.tasks.pairs import PairTask

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


def require_letters(encoder: SequenceEncoder, what: str) -> None:
    """Refuse inputs of which a letter cannot be told from its neighbours, or would be somewhere else.

    Args:
        encoder: of the inputs.
        what: each letter has.

    Raises:
        OptionError: saying which.
    """
    if encoder.cut.size != 1:
        raise OptionError(f"tokens={encoder.cut.form!r}: each letter has {what}, so each is a token: tokens='char'")
    if encoder.augment or encoder.strand == "both":
        raise OptionError(f"augment= and strand='both' move letters: each has {what}, which would stay where they were")


def letters_of(encoder: SequenceEncoder, texts: list[str], sequences: Sequence[str], *, first: int) -> list[list[int]]:
    """The token of each letter, uncut and without control tokens.

    Args:
        encoder: of the inputs.
        texts: as its tokenizer reads them.
        sequences: the same as they were given.
        first: number of the first row.

    Raises:
        OptionError: a tokenizer that makes other tokens.
    """
    found = encoder.text.bare(texts)
    for row, (tokens, letters) in enumerate(zip(found, sequences, strict=True)):
        if len(tokens) != len(letters):
            raise OptionError(
                f"row {first + row}: the tokenizer makes {len(tokens)} tokens of {len(letters)} letters; something is "
                "learned of each, so each must be a token of its own: give another tokenizer, or a model without one"
            )
    return found


@dataclass(frozen=True, kw_only=True, repr=False)
class LetterTask(PairTask):
    """A sequence, or a pair of sequences, in; one vector out."""

    inputs = SequenceInputs
    role = "sequence"
    things = "sequences"

    def is_input(self, both: Set[str], values: Mapping[Any, object]) -> bool:
        """Whether a mapping has what is read, as strings, and nothing else."""
        return values.keys() == {*self.reads} and all(isinstance(value, str) for value in values.values())

    def examples(self) -> list[object]:
        return [(letters, "CC") for letters in ANYWHERE] if self.pair else list(ANYWHERE)
