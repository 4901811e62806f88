"""What is tried on a model: that it cannot is an answer with a reason, that we made a mistake is an error."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertEncoder

from sftlib import FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.attempts import attempt
from sftlib.models.frozen.prefix_cache import Prefix
from sftlib.models.language.causality import require_causal
from sftlib.models.layouts.layout import Watched
from sftlib.models.layouts.sequences import Sequences
from sftlib.models.outputs import logits
from sftlib.testing import SENTENCES, tiny_tokenizer
from tests.models.layouts.test_layout import LENGTHS, batch_of, fitting_layout, model_of

ROWS = TaskDataset({"text": list(SENTENCES[:8]), "label": [0, 1] * 4})


def layout_of(model: Any) -> Any:
    return fitting_layout(model, [batch_of(model, LENGTHS)], padding_free=True)


def fit(model: nn.Module, **options: Any) -> None:
    FineTuner(model, tokenizer=tiny_tokenizer(), max_steps=1, batch_size=4, precision="fp32", **options).fit(ROWS)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """BERT hands its layers nothing but hidden states and a mask."""
    forward = BertEncoder.forward
    monkeypatch.setattr(
        BertEncoder, "forward", lambda self, hidden, attention_mask=None, **_: forward(self, hidden, attention_mask)
    )


@pytest.mark.usefixtures("forgetful")
def test_a_model_that_cannot_keeps_its_own_layout_and_the_reason() -> None:
    layout = layout_of(model_of("bert"))
    assert layout.name == Watched().name
    assert layout.refused.startswith("TypeError: ")
    assert "sequences" in layout.refused


@pytest.mark.usefixtures("forgetful")
def test_the_line_before_the_first_step_has_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    fit(model_of("bert"), padding_free=True)
    assert "padded, with the model's own attention and our dropout (end to end: TypeError: " in capsys.readouterr().out
    fit(model_of("bert"), freeze="backbone", padding_free=True)
    assert "(end to end: TypeError: " in capsys.readouterr().out


def test_the_line_has_no_reason_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    fit(model_of("bert"), padding_free=True)
    fit(model_of("bert"), padding_free=False)
    fit(model_of("mpnet"))
    assert "end to end" not in capsys.readouterr().out


def test_a_body_without_hidden_states_is_named() -> None:
    model = model_of("bert")
    names = namedtuple("Names", "states pooled hidden_states attentions")
    model.bert.register_forward_hook(lambda _, __, found: names(*found.to_tuple(), None, None))
    assert layout_of(model).refused == "TypeError: the body returned Names without hidden states"


def test_a_model_without_the_interface_says_so() -> None:
    assert layout_of(model_of("mpnet")).refused == "it does not attend through transformers' interface"


def test_a_mistake_of_ours_in_a_layout_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Sequences, "groups")
    with pytest.raises(AttributeError, match="groups"):
        layout_of(model_of("bert"))


def test_a_mistake_of_ours_while_recalling_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Prefix, "places")
    with pytest.raises(AttributeError, match="places"):
        fit(model_of("bert"), freeze="backbone")


def test_what_a_model_asks_of_its_parts_is_its_own_mistake() -> None:
    class Model(nn.Module):
        def forward(self) -> Any:
            return self.no_such_part

    assert attempt(Model()).reason.startswith("AttributeError: 'Model' object has no attribute")
    assert attempt(lambda: logits([])).reason.startswith("TypeError: the model returned list")


@pytest.mark.parametrize(
    "error", [OptionError("for the user"), torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()]
)
def test_what_no_model_is_to_blame_for_surfaces(error: BaseException) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        attempt(call, kinds=(Exception,))


def test_a_language_model_that_cannot_be_called() -> None:
    model = model_of("bert")
    model.forward = lambda input_ids, pictures: None
    with pytest.raises(OptionError, match=r"cannot be called with input_ids: TypeError: .*pictures"):
        require_causal(model, "mine")
