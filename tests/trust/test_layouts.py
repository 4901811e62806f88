"""9, 11, 12: however an effective batch is cut or laid out, loss, gradients, metrics and predictions are the same.

Loss and gradient are compared at equal weights, in fp32, with dropout on: what is left is the order of summation.
Where each gradient is compared with its own size, one that is nothing but rounding (a key's bias moves no attention) is
compared with a thousandth of the largest.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import pytest
from torch import Tensor

from sftlib import FineTuner
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.models.layouts.layout import Flat, Padded
from sftlib.run.assemble import assemble
from sftlib.run.settle import settled
from sftlib.train.backward import Separate
from sftlib.train.comm import Alone
from sftlib.train.coupled import Coupled
from sftlib.train.plan import Budget, ShuffledPlan
from tests.contracts.cases import NAMES, case_of, having, task_class, tuner_for
from tests.trust.conftest import Figure
from tests.versions import lies_flat, requires_flat

BOUND = 1e-6
NOISE = 1e-3  # of the largest gradient; what is smaller has no digits of its own
ROWS = 29  # a prime: every cut leaves an uneven rest
FAMILIES = ("bert", "distilbert", "modernbert", "gpt2", "llama")  # with layouts of both kinds
GRIDS = [pytest.param(False, id="thinned"), pytest.param(True, id="whole", marks=pytest.mark.slow)]


class Sums(NamedTuple):
    """Of one effective batch, not divided."""

    total: float
    count: float
    gradients: dict[str, Tensor]
    layout: str


def sums(name: str, family: str, cut: int, *, padding_free: bool | str = "auto", **options: Any) -> Sums:
    """Loss and gradient of the same rows at the same weights and the same step, cut as asked."""
    tuner = tuner_for(name, family, padding_free=padding_free, **options)
    data = case_of(name).data()
    arguments = tuner._arguments
    fitted = assemble(arguments, tuner._source, arguments.learning(task_class(name)).learned_from(data))
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    forward, plan = fitted.forward(), ShuffledPlan(len(encoded), batch_size=ROWS, seed=0)
    feed = fitted.feed(encoded, Budget(cut, 2**62), plan=plan)
    coupled = Coupled(forward, fitted.task, feed, Alone())
    backward = coupled if fitted.task.couples_rows else Separate(forward, fitted.task, feed)
    fitted.model.train()
    with forward.prepared():
        parts = [(total.double(), count.double()) for total, count in backward(0)]
    total, count = (float(sum(numbers)) for numbers in zip(*parts, strict=True))
    found = {key: p.grad.clone() for key, p in fitted.model.named_parameters() if p.grad is not None}
    return Sums(total, count, found, fitted.settings["layout"])


def whole_apart(left: Sums, right: Sums) -> float:
    """The larger relative difference of loss and gradient, the gradient taken as one vector."""
    assert left.gradients.keys() == right.gradients.keys()
    assert left.count == pytest.approx(right.count, rel=BOUND)
    size = sum(float(value.double().pow(2).sum()) for value in left.gradients.values()) ** 0.5
    squares = [(left.gradients[key] - right.gradients[key]).double().pow(2).sum() for key in left.gradients]
    return max(float(sum(squares)) ** 0.5 / size, abs(left.total - right.total) / abs(left.total))


def worst(left: Sums, right: Sums) -> float:
    """The largest relative difference of loss and any gradient."""
    assert left.gradients.keys() == right.gradients.keys()
    floor = NOISE * max(float(value.norm()) for value in left.gradients.values())
    apart = [
        float((value - right.gradients[key]).norm()) / max(float(value.norm()), floor)
        for key, value in left.gradients.items()
    ]
    return max([*apart, abs(left.total - right.total) / abs(left.total)])


WORST: dict[str, float] = {}


def within(apart: float, what: str, figure: Figure) -> None:
    """Hold a difference to the bound, and note the largest of all."""
    WORST[what] = max(WORST.get(what, 0.0), apart)
    figure(what, f"{WORST[what]:.1e}")
    assert apart <= BOUND


@pytest.mark.parametrize("whole_grid", GRIDS)
@pytest.mark.parametrize(("name", "family"), having(("distilbert", "gpt2")))
def test_09_accumulation(name: str, family: str, whole_grid: bool, figure: Figure) -> None:
    for number, task in enumerate(case_of(name).tasks):
        whole = sums(name, family, ROWS, task=task)
        for cut in (1, 4, 16) if whole_grid or not number else (4,):
            apart = whole_apart(whole, sums(name, family, cut, task=task))
            within(apart, "loss and gradient, cut into 1, 4 or 16 rows", figure)


def test_09_dropout_is_on() -> None:
    on, off = (sums(NAMES[0], "distilbert", 8, **options) for options in ({}, {"dropout": 0.0}))
    assert whole_apart(on, off) > 1e-3


@functools.cache
def fitted(name: str, family: str) -> FineTuner:
    """A tuner whose predictions differ by far more than rounding; not to be fitted again."""
    return tuner_for(name, family, max_steps=10, learning_rate=1e-2, warmup=0).fit(case_of(name).data(), progress=False)


def laid_out(tuner: FineTuner, *, padding_free: bool, padding_side: str) -> FineTuner:
    """The same model, with another layout and another opinion of its tokenizer, where it reads texts."""
    before = tuner._fitted
    assert before is not None
    twin, encoder = tuner.clone(), before.encoder
    if isinstance(encoder, TextEncoder):
        encoder = TextEncoder(encoder.tokenizer, encoder.max_length)
        encoder.tokenizer.padding_side = padding_side
    settings = {**before.settings, "padding_free": padding_free}
    twin._fitted = dataclasses.replace(before, layout=None, settings=settings, encoder=encoder)
    return twin


#: Layout and padding side -> batch sizes: of any two of the three, every pair.
PAIRWISE = {(True, "left"): (5, 1), (True, "right"): (64,), (False, "left"): (64,), (False, "right"): (5, 1)}


@pytest.mark.parametrize("whole_grid", GRIDS)
@pytest.mark.parametrize(("name", "family"), having(("bert", "gpt2")))
def test_11_evaluation(name: str, family: str, whole_grid: bool, figure: Figure) -> None:
    """Against batch size, order, padding side and layout; number 10 varies the processes."""
    case, tuner = case_of(name), fitted(name, family)
    data = case.data()
    order = np.random.default_rng(3).permutation(len(data)).tolist()
    metrics = dict(tuner.evaluate(data, batch_size=1))
    numbers = [case.numbers(one) for one in tuner.predict(data, batch_size=1)]
    for (padding_free, padding_side), sizes in PAIRWISE.items():
        other = laid_out(tuner, padding_free=padding_free, padding_side=padding_side)
        for size in (1, 5, 64) if whole_grid else sizes:
            found = dict(other.evaluate(data.select(order), batch_size=size))
            assert found.keys() == metrics.keys()
            apart = [abs(found[key] - value) / max(1.0, abs(value)) for key, value in metrics.items()]
            within(max(apart), "metrics, absolute, of those above 1 relative", figure)
            predicted = [case.numbers(one) for one in other.predict(data.select(order), batch_size=size)]
            pairs = zip(predicted, (numbers[row] for row in order), strict=True)
            apart = [abs(x - y) for left, right in pairs for x, y in zip(left, right, strict=True)]
            within(max(apart, default=0.0), "numbers in predictions, absolute", figure)
        if family in FAMILIES and lies_flat(family):
            assert other.settings["layout"] == (Flat if padding_free else Padded).name


@pytest.mark.parametrize(("name", "family"), [pair for pair in having(FAMILIES) if pair[1] in FAMILIES])
def test_12_rows_end_to_end_against_padded(name: str, family: str, figure: Figure) -> None:
    requires_flat(family)
    flat = sums(name, family, 8, padding_free=True)
    padded = sums(name, family, 8, padding_free=False)
    assert (flat.layout, padded.layout) == (Flat.name, Padded.name)
    within(worst(flat, padded), "loss and every gradient, rows end to end", figure)
