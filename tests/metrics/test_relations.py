"""Relations against TACRED's own way of counting and scikit-learn's averages over chosen labels."""

from __future__ import annotations

import pickle
import random

import pytest
from sklearn import metrics as sk

from sftlib.errors import DataError, LabelError
from sftlib.metrics import Classification, Metrics, Relations
from sftlib.metrics.cells import RATES
from tests.metrics.makers import in_batches

NONE = "no_relation"
LABELS = ["born_in", "employer", NONE, "spouse"]
FAMILY = Relations.excluding(NONE)
NAMES = Relations.names


def as_tacred(true: list[str], found: list[str]) -> dict[str, float]:
    """The board's rule in a plain loop: a row counts as guessed, as gold, as right only where it names a relation."""
    guessed = sum(label != NONE for label in found)
    gold = sum(label != NONE for label in true)
    right = sum(a == b != NONE for a, b in zip(true, found, strict=True))
    precision = right / guessed if guessed else 1.0
    recall = right / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision_micro": precision, "recall_micro": recall, "f1_micro": f1}


def as_scikit_learn(true: list[str], found: list[str]) -> dict[str, float]:
    labels = sorted({*true, *found} - {NONE})
    return {
        f"{name}_{average}": float(
            getattr(sk, f"{name}_score")(true, found, labels=labels, average=average, zero_division=0)
        )
        for name in RATES
        for average in ("macro", "weighted")
        if labels
    }


def rows(seed: int) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    known = rng.sample(LABELS, rng.randint(1, 4))
    true = rng.choices(known, k=rng.randint(1, 20))
    return true, [label if rng.random() < 0.5 else rng.choice(known) for label in true]


def test_values_are_tacreds_and_scikit_learns() -> None:
    for seed in range(300):
        true, found = rows(seed)
        metrics = in_batches(Metrics(NAMES, label_names=LABELS if seed % 2 else None, family=FAMILY), found, true, 7)
        expected = as_tacred(true, found) | as_scikit_learn(true, found)
        assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9), seed
        plain = Metrics(["accuracy", "mcc"], family=Classification).update(found, true)
        assert {name: metrics[name] for name in plain} == pytest.approx(dict(plain), abs=1e-9)


def test_the_excluded_label_is_in_the_matrix_and_not_in_the_table() -> None:
    metrics = Metrics(["f1_micro"], label_names=LABELS, family=FAMILY).update(["spouse", NONE], ["spouse", NONE])
    assert metrics.confusion_matrix.sum() == 2
    assert list(metrics.per_class()) == ["born_in", "employer", "spouse"]


def test_without_an_excluded_label_it_is_classification() -> None:
    true, found = rows(3)
    names = [f"{name}_{average}" for name in RATES for average in ("macro", "micro", "weighted")]
    assert dict(Metrics(names, family=Relations).update(found, true)) == pytest.approx(
        dict(Metrics(names, family=Classification).update(found, true)), abs=1e-12
    )


def test_parts_merge_where_they_exclude_the_same() -> None:
    true, found = rows(5)
    whole = Metrics(NAMES, family=FAMILY).update(found, true)
    parts = [
        Metrics(NAMES, family=Relations.excluding(NONE)).update(found[at : at + 3], true[at : at + 3])
        for at in range(0, len(true), 3)
    ]
    merged = Metrics(NAMES, family=FAMILY)
    for part in parts:
        merged = merged + pickle.loads(pickle.dumps(part))
    assert dict(merged) == pytest.approx(dict(whole), abs=1e-12)
    low, high = merged.interval("f1_micro", resamples=50)
    assert low <= whole["f1_micro"] <= high
    assert merged.interval("accuracy", resamples=50)[0] <= whole["accuracy"]
    with pytest.raises(DataError, match="families differ"):
        merged + Metrics(NAMES, family=Relations.excluding("spouse"))


def test_the_excluded_label_must_be_one() -> None:
    with pytest.raises(LabelError, match="excluded label 'no-relation' is none of the labels: did you mean 'no_rel"):
        Metrics(["f1_micro"], label_names=LABELS, family=Relations.excluding("no-relation"))
