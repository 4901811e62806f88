"""Splits by scaffold: checked with rdkit, of very uneven groups, and refused where there are no molecules."""

from __future__ import annotations

import pytest

from sftlib import TaskDataset
from sftlib.errors import DataError, OptionError

rdkit = pytest.importorskip("rdkit")

RINGS = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCCC1", "c1ccoc1", "c1ccsc1", "C1CCNCC1", "C1COCCN1", "c1ccc2ccccc2c1"]


def molecules() -> TaskDataset:
    """Nine scaffolds of four molecules each, and thirty without rings."""
    rings = [f"{tail}{ring}" for ring in RINGS for tail in ("", "C", "CC", "N")]
    chains = ["C" * n + end for n in range(1, 11) for end in ("O", "N", "Cl")]
    rows = [*rings, *chains]
    return TaskDataset({"sequence": rows, "label": [i % 2 for i in range(len(rows))]}, alphabet="smiles")


def scaffolds(data: TaskDataset) -> set[str]:
    from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

    return {MurckoScaffoldSmiles(smiles) for smiles in data.column("sequence")}


@pytest.mark.parametrize("seed", range(5))
def test_no_scaffold_stands_on_two_sides(seed: int) -> None:
    data = molecules()
    train, valid, test = data.split(0.7, 0.15, 0.15, by="scaffold", seed=seed)
    assert len(train) + len(valid) + len(test) == len(data)
    assert not scaffolds(train) & scaffolds(valid)
    assert not scaffolds(train) & scaffolds(test)
    assert not scaffolds(valid) & scaffolds(test)
    assert "" in scaffolds(train)  # the large group does not make a side of its own
    assert all(abs(len(side) - share * len(data)) <= 5 for side, share in ((train, 0.7), (valid, 0.15), (test, 0.15)))


def test_the_seed_decides() -> None:
    data = molecules()
    first, again, other = (data.split(0.8, 0.2, by="scaffold", seed=seed)[1].column("sequence") for seed in (0, 0, 1))
    assert first == again != other


def test_a_column_of_that_name_is_taken() -> None:
    data = TaskDataset({"sequence": ["CCO", "CCN", "c1ccccc1", "CC"], "label": [0, 1, 0, 1], "scaffold": list("abab")})
    one, other = data.split(0.5, 0.5, by="scaffold")
    assert {row["scaffold"] for row in one} | {row["scaffold"] for row in other} == {"a", "b"}
    assert len({row["scaffold"] for row in one}) == 1


def test_rows_without_molecules_have_no_scaffolds() -> None:
    with pytest.raises(DataError, match="sequence"):
        TaskDataset({"text": ["a", "b"], "label": [0, 1]}).split(0.5, 0.5, by="scaffold")
    with pytest.raises(DataError, match="holds DNA, and only molecules"):
        TaskDataset({"sequence": ["ACGT", "TTGA"], "label": [0, 1]}).split(0.5, 0.5, by="scaffold")
    with pytest.raises(OptionError, match="expected a role"):
        molecules().split(0.5, 0.5, by=3)  # type: ignore[arg-type]
