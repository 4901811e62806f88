"""Speech to text: by CTC, and by models that write."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from sftlib import Audio, FineTuner, SpeechRecognition, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.models.ctc import characters, frames_needed, ids_of, summed_loss, text_of, tokenizer_of
from sftlib.support.spoken import basic
from sftlib.tasks.audio.by_frames import ByFrames
from sftlib.tasks.audio.by_tokens import ByTokens
from sftlib.tasks.audio.transcript import Transcript
from sftlib.testing import tiny_audio_model, tiny_feature_extractor, tiny_speech_tokenizer, waves
from tests.versions import hears_by_itself

SPOKEN = {"low": "oo", "high": "ii it", "rising": "oi"}


def spoken(count: int = 12, **options: Any) -> TaskDataset:
    rows = waves(count, **options)
    return TaskDataset([{"audio": row["audio"], "text": SPOKEN[row["label"]]} for row in rows])


def by_frames(family: str = "wav2vec2", *, dropout: float = 0.0, **options: Any) -> FineTuner:
    reading = options.pop("inputs", Audio(processor=tiny_feature_extractor(family)))
    settings: dict[str, Any] = {"batch_size": 6, "max_steps": 3, "learning_rate": 1e-3, **options}
    return FineTuner(
        tiny_audio_model(family, dropout=dropout, auto_class="AutoModelForCTC"), inputs=reading, **settings
    )


def by_tokens(*, dropout: float = 0.0, **options: Any) -> FineTuner:
    reading = options.pop(
        "inputs", Audio(processor=tiny_feature_extractor("whisper"), tokenizer=tiny_speech_tokenizer())
    )
    settings: dict[str, Any] = {"batch_size": 6, "max_steps": 3, "learning_rate": 1e-3, **options}
    model = tiny_audio_model("whisper", dropout=dropout, auto_class="AutoModelForSpeechSeq2Seq")
    return FineTuner(model, inputs=reading, **settings)


# The pieces of CTC.


def test_the_loss_is_that_of_all_ways_to_say_a_text() -> None:
    """Summed over every path of frames that says it, by hand."""
    torch.manual_seed(0)
    scores, target = torch.randn(2, 4, 5, dtype=torch.float64), torch.tensor([[3, 3], [4, -100]])
    frames, lengths = torch.tensor([4, 3]), torch.tensor([2, 1])
    expected = 0.0
    for row in range(2):
        wanted, total = target[row, : lengths[row]].tolist(), 0.0
        likely = scores[row].log_softmax(-1)
        for path in itertools.product(range(5), repeat=int(frames[row])):
            said = [key for key, _ in itertools.groupby(path) if key != 0]
            if said == wanted:
                total += math.exp(sum(float(likely[t, k]) for t, k in enumerate(path)))
        expected -= math.log(total)
    assert float(summed_loss(scores, frames, target, lengths)) == pytest.approx(expected, rel=1e-9)


def test_rows_without_a_text_count_nothing() -> None:
    scores = torch.randn(2, 4, 5)
    nothing = summed_loss(scores, torch.tensor([4, 4]), torch.full((2, 1), -100), torch.tensor([0, 0]))
    assert float(nothing) == 0.0


def test_texts_are_said_and_read_as_transformers_does() -> None:
    vocabulary = characters(["ab ba", "c"])
    tokenizer = tokenizer_of(vocabulary)
    assert tokenizer("ab ba c", add_special_tokens=False)["input_ids"] == ids_of("ab ba c", vocabulary)
    numbers = np.random.default_rng(0)
    for _ in range(200):
        ids = numbers.integers(0, 6, 12).tolist()
        assert text_of(ids, vocabulary) == tokenizer.decode(ids, skip_special_tokens=False)


def test_repeats_need_a_frame_between_them() -> None:
    assert frames_needed(ids_of("aab", ("a", "b"))) == 4
    tight = torch.full((1, 3, 5), 0.0)
    assert math.isinf(float(summed_loss(tight, torch.tensor([3]), torch.tensor([[3, 3, 4]]), torch.tensor([3]))))


# By frames.


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_the_folder_gives_the_same_texts_in_transformers(family: str, tmp_path: Path) -> None:
    data = spoken()
    tuner = by_frames(family, learning_rate=0.0, max_steps=1).fit(data, progress=False)
    before = tuner.predict(data)
    assert len({found.text for found in before}) > 8, "random weights say something else of every sound"
    tuner.save(tmp_path / "m")
    again = FineTuner.load(tmp_path / "m")
    assert [vars(found) for found in again.predict(data)] == [vars(found) for found in before]
    listen = pipeline("automatic-speech-recognition", model=str(tmp_path / "m"))
    for row, found in zip(data, before, strict=True):
        assert listen({"raw": row["audio"]["array"], "sampling_rate": 16_000})["text"] == found.text
    tuner.save(tmp_path / "m")  # once more, over itself


def test_texts_are_learned_by_heart() -> None:
    data = spoken()
    tuner = by_frames(batch_size=12, max_steps=220, learning_rate=3e-3, schedule="constant").fit(data, progress=False)
    assert [found.text for found in tuner.predict(data)] == data.column("text")
    assert tuner.evaluate(data)["cer"] == 0.0


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_no_batch_size_changes_a_text_or_a_loss(family: str) -> None:
    data = spoken()
    tuner = by_frames(family, max_steps=1, learning_rate=0.0).fit(data, progress=False)
    alone, together = tuner.predict(data, batch_size=1), tuner.predict(data, batch_size=12)
    assert [one.text for one in alone] == [one.text for one in together]
    assert np.allclose([one.confidence for one in alone], [one.confidence for one in together], rtol=1e-6)
    one, many = (tuner.evaluate(data, batch_size=size) for size in (1, 7))
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)
    assert one["wer"] == many["wer"]


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_micro_batches_change_nothing_with_dropout_on(family: str) -> None:
    reading = Audio(processor=tiny_feature_extractor(family), augment="medium")
    tuners = [
        by_frames(family, dropout=0.2, inputs=reading, micro_batch_size=size).fit(spoken(), progress=False)
        for size in (1, 4, 6)
    ]
    losses = [[record["loss"] for record in tuner.history.steps] for tuner in tuners]
    assert np.allclose(losses[0], losses[1], rtol=1e-5)
    assert np.allclose(losses[0], losses[2], rtol=1e-5)


def test_the_loss_is_divided_by_characters() -> None:
    data = spoken(6)
    tuner = by_frames(learning_rate=0.0, max_steps=1).fit(data, progress=False)
    model, extractor = tuner.model.eval(), tiny_feature_extractor()
    vocabulary, total = characters(SPOKEN.values()), 0.0
    for row in data:
        values = extractor(row["audio"]["array"], sampling_rate=16_000, return_tensors="pt")["input_values"]
        with torch.no_grad():
            likely = model(values).logits.log_softmax(-1)[0]
        ids = torch.tensor(ids_of(row["text"], vocabulary))
        loss = torch.nn.functional.ctc_loss(likely, ids, (len(likely),), (len(ids),), reduction="sum")
        total += float(loss)
    count = sum(len(row["text"]) for row in data)
    assert tuner.evaluate(data)["loss"] == pytest.approx(total / count, rel=1e-6)


def test_the_vocabulary_is_that_of_training_texts_alone() -> None:
    data = spoken(6)
    other = TaskDataset([{"audio": row["audio"], "text": "zq"} for row in data])
    tuner = by_frames().fit(data, other, progress=False)
    learned = tuner._fitted.task.learned  # type: ignore[union-attr]
    assert learned.vocabulary == ("i", "o", "t")
    assert tuner.model.config.vocab_size == 6
    assert np.isfinite(tuner.evaluate(other)["loss"])


def test_texts_that_cannot_fit_are_named_before_the_first_step() -> None:
    rows = [
        *spoken(3),
        {"audio": {"array": waves(1)[0]["audio"]["array"][:400], "sampling_rate": 16_000}, "text": "oooo"},
    ]
    with pytest.raises(DataError, match=r"1 texts need more frames .* row 3 \(7 of 4 frames, 'oooo'\)"):
        by_frames().fit(TaskDataset(rows), progress=False)
    # Speed leaves fewer frames: what fits as it is does not fit a tenth faster.
    samples = 10 + 80 * 6
    rows[-1] = {
        "audio": {"array": waves(1)[0]["audio"]["array"][: samples + 300], "sampling_rate": 16_000},
        "text": "ooooo",
    }
    by_frames().fit(TaskDataset(rows), progress=False)
    reading = Audio(processor=tiny_feature_extractor(), augment="medium")
    with pytest.raises(DataError, match="texts need more frames"):
        by_frames(inputs=reading).fit(TaskDataset(rows), progress=False)


def test_texts_of_which_nothing_is_left_are_named() -> None:
    rows = [*spoken(3), {"audio": waves(1)[0]["audio"], "text": "--"}, {"audio": waves(2)[1]["audio"], "text": "a|b"}]
    with pytest.raises(DataError, match=r"nothing is left of row 3 after text_normalizer='basic'"):
        by_frames(task=SpeechRecognition(text_normalizer="basic")).fit(TaskDataset(rows), progress=False)
    with pytest.raises(DataError, match=r"row 4 with '\|'"):
        by_frames().fit(TaskDataset(rows), progress=False)


def test_the_normaliser_is_saved_and_rates_are_with_and_without_it(tmp_path: Path) -> None:
    jiwer = pytest.importorskip("jiwer")
    data = spoken(6).map(lambda row: {**row, "text": row["text"].upper() + "!"})
    tuner = by_frames(task=SpeechRecognition(text_normalizer="basic"), learning_rate=0.0, max_steps=1)
    tuner.fit(data, progress=False)
    assert tuner._fitted.task.learned.vocabulary == ("i", "o", "t")  # type: ignore[union-attr]
    metrics = tuner.evaluate(data)
    spoken_texts = [text.lower().rstrip("!") for text in data.column("text")]
    found = [basic(prediction.text) for prediction in tuner.predict(data)]
    assert metrics["cer_normalized"] == pytest.approx(jiwer.cer(spoken_texts, found))
    assert metrics["cer"] == pytest.approx(jiwer.cer(data.column("text"), [p.text for p in tuner.predict(data)]))
    tuner.save(tmp_path / "m")
    again = FineTuner.load(tmp_path / "m")
    assert again.task == "speech-recognition"
    assert again.get_params()["task"].text_normalizer == "basic"
    assert dict(again.evaluate(data)) == pytest.approx(dict(metrics))


def test_long_sounds_are_heard_in_pieces_and_not_learned() -> None:
    data = spoken(6, seconds=0.5)
    tuner = by_frames(learning_rate=0.0, max_steps=1).fit(data, progress=False)
    short = Audio(processor=tiny_feature_extractor(), longest=0.2, overlap=0.1)
    with pytest.raises(DataError, match=r"within the length limit in row 0.*Audio\(longest=...\)"):
        by_frames(inputs=short).fit(data, progress=False)
    encoder = tuner._fitted.encoder  # type: ignore[union-attr]
    encoder.longest, encoder.overlap = 0.2, 0.1
    encoder._use(encoder.extractor)
    cut = tuner.predict(data)
    assert all(found.text for found in cut)
    for row, found in zip(data, cut, strict=True):
        assert found.span == (0, len(row["audio"]["array"]))
        assert abs(len(found.heard) - found.span[1] / 80) <= 10
    assert math.isnan(tuner.evaluate(data)["loss"])


def test_frames_of_pieces_are_joined_in_the_middle_of_what_they_share() -> None:
    way = ByFrames(("a", "b", "c"))
    likely, step = (math.log(0.5),) * 8, 100 / 16_000
    first, second = (
        way._transcript(heard, likely, (tuple(start + step * i for i in range(8)), step), span)
        for heard, start, span in (
            ((3, 3, 0, 0, 4, 4, 0, 0), 0.0, (0, 800)),
            ((4, 4, 0, 0, 5, 5, 0, 0), 0.025, (400, 1200)),
        )
    )
    found = way.joined([first, second])
    assert [(one.text, round(one.start / step, 6), round(one.end / step, 6)) for one in found.characters] == [
        ("a", 0, 2),
        ("b", 4, 6),
        ("c", 8, 10),
    ]
    assert found.heard == (3, 3, 0, 0, 4, 4, 0, 0, 5, 5, 0, 0)
    assert found.text == "abc"
    assert found.span == (0, 1200)
    assert found.confidence == pytest.approx(0.5)


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_characters_have_the_times_that_transformers_gives_them(family: str, tmp_path: Path) -> None:
    data = spoken()
    tuner = by_frames(family, learning_rate=0.0, max_steps=1).fit(data, progress=False)
    tuner.save(tmp_path / "m")
    listen = pipeline("automatic-speech-recognition", model=str(tmp_path / "m"))
    for row, found in zip(data, tuner.predict(data), strict=True):
        assert "".join(one.text for one in found.characters) == found.text
        assert " ".join(one.text for one in found.words) == " ".join(found.text.split())
        told = listen({"raw": row["audio"]["array"], "sampling_rate": 16_000}, return_timestamps="char")["chunks"]
        theirs = [(chunk["text"], *chunk["timestamp"]) for chunk in told if chunk["text"] != " "]
        ours = [(one.text, one.start, one.end) for one in found.characters if one.text != " "]
        assert [one[0] for one in ours] == [one[0] for one in theirs]
        assert np.allclose([one[1:] for one in ours], [one[1:] for one in theirs], atol=1e-9)
        assert all(0 < one.probability <= 1 for one in found.characters)
        page = found.over(row["audio"])._repr_html_()
        assert page.count("<rect") == len(found.words) + len(ours)


class ByHand(torch.nn.Module):
    """An encoder of Whisper's kind with an output for each frame, as no class of transformers has it."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        whole = tiny_audio_model("whisper", dropout=0.0, auto_class="AutoModelForSpeechSeq2Seq")
        self.encoder = whole.model.encoder
        self.encoder.config.max_source_positions = self.encoder.max_source_positions = 150  # three seconds
        self.encoder.embed_positions = torch.nn.Embedding(150, whole.config.d_model)
        self.head = torch.nn.Linear(whole.config.d_model, outputs)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.encoder(input_features).last_hidden_state)
        return scores


