"""Explanations of sounds, over time: exact of a model that is known, the same wherever a sound is, and shown."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import Audio, FineTuner, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.explain import SoundExplanation, explain
from sftlib.testing import tiny_audio_model, tiny_feature_extractor, waves

RATE = 16_000


class Middle(nn.Module):
    """Scores a sound by what is loud between 0.2 and 0.3 seconds, which speaks for the second label."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, input_values: Tensor) -> Tensor:
        loud = input_values[:, RATE // 5 : 3 * RATE // 10].abs().mean(dim=1)
        return torch.stack([0 * loud, loud * self.weight], dim=1)


def noise(rows: int, seconds: float = 0.5) -> TaskDataset:
    draw = np.random.default_rng(0)
    arrays = [draw.normal(scale=0.1, size=round(seconds * RATE)).astype(np.float32) for _ in range(rows)]
    return TaskDataset(
        [{"audio": {"array": one, "sampling_rate": RATE}, "label": n % 2} for n, one in enumerate(arrays)]
    )


@pytest.fixture(scope="module")
def middle() -> FineTuner:
    tuner = FineTuner(Middle(), inputs=Audio(sampling_rate=RATE), max_steps=1, learning_rate=0.0)
    return tuner.fit(noise(4), progress=False)


@pytest.mark.parametrize("method", [None, "leave-one-out", "integrated-gradients", "gradient"])
def test_the_moment_that_decides_is_found(middle: FineTuner, method: str | None) -> None:
    why = explain(middle, noise(1), target=1, method=method)[0]
    assert isinstance(why, SoundExplanation)
    assert len(why.heat) == 10  # stretches of 0.05 s
    assert why.spans[4] == pytest.approx((0.2, 0.25))
    inside = why.heat[4:6]
    assert (inside > 0).all()
    beside = 0.0 if why.method != "leave-one-out" else 0.6 * float(inside.max())  # windows reach one stretch further
    assert np.abs(np.delete(why.heat, [4, 5])).max() <= beside + 1e-6


def test_scores_add_up_and_are_the_models_own(middle: FineTuner) -> None:
    data = noise(2)
    for why, said in zip(
        explain(middle, data, target=1, method="integrated-gradients"), middle.predict(data), strict=True
    ):
        assert why.probability == pytest.approx(said.probabilities[1], abs=1e-5)
        assert float(why.heat.sum()) == pytest.approx(why.score - why.baseline, rel=0.011)
        assert why.baseline == pytest.approx(0.0, abs=1e-3)  # silence


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "ast"])
def test_models_of_all_kinds(family: str) -> None:
    data = TaskDataset(waves(4, classes=2, seconds=0.3))
    tuner = FineTuner(
        tiny_audio_model(family), inputs=Audio(processor=tiny_feature_extractor(family)), max_steps=1
    ).fit(data, progress=False)
    rows = [{"audio": row["audio"]} for row in data]
    together = explain(tuner, rows)
    for row, why in zip(rows, together, strict=True):
        assert 4 <= len(why.heat) <= 24
        assert np.isfinite(why.heat).all()
        assert np.abs(why.heat).max() > 0
        alone = explain(tuner, row)
        np.testing.assert_allclose(alone.heat, why.heat, atol=1e-5)
        assert why.spans[-1][1] == pytest.approx(len(row["audio"]["array"]) / RATE, abs=0.01)
    steeper = explain(tuner, rows[0], method="gradient")
    assert steeper.heat.shape == together[0].heat.shape


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("br", "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_shown(middle: FineTuner, tmp_path: Path) -> None:
    why = explain(middle, noise(1), target=1)[0]
    lines = str(why).splitlines()
    assert "what speaks for 1" in lines[0]
    assert len(lines[1]) == len(lines[2]) == 2 + 3 * 10
    assert lines[2][2 + 3 * 4] in "+#"
    page = Tags()
    page.feed(why.to_html())
    assert page.open == []
    assert page.seen.count("rect") == 10
    assert {"audio", "svg"} <= set(page.seen)
    assert "http" not in why.to_html()
    for name in ("why.html", "why.png", "why.txt"):
        why.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 100
    with pytest.raises(OptionError, match="ends in"):
        why.save(tmp_path / "why.wav")
    stretches = why.to_dict()["stretches"]
    assert stretches[4]["start"] == pytest.approx(0.2)
    assert "sound" not in why.to_dict()


def test_what_is_refused(middle: FineTuner) -> None:
    with pytest.raises(OptionError, match="not among the labels"):
        explain(middle, noise(1), target=7)
    with pytest.raises(DataError, match="explain: found 7"):
        explain(middle, 7)
    long = FineTuner(Middle(), inputs=Audio(sampling_rate=RATE, longest=0.4, overlap=0.1), max_steps=1)
    long.fit(noise(4), progress=False)
    with pytest.raises(OptionError, match="read in 2 pieces"):
        explain(long, noise(1))
