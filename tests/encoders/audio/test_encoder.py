"""Sounds in, tensors out: decoded, resampled, cut and drawn; and rows that no batch changes."""

from __future__ import annotations

import base64
import io
import logging
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from sftlib import Audio, FineTuner, TaskDataset
from sftlib.encoders.audio.augment import Axes, Gain, Mask, Noise, Speed, augmentations
from sftlib.encoders.audio.decode import decode
from sftlib.encoders.audio.encoder import AudioEncoder
from sftlib.encoders.audio.pieces import cuts
from sftlib.encoders.audio.preview import SoundPreview
from sftlib.encoders.draws import Draw
from sftlib.errors import DataError, OptionError
from sftlib.models.layouts.norms_over_time import RowByRow, norms_over_time
from sftlib.models.sources import open_source
from sftlib.tasks.audio.classification import AudioClassification
from sftlib.testing import AUDIO_FAMILIES, tiny_audio_model, tiny_feature_extractor, waves
from tests.sounds import saved, tone

RAW = ("wav2vec2", "hubert", "wavlm")


def sounds(count: int = 6, **options: Any) -> TaskDataset:
    return TaskDataset(waves(count, **options))


def columns(encoder: AudioEncoder, data: TaskDataset) -> Any:
    return AudioClassification().written(data, encoder)


