"""A saved tokenizer knows how long rows were in training, whoever opens it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from sftlib import FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

LONG = " ".join(SENTENCES) * 4


def saved(folder: Path, family: str, task: str = "text-classification", **options: Any) -> FineTuner:
    """A tuner whose tokenizer says nothing of a limit, as many do."""
    tokenizer = tiny_tokenizer(family)
    tokenizer.model_max_length = int(1e30)
    columns: dict[str, Any] = {"text": list(SENTENCES), "label": ["a", "b"] * 8}
    auto_class = "AutoModelForSequenceClassification"
    if task == "token-classification":
        columns = {
            "tokens": [text.split() for text in SENTENCES],
            "tags": [["X"] + ["O"] * (len(t.split()) - 1) for t in SENTENCES],
        }
        auto_class = "AutoModelForTokenClassification"
    if task == "text-regression":
        columns = {"text": list(SENTENCES), "target": [float(i) for i in range(16)]}
    outputs = 1 if task == "text-regression" else 2
    model = tiny_model(family, outputs, auto_class=auto_class)
    tuner = FineTuner(model, tokenizer=tokenizer, max_steps=1, precision="fp32", **options)
    tuner.fit(TaskDataset(columns), progress=False).save(folder)
    return tuner


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "distilbert", "gpt2", "modernbert"])
@pytest.mark.parametrize("limit", [None, 24])
def test_a_pipeline_reads_what_we_read(family: str, limit: int | None, tmp_path: Path) -> None:
    tuner = saved(tmp_path / "model", family, max_length=limit)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.model_max_length == tuner.settings["max_length"] == (limit or tuner.settings["max_length"])
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"))
    found = classify([LONG, SENTENCES[0]], truncation=True, top_k=None)
    for ours, theirs in zip(tuner.predict([LONG, SENTENCES[0]]), found, strict=True):
        assert {one["label"]: one["score"] for one in theirs} == pytest.approx(dict(ours.probabilities), abs=1e-5)


def test_tags_and_numbers_too(tmp_path: Path) -> None:
    saved(tmp_path / "tags", "roberta", "token-classification", max_length=20)
    tag = transformers.pipeline("token-classification", str(tmp_path / "tags"))
    assert len(tag(LONG)) <= 20
    tuner = saved(tmp_path / "numbers", "roberta", "text-regression", max_length=20)
    value = transformers.pipeline("text-classification", str(tmp_path / "numbers"), function_to_apply="none")
    assert value(LONG, truncation=True)[0]["score"] == pytest.approx(tuner.predict(LONG).value, abs=1e-5)


def test_the_next_run_may_read_more(tmp_path: Path) -> None:
    """The limit is that of the rows, not of the model."""
    first = saved(tmp_path / "model", "bert", max_length=16)
    data = TaskDataset({"text": list(SENTENCES), "label": ["a", "b"] * 8})
    again = FineTuner(tmp_path / "model", max_steps=1, max_length=48).fit(data, progress=False)
    assert again.settings["max_length"] == 48
    assert FineTuner(tmp_path / "model", max_steps=1).fit(data, progress=False).settings["max_length"] == 16
    assert FineTuner.load(tmp_path / "model").predict(LONG) == first.predict(LONG)
    with pytest.raises(OptionError, match="at most 66"):
        FineTuner(tmp_path / "model", max_steps=1, max_length=67).fit(data, progress=False)


def test_answers_have_the_room_they_had(tmp_path: Path) -> None:
    """A reloaded model writes as much as before: what is written is no part of the limit of rows."""
    data = TaskDataset({"text": list(SENTENCES)}, task="causal-lm")
    model = tiny_model("llama", auto_class="AutoModelForCausalLM")
    tuner = FineTuner(model, tokenizer=tiny_tokenizer("llama"), max_steps=1, max_length=32, precision="fp32")
    tuner.fit(data, progress=False).save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict("a film") == tuner.predict("a film")
