"""Sounds as a role: what passes, what is refused by row and file, and what makes two of them the same."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import TaskDataset
from sftlib.data.kinds.sounds import AudioRole
from sftlib.errors import DataError, MissingExtraError
from sftlib.support import extras
from tests.sounds import BROKEN, saved, tone

pytest.importorskip("soundfile")


def labelled(sounds: list[Any], **options: Any) -> TaskDataset:
    return TaskDataset({"audio": sounds, "label": [row % 2 for row in range(len(sounds))]}, **options)


def test_every_form_of_a_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(saved(tone()))
    array = {"array": tone(), "sampling_rate": 16_000}
    forms = [
        str(path),
        path,
        path.read_bytes(),
        bytearray(path.read_bytes()),
        {"bytes": path.read_bytes(), "path": None},
    ]
    forms += [{"bytes": None, "path": str(path)}, array, {**array, "path": "x"}, {**array, "array": tone().tolist()}]
    data = TaskDataset({"file": forms, "kind": ["a", "b", "a"] * 3}, audio="file", label="kind")
    assert data.task == "audio-classification"
    assert data.label_names == ("a", "b")
    assert [type(value).__name__ for value in data.column("audio")] == ["str"] * 2 + ["bytes"] * 3 + ["str"] + [
        "dict"
    ] * 3


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "DOUBLE"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", None),
        ("AIFF", "PCM_16"),
        ("WAV", "ULAW"),
    ],
)
def test_formats_widths_and_channels(tmp_path: Path, kind: str, subtype: str | None) -> None:
    both = np.stack([tone(), tone() / 2], axis=1)
    data = labelled([saved(both, rate=44_100, kind=kind, subtype=subtype), saved(tone(1), kind=kind, subtype=subtype)])
    sizes = [AudioRole().size(value) for value in data.column("audio")]
    assert sizes[0] == pytest.approx(1000 * len(both) / 44_100, abs=80)  # mp3 fills up its last frame
    assert sizes[1] == pytest.approx(1000, abs=80)


def test_all_that_is_broken_comes_in_one_error_with_row_and_file(tmp_path: Path) -> None:
    for name, (make, _) in BROKEN.items():
        (tmp_path / name).write_bytes(make())
    (tmp_path / "good.wav").write_bytes(saved(tone()))
    paths = [str(tmp_path / name) for name in ["good.wav", *BROKEN]]
    with pytest.raises(DataError) as caught:
        labelled([*paths, None, str(tmp_path / "god.wav"), 7, tone()])
    told = str(caught.value)
    for row, (name, (_, what)) in enumerate(BROKEN.items(), start=1):
        line = next(line for line in told.splitlines() if f"row {row} (" in line)
        assert what in line, told
        assert name in line, told
    assert "row 11 (" in told
    assert "did you mean 'good.wav'?" in told
    assert "an int instead of a sound: row 12" in told
    assert "without its sampling rate: row 13" in told


def test_what_is_broken_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sftlib")
    (tmp_path / "cut.wav").write_bytes(saved(tone())[:9000])
    data = labelled([saved(tone()), str(tmp_path / "cut.wav"), saved(tone(1))], on_invalid="drop")
    assert len(data) == 2
    assert "1 of 3 rows left out" in caplog.text
    assert "cut.wav" in caplog.text


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"array": tone()}, "no sampling rate"),
        ({"array": tone(), "sampling_rate": 0}, "without a sampling rate that can be"),
        ({"array": tone().astype(bool), "sampling_rate": 16_000}, "other numbers than floats"),
        ({"array": np.zeros((2, 3, 4)), "sampling_rate": 16_000}, "another shape"),
        ({"array": np.zeros(100), "sampling_rate": 16_000}, "a silent sound"),
        ({"array": np.zeros(0), "sampling_rate": 16_000}, "without samples"),
        ({"array": tone() * 30_000, "sampling_rate": 16_000}, "far beyond full scale"),
        ("https://example.org/a.wav", "an address instead of a path"),
        (".", "a folder instead of a file"),
    ],
)
def test_what_is_no_sound(value: Any, what: str) -> None:
    with pytest.raises(DataError, match=what):
        labelled([value, {"array": tone(), "sampling_rate": 16_000}])


def test_whole_numbers_are_scaled() -> None:
    whole = (tone() * 2**15).astype(np.int16)
    data = labelled([{"array": whole, "sampling_rate": 16_000}] * 2)
    assert np.abs(data[0]["audio"]["array"] - tone()).max() < 1e-4


def test_channels_are_told_by_their_number() -> None:
    both = np.stack([tone(), tone() / 2])
    first, second = labelled([{"array": both, "sampling_rate": 8000}, {"array": both.T, "sampling_rate": 8000}])
    assert first["audio"]["array"].shape == (8000,)
    assert np.array_equal(first["audio"]["array"], second["audio"]["array"])


def test_a_copy_is_the_same_sound(tmp_path: Path) -> None:
    rows = []
    for number in range(8):
        (tmp_path / f"{number}.wav").write_bytes(saved(tone(pitch=200 + 50 * number)))
        shutil.copy(tmp_path / f"{number}.wav", tmp_path / f"copy {number}.wav")
        rows += [{"audio": str(tmp_path / f"{name}.wav"), "label": number % 2} for name in (number, f"copy {number}")]
    data = TaskDataset(rows)
    sides = data.split(0.5, 0.5)
    seen = [{Path(row["audio"]).stem[-1] for row in side} for side in sides]
    assert not seen[0] & seen[1]
    assert data.report().duplicates.count == 8


def test_remarks_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sftlib")
    labelled([saved(np.stack([tone(), tone()], 1)), saved(np.clip(tone() * 20, -1, 1))])
    assert "1 sound with several channels" in caplog.text
    assert "1 sound clipped" in caplog.text


def test_without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.importlib.import_module

    def missing(name: str) -> Any:
        if name == "soundfile":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'sftlib\[audio\]'"):
        labelled([b"RIFF"])
    labelled([{"array": tone(), "sampling_rate": 16_000}] * 2)  # arrays need nothing
