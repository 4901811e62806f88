"""`FineTuner.self_check`: holds for what the library does, and notices when it is broken."""

from __future__ import annotations

from typing import Any

import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.tasks.base import LossSum
from sftlib.tasks.text.classification import TextClassification
from sftlib.testing import tiny_model, tiny_tokenizer
from sftlib.train.inference import Inference

DATA = TaskDataset([{"text": f"film {'good ' * (i % 7)}number {i}", "label": i % 3} for i in range(40)])


def tuner(family: str = "bert") -> FineTuner:
    return FineTuner(tiny_model(family, dropout=0.1), tokenizer=tiny_tokenizer(family), learning_rate=1e-3)


def failing(report: Any) -> set[str]:
    return {check.name for check in report if not check.holds}


@pytest.mark.parametrize("family", ["bert", "mpnet", "llama"])
def test_every_check_holds(family: str) -> None:
    report = tuner(family).self_check(DATA)
    assert report.holds, str(report)
    assert len(report) >= 8
    assert "every check holds (fp32)" in str(report)
    assert report.to_dict()["holds"]
    assert "<table>" in report._repr_html_()


def test_the_tuner_is_not_changed() -> None:
    ours = tuner()
    before = ours.get_params()
    ours.self_check(DATA)
    assert ours.get_params() == before
    assert ours.task is None, "nothing was fitted"


def test_a_task_that_returns_means_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TextClassification.loss

    def mean(self: TextClassification, outputs: Any, batch: Any) -> LossSum:
        total, count = right(self, outputs, batch)
        return LossSum(total / count, count / count)

    monkeypatch.setattr(TextClassification, "loss", mean)
    report = tuner().self_check(DATA)
    assert not report.holds
    assert "micro-batches of 3 rows" in failing(report), "2 means of 3 rows and 1 of 2 are not the mean of 8"
    assert "NOT every check holds" in str(report)


def test_an_evaluation_that_depends_on_its_batch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TextClassification.loss

    def biased(self: TextClassification, outputs: Any, batch: Any) -> LossSum:
        total, count = right(self, outputs, batch)
        return LossSum(total * (1 + 0.01 * len(batch.rows)), count)

    monkeypatch.setattr(TextClassification, "loss", biased)
    assert "evaluation batch of 1 row" in failing(tuner().self_check(DATA))


def test_predictions_out_of_order_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Inference.predict
    monkeypatch.setattr(Inference, "predict", lambda self, *given: right(self, *given)[::-1])
    assert "order of the inputs" in failing(tuner().self_check(DATA.select([0, 4, 8, 13, 21, 22, 30])))
