"""Coupled batches cut, and shared by processes: the loss and the gradient of the whole.

In float64 they are equal to 1e-12, so the method is exact. In fp32 the bound is 1e-6 for the loss that couples a batch;
triplets and cosines of a random model, whose texts all lie together, are differences of nearly equal numbers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sftlib import TaskDataset
from sftlib.run.assemble import assemble
from sftlib.run.choose import choose_task
from sftlib.run.settle import settled
from sftlib.testing import SENTENCES
from sftlib.train.comm import Alone, Comm
from sftlib.train.coupled import Coupled
from sftlib.train.plan import Budget, ShuffledPlan
from tests.contracts.cases import tuner_for

BATCH = 64
TEXTS = [f"{text} {number}" for number in range(4) for text in SENTENCES]
PAIRS = [f"{text} again" for text in TEXTS]


def data_of(loss: str) -> TaskDataset:
    more: dict[str, Any] = {
        "in-batch": {},
        "triplet": {"text_negative": PAIRS[1:] + PAIRS[:1]},
        "cosine": {"score": np.linspace(-0.9, 0.9, BATCH).tolist()},
    }[loss]
    return TaskDataset({"text": TEXTS, "text_pair": PAIRS, **more}, task="text-embedding")


class Part(Alone):  # type: ignore[misc]
    """One of several processes, which is told what the others say."""

    def __init__(self, rank: int, size: int, said: Sequence[list[Tensor]]) -> None:
        self.rank, self.size = rank, size
        self._said = iter(zip(*said, strict=True)) if said else iter(())
        self.own: list[Tensor] = []

    def share(self, rows: Any, costs: Any) -> Any:
        return rows[np.argsort(-costs[rows], kind="stable")][self.rank :: self.size]

    def collect(self, values: Tensor) -> list[Tensor]:
        self.own.append(values)
        return list(next(self._said, [values]))


class _HeardError(Exception):
    """A process has said which rows are its own."""


def run(
    loss: str, rows: int, comm: Comm | None = None, *, padding_free: bool = False, exact: bool = False
) -> tuple[list[Any], dict[str, Tensor]]:
    """Sums and gradients of one process in one step, dropout on."""
    data = data_of(loss)
    tuner = tuner_for("text-embedding", batch_size=BATCH, padding_free=padding_free)
    task = choose_task(tuner._arguments, data, None)
    fitted = replace(assemble(tuner._arguments, tuner._source, task), comm=comm or Alone())
    if exact:
        fitted.model.double()
    fitted = settled(fitted, fitted.encode(data))
    plan = ShuffledPlan(BATCH, batch_size=BATCH, seed=0)
    feed = fitted.feed(fitted.encode(data), Budget(rows, 2**62), plan=plan)
    forward = fitted.forward()
    fitted.model.train()
    with forward.prepared():
        sums = Coupled(forward, task, feed, comm or Alone())(0)
    grads = {name: p.grad.clone() for name, p in fitted.model.named_parameters() if p.grad is not None}
    return sums, grads


def shared(loss: str, rows: int, size: int, *, exact: bool) -> tuple[list[Any], dict[str, Tensor]]:
    """The same over several processes: first each is heard, then each is told what all have said."""
    said = []
    for rank in range(size):
        listener = Part(rank, size, [])
        with contextlib.suppress(IndexError, RuntimeError):  # it hears only itself
            run(loss, rows, listener, exact=exact)
        said.append(listener.own[:1])
    numbers = [numbers_of(rank, size) for rank in range(size)]
    told = [[own[0], rows_of] for own, rows_of in zip(said, numbers, strict=True)]
    sums: list[Any] = []
    total: dict[str, Tensor] = {}
    for rank in range(size):
        found, grads = run(loss, rows, Part(rank, size, told), exact=exact)
        sums += found
        for name, grad in grads.items():
            total[name] = total.get(name, torch.zeros_like(grad)) + grad
    return sums, total


def numbers_of(rank: int, size: int) -> Tensor:
    """The rows that a process computes, in its order."""
    collected: list[Tensor] = []

    class Listener(Part):
        def collect(self, values: Tensor) -> list[Tensor]:
            collected.append(values)
            if len(collected) == 2:
                raise _HeardError
            return [values]

    with contextlib.suppress(_HeardError):
        run("in-batch", 16, Listener(rank, size, []))
    return collected[1]


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The relative difference of two gradients as one vector."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[name] - value).double().square().sum()) for name, value in expected.items())
    return float((difference / sum(float(value.double().square().sum()) for value in expected.values())) ** 0.5)


@pytest.fixture(scope="module")
def whole() -> Callable[..., Any]:
    return functools.cache(lambda loss, **options: run(loss, BATCH, **options))


@pytest.mark.parametrize("rows", [16, 4, 1, 7])
@pytest.mark.parametrize("loss", ["in-batch", "triplet", "cosine"])
def test_27_a_batch_of_64_cut_in_float64(loss: str, rows: int, whole: Any) -> None:
    (expected,), gradient = whole(loss, exact=True)
    (found,), cut = run(loss, rows, exact=True)
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-12)
    assert float(found.count) == float(expected.count)
    assert apart(cut, gradient) <= 1e-12


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("rows", [16, 4, 1])
def test_27_a_batch_of_64_cut(rows: int, padding_free: bool, whole: Any) -> None:
    (expected,), gradient = whole("in-batch", padding_free=padding_free)
    (found,), cut = run("in-batch", rows, padding_free=padding_free)
    assert float(found.total) == pytest.approx(float(expected.total), rel=1e-6)
    assert apart(cut, gradient) <= 1e-6


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("exact", "bound"), [(True, 1e-12), (False, 2e-6)])
def test_27_a_batch_of_64_over_processes(size: int, exact: bool, bound: float, whole: Any) -> None:
    (expected,), gradient = whole("in-batch", exact=exact)
    (found,), summed = shared("in-batch", 16, size, exact=exact)
    assert float(found.total) == pytest.approx(float(expected.total), rel=min(bound, 1e-6))
    assert apart(summed, gradient) <= bound
