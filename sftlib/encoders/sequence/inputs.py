"""How sequences are to be read, as a user writes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sftlib.data.alphabets import ALPHABETS, Alphabet, Letters
from sftlib.encoders.base import Inputs
from sftlib.encoders.sequence.augment import ReverseComplement, SequenceAugmentation, sequence_augmentations
from sftlib.encoders.sequence.encoder import SequenceEncoder
from sftlib.encoders.sequence.words import Cut, cut_of, form_problem, own_tokenizer
from sftlib.encoders.text.inputs import Text
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import ArtifactError, OptionError
from sftlib.models.files.folder import read_tokenizer
from sftlib.models.files.strict import TOKENIZER_FILES
from sftlib.models.opening import open_tokenizer
from sftlib.models.sources import ModelSource
from sftlib.support.checking import checked_fields, choice, raise_together, true_or_false, whole_number

_LONGEST = 2**20  # tokens of a row
_FACTS = {"max_length", "alphabet", "tokens", "strand", "spaced"}
STRANDS = ("single", "both")


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Sequence(Inputs):
    """DNA, RNA, proteins or molecules, read through a tokenizer: the model's own, or one that is made for it.

    Args:
        alphabet: ``"dna"``, ``"rna"``, ``"protein"`` or ``"smiles"``; told by the vocabulary of the model's own
            tokenizer when None, where that can be told.
        tokens: how letters become tokens: ``"char"``, ``"kmer:6"`` (words of six letters, one after the other),
            ``"kmer:6/1"`` (words that begin one letter after the other) or ``"smiles"`` (atoms, bonds, rings). For a
            tokenizer of the model's own it says how it wants its letters set apart, if it does. ``"smiles"`` for
            molecules and ``"char"`` for others when None.
        strand: ``"both"`` where a sequence of DNA or RNA means the same as its other strand: then the one that comes
            first in the alphabet is read, so that both get one prediction; else ``"single"``.
        augment: what is drawn anew in training: ``"none"``, ``"reverse_complement"``, ``"shift"``,
            ``"random_smiles"``, a value of `sftlib.encoders.sequence.augment`, or a list of these, in order.
        tokenizer: a transformers tokenizer, or the folder or name of one.
        max_length: tokens of a row, control tokens included; what the model can take when None.

    Raises:
        OptionError: values that they cannot have.

    Example:
        >>> Sequence(alphabet="dna", tokens="kmer:6/1")
        Sequence(alphabet='dna', tokens='kmer:6/1')
    """

    alphabet: str | None = None
    tokens: str | None = None
    strand: str = "single"
    augment: Any = "none"
    tokenizer: Any = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        limit = self.max_length
        raise_together(
            [
                None if self.alphabet is None else choice("alphabet", self.alphabet, ALPHABETS),
                None if self.tokens is None else form_problem(self.tokens),
                None if limit is None else whole_number("max_length", limit, at_least=2),
                choice("strand", self.strand, STRANDS),
            ]
        )
        steps = sequence_augmentations(self.augment)
        if self.alphabet is not None:
            raise_together(self._misfits(ALPHABETS[self.alphabet], steps))

    def _misfits(self, alphabet: Alphabet, steps: tuple[SequenceAugmentation, ...]) -> Iterator[str | None]:
        """What does not go with an alphabet."""
        if self.tokens == "smiles" and alphabet.name != "smiles":
            yield f"tokens='smiles': {alphabet.title} has no atoms; take 'char' or 'kmer:6'"
        if self.strand == "both" and not (isinstance(alphabet, Letters) and alphabet.pairs):
            yield f"strand='both': only DNA and RNA have another strand, not {alphabet.title}"
        if self.strand == "both" and any(isinstance(step, ReverseComplement) for step in steps):
            yield "strand='both': one strand is read for both, so there is none to draw with augment="
        yield from (step.problem(alphabet) for step in steps)

    def __repr__(self) -> str:
        given = {"alphabet": self.alphabet, "tokens": self.tokens, "tokenizer": self.tokenizer}
        given |= {"strand": None if self.strand == "single" else self.strand, "max_length": self.max_length}
        given |= {"augment": None if self.augment == "none" else self.augment}
        plain = (str, int, tuple, list)
        shown = [
            f"{name}={value!r}" if isinstance(value, plain) or name == "augment" else f"{name}=<{type(value).__name__}>"
            for name, value in given.items()
            if value is not None
        ]
        return f"Sequence({', '.join(shown)})"

    def open(self, source: ModelSource) -> SequenceEncoder:
        tokenizer = self._given(source)
        alphabet = self._alphabet(tokenizer)
        steps = sequence_augmentations(self.augment)
        raise_together(self._misfits(alphabet, steps))
        usual = "smiles" if alphabet.name == "smiles" else "char"
        told = None if tokenizer is None else _words_of(tokenizer)
        cut = cut_of(self.tokens or told or usual)
        if tokenizer is None:
            tokenizer, spaced = own_tokenizer(alphabet, cut), cut.overlaps
        else:
            spaced = cut.overlaps or _wants_spaces(tokenizer, alphabet, cut)
        text = TextEncoder(tokenizer, self.max_length)
        return SequenceEncoder(text, alphabet, cut, spaced=spaced, strand=self.strand, augment=steps)

    def _given(self, source: ModelSource) -> Any:
        """The tokenizer that is given, or the model's own; None where there is none."""
        if self.tokenizer is not None:
            return open_tokenizer(self.tokenizer)
        try:
            return source.tokenizer()
        except ArtifactError:
            if self.alphabet is None or source.config is None:
                raise
            return None  # a folder of weights alone: a tokenizer is made for it

    def _alphabet(self, tokenizer: Any) -> Alphabet:
        """As asked for, or as the vocabulary of a tokenizer tells.

        Raises:
            OptionError: nothing tells.
        """
        name = self.alphabet or (None if tokenizer is None else _told_by(tokenizer))
        if name is None:
            raise OptionError(
                "inputs=Sequence(alphabet=...): say what the letters are, 'dna', 'rna', 'protein' or 'smiles'; "
                "the model's tokenizer does not tell"
            )
        found: Alphabet = ALPHABETS[name]
        return found

    def pretraining(self, source: ModelSource, texts: list[str]) -> tuple[Text, list[str]]:
        """The same letters as texts, for a task that fills gaps in them.

        Raises:
            DataError: what the alphabet does not have, with its rows.
        """
        encoder = self.open(source)
        stripped = [text.strip() for text in texts]
        encoder.checked(stripped)
        plain = Text(tokenizer=encoder.tokenizer, max_length=self.max_length)
        return plain, [encoder.as_text(text) for text in stripped]

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> SequenceEncoder:
        raise_together(
            [
                None if facts.keys() == _FACTS else f"inputs: found {sorted(facts)}, expected {sorted(_FACTS)}",
                whole_number("max_length", facts.get("max_length"), at_least=2, at_most=_LONGEST),
                choice("alphabet", facts.get("alphabet"), ALPHABETS),
                form_problem(facts.get("tokens")),
                choice("strand", facts.get("strand"), STRANDS),
                true_or_false("spaced", facts.get("spaced")),
            ],
            ValueError,
        )
        text = TextEncoder(read_tokenizer(folder), facts["max_length"])
        own = {"spaced": facts["spaced"], "strand": facts["strand"]}
        return SequenceEncoder(text, ALPHABETS[facts["alphabet"]], cut_of(facts["tokens"]), **own)

    @classmethod
    def files(cls) -> frozenset[str]:
        return TOKENIZER_FILES