def test_a_module_of_ones_own_hears_a_window_that_is_cut_and_is_saved(tmp_path: Path) -> None:
    data = spoken(seconds=0.4)
    extractor = type(tiny_feature_extractor("whisper"))(feature_size=16, chunk_length=3)
    tuner = FineTuner(
        ByHand(6), task="speech-recognition", inputs=Audio(processor=extractor), freeze=["encoder"], epochs=2
    ).fit(data, progress=False)
    assert tuner.settings["learning_rate"] == 1e-2, "one layer on features that stay as they are"
    assert tuner.model.encoder.embed_positions.num_embeddings == 50
    found = tuner.predict(data)
    tuner.save(tmp_path / "m")
    again = FineTuner.load(tmp_path / "m", model=ByHand(6))
    assert [vars(one) for one in again.predict(data)] == [vars(one) for one in found]


# By tokens.


def test_what_is_written_is_what_transformers_writes(tmp_path: Path) -> None:
    data = spoken()
    tuner = by_tokens(epochs=30, max_steps=None, learning_rate=1e-2).fit(data, progress=False)
    before = tuner.predict(data)
    assert len({found.text for found in before}) > 1
    assert tuner.evaluate(data)["wer"] < 0.5
    tuner.save(tmp_path / "m")
    again = FineTuner.load(tmp_path / "m")
    assert [vars(found) for found in again.predict(data)] == [vars(found) for found in before]
    listen = pipeline("automatic-speech-recognition", model=str(tmp_path / "m"))
    writer, tokenizer = listen.model, listen.tokenizer
    for row, found in zip(data, before, strict=True):
        heard = listen.feature_extractor(row["audio"]["array"], sampling_rate=16_000, return_tensors="pt")
        ids = writer.generate(heard["input_features"])[0]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == found.text
        if hears_by_itself("whisper"):
            assert listen({"raw": row["audio"]["array"], "sampling_rate": 16_000})["text"].strip() == found.text


