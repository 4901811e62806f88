"""The front: names, batching, merging, intervals, tables, errors."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from sftlib.errors import DataError, OptionError
from sftlib.metrics import (
    Answers,
    Classification,
    LanguageModel,
    Metrics,
    MultiLabel,
    Regression,
    Relations,
    Retrieval,
    Spans,
    Texts,
)
from sftlib.metrics.sums import ExactSum
from tests.metrics.makers import (
    TAGS,
    Answer,
    Number,
    Spoken,
    Text,
    embedded,
    in_batches,
    several,
    single,
    softmax,
    tagged,
)

LABELS = ("ant", "bee", "cat")
ROWS = 60
WITHOUT_INTERVAL = {"loss", "log_loss", "brier", "ece", "top_5_accuracy"}


def agreement(references: Any, predictions: Any) -> float:
    return float(np.mean([np.all(true == found) for true, found in zip(references, predictions, strict=True)]))


def rows_of(family: type) -> tuple[list[Any], list[Any]]:
    """Predictions and references."""
    rng = np.random.default_rng(0)
    if family is Regression:
        return [Number(value) for value in rng.standard_normal(ROWS)], rng.standard_normal(ROWS).tolist()
    if family is MultiLabel:
        truth = rng.random((ROWS, 3)) < 0.4
        lists = [[name for name, has in zip(LABELS, row, strict=True) if has] for row in truth]
        return several(LABELS, rng.random((ROWS, 3))), lists
    if family is Retrieval:
        return embedded(rng, ROWS), list(range(ROWS))
    if family in (Answers, Texts, LanguageModel):
        return spoken(family, rng)
    if family is Spans:
        return tagged(rng, ROWS), [row.tags for row in tagged(rng, ROWS)]
    return single(LABELS, softmax(rng, ROWS, 3)), [LABELS[code] for code in rng.integers(0, 3, ROWS)]


def spoken(family: type, rng: np.random.Generator) -> tuple[list[Any], list[Any]]:
    """Predictions and references in words."""
    true, found = ([" ".join(row) for row in rng.choice(LABELS, (ROWS, 3))] for _ in range(2))
    if family is Answers:
        return [Answer(text) for text in found], [[text] if row % 3 else [] for row, text in enumerate(true)]
    if family is Texts:
        return [Text(text) for text in found], true
    return [Spoken(row % 5, 5, text) for row, text in enumerate(found)], true


def everything(family: type, **options: Any) -> Metrics:
    of_two = ("f1", "precision", "recall") if family is Classification else ()
    extra = () if importlib.util.find_spec("sacrebleu") else ("bleu", "ter")
    names = [name for name in family.names if name not in (*of_two, *extra)]
    return Metrics(["loss", *names, agreement], family=family, **options)


FAMILIES = pytest.mark.parametrize(
    "family", [Classification, MultiLabel, Regression, Spans, Relations, Answers, Texts, LanguageModel]
)
NAMED = pytest.mark.parametrize("named", [True, False])


def options_of(family: type, named: bool) -> dict[str, Any]:
    names = {Classification: LABELS, MultiLabel: LABELS, Relations: LABELS, Spans: TAGS}.get(family)
    return {"label_names": names} if named and names else {}


@FAMILIES
@NAMED
def test_any_batching_gives_the_same_values(family: type, named: bool) -> None:
    predictions, references = rows_of(family)
    options = options_of(family, named)
    whole = dict(in_batches(everything(family, **options), predictions, references, ROWS))
    for size in (1, 7, 32):
        parts = dict(in_batches(everything(family, **options), predictions, references, size))
        assert parts == pytest.approx(whole, abs=1e-12)
    assert not any(math.isnan(value) for value in whole.values())


@FAMILIES
@NAMED
def test_a_merge_is_the_whole(family: type, named: bool) -> None:
    predictions, references = rows_of(family)
    options = options_of(family, named)
    whole = in_batches(everything(family, **options), predictions, references, 10)
    first = in_batches(everything(family, **options), predictions[:20], references[:20], 10)
    second = in_batches(everything(family, **options), predictions[20:], references[20:], 10)
    before = dict(first)
    merged = everything(family, **options) + first + second
    assert dict(merged) == pytest.approx(dict(whole), abs=1e-12)
    assert merged.rows == ROWS
    assert merged.label_names == whole.label_names
    assert merged.interval("agreement", resamples=20) == pytest.approx(whole.interval("agreement", resamples=20))
    merged.update(predictions, references)
    assert dict(first) == before, "a merge must not share what it holds with its parts"
    assert dict(second + first) == pytest.approx(dict(whole), abs=1e-9)


def test_labels_that_come_late_are_merged_too() -> None:
    names = ["accuracy", "f1_macro", agreement]
    for rows in (
        (["c", "b"], ["b", "b"], ["a", "d"], ["d", "a"]),
        ([["c"], ["b"]], [["b"], []], [["a"]], [["d", "a"]]),
    ):
        found, true, more_found, more_true = rows
        whole = Metrics(names).update(found, true).update(more_found, more_true)
        merged = Metrics(names).update(found, true) + Metrics(names).update(more_found, more_true)
        assert dict(whole) == pytest.approx(dict(merged))
        assert whole.label_names == merged.label_names == ("a", "b", "c", "d")
        assert whole.confusion_matrix.tolist() == merged.confusion_matrix.tolist()


def test_merges_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="metrics to merge differ"):
        Metrics(["accuracy"]) + Metrics(["mcc"])
    with pytest.raises(DataError, match="label names differ"):
        Metrics(["accuracy"], label_names=("a",)) + Metrics(["accuracy"], label_names=("b",))
    with pytest.raises(DataError, match="rows of classification and of multi-label classification"):
        Metrics(["accuracy"]).update(["a"], ["a"]) + Metrics(["accuracy"]).update([["a"]], [["a"]])
    with pytest.raises(TypeError):
        Metrics(["accuracy"]) + 1  # type: ignore[operator]
    open_one = Metrics(["accuracy"]).update(["a"], ["a"])
    closed = Metrics(["accuracy"], label_names=("a", "b"))
    assert (open_one + closed).label_names == (closed + open_one).label_names == ("a", "b")


def test_the_family_follows_from_names_and_references() -> None:
    assert Metrics(["accuracy"]).update([["a"]], [["a"]]).confusion_matrix.shape == (1, 2, 2)
    assert Metrics(["accuracy"]).update(["a"], ["a"]).confusion_matrix.shape == (1, 1)
    assert Metrics(["loss", agreement]).update([1.5], [1.5]).label_names is None
    assert Metrics([agreement]).update([1], [1]).label_names == (1,)


def test_it_is_a_read_only_mapping() -> None:
    metrics = Metrics(["accuracy", "loss"]).update(["a"], ["b"], 3.0, 2)
    assert isinstance(metrics, Mapping)
    assert list(metrics) == ["accuracy", "loss"]
    assert dict(metrics) == metrics.to_dict() == {"accuracy": 0.0, "loss": 1.5}
    assert all(type(value) is float for value in metrics.values())
    assert json.loads(json.dumps(metrics.to_dict())) == metrics.to_dict()
    assert "accuracy" in metrics
    assert "mcc" not in metrics
    assert metrics.get("mcc") is None
    with pytest.raises(KeyError, match="did you mean 'accuracy'"):
        metrics["acuracy"]
    with pytest.raises(TypeError):
        metrics["accuracy"] = 1.0  # type: ignore[index]


def test_before_any_row_all_is_nan() -> None:
    metrics = Metrics(["loss", "accuracy", agreement], label_names=("a", "b"))
    assert all(math.isnan(value) for value in metrics.values())
    assert str(metrics).splitlines()[-1].split() == ["rows", "0"]
    assert all(math.isnan(end) for end in metrics.interval("accuracy"))
    assert metrics.update([], []).rows == 0
    assert metrics.label_names == ("a", "b")
    for use in (lambda: metrics.confusion_matrix, metrics.per_class, metrics.plot):
        with pytest.raises(DataError, match="no rows have been seen"):
            use()


def test_the_loss_is_exact_whatever_the_batches() -> None:
    losses = np.random.default_rng(0).lognormal(0, 8, 1000).tolist()
    values = set()
    for size in (1, 3, 1000):
        metrics = Metrics("loss")
        for start in range(0, 1000, size):
            batch = losses[start : start + size]
            metrics.update([], [], math.fsum(batch), len(batch))
        values.add(metrics["loss"])
    assert max(values) - min(values) <= 1e-12 * max(values)
    one_by_one = Metrics("loss")
    for loss in losses:
        one_by_one.update([], [], loss, 1)
    assert one_by_one["loss"] == math.fsum(losses) / 1000


def test_exact_sums() -> None:
    assert (ExactSum([1e308]) + ExactSum([1.0]) + ExactSum([-1e308])).value == 1.0
    assert math.isnan(ExactSum([1.0, math.nan, 2.0]).value)
    assert ExactSum([1.0, math.inf]).value == math.inf
    assert math.isnan((ExactSum([math.inf]) + ExactSum([-math.inf])).value)
    assert ExactSum([1e308, 1e308]).value == math.inf
    assert ExactSum([0.0, -0.0]).value == 0.0


def test_functions_get_own_labels_or_numbers() -> None:
    seen: list[Any] = []

    def spy(references: Any, predictions: Any) -> float:
        seen.append((references, predictions))
        return 2

    def macro(references: Any, predictions: Any) -> float:
        return float(f1_score(references, predictions, average="macro"))

    metrics = Metrics([spy, macro, "f1_macro"]).update(["b", "a", "a"], ["b", "b", "a"])
    assert metrics["spy"] == 2.0
    assert metrics["macro"] == pytest.approx(metrics["f1_macro"])
    assert [column.tolist() for column in seen[-1]] == [["b", "b", "a"], ["b", "a", "a"]]
    assert Metrics([spy]).update([["b"]], [["b", "a"]])["spy"] == 2.0
    assert seen[-1] == ([("a", "b")], [("b",)])
    low, high = metrics.interval("macro", resamples=30)
    assert low <= metrics["macro"] <= high


def wrong(references: Any, predictions: Any) -> Any:
    return "much"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["acuracy", "f1_makro"],
            "unknown metric 'acuracy': did you mean 'accuracy'.\nunknown metric 'f1_makro': did you mean",
        ),
        (
            ["accuracy", "mse"],
            "do not go together: 'accuracy' of .* or classification.*; 'mse' of regression",
        ),
        (["accuracy", "accuracy"], "given twice: 'accuracy'"),
        ([lambda references, predictions: 0.0], "a named function"),
        ([3], "expected a name"),
    ],
)
def test_names_that_cannot_be(names: list[Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Metrics(names)


def test_options_that_cannot_be() -> None:
    metrics = Metrics(["accuracy", "loss", wrong]).update(["a"], ["a"])
    with pytest.raises(OptionError, match="no option 'labelnames': did you mean 'label_names'"):
        Metrics(["accuracy"], labelnames=("a",))  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="no option 'losssum'"):
        metrics.update([], [], losssum=1.0)  # type: ignore[call-arg]
    with pytest.raises(OptionError, match=r"wrong\(\) returned 'much', expected a number"):
        metrics["wrong"]
    with pytest.raises(OptionError, match=r"level=95: expected a number between 0 and 1.*\n.*resamples=0"):
        metrics.interval("accuracy", 95, resamples=0)
    with pytest.raises(OptionError, match="interval of 'acuracy': did you mean"):
        metrics.interval("acuracy")
    with pytest.raises(OptionError, match="unknown metric 'mse'"):
        Metrics(["mse"], family=Classification)
    with pytest.raises(OptionError, match="metrics 3: expected names or functions"):
        Metrics(3)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="family='regression': expected a class"):
        Metrics(["loss"], family="regression")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="expected a sequence of labels"):
        Metrics(["accuracy"], label_names="ab")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], ["a", "b"]), "1 predictions for 2 references"),
        (("a", ["a"]), "predictions must be a list"),
        ((["a"], 3), "references must be a list"),
        ((["a"], {"a": 1}), "references must be a list"),
        ((["a"], ["a"], "x", 1), "loss_sum='x'"),
        ((["a"], ["a"], 1.0, -1), "count=-1: it cannot be negative"),
        (([Number(1.0), "a"], ["a", "a"]), "is a Number, not a label"),
    ],
)
def test_updates_that_cannot_be(arguments: tuple[Any, ...], message: str) -> None:
    metrics = Metrics(["accuracy", "loss"])
    with pytest.raises(DataError, match=message):
        metrics.update(*arguments)
    assert metrics.rows == 0
    assert math.isnan(metrics["loss"])


@pytest.mark.parametrize("module", ["pandas", "polars"])
def test_columns_may_be_series(module: str) -> None:
    series = pytest.importorskip(module).Series
    assert Metrics(["accuracy"]).update(series(["a", "b"]), series(["a", "a"]))["accuracy"] == 0.5
    assert Metrics(["accuracy"]).update(series([["a"], ["b"]]), series([["a"], ["a"]]))["accuracy"] == 0.5
    assert Metrics(["mae"]).update(series([1.5, 2.5]), series([1.0, 2.0]))["mae"] == 0.5


def test_predictions_and_labels_do_not_mix() -> None:
    mixed = [*single(LABELS, softmax(np.random.default_rng(0), 2, 3)), "ant"]
    with pytest.raises(DataError, match=r"predictions, row 2: all must be Prediction objects with .label, or none"):
        Metrics(["accuracy"], label_names=LABELS).update(mixed, ["ant"] * 3)


@FAMILIES
def test_every_metric_has_an_interval_or_says_why_not(family: type) -> None:
    metrics = in_batches(everything(family), *rows_of(family), 20)
    for name in metrics:
        if name in WITHOUT_INTERVAL:
            with pytest.raises(OptionError, match="kept as a sum and has no interval"):
                metrics.interval(name)
        else:
            low, high = metrics.interval(name, resamples=20)
            assert low <= high
            assert metrics.interval(name, resamples=20) == (low, high)


def test_intervals_of_accuracy_cover_what_they_should() -> None:
    rng, inside = np.random.default_rng(0), 0
    for seed in range(60):
        right = rng.random(200) < 0.8
        metrics = Metrics(["accuracy"]).update(["a"] * 200, np.where(right, "a", "b"))
        low, high = metrics.interval("accuracy", 0.9, resamples=100, seed=seed)
        inside += low <= 0.8 <= high
    assert 48 <= inside <= 59


def test_an_interval_of_cells_is_one_of_rows() -> None:
    predictions, references = rows_of(Classification)
    metrics = Metrics(["accuracy", agreement]).update(predictions, references)
    assert metrics.interval("accuracy", resamples=4000) == pytest.approx(
        metrics.interval("agreement", resamples=4000), abs=0.02
    )


def test_tables() -> None:
    pandas = pytest.importorskip("pandas")
    metrics = Metrics(["accuracy", "loss"]).update(["a", "b"], ["a", "a"], 1.0, 2)
    frame = metrics.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("list") == {"metric": ["accuracy", "loss"], "value": [0.5, 0.5]}
    assert str(metrics).splitlines()[1] == "accuracy  0.5000"
    assert "<td" in metrics._repr_html_()
    assert repr(metrics) == "Metrics(accuracy=0.5000, loss=0.5000, rows=2)"


def test_the_package_is_light() -> None:
    heavy = "{'torch', 'transformers', 'sklearn', 'scipy', 'pandas', 'matplotlib'}"
    code = f"import sys; from sftlib.metrics import Metrics; Metrics(['f1_macro']); print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
