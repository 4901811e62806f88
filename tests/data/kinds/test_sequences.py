"""Sequences as a role: what is refused and where, what is told by a column, what is the same to a split."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sftlib import TaskDataset
from sftlib.data.alphabets import ALPHABETS, alphabet_of, has_rdkit
from sftlib.errors import DataError, OptionError

with_rdkit = pytest.mark.skipif(not has_rdkit(), reason="needs rdkit")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["ACGTN", "acgt", "GGTA"], "dna"),
        (["ACGU", "UUGC"], "rna"),
        (["MKVLA", "ACDEF", "ACGT"], "protein"),
        (["CCO", "c1ccccc1", "C"], "smiles"),
        (["CC(=O)O", "N#N", "[Na+].[Cl-]"], "smiles"),
        (["CCl", "CCC"], "smiles"),
        (["C", "CC", "CCC"], "protein"),  # nothing tells; whoever has only these says so
        (["1", "?", "-"], None),
        ([None, 3], None),
    ],
)
def test_a_column_tells_its_alphabet(values: list[object], expected: str | None) -> None:
    found = alphabet_of(values)
    assert (found and found.name) == expected


def test_everything_wrong_comes_at_once_with_row_and_place() -> None:
    rows = {"sequence": ["ACGT", "AC*T", None, "AC GT", "", 5, "ACGTX", " acgu "], "label": [0, 1] * 4}
    with pytest.raises(DataError) as caught:
        TaskDataset(rows, alphabet="dna")
    said = str(caught.value)
    assert "2 rows with a letter that no DNA sequence has: row 1 ('*' at position 3, index 2), row 6 ('X' at" in said
    for part in (
        "1 row with a missing value: row 2",
        "white space inside: row 3 (' ' at position 3, index 2)",
        "1 row with a blank sequence: row 4",
        "an int instead of a string: row 5",
    ):
        assert part in said
    assert "row 7" not in said  # space around it is taken off, small letters and U are read


def test_both_thymine_and_uracil_are_refused() -> None:
    with pytest.raises(DataError, match="row 0"):
        TaskDataset({"sequence": ["ACGTU"], "label": [0]}, alphabet="dna")


def test_invalid_rows_can_be_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = {"sequence": ["ACGT", "AC*T", "GGTT"], "label": [0, 1, 1]}
    with caplog.at_level(logging.WARNING, "sftlib"):
        data = TaskDataset(rows, alphabet="dna", on_invalid="drop")
    assert data.column("sequence") == ["ACGT", "GGTT"]
    assert "1 of 3 rows left out" in caplog.text
    assert "row 1" in caplog.text


@with_rdkit
def test_what_is_no_molecule_is_refused_or_left_out() -> None:
    rows = {"sequence": ["CCO", "c1ccccc", "C(=O)(=O)(=O)C", "CC(=O)O"], "label": [0, 1, 1, 0]}
    with pytest.raises(DataError, match=r"2 rows with a SMILES that is no molecule to rdkit: row 1 .*row 2"):
        TaskDataset(rows)
    assert len(TaskDataset(rows, on_invalid="drop")) == 2


def test_an_alphabet_needs_sequences() -> None:
    with pytest.raises(OptionError, match="alphabet='dna'"):
        TaskDataset({"text": ["a"], "label": [0]}, alphabet="dna")
    with pytest.raises(OptionError, match="did you mean 'protein'"):
        TaskDataset({"sequence": ["A"], "label": [0]}, alphabet="protien")
    with pytest.raises(OptionError, match="strand"):
        TaskDataset({"sequence": ["A"], "label": [0]}, alphabet="dna", strand="two")


def test_the_other_strand_is_the_same_where_it_is_said_to_be() -> None:
    rows = {"sequence": ["AACG", "CGTT", "GGGA"], "label": [0, 1, 1]}
    single = TaskDataset(rows, alphabet="dna").report()
    both = TaskDataset(rows, alphabet="dna", strand="both").report()
    assert (single.duplicates.count, single.conflicts.count) == (0, 0)
    assert (both.duplicates.count, both.conflicts.count) == (1, 1)


@with_rdkit
def test_molecules_are_the_same_by_their_canonical_form() -> None:
    rows = {"sequence": ["OCC", "CCO", "c1ccccc1", "C1CCCCC1", "C1=CC=CC=C1"], "label": [0, 1, 1, 0, 1]}
    data = TaskDataset(rows)
    report = data.report()
    assert report.duplicates.pairs == ((0, 1), (2, 4))
    assert report.normalised_duplicates.count == 0  # cyclohexane is not benzene in capitals
    assert report.conflicts.pairs == ((0, 1),)
    one, other = data.split(0.5, 0.5, seed=1, stratify=False)
    where = {text: side for side, part in enumerate((one, other)) for text in part.column("sequence")}
    assert where["OCC"] == where["CCO"]
    assert where["c1ccccc1"] == where["C1=CC=CC=C1"]


@pytest.mark.parametrize("alphabet", ["dna", "rna"])
def test_the_opposite_of_the_opposite_is_the_strand(alphabet: str) -> None:
    kind = ALPHABETS[alphabet]
    assert kind.opposite(kind.opposite(kind.letters)) == kind.letters


# Several targets.


def test_several_columns_are_one_role_with_gaps() -> None:
    rows = {"sequence": ["CCO", "CCN(C)C"], "a": [1.5, None], "b": [float("nan"), 2], "c": [0, 1]}
    data = TaskDataset(rows, targets=["a", "b"])
    assert data.task == "sequence-regression"
    assert data.column("targets") == [{"a": 1.5, "b": None}, {"a": None, "b": 2.0}]
    assert data.columns == ("sequence", "targets", "c")


def test_targets_of_a_file_are_numbers_and_empty_cells(tmp_path: Any) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("smiles,toxic,bitter\nCCO,1,\nC=O,,0\n")
    data = TaskDataset.from_csv(path, sequence="smiles", targets=["toxic", "bitter"])
    assert data.task == "multi-label-sequence-classification"  # nothing but 0 and 1
    assert data.column("targets") == [{"toxic": 1.0, "bitter": None}, {"toxic": None, "bitter": 0.0}]
    asked = TaskDataset.from_csv(path, sequence="smiles", targets=["toxic", "bitter"], task="sequence-regression")
    assert asked.task == "sequence-regression"


def test_what_is_wrong_with_targets_is_said() -> None:
    rows = {"sequence": ["CCO", "C=O", "CCN"], "a": [1.5, None, "x"], "b": [None, None, float("inf")]}
    with pytest.raises(DataError) as caught:
        TaskDataset(rows, targets=["a", "b"])
    said = str(caught.value)
    assert "1 row with no target at all: row 1" in said
    assert "1 row with a str instead of a number in 'a': row 2 ('x')" in said
    assert "1 row with a number that is not finite in 'b': row 2 (inf)" in said
    with pytest.raises(DataError, match="no column 'aa': did you mean 'a'"):
        TaskDataset(rows, targets=["aa", "b"])
    with pytest.raises(OptionError, match="more than once"):
        TaskDataset(rows, targets=["a", "a"])
    with pytest.raises(DataError, match="there is no such column"):
        TaskDataset(rows, sequence=["sequence"], target="a")
    with pytest.raises(DataError, match="neither 0 nor 1 in 'a': row 0"):
        TaskDataset({"sequence": ["CCO"], "a": [2]}, targets=["a"], task="multi-label-sequence-classification")


def test_a_label_for_each_letter() -> None:
    rows = {"sequence": ["MKV", "AC"], "residue_labels": ["HHE", ["C", "H"]], "residue_mask": ["110", [True, False]]}
    data = TaskDataset(rows)
    assert data.task == "residue-classification"
    assert data.column("residue_mask") == ["110", "10"]
    assert data.label_names == ("C", "E", "H")
    with pytest.raises(DataError, match="residue_labels: 3, sequence: 2|sequence: 2, residue_labels: 3"):
        TaskDataset({"sequence": ["MK"], "residue_labels": ["HHE"]})
    with pytest.raises(DataError, match="a mask that is not of 0 and 1"):
        TaskDataset({"sequence": ["MK"], "residue_labels": ["HH"], "residue_mask": ["12"]})
