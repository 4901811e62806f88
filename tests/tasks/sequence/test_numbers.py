"""Numbers of sequences are learned from all that the last layer reads."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from sftlib import FineTuner, Sequence, TaskDataset
from sftlib.models.structure import body_of
from sftlib.testing import tiny_model

ROWS = {"sequence": ["ACGT", "AACC", "GGTA", "TTAA"] * 2, "target": [0.5, 1.0, -1.0, 2.0] * 2}
NUMBERS = TaskDataset(ROWS, alphabet="dna")
LABELS = TaskDataset({"sequence": ROWS["sequence"], "label": ["a", "b"] * 4}, alphabet="dna")


def rates(family: str, data: TaskDataset, **options: Any) -> tuple[set[float], set[float]]:
    """Rates of dropout in the body, and of what stands behind it."""
    tuner = FineTuner(tiny_model(family, 2), inputs=Sequence(alphabet="dna"), max_steps=1, **options)
    model = tuner.fit(data, progress=False).model
    assert model is not None
    body = body_of(model)
    assert body is not None
    inside = set(body.modules())
    drops = [
        module for module in model.modules() if isinstance(module, nn.Dropout) or "Dropout" in type(module).__name__
    ]
    found: Any = {True: set(), False: set()}
    for module in drops:
        found[module in inside].add(getattr(module, "p", getattr(module, "drop_prob", None)))
    return found[True], found[False]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "albert", "distilbert"])
def test_no_part_of_a_number_is_left_out(family: str) -> None:
    inside, behind = rates(family, NUMBERS)
    assert inside == {0.1}
    assert behind == {0.0}
    assert rates(family, LABELS)[1] == {0.1}
    assert rates(family, NUMBERS, dropout=0.2)[1] == {0.2}, "whoever asks for dropout has it everywhere"