def test_decoding_is_the_mean_of_channels_resampled_by_scipy(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    both = np.stack([tone(rate=22_050), tone(rate=22_050, pitch=500)], axis=1)
    path = tmp_path / "a.wav"
    path.write_bytes(saved(both, rate=22_050, subtype="FLOAT"))
    expected = resample_poly(both.mean(axis=1), 320, 441)
    for value in (str(path), path.read_bytes(), {"array": both.mean(axis=1), "sampling_rate": 22_050}):
        found = decode(value, 16_000)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-6


def test_resampling_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sftlib")
    encoder = AudioEncoder(tiny_feature_extractor())
    for _ in range(2):
        columns(encoder, sounds(4, sampling_rate=8000))
    assert caplog.text.count("4 sounds are resampled to 16,000 Hz") == 1


@pytest.mark.parametrize("family", AUDIO_FAMILIES)
def test_what_a_model_hears_is_what_its_extractor_makes_of_one_sound(family: str) -> None:
    extractor = tiny_feature_extractor(family)
    encoder, data = AudioEncoder(extractor), sounds()
    encoded = columns(encoder, data)
    loaded = encoder.load(encoded, np.arange(6), None)
    inputs = encoder.lay_out(loaded)
    for row, sound in enumerate(data.column("audio")):
        alone = extractor(sound["array"], sampling_rate=16_000, return_tensors="np")[encoder.name][0]
        shown = inputs[encoder.name][row].numpy()
        if not encoder.fixed:
            mask = inputs["attention_mask"][row].numpy()
            assert mask.sum() == len(alone)
            assert not shown[len(alone) :].any()
            assert mask[: len(alone)].all()
            shown = shown[: len(alone)]
        assert np.array_equal(shown, alone.astype(np.float32))


@pytest.mark.parametrize("family", RAW)
def test_padding_changes_nothing(family: str) -> None:
    """The model by itself is the control: of it padding does change the answers, by far more."""
    model, encoder = tiny_audio_model(family, 3, dropout=0.0), AudioEncoder(tiny_feature_extractor(family))
    assert norms_over_time(model)
    data = sounds(8, seconds=0.5)
    batch = encoder.lay_out(encoder.load(columns(encoder, data), np.arange(8), None))
    layout, _ = encoder.layout(model, lambda _: torch.zeros(1), padding_free=None)
    assert isinstance(layout, RowByRow)
    with torch.no_grad():
        alone = torch.cat(
            [model(batch[encoder.name][i : i + 1, : int(batch["attention_mask"][i].sum())]).logits for i in range(8)]
        )
        plain = model(**batch).logits
        with layout.installed(model):
            layout.arguments(None, batch)  # type: ignore[arg-type]
            ours = model(**batch).logits
    assert (ours - alone).abs().max() <= 2e-6 * alone.abs().max()
    assert (plain - alone).abs().max() > 1e-4 * alone.abs().max()


def test_norms_are_left_alone_afterwards() -> None:
    model = tiny_audio_model("wav2vec2", 3)
    names = [name for name, _ in model.named_parameters()]
    layout, _ = AudioEncoder(tiny_feature_extractor()).layout(model, lambda _: torch.zeros(1), padding_free=None)
    with layout.installed(model):
        assert [name for name, _ in model.named_parameters()] == names
    assert not any(norm._forward_hooks for norm, _ in norms_over_time(model))


def test_pieces_cover_a_sound_and_share_their_ends() -> None:
    found = cuts([1000, 2500, 400], longest=1000, overlap=200)
    assert found.owners.tolist() == [0, 1, 1, 1, 2]
    assert found.starts.tolist() == [0, 0, 800, 1500, 0]
    assert found.stops.tolist() == [1000, 1000, 1800, 2500, 400]


def test_long_sounds_are_cut_and_known_by_their_pieces() -> None:
    encoder = AudioEncoder(tiny_feature_extractor(), longest=0.1, overlap=0.02)
    data = sounds(3)
    encoded = columns(encoder, data)
    assert len(encoded) > 3
    assert encoded.owners[-1] == 2
    assert len({encoded.identity(row) for row in range(len(encoded))}) == len(encoded)
    whole = AudioEncoder(tiny_feature_extractor())
    assert len({columns(whole, data).identity(0), encoded.identity(0)}) == 2


def test_windows_are_drawn_from_counters() -> None:
    encoder = AudioEncoder(tiny_feature_extractor(), seconds=0.05, augment=augmentations("medium"))
    encoded = columns(encoder, sounds(4))

    def drawn(epoch: int, rows: list[int]) -> list[np.ndarray]:
        found: list[np.ndarray] = encoder.load(encoded, np.array(rows), lambda row: Draw(0, epoch, row)).inputs[
            encoder.name
        ]
        return found

    first, again, other = drawn(0, [0, 1, 2]), drawn(0, [2, 0, 1]), drawn(1, [0, 1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(first, [again[1], again[2], again[0]], strict=True))
    assert not any(np.array_equal(a[:500], b[:500]) for a, b in zip(first, other, strict=True))
    assert all(700 <= len(a) <= 900 for a in first)  # 800 samples, a tenth faster or slower


def test_augmentations_change_what_they_say(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    draw, samples = Draw(0, 0, 0), tone(1)
    louder = Gain(decibels=6).of_samples(samples, draw, rate=16_000)
    ratio = louder[1:50] / samples[1:50]
    assert np.ptp(ratio) < 1e-6
    assert 0.5 <= ratio[0] <= 2
    assert len(Speed(factors=(0.8,)).of_samples(samples, draw, rate=16_000)) == 20_000
    (tmp_path / "noise.wav").write_bytes(saved(np.random.default_rng(0).normal(0, 0.3, 8000).astype(np.float32)))
    noisy = Noise(folder=tmp_path, snr=(10.0, 10.0), p=1.0).of_samples(samples, draw, rate=16_000)
    added = noisy - samples
    assert 10 * np.log10((samples**2).mean() / (added**2).mean()) == pytest.approx(10, abs=0.01)
    spectrogram = np.ones((80, 300), np.float32)
    masked = Mask(spans=1, share=0.1, bands=1, band_share=0.1).of_features(spectrogram, Draw(1, 0, 0), axes=Axes(1, 0))
    assert spectrogram.all()
    assert 0 < (masked == 0).mean() < 0.2
    assert ((masked == 0).all(axis=0) | (masked != 0).any(axis=0)).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seconds": 0}, "seconds=0"),
        ({"longest": -1, "overlap": "x"}, "(?s)longest=-1.*overlap='x'"),
        ({"augment": "lihgt"}, "did you mean 'light'"),
        ({"augment": [Gain(), Gain()]}, "'gain' twice"),
        ({"second": 1}, "did you mean 'seconds'"),
        ({"sampling_rate": 16_000, "processor": tiny_feature_extractor()}, "do not go together"),
        ({"processor": 7}, "expected a feature extractor"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Audio(**options).open(open_source(tiny_audio_model()))


def test_the_usual_extractor_of_a_model_that_is_an_object() -> None:
    for family in AUDIO_FAMILIES:
        model = tiny_audio_model(family)
        encoder = Audio().open(open_source(model))
        encoder.settle(model, markers=(), seed=0)
        assert encoder.name == model.main_input_name
    with pytest.raises(OptionError, match="comes without a feature extractor"):
        Audio().open(open_source(torch.nn.Linear(2, 2)))


def test_an_extractor_of_another_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="give its own feature extractor"):
        Audio(processor=tiny_feature_extractor("whisper")).open(open_source(tiny_audio_model())).settle(
            tiny_audio_model(), markers=(), seed=0
        )


def test_sounds_that_are_too_short_are_named() -> None:
    rows = [*waves(3), {"audio": {"array": tone()[:30], "sampling_rate": 16_000}, "label": "low"}]
    tuner = FineTuner(tiny_audio_model("wav2vec2", 3), max_steps=1)
    with pytest.raises(DataError, match="row 3: fewer samples .* than the 105"):
        tuner.fit(TaskDataset(rows), progress=False)


def test_a_sound_can_be_looked_at_and_listened_to() -> None:
    data = sounds(3)
    shown = FineTuner(tiny_audio_model("wav2vec2", 3)).preview(data, 1)
    assert np.array_equal(shown.samples, data[1]["audio"]["array"])
    assert f"{len(shown.samples) / 16_000:.2f} s at 16,000 Hz" in repr(shown)
    page = shown._repr_html_()
    content = page.split("audio/wav;base64,")[1].split('"')[0]
    with wave.open(io.BytesIO(base64.b64decode(content))) as file:
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert np.abs(read - shown.samples).max() < 1e-4
    assert page.count("<svg") == 1
    assert shown.label == data[1]["label"]
    assert f"<b>{shown.label}</b>" in page


def test_a_spectrogram_shows_the_pitch_that_is_heard() -> None:
    """Of a tone the brightest line is its band, all the time; the picture is read back by pillow."""
    pillow = pytest.importorskip("PIL.Image")
    preview = SoundPreview(tone(1.0, pitch=3000.0), 16_000, (), label="<b>", marks=(((0.1, 0.4, "a&b"),),))
    page = preview._repr_html_()
    picture = pillow.open(io.BytesIO(base64.b64decode(page.split("image/png;base64,")[1].split('"')[0])))
    bright = np.asarray(picture.convert("L"), int)
    height = bright.shape[0]
    expected = height - 1 - int(3000 / 8000 * height)
    assert np.abs(bright[:, 5:-5].argmax(axis=0) - expected).max() <= 1
    assert "a&amp;b" in page
    assert "&lt;b&gt;" in page
    assert "0.10 to  0.40 s  a&b" in repr(preview)


def test_whisper_is_cut_to_the_window_exactly() -> None:
    """Its first positions are the same; what is beyond the window was silence."""
    model = tiny_audio_model("whisper", 3, dropout=0.0)
    table = model.encoder.embed_positions.weight.clone()
    extractor = type(tiny_feature_extractor("whisper"))(feature_size=16, chunk_length=3)
    config = model.config.to_dict() | {"max_source_positions": 150}
    large = type(model)(type(model.config)(**config))
    encoder = Audio(processor=extractor, seconds=0.9).open(open_source(large))
    before = large.encoder.embed_positions.weight.clone()
    encoder.settle(large, markers=(), seed=0)
    assert large.config.max_source_positions == 50
    assert encoder.piece == 16_000
    assert torch.equal(large.encoder.embed_positions.weight, before[:50])
    assert len(table) == 50
    features = torch.from_numpy(encoder.features(tone(0.5)))[None]
    assert large(features).logits.shape == (1, 3)
