"""Retrieval against a plain sort and scikit-learn's ranking metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from sftlib.errors import DataError
from sftlib.metrics import Metrics, Retrieval
from sftlib.metrics import retrieval as module
from tests.metrics.makers import Embedded, embedded, in_batches


def by_sorting(rows: list[Embedded], references: list[Any]) -> dict[str, float]:
    """Every query sorts all documents by cosine, in plain loops."""
    documents: dict[Any, np.ndarray] = {}
    for row, name in zip(rows, references, strict=True):
        documents.setdefault(name, row.embedding_pair)
    found = []
    for row, name in zip(rows, references, strict=True):
        cosine = {
            other: float(row.embedding @ vector / np.linalg.norm(row.embedding) / np.linalg.norm(vector))
            for other, vector in documents.items()
        }
        found.append(sorted(cosine, key=lambda other: -cosine[other]).index(name) + 1)
    return {
        **{f"recall_at_{k}": sum(rank <= k for rank in found) / len(found) for k in (1, 5, 10)},
        "mrr": sum(1 / rank for rank in found) / len(found),
        "ndcg_at_10": sum(1 / math.log2(1 + rank) for rank in found if rank <= 10) / len(found),
    }


@pytest.mark.parametrize("size", [1, 7, 200])
def test_values_are_those_of_sorting(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = embedded(rng, 60)
        names = [f"document {number}" for number in rng.integers(0, 50, 60)]
        metrics = in_batches(Metrics(Retrieval.names), rows, names, size)
        assert dict(metrics) == pytest.approx(by_sorting(rows, names), abs=1e-9)


def test_values_are_scikit_learns() -> None:
    rows = embedded(np.random.default_rng(0), 40)
    metrics = Metrics(["mrr", "ndcg_at_10"]).update(rows, range(40))
    queries, documents = (np.array([getattr(row, side) for row in rows]) for side in ("embedding", "embedding_pair"))
    cosines = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ (
        documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ).T
    assert metrics["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(40), cosines), abs=1e-9)
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg_score(np.eye(40), cosines, k=10), abs=1e-9)


def test_saying_the_same_of_everything_finds_nothing() -> None:
    for vector in (np.ones(3), np.zeros(3)):
        metrics = Metrics(Retrieval.names).update([(vector, vector)] * 20, range(20))
        assert [metrics[name] for name in ("recall_at_1", "recall_at_10", "ndcg_at_10")] == [0, 0, 0]
    shared = Metrics(["recall_at_1"]).update([(np.ones(3), np.ones(3))] * 20, ["one"] * 20)
    assert shared["recall_at_1"] == 1.0


def test_parts_look_among_all_documents() -> None:
    rows = embedded(np.random.default_rng(1), 30)
    whole = Metrics(Retrieval.names).update(rows, range(30))
    parts = [Metrics(Retrieval.names).update(rows[at : at + 10], range(at, at + 10)) for at in (0, 10, 20)]
    assert dict(parts[0] + parts[1] + parts[2]) == dict(whole)
    assert sum(part["recall_at_5"] for part in parts) / 3 > whole["recall_at_5"], "fewer documents are easier"
    low, high = whole.interval("mrr", resamples=50)
    assert low < whole["mrr"] < high


@pytest.mark.parametrize(
    ("found", "true", "message"),
    [
        ([np.ones(3)], [1], "predictions, row 0: expected .embedding and .embedding_pair of"),
        ([(np.ones(3), np.ones(2))], [1], "predictions, row 0: expected .embedding"),
        ([(np.ones(3), np.ones(3)), (np.ones(2), np.ones(2))], [1, 2], "row 1: expected .* of 3 finite numbers"),
        ([(np.ones(2), np.array([1, math.nan]))], [1], "of 2 finite numbers"),
        ([(np.ones(2), np.ones(2))], [["a"]], "references, row 0: expected a text or number"),
    ],
)
def test_rows_that_cannot_be(found: Any, true: Any, message: str) -> None:
    metrics = Metrics(["mrr"])
    with pytest.raises(DataError, match=message):
        metrics.update(found, true)
    assert metrics.rows == 0
