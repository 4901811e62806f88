"""`explain` of what is said in a sound: by models that say a character a frame, and by models that write."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib import Audio, FineTuner, SpeechRecognition, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.explain import SoundExplanation, explain
from sftlib.models.ctc import step_logs, summed_loss
from sftlib.tasks.audio.transcript import words_until
from sftlib.testing import tiny_audio_model, tiny_feature_extractor, tiny_speech_tokenizer, waves

RATE, FRAME = 16_000, 800
SPOKEN = {"low": "oo", "high": "ii it", "rising": "oi"}


def spoken(count: int = 3, **options: Any) -> TaskDataset:
    rows = waves(count, **options)
    return TaskDataset([{"audio": row["audio"], "text": SPOKEN[row["label"]]} for row in rows])


@cache
def tuned(kind: str) -> FineTuner:
    """Of each kind a tiny model that knows three sounds: two that stay as they are, and one that rises."""
    if kind == "frames":
        model = tiny_audio_model("wav2vec2", dropout=0.0, auto_class="AutoModelForCTC")
        inputs = Audio(processor=tiny_feature_extractor("wav2vec2"))
    else:
        model = tiny_audio_model("whisper", dropout=0.0, auto_class="AutoModelForSpeechSeq2Seq")
        inputs = Audio(processor=tiny_feature_extractor("whisper"), tokenizer=tiny_speech_tokenizer())
    tuner = FineTuner(
        model,
        inputs=inputs,
        batch_size=3,
        max_steps=150 if kind == "frames" else 80,
        learning_rate=4e-3,
        schedule="constant",
        precision="fp32",
    )
    return tuner.fit(spoken(), progress=False)


# The pieces of CTC.


def test_steps_are_those_of_all_ways_to_begin_like_a_text() -> None:
    """Summed over every path of frames, by hand; rows of other lengths of frames and of texts beside one another."""
    torch.manual_seed(0)
    scores = torch.randn(3, 5, 5, dtype=torch.float64)
    target = torch.tensor([[3, 3, 4], [4, 1, -100], [2, -100, -100]])
    frames, lengths = torch.tensor([5, 4, 3]), torch.tensor([3, 2, 1])
    found = step_logs(scores, frames, target, lengths)
    for row in range(3):
        wanted = target[row, : lengths[row]].tolist()
        likely = scores[row].log_softmax(-1).tolist()
        begun, whole = [0.0] * len(wanted), 0.0
        for path in itertools.product(range(5), repeat=int(frames[row])):
            said = [key for key, _ in itertools.groupby(path) if key != 0]
            chance = math.exp(sum(likely[frame][output] for frame, output in enumerate(path)))
            whole += chance * (said == wanted)
            for count in range(len(wanted)):
                begun[count] += chance * (said[: count + 1] == wanted[: count + 1])
        upto = np.log([1.0, *begun[:-1], whole])
        np.testing.assert_allclose(found[row, : lengths[row]].numpy(), np.diff(upto), rtol=1e-9)
        assert found[row, lengths[row] :].tolist() == [0.0] * (3 - len(wanted))
    assert float(found.sum()) == pytest.approx(-float(summed_loss(scores, frames, target, lengths)), rel=1e-9)


def test_steps_have_the_gradients_of_the_loss() -> None:
    torch.manual_seed(1)
    target, lengths, frames = torch.tensor([[3, 4, 4, 2, 3]]), torch.tensor([5]), torch.tensor([40])
    slopes = []
    for number in (lambda x: step_logs(x, frames, target, lengths), lambda x: -summed_loss(x, frames, target, lengths)):
        scores = torch.randn(1, 40, 6, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
        slopes.append(torch.autograd.grad(number(scores).sum(), scores)[0])
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-6)


# A model that is known.


class Loudness(nn.Module):
    """Says of every twentieth of a second what is as loud as that: nothing, the end of a word, ``a``, or ``b``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, input_values: Tensor) -> Tensor:
        loud = self.weight * input_values.unfold(1, FRAME, FRAME).abs().mean(dim=2)  # (B, T)
        outputs = [0 * loud, 0 * loud - 20, 7 * (loud - 0.45), 20 * (loud - 1), 60 * (loud - 2)]
        return torch.stack(outputs, dim=2)


