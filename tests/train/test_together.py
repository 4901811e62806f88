"""Processes that end together, share by cost, and hand each other what they found: against one process, and lists."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import Callback, EarlyStopping, FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.run.identity import digest_of_weights
from sftlib.testing import SENTENCES, FakeProcesses, tiny_model, tiny_tokenizer
from sftlib.train import wire
from sftlib.train.comm import Many, open_comm
from sftlib.train.forward import Forward
from tests.contracts.cases import tuner_for

BOUND = 1e-5  # relative, after some steps of AdamW
OPTIONS: dict[str, Any] = {"batch_size": 6, "micro_batch_size": 2, "epochs": 3, "learning_rate": 1e-3, "seed": 3}
EPOCH = 3  # steps of 16 rows


def rows(count: int = 16) -> TaskDataset:
    texts = [f"{SENTENCES[i % 16]} {i}" for i in range(count)]
    return TaskDataset([{"text": text, "label": ("good", "bad")[i % 2]} for i, text in enumerate(texts)])


class StopSome(Callback):
    """Some processes want to end after a step."""

    def __init__(self, step: int, who: str) -> None:
        self.step = step
        self.who = who

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        comm = open_comm()
        wants = {"all": True, "last": comm.rank == comm.size - 1, "first": comm.rank == 0}[self.who]
        if training.step == self.step and wants:
            training.stop_reason = f"process {comm.rank} has had enough"


class Told(Callback):
    """What each event saw: steps, and the ends of epochs."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.reason: str | None = None

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.events.append(f"step {training.step}")

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self.events.append(f"evaluated after {training.step}")

    def on_fit_end(self, training: Any) -> None:
        self.events.append(f"ended after {training.step}")
        self.reason = training.stop_reason


def ended(step: int, who: str, folder: Path | None = None, **saving: Any) -> dict[str, Any]:
    told = Told()
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), **OPTIONS)
    where = {} if folder is None else {"output_dir": folder, **saving}
    tuner.fit(rows(), rows(5), progress=False, callbacks=[StopSome(step, who), told], **where)
    return {
        "events": told.events,
        "reason": told.reason,
        "losses": [record["loss"] for record in tuner.history.steps],
        "valid": [record["valid_loss"] for record in tuner.history if "valid_loss" in record],
        "weights": digest_of_weights(tuner.model),
    }


@pytest.mark.parametrize("step", [1, 2, EPOCH, EPOCH + 1, 3 * EPOCH])
@pytest.mark.parametrize("who", ["all", "last", "first"])
def test_all_end_after_the_same_step(step: int, who: str) -> None:
    expected = ended(step, "all")
    for size in (2, 4):
        found = FakeProcesses(size).run(lambda: ended(step, who))
        for one in found:
            assert one["events"] == expected["events"]
            assert one == found[0]
            assert one["losses"] == pytest.approx(expected["losses"], rel=BOUND)
            assert one["valid"] == pytest.approx(expected["valid"], rel=BOUND)
            assert one["reason"] == f"process {size - 1 if who == 'last' else 0} has had enough"


@pytest.mark.parametrize("save_every", [None, 1, 2])
@pytest.mark.parametrize("step", [2, EPOCH, EPOCH + 1])
def test_all_end_after_the_same_step_on_disk(step: int, save_every: int | None, tmp_path: Path) -> None:
    found = FakeProcesses(2).run(lambda: ended(step, "last", tmp_path / "run", save_every=save_every))
    assert found[0] == found[1]
    assert found[0]["events"][-1] == f"ended after {step}"
    newest = max(path.name for path in (tmp_path / "run").iterdir() if path.name.startswith("step-"))
    assert newest == f"step-{step:08}"


def test_coupled_batches_end_together_too() -> None:
    """There the others hear of it while they exchange embeddings."""

    def run() -> tuple[int, str]:
        tuner = tuner_for("text-embedding", batch_size=6, micro_batch_size=2, max_steps=4)
        texts = list(SENTENCES)
        data = TaskDataset({"text": texts, "text_pair": [f"{text} again" for text in texts]}, task="text-embedding")
        tuner.fit(data, progress=False, callbacks=[StopSome(2, "last")])
        return len(tuner.history.steps), digest_of_weights(tuner.model)

    (one,) = FakeProcesses(1).run(run)
    found = FakeProcesses(3).run(run)
    assert {steps for steps, _ in found} == {2} == {one[0]}
    assert len({weights for _, weights in found}) == 1


def test_early_stopping_costs_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """All want to end at the same time, as they mostly do: nobody begins another step."""
    begun: set[int] = set()

    def noted(self: Forward, batch: Any, *, step: int) -> Any:
        begun.add(step)
        return original(self, batch, step=step)

    def run() -> int:
        stopping = EarlyStopping(patience=1, min_delta=99)
        tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), early_stopping=stopping, **OPTIONS)
        tuner.fit(rows(), rows(5), progress=False)
        return len(tuner.history.steps)

    original = Forward.train
    monkeypatch.setattr(Forward, "train", noted)
    assert FakeProcesses(2).run(run) == [2 * EPOCH, 2 * EPOCH]
    assert begun == set(range(2 * EPOCH))


