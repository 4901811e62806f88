"""The loss of a language model takes no more memory for a larger vocabulary, but for weights and their gradients.

Counted rather than measured: every tensor that an operation makes is noted, with the bytes that are alive at once.

Letters: ``S`` supervised positions, ``H`` hidden width, ``V`` tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sftlib import FineTuner, TaskDataset
from sftlib.models.language import chunked_loss
from sftlib.models.language.chunked_loss import OutputLayer
from sftlib.run.assemble import assemble
from sftlib.run.settle import settled
from sftlib.tasks.text.causal_lm import CausalLM
from sftlib.testing import tiny_config
from tests.chat_templates import FORMATS

SMALL, LARGE = 1_000, 50_000
HIDDEN, POSITIONS = 8, 1_200
FLOAT = 4  # bytes


class Storages(TorchDispatchMode):
    """Notes what operations allocate: the largest piece, and the most that was alive at once, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if _is_open(t)}
        made = func(*args, **(kwargs or {}))
        self._alive = {key: pair for key, pair in self._alive.items() if not pair[0].expired()}
        for tensor in tree_leaves(made):
            if _is_open(tensor) and tensor.untyped_storage()._cdata not in before:
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return made


def _is_open(x: Any) -> bool:
    """Whether it is a tensor with a storage; weights laid out for oneDNN show none, and live for one product."""
    return isinstance(x, Tensor) and not x.is_mkldnn


class Taken(NamedTuple):
    """Bytes, and the loss for comparison."""

    largest: int
    peak: int
    loss: float


def plain(layer: OutputLayer, states: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(layer.linear(states), targets, reduction="sum")


def chunked(layer: OutputLayer, states: Tensor, targets: Tensor) -> Tensor:
    return layer.loss(states, targets)[0]


def taken(vocabulary: int, positions: int, loss: Callable[[OutputLayer, Tensor, Tensor], Tensor]) -> Taken:
    """What a loss and its backward pass allocate, without the gradient of the weight."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = OutputLayer(nn.Linear(HIDDEN, vocabulary, bias=False))
        states = torch.randn(positions, HIDDEN).requires_grad_()
        targets = torch.randint(vocabulary, (positions,))
    with Storages() as seen:
        found = loss(layer, states, targets)
        found.backward()
    return Taken(seen.largest, seen.peak - FLOAT * vocabulary * HIDDEN, float(found.detach()))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of a chunk's scores: so few that the small vocabulary takes several chunks too."""
    scores = 4 * LARGE
    monkeypatch.setattr(chunked_loss, "_SCORES", scores)
    return FLOAT * scores


def test_the_peak_is_flat_in_the_vocabulary(small_chunks: int) -> None:
    small, large = taken(SMALL, POSITIONS, chunked), taken(LARGE, POSITIONS, chunked)
    ours = FLOAT * LARGE * HIDDEN
    assert small.largest == small_chunks
    assert large.largest == max(small_chunks, ours)
    assert large.peak <= 1.1 * small.peak + ours


def test_the_peak_is_flat_in_the_positions(small_chunks: int) -> None:
    few, many = taken(LARGE, 40, chunked), taken(LARGE, 400, chunked)
    states = FLOAT * HIDDEN * 400
    assert many.largest == few.largest
    assert many.peak <= few.peak + 6 * states


def test_all_logits_at_once_are_not_flat() -> None:
    """What is counted would tell: the plain loss takes fifty times as much for fifty times the vocabulary."""
    small, large = taken(SMALL, 200, plain), taken(LARGE, 200, plain)
    assert large.largest == FLOAT * LARGE * 200
    assert large.peak > 45 * small.peak
    assert taken(LARGE, 200, chunked).loss == pytest.approx(large.loss, rel=1e-6)


def a_step(vocabulary: int) -> tuple[Storages, int]:
    """What a training step of a tiny Llama allocates, optimizer aside; and how many positions are learned."""
    config = tiny_config("llama", dropout=0.0)
    config.vocab_size, config.max_position_embeddings, config.tie_word_embeddings = vocabulary, 256, True
    model = transformers.AutoModelForCausalLM.from_config(config)
    turns = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": "and on " * 25}]
    data = TaskDataset({"messages": [turns] * 8})
    tuner = FineTuner(model, tokenizer=FORMATS["chatml"].tokenizer(), precision="fp32", padding_free=True, device="cpu")
    fitted = assemble(tuner._arguments, tuner._source, CausalLM().learned_from(data))
    encoded = fitted.encode(data)
    fitted = settled(fitted, encoded)
    forward = fitted.forward()
    fitted.model.train()
    batch = fitted.feed(encoded).of(np.arange(8))
    with forward.prepared(), Storages() as seen:
        total, count = fitted.task.loss(forward.train(batch, step=0), batch)
        total.backward()  # type: ignore[no-untyped-call]
    return seen, int(count)


def test_a_step_never_makes_the_logits_of_its_rows() -> None:
    small, learned = a_step(SMALL)
    large, same = a_step(LARGE)
    assert learned == same > 1_000
    width = 32
    assert large.largest <= max(FLOAT * chunked_loss._SCORES, FLOAT * LARGE * width)
    assert large.largest < FLOAT * LARGE * learned / 3
    chunk = FLOAT * chunked_loss._SCORES
    assert large.peak <= small.peak + 2 * chunk + 4 * FLOAT * LARGE * width
