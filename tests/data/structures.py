"""PDB files for tests, written line by line in the format's own columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NAMES = dict(
    zip(
        "ARNDCQEGHILKMFPSTWYV",
        "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split(),
        strict=True,
    )
)


def atom(
    residue: str,
    number: int,
    place: Sequence[float],
    *,
    name: str = "CB",
    chain: str = "A",
    kind: str = "ATOM",
    inserted: str = " ",
    other: str = " ",
) -> str:
    """One line of an atom."""
    x, y, z = place
    return (
        f"{kind:<6}{1:>5}  {name:<3}{other}{residue:>3} {chain}{number:>4}{inserted}   "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1:6.2f}{20:6.2f}           {name[0]}"
    )


def lines_of(
    sequence: str, places: Iterable[Sequence[float]], *, first: int = 1, chain: str = "A", left_out: Sequence[int] = ()
) -> list[str]:
    """A chain: an alpha carbon and, but for glycine, a beta carbon of every residue; indices that are left out, not."""
    lines = []
    for index, (letter, place) in enumerate(zip(sequence, places, strict=True)):
        if index in left_out:
            continue
        glycine = letter == "G"
        alpha = place if glycine else [axis + 1.5 for axis in place]
        lines.append(atom(NAMES[letter], first + index, alpha, name="CA", chain=chain))
        if not glycine:
            lines.append(atom(NAMES[letter], first + index, place, chain=chain))
    return lines