def said(*loudness: float) -> dict[str, Any]:
    """A sound in stretches of a twentieth of a second."""
    draw = np.random.default_rng(0)
    parts = [level * draw.choice([-1.0, 1.0], FRAME) for level in loudness]
    return {"audio": {"array": np.concatenate(parts).astype(np.float32), "sampling_rate": RATE}}


SAID = said(0, 0, 0.1, 0, 0, 0.05, 0, 0, 0.2, 0, 0)


@cache
def listening() -> FineTuner:
    rows = TaskDataset([{**SAID, "text": "a b"}] * 2)
    tuner = FineTuner(Loudness(), inputs=Audio(sampling_rate=RATE), task=SpeechRecognition(), max_steps=1)
    return tuner.set_params(learning_rate=0.0, precision="fp32").fit(rows, progress=False)


def test_the_moment_of_a_word_is_found() -> None:
    tuner = listening()
    assert tuner.predict(SAID).text == "a b"
    for word, text, place in ((0, "a", 2), (1, "b", 8)):
        why = explain(tuner, SAID, target=word)
        assert why.target == (word, text)
        assert len(why.heat) == 11
        assert int(why.heat.argmax()) == place
        assert why.probability > 0.7
        assert why.comprehensiveness > 0.7
        other = 10 - place
        assert abs(why.heat[other]) < 0.01 * why.heat[place], "the other word is taken as said"


# Models of both kinds.


def by_hand(kind: str, tuner: FineTuner, row: Any, text: str) -> Callable[[Tensor], float]:
    """The log-probability of a text, of what the feature extractor makes of a sound, in transformers' own calls."""
    model = tuner.model

    @torch.no_grad()
    def number(heard: Tensor) -> float:
        if kind == "frames":
            scores = model(heard[None]).logits.log_softmax(-1)
            ids = torch.tensor([[{" ": 2, "i": 3, "o": 4, "t": 5}[sign] for sign in text]])
            frames, length = torch.tensor([scores.shape[1]]), torch.tensor([ids.shape[1]])
            loss = functional.ctc_loss(scores.transpose(0, 1), ids, frames, length, reduction="sum")
            return -float(loss)
        tokenizer = tiny_speech_tokenizer()
        prefix = [model.config.decoder_start_token_id, tokenizer.convert_tokens_to_ids("<|notimestamps|>")]
        ids = [*tokenizer(f" {text}", add_special_tokens=False)["input_ids"], model.config.eos_token_id]
        read = torch.tensor([[*prefix, *ids[:-1]]])
        logs = model(heard[None], decoder_input_ids=read).logits[0, 1:].log_softmax(-1)
        return float(logs[range(len(ids)), ids].sum())

    return number


@pytest.mark.parametrize("kind", ["frames", "tokens"])
def test_what_is_explained_is_that_of_a_plain_loop(kind: str) -> None:
    """Each window of two stretches takes its mean over time in, and what is lost is shared out."""
    tuner, row, text = tuned(kind), {"audio": spoken()[2]["audio"]}, "ii it"
    why = explain(tuner, row, target=text)
    assert isinstance(why, SoundExplanation)
    assert (why.target, why.method) == (text, "leave-one-out")
    judged = tuner.judge(TaskDataset([{**row, "text": text}]))
    assert why.score == pytest.approx(-judged.loss_sum, rel=1e-4)
    assert why.probability == pytest.approx(math.exp(-judged.loss_sum / judged.count), rel=1e-4)

    extractor = tiny_feature_extractor("wav2vec2" if kind == "frames" else "whisper")
    samples = row["audio"]["array"]
    made = extractor(samples, sampling_rate=RATE, return_tensors="pt")
    heard = made["input_values" if kind == "frames" else "input_features"][0]  # time is the last axis of both
    real = heard.shape[-1] if kind == "frames" else round(heard.shape[-1] * len(samples) / extractor.n_samples)
    number, pieces = by_hand(kind, tuner, row, text), len(why.heat)
    stretch = torch.arange(real) * pieces // real
    lost = np.zeros(pieces + 1)
    for window in range(pieces + 1):
        covered = heard.clone()
        for piece in (window - 1, window):
            covered[..., :real][..., stretch == piece] = heard[..., :real].mean(dim=-1, keepdim=True)
        lost[window] = number(heard) - number(covered)
    np.testing.assert_allclose(why.heat, (lost[:-1] + lost[1:]) / 2, atol=2e-3 * np.abs(lost).max())
    assert np.abs(why.heat).max() > 0.1


