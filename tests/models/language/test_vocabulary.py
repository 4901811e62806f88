"""Training only the embedding rows in use gives every bit of what training the whole table gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.models.language import vocabulary
from sftlib.models.language.vocabulary import compact_vocabulary
from sftlib.testing import tiny_model, tiny_tokenizer
from tests.multilingual import VOCABULARY, multilingual_model, multilingual_rows, multilingual_tokenizer

TRAIN = TaskDataset([{"text": f"good film {i % 5}", "label": i % 2} for i in range(20)])
VALID = TaskDataset([{"text": text, "label": i % 2} for i, text in enumerate(["bad acting", "the story", "good"])])


def weights(monkeypatch: pytest.MonkeyPatch, smallest: int, **options: Any) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", smallest)
    # Clipping is off: the norm of a smaller table is summed in another order, which is allowed but not bit-equal.
    tuner = FineTuner(
        tiny_model("bert"),
        tokenizer=tiny_tokenizer(),
        epochs=4,
        batch_size=8,
        learning_rate=1e-3,
        max_grad_norm=None,
        **options,
    )
    tuner.fit(TRAIN, VALID, progress=False)
    return dict(tuner.model.state_dict())


@pytest.mark.parametrize("options", [{}, {"keep_best": "loss"}, {"weight_decay": 0.1, "schedule": "cosine"}])
def test_bit_equal_to_the_whole_table(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    whole = weights(monkeypatch, 2**30, **options)
    compact = weights(monkeypatch, 1, **options)
    assert whole.keys() == compact.keys()
    for name, expected in whole.items():
        assert torch.equal(compact[name], expected), name


class Asks(Callback):
    """Predicts texts with tokens that the training data does not have, after every step."""

    def __init__(self) -> None:
        self.tuner: FineTuner | None = None
        self.answers: list[float] = []

    def on_step_end(self, training: Any, record: Any) -> None:
        assert self.tuner is not None
        self.answers += [guess.probability for guess in self.tuner.predict(["a terrible movie", "good film"])]


def test_other_texts_may_be_asked_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for smallest in (2**30, 1):
        monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", smallest)
        asks = Asks()
        tuner = FineTuner(
            tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=4, learning_rate=1e-2, weight_decay=1.0
        )
        asks.tuner = tuner
        tuner.fit(TRAIN, progress=False, callbacks=[asks])
        found.append(asks.answers)
    assert found[1] == pytest.approx(found[0], rel=1e-6)


def test_the_table_is_smaller_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", 1)
    model = tiny_model("bert").eval()
    table = model.get_input_embeddings()
    full, inputs = table.weight, torch.tensor([[2, 7, 9, 3]])
    before = model(inputs).logits
    with compact_vocabulary(model, lambda: np.array([2, 3, 7, 9]), list) as smaller:
        assert smaller
        assert len(table.weight) == 5, "four tokens and the padding"
        assert torch.equal(model(inputs).logits, before)
    assert table.weight is full
    assert table.padding_idx == 0
    assert torch.equal(model(inputs).logits, before)


def test_a_tied_table_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", 1)
    model = tiny_model("bert")
    model.decoder = torch.nn.Linear(4, 4)
    model.decoder.weight = model.get_input_embeddings().weight
    with compact_vocabulary(model, lambda: np.array([2, 3]), list) as smaller:
        assert not smaller


def test_nothing_to_gain_when_most_tokens_occur(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", 1)
    model = tiny_model("bert")
    with compact_vocabulary(model, lambda: np.arange(model.config.vocab_size), list) as smaller:
        assert not smaller


class Looks(Callback):
    """Notes how many rows of the table are trained."""

    def on_step_end(self, training: Any, record: Any) -> None:
        self.rows = len(training.model.get_input_embeddings().weight)


def test_a_multilingual_vocabulary_of_250_000_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library's own thresholds: a few thousandths of the table are trained, to the same bits."""
    found, trained = [], []
    for smallest in (2**30, vocabulary._SMALLEST_TABLE):
        monkeypatch.setattr(vocabulary, "_SMALLEST_TABLE", smallest)
        looks = Looks()
        tuner = FineTuner(
            multilingual_model(width=16),
            tokenizer=multilingual_tokenizer(),
            max_steps=3,
            batch_size=8,
            learning_rate=1e-3,
            max_grad_norm=None,
        )
        tuner.fit(TaskDataset(multilingual_rows(40)), callbacks=[looks], progress=False)
        found.append(dict(tuner.model.state_dict()))
        trained.append(looks.rows)
    used = len({word for row in multilingual_rows(40) for word in str(row["text"]).split()})
    assert trained == [VOCABULARY, used + 3]  # and the beginning, the end, the padding
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name
