"""`FineTuner.plan`: the right rows, steps and ways; the times are whatever they are."""

from __future__ import annotations

import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.errors import DataError
from sftlib.testing import tiny_model, tiny_tokenizer

ROWS = [{"text": f"film {'good ' * (i % 9)}number {i}", "label": i % 2} for i in range(50)]


def test_plan() -> None:
    tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), batch_size=8, epochs=3, freeze=1)
    before = tuner.get_params()
    plan = tuner.plan(TaskDataset(ROWS))
    assert plan.steps == 21
    assert plan.report.train.rows == 50
    assert [way.name for way in plan.ways] == ["everything", "as asked: freeze=1", "head only: freeze='backbone'"]
    everything, some, head = (way.parameters for way in plan.ways)
    assert everything == sum(p.numel() for p in tiny_model("bert").parameters())
    assert everything > some > head == 2 * 32 + 2
    for way in plan.ways:
        assert way.step_seconds > 0
        assert way.total_seconds >= 21 * way.step_seconds
    assert "head only" in str(plan)
    assert "<table>" in plan._repr_html_()
    assert len(plan.to_dict()["ways"]) == 3
    assert tuner.get_params() == before
    assert tuner.task is None, "nothing was fitted"


def test_rows_ordered_by_class_still_have_two_labels() -> None:
    ordered = sorted(ROWS, key=lambda row: (row["label"], len(row["text"])))
    tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), batch_size=4, max_steps=5)
    assert tuner.plan(TaskDataset(ordered)).steps == 5


def test_unlabelled_rows_are_refused() -> None:
    with pytest.raises(DataError, match="plan"):
        FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer()).plan(TaskDataset({"text": ["a"]}))
