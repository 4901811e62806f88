"""Learning from a stream: the same as from rows at hand, to the bit when it goes on, and in several processes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sftlib import FineTuner, MultiTask, TaskDataset, TaskStream, TextClassification
from sftlib.data.streams.order import Reader, order_of_rows
from sftlib.encoders.encoded import Encoded
from sftlib.errors import CheckpointError, DataError, NonFiniteError, OptionError
from sftlib.run import supply
from sftlib.tasks.plan import Plan
from sftlib.testing import FakeProcesses, tiny_model, tiny_tokenizer
from tests.contracts.cases import losses, same_weights, weights
from tests.trust.runs import BreakAt, Interrupted

WORDS = ("good", "bad", "film", "a", "the", "long", "short", "story")
STEPS = 14  # of batches of 4: two passes over 23 rows, and a part of a third


def rows_of(part: int, count: int) -> list[dict[str, Any]]:
    drawn = np.random.default_rng(part)
    return [
        {"text": " ".join(drawn.choice(WORDS, size=int(drawn.integers(1, 12)))), "label": ("no", "yes")[row % 2]}
        for row in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("shards")
    for part, count in enumerate((9, 3, 11)):
        lines = "\n".join(map(json.dumps, rows_of(part, count)))
        (place / f"part-{part}.jsonl").write_text(lines, encoding="utf-8")
    return place


def stream(folder: Path, **options: Any) -> TaskStream:
    return TaskStream.from_jsonl(folder / "part-*.jsonl", **{"label_names": ["no", "yes"], "buffer": 8, **options})


def tuner(**options: Any) -> FineTuner:
    usual: dict[str, Any] = {"max_steps": STEPS, "batch_size": 4, "learning_rate": 3e-3, "precision": "fp32"}
    return FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), **{**usual, "device": "cpu", **options})


class Fixed(Plan):
    """Batches that are written down."""

    def __init__(self, batches: Sequence[NDArray[np.int64]]) -> None:
        self.batches, self.steps_per_epoch = batches, len(batches)

    def rows(self, step: int) -> NDArray[np.int64]:
        return self.batches[step]


def test_it_is_the_same_as_rows_at_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows read by hand in the order of the seed, and batches cut by hand: the same losses and weights."""
    reader, rows, batches = Reader(stream(folder).shards, seed=0), [], []
    for block in range(8):
        taken = [row.value for row in reader.block(8)]
        order = order_of_rows(len(taken), seed=0, block=block) + len(rows)
        batches += [order[start : start + 4] for start in range(0, len(order), 4)]
        rows += taken
    assert [len(batch) for batch in batches[:6]] == [4, 4, 4, 4, 4, 3], "the end of a pass ends a block"
    learned = tuner(dropout=0.0).fit(stream(folder), progress=False)
    monkeypatch.setattr(supply, "plan_of", lambda arguments, task, encoded: Fixed(batches[:STEPS]))
    at_hand = tuner(dropout=0.0).fit(TaskDataset(rows), progress=False)
    assert np.allclose(losses(learned), losses(at_hand), atol=1e-6)
    assert [record["rows"] for record in learned.history.steps] == [len(batch) for batch in batches[:STEPS]]
    for name, value in weights(at_hand).items():
        assert torch.allclose(weights(learned)[name], value, atol=1e-6), name


def test_going_on_at_any_step_is_equal_to_the_bit(folder: Path, tmp_path: Path) -> None:
    whole = tuner().fit(stream(folder), TaskDataset(rows_of(7, 6)), progress=False)
    for step in (2, 6, 13):
        place = tmp_path / str(step)
        given = {"output_dir": place, "save_every": step, "progress": False}
        valid = TaskDataset(rows_of(7, 6))
        with pytest.raises(Interrupted):
            tuner().fit(stream(folder), valid, callbacks=[BreakAt(step + 1)], **given)
        resumed = tuner().fit(stream(folder), valid, callbacks=[BreakAt(99)], resume=True, **given)
        assert list(resumed.history) == list(whole.history)
        assert same_weights(weights(resumed), weights(whole)), step
        assert resumed.decided == whole.decided