def _unknown(tokenizer: Any, text: str) -> int:
    """How many tokens of a text a tokenizer does not know."""
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return sum(number == tokenizer.unk_token_id for number in found)


def _wants_spaces(tokenizer: Any, alphabet: Alphabet, cut: Cut) -> bool:
    """Whether a tokenizer knows tokens only when they are set apart, as those of words do."""
    sample = "CCOC1CCN1" if alphabet.name == "smiles" else alphabet.plain * 3
    pieces = cut.pieces(sample)
    if _unknown(tokenizer, sample):
        return _unknown(tokenizer, " ".join(pieces)) < _unknown(tokenizer, sample)
    return False


def _told_by(tokenizer: Any) -> str | None:
    """The alphabet whose letters a vocabulary has by themselves, or whose words of letters it is made of."""
    words = {word for word in tokenizer.get_vocab() if word not in tokenizer.all_special_tokens}
    if set(ALPHABETS["protein"].plain) <= words:
        return "protein"
    bases = {word for word in words if len(word) > 2 and set(word) <= set("ACGTU")}
    if {*"CNO()=1"} <= words:
        return "smiles"
    if 2 * len(bases) > len(words) or (words and {*"ACGT"} <= words and len(words) < 2**5):
        return "rna" if any("U" in word for word in bases) else "dna"
    return None


def _words_of(tokenizer: Any) -> str | None:
    """How letters become tokens where a vocabulary is one of words of bases of one length; None where it is not.

    Words that overlap need no other; words that follow each other leave a rest, which is read letter by letter.
    """
    words = [word for word in tokenizer.get_vocab() if word not in tokenizer.all_special_tokens]
    lengths = Counter(len(word) for word in words if len(word) > 1 and set(word) <= set("ACGTUN"))
    size, count = next(iter(lengths.most_common(1)), (0, 0))
    if 2 * count <= len(words) or form_problem(f"kmer:{size}"):
        return None
    return f"kmer:{size}" if {"A", "C", "G"} <= set(words) else f"kmer:{size}/1"