def test_a_budget_of_minutes_takes_one_process() -> None:
    with pytest.raises(OptionError, match=r"fit\(minutes=...\) takes one process"):
        FakeProcesses(2).run(
            lambda: FineTuner(tiny_model(), tokenizer=tiny_tokenizer()).fit(rows(), minutes=1, progress=False)
        )


# Sharing.


class Deaf:
    """A channel over which nothing is said."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_rows_are_dealt_out_by_what_they_cost(size: int) -> None:
    drawn = np.random.default_rng(0)
    for _ in range(20):
        costs = drawn.integers(1, 400, 50)
        chosen = drawn.permutation(50)[: drawn.integers(1, 50)]
        shares = [Many(Deaf(rank, size)).share(chosen, costs) for rank in range(size)]  # type: ignore[arg-type]
        assert sorted(np.concatenate(shares).tolist()) == sorted(chosen.tolist()), "each row is one process's"
        loads = [int(costs[share].sum()) for share in shares]
        assert max(loads) - min(loads) <= int(costs[chosen].max()), "nobody has a row too many"


def test_one_long_row_is_enough_for_a_process() -> None:
    costs = np.array([100, 1, 1, 1, 1])
    shares = [Many(Deaf(rank, 2)).share(np.arange(5), costs).tolist() for rank in range(2)]  # type: ignore[arg-type]
    assert shares == [[0], [1, 2, 3, 4]]


# Gradients.


def test_a_parameter_without_gradient_anywhere_keeps_none_and_others_are_added() -> None:
    def add() -> list[Any]:
        comm = open_comm()
        parameters: list[Tensor] = [
            nn.Parameter(torch.zeros(2, 2)),
            nn.Parameter(torch.zeros(3)),
            nn.Parameter(torch.zeros(1)),
        ]
        parameters[0].grad = torch.full((2, 2), float(comm.rank + 1))
        if comm.rank == 1:
            parameters[2].grad = torch.tensor([5.0])
        total, count = comm.add_up([], parameters)
        return [
            float(total),
            float(count),
            *(None if p.grad is None else p.grad.flatten().tolist() for p in parameters),
        ]

    processes = FakeProcesses(3)
    assert processes.run(add) == [[0.0, 0.0, [6.0] * 4, None, [5.0]]] * 3
    assert [exchange.kind for exchange in processes.exchanges] == ["sum", "sum"]


def test_many_buckets_travel_and_arrive() -> None:
    """Of two types, so that neighbours cannot share one; more than are on the way at once."""

    def add() -> list[list[float]]:
        kinds = [torch.float32, torch.float64] * 4
        parameters = [nn.Parameter(torch.zeros(3, dtype=kind)) for kind in kinds]
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.full_like(parameter, float(number + open_comm().rank))
        open_comm().add_up([], parameters)
        return [p.grad.tolist() for p in parameters if p.grad is not None]

    assert FakeProcesses(2).run(add) == [[[2.0 * number + 1] * 3 for number in range(8)]] * 2


# What is handed over.


@dataclasses.dataclass(frozen=True)
class Found:
    """A prediction, as tasks make them."""

    label: str
    score: float
    scores: dict[str, float]
    span: tuple[int, int] | None = None


VALUES = [
    [1, 2, 3, 4, 5],
    [1.5, -0.0, math.inf, 2.0**-1074],
    [True, False, True, True],
    [1, 2**70, 3, 4],
    [1, 2.0, 3, 4],
    [{"a": 1.0, "b": 2}] * 3,
    [{"a": 1}, {"b": 2}],
    [{}, {}],
    [(1, 2.5), (3, 4.5)],
    [(1,), (2, 3)],
    [(), ()],
    [[], [1]],
    [np.arange(3), np.zeros((0, 2), np.float32)],
    np.array(["a", "bcd"]),
    np.array([{"a": 1}, None], dtype=object),
    {1: {2: (3, {4, 5})}, "x": frozenset({b"y"})},
    [Found("good", 0.1 * i, {"good": 0.1 * i, "bad": 1 - 0.1 * i}, (i, i + 1) if i % 2 else None) for i in range(9)],
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_what_arrives_is_what_was_sent(value: Any) -> None:
    assert repr(wire.load(wire.dump(value))) == repr(value)


def test_numbers_travel_as_they_lie_in_memory() -> None:
    """A thousand predictions of two labels: three numbers each, and little else."""
    made = [Found("good", i / 7, {"good": i / 7, "bad": 1 - i / 7}) for i in range(1000)]
    sent = len(wire.dump(made))
    assert sent < 1000 * (3 * 8 + 14) + 500  # 14 for a name and for nothing; once what says where it lies
    assert len(wire.dump(np.zeros((100, 384), np.float32))) < 100 * 384 * 4 + 100
