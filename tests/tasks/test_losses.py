"""The losses of the three text tasks against torch's own means, and class weights against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sftlib import TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import OptionError
from sftlib.tasks import find_task
from sftlib.tasks.base import Task
from sftlib.tasks.text.classification import TextClassification
from sftlib.tasks.text.multi_label import MultiLabelClassification
from sftlib.tasks.text.regression import TextRegression
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

NAMES = ("a", "b", "c", "d")
ROWS = 24


def labels(seed: int = 0) -> list[str]:
    """Unequal shares of four labels, each present."""
    drawn = np.random.default_rng(seed).choice(4, ROWS, p=[0.55, 0.25, 0.15, 0.05])
    drawn[:4] = range(4)
    return [NAMES[k] for k in drawn]


def scores(outputs: int) -> Tensor:
    """(N, K) what a model might say, in float64."""
    return 3 * torch.randn(ROWS, outputs, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def loss_of(task: Task, data: TaskDataset, outputs: Tensor) -> tuple[Tensor, Tensor]:
    total, count = task.loss(outputs, batch_of(task, data))
    return total, count


def batch_of(task: Task, data: TaskDataset) -> Batch:
    return task.collate(task.encode(data, encoder_for()), np.arange(len(data)), encoder_for())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, {"a": 0.5, "b": 2.0, "c": 1.0, "d": 7.0}, {"a": 1, "b": 0, "c": 1, "d": 1}])
def test_cross_entropy(weights: dict[str, float] | None, smoothing: float) -> None:
    data = TaskDataset({"text": ["x"] * ROWS, "label": labels()})
    task = TextClassification(class_weights=weights, label_smoothing=smoothing).learned_from(data)
    outputs = scores(4)
    target = torch.tensor([NAMES.index(label) for label in labels()])
    given = None if weights is None else torch.tensor([float(weights[name]) for name in NAMES], dtype=torch.float64)
    expected = functional.cross_entropy(outputs, target, weight=given, label_smoothing=smoothing)
    total, count = loss_of(task, data, outputs)
    assert float(total) / float(count) == pytest.approx(float(expected), rel=1e-12)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    data = TaskDataset({"text": ["x"] * ROWS, "label": labels()})
    task = TextClassification(class_weights="balanced").learned_from(data)
    expected = compute_class_weight("balanced", classes=np.array(NAMES), y=labels())
    assert task.known.class_weights == pytest.approx(expected.tolist(), rel=1e-12)
    _, count = loss_of(task, data, scores(4))
    assert float(count) == pytest.approx(ROWS, rel=1e-6)  # what "balanced" means: the weights of all rows sum to N


def test_weights_of_roots_lie_half_way() -> None:
    data = TaskDataset({"text": ["x"] * ROWS, "label": labels()})
    whole, half = (TextClassification(class_weights=name).learned_from(data) for name in ("balanced", "sqrt"))
    assert half.known.class_weights == pytest.approx([weight**0.5 for weight in whole.known.class_weights or ()])


def test_equal_weights_are_no_weights() -> None:
    data = case_of("text-classification").data()
    plain = tuner_for("text-classification", max_steps=4).fit(data, progress=False)
    equal = dict.fromkeys(("bad", "good", "so-so"), 3.0)
    weighted = tuner_for("text-classification", max_steps=4, class_weights=equal).fit(data, progress=False)
    assert losses(weighted) == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1.0}, "lacks the label 'b'"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 1.0}, "no label 'e'"),
        ({"a": -1.0, "b": 1.0, "c": 1.0, "d": 1.0}, "at least 0"),
        ({"a": float("nan"), "b": 1.0, "c": 1.0, "d": 1.0}, "at least 0"),
        ({"a": "1", "b": 1.0, "c": 1.0, "d": 1.0}, "at least 0"),
        (dict.fromkeys(NAMES, 0.0), "nothing would be learned"),
        ("balance", "balanced"),
        (3, "balanced"),
    ],
)
def test_weights_that_cannot_be(weights: Any, message: str) -> None:
    data = TaskDataset({"text": ["x"] * ROWS, "label": labels()})
    with pytest.raises(OptionError, match=message):
        TextClassification(class_weights=weights).learned_from(data)


def test_binary_cross_entropy() -> None:
    sets = [[name for bit, name in enumerate(NAMES) if i >> bit & 1] for i in range(ROWS)]
    data = TaskDataset({"text": ["x"] * ROWS, "labels": sets})
    task = MultiLabelClassification().learned_from(data)
    outputs = scores(4)
    target = torch.tensor([[float(name in row) for name in NAMES] for row in sets], dtype=torch.float64)
    total, count = loss_of(task, data, outputs)
    expected = functional.binary_cross_entropy_with_logits(outputs, target)
    assert float(total) / float(count) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("delta", [None, 0.1, 1.0, 50.0])
def test_squared_error_and_hubers(delta: float | None) -> None:
    values = (np.random.default_rng(1).integers(-512, 512, ROWS) / 128).tolist()  # exact in fp32
    data = TaskDataset({"text": ["x"] * ROWS, "target": values})
    task = TextRegression(huber_delta=delta).learned_from(data)
    outputs, target = scores(1), torch.tensor(values, dtype=torch.float64)[:, None]
    mse, huber = functional.mse_loss(outputs, target), functional.huber_loss(outputs, target, delta=delta or 1.0)
    total, count = loss_of(task, data, outputs)
    assert float(total) / float(count) == pytest.approx(float(mse if delta is None else huber), rel=1e-12)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan"), "x", True])
def test_deltas_that_cannot_be(delta: Any) -> None:
    with pytest.raises(OptionError, match="huber_delta"):
        TextRegression(huber_delta=delta)


LOSSES = [
    (name, task)
    for name in ("text-classification", "multi-label-classification", "text-regression")
    for task in case_of(name).tasks
]


@pytest.mark.parametrize(("name", "task"), LOSSES, ids=str)
def test_gradients(name: str, task: Task) -> None:
    data = case_of(name).data()
    task = task.learned_from(data)
    batch = batch_of(task, data)
    outputs = case_of(name).fake(task, batch).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: task.loss(scores, batch)[0], (outputs,), atol=1e-7)


@pytest.mark.parametrize("name", ["text-classification", "multi-label-classification", "text-regression"])
def test_gradients_in_closed_form(name: str) -> None:
    """Softmax minus target, sigmoid minus target, twice the error."""
    case = case_of(name)
    task = find_task(name)().learned_from(case.data())
    outputs = case.fake(task, batch_of(task, case.data())).requires_grad_()
    total, _ = loss_of(task, case.data(), outputs)
    total.backward()
    z = outputs.detach()
    if name == "text-classification":
        names = sorted(set(case.columns["label"]))
        expected = z.softmax(-1) - functional.one_hot(torch.tensor([names.index(x) for x in case.columns["label"]]))
    elif name == "multi-label-classification":
        hot = torch.tensor([[float(k in row) for k in ("fun", "long", "sad")] for row in case.columns["labels"]])
        expected = z.sigmoid() - hot
    else:
        expected = 2 * (z - torch.tensor(case.columns["target"])[:, None])
    assert outputs.grad is not None
    assert torch.allclose(outputs.grad, expected.double(), atol=1e-9, rtol=0)


def test_predictions_of_single_labels() -> None:
    data = TaskDataset({"text": ["x", "y"], "label": ["no", "yes"]})
    task = TextClassification().learned_from(data)
    encoded = task.encode(data, encoder_for())
    batch = task.collate(encoded, np.arange(2), encoder_for())
    first, second = task.decode(torch.tensor([[0.0, 2.0], [1.0, 0.0]]), batch)
    assert (first.label, second.label) == ("yes", "no")
    assert first.probability == pytest.approx(1 / (1 + np.exp(-2)))
    assert first.probabilities == pytest.approx({"no": 1 / (1 + np.exp(2)), "yes": 1 / (1 + np.exp(-2))})
    assert "yes" in repr(first)


def test_predictions_of_several_labels() -> None:
    data = TaskDataset({"text": ["x", "y", "z"], "labels": [["a"], ["b"], []]})
    task = MultiLabelClassification().learned_from(data)
    batch = task.collate(task.encode(data, encoder_for()), np.arange(3), encoder_for())
    found = task.decode(torch.tensor([[0.0, -0.1], [3.0, 4.0], [-1.0, -2.0]]), batch)
    assert [p.labels for p in found] == [("a",), ("a", "b"), ()]
    assert found[1].probabilities == pytest.approx({"a": 1 / (1 + np.exp(-3)), "b": 1 / (1 + np.exp(-4))})
