"""Tokens are made once: for the next fit, its folds and clones, and later processes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.data import scratch
from sftlib.data.files import spool
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import OptionError
from sftlib.run import encodings as module
from sftlib.run.encodings import Encodings
from sftlib.tasks import find_task
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer

TEXTS = [f"{text} {number}" for number in range(4) for text in SENTENCES[:10]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each call to the tokenizer got."""
    calls: list[int] = []
    original = TextEncoder._encode_chunk

    def counted(self: TextEncoder, texts: list[str], pairs: list[str] | None) -> Any:
        calls.append(len(texts))
        return original(self, texts, pairs)

    monkeypatch.setattr(TextEncoder, "_encode_chunk", counted)
    return calls


def data_of(count: int = 40, *, shift: int = 0, **columns: Any) -> TaskDataset:
    return TaskDataset({"text": TEXTS[:count], "label": [(i + shift) % 2 for i in range(count)], **columns})


def encoder(max_length: int = 16, family: str = "bert") -> TextEncoder:
    return TextEncoder(tiny_tokenizer(family), max_length)


def encode(kept: Encodings, data: TaskDataset, by: TextEncoder | None = None, *, pair: bool = False) -> Any:
    task = find_task("text-classification").from_config({"label_names": [0, 1], "pair": pair})
    found = kept.encode(task, data, by or encoder())
    expected = task.encode(data, by or encoder())
    assert found.digest() == expected.digest()
    assert found.cost.tolist() == expected.cost.tolist()
    assert found.cut.tolist() == expected.cut.tolist()
    assert found.targets.keys() == expected.targets.keys()
    assert all(np.array_equal(found.targets[name], expected.targets[name]) for name in found.targets)
    return found


def new(made: list[int], kept: Encodings, data: TaskDataset, by: TextEncoder | None = None, **more: Any) -> int:
    """Rows that were tokenised for this, beyond those of the comparison."""
    made.clear()
    encode(kept, data, by, **more)
    return sum(made) - len(data)


