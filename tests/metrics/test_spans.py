"""Spans against seqeval, in its default and its strict mode."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest

from sftlib.errors import DataError, LabelError
from sftlib.metrics import Metrics, MultiLabel, Spans
from sftlib.metrics.cells import RATES
from tests.metrics.makers import Tagged, in_batches

seqeval = pytest.importorskip("seqeval.metrics")
scheme_of = pytest.importorskip("seqeval.scheme")

SCHEMES = {"IOB2": "BI", "IOBES": "BIES", "BILOU": "BILU", "IOE2": "IE"}


def rows_of(scheme: str, seed: int) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """All tags of a scheme, references in which each occurs, and predictions that share about half of them."""
    rng = random.Random(f"{scheme}{seed}")
    tags = ["O", *(f"{prefix}-{kind}" for prefix in SCHEMES[scheme] for kind in ("PER", "LOC", "a-b"))]
    true = [rng.sample(tags, len(tags)), *(rng.choices(tags, k=rng.randint(1, 9)) for _ in range(4))]
    found = [[tag if rng.random() < 0.5 else rng.choice(tags) for tag in row] for row in true]
    return tags, true, found


def by_seqeval(true: Any, found: Any, **options: Any) -> dict[str, float]:
    functions = {name: getattr(seqeval, f"{name}_score") for name in RATES}
    prefix = "strict_" if options else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            prefix + name + (f"_{average}" if average != "micro" else ""): functions[name](
                true, found, average=average, **options
            )
            for name in RATES
            for average in ("micro", "macro", "weighted")
        }


def as_iobes(rows: list[list[str]]) -> list[list[str]]:
    return [[tag.replace("L-", "E-").replace("U-", "S-") for tag in row] for row in rows]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_are_seqevals(scheme: str, named: bool) -> None:
    for seed in range(25):
        tags, true, found = rows_of(scheme, seed)
        metrics = Metrics(Spans.names, label_names=tags if named else None, family=Spans)
        in_batches(metrics, [Tagged(row) for row in found], true, 2)
        # seqeval's default mode does not know L and U; they are other names for E and S
        readable = [as_iobes(rows) for rows in (true, found)] if scheme == "BILOU" else [true, found]
        expected = by_seqeval(*readable) | by_seqeval(true, found, mode="strict", scheme=getattr(scheme_of, scheme))
        assert dict(metrics) == pytest.approx(expected | {"accuracy": seqeval.accuracy_score(true, found)}, abs=1e-9)


def test_each_type_is_seqevals() -> None:
    _, true, found = rows_of("IOB2", 0)
    report = seqeval.classification_report(true, found, output_dict=True, zero_division=0)
    table = Metrics(["f1"]).update(found, true).per_class()
    assert list(table) == ["LOC", "PER", "a-b"]
    for kind, row in table.items():
        assert row["f1"] == pytest.approx(report[kind]["f1-score"], abs=1e-9)
        assert [row[key] for key in ("precision", "recall", "support")] == pytest.approx(
            [report[kind][key] for key in ("precision", "recall", "support")], abs=1e-9
        )


def test_equal_neighbours_are_one_span_of_io_tags() -> None:
    true = [["PER", "PER", "O", "LOC", "PER"]]
    found = [["PER", "PER", "O", "O", "PER"]]
    metrics = Metrics(["f1", "recall", "strict_f1"], family=Spans).update(found, true)
    assert metrics["recall"] == pytest.approx(2 / 3)
    assert metrics["strict_f1"] == metrics["f1"] == pytest.approx(0.8)
    assert dict(Metrics(["f1"]).update([["I-PER", "I-PER"]], [["I-PER", "I-PER"]]).per_class()) == {
        "PER": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}
    }


def test_prefixes_are_read_only_where_every_name_has_one() -> None:
    parts = Metrics(["f1"], label_names=["N", "S", "O"], family=Spans).update([["S", "S"]], [["S", "S"]])
    assert list(parts.per_class()) == ["S"]
    assert parts.per_class()["S"]["support"] == 1
    names = Metrics(["f1"], label_names=["S", "O"], family=Spans).update([["S", "S"]], [["S", "S"]])
    assert names.per_class()["_"]["support"] == 2


def test_tags_that_break_their_scheme_are_spans_only_without_strict() -> None:
    metrics = Metrics(["recall", "strict_recall"], label_names=["B-X", "I-X", "O"])
    metrics.update([["O", "I-X"], ["B-X", "I-X"]], [["O", "I-X"], ["B-X", "I-X"]])
    assert metrics.per_class()["X"]["support"] == 2
    assert dict(metrics) == {"recall": 1.0, "strict_recall": 1.0}
    metrics.update([["I-X"]], [["B-X"]])
    assert metrics["recall"] == 1.0
    assert metrics["strict_recall"] == 0.5


def test_no_span_at_all_is_nothing_right() -> None:
    metrics = Metrics(Spans.names, family=Spans).update([["O", "O"], []], [["O", "O"], []])
    assert metrics["accuracy"] == 1.0
    assert all(metrics[name] == 0.0 for name in Spans.names if name != "accuracy")
    assert metrics.per_class() == {}


def test_a_resample_without_a_type_averages_the_others() -> None:
    rows = [["B-X"], ["B-Y"]] * 3
    assert Metrics(["f1_macro"], family=Spans).update(rows, rows).interval("f1_macro", resamples=200) == (1.0, 1.0)


def test_the_family_follows_from_tags() -> None:
    tags = Metrics(["accuracy", "f1_macro"]).update([["B-X", "O"]], [["B-X", "O"]])
    assert tags["accuracy"] == 1.0
    assert list(tags.per_class()) == ["X"]
    labels = Metrics(["accuracy", "f1_macro"]).update([["music", "O"]], [["music", "O"]])
    assert labels + Metrics(["accuracy", "f1_macro"], family=MultiLabel) is not None


def test_a_merge_of_named_and_open_tags() -> None:
    tags, true, found = rows_of("IOBES", 0)
    whole = Metrics(Spans.names, label_names=tags, family=Spans).update(found, true)
    for names in ((tags, None), (None, tags)):
        first, second = (Metrics(Spans.names, label_names=given, family=Spans) for given in names)
        both = first.update(found[:2], true[:2]) + second.update(found[2:], true[2:])
        assert dict(both) == pytest.approx(dict(whole), abs=1e-12)
        assert dict(both.update(found, true)) == pytest.approx(dict(whole), abs=1e-12)


@pytest.mark.parametrize(
    ("found", "true", "error", "message"),
    [
        ([["O"], ["O", "O"]], [["O"], ["O"]], DataError, "row 1: 2 tags predicted for 1 words"),
        (["O"], [["O"]], DataError, "predictions, row 0: expected a list of tags, got 'O'"),
        ([["O"]], [["B-PRE"]], LabelError, "references, row 0: unknown label 'B-PRE': did you mean 'B-PER'"),
    ],
)
def test_rows_that_cannot_be(found: Any, true: Any, error: type[Exception], message: str) -> None:
    metrics = Metrics(["f1"], label_names=["O", "B-PER"], family=Spans)
    with pytest.raises(error, match=message):
        metrics.update(found, true)
    assert metrics.rows == 0
