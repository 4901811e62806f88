"""Lists of sounds: tables, JSON Lines, Kaldi's and LJSpeech's folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftlib import TaskDataset
from sftlib.errors import DataError
from tests.sounds import saved, tone

pytest.importorskip("soundfile")


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    (tmp_path / "wavs").mkdir()
    for number in range(3):
        (tmp_path / "wavs" / f"u{number}.wav").write_bytes(saved(tone(1, pitch=200 + 100 * number)))
    return tmp_path


def test_a_table(sounds: Path) -> None:
    (sounds / "list.csv").write_text("file,who,text\nwavs/u0.wav,a,one\nwavs/u1.wav,b,two\n")
    data = TaskDataset.from_manifest(sounds / "list.csv", audio="file")
    assert data.task == "speech-recognition"
    assert data[0]["audio"] == str(sounds / "wavs" / "u0.wav")
    assert data.column("who") == ["a", "b"]
    (sounds / "list.tsv").write_text("audio\tlabel\nwavs/u0.wav\tup\nwavs/u1.wav\tdown\n")
    assert TaskDataset.from_manifest(sounds / "list.tsv").task == "audio-classification"


def test_nemo(sounds: Path) -> None:
    rows = [
        {"audio_filepath": f"wavs/u{n}.wav", "text": word, "duration": 1.0} for n, word in enumerate(["one", "two"])
    ]
    (sounds / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = TaskDataset.from_manifest(sounds / "train.jsonl")
    assert data.task == "speech-recognition"
    assert data.column("text") == ["one", "two"]


def test_ljspeech(sounds: Path) -> None:
    (sounds / "metadata.csv").write_text('u0|He said "1".|he said one\nu1|Two|two\n')
    for place in (sounds, sounds / "metadata.csv"):
        data = TaskDataset.from_manifest(place, text="normalized_text")
        assert data.column("text") == ["he said one", "two"]
        assert data.column("id") == ["u0", "u1"]
    assert TaskDataset.from_manifest(sounds).column("text") == ['He said "1".', "Two"]
    (sounds / "metadata.csv").write_text("u0|one|one\nu9|Two|two\nu1\n")
    with pytest.raises(DataError, match="(?s)2 lines cannot be used.*line 2 names 'u9'.*line 3 has 1 cells"):
        TaskDataset.from_manifest(sounds)


def test_kaldi(sounds: Path) -> None:
    (sounds / "wav.scp").write_text("r0 wavs/u0.wav\nr1 wavs/u1.wav\n")
    (sounds / "text").write_text("r1 two words\nr0 one\n")
    (sounds / "utt2spk").write_text("r0 anna\nr1 bert\n")
    data = TaskDataset.from_manifest(sounds)
    assert data.column("text") == ["one", "two words"]
    assert data.column("speaker") == ["anna", "bert"]
    (sounds / "segments").write_text("a r0 0.0 0.25\nb r0 0.5 1.0\nc r1 0.1 0.9\n")
    (sounds / "text").write_text("a one\nb two\nc three\n")
    (sounds / "utt2spk").unlink()
    data = TaskDataset.from_manifest(sounds)
    assert data.column("id") == ["a", "b", "c"]
    assert [len(row["audio"]["array"]) for row in data] == [4000, 8000, 12800]
    (sounds / "segments").write_text("a r0 0.0 0.25\nb r7 0.5 1.0\nc r1 0.1 9\n")
    with pytest.raises(DataError, match="(?s)2 lines.*line 2 expected a name.*line 3 is from 0.1 s to 9 s"):
        TaskDataset.from_manifest(sounds)


def test_commands_are_never_run(sounds: Path) -> None:
    (sounds / "wav.scp").write_text(f"r0 touch {sounds / 'ran'} |\n")
    with pytest.raises(DataError, match="commands are not run"):
        TaskDataset.from_manifest(sounds)
    assert not (sounds / "ran").exists()


def test_what_a_kaldi_folder_lacks(sounds: Path) -> None:
    (sounds / "wav.scp").write_text("r0 wavs/u0.wav\nr1 wavs/u1.wav\n")
    (sounds / "text").write_text("r0 one\n")
    with pytest.raises(DataError, match="lacks 1 utterances: 'r1'"):
        TaskDataset.from_manifest(sounds)


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of a known layout"):
        TaskDataset.from_manifest(tmp_path)
    with pytest.raises(DataError, match="there is no such"):
        TaskDataset.from_manifest(tmp_path / "gone.csv")