def test_the_end_is_learned_though_padding_is_the_same_token() -> None:
    data = spoken(4)
    tuner = by_tokens(learning_rate=0.0, max_steps=1).fit(data, progress=False)
    fitted = tuner._fitted
    assert fitted is not None
    tokenizer, model = fitted.encoder.tokenizer, fitted.model.eval()
    start, end = model.config.decoder_start_token_id, model.config.eos_token_id
    total, count = 0.0, 0
    for row in data:
        features = tiny_feature_extractor("whisper")(row["audio"]["array"], sampling_rate=16_000, return_tensors="pt")
        ids = [*tokenizer(f" {row['text']}", add_special_tokens=False)["input_ids"], end]
        read = torch.tensor([[start, len(tokenizer) - 1, *ids[:-1]]])  # the last token says: without times
        with torch.no_grad():
            scores = model(features["input_features"], decoder_input_ids=read).logits[0, 1:]
        total += float(torch.nn.functional.cross_entropy(scores, torch.tensor(ids), reduction="sum"))
        count += len(ids)
    assert tuner.evaluate(data)["loss"] == pytest.approx(total / count, rel=1e-5)


def test_no_batch_size_changes_what_is_written() -> None:
    data = spoken()
    tuner = by_tokens(max_steps=20, learning_rate=1e-2).fit(data, progress=False)
    alone, together = tuner.predict(data, batch_size=1), tuner.predict(data, batch_size=12)
    assert [one.text for one in alone] == [one.text for one in together]
    one, many = (tuner.evaluate(data, batch_size=size) for size in (1, 7))
    assert one["loss"] == pytest.approx(many["loss"], rel=1e-6)


