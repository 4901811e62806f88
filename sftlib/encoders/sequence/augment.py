"""Sequences that are shown differently in every epoch: pure functions of a sequence and a `Draw`.

Each is a frozen value. None is on by default: a splice site or a promoter has a direction, and a protein has nothing
that could be changed without changing what it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from sftlib.data.alphabets import Alphabet, Letters, Smiles, molecule
from sftlib.data.problems import brief
from sftlib.encoders.draws import Draw
from sftlib.errors import OptionError
from sftlib.support.checking import checked_fields, raise_together, share, whole_number


@dataclass(frozen=True, kw_only=True)
class SequenceAugmentation(ABC):
    """One way of showing a sequence differently."""

    #: The name under which it draws.
    use: ClassVar[str]

    @abstractmethod
    def problem(self, alphabet: Alphabet) -> str | None:
        """Why it cannot be used with an alphabet; None when it can."""

    @abstractmethod
    def views(self, text: str, count: int, alphabet: Alphabet) -> list[str]:
        """Other ways of showing a sequence, for a mean over them: at most so many, the same every time, each once."""

    @abstractmethod
    def __call__(self, text: str, draw: Draw, alphabet: Alphabet) -> str:
        """The sequence as it is shown.

        Args:
            text: as it is written.
            draw: of its row and epoch.
            alphabet: of the sequence.
        """


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class ReverseComplement(SequenceAugmentation):
    """The other strand, read in its own direction, in a share of the rows.

    Args:
        probability: that share.

    Raises:
        OptionError: no number from 0 to 1.

    Example:
        >>> from sftlib.data.alphabets import ALPHABETS
        >>> ReverseComplement(probability=0.999)("AACG", Draw(0, epoch=0, row=0), ALPHABETS["dna"])
        'CGTT'
    """

    use = "reverse complement"
    probability: float = 0.5

    def __post_init__(self) -> None:
        raise_together([None if self.probability == 1 else share("probability", self.probability)])

    def problem(self, alphabet: Alphabet) -> str | None:
        paired = isinstance(alphabet, Letters) and alphabet.pairs
        return None if paired else f"{self!r}: only DNA and RNA have another strand, not {alphabet.title}"

    def views(self, text: str, count: int, alphabet: Alphabet) -> list[str]:
        assert isinstance(alphabet, Letters)
        return _others(text, [alphabet.opposite(text)], count)

    def __call__(self, text: str, draw: Draw, alphabet: Alphabet) -> str:
        assert isinstance(alphabet, Letters)
        return alphabet.opposite(text) if draw.generator(self.use).random() < self.probability else text


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class Shift(SequenceAugmentation):
    """A few letters taken off one end: the sequence begins a little later, or ends a little earlier.

    Args:
        most: letters that may be taken off.

    Raises:
        OptionError: no whole number of at least 1.

    Example:
        >>> from sftlib.data.alphabets import ALPHABETS
        >>> Shift(most=3)("AACCGGTT", Draw(0, epoch=0, row=1), ALPHABETS["dna"]) in "AACCGGTT"
        True
    """

    use = "shift"
    most: int = 3

    def __post_init__(self) -> None:
        raise_together([whole_number("most", self.most, at_least=1)])

    def problem(self, alphabet: Alphabet) -> str | None:
        return None if isinstance(alphabet, Letters) else f"{self!r}: a part of a molecule is another one"

    def views(self, text: str, count: int, alphabet: Alphabet) -> list[str]:
        most = min(self.most, len(text) - 1)
        cut = [part for off in range(1, most + 1) for part in (text[off:], text[:-off])]
        return _others(text, cut, count)

    def __call__(self, text: str, draw: Draw, alphabet: Alphabet) -> str:
        off = int(draw.generator(self.use).integers(-self.most, self.most + 1))
        if abs(off) >= len(text):
            return text
        return text[off:] if off >= 0 else text[:off]


@final
@checked_fields
@dataclass(frozen=True, kw_only=True)
class RandomSmiles(SequenceAugmentation):
    """The same molecule, written from another atom on (Bjerrum, 2017); needs rdkit, from the extra ``chem``.

    Args:
        probability: share of the rows.

    Raises:
        OptionError: no number from 0 to 1.
    """

    use = "random SMILES"
    probability: float = 1.0

    def __post_init__(self) -> None:
        raise_together([None if self.probability == 1 else share("probability", self.probability)])

    def problem(self, alphabet: Alphabet) -> str | None:
        return None if isinstance(alphabet, Smiles) else f"{self!r}: {alphabet.title} is no SMILES"

    def views(self, text: str, count: int, alphabet: Alphabet) -> list[str]:
        found = molecule(text, purpose="RandomSmiles")
        if found is None:
            return []
        from rdkit import Chem

        # Drawn with one seed for all, so that a molecule has the same views whatever stands beside it.
        return _others(text, [str(one) for one in Chem.MolToRandomSmilesVect(found, 4 * count, randomSeed=1)], count)

    def __call__(self, text: str, draw: Draw, alphabet: Alphabet) -> str:
        generator = draw.generator(self.use)
        found = molecule(text, purpose="RandomSmiles") if generator.random() < self.probability else None
        if found is None:
            return text
        from rdkit import Chem

        seed = int(generator.integers(1, 2**31 - 1))
        return str(Chem.MolToRandomSmilesVect(found, 1, randomSeed=seed)[0])


def _others(text: str, shown: Sequence[str], count: int) -> list[str]:
    """The first of these that are not the text itself, each once."""
    return [one for one in dict.fromkeys(shown) if one != text][:count]


#: By the names that users write.
AUGMENTATIONS: dict[str, SequenceAugmentation] = {
    "reverse_complement": ReverseComplement(),
    "shift": Shift(),
    "random_smiles": RandomSmiles(),
}


def sequence_augmentations(given: object) -> tuple[SequenceAugmentation, ...]:
    """The augmentations that a user means: ``"none"``, the name of one, one, or several in order.

    Raises:
        OptionError: something else.

    Example:
        >>> sequence_augmentations(["reverse_complement", Shift(most=2)])
        (ReverseComplement(probability=0.5), Shift(most=2))
    """
    if isinstance(given, str) and given == "none":
        return ()
    several: Sequence[object] = given if isinstance(given, list | tuple) else [given]
    found = [AUGMENTATIONS.get(item, item) if isinstance(item, str) else item for item in several]
    wrong = [item for item in found if not isinstance(item, SequenceAugmentation)]
    if wrong:
        raise OptionError(
            f"augment={brief(wrong[0])}: expected 'none', {', '.join(map(repr, AUGMENTATIONS))}, such as "
            "ReverseComplement(probability=0.5), or a list of these"
        )
    if len({item.use for item in found if isinstance(item, SequenceAugmentation)}) < len(found):
        raise OptionError("augment: the same augmentation twice, which would draw the same numbers")
    return tuple(item for item in found if isinstance(item, SequenceAugmentation))
