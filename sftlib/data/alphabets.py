"""Letters of life and matter: what a sequence may hold, how it is written, and when two say the same.

DNA, RNA and proteins are strings over a few letters; a molecule is written as a SMILES string (Weininger, 1988). An
`Alphabet` knows what belongs to it, letter by letter. Whether a SMILES is a molecule, only rdkit can tell: it is asked
where it is installed.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any, ClassVar, NamedTuple, final

from sftlib.support.extras import require

_LOOKED_AT = 20_000  # rows by which an alphabet is told
_SHARE = 0.9  # of rows that must be of one alphabet for a column to be read as that


class Flaw(NamedTuple):
    """What is wrong with a sequence.

    Attributes:
        what: the kind of problem, read after "rows with".
        note: where it is.
        mend: how to mend it.
    """

    what: str
    note: str
    mend: str


class Alphabet(ABC):
    """What sequences of one kind are made of.

    Attributes:
        name: as users write it.
        title: what people call such a sequence.
        letters: every character that one may hold.
        plain: the letters that stand for one thing each, of which words of several letters are made.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    letters: ClassVar[str]
    plain: ClassVar[str]

    @abstractmethod
    def written(self, text: str) -> str:
        """A sequence as the model is shown it: of the same length, letter for letter."""

    @abstractmethod
    def flaw(self, text: str) -> Flaw | None:
        """What is wrong with a sequence; None for one that can be used."""

    @abstractmethod
    def likeness(self, text: str, *, both_strands: bool = False) -> bytes:
        """The same bytes for sequences that say the same.

        Args:
            text: a sequence without flaw.
            both_strands: whether the other strand of it says the same.
        """


class Letters(Alphabet):
    """One letter for each base or residue, of one length with what is written."""

    swaps: ClassVar[dict[str, str]] = {}
    pairs: ClassVar[str] = ""  # the letter that stands opposite each of `letters`, in their order

    @final
    def written(self, text: str) -> str:
        return text.upper().translate({ord(letter): other for letter, other in self.swaps.items()})

    @final
    def flaw(self, text: str) -> Flaw | None:
        """The first letter that does not belong to it."""
        strange = next((place for place, letter in enumerate(text) if not letter.isascii()), None)
        if strange is not None:
            return Flaw(f"a letter that no {self.title} sequence has", _place(text, strange), "mend or drop these rows")
        given = set(text.upper())
        both = [letter for pair in self.swaps.items() for letter in pair if letter in given]
        if len(both) > 1:
            return Flaw(f"both {both[1]} and {both[0]}", "", "DNA has T and RNA has U: write one of them throughout")
        known = {*self.letters, *self.swaps}
        if given <= known:
            return None
        place = next(place for place, letter in enumerate(text.upper()) if letter not in known)
        mend = f"a {self.title} sequence is written with {self.letters}: mend or drop these rows"
        return Flaw(f"a letter that no {self.title} sequence has", _place(text, place), mend)

    def likeness(self, text: str, *, both_strands: bool = False) -> bytes:
        """The letters as they are written; of two strands the one that comes first in the alphabet."""
        text = self.written(text)
        return (min(text, self.opposite(text)) if both_strands and self.pairs else text).encode()

    def opposite(self, text: str) -> str:
        """The other strand, read in its own direction.

        Example:
            >>> ALPHABETS["dna"].opposite("AACGN")
            'NCGTT'
        """
        return text[::-1].translate(str.maketrans(self.letters, self.pairs))


@final
class Dna(Letters):
    """Deoxyribonucleic acid, with the letters of IUPAC for bases that are not known."""

    name, title = "dna", "DNA"
    letters, plain = "ACGTRYSWKMBDHVN", "ACGT"
    pairs = "TGCAYRSWMKVHDBN"
    swaps: ClassVar[dict[str, str]] = {"U": "T"}


@final
class Rna(Letters):
    """Ribonucleic acid, likewise."""

    name, title = "rna", "RNA"
    letters, plain = "ACGURYSWKMBDHVN", "ACGU"
    pairs = "UGCAYRSWMKVHDBN"
    swaps: ClassVar[dict[str, str]] = {"T": "U"}


@final
class Protein(Letters):
    """Amino acids: the usual twenty, U and O, and B, Z, J and X for those that are not known."""

    name, title = "protein", "protein"
    letters, plain = "ACDEFGHIKLMNPQRSTVWYBZXJUO", "ACDEFGHIKLMNPQRSTVWY"