@pytest.fixture(params=["memory", "folder"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Encodings:
    return Encodings(tmp_path / "cache" if request.param == "folder" else None)


def test_equal_texts_are_tokenised_once(kept: Encodings, made: list[int]) -> None:
    assert new(made, kept, data_of()) == 40
    assert new(made, kept, data_of()) == 0  # another object with the same rows
    assert new(made, kept, data_of(shift=1)) == 0  # other labels
    assert new(made, kept, TaskDataset({"text": TEXTS})) == 0  # none
    assert new(made, kept, data_of(39)) == 39


def test_whatever_decides_tokens_is_in_the_key(kept: Encodings, made: list[int]) -> None:
    pairs = data_of(text_pair=TEXTS[::-1])
    assert new(made, kept, pairs) == 40
    assert new(made, kept, pairs, pair=True) == 40
    assert new(made, kept, pairs, encoder(8)) == 40
    assert new(made, kept, pairs, encoder(family="gpt2")) == 40
    assert new(made, kept, pairs, pair=True) == 0


def test_parts_share_the_tokens_of_the_whole(kept: Encodings, made: list[int]) -> None:
    data = data_of()
    train, valid, test = data.split(0.6, 0.2, 0.2)
    assert new(made, kept, train) == 40  # half of the rows and more: all of them
    assert new(made, kept, valid) == new(made, kept, test) == new(made, kept, data[::-1]) == 0
    assert new(made, kept, data.select([3, 3, 0, -1])) == 0
    folds = [data[i::5] for i in range(5)]
    assert [new(made, kept, fold) for fold in folds] == [0] * 5
    assert new(made, kept, data) == 0


def test_a_small_part_is_tokenised_alone(kept: Encodings, made: list[int]) -> None:
    data = data_of()
    assert new(made, kept, data[:5]) == 5
    assert new(made, kept, data[:5]) == 0
    assert new(made, kept, data[5:9]) == 4


def test_memory_is_bounded(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Encodings()
    for count in range(30, 37):
        new(made, kept, data_of(count))
    assert len(kept._kept) == 4
    assert new(made, kept, data_of(36)) == new(made, kept, data_of(33)) == 0
    assert new(made, kept, data_of(30)) == 30
    monkeypatch.setattr(module, "MEMORY_LIMIT", 1)
    assert new(made, kept, data_of(40)) == 40
    assert len(kept._kept) == 1  # the newest is kept, however large
    monkeypatch.setattr(scratch, "MEMORY_LIMIT", 1)
    for count in (20, 21, 22):
        new(made, Encodings(), data_of(count))


def test_a_later_process_finds_them(tmp_path: Path, made: list[int]) -> None:
    assert new(made, Encodings(tmp_path), data_of()) == 40
    assert new(made, Encodings(tmp_path), data_of()) == 0
    assert new(made, Encodings(tmp_path), data_of()[:30]) == 0
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_tokens_are_made_anew(tmp_path: Path, made: list[int]) -> None:
    new(made, Encodings(tmp_path), data_of())
    (entry,) = tmp_path.iterdir()
    with (entry / "input_ids.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    assert new(made, Encodings(tmp_path), data_of()) == 40
    assert new(made, Encodings(tmp_path), data_of()) == 0


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"cache_dir=.*cannot be written"):
        Encodings(tmp_path / "file").encode(
            find_task("text-classification").from_config({"label_names": [0, 1], "pair": False}), data_of(), encoder()
        )


def test_another_process_may_be_faster(tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def beaten(folder: Path, fill: Any) -> None:
        original(folder, fill)
        raise OSError("the folder is not empty")

    original = module.write_columns
    monkeypatch.setattr(module, "write_columns", beaten)
    assert new(made, Encodings(tmp_path), data_of()) == 40


def test_copies_start_empty(tmp_path: Path, made: list[int]) -> None:
    kept = Encodings(tmp_path)
    new(made, kept, data_of())
    assert copy.deepcopy(kept)._kept == {}
    assert new(made, copy.deepcopy(kept), data_of()) == 0  # but with the same folder
    assert kept.kept_in(tmp_path) is kept
    assert kept.kept_in(str(tmp_path)) is kept
    assert kept.kept_in(None) is not kept


def test_a_tokenizer_of_unknown_code_is_asked_every_time(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextEncoder, "digest", lambda self: None)
    kept = Encodings()
    assert new(made, kept, data_of()) == new(made, kept, data_of()) == 40


def tuner(**options: Any) -> FineTuner:
    fixed: dict[str, Any] = {"tokenizer": tiny_tokenizer(), "max_steps": 2, "precision": "fp32", "device": "cpu"}
    return FineTuner(tiny_model("bert"), **fixed, **options)


def large(made: list[int]) -> int:
    """Rows tokenised, but for the few that are looked at before the first step."""
    return sum(count for count in made if count > 3)


def test_a_tuner_tokenises_once(made: list[int], tmp_path: Path) -> None:
    train, valid = data_of().split(0.7, 0.3)
    first = tuner().fit(train, valid, progress=False)
    assert large(made) == 40
    losses = first.history.steps
    again = first.fit(train, valid, progress=False)
    again.evaluate(valid)
    again.set_params(seed=1).fit(train, progress=False)
    again.clone().fit(valid, progress=False)
    assert large(made) == 40
    with_folder = tuner(cache_dir=tmp_path / "cache").fit(train, valid, progress=False)
    assert large(made) == 80
    later = tuner(cache_dir=str(tmp_path / "cache")).fit(train, valid, progress=False)
    assert large(made) == 80
    assert later.history.steps == with_folder.history.steps == losses


def test_rows_and_tokens_on_disk_train_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data_of()))
    histories = []
    for limit in (2**40, 0):
        monkeypatch.setattr(spool, "FILE_LIMIT", limit)
        monkeypatch.setattr(scratch, "MEMORY_LIMIT", limit)
        train, valid = TaskDataset.from_jsonl(path).split(0.7, 0.3)
        fitted = tuner().fit(train, valid, progress=False)
        histories.append((fitted.history.steps, fitted.evaluate(valid).to_dict()))
    assert histories[0] == histories[1]


def test_predictions_are_not_kept(made: list[int], tmp_path: Path) -> None:
    fitted = tuner(cache_dir=tmp_path / "cache").fit(data_of(), progress=False)
    entries = list((tmp_path / "cache").iterdir())
    fitted.predict(["something private"])
    assert list((tmp_path / "cache").iterdir()) == entries
    assert len(fitted._encodings._kept) == 1


def test_the_folder_is_in_no_record(tmp_path: Path) -> None:
    fitted = tuner(cache_dir=tmp_path / "cache").fit(data_of(), progress=False)
    assert "cache_dir" not in fitted.settings
    fitted.save(tmp_path / "model")
    assert all(str(tmp_path).encode() not in path.read_bytes() for path in (tmp_path / "model").iterdir())
    with pytest.raises(OptionError, match="cache_dir=3"):
        tuner(cache_dir=3)
