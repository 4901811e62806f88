"""GLUE offline: small files in the official formats, read, run, tabled and submitted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from examples import glue
from examples.glue.board import AVERAGED
from sftlib import TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics
from sftlib.testing import SENTENCES, tiny_folder
from tests import pages
from tests.examples import official

OPTIONS = {"max_steps": 2, "batch_size": 4, "max_length": 32, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official.make(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("model"), "bert"))


@pytest.mark.parametrize("name", glue.TASKS)
def test_every_task_is_read(name: str, folder: Path) -> None:
    data = glue.load(folder, name)
    sets = [*([data.train] if data.train else []), *data.valid.values(), *data.test.values()]
    assert all(len(rows) == official.ROWS for rows in sets)
    assert not data.skipped
    for rows in sets:
        assert set(rows.roles) >= ({"text"} if name in ("cola", "sst2") else {"text", "text_pair"})
        assert rows[0]["text"] == '"' + SENTENCES[0], "quotes mean nothing"
    for rows in [*([data.train] if data.train else []), *data.valid.values()]:
        assert rows.label_names == (tuple(sorted(data.task.labels, key=str)) or None)
    assert all(rows[3]["index"] == "3" for rows in data.test.values())
    assert list(data.test) == [split.board for split in data.task.test]


def test_labels_and_numbers_are_the_files_own(folder: Path) -> None:
    cola, mnli, stsb = (glue.load(folder, name) for name in ("cola", "mnli", "stsb"))
    assert [row["label"] for row in cola.train.select(range(3))] == [0, 1, 0]
    assert [row["label"] for row in mnli.valid["MNLI-mm"].select(range(3))] == list(mnli.task.labels)
    assert [row["target"] for row in stsb.train.select(range(3))] == [0.0, 1.0, 2.0]
    assert stsb.train.task == "text-regression"
    assert mnli.train[1]["text_pair"] == SENTENCES[2]


def test_official_metrics_have_the_right_positive_label(folder: Path) -> None:
    """F1 of MRPC and QQP is that of paraphrases, label 1."""
    for name in ("mrpc", "qqp"):
        data = glue.load(folder, name)
        metrics = Metrics(data.task.metrics, label_names=data.train.label_names).update([1, 1, 0], [1, 0, 0])
        assert dict(metrics) == pytest.approx({"f1": 2 / 3, "accuracy": 2 / 3})
    for task in glue.TASKS.values():
        Metrics(task.metrics, label_names=task.labels or None)


def test_broken_lines_of_qqp_are_skipped_and_said(tmp_path: Path) -> None:
    root = official.make(tmp_path)
    path = root / "QQP" / "train.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    good = [lines[0], *(lines[1:] * 20)]
    good.insert(3, "99\t1\t2\tWhat is")
    path.write_text("\n".join(good) + "\n", encoding="utf-8")
    data = glue.load(root, "qqp")
    assert len(data.train) == 20 * official.ROWS
    assert dict(data.skipped) == {"QQP/train.tsv": (4,)}
    path.write_text("\n".join(lines[:3] + ["broken"] * 2) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="2 of 4 lines lack columns, the first is line 4"):
        glue.load(root, "qqp")


def test_files_that_are_not_official(tmp_path: Path) -> None:
    root = official.make(tmp_path)
    (root / "RTE" / "dev.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentails\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"dev.tsv, line 2: label 'entails': expected one of entailment, not_entailment"
    ):
        glue.load(root, "rte")
    (root / "STS-B" / "train.tsv").write_text("index\tsentence1\tsentence_2\tscore\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected a header with 'sentence2'"):
        glue.load(root, "stsb")
    (root / "MRPC" / "dev.tsv").unlink()
    (root / "MRPC" / "test.tsv").unlink()
    with pytest.raises(DataError, match=r"there is no .*MRPC.dev.tsv: expected the official files"):
        glue.load(root, "mrpc")
    with pytest.raises(OptionError, match="task='mrcp': expected one of cola, sst2, mrpc"):
        glue.load(root, "mrcp")
    (root / "WNLI" / "test.tsv").unlink()
    assert glue.load(root, "wnli").test == {}


def test_a_run_scores_tables_and_submits(folder: Path, model: str, tmp_path: Path, capsys: Any) -> None:
    tasks = ["stsb", "mnli", "ax", "mrpc"]
    own = {"mrpc": {"max_steps": 1}}
    board = glue.run(
        model, folder=folder, tasks=tasks, options=OPTIONS, task_options=own, submission=tmp_path, progress=False
    )
    assert list(board.scores) == ["mrpc", "stsb", "mnli"]
    assert list(board.scores["mnli"]) == ["MNLI-m", "MNLI-mm"]
    assert list(board.scores["mrpc"]["MRPC"]) == ["f1", "accuracy"]
    assert str(board).splitlines()[-1].startswith("average (3 of 9)")
    assert "MNLI-mm" in str(board)
    assert capsys.readouterr().out == ""
    written = {path.name: path.read_text(encoding="utf-8").splitlines() for path in tmp_path.iterdir()}
    assert set(written) == {"STS-B.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "MRPC.tsv"}
    for lines in written.values():
        assert lines[0] == "index\tprediction"
        assert [line.split("\t")[0] for line in lines[1:]] == [str(row) for row in range(official.ROWS)]
    assert {line.split("\t")[1] for line in written["AX.tsv"][1:]} <= set(glue.TASKS["mnli"].labels)
    assert {line.split("\t")[1] for line in written["MRPC.tsv"][1:]} <= {"0", "1"}
    numbers = [line.split("\t")[1] for line in written["STS-B.tsv"][1:]]
    assert all(0 <= float(number) <= 5 and len(number) == 5 for number in numbers)


def test_the_average_is_the_boards() -> None:
    """The board's row of BERT-large (Devlin et al. 2019), whose average it printed as 80.5."""
    printed = {
        "cola": {"CoLA": {"mcc": 0.605}},
        "sst2": {"SST-2": {"accuracy": 0.949}},
        "mrpc": {"MRPC": {"f1": 0.893, "accuracy": 0.854}},
        "stsb": {"STS-B": {"pearson": 0.876, "spearman": 0.865}},
        "qqp": {"QQP": {"f1": 0.721, "accuracy": 0.893}},
        "mnli": {"MNLI-m": {"accuracy": 0.867}, "MNLI-mm": {"accuracy": 0.859}},
        "qnli": {"QNLI": {"accuracy": 0.927}},
        "rte": {"RTE": {"accuracy": 0.701}},
        "wnli": {"WNLI": {"accuracy": 0.651}},
    }
    board = glue.Board(printed)
    assert tuple(printed) == AVERAGED
    assert f"{board.average:.1f}" == "80.5"
    assert str(board).splitlines()[-1].split() == ["average", "80.5"]
    assert "89.3 / 85.4" in str(board)
    assert math.isnan(glue.Board().average)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["rte", "stbs"]}, "task='stbs': expected one of"),
        ({"tasks": ["ax"]}, "'ax' is predicted by the model of 'mnli' and only submitted"),
        ({"tasks": ["ax", "mnli"]}, "give both, and submission="),
        ({"tasks": ["rte"], "task_options": {"mnil": {}}}, "task='mnil': expected one of"),
        ({"tasks": ["rte"], "options": {"epoch": 1}}, "no option 'epoch'"),
    ],
)
def test_runs_that_cannot_be(options: dict[str, Any], message: str, folder: Path, model: str) -> None:
    with pytest.raises(OptionError, match=message):
        glue.run(model, folder=folder, progress=False, **options)


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli", "rte", "ax"])
def test_the_hub_gives_the_same(name: str, folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    task = glue.TASKS[name]
    local = glue.load(folder, name)
    names = list(HUB_NAMES.get(name, task.labels))

    def opener(repository: str, *, split: str, config: str, **options: Any) -> TaskDataset:
        """What the hub holds of the rows of the official folder: its own columns, numbers for labels, -1 in tests."""
        assert (repository, config) == ("nyu-mll/glue", name)
        one = next(one for one in task.splits if one.hub == split)
        rows = local.test[one.board] if one in task.test else local.valid.get(one.board)
        rows = local.train if one == task.train else rows
        columns: dict[str, list[Any]] = {"idx": list(range(len(rows)))}
        for role, column in zip(("text", "text_pair"), task.hub_columns, strict=False):
            columns[column] = [row[role] for row in rows]
        columns["label"] = [
            -1 if one in task.test else task.labels.index(row["label"]) if names else row["target"] for row in rows
        ]
        table = datasets.Dataset.from_dict(columns)
        if names:
            table = table.cast_column("label", datasets.ClassLabel(names=names))
        return TaskDataset(table, **options)

    found = glue.load_hub(name, opener=opener)
    for here, there in [(local.train, found.train), *((local.valid[k], found.valid[k]) for k in local.valid)]:
        assert (here is None) == (there is None)
        if here is not None and there is not None:
            assert list(here) == list(there)
            assert here.label_names == there.label_names
    assert {board: list(rows) for board, rows in local.test.items()} == {
        board: list(rows) for board, rows in found.test.items()
    }


HUB_NAMES = {"cola": ("unacceptable", "acceptable"), "mrpc": ("not_equivalent", "equivalent")}


def test_the_readme_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages.prepare(tmp_path)
    official.make(tmp_path / "glue_data")
    monkeypatch.chdir(tmp_path)
    pages.run(Path(glue.__file__).parent / "README.md")
    assert (tmp_path / "submission" / "MRPC.tsv").is_file()
