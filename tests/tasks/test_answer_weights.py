"""Weights of several labels: of no and yes, by hand or balanced; what they sum to, and that they are saved."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from sftlib import (
    FineTuner,
    MultiLabelClassification,
    MultiLabelImageClassification,
    MultiLabelSequenceClassification,
    TaskDataset,
)
from sftlib.encoders.batch import Batch
from sftlib.errors import OptionError
from sftlib.tasks.base import LossSum, Task
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

NAMES = ("rare", "usual", "wide")
BY_HAND = {"rare": 7.5, "usual": 1.0, "wide": 0.25}
TASKS = (MultiLabelClassification, MultiLabelImageClassification, MultiLabelSequenceClassification)


def answers(count: int = 40, seed: int = 0) -> np.ndarray[Any, Any]:
    """(N, 3) no and yes; at least one of each for each label."""
    draw = np.random.default_rng(seed)
    table = (draw.random((count, 3)) < (0.1, 0.5, 0.9)).astype(int)
    table[0], table[1] = 0, 1
    return table


def lists(table: np.ndarray[Any, Any]) -> list[list[str]]:
    return [[name for name, there in zip(NAMES, row, strict=True) if there] for row in table]


def data_for(task: type[Task], table: np.ndarray[Any, Any]) -> TaskDataset:
    """Rows of any kind with these answers."""
    inputs = {
        "multi-label-classification": ("text", [f"{SENTENCES[i % 16]} {i}" for i in range(len(table))]),
        "multi-label-image-classification": (
            "image",
            [np.full((4, 4, 3), i, np.uint8) for i in range(len(table))],
        ),
        "multi-label-sequence-classification": ("sequence", ["AC" * (i + 1) for i in range(len(table))]),
    }
    role, values = inputs[task.name]
    return TaskDataset({role: values, "labels": lists(table)}, label_names=list(NAMES))


def loss_of(task: Task, target: np.ndarray[Any, Any], scores: Tensor) -> LossSum:
    rows = torch.arange(len(target))
    batch = Batch(rows=rows, inputs={}, targets={"target": torch.from_numpy(target)}, cost=rows, notes={})
    return task.loss(SimpleNamespace(logits=scores), batch)


def by_hand(table: np.ndarray[Any, Any], scores: Tensor, weights: list[tuple[float, float]]) -> tuple[float, float]:
    """The sum and the count by a loop over every answer."""
    total, count = 0.0, 0.0
    for row, line in zip(table, scores.tolist(), strict=True):
        for there, score, pair in zip(row, line, weights, strict=True):
            chance = 1 / (1 + np.exp(-score))
            total -= pair[int(there)] * np.log(chance if there else 1 - chance)
            count += pair[int(there)]
    return total, count


def scores_of(table: np.ndarray[Any, Any]) -> Tensor:
    return torch.randn(table.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", TASKS)
def test_balanced_is_what_scikit_learn_makes_of_each_label(kind: type[Task]) -> None:
    table = answers()
    task = kind(class_weights="balanced").learned_from(data_for(kind, table))  # type: ignore[call-arg]
    expected = [tuple(compute_class_weight("balanced", classes=np.array([0, 1]), y=column)) for column in table.T]
    found = task.known.class_weights
    assert np.allclose(found, expected, rtol=1e-12)
    scores = scores_of(table)
    loss = loss_of(task, task.targets(data_for(kind, table)), scores)  # type: ignore[attr-defined]
    total, count = by_hand(table, scores, expected)
    assert float(loss.total) == pytest.approx(total, rel=1e-12)
    assert float(loss.count) == pytest.approx(count, rel=1e-12)
    assert count == pytest.approx(table.size), "each label counts as often as it has rows"


@pytest.mark.parametrize("kind", TASKS)
def test_weights_of_roots_lie_half_way(kind: type[Task]) -> None:
    data = data_for(kind, answers())
    whole, half = (kind(class_weights=name).learned_from(data) for name in ("balanced", "sqrt"))  # type: ignore[call-arg]
    assert np.allclose(np.square(half.known.class_weights), whole.known.class_weights, rtol=1e-12)


@pytest.mark.parametrize("kind", TASKS)
def test_a_weight_by_hand_is_that_of_a_yes(kind: type[Task]) -> None:
    table = answers(seed=1)
    data = data_for(kind, table)
    task = kind(class_weights=BY_HAND).learned_from(data)  # type: ignore[call-arg]
    scores = scores_of(table)
    loss = loss_of(task, task.targets(data), scores)  # type: ignore[attr-defined]
    torchs = torch.nn.BCEWithLogitsLoss(
        pos_weight=torch.tensor(list(BY_HAND.values()), dtype=torch.float64), reduction="sum"
    )
    assert float(loss.total) == pytest.approx(float(torchs(scores, torch.from_numpy(table).double())), rel=1e-12)
    weights = list(BY_HAND.values())
    assert float(loss.count) == sum(weights[k] if there else 1.0 for row in table for k, there in enumerate(row))


@pytest.mark.parametrize("kind", TASKS)
def test_parts_add_up_to_the_whole(kind: type[Task]) -> None:
    table = answers(seed=2)
    data = data_for(kind, table)
    task = kind(class_weights="balanced").learned_from(data)  # type: ignore[call-arg]
    target, scores = task.targets(data), scores_of(table)  # type: ignore[attr-defined]
    whole = loss_of(task, target, scores)
    for cut in (1, 7, 39):
        parts = [loss_of(task, target[some], scores[some]) for some in (slice(None, cut), slice(cut, None))]
        assert float(sum(part.total for part in parts)) == pytest.approx(float(whole.total), rel=1e-12)
        assert float(sum(part.count for part in parts)) == pytest.approx(float(whole.count), rel=1e-12)


@pytest.mark.parametrize("kind", TASKS[:2])
def test_rows_that_were_mixed_count_as_shares_of_both(kind: type[Task]) -> None:
    table, others = answers(seed=3), answers(seed=4)
    task = kind(class_weights=BY_HAND).learned_from(data_for(kind, table))  # type: ignore[call-arg]
    scores = scores_of(table)
    first, second, mixed = (
        loss_of(task, target.astype(np.float64), scores) for target in (table, others, 0.3 * table + 0.7 * others)
    )
    assert float(mixed.total) == pytest.approx(0.3 * float(first.total) + 0.7 * float(second.total), rel=1e-12)
    assert float(mixed.count) == pytest.approx(0.3 * float(first.count) + 0.7 * float(second.count), rel=1e-12)


@pytest.mark.parametrize("option", [None, "balanced", BY_HAND])
def test_units_are_what_the_counts_add_up_to(option: Any) -> None:
    for kind in TASKS[:2]:
        data = data_for(kind, answers(seed=5))
        task = kind(class_weights=option).learned_from(data)  # type: ignore[call-arg]
        loss = loss_of(task, task.targets(data), scores_of(answers(seed=5)))  # type: ignore[attr-defined]
        assert task.units(data) == pytest.approx(float(loss.count), rel=1e-12)


def test_gaps_count_neither_in_the_balance_nor_in_the_loss() -> None:
    toxic, bitter = [1, 0, 0, 0, None, None], [None, 1, 1, 1, 0, 1]
    rows = {"sequence": ["A", "C", "G", "T", "AC", "AG"], "toxic": toxic, "bitter": bitter}
    data = TaskDataset(rows, targets=["toxic", "bitter"])
    task = MultiLabelSequenceClassification(class_weights="balanced", target_weights={"bitter": 3.0})
    task = task.learned_from(data)
    assert task.known.class_weights == ((4 / 6, 4 / 2), (5 / 2, 5 / 8))
    scores = torch.zeros(6, 2, dtype=torch.float64)
    loss = loss_of(task, task.targets(data), scores)
    count = (2 + 3 * 4 / 6) + 3 * (5 / 2 + 4 * 5 / 8)
    assert float(loss.count) == pytest.approx(count, rel=1e-12)
    assert float(loss.total) == pytest.approx(count * np.log(2), rel=1e-12)


def test_a_label_that_all_rows_have_or_none_keeps_its_weight() -> None:
    data = TaskDataset({"text": ["a", "b"], "labels": [["usual"], ["usual", "wide"]]}, label_names=list(NAMES))
    task = MultiLabelClassification(class_weights="balanced").learned_from(data)
    assert task.known.class_weights == ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))


def test_a_rare_label_is_found_where_it_is_weighted_and_the_folder_knows_it(tmp_path: Path) -> None:
    words = np.random.default_rng(0).random(64) < 0.12
    texts = [f"{'zebra' if rare else SENTENCES[i % 16].split()[0]} {i % 9}" for i, rare in enumerate(words)]
    data = TaskDataset({"text": texts, "labels": [["rare"] if rare else [] for rare in words]})

    def chances(**options: Any) -> tuple[FineTuner, float]:
        tuner = FineTuner(
            tiny_model("bert", 1),
            tokenizer=tiny_tokenizer(),
            max_steps=12,
            learning_rate=3e-3,
            precision="fp32",
            **options,
        )
        tuner.fit(data, progress=False)
        return tuner, float(np.mean([p.probabilities["rare"] for p in tuner.predict(data)]))

    plain, usual = chances()
    weighted, raised = chances(class_weights="balanced")
    assert raised > usual + 0.1
    assert plain.history.steps[0]["loss"] != weighted.history.steps[0]["loss"]
    weighted.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert again.get_params()["task"] == MultiLabelClassification(class_weights="balanced")
    assert dict(again.evaluate(data)) == dict(weighted.evaluate(data))


@pytest.mark.parametrize("kind", TASKS)
def test_what_does_not_fit_is_refused_before_anything_is_built(kind: type[Task]) -> None:
    with pytest.raises(OptionError, match="class_weights='balance'"):
        kind(class_weights="balance")  # type: ignore[call-arg]
    with pytest.raises(OptionError, match="-1"):
        kind(class_weights={"rare": -1.0})  # type: ignore[call-arg]
    data = data_for(kind, answers())
    with pytest.raises(OptionError, match="did you mean 'rare'(.|\n)*lacks the label 'usual'"):
        kind(class_weights={"rar": 2.0, "rare": 1.0, "wide": 1.0}).learned_from(data)  # type: ignore[call-arg]
    config = kind(class_weights=BY_HAND).learned_from(data).config()  # type: ignore[call-arg]
    config["learned"]["class_weights"] = [[1.0, 2.0], [1.0], [1.0, "x"]]
    with pytest.raises(OptionError, match="class_weights: expected null, or two numbers"):
        kind.from_config(config)
