"""Each picture is drawn; how they look is for people to judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib.metrics import Metrics

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def labelled(labels: int, rows: int = 400) -> Metrics:
    rng = np.random.default_rng(0)
    names = [f"label {number:02d}" for number in range(labels)]
    true = rng.integers(0, labels, rows)
    found = np.where(rng.random(rows) < 0.7, true, rng.integers(0, labels, rows))
    return Metrics(["accuracy"], label_names=names).update(
        [names[code] for code in found], [names[code] for code in true]
    )


def sets() -> Metrics:
    return Metrics(["f1_macro"]).update([["a"], ["$b$", "c"], []], [["a", "c"], ["$b$"], ["c"]])


def tags() -> Metrics:
    return Metrics(["f1"]).update([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])


def texts() -> Metrics:
    return Metrics(["exact_match", "chrf", "error_rate"]).update(["a b"], ["a c"])


def numbers(rows: int) -> Metrics:
    rng = np.random.default_rng(0)
    true = rng.standard_normal(rows)
    return Metrics(["mse"]).update(true + 0.3 * rng.standard_normal(rows), true)


@pytest.mark.parametrize(
    "metrics",
    [labelled(2), labelled(20), labelled(77), sets(), numbers(300), numbers(6000), tags(), texts()],
    ids=["two", "twenty", "seventy-seven", "sets", "dots", "hexagons", "tags", "texts"],
)
def test_every_family_draws(metrics: Metrics, tmp_path: Path) -> None:
    axes = metrics.plot()
    axes.figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


@pytest.mark.parametrize(("labels", "texts"), [(3, 9), (20, 400), (21, 0)])
def test_counts_are_written_while_they_fit(labels: int, texts: int) -> None:
    assert len(labelled(labels).plot().texts) == texts


def test_axes_of_ones_own() -> None:
    axes: Any = pyplot.subplots()[1]
    assert labelled(2).plot(axes=axes) is axes


def test_predictions_that_are_not_finite_are_said() -> None:
    metrics = Metrics(["mse"]).update([1.0, float("nan")], [1.0, 2.0])
    assert metrics.plot().get_title() == "2 rows, 1 not finite"