class Anew:
    """Iterates afresh, and tells how many rows it has handed out."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def forms(tmp_path: Path) -> dict[str, TaskStream]:
    from tests.data.streams.test_shards import write_jsonl, write_parquet, write_tar

    rows = rows_of(3, 21)
    for part in range(3):
        some = rows[7 * part : 7 * part + 7]
        write_jsonl(tmp_path / f"{part}.jsonl.gz", some)
        write_parquet(tmp_path / f"{part}.parquet", some)
        write_tar(tmp_path / f"{part}.tar", some)
    given: dict[str, Any] = {"label_names": ["no", "yes"], "buffer": 8}
    return {
        "jsonl": TaskStream.from_jsonl(tmp_path / "*.jsonl.gz", **given),
        "parquet": TaskStream.from_parquet(tmp_path / "*.parquet", **given),
        "tar": TaskStream.from_tar(tmp_path / "*.tar", text="txt", label="cls", **given),
        "iterable": TaskStream(Anew(rows), **given),
    }


def test_every_form_goes_on_to_the_bit(tmp_path: Path) -> None:
    learned = {}
    for name, source in forms(tmp_path).items():
        whole = tuner(max_steps=8).fit(source, progress=False)
        given = {"output_dir": tmp_path / f"run-{name}", "save_every": 5, "progress": False}
        with pytest.raises(Interrupted):
            tuner(max_steps=8).fit(source, callbacks=[BreakAt(6)], **given)
        resumed = tuner(max_steps=8).fit(source, callbacks=[BreakAt(99)], resume=True, **given)
        assert same_weights(weights(resumed), weights(whole)), name
        learned[name] = losses(whole)
    assert learned["jsonl"] == learned["parquet"] == learned["tar"], "the form of the shards does not matter"


def test_an_iterable_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    plain = datasets.Dataset.from_list([{**row, "label": row["label"] == "yes"} for row in rows_of(3, 21)])
    named = plain.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    source = TaskStream(named.to_iterable_dataset(num_shards=3), buffer=8)
    assert len(source.shards) == 3
    assert source.take(2).label_names == ("no", "yes"), "its features name the labels"
    whole = tuner(max_steps=8).fit(source, progress=False)
    given = {"output_dir": tmp_path / "run", "save_every": 5, "progress": False}
    with pytest.raises(Interrupted):
        tuner(max_steps=8).fit(source, callbacks=[BreakAt(6)], **given)
    resumed = tuner(max_steps=8).fit(source, callbacks=[BreakAt(99)], resume=True, **given)
    assert same_weights(weights(resumed), weights(whole))


def test_processes_do_not_change_it(folder: Path) -> None:
    def run() -> tuple[list[float], list[int], Any]:
        fitted = tuner(max_steps=9).fit(stream(folder), progress=False)
        return losses(fitted), [record["rows"] for record in fitted.history.steps], fitted.decided

    alone = run()
    for found in FakeProcesses(2).run(run):
        assert np.allclose(found[0], alone[0], rtol=1e-6, atol=0)
        assert found[1:] == alone[1:]


def test_an_epoch_is_so_many_rows(folder: Path, tmp_path: Path) -> None:
    source = stream(folder, rows_per_epoch=16)
    fitted = tuner(keep_best="loss").fit(source, TaskDataset(rows_of(7, 6)), output_dir=tmp_path, progress=False)
    assert [record["step"] for record in fitted.history.evaluations] == [4, 8, 12, 14]
    assert [record["epoch"] for record in fitted.history.steps][:5] == [1, 1, 1, 1, 2]


def test_what_was_counted(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [*rows_of(0, 10), {"text": None, "label": "no"}, {"text": "a " * 40, "label": "yes"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    source = TaskStream.from_jsonl(tmp_path / "a.jsonl", label_names=["no", "yes"], on_invalid="drop", buffer=12)
    fitted = tuner(max_steps=3, max_length=16).fit(source, progress=False)
    good = TaskDataset([*lines[:10], lines[11]])
    expected = tuner(max_length=16).report(good).train
    counts = {"rows": 11, "left_out": 1, "truncated": expected.truncated, "units_lost": expected.tokens_lost}
    assert 0 < expected.truncated < 11
    assert fitted.decided == {"stream": {"blocks": 1, **counts, "unsupervised": 0}}
    said = f"read of the stream: 12 rows in 1 block, 1 left out, {expected.truncated} cut to 16 tokens"
    assert said in caplog.text
    report = tuner(max_length=16).report(source)
    assert (report.train, report.steps) == (expected, STEPS)


def test_a_later_block_names_shard_and_row(folder: Path, tmp_path: Path) -> None:
    lines = [*rows_of(0, 14), {"text": 7, "label": "no"}, {"text": "a", "label": "maybe"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    source = TaskStream.from_jsonl(tmp_path / "a.jsonl", label_names=["no", "yes"], buffer=8)
    with pytest.raises(DataError) as caught:
        tuner().fit(source, progress=False)
    assert "a.jsonl, line 15 (7)" in str(caught.value)
    assert "a.jsonl, line 16 ('maybe')" in str(caught.value)


def test_a_loss_that_is_not_finite_names_shard_and_row(folder: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"part-\d\.jsonl, line \d+"):
        tuner(learning_rate=1e30, warmup=0, max_grad_norm=None).fit(stream(folder), progress=False)


def test_frozen_layers_and_coupled_rows(folder: Path) -> None:
    frozen = tuner(freeze=1, max_steps=4).fit(stream(folder), progress=False)
    before = dict(tiny_model("bert", 2).named_parameters())
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(weights(frozen)[name], before[name])
    pairs = TaskStream([{"text": f"a {w}", "text_pair": f"the {w}"} for w in WORDS], task="text-embedding", buffer=4)
    body = tiny_model("bert")
    learned = FineTuner(body, tokenizer=tiny_tokenizer(), max_steps=3, batch_size=4).fit(pairs, progress=False)
    assert len(losses(learned)) == 3


def test_another_stream_does_not_go_on(folder: Path, tmp_path: Path) -> None:
    given = {"output_dir": tmp_path / "run", "save_every": 5, "progress": False}
    with pytest.raises(Interrupted):
        tuner().fit(stream(folder), callbacks=[BreakAt(6)], **given)
    for changed in (stream(folder, buffer=12), stream(folder, on_invalid="drop")):
        with pytest.raises(CheckpointError):
            tuner().fit(changed, callbacks=[BreakAt(99)], resume=True, **given)
    other = tmp_path / "shards"
    other.mkdir()
    for file in sorted(folder.iterdir()):
        content = file.read_text(encoding="utf-8")
        (other / file.name).write_text(content.replace("good", "film") if "0" in file.name else content, "utf-8")
    with pytest.raises(CheckpointError):
        tuner().fit(stream(other), callbacks=[BreakAt(99)], resume=True, **given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": None}, "max_steps"),
        ({"few_shot": True, "max_steps": None}, "few_shot="),
        ({"learning_rate": "find"}, "learning_rate='find'"),
        ({"class_weights": "balanced"}, "balanced"),
        ({"task": TextClassification(class_weights="sqrt")}, "sqrt"),
    ],
)
def test_options_that_need_all_rows_are_refused(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        tuner(**options).fit(stream(folder), progress=False)


def test_data_that_cannot_be_streamed_is_refused(folder: Path) -> None:
    listed: Any = [{"text": "a"}]
    uses: list[Any] = [tuner().plan, tuner().features, tuner(max_steps=1).fit(stream(folder), progress=False).predict]
    with pytest.raises(OptionError, match="label_names"):
        tuner().fit(TaskStream.from_jsonl(folder / "part-*.jsonl"), progress=False)
    with pytest.raises(DataError, match="take"):
        tuner(max_steps=1).fit(stream(folder), progress=False).evaluate(stream(folder))
    for use in uses:
        with pytest.raises(DataError, match="take"):
            use(stream(folder))
    with pytest.raises(DataError, match="'mood': a stream is for learning from alone"):
        MultiTask({"mood": cast("TaskDataset", stream(folder))})
    with pytest.raises(DataError, match="features: expected a TaskDataset, found list"):
        tuner().features(listed)
    with pytest.raises(OptionError, match="texts"):
        tuner().fit(TaskStream([{"sequence": "ACGT", "label": 0}], label_names=[0, 1]), progress=False)
    assert isinstance(Fixed([]), Plan)
    assert Fixed([]).columns(0, Encoded({}, {})) is not None
