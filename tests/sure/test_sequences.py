"""Intervals of numbers of sequences."""

from __future__ import annotations

from typing import Any

import pytest

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.errors import OptionError

GENES = [f"{'ACGT'[i % 4] * (i % 7 + 1)}{'GATC'[i % 3] * (i % 5 + 1)}{'AC' * (i // 8)}" for i in range(60)]


def tuner() -> FineTuner:
    options: dict[str, Any] = {"precision": "fp32", "device": "cpu", "seed": 0, "max_steps": 4, "batch_size": 8}
    return FineTuner("new:encoder", inputs=Sequence(alphabet="dna"), **options)


def test_one_target_has_intervals_that_hold_what_was_promised() -> None:
    data = TaskDataset({"sequence": GENES, "target": [float(len(gene)) for gene in GENES]}, alphabet="dna")
    learned, valid = data.select(range(30)), data.select(range(30, 60))
    model = tuner().fit(learned, progress=False)
    promised = model.conform(valid, level=0.8)
    found = model.predict(valid, sets=True)
    for one in found:
        assert one.high - one.value == pytest.approx(promised.threshold)
        assert one.value - one.low == pytest.approx(promised.threshold)
    held = sum(one.low <= true <= one.high for one, true in zip(found, valid.column("target"), strict=True))
    assert held >= 0.8 * len(valid)
    with pytest.raises(OptionError, match="without views"):
        model.predict(GENES[:2], views="shift", sets=True)


def test_several_targets_have_none() -> None:
    lengths = [float(len(gene)) for gene in GENES]
    data = TaskDataset({"sequence": GENES, "a": lengths, "b": lengths}, targets=["a", "b"], alphabet="dna")
    model = tuner().fit(data.select(range(30)), progress=False)
    with pytest.raises(OptionError, match="one label a row, or with numbers; not sequence-regression"):
        model.conform(data.select(range(30, 60)))