def test_micro_batches_of_writing_change_nothing_with_dropout_on() -> None:
    tuners = [by_tokens(dropout=0.2, micro_batch_size=size).fit(spoken(), progress=False) for size in (1, 4, 6)]
    losses = [[record["loss"] for record in tuner.history.steps] for tuner in tuners]
    assert np.allclose(losses[0], losses[1], rtol=1e-5)
    assert np.allclose(losses[0], losses[2], rtol=1e-5)


def test_texts_that_are_too_long_to_write_are_named() -> None:
    with pytest.raises(DataError, match=r"texts have more tokens than the 2 that are written at most: row 0"):
        by_tokens(task=SpeechRecognition(max_target_length=2)).fit(spoken(6), progress=False)
    with pytest.raises(OptionError, match="max_target_length=1000: this model writes at most"):
        by_tokens(task=SpeechRecognition(max_target_length=1000)).fit(spoken(6), progress=False)
    with pytest.raises(OptionError, match="language='de': this model knows no languages"):
        by_tokens(task=SpeechRecognition(language="de")).fit(spoken(6), progress=False)
    with pytest.raises(OptionError, match="comes without a tokenizer"):
        by_tokens(inputs=Audio()).fit(spoken(6), progress=False)


def test_texts_of_pieces_are_joined_where_they_say_the_same() -> None:
    way = ByTokens.__new__(ByTokens)
    pieces = [Transcript("The cat sat on", 0.5, (1, 2), (0, 10)), Transcript("sat on. the mat", 0.5, (3,), (5, 15))]
    assert way.joined(pieces).text == "The cat sat on the mat"


@pytest.mark.parametrize(
    "options", [{"text_normalizer": "bsaic"}, {"language": 3}, {"max_target_length": 0}, {"text_normaliser": "basic"}]
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        SpeechRecognition(**options)
