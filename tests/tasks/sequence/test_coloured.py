"""What people look at: coloured letters with marks, and molecules in tables."""

from __future__ import annotations

import re

import pytest

from sftlib import TaskDataset
from sftlib.data.alphabets import has_rdkit
from sftlib.data.drawings import drawn_molecule
from sftlib.errors import DataError
from sftlib.support.display import Html, html_table
from sftlib.tasks.sequence.residues import ResidueLabels

PREDICTED = ResidueLabels("HHEC", {"H": (0.9, 0.8, 0.1, 0.2), "E": (0.05, 0.1, 0.8, 0.2), "C": (0.05, 0.1, 0.1, 0.6)})


def test_letters_that_are_not_as_expected_are_marked() -> None:
    html = PREDICTED.to_html("MKVA", reference="HEEH", mask="1110")
    assert re.findall(r'title="([^"]*)"', html) == ["1 M: H", "2 K: H, not E", "3 V: E", "4 A: C"]
    assert html.count("border-bottom:3px solid #c00") == 2  # one letter, and what the mark means
    assert html.count("background:#ddd") == 1
    plain = PREDICTED._repr_html_()
    assert "not as expected" not in plain
    assert [title.split()[1] for title in re.findall(r'title="([^"]*)"', plain)] == ["H:", "H:", "E:", "C:"]


def test_long_sequences_have_lines_and_odd_letters_are_escaped() -> None:
    labels = ResidueLabels(("H",) * 130, {"H": (1.0,) * 130, "<b>": (0.0,) * 130})
    html = labels.to_html("<" * 130)
    assert html.count("<br>") == 2
    assert "&lt;b&gt;" in html
    assert "<b>" not in html


def test_lengths_have_to_agree() -> None:
    with pytest.raises(DataError, match="labels: 4 of 3 letters") as caught:
        PREDICTED.to_html("MKV", reference="HH")
    assert "reference: 2 of 3 letters" in str(caught.value)


def test_a_table_shows_what_was_made_here_and_escapes_the_rest() -> None:
    html = html_table(["a"], [["<b>"], [Html("<i>x</i>")]])
    assert "&lt;b&gt;" in html
    assert "<i>x</i>" in html


@pytest.mark.skipif(not has_rdkit(), reason="needs rdkit")
def test_molecules_are_drawn_in_tables() -> None:
    data = TaskDataset({"sequence": ["CCO", "c1ccccc1", "CC(=O)O"], "label": [0, 1, 0]}, alphabet="smiles")
    html = data._repr_html_()
    assert html.count("<svg") == html.count("</svg>") == 3
    assert "c1ccccc1" in html
    assert drawn_molecule("C1CC") is None
    genes = TaskDataset({"sequence": ["ACGT", "GGTA"], "label": [0, 1]}, alphabet="dna")
    assert "<svg" not in genes._repr_html_()
