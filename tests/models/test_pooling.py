"""A new head reads of a sentence encoder what that encoder was trained to say; the saved folder says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from sftlib import FineTuner, LoRA, Pretrained, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.pooling import pooling_of
from sftlib.testing import SENTENCES, tiny_folder, tiny_tokenizer

TEXTS = [*SENTENCES, "a film"]
DATA = TaskDataset({"text": TEXTS, "label": [["a", "b"][len(text) % 2] for text in TEXTS]})


def encoder(place: Path, family: str = "bert", **says: bool) -> str:
    folder = tiny_folder(place, family, auto_class="AutoModel", dropout=0.1)
    (place / "1_Pooling").mkdir()
    settings = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": False,
        **says,
    }
    (place / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    return folder


def tuner(model: Any, **options: Any) -> FineTuner:
    return FineTuner(model, precision="fp32", batch_size=8, **{"max_steps": 1, "learning_rate": 0.0, **options})


def features(folder: str, way: str) -> Tensor:
    """What is to be read of each text, computed from the encoder alone."""
    body = transformers.AutoModel.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        with torch.no_grad():
            states = body(**transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt"))[0][0]
        read = functional.layer_norm(states.mean(0), (32,)) if way == "mean" else states[0]
        found.append(torch.tanh(read))
    return torch.stack(found)


@pytest.mark.parametrize("way", ["mean", "first"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_head_reads_what_the_folder_says(
    family: str, way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = {"mean": "pooling_mode_mean_tokens", "first": "pooling_mode_cls_token"}[way]
    folder = encoder(tmp_path / "encoder", family, **{name: True})
    fitted = tuner(folder).fit(DATA)
    said = {"mean": "the head reads the mean of a text's tokens", "first": "the head reads the first token"}[way]
    assert said in "".join(capsys.readouterr())
    model: Any = fitted.model
    last = model.classifier if family == "bert" else model.classifier.out_proj
    with torch.no_grad():
        expected = torch.softmax(last(features(folder, way)), -1)
    found = torch.tensor([list(p.probabilities.values()) for p in fitted.predict(TEXTS)])
    assert torch.allclose(found, expected, rtol=0, atol=1e-3)
    assert model.config.num_hidden_layers == 2 + (way == "mean")


@pytest.mark.parametrize("options", [{}, {"freeze": "backbone"}, {"freeze": 1}], ids=str)
def test_it_is_trained_saved_and_opens_in_a_pipeline(options: dict[str, Any], tmp_path: Path) -> None:
    folder = encoder(tmp_path / "encoder", pooling_mode_mean_tokens=True)
    fitted = tuner(folder, max_steps=6, learning_rate=1e-2, **options).fit(DATA, progress=False)
    added: Any = fitted.model
    added = added.bert.encoder.layer[-1]
    assert not any(parameter.requires_grad for parameter in added.parameters())
    assert not added.attention.self.query.weight.any()
    assert torch.equal(added.attention.output.dense.weight, 1e3 * torch.eye(32))
    fitted.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict(TEXTS) == fitted.predict(TEXTS)
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"))
    for ours, theirs in zip(fitted.predict(TEXTS), classify(TEXTS, top_k=None), strict=True):
        assert {one["label"]: one["score"] for one in theirs} == pytest.approx(dict(ours.probabilities), abs=1e-5)
    again = FineTuner(tmp_path / "model", precision="fp32", max_steps=1, learning_rate=0.0).fit(DATA, progress=False)
    model: Any = again.model
    assert model.config.num_hidden_layers == 3, "no second layer"
    assert [p.label for p in again.predict(TEXTS)] == [p.label for p in fitted.predict(TEXTS)]


def test_results_do_not_depend_on_how_the_work_is_cut_up(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "encoder", pooling_mode_mean_tokens=True)
    report = tuner(folder, learning_rate=1e-3).self_check(DATA)
    assert report.holds, str(report)


def test_other_encoders_and_other_wishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = encoder(tmp_path / "max", pooling_mode_max_tokens=True)
    mean = encoder(tmp_path / "mean", pooling_mode_mean_tokens=True)
    both = encoder(tmp_path / "both", pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True)
    assert [pooling_of(folder, local=True) for folder in (plain, mean, both)] == ["head", "mean", "head"]
    assert pooling_of(str(tmp_path), local=True) == "head"
    (tmp_path / "both" / "1_Pooling" / "config.json").write_text("[")
    assert pooling_of(both, local=True) == "head"

    def layers(model: Any, **options: Any) -> int:
        return int(tuner(model, **options).fit(DATA).model.config.num_hidden_layers)  # type: ignore[union-attr]

    assert layers(plain) == layers(Pretrained(mean, pooling="head")) == layers(mean, adapter=LoRA(r=2)) == 2
    assert layers(Pretrained(plain, pooling="mean")) == 3
    capsys.readouterr()
    odd = encoder(tmp_path / "mpnet", "mpnet", pooling_mode_mean_tokens=True)
    assert layers(odd) == 2
    assert "reads the first token, although the folder pools otherwise" in "".join(capsys.readouterr())
    modern = encoder(tmp_path / "modern", "modernbert", pooling_mode_mean_tokens=True)
    assert tuner(modern).fit(DATA, progress=False).model.config.classifier_pooling == "mean"  # type: ignore[union-attr]
    with pytest.raises(OptionError, match="pooling"):
        Pretrained(mean, pooling="max")
    with pytest.raises(OptionError, match="do not go together"):
        FineTuner(Pretrained(mean, pooling="mean"), adapter="lora")


def test_other_tasks_are_as_they_were(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "encoder", pooling_mode_mean_tokens=True)
    tags = TaskDataset(
        {
            "tokens": [text.split() for text in TEXTS],
            "tags": [["O"] * (len(text.split()) - 1) + ["X"] for text in TEXTS],
        }
    )
    assert tuner(folder).fit(tags, progress=False).model.config.num_hidden_layers == 2  # type: ignore[union-attr]
    number = TaskDataset({"text": TEXTS, "target": [float(len(text)) for text in TEXTS]})
    assert tuner(folder).fit(number, progress=False).model.config.num_hidden_layers == 3  # type: ignore[union-attr]
    assert tiny_tokenizer() is not None
