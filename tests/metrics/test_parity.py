"""Parity plots: a panel for each target, gaps left out, intervals where they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sftlib.errors import OptionError
from sftlib.metrics import Metrics, TargetNumbers, parity_plot
from sftlib.tasks.regression import Regression
from sftlib.tasks.sequence.regression import Values

pytest.importorskip("matplotlib")

TRUE = [{"a": 1.0, "b": None}, {"a": 2.0, "b": 30.0}, {"a": None, "b": 50.0}]
FOUND = [Values({"a": 1.5, "b": 9.0}), Values({"a": 2.5, "b": 31.0}), Values({"a": 9.0, "b": 52.0})]


def dots(axes: Any) -> Any:
    return np.asarray(axes.collections[0].get_offsets()).tolist()


def of_metrics() -> Any:
    metrics = Metrics(["rmse"], family=TargetNumbers.of(("a", "b")))
    metrics.update(FOUND, TRUE)
    return metrics.plot()


def test_each_target_has_a_panel_without_its_gaps() -> None:
    for axes in (parity_plot(FOUND, TRUE), of_metrics()):
        first, second = axes.figure.axes
        assert dots(first) == [[1.0, 1.5], [2.0, 2.5]]
        assert dots(second) == [[30.0, 31.0], [50.0, 52.0]]
        assert [own.get_title() for own in (first, second)] == ["a: 2 rows", "b: 2 rows"]


def test_intervals_are_lines_and_their_share_is_said() -> None:
    axes: Any = parity_plot([Regression(1.0, 0.5, 1.5), Regression(2.0, 1.0, 3.0)], [1.2, 3.5])
    lines = axes.collections[1].get_segments()
    assert [segment.tolist() for segment in lines] == [[[1.2, 0.5], [1.2, 1.5]], [[3.5, 1.0], [3.5, 3.0]]]
    assert axes.get_title() == "2 rows, 50.0% in their interval"
    assert parity_plot([Regression(1.0)], [2.0]).get_title() == "1 rows"


def test_other_predictions_are_refused() -> None:
    with pytest.raises(OptionError, match="1 predictions and 2 references"):
        parity_plot([Regression(1.0)], [1.0, 2.0])
    with pytest.raises(OptionError, match="predictions of a regression"):
        parity_plot(["a"], [1.0])
