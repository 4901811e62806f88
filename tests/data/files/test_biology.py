"""FASTA and SDF: what is read, what is refused and where."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from sftlib import TaskDataset
from sftlib.errors import DataError

FASTA = """; made by hand
>P1 SET=train FAMILY=a first protein
MKVL
AACD

>P2 SET=test FAMILY=b
mkva
"""


def test_headers_and_lines_become_columns(tmp_path: Path) -> None:
    path = tmp_path / "proteins.fasta"
    path.write_text(FASTA)
    data = TaskDataset.from_fasta(path, label="family")
    assert data.task == "sequence-classification"
    assert data.column("sequence") == ["MKVLAACD", "mkva"]
    assert data.column("label") == ["a", "b"]
    assert [row["set"] for row in data] == ["train", "test"]
    assert [row["id"] for row in data] == ["P1", "P2"]
    train, test = data.split(0.5, 0.5, by="set")
    assert {train[0]["set"], test[0]["set"]} == {"train", "test"}


def test_gzip_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "proteins.fa"
    path.write_bytes(gzip.compress(FASTA.encode()))
    assert TaskDataset.from_fasta(path).column("sequence") == ["MKVLAACD", "mkva"]
    path.write_bytes(gzip.compress(FASTA.encode())[:40])
    with pytest.raises(DataError, match="damaged"):
        TaskDataset.from_fasta(path)


def test_labels_of_letters_come_from_a_second_file(tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(FASTA)
    (tmp_path / "l.fasta").write_text(">P2\nHHHH\n>P1\nCCCCEEEE\n")
    (tmp_path / "m.fasta").write_text(">P2\n1101\n>P1\n00001111\n")
    data = TaskDataset.from_fasta(tmp_path / "s.fasta", labels=tmp_path / "l.fasta", mask=tmp_path / "m.fasta")
    assert data.task == "residue-classification"
    assert data.column("residue_labels") == ["CCCCEEEE", "HHHH"]
    assert data.column("residue_mask")[1] == "1101"
    (tmp_path / "l.fasta").write_text(">P2\nHHHH\n>P3\nCCCC\n")
    with pytest.raises(DataError) as caught:
        TaskDataset.from_fasta(tmp_path / "s.fasta", labels=tmp_path / "l.fasta")
    assert "'P1'" in str(caught.value)
    assert "'P3'" in str(caught.value)


def test_values_come_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "s.fasta").write_text(FASTA)
    (tmp_path / "t.csv").write_text("id,melts\nP2,41.5\nP1,50\n")
    data = TaskDataset.from_fasta(tmp_path / "s.fasta", labels=tmp_path / "t.csv", target="melts")
    assert data.task == "sequence-regression"
    assert data.column("target") == [50.0, 41.5]


def test_lines_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.fasta"
    path.write_text("MKV\n>\nAA\n>P1\n>P2\nAC\n>P2\nAC\n")
    with pytest.raises(DataError) as caught:
        TaskDataset.from_fasta(path)
    for part in ("line 1 comes before", "line 2 is a header without a name", "line 4 is the header of 'P1'"):
        assert part in str(caught.value)
    path.write_text(">P2\nAC\n>P2\nAC\n")
    with pytest.raises(DataError, match="line 3 is a second header of 'P2'"):
        TaskDataset.from_fasta(path)
    path.write_text("")
    with pytest.raises(DataError, match="holds no sequence"):
        TaskDataset.from_fasta(path)


def test_molecules_with_their_properties(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    from rdkit import Chem

    path = tmp_path / "molecules.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for smiles, value in (("OCC", -0.5), ("c1ccccc1", 2.1)):
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("_Name", f"made of {smiles}")
            molecule.SetDoubleProp("logP", value)
            writer.write(molecule)
    data = TaskDataset.from_sdf(path, target="logP")
    assert data.column("sequence") == ["CCO", "c1ccccc1"]
    assert data.column("target") == [-0.5, 2.1]
    assert data[0]["id"] == "made of OCC"
    broken = path.read_text().replace(" C ", " Xx", 1)
    path.write_text(broken)
    with pytest.raises(DataError, match="1 record that is no molecule.*record 0"):
        TaskDataset.from_sdf(path, target="logP")
    assert len(TaskDataset.from_sdf(path, target="logP", on_invalid="drop")) == 1


def test_a_gzipped_table_of_sequences_is_read_as_a_plain_one(tmp_path: Path) -> None:
    table = "smiles,logS,logP\nCCO,-0.77,\nc1ccccc1,-1.6,2.1\n"
    plain, packed = tmp_path / "rows.csv", tmp_path / "rows.csv.gz"
    plain.write_text(table)
    packed.write_bytes(gzip.compress(table.encode()))
    roles: dict[str, Any] = {"sequence": "smiles", "targets": ["logS", "logP"], "alphabet": "smiles"}
    a, b = (TaskDataset.from_csv(path, **roles) for path in (plain, packed))
    assert list(a) == list(b)
    assert a.fingerprint() == b.fingerprint()
    assert b[0]["targets"] == {"logS": -0.77, "logP": None}
