"""Voices: embeddings that no batch changes, windows of identities, and verdicts on pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from sftlib import Audio, AudioEmbedding, FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.testing import tiny_audio_model, tiny_feature_extractor, waves

RAW = ("wav2vec2", "hubert", "wavlm")


def voices(count: int = 24, **options: Any) -> TaskDataset:
    return TaskDataset(waves(count, **options), task="audio-embedding")


def tuner_of(family: str, *, dropout: float = 0.0, **options: Any) -> FineTuner:
    model = tiny_audio_model(family, dropout=dropout, auto_class="AutoModel")
    reading = options.pop("inputs", Audio(processor=tiny_feature_extractor(family)))
    settings: dict[str, Any] = {"batch_size": 8, "max_steps": 3, "learning_rate": 3e-3, **options}
    return FineTuner(model, inputs=reading, **settings)


def apart(first: list[Any], second: list[Any]) -> float:
    return float(max(np.abs(a.embedding - b.embedding).max() for a, b in zip(first, second, strict=True)))


@pytest.mark.parametrize("family", [*RAW, "ast"])
def test_the_folder_gives_the_same_embedding_in_transformers(family: str, tmp_path: Path) -> None:
    data = voices(12)
    tuner = tuner_of(family).fit(data, progress=False)
    before = tuner.predict(data)
    assert apart(tuner.predict(data, batch_size=1), before) <= 1e-6
    tuner.save(tmp_path / "m")
    assert apart(FineTuner.load(tmp_path / "m").predict(data), before) == 0
    plain = AutoModel.from_pretrained(tmp_path / "m").eval()
    extractor = tiny_feature_extractor(family)
    for row, found in zip(data, before, strict=True):
        inputs = extractor(row["audio"]["array"], sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            mean = plain(inputs["input_values"]).last_hidden_state[0].mean(dim=0)
        assert np.abs((mean / mean.norm()).numpy() - found.embedding).max() <= 2e-6


def test_windows_of_identities_are_learned_and_new_ones_told_apart() -> None:
    data = voices(40, classes=5)
    train, test = data.split(0.6, 0.4, by="label")
    assert not set(train.column("label")) & set(test.column("label"))
    reading = Audio(processor=tiny_feature_extractor("ast"), seconds=0.15)
    tuner = tuner_of("ast", inputs=reading, max_steps=40).fit(train, test, progress=False)
    metrics = tuner.evaluate(test)
    assert metrics["eer"] < 0.35
    assert metrics["recall_at_1"] > 0.7
    assert 0 <= metrics["tar_at_far_1e-2"] <= 1
    one, other = (next(row for row in test if row["label"] == name) for name in sorted(set(test.column("label"))))
    verdict = tuner.predict((one["audio"], other["audio"]))
    assert verdict.same is (verdict.similarity >= verdict.threshold)
    assert tuner.predict({"audio": one["audio"], "audio_pair": one["audio"]}).similarity == pytest.approx(1, abs=1e-6)


def test_micro_batches_change_nothing_with_dropout_on() -> None:
    reading = Audio(processor=tiny_feature_extractor("wav2vec2"), seconds=0.1)
    for objective in ("arcface", "contrastive"):
        tuners = [
            tuner_of(
                "wav2vec2", dropout=0.2, inputs=reading, micro_batch_size=size, task=AudioEmbedding(objective=objective)
            )
            for size in (2, 8)
        ]
        losses = [[record["loss"] for record in tuner.fit(voices(), progress=False).history.steps] for tuner in tuners]
        assert np.allclose(*losses, rtol=1e-5)


def test_pairs_with_verdicts() -> None:
    rows = waves(24)
    pairs = TaskDataset(
        [
            {"audio": a["audio"], "audio_pair": b["audio"], "same": a["label"] == b["label"]}
            for a, b in zip(rows, rows[3:] + rows[:2] + rows[-1:], strict=True)
        ]
        + [{"audio": rows[0]["audio"], "audio_pair": rows[1]["audio"], "same": False}]
    )
    assert pairs.task == "audio-embedding"
    tuner = tuner_of("wav2vec2").fit(pairs, pairs, progress=False)
    assert tuner.evaluate(pairs)["roc_auc"] >= 0
    alone, together = tuner.predict(pairs, batch_size=1), tuner.predict(pairs, batch_size=25)
    assert max(abs(a.similarity - b.similarity) for a, b in zip(alone, together, strict=True)) <= 1e-6


def test_a_model_that_only_writes_is_refused() -> None:
    with pytest.raises(OptionError, match="WhisperModel cannot listen without writing"):
        tuner_of("whisper").fit(voices(6), progress=False)


def test_long_sounds_are_the_mean_of_their_pieces() -> None:
    data = voices(6, seconds=0.4)
    reading = Audio(processor=tiny_feature_extractor("wav2vec2"), longest=0.15, overlap=0.05)
    tuner = tuner_of("wav2vec2", inputs=reading).fit(data, progress=False)
    fitted = tuner._fitted
    assert fitted is not None
    spans = fitted.encoder.spans(fitted.encode(data))  # type: ignore[attr-defined]
    owners = fitted.encode(data).owners
    for row, found in enumerate(tuner.predict(data)):
        array = data[row]["audio"]["array"]
        parts = [{"array": array[a:b], "sampling_rate": 16_000} for a, b in spans[owners == row]]
        mean = np.mean([part.embedding for part in tuner.predict(parts)], axis=0)
        assert np.abs(mean / np.linalg.norm(mean) - found.embedding).max() < 1e-6
