"""Short sounds, and the tiny models that listen to them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from sftlib.errors import OptionError
from sftlib.testing import (
    AUDIO_FAMILIES,
    SOUNDS,
    tiny_audio_model,
    tiny_feature_extractor,
    tiny_tokenizer,
    waves,
    write_waves,
)


def test_rows_are_those_of_their_seed() -> None:
    rows, same, other = waves(7, seed=3), waves(7, seed=3), waves(7, seed=4)
    assert [row["label"] for row in rows] == [SOUNDS[i % 3] for i in range(7)]
    for row in rows:
        array = row["audio"]["array"]
        assert array.dtype == np.float32
        assert 0.3 < abs(array).max() <= 1
        assert 2000 <= len(array) <= 4000
    assert len({len(row["audio"]["array"]) for row in rows}) > 1
    assert all(np.array_equal(a["audio"]["array"], b["audio"]["array"]) for a, b in zip(rows, same, strict=True))
    assert not any(np.array_equal(a["audio"]["array"], b["audio"]["array"]) for a, b in zip(rows, other, strict=True))


def test_all_that_cannot_be_is_named_at_once() -> None:
    with pytest.raises(OptionError, match=r"classes=9(.|\n)*sampling_rate=100(.|\n)*seconds=0"):
        waves(1, classes=9, sampling_rate=100, seconds=0)


@pytest.mark.parametrize("sampling_rate", [8_000, 16_000])
def test_a_folder_holds_them_to_the_last_of_16_bits(tmp_path: Path, sampling_rate: int) -> None:
    folder = Path(write_waves(tmp_path / "sounds", 10, classes=5, sampling_rate=sampling_rate, seed=1))
    assert sorted(path.name for path in folder.iterdir()) == sorted(SOUNDS)
    for number, row in enumerate(waves(10, classes=5, sampling_rate=sampling_rate, seed=1)):
        with wave.open(str(folder / row["label"] / f"{number:05}.wav")) as file:
            assert (file.getnchannels(), file.getframerate()) == (1, sampling_rate)
            read = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32767
        assert abs(read - row["audio"]["array"]).max() <= 0.51 / 32767


def test_the_class_can_be_heard() -> None:
    """By the mean pitch and its drift alone, as a frequency per half tells them."""

    def heard(row: dict[str, dict[str, np.ndarray]]) -> tuple[float, float]:
        first, last = np.array_split(row["audio"]["array"], 2)
        crossings = [float((np.diff(np.sign(half)) != 0).mean()) * 8_000 for half in (first, last)]
        return crossings[0], crossings[1]

    expected = {"low": (300, 300), "high": (1500, 1500), "rising": (600, 1200), "falling": (1200, 600)}
    for row in waves(40, classes=4):
        found = heard(row)
        nearest = min(expected, key=lambda name: np.hypot(*np.subtract(expected[name], found)))
        assert nearest == row["label"], found


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_a_tiny_model_hears_what_its_extractor_makes(family: str) -> None:
    arrays = [row["audio"]["array"] for row in waves(4)]
    padded = "max_length" if family in ("whisper", "ast") else True
    inputs = tiny_feature_extractor(family)(arrays, sampling_rate=16_000, padding=padded, return_tensors="pt")
    model = tiny_audio_model(family, 3)
    assert model.num_parameters() < 60_000
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.shape == (4, 3)
    assert (logits[0] - logits[1]).abs().max() > 1e-5, "the answer does not depend on the sound"


def test_speech_becomes_tokens() -> None:
    size = len(tiny_tokenizer())
    assert tiny_audio_model(auto_class="AutoModelForCTC")(torch.zeros(1, 4000)).logits.shape == (1, 49, size)
    model = tiny_audio_model("whisper", auto_class="AutoModelForSpeechSeq2Seq")
    found = model(torch.zeros(1, 16, 100), decoder_input_ids=torch.tensor([[2, 5]]))
    assert found.logits.shape == (1, 2, size)
