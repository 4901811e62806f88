"""Genes, proteins and molecules, scored on rows that were neither learned from nor watched, beside a plain rival.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.sciences splice --epochs 12
    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.sciences esol --model FOLDER --pooling mean --freeze 8

Every set is cut into folds by seed 0 and all options are fixed beforehand: nothing is chosen on the scored rows. A
rival is fitted on the same rows: one-hot letters or Morgan fingerprints with a linear model.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedGroupKFold

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.data.alphabets import molecule
from sftlib.models.pretrained import Pretrained

DATA = Path(os.environ.get("SFTLIB_DATA", ""))
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Fold(NamedTuple):
    """One cut.

    Attributes:
        train: labelled rows to learn from.
        test: rows to be scored.
        rival: the score of a plain model.
    """

    train: TaskDataset
    test: TaskDataset
    rival: float


def _rows(name: str) -> list[dict[str, str]]:
    path = DATA / name
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()  # noqa: SIM115  # closed below
    with opened as lines:
        return list(csv.DictReader(lines))


def _one_hot(sequences: list[str]) -> Floats:
    letters = sorted(set("".join(sequences)))
    longest = max(map(len, sequences))
    table = np.zeros((len(sequences), longest, len(letters)))
    for row, sequence in enumerate(sequences):
        table[row, range(len(sequence)), [letters.index(letter) for letter in sequence]] = 1
    return table.reshape(len(sequences), -1)


def _morgan(smiles: list[str]) -> Floats:
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return np.array([maker.GetCountFingerprintAsNumPy(molecule(one, purpose="Morgan")) for one in smiles], np.float64)


def splice() -> Iterator[Fold]:
    """Exon-intron and intron-exon borders, accuracy; equal sequences in one fold."""
    rows = _rows("genes/splice_train.csv")
    sequences, labels = [row["sequence"] for row in rows], np.array([row["junction"] for row in rows])
    hot = _one_hot(sequences)
    data = TaskDataset({"sequence": sequences, "label": labels.tolist()}, alphabet="dna")
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(sequences, labels, sequences):
        rival = LogisticRegression(C=0.1, max_iter=2000).fit(hot[train], labels[train])
        yield Fold(data.select(train), data.select(test), float(rival.score(hot[test], labels[test])))


def esol(scaffold: bool = False) -> Iterator[Fold]:
    """Solubility, RMSE in log units; five random folds, or five balanced scaffold splits of 80 and 20 %."""
    rows = _rows("molecules/delaney-processed.csv")
    smiles = [row["smiles"].strip() for row in rows]
    target = np.array([float(row["measured log solubility in mols per litre"]) for row in rows])
    prints = _morgan(smiles)
    data = TaskDataset({"sequence": smiles, "target": target.tolist()}, alphabet="smiles")
    for train, test in _scaffolds(data) if scaffold else KFold(5, shuffle=True, random_state=0).split(smiles):
        rival = Ridge(alpha=30.0).fit(prints[train], target[train]).predict(prints[test])
        error = float(np.sqrt(np.mean((rival - target[test]) ** 2)))
        yield Fold(data.select(train), data.select(test), error)


def _scaffolds(data: TaskDataset) -> Iterator[tuple[Any, Any]]:
    for seed in range(5):
        train, test = data.split(0.8, 0.2, by="scaffold", seed=seed)
        yield train.positions, test.positions


def esol_scaffold() -> Iterator[Fold]:
    """As `esol`, on scaffolds."""
    return esol(scaffold=True)


def bbbp() -> Iterator[Fold]:
    """Whether a molecule passes into the brain, ROC-AUC; five balanced scaffold splits of 80 and 20 %."""
    rows = [row for row in _rows("molecules/bbbp.csv") if molecule(row["smiles"], purpose="bbbp") is not None]
    smiles, labels = [row["smiles"] for row in rows], np.array([int(row["BBBP"]) for row in rows])
    prints = _morgan(smiles)
    data = TaskDataset({"sequence": smiles, "label": labels.tolist()}, alphabet="smiles")
    for train, test in _scaffolds(data):
        rival = LogisticRegression(C=0.01, max_iter=2000).fit(prints[train], labels[train])
        area = roc_auc_score(labels[test], rival.predict_proba(prints[test])[:, 1])
        yield Fold(data.select(train), data.select(test), float(area))


def tox21() -> Iterator[Fold]:
    """Twelve targets with gaps, mean ROC-AUC; one random split of 80 and 20 %, equal molecules on one side."""
    rows = [row for row in _rows("molecules/tox21.csv") if molecule(row["smiles"], purpose="tox21") is not None]
    names = [name for name in rows[0] if name not in ("mol_id", "smiles")]
    columns: dict[str, list[Any]] = {name: [int(row[name]) if row[name] else None for row in rows] for name in names}
    smiles = [row["smiles"] for row in rows]
    data = TaskDataset(
        {"sequence": smiles, **columns}, targets=names, alphabet="smiles", task="multi-label-sequence-classification"
    )
    prints = np.minimum(_morgan(smiles), 1)
    train, test = data.split(0.8, 0.2, seed=0)
    areas = []
    for name in names:
        label = np.array([np.nan if value is None else value for value in columns[name]])
        learn, score = (part.positions[~np.isnan(label[part.positions])] for part in (train, test))
        rival = LogisticRegression(C=0.01, max_iter=500).fit(prints[learn], label[learn])
        areas.append(roc_auc_score(label[score], rival.predict_proba(prints[score])[:, 1]))
    yield Fold(train, test, float(np.mean(areas)))


def gb1() -> Iterator[Fold]:
    """Fitness of variants of a protein, Spearman on its validation rows; its first 56 letters, the domain itself."""
    rows = _rows("proteins/gb1_train.csv.gz")
    held = np.array([row["validation"] == "True" for row in rows])
    target = np.array([float(row["target"]) for row in rows])
    sequences = [row["sequence"][:56] for row in rows]
    hot = _one_hot(sequences)
    rival = Ridge(alpha=1.0).fit(hot[~held], target[~held]).predict(hot[held])
    data = TaskDataset({"sequence": sequences, "target": target.tolist()}, alphabet="protein")
    learn, score = (data.select(np.flatnonzero(side).tolist()) for side in (~held, held))
    yield Fold(learn, score, float(spearmanr(target[held], rival).statistic))


def structure() -> Iterator[Fold]:
    """Three states of a protein's backbone, accuracy over resolved residues; the rival is the commonest state."""
    parts = []
    for side in ("train", "valid"):
        rows = _rows(f"proteins/structure_{side}.csv.gz")
        parts.append(
            TaskDataset(
                {
                    "sequence": [row["sequence"] for row in rows],
                    "residue_labels": [row["structure"] for row in rows],
                    "residue_mask": [row["resolved"] for row in rows],
                },
                alphabet="protein",
            )
        )
    train, test = parts
    letters = "".join(
        label
        for labels, mask in zip(test.view("residue_labels"), test.view("residue_mask"), strict=True)
        for label, mark in zip(labels, mask, strict=True)
        if mark == "1"
    )
    yield Fold(train, test, max(letters.count(state) for state in set(letters)) / len(letters))