_ELEMENTS = (
    "He Li Be Ne Na Mg Al Si Cl Ar Ca Sc Ti Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Zr Nb Mo Tc Ru Rh Pd Ag "
    "Cd In Sn Sb Te Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta Re Os Ir Pt Au Hg Tl Pb Bi Po At "
    "Rn Fr Ra Ac Th Pa Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
_SINGLE = list("HBCNOFPSKVYIWU")
_AROMATIC_PAIRS = ["se", "as", "te", "si"]
#: Atoms in brackets that are common enough to be read as one; any other is read piece by piece: none is unknown.
WHOLE_ATOMS = (
    "[C@H] [C@@H] [C@] [C@@] [nH] [N+] [O-] [n+] [NH+] [NH2+] [NH3+] [S-] [N-] [H] [Na+] [K+] [Cl-] [Br-] [I-] [Si]"
).split()
_OUTSIDE = ["Br", "Cl", *"BCNOPSFI", *"bcnops", "*", *"()=#$:/\\.~-+@", *"0123456789", "%", "[", "]", ">"]
_INSIDE = [*_ELEMENTS, *_AROMATIC_PAIRS, "@@", *_SINGLE]
_AHEAD = r"(?=[^\[\]]*\])"  # the next bracket closes: this stands inside of one


def _any_of(parts: Iterable[str]) -> str:
    return "|".join(re.escape(part) for part in sorted(parts, key=lambda part: (-len(part), part)))


#: How a SMILES string is cut into its signs, in a dialect that the tokenizers library reads too.
SMILES_SIGNS = f"{_any_of(WHOLE_ATOMS)}|(?:{_any_of(_INSIDE)}){_AHEAD}|{_any_of(_OUTSIDE)}"
#: Every sign that there is.
SMILES_VOCABULARY = tuple(dict.fromkeys([*WHOLE_ATOMS, *_INSIDE, *_OUTSIDE]))


@final
class Smiles(Alphabet):
    """Molecules, one string each; what rdkit can read is one, and where it is not installed, what is made of signs."""

    name, title = "smiles", "SMILES"
    letters = "".join(sorted({letter for sign in SMILES_VOCABULARY for letter in sign}))
    plain = letters

    _signs = re.compile(SMILES_SIGNS)

    def written(self, text: str) -> str:
        return text

    def flaw(self, text: str) -> Flaw | None:
        end = 0
        for sign in self._signs.finditer(text):
            if sign.start() != end:
                break
            end = sign.end()
        if end < len(text):
            mend = "mend or drop these rows"
            return Flaw("a character that no SMILES has there", _place(text, end), mend)
        if not has_rdkit() or _molecule(text) is not None:
            return None
        return Flaw("a SMILES that is no molecule to rdkit", repr(text[:60]), "mend or drop these rows")

    def likeness(self, text: str, *, both_strands: bool = False) -> bytes:
        """The canonical SMILES of the molecule; the string itself where rdkit is not installed."""
        molecule = _molecule(text) if has_rdkit() else None
        if molecule is None:
            return text.encode()
        from rdkit import Chem

        return str(Chem.MolToSmiles(molecule)).encode()


#: By the names that users write.
ALPHABETS: dict[str, Any] = {kind.name: kind() for kind in (Dna, Rna, Protein, Smiles)}


def has_rdkit() -> bool:
    """Whether molecules can be told from other strings here."""
    return find_spec("rdkit") is not None


def _molecule(text: str) -> Any:
    """What rdkit makes of a SMILES string, without a word on the terminal; None for what is no molecule."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(text)


def molecule(text: str, *, purpose: str) -> Any:
    """What rdkit makes of a SMILES string; None for what is no molecule.

    Raises:
        MissingExtraError: rdkit is not installed.
    """
    require("rdkit", extra="chem", purpose=purpose)
    return _molecule(text)


def scaffold(text: str) -> str | None:
    """The rings of a molecule and what joins them, as canonical SMILES (Bemis and Murcko, 1996); "" without rings.

    None for what is no molecule.

    Raises:
        MissingExtraError: rdkit is not installed.
    """
    found = molecule(text, purpose='split(by="scaffold")')
    if found is None:
        return None
    from rdkit import rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with rdBase.BlockLogs():
        whole: Any = MurckoScaffold
        return str(whole.MurckoScaffoldSmiles(mol=found, includeChirality=False))


def _place(text: str, place: int) -> str:
    return f"{text[place]!r} at position {place + 1}, index {place}"


def alphabet_of(values: Iterable[object]) -> Alphabet | None:
    """The alphabet that nearly all of these sequences are written in; None where that cannot be told.

    Strings of DNA are proteins too, letter by letter, and some molecules are written like both: the smallest alphabet
    that fits nine rows in ten is taken, and that of molecules only where a sign stands that no protein has.

    Example:
        >>> names = [
        ...     alphabet_of(rows)
        ...     for rows in (["ACGT", "TTAG"], ["MKV", "ACD"], ["CCO", "c1ccccc1"], ["A-", "1"])
        ... ]
        >>> [name and name.name for name in names]
        ['dna', 'protein', 'smiles', None]
    """
    texts = [value.strip() for value in islice(values, _LOOKED_AT) if isinstance(value, str) and value.strip()]
    if not texts:
        return None
    bases = {letter for text in texts for letter in text.upper()} & set("ACGTU")
    usual = _share(texts, re.compile("[ACGTUN]+", re.IGNORECASE))
    if usual >= _SHARE and len(bases - {"U"}) >= 3:
        uracil = sum("U" in text.upper() for text in texts)
        return ALPHABETS["rna" if 2 * uracil > len(texts) else "dna"]  # type: ignore[no-any-return]
    signs = re.compile(f"(?:{SMILES_SIGNS})+")
    if _share(texts, signs) >= _SHARE and any(re.search(r"[^A-Za-z*]|Cl|Br|[cno]", text) for text in texts):
        return ALPHABETS["smiles"]  # type: ignore[no-any-return]
    residues = re.compile(f"[{Protein.letters}]+", re.IGNORECASE)
    return ALPHABETS["protein"] if _share(texts, residues) >= _SHARE else None


def _share(texts: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(text) is not None for text in texts) / len(texts)
