"""Sequences of letters, a label for each letter, and several numbers of a row of which some may be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, final

import numpy as np

from sftlib.data.alphabets import ALPHABETS, Alphabet, Smiles, alphabet_of, scaffold
from sftlib.data.drawings import drawn_molecule
from sftlib.data.kinds.base import DROP_OR_FILL, Label, NumberRole, RoleKind, encodable, is_missing, kind_of
from sftlib.data.kinds.values import Fault, RowKind
from sftlib.data.plain import as_list, json_cell
from sftlib.data.problems import Findings, listed
from sftlib.data.splitting import encode
from sftlib.support.display import Html

_GAPS = "\u00a0 \t\r\n\v\f"


@final
class SequenceRole(RoleKind):
    r"""A string of letters in every row: DNA, RNA, a protein, or a molecule as SMILES.

    White space around it is taken off; within it is an error. Which alphabet it is decides what else is one, and when
    two sequences are the same to a split and a report: molecules by their canonical SMILES.

    Args:
        alphabet: its name; told by the column when None, if that can be told.
        strand: ``"both"`` where a sequence of DNA or RNA is the same as its other strand, else ``"single"``.

    Example:
        >>> kind = SequenceRole("dna")
        >>> print(*kind.check(["ACGT", "A T"]).lines("sequence"))
        sequence: 1 row with white space inside: row 1 (' ' at position 2, index 1); take it out, or drop these rows
        >>> SequenceRole("dna", strand="both").likeness("AACG") == SequenceRole("dna", strand="both").likeness(
        ...     "CGTT"
        ... )
        True
    """

    measure = "letters"

    def __init__(self, alphabet: str | None = None, strand: str = "single", *, told: bool = False) -> None:
        self.alphabet: Alphabet | None = None if alphabet is None else ALPHABETS[alphabet]
        self.strand = strand
        self._told = told  # by the column, and not by the user
        self._seen: dict[str, bytes] = {}  # what was worked out of molecules, which takes time

    def fitted(self, values: Sequence[object]) -> SequenceRole:
        """One that knows its alphabet, where a column tells it."""
        found = None if self.alphabet is not None else alphabet_of(values)
        return self if found is None else SequenceRole(found.name, self.strand, told=True)

    def check(self, values: Sequence[object]) -> Findings:
        """Find what is missing, no string, blank, and what its alphabet does not have."""
        findings = Findings()
        for row, value in enumerate(values):
            fault = self._fault(value)
            if fault is not None:
                findings.add(row, fault.what, fault.shown, fault.mend, note=fault.note)
        return findings

    def _fault(self, value: object) -> Fault | None:
        if is_missing(value) or (isinstance(value, str) and not value.strip()):
            return Fault("a missing value" if is_missing(value) else "a blank sequence", None, DROP_OR_FILL)
        if not isinstance(value, str):
            return Fault(f"{kind_of(value)} instead of a string", value, "give each sequence as a string")
        text = value.strip()
        gap = next((place for place, letter in enumerate(text) if letter in _GAPS), None)
        if gap is not None:
            note = f"{text[gap]!r} at position {gap + 1}, index {gap}"
            return Fault("white space inside", None, "take it out, or drop these rows", note)
        if not encodable(text):
            return Fault("a lone surrogate, which is no character", value, "read the source with its right encoding")
        flaw = None if self.alphabet is None else self.alphabet.flaw(text)
        if flaw is None or self.alphabet is None:
            return None
        title = self.alphabet.title
        told = f"; or say what the column holds, with alphabet=: it looks like {title}" if self._told else ""
        return Fault(flaw.what, None, flaw.mend + told, flaw.note)

    def normalise(self, values: Sequence[object]) -> list[object]:
        """Strings without white space around them."""
        return [str(value).strip() for value in values]

    def likeness(self, value: object) -> object:
        """Equal bytes for sequences that say the same."""
        text = str(value)
        if self.alphabet is None:
            return text.encode()
        if text not in self._seen:
            self._seen[text] = self.alphabet.likeness(text, both_strands=self.strand == "both")
        return self._seen[text]

    def drawn(self, value: object) -> Html | None:
        """A molecule as it is drawn, where rdkit is installed."""
        return drawn_molecule(str(value)) if isinstance(self.alphabet, Smiles) else None

    def scaffold_of(self, value: object) -> str | None:
        """The scaffold of a molecule; None for what is no molecule.

        Raises:
            MissingExtraError: rdkit is not installed.
        """
        return scaffold(str(value))


@final
class ResidueLabelsRole(RowKind):
    """A label for each letter: a string of one character each, or a list of strings.

    Example:
        >>> ResidueLabelsRole().plain(["H", "E", "H"]), ResidueLabelsRole().plain("HEH")
        (['H', 'E', 'H'], 'HEH')
    """

    holds_labels = True
    unit = "residues"

    def fault(self, value: object) -> Fault | None:
        if is_missing(value) or (isinstance(value, str) and not value):
            mend = "drop these rows, or leave the role out to make an unlabelled data set"
            return Fault("missing labels", None, mend)
        labels = list(value) if isinstance(value, str) else as_list(value)
        if labels is None:
            return Fault(f"{kind_of(value)} instead of a label for each letter", value, "write a string, or a list")
        odd = next((label for label in labels if not isinstance(label, str) or not label.strip()), None)
        if odd is not None or None in labels:
            return Fault("a label that is no text", odd, "write each label as a text, such as 'H'; masks are a role")
        return None if all(map(encodable, labels)) else Fault("a lone surrogate", None, "read it with its encoding")

    def plain(self, value: object) -> object:
        return str(value) if isinstance(value, str) else [str(label) for label in as_list(value) or ()]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Strings as they are; lists in JSON."""
        return [json_cell(cell) if isinstance(cell, str) and cell.startswith("[") else cell or None for cell in cells]

    def labels_of(self, value: object) -> Sequence[Label]:
        """The labels of the row, one for each letter."""
        return value  # type: ignore[return-value]


