"""Words of the user's own, read as one token each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sftlib import FineTuner, LoRA, TaskDataset, Text
from sftlib.errors import ArtifactError, OptionError
from sftlib.support import storage
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

WORDS = ["rofecoxib", "<drug>", "c++"]
TEXTS = [f"{text} {word}" for text, word in zip(SENTENCES, WORDS * 6, strict=False)]
DATA = TaskDataset({"text": TEXTS, "label": ["a", "b"] * 8})


def tuner(family: str = "bert", **options: Any) -> FineTuner:
    given = {"inputs": Text(add_tokens=WORDS), "max_steps": 2, "precision": "fp32", **options}
    return FineTuner(tiny_model(family), tokenizer=tiny_tokenizer(family), **given)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "roberta"])
@pytest.mark.parametrize("adapter", [None, LoRA(r=4)])
def test_they_are_learned_saved_and_read_again(family: str, adapter: Any, tmp_path: Path) -> None:
    given = tiny_tokenizer(family)
    size = len(given)
    found = FineTuner(
        tiny_model(family),
        tokenizer=given,
        inputs=Text(add_tokens=WORDS),
        max_steps=2,
        adapter=adapter,
        precision="fp32",
        learning_rate=1e-2,
    ).fit(DATA, progress=False)
    assert len(given) == size, "the user's tokenizer is not changed"
    found.save(tmp_path / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    for word in WORDS:
        assert tokenizer.tokenize(f"a {word} film").count(word) == 1
    again = FineTuner.load(tmp_path / "model", **({"model": tiny_model(family)} if adapter else {}))
    assert again.predict(TEXTS) == found.predict(TEXTS)
    again.set_params(max_steps=1).fit(DATA, progress=False)
    again.save(tmp_path / "again")
    base = {"model": tiny_model(family)} if adapter else {}
    assert FineTuner.load(tmp_path / "again", **base).predict(TEXTS) == again.predict(TEXTS)
    if adapter:
        plain = found.merge()
        plain.save(tmp_path / "plain")
        assert [p.label for p in FineTuner.load(tmp_path / "plain").predict(TEXTS)] == [
            p.label for p in found.predict(TEXTS)
        ]


def test_they_begin_as_the_mean_of_what_they_were_read_as_and_are_trained() -> None:
    table = tiny_model("bert").get_input_embeddings().weight.detach()
    tokenizer = tiny_tokenizer()
    still: Any = tuner(learning_rate=0.0).fit(DATA, progress=False).model
    moved: Any = tuner(learning_rate=1e-2).fit(DATA, progress=False).model
    beside: Any = tuner(learning_rate=1e-2, adapter=LoRA(r=4)).fit(DATA, progress=False).merge().model
    for place, word in enumerate(WORDS):
        pieces = [p for p in tokenizer(word, add_special_tokens=False)["input_ids"] if p != tokenizer.unk_token_id]
        row = still.get_input_embeddings().weight[len(table) + place]
        assert torch.allclose(row, table[pieces].mean(dim=0), atol=1e-6), word
        for model in (moved, beside):
            assert not torch.allclose(model.get_input_embeddings().weight[len(table) + place], row, atol=1e-4)
    assert torch.equal(beside.get_input_embeddings().weight[: len(table)], table), "the others stay beside an adapter"


def test_a_language_model_can_say_them() -> None:
    data = TaskDataset({"text": [f"the drug is {WORDS[0]}"] * 16}, task="causal-lm")
    for tied in (True, False):
        model = tiny_model("llama", auto_class="AutoModelForCausalLM", dropout=0.0)
        if tied:
            model.config.tie_word_embeddings = True
            model.tie_weights()
        found = FineTuner(
            model,
            tokenizer=tiny_tokenizer("llama"),
            inputs=Text(add_tokens=WORDS[:1]),
            max_steps=60,
            learning_rate=1e-2,
            precision="fp32",
        ).fit(data, progress=False)
        assert WORDS[0] in found.predict("the drug is").text


@pytest.mark.parametrize("given", ["word", [""], [" a"], ["a", "a"], [3], {"a"}])
def test_what_is_none_is_refused(given: Any) -> None:
    with pytest.raises(OptionError, match="add_tokens"):
        Text(add_tokens=given)


def test_a_module_of_ones_own_cannot_grow() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(400, 8)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.words(input_ids).mean(1))  # type: ignore[no-any-return]

    with pytest.raises(OptionError, match=r"add_tokens=.*model of transformers"):
        FineTuner(Own(), tokenizer=tiny_tokenizer(), inputs=Text(add_tokens=WORDS)).fit(DATA, progress=False)


def test_a_folder_that_asks_for_odd_ones(tmp_path: Path) -> None:
    tuner().fit(DATA, progress=False).save(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "sftlib.json").read_text())
    assert record["inputs"]["add_tokens"] == WORDS
    record["inputs"]["add_tokens"] = [3]
    (tmp_path / "model" / "manifest.json").unlink()
    (tmp_path / "model" / "sftlib.json").write_text(json.dumps(record))
    storage.write_manifest(tmp_path / "model", kind="sftlib model", free=["README.md"], libraries={})
    with pytest.raises(ArtifactError, match="add_tokens"):
        FineTuner.load(tmp_path / "model")
