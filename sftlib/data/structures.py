"""Structures of proteins in files of the Protein Data Bank: where the side chain of each residue begins.

Columns are those of the format's version 3.3 (wwPDB, 2012): a line that begins with ``ATOM`` has the atom's name in
columns 13 to 16, the residue in 18 to 20, the chain in 22, the residue's number and insertion code in 23 to 27, and x,
y and z in 31 to 54, in Angstrom.

Letters: ``L`` letters of a sequence, ``M`` residues of a chain.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sftlib.data.pictures import UnreadableError, opened

Places = NDArray[np.float32]

#: Residue -> letter; selenomethionine is the methionine that it stands for.
_RESIDUES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL MSE SEC PYL ASX GLX UNK"
_LETTERS = MappingProxyType(dict(zip(_RESIDUES.split(), "ARNDCQEGHILKMFPSTWYVMUOBZX", strict=True)))
_MODIFIED = frozenset({"MSE", "SEC", "PYL"})  # residues of a chain, though their lines begin with HETATM
_ANY = "X"
_GZIP = b"\x1f\x8b"
_SHOWN = 3

_AGAIN = "copy it again from where it came, or drop these rows"
_FIT = "give the structure of this very sequence, number its residues as the letters from 1, or drop these rows"


class Chain(NamedTuple):
    """A chain as far as it was observed.

    Attributes:
        name: the sign of the chain; may be blank.
        letters: of its residues.
        numbers: of its residues, as the file has them; insertion codes left out.
        places: (M, 3) the C-beta of each residue, of a glycine the C-alpha, in Angstrom; nan where it was not observed.
    """

    name: str
    letters: str
    numbers: tuple[int, ...]
    places: Places


def read_structure(path: str) -> tuple[Chain, ...]:
    """The chains of a file, plain or gzipped; of several models the first.

    Of an atom in several positions the first counts, and of a place with two residues the first.

    Raises:
        UnreadableError: no such file, no PDB file, or lines that are none of its own.
    """
    with opened(path) as (stream, _):
        content = stream.read()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableError("a damaged file", _AGAIN, str(error)) from None
    lines = content.decode("latin-1").splitlines()  # which has a character for every byte
    atoms, bad = _atoms(lines)
    if bad:
        more = [f"and {len(bad) - _SHOWN:,} more"] if len(bad) > _SHOWN else []
        what = "a structure with lines that cannot be read"
        raise UnreadableError(what, _AGAIN, ", ".join([*bad[:_SHOWN], *more]))
    if not atoms:
        raise UnreadableError(*_nothing(lines))
    return tuple(_chains(atoms))


def _nothing(lines: Sequence[str]) -> tuple[str, str]:
    """What to say of a file without a residue, and how to mend it."""
    if any(line.startswith("_atom_site.") for line in lines):
        return "an mmCIF file instead of a PDB file", "save it as PDB, or give the contacts as pairs"
    if any(line.startswith(("ATOM  ", "HETATM")) for line in lines):
        return "a structure without amino acids", "give the structure of a protein, or the contacts as pairs"
    return "a file that is no PDB file", "give files with ATOM lines, or drop these rows"


class _Atom(NamedTuple):
    chain: str
    residue: str
    number: int
    inserted: str
    name: str
    place: tuple[float, float, float]


def _atoms(lines: Sequence[str]) -> tuple[list[_Atom], list[str]]:
    """The atoms of amino acids in the first model, and what is wrong with which line."""
    atoms, bad = [], []
    for number, line in enumerate(lines, 1):
        if line.startswith("ENDMDL"):
            break
        residue = line[17:20].strip()
        in_chain = line.startswith("ATOM  ") or (line.startswith("HETATM") and residue in _MODIFIED)
        if not in_chain or (residue and residue not in _LETTERS):  # nucleotides, say
            continue
        try:
            place = (float(line[30:38]), float(line[38:46]), float(line[46:54]))
            atom = _Atom(line[21], residue, int(line[22:26]), line[26], line[12:16].strip(), place)
        except (ValueError, IndexError):
            bad.append(f"line {number}: {line.strip()[:60]!r}")
            continue
        if not residue or not all(map(math.isfinite, place)):
            bad.append(f"line {number}: {line.strip()[:60]!r}")
            continue
        atoms.append(atom)
    return atoms, bad


def _chains(atoms: Sequence[_Atom]) -> Iterator[Chain]:
    """Chains in the order in which they begin, and their residues in theirs."""
    found: dict[str, dict[tuple[int, str], tuple[str, list[float]]]] = {}
    for atom in atoms:
        chain = found.setdefault(atom.chain, {})
        name, place = chain.setdefault((atom.number, atom.inserted), (atom.residue, []))
        if not place and name == atom.residue and atom.name == ("CA" if name == "GLY" else "CB"):
            place.extend(atom.place)
    for sign, chain in found.items():
        places = np.array([place or [np.nan] * 3 for _, place in chain.values()], np.float32)
        letters = "".join(_LETTERS[name] for name, _ in chain.values())
        yield Chain(sign, letters, tuple(number for number, _ in chain), places)


def placed(chains: Sequence[Chain], sequence: str) -> Places:
    """(L, 3) where each letter of a sequence lies, in Angstrom; nan where that was not observed.

    A chain is laid on the sequence as a whole where both are equal; else by its numbers, where all of its residues then
    stand on letters of their own: counted from 1 if they can be, or from elsewhere if there is one way only; else in
    one piece, where there is one way only. The first chain that can be laid is taken. ``X`` is any residue.

    Args:
        chains: of a file.
        sequence: in capital letters.

    Raises:
        UnreadableError: none can be, with the places at which the nearest one differs.

    Example:
        >>> chain = Chain("A", "KV", (2, 3), np.ones((2, 3), np.float32))
        >>> placed([chain], "MKVL")[:, 0].tolist()
        [nan, 1.0, 1.0, nan]
    """
    found = [_laid(chain, sequence) for chain in chains]
    for chain, (letters, differing) in zip(chains, found, strict=True):
        if letters is not None and not differing:
            places = np.full((len(sequence), 3), np.nan, np.float32)
            places[letters] = chain.places
            return places
    chain, (letters, differing) = min(
        zip(chains, found, strict=True), key=lambda pair: (pair[1][0] is None, len(pair[1][1]))
    )
    raise UnreadableError(
        "a structure whose residues are not those of the sequence",
        _FIT,
        _difference(chain, letters, differing, sequence),
    )


def _laid(chain: Chain, sequence: str) -> tuple[NDArray[np.int64] | None, list[int]]:
    """The letter that each residue stands on, as well as can be, and the residues that differ from theirs.

    None where no way is better than another.
    """
    numbers = np.array(chain.numbers, np.int64)
    if len(chain.letters) == len(sequence):
        whole = np.arange(len(sequence))
        differing = _differing(chain.letters, whole, sequence)
        if not differing:
            return whole, []
    rises = bool((np.diff(numbers) > 0).all())
    firsts = range(int(numbers.max()) - len(sequence) + 1, int(numbers.min()) + 1) if rises else range(0)
    ways = {first: _differing(chain.letters, numbers - first, sequence) for first in firsts}
    exact = [first for first, differing in ways.items() if not differing]
    if 1 in exact or len(exact) == 1:
        return numbers - (1 if 1 in exact else exact[0]), []
    pieces = [] if exact else [start for start in range(len(sequence)) if _stands(chain.letters, sequence, start)]
    if len(pieces) == 1:
        return pieces[0] + np.arange(len(chain.letters)), []
    if not ways or exact or pieces:
        return None, []
    first = min(ways, key=lambda first: (len(ways[first]), first != 1))
    return numbers - first, ways[first]


def _differing(letters: str, places: NDArray[np.int64], sequence: str) -> list[int]:
    """The residues that are not the letter on which they stand."""
    pairs = ((letter, sequence[place]) for letter, place in zip(letters, places.tolist(), strict=True))
    return [number for number, (a, b) in enumerate(pairs) if a != b and _ANY not in (a, b)]


def _stands(letters: str, sequence: str, start: int) -> bool:
    part = sequence[start : start + len(letters)]
    return len(part) == len(letters) and not _differing(letters, np.arange(len(part)), part)


def _difference(chain: Chain, letters: Any, differing: Sequence[int], sequence: str) -> str:
    """Where the nearest chain differs from the sequence."""
    named = f"chain {chain.name!r} of {len(chain.letters):,} residues"
    if letters is None:
        span = f"numbered {min(chain.numbers):,} to {max(chain.numbers):,}"
        return f"{named}, {span}, on {len(sequence):,} letters: there is no way, or more than one, to lay it on them"
    shown = [
        f"residue {chain.numbers[i]} is {chain.letters[i]} and letter {int(letters[i]) + 1} "
        f"(index {int(letters[i])}) is {sequence[int(letters[i])]}"
        for i in differing[:_SHOWN]
    ]
    more = [f"{len(differing) - _SHOWN:,} more"] if len(differing) > _SHOWN else []
    return f"{named}: {', '.join([*shown, *more])}"


def contacts_of(places: NDArray[np.floating[Any]], *, distance: float, separation: int) -> NDArray[np.int32]:
    """(P, 2) pairs of letters, i < j, that lie nearer to each other than a distance.

    Args:
        places: (L, 3) in Angstrom, nan where a letter was not observed; it has no contacts.
        distance: in Angstrom.
        separation: letters from i to j, at least.

    Example:
        >>> contacts_of(np.array([[0.0, 0, 0], [0, 0, 9], [0, 0, 7.5]]), distance=8.0, separation=1).tolist()
        [[0, 2], [1, 2]]
    """
    there = places.astype(np.float64)
    squares = sum((there[:, None, axis] - there[None, :, axis]) ** 2 for axis in range(3))
    near = np.triu(squares < distance**2, separation)  # nan is near to nothing
    return np.argwhere(near).astype(np.int32)
