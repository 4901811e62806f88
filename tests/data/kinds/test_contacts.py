"""Contacts as pairs and as structures: what is read, what is refused and where."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import ContactPrediction, TaskDataset
from sftlib.data.pictures import UnreadableError
from sftlib.data.structures import Chain, contacts_of, placed, read_structure
from sftlib.errors import DataError
from tests.data.structures import atom, lines_of

SEQUENCE = "MKVGAACDEFGHIKLW"


def walk(count: int, seed: int = 0) -> np.ndarray:
    """Places some Angstrom from one to the next."""
    steps = np.random.default_rng(seed).normal(scale=3.0, size=(count, 3))
    return np.round(np.cumsum(steps, axis=0), 3)


def written(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(["HEADER    MADE BY HAND", *lines, "TER", "END", ""]))
    return str(path)


# Pairs.


def test_pairs_come_in_any_form() -> None:
    pairs = [(1, 7), [0, 9]]
    forms: list[Any] = [pairs, json.dumps(pairs), np.array(pairs), "[(1, 7), (0, 9)]"]
    data = TaskDataset({"sequence": [SEQUENCE] * 4, "contacts": forms})
    assert data.task == "contact-prediction"
    assert data.column("contacts") == [[[0, 9], [1, 7]]] * 4


def test_pairs_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('sequence,contacts\nMKVAAACD,"[[0, 7]]"\nMKVAAACD,[]\n')
    assert TaskDataset.from_csv(path).column("contacts") == [[[0, 7]], []]


@pytest.mark.parametrize(
    ("contacts", "said"),
    [
        ([[7, 1]], r"does not come before its second: row 1 \(pair 0: \[7, 1\]\)"),
        ([[0, 7], [3, 3]], r"does not come before its second: row 1 \(pair 1: \[3, 3\]\)"),
        ([[-1, 7]], "a negative number of a letter"),
        ([[0, 7], [0, 7]], "a pair given twice: row 1"),
        ([[0, 7.0]], "not of two whole numbers"),
        ([[0, True]], "not of two whole numbers"),
        ([[0, 7, 0.5]], "not of two whole numbers"),
        ([4], "not of two whole numbers"),
        ([[0, 16]], r"beyond the end of its sequence: row 1 \(\[0, 16\], and the last of 16 letters is 15\)"),
        ("[[0, 7", "a str instead of a list of pairs"),
        (None, "missing contacts"),
    ],
)
def test_wrong_pairs_are_named(contacts: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        TaskDataset({"sequence": [SEQUENCE, SEQUENCE], "contacts": [[[0, 7]], contacts]}, task="contact-prediction")


def test_a_mask_has_a_mark_for_each_letter() -> None:
    with pytest.raises(DataError, match="residue_mask: 3"):
        TaskDataset({"sequence": ["MKVA"], "contacts": [[[0, 3]]], "residue_mask": ["110"]})


# Structures.


def test_contacts_of_a_structure_by_a_plain_loop(tmp_path: Path) -> None:
    places = walk(len(SEQUENCE))
    path = written(tmp_path / "a.pdb", lines_of(SEQUENCE, places, left_out=[5, 12]))
    assert TaskDataset({"sequence": [SEQUENCE], "structure": ["HHHC"]}).task is None  # secondary structure, say
    data = TaskDataset({"sequence": [SEQUENCE], "structure": [path]}, structure="structure")
    assert data.task == "contact-prediction"
    for separation, distance in ((6, 8.0), (1, 5.0), (3, 12.0)):
        truth = ContactPrediction(separation=separation, distance=distance).truth(data, 0)
        expected = [
            [i, j]
            for i in range(16)
            for j in range(i + separation, 16)
            if not {i, j} & {5, 12} and sum((places[i] - places[j]) ** 2) ** 0.5 < distance
        ]
        assert truth.contacts.tolist() == expected
        assert truth.known.tolist() == [int(i not in (5, 12)) for i in range(16)]
    assert expected


def test_relative_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "pdb").mkdir()
    path = tmp_path / "pdb" / "a.ent.gz"
    path.write_bytes(gzip.compress("\n".join(lines_of(SEQUENCE, walk(16))).encode()))
    (tmp_path / "rows.csv").write_text(f"sequence,structure\n{SEQUENCE},pdb/a.ent.gz\n")
    assert TaskDataset.from_csv(tmp_path / "rows.csv", task="contact-prediction").column("structure") == [str(path)]


def test_what_belongs_to_the_chain(tmp_path: Path) -> None:
    """Selenomethionine does, water, ligands and later models do not; of two positions the first counts."""
    lines = [
        atom("MSE", 1, (1, 0, 0), kind="HETATM"),
        atom("LYS", 2, (2, 0, 0), other="A"),
        atom("LYS", 2, (9, 9, 9), other="B"),
        atom("GLY", 3, (3, 0, 0), name="CA"),
        atom("SER", 4, (4, 0, 0), other="A"),
        atom("THR", 4, (9, 9, 9), other="B"),
        atom("ALA", 5, (5, 0, 0), name="CA"),  # without its side chain
        atom("CA", 101, (7, 7, 7), name="CA", kind="HETATM"),
        atom("HOH", 102, (7, 7, 7), name="O", kind="HETATM"),
        atom("DA", 103, (7, 7, 7), name="C5", chain="B"),
        "ENDMDL",
        atom("MSE", 1, (8, 8, 8), kind="HETATM"),
    ]
    (chain,) = read_structure(written(tmp_path / "a.pdb", lines))
    assert (chain.letters, chain.numbers) == ("MKGSA", (1, 2, 3, 4, 5))
    assert chain.places[:4, 0].tolist() == [1, 2, 3, 4]
    assert np.isnan(chain.places[4]).all()


def chain_of(letters: str, numbers: list[int], name: str = "A") -> Chain:
    marks = np.arange(3 * len(letters), dtype=np.float32).reshape(-1, 3)
    return Chain(name, letters, tuple(numbers), marks)


@pytest.mark.parametrize(
    ("letters", "numbers", "places"),
    [
        (SEQUENCE, list(range(1, 17)), list(range(16))),
        (SEQUENCE, list(range(301, 317)), list(range(16))),  # numbered as in a longer one
        (SEQUENCE, [*range(1, 9), *range(8, 16)], list(range(16))),  # with an insertion code
        ("KVGCD", [2, 3, 4, 7, 8], [1, 2, 3, 6, 7]),  # a loop was not observed
        ("KVGCD", [102, 103, 104, 107, 108], [1, 2, 3, 6, 7]),
        ("AACDE", [1, 2, 3, 9, 10], [4, 5, 6, 7, 8]),  # numbers that say nothing: in one piece
        ("KXGCD", [2, 3, 4, 7, 8], [1, 2, 3, 6, 7]),  # an unknown residue
    ],
)
def test_residues_are_laid_on_letters(letters: str, numbers: list[int], places: list[int]) -> None:
    found = placed([chain_of("WWWW", [1, 2, 3, 4], "Z"), chain_of(letters, numbers)], SEQUENCE)
    assert np.flatnonzero(~np.isnan(found[:, 0])).tolist() == places
    assert found[places, 0].tolist() == [3.0 * row for row in range(len(letters))]


@pytest.mark.parametrize(
    ("letters", "numbers", "said"),
    [
        (SEQUENCE.replace("F", "Y"), list(range(1, 17)), r"residue 10 is Y and letter 10 \(index 9\) is F"),
        (SEQUENCE.replace("A", "S"), list(range(1, 17)), "residue 5 is S and letter 5 .* residue 6 is S"),
        ("KVW", [2, 3, 4], r"residue 4 is W and letter 4 \(index 3\) is G"),
        (SEQUENCE + "WW", list(range(1, 19)), "of 18 residues, numbered 1 to 18, on 16 letters"),
    ],
)
def test_other_residues_are_named(letters: str, numbers: list[int], said: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        placed([chain_of(letters, numbers)], SEQUENCE)
    assert caught.match("not those of the sequence")
    assert re.search(said, caught.value.note)


def test_where_a_piece_may_lie_in_several_places_nothing_is_guessed() -> None:
    with pytest.raises(UnreadableError) as caught:
        placed([chain_of("AAA", [11, 12, 13])], "AAAAAA")
    assert "more than one" in caught.value.note
    assert np.flatnonzero(~np.isnan(placed([chain_of("AAA", [2, 3, 4])], "AAAAAA")[:, 0])).tolist() == [1, 2, 3]


def test_a_structure_of_another_sequence_is_refused_with_its_row(tmp_path: Path) -> None:
    right = written(tmp_path / "a.pdb", lines_of(SEQUENCE, walk(16)))
    other = written(tmp_path / "b.pdb", lines_of(SEQUENCE.replace("K", "R"), walk(16)))
    columns = {"sequence": [SEQUENCE] * 2, "structure": [right, other]}
    with pytest.raises(DataError, match=r"row 1 \('.*b.pdb', chain 'A' of 16 residues: residue 2 is R and letter 2"):
        TaskDataset(columns, task="contact-prediction")
    kept = TaskDataset(columns, task="contact-prediction", on_invalid="drop")
    assert len(kept) == 1


GOOD = atom("ALA", 1, (1, 2, 3))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "a file that is no PDB file"),
        (b"\x00\xff\xfe" * 50, "a file that is no PDB file"),
        (b"data_1ABC\nloop_\n_atom_site.group_PDB\n_atom_site.id\nATOM 1 C\n", "an mmCIF file instead of a PDB file"),
        (gzip.compress(GOOD.encode(), mtime=0)[:30], "a damaged file"),
        (GOOD[:40].encode(), r"lines that cannot be read.*line 1: 'ATOM"),
        (GOOD[:20].encode(), "lines that cannot be read"),
        (GOOD.replace("   1.000", "   1.0x0").encode(), "lines that cannot be read"),
        (GOOD.replace("   1.000", "     nan").encode(), "lines that cannot be read"),
        (GOOD.replace("A   1 ", "A   b ").encode(), "lines that cannot be read"),
        (GOOD.replace("ALA", "   ").encode(), "lines that cannot be read"),
        ("\n".join([GOOD, *[GOOD[:40]] * 5]).encode(), "line 2: .*line 3: .*line 4: .*and 2 more"),
        (atom("DA", 1, (1, 2, 3), name="C5").encode(), "a structure without amino acids"),
    ],
)
def test_files_that_are_no_structure_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdb").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        TaskDataset({"sequence": ["A"], "structure": [str(tmp_path / "a.pdb")]}, task="contact-prediction")
    assert "row 0" in str(caught.value)
    assert "a.pdb" in str(caught.value)


def test_what_is_no_path_is_refused(tmp_path: Path) -> None:
    columns = {"sequence": ["A"] * 4, "structure": [3, None, str(tmp_path), "nowhere.pdb"]}
    with pytest.raises(DataError) as caught:
        TaskDataset(columns, task="contact-prediction")
    for said in ("an int instead of the path", "a missing value", "a folder instead of a file", "does not exist"):
        assert said in str(caught.value)


def test_a_structure_that_went_away_is_told_of(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pdb", lines_of(SEQUENCE, walk(16)))
    data = TaskDataset({"sequence": [SEQUENCE], "structure": [path]}, task="contact-prediction")
    Path(path).unlink()
    with pytest.raises(DataError, match=r"was a structure when the data set was made"):
        ContactPrediction().learned_from(data)


def test_touching_ends_where_the_distance_does() -> None:
    places = np.array([[0.0, 0, 0], [8.0, 0, 0], [7.999, 0, 0], [np.nan] * 3])
    assert contacts_of(places, distance=8.0, separation=1).tolist() == [[0, 2], [1, 2]]
    assert contacts_of(places, distance=8.0, separation=2).tolist() == [[0, 2]]
