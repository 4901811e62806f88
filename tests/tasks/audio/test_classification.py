"""Audio classification from rows to a folder that transformers opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForAudioClassification, pipeline

from sftlib import Audio, AudioClassification, FineTuner, TaskDataset
from sftlib.encoders.audio.augment import Gain
from sftlib.errors import DataError, OptionError
from sftlib.testing import (
    AUDIO_FAMILIES,
    tiny_audio_config,
    tiny_audio_model,
    tiny_feature_extractor,
    waves,
    write_waves,
)


def tuner_of(family: str, *, dropout: float = 0.0, **options: Any) -> FineTuner:
    reading = options.pop("inputs", Audio(processor=tiny_feature_extractor(family)))
    settings: dict[str, Any] = {"batch_size": 6, "max_steps": 3, "learning_rate": 1e-3, **options}
    return FineTuner(tiny_audio_model(family, 3, dropout=dropout), inputs=reading, **settings)


def apart(first: list[Any], second: list[Any]) -> float:
    return max(
        abs(a.probabilities[k] - b.probabilities[k])
        for a, b in zip(first, second, strict=True)
        for k in a.probabilities
    )


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_the_folder_gives_the_same_scores_in_transformers(family: str, tmp_path: Path) -> None:
    data = TaskDataset(waves(12))
    tuner = tuner_of(family).fit(data, progress=False)
    before = tuner.predict(data)
    tuner.save(tmp_path / "m")
    assert apart(before, FineTuner.load(tmp_path / "m").predict(data)) == 0
    listen = pipeline("audio-classification", model=str(tmp_path / "m"))
    for row, expected in zip(data, before, strict=True):
        found = listen({"raw": row["audio"]["array"], "sampling_rate": 16_000}, top_k=3)
        assert {one["label"] for one in found} == {"low", "high", "rising"}
        for one in found:
            assert one["score"] == pytest.approx(expected.probabilities[one["label"]], abs=2e-6)


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_no_batch_size_changes_an_answer(family: str) -> None:
    data = TaskDataset(waves(12))
    tuner = tuner_of(family).fit(data, progress=False)
    assert apart(tuner.predict(data, batch_size=1), tuner.predict(data, batch_size=12)) <= 1e-6
    one, many = tuner.evaluate(data, batch_size=1), tuner.evaluate(data, batch_size=5)
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "ast", "whisper"])
def test_micro_batches_change_nothing_with_dropout_on(family: str) -> None:
    """Layer drop and time masks of the model are off; windows and dropout are drawn from counters."""
    data = TaskDataset(waves(12))
    reading = Audio(processor=tiny_feature_extractor(family), seconds=0.1, augment="light")
    losses = [
        [
            r["loss"]
            for r in tuner_of(family, dropout=0.2, inputs=reading, micro_batch_size=size)
            .fit(data, progress=False)
            .history.steps
        ]
        for size in (1, 4, 6)
    ]
    for other in losses[1:]:
        assert np.allclose(losses[0], other, rtol=1e-5)


def test_classes_are_learned_and_files_are_read(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    write_waves(tmp_path / "waves", 24, classes=2, sampling_rate=8000)
    data = TaskDataset.from_folder(tmp_path / "waves")
    assert data.task == "audio-classification"
    assert data.label_names == ("high", "low")
    tuner = tuner_of("wav2vec2", epochs=15, max_steps=None, learning_rate=5e-3).fit(data, progress=False)
    assert tuner.evaluate(data)["accuracy"] == 1.0
    path = data[0]["audio"]
    alone = [
        tuner.predict(path),
        tuner.predict(Path(path)),
        tuner.predict(Path(path).read_bytes()),
        tuner.predict({"audio": path}),
    ]
    assert {one.label for one in alone} == {"high"}
    assert apart(alone[:1] * 4, alone) == 0
    assert [one.label for one in tuner.predict([path, path])] == ["high", "high"]


def test_long_sounds_are_the_mean_of_their_pieces() -> None:
    data = TaskDataset(waves(6, seconds=0.4))
    reading = Audio(processor=tiny_feature_extractor(), longest=0.15, overlap=0.05)
    tuner = tuner_of("wav2vec2", inputs=reading).fit(data, progress=False)
    encoder = tuner._fitted.encoder  # type: ignore[union-attr]
    for row, found in zip(data, tuner.predict(data), strict=True):
        array = row["audio"]["array"]
        starts = [s for owner, s in zip(*_starts(len(array), encoder), strict=True)]
        parts = tuner.predict([{"array": array[s : s + encoder.piece], "sampling_rate": 16_000} for s in starts])
        for name, value in found.probabilities.items():
            assert value == pytest.approx(np.mean([part.probabilities[name] for part in parts]), abs=1e-6)
        assert sum(found.probabilities.values()) == pytest.approx(1)
    assert tuner.evaluate(data).to_dict()["rows"] == 6 if "rows" in tuner.evaluate(data).to_dict() else True


def _starts(length: int, encoder: Any) -> tuple[list[int], list[int]]:
    from sftlib.encoders.audio.pieces import cuts

    found = cuts([length], encoder.piece, encoder.shared)
    return found.owners.tolist(), found.starts.tolist()


def test_the_window_of_whisper_is_cut_to_the_sounds_there_are(tmp_path: Path) -> None:
    config = tiny_audio_config("whisper", num_labels=3, dropout=0.0)
    config.max_source_positions = 500
    torch.manual_seed(0)
    large = AutoModelForAudioClassification.from_config(config)
    data = TaskDataset(waves(6))
    tuner = FineTuner(large, max_steps=1, batch_size=3).fit(data, progress=False)
    assert large.config.max_source_positions == 500, "the model that was passed in is left alone"
    assert tuner.model.config.max_source_positions == 50
    before = tuner.predict(data)
    tuner.save(tmp_path / "m")
    listen = pipeline("audio-classification", model=str(tmp_path / "m"))
    assert listen.feature_extractor.chunk_length == 1
    for row, expected in zip(data, before, strict=True):
        for one in listen({"raw": row["audio"]["array"], "sampling_rate": 16_000}, top_k=3):
            assert one["score"] == pytest.approx(expected.probabilities[one["label"]], abs=2e-6)
    whole = FineTuner(large, inputs=Audio(seconds=10), max_steps=1, batch_size=3).fit(data, progress=False)
    assert whole.model.config.max_source_positions == 500


@pytest.mark.parametrize(("longest", "positions"), [(0.5, 50), (1.5, 100), (30.0, 200)])
def test_pieces_that_are_asked_for_cut_the_window_too(longest: float, positions: int) -> None:
    """Of three seconds of sound a model that hears pieces of a second hears no silence for the rest of ten."""
    config = tiny_audio_config("whisper", num_labels=3, dropout=0.0)
    config.max_source_positions = 500
    large = AutoModelForAudioClassification.from_config(config)
    data, inputs = TaskDataset(waves(6, seconds=3.0)), Audio(longest=longest, overlap=0.1)
    tuner = FineTuner(large, inputs=inputs, max_steps=1, batch_size=3).fit(data, progress=False)
    assert tuner.model.config.max_source_positions == positions
    assert len(tuner.predict(data)) == 6


class Mean(nn.Module):
    """A model of one's own: means of strength over stretches of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3)

    def forward(self, samples: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        crossings = (samples[:, 1:] * samples[:, :-1] < 0).float().sum(1) / attention_mask.sum(1)
        out: torch.Tensor = self.layer(crossings[:, None])
        return out


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    data = TaskDataset(waves(12))
    tuner = FineTuner(Mean(), inputs=Audio(sampling_rate=16_000), max_steps=2, batch_size=4).fit(data, progress=False)
    before = tuner.predict(data)
    tuner.save(tmp_path / "m")
    assert apart(before, FineTuner.load(tmp_path / "m", model=Mean()).predict(data)) == 0


def test_options_and_inputs_that_cannot_be() -> None:
    data = TaskDataset(waves(6))
    with pytest.raises(OptionError, match="audio-classification reads Audio"):
        FineTuner(tiny_audio_model(), max_length=16, max_steps=1).fit(data, progress=False)
    with pytest.raises(OptionError, match="did you mean 'label_smoothing'"):
        AudioClassification(label_smooting=0.1)
    tuner = tuner_of("wav2vec2", max_steps=1).fit(data, progress=False)
    with pytest.raises(Exception, match="this model takes sounds"):
        tuner.predict([3.5])
    with pytest.raises(DataError, match="this model takes sounds"):
        tuner.predict(data[0]["audio"]["array"])


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_what_is_frozen_is_computed_once_for_each_sound(family: str) -> None:
    data = TaskDataset(waves(12))
    whole = tuner_of(family, freeze="backbone").fit(data, progress=False)
    assert whole._fitted.recall is not None  # type: ignore[union-attr]
    names = [name for name, weight in whole.model.named_parameters() if not weight.requires_grad]
    anew = Audio(processor=tiny_feature_extractor(family), augment=Gain(decibels=0.0))  # drawn, and so never kept
    plain = tuner_of(family, freeze=names, inputs=anew).fit(data, progress=False)
    losses = [[record["loss"] for record in tuner.history.steps] for tuner in (whole, plain)]
    assert np.allclose(*losses, rtol=1e-5)
    assert apart(whole.predict(data), plain.predict(data)) <= 1e-5
