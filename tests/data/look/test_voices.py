"""Speakers on both sides of a cut are said, where sounds say who speaks."""

from __future__ import annotations

import logging

import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.data.look.voices import shared_speakers, speaker_column
from sftlib.testing import tiny_audio_model, waves


def heard(count: int, speakers: str, *, column: str = "speaker") -> TaskDataset:
    return TaskDataset([{**row, column: speakers[n % len(speakers)]} for n, row in enumerate(waves(count))])


def test_who_is_heard_on_both_sides() -> None:
    said = shared_speakers(heard(6, "ab"), heard(6, "bc"))
    assert said.startswith("1 speaker of valid's 2 is heard in the rows to learn from too (column 'speaker': 'b')")
    assert "by='speaker'" in said
    assert shared_speakers(heard(6, "ab"), heard(6, "cd")) == ""
    assert shared_speakers(heard(6, "ab"), heard(6, "ab", column="noise")) == ""
    assert speaker_column(heard(6, "ab", column="client_id")) == "client_id"
    assert speaker_column(TaskDataset({"text": ["a", "b"], "label": [0, 1], "speaker": ["x", "x"]})) == ""


def test_of_speakers_as_labels_nothing_is_said() -> None:
    rows = [{"audio": row["audio"], "speaker": "ab"[n % 2]} for n, row in enumerate(waves(8))]
    data = TaskDataset(rows, task="audio-embedding", label="speaker")
    assert shared_speakers(data, data) == ""


def test_a_split_by_clip_is_said_and_one_by_speaker_is_not(caplog: pytest.LogCaptureFixture) -> None:
    data = heard(24, "abcd")
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        data.split(0.5, 0.5, seed=0)
    assert "split: 4 speakers of side 2's 4 are heard" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        first, second = data.split(0.5, 0.5, seed=0, by="speaker")
    assert not set(first.column("speaker")) & set(second.column("speaker"))
    assert caplog.text == ""


@pytest.mark.parametrize("progress", [True, False])
def test_a_run_says_it_before_its_first_step(
    progress: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    train, valid = heard(6, "ab"), heard(12, "b").select([9, 10, 11])
    assert "1 speaker of valid's 1 is heard" in " ".join(train.report(valid).problems)
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        FineTuner(tiny_audio_model("wav2vec2", 3), max_steps=1).fit(train, valid, progress=progress)
    told = "".join(capsys.readouterr()) + caplog.text
    assert told.count("1 speaker of valid's 1 is heard in the rows to learn from too") == 1
