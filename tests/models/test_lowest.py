"""The lowest layers of a pretrained model alone: what stands below is as it was, and the folder is an ordinary one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from sftlib import FineTuner, Pretrained, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.lowest import check_lowest, keep_lowest
from sftlib.testing import SENTENCES, tiny_audio_model, tiny_feature_extractor, tiny_folder, tiny_model, waves

TEXTS = [*SENTENCES, "a film"]
DATA = TaskDataset({"text": TEXTS, "label": [["a", "b"][len(text) % 2] for text in TEXTS]})
STILL: dict[str, Any] = {"precision": "fp32", "max_steps": 1, "learning_rate": 0.0}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "gpt2"])
def test_a_classifier_reads_what_the_layer_puts_out(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "whole", family, auto_class="AutoModel", dropout=0.0)
    tuner = FineTuner(Pretrained(folder, layers=1), **STILL).fit(DATA, progress=False)
    model: Any = tuner.model
    assert model.config.num_hidden_layers == 1
    whole: Any = transformers.AutoModel.from_pretrained(folder).eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        below = whole(**ids, output_hidden_states=True).hidden_states[1]
        read = model.base_model(**ids).last_hidden_state
    norm = {"modernbert": "final_norm", "gpt2": "ln_f"}.get(family)  # behind the last layer, and behind this one now
    assert torch.allclose(read, below if norm is None else getattr(whole, norm)(below), atol=1e-5)
    tuner.save(tmp_path / "short")
    classify = transformers.pipeline("text-classification", str(tmp_path / "short"))
    theirs = [one["score"] for one in classify(TEXTS)]
    assert theirs == pytest.approx([p.probability for p in tuner.predict(TEXTS)], abs=1e-5)
    assert FineTuner.load(tmp_path / "short").predict(TEXTS) == tuner.predict(TEXTS)


def test_sounds_and_a_mean_over_fewer_layers(tmp_path: Path) -> None:
    tiny_audio_model("whisper").save_pretrained(tmp_path)
    tiny_feature_extractor("whisper").save_pretrained(tmp_path)
    sounds = TaskDataset(waves(6))
    model: Any = FineTuner(Pretrained(tmp_path, layers=1), **STILL).fit(sounds, progress=False).model
    assert len(model.encoder.layers) == model.config.encoder_layers == 1
    folder = tiny_folder(tmp_path / "text", "bert", auto_class="AutoModel", dropout=0.0)
    mean: Any = FineTuner(Pretrained(folder, layers=1, pooling="mean"), **STILL).fit(DATA, progress=False).model
    assert mean.config.num_hidden_layers == 2, "one of the folder, and one that averages"


def test_what_will_not_do(bert_folder: str) -> None:
    with pytest.raises(OptionError, match="layers=3: this model has 2 layers"):
        FineTuner(Pretrained(bert_folder, layers=3), **STILL).fit(DATA, progress=False)
    with pytest.raises(OptionError, match="layers"):
        Pretrained(bert_folder, layers=0)
    with pytest.raises(OptionError, match="layers=1 and adapter= do not go together"):
        FineTuner(Pretrained(bert_folder, layers=1), adapter="lora")
    with pytest.raises(OptionError, match="layers=1 do not go together"):
        Pretrained(bert_folder, layers=1, gguf_file="tiny.Q4_0.gguf")
    with pytest.raises(OptionError, match="does not say how many"):
        keep_lowest(transformers.ResNetConfig(), 1)
    with pytest.raises(OptionError, match="cannot be told apart"):
        check_lowest(tiny_model("bert", 2), 1)