@final
class ResidueMaskRole(RowKind):
    """Whether each letter counts: a string of 0 and 1, or a list of numbers or booleans.

    Example:
        >>> ResidueMaskRole().plain("101"), ResidueMaskRole().plain([True, False])
        ('101', '10')
    """

    def fault(self, value: object) -> Fault | None:
        if is_missing(value) or (isinstance(value, str) and not value):
            return Fault("a missing mask", None, "write 1 for each letter that counts and 0 for each that does not")
        marks = list(value) if isinstance(value, str) else as_list(value)
        if marks is None or any(mark not in (0, 1, "0", "1") for mark in marks):
            return Fault("a mask that is not of 0 and 1", value, "write 1 for each letter that counts, 0 for others")
        return None

    def plain(self, value: object) -> object:
        marks = value if isinstance(value, str) else as_list(value) or ()
        return "".join(str(int(mark)) for mark in marks)

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Strings as they are; lists in JSON."""
        return [json_cell(cell) if isinstance(cell, str) and cell.startswith("[") else cell or None for cell in cells]


@final
class TargetsRole(RoleKind):
    r"""Several numbers of a row, by the names of what they measure; any of them may be missing, but not all.

    Args:
        classes: whether each is 0 or 1: no or yes.

    Example:
        >>> rows = [{"logS": -1, "logP": None}, {"logS": float("nan"), "logP": "2"}]
        >>> TargetsRole().normalise(rows[:1])
        [{'logS': -1.0, 'logP': None}]
        >>> [line.partition(";")[0] for line in TargetsRole().check(rows).lines("targets")]
        ["targets: 1 row with a str instead of a number in 'logP': row 1 ('2')"]
    """

    def __init__(self, *, classes: bool = False) -> None:
        self._classes = classes

    def check(self, values: Sequence[object]) -> Findings:
        """Find rows that are no mapping, lack a target or have another, have no number at all, or a wrong one."""
        findings = Findings()
        forms = Counter(tuple(value) for value in values if isinstance(value, Mapping))
        names = max(forms, key=lambda form: forms[form], default=())
        for row, value in enumerate(values):
            if not isinstance(value, Mapping):
                what = "a missing value" if is_missing(value) else f"{kind_of(value)} instead of a mapping"
                findings.add(row, what, None, "name the columns, targets=[...], or give a mapping from name to number")
            elif set(value) != set(names) or not names:
                note = f"{listed(value) or 'none'}"
                findings.add(row, f"other targets than {listed(names)}", None, "give all rows the same", note=note)
            else:
                self._check_row(row, value, findings)
        return findings

    def _check_row(self, row: int, value: Mapping[Any, Any], findings: Findings) -> None:
        given = {name: number for name, number in value.items() if not is_missing(number)}
        if not given:
            findings.add(row, "no target at all", None, "drop these rows: there is nothing to learn from them")
        for name, number in given.items():
            plain = number if not isinstance(number, bool | np.bool_) else int(number)
            if NumberRole().check([plain]):
                what = "a number that is not finite" if _is_number(plain) else f"{kind_of(number)} instead of a number"
                findings.add(row, f"{what} in {name!r}", number, "drop these rows or mend them, with float()")
            elif self._classes and plain not in (0, 1):
                findings.add(row, f"neither 0 nor 1 in {name!r}", number, "write 1 for yes, 0 for no, nothing for gaps")

    def normalise(self, values: Sequence[object]) -> list[object]:
        """A dict for each row, of floats and None."""
        return [
            {str(name): None if is_missing(number) else float(number) for name, number in value.items()}  # type: ignore[attr-defined]
            for value in values
        ]

    def parse(self, cells: Sequence[object]) -> Sequence[object]:
        """Objects in JSON."""
        return [json_cell(cell) for cell in cells]

    def comparable(self, value: object) -> Hashable:
        """The numbers by their names."""
        return encode(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)