SETS = {
    "splice": (splice, "dna", "accuracy"),
    "esol": (esol, "smiles", "rmse"),
    "esol-scaffold": (esol_scaffold, "smiles", "rmse"),
    "bbbp": (bbbp, "smiles", "roc_auc"),
    "tox21": (tox21, "smiles", "roc_auc"),
    "gb1": (gb1, "protein", "spearman"),
    "structure": (structure, "protein", "q3"),
}


def main() -> None:
    """Score one set and print a line a fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--model", default="new:encoder")
    parser.add_argument("--pooling", default=None)
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--tokens", default=None)
    parser.add_argument("--freeze", default=None)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=None)
    parser.add_argument("--folds", type=int, default=None)
    parser.add_argument("--views", type=int, default=0, help="random SMILES beside the row itself, in prediction")
    asked = parser.parse_args()
    folds, alphabet, metric = SETS[asked.set]
    freeze = int(asked.freeze) if asked.freeze and asked.freeze.isdigit() else asked.freeze
    shaped = asked.pooling or asked.layers
    model: Any = Pretrained(asked.model, pooling=asked.pooling, layers=asked.layers) if shaped else asked.model
    inputs = Sequence(alphabet=alphabet, tokens=asked.tokens, max_length=asked.length)
    found = []
    for number, fold in enumerate(folds()):
        if number == asked.folds:
            break
        start = time.process_time()
        tuner = FineTuner(
            model,
            inputs=inputs,
            epochs=asked.epochs,
            learning_rate=asked.rate,
            batch_size=asked.batch,
            freeze=freeze,
            metrics=[metric],
        ).fit(fold.train, progress=False)
        score = tuner.evaluate(fold.test)[metric]
        seconds = time.process_time() - start
        found.append((score, fold.rival))
        print(f"fold {number}: {metric} {score:.4f}, rival {fold.rival:.4f}, {seconds:.0f} s of processor", flush=True)
        if asked.views and metric == "rmse":
            from sftlib.encoders.sequence.views import Views

            many = tuner.predict(fold.test, views=Views("random_smiles", count=asked.views))
            errors = np.array([one.value for one in many]) - np.array(fold.test.column("target"))
            print(f"  over {asked.views} more ways of writing each: {np.sqrt(np.mean(errors**2)):.4f}", flush=True)
    ours, rivals = np.array(found).T
    print(f"{asked.set}: {metric} {ours.mean():.4f} ({ours.min():.4f} to {ours.max():.4f}), rival {rivals.mean():.4f}")


if __name__ == "__main__":
    main()