@pytest.mark.parametrize("kind", ["frames", "tokens"])
def test_words_add_up_to_their_text(kind: str) -> None:
    tuner, row = tuned(kind), {"audio": spoken()[1]["audio"]}
    text = tuner.predict(row).text
    words = text.split()
    assert len(words) == 2
    whole = explain(tuner, row)
    assert whole.target == text
    apart = [explain(tuner, row, target=number) for number in range(len(words))]
    assert [why.target for why in apart] == list(enumerate(words))
    assert sum(why.score for why in apart) == pytest.approx(whole.score, abs=1e-3)
    np.testing.assert_allclose(np.sum([why.heat for why in apart], axis=0), whole.heat, atol=1e-3)
    for why in apart:
        assert why.probability == pytest.approx(math.exp(why.score), rel=1e-5)
    if kind == "tokens":
        assert whole.probability == pytest.approx(tuner.predict(row).confidence, rel=1e-4)


@pytest.mark.parametrize("kind", ["frames", "tokens"])
def test_gradients_add_up(kind: str) -> None:
    """Also where they do not, and say so: a model that norms samples over time hears little of how loud they are."""
    tuner, row = tuned(kind), {"audio": spoken()[2]["audio"]}
    why = explain(tuner, row, target="oi", method="integrated-gradients")
    missed = abs(float(why.heat.sum()) - (why.score - why.baseline))
    assert missed == pytest.approx(why.gap * abs(why.score - why.baseline), rel=1e-4)
    assert (why.gap > 0.01) == ("the scores miss" in str(why))
    if kind == "tokens":
        assert why.gap <= 0.01


def test_the_same_by_itself_and_among_others_and_shown() -> None:
    tuner, rows = tuned("frames"), [{"audio": row["audio"]} for row in spoken(2)]
    for row, among in zip(rows, explain(tuner, rows, target="oo"), strict=True):
        np.testing.assert_allclose(explain(tuner, row, target="oo").heat, among.heat, atol=1e-6)
        assert "speaks for 'oo'" in str(among)
        assert "<script" not in among.to_html()


def test_blanks_are_of_the_word_before_them() -> None:
    text = "ab c  de"
    assert words_until(text[: end + 1] for end in range(len(text))) == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("kind", "target", "error", "told"),
    [
        ("frames", "xyo", OptionError, "never says 'x', 'y'"),
        ("frames", 99, OptionError, "target=99: expected the number of a word, from 0 to"),
        ("tokens", -1, OptionError, "target=-1"),
        ("frames", True, OptionError, "expected a text"),
        ("tokens", " ", OptionError, "expected a text"),
        ("tokens", 0.5, OptionError, "expected a text"),
        ("frames", "it " * 200, DataError, "more frames than the sound has"),
        ("tokens", "it " * 200, DataError, "more tokens"),
    ],
)
def test_what_cannot_be_explained_says_why(kind: str, target: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        explain(tuned(kind), {"audio": spoken()[0]["audio"]}, target=target)


def test_a_sound_without_words_has_no_text() -> None:
    hum = said(*[0.1] * 11)
    assert not listening().predict(hum).text
    with pytest.raises(OptionError, match="hears no word"):
        explain(listening(), hum)
    assert explain(listening(), hum, target="b").probability < 0.1


def test_a_text_without_an_end_is_said() -> None:
    tuner, sound = tuned("tokens"), {"audio": spoken()[0]["audio"]}
    table = tuner.model.get_input_embeddings().weight  # of the scores too
    end = tuner.model.config.eos_token_id
    kept = table[end].clone()
    with torch.no_grad():
        try:
            table[end] = 0.0  # the score of the end is 0, and some other token always has a higher one
            with pytest.raises(OptionError, match="does not end within 62 tokens"):
                explain(tuner, sound)
            assert explain(tuner, sound, target="oo").probability < 0.5
        finally:
            table[end] = kept
    assert explain(tuner, sound).target == "oo"
