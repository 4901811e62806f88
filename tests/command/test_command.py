"""``python -m sftlib``: the same names, the same numbers and the same errors as in Python."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.command import main
from sftlib.command.arguments import read_arguments
from sftlib.command.files import plain, read_rows, write_answers
from sftlib.errors import DataError, OptionError
from sftlib.tasks.identities.answers import Embedded, Verified
from sftlib.tasks.image.detection import Detected, DetectedObject
from sftlib.tasks.image.segmentation import Plane, Segmented
from sftlib.testing import SENTENCES, tiny_folder, write_pictures

ROLES = ["--text", "review", "--label", "sentiment"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, a model to start from, and one that was learned from the terminal."""
    folder = tmp_path_factory.mktemp("terminal")
    rows = [{"review": f"{text} {n}", "sentiment": ("good", "poor")[n % 2]} for n, text in enumerate(SENTENCES * 3)]
    for name, part in {"data": rows, "test": rows[:8]}.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=["review", "sentiment"])
            writer.writeheader()
            writer.writerows(part)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:8]), encoding="utf-8")
    tiny_folder(folder / "tiny")
    options = ["--model", str(folder / "tiny"), "--folder", str(folder / "model"), "--max-steps", "3", "--seed", "5"]
    assert main(["fit", str(folder / "data.csv"), *ROLES, *options, "--learning-rate", "1e-3"]) == 0
    return folder


def test_fitting_is_that_of_the_library(place: Path) -> None:
    train, _ = TaskDataset.from_csv(place / "data.csv", text="review", label="sentiment").split(0.9, 0.1, seed=5)
    tuner = FineTuner(str(place / "tiny"), max_steps=3, seed=5, learning_rate=1e-3).fit(train, progress=False)
    texts = list(SENTENCES)
    expected, found = tuner.predict(texts), FineTuner.load(place / "model").predict(texts)
    np.testing.assert_allclose([one.probability for one in found], [one.probability for one in expected], atol=1e-6)


def test_evaluating_is_that_of_the_library(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = FineTuner.load(place / "model").evaluate(
        TaskDataset.from_csv(place / "test.csv", text="review", label="sentiment")
    )
    for name in ("test.csv", "test.jsonl"):
        capsys.readouterr()
        assert main(["evaluate", str(place / "model"), str(place / name), *ROLES]) == 0
        assert capsys.readouterr().out.strip() == str(expected).strip()


def test_answers_are_written(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = FineTuner.load(place / "model").predict(
        TaskDataset.from_csv(place / "test.csv", text="review"), abstain_below=0.9
    )
    asked = ["predict", str(place / "model"), str(place / "test.csv"), "--text", "review", "--abstain-below", "0.9"]
    assert main(asked) == 0
    shown = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert main([*asked, "--output", str(tmp_path / "out.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, (one, cells, line) in enumerate(zip(expected, shown, lines, strict=True)):
        assert line["row"] == number == int(cells["row"])
        assert line["label"] == cells["label"] == one.label
        assert line["probability"] == pytest.approx(one.probability) == pytest.approx(float(cells["probability"]))
        assert line["abstained"] is one.abstained


def test_a_report_is_written(place: Path, tmp_path: Path) -> None:
    asked = ["report", str(place / "model"), str(place / "test.csv"), *ROLES, "--explain", "0"]
    assert main([*asked, "--output", str(tmp_path / "mine.html")]) == 0
    assert "<h2>Scores</h2>" in (tmp_path / "mine.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to do: fit, evaluate, predict, report"),
        (["fti", "x.csv"], "fit"),
        (["fit", "data.csv", *ROLES, "--epoch", "3"], "did you mean '--epochs'"),
        (["fit", "data.csv", *ROLES, "--output", "model"], "'--folder' says where to save"),
        (["fit", "data.csv", *ROLES, "--foldr", "model"], "did you mean '--folder'"),
        (["fit", "data.csv", *ROLES, "--epochs", "three"], "epochs='three'"),
        (["fit", "data.csv", "--text", "reviews", "--label", "sentiment"], "review"),
        (["fit", "missing.csv", *ROLES], "missing.csv"),
        (["fit", "tiny/config.yaml", *ROLES], "expected a file that ends in"),
        (["fit", "test.jsonl", *ROLES, "--delimiter", ";"], "it is for csv files"),
        (["fit", "data.csv", *ROLES, "--folder", "tiny"], "not a model saved by sftlib"),
        (["evaluate", "modl", "test.csv", *ROLES], "model"),
        (["evaluate", "model", "test.csv", "--text", "review"], "no labels"),
        (["predict", "model", "test.csv", "--text", "review", "--output", "answers.xml"], "answers.xml"),
        (["predict", "model", "test.csv", "--text", "review", "--abstain-below", "half"], "abstain-below"),
        (["report", "model", "test.csv", *ROLES, "--output", "report.pdf"], "html"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(
    place: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_words_become_values() -> None:
    asked = read_arguments(
        ["fit", "d.csv", "--text", "a", "--labels", "x", "y", "--freeze", "2", "--class-weights", '{"a": 2}']
    )
    assert asked.reading == {"text": "a", "labels": ["x", "y"]}
    assert asked.options == {"freeze": 2, "class_weights": {"a": 2}}
    assert asked.folder == "model"
    assert read_arguments(["fit", "d.csv", "--few-shot", "true", "--adapter", "lora"]).options == {
        "few_shot": True,
        "adapter": "lora",
    }


def test_the_program_runs(place: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "sftlib", "evaluate", "nowhere", "test.csv"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert found.returncode == 2
    assert "nowhere" in found.stderr
    assert "Traceback" not in found.stderr


def test_other_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("sequence,label\nACGT,a\nACGG,b\n" * 10, encoding="utf-8")
    assert main(["fit", str(tmp_path / "d.csv"), "--folder", str(tmp_path / "m")]) == 2


def test_files_and_answers(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").write_text("text\tlabel\nA, b.\tx\nC.\ty\n", encoding="utf-8")
    assert read_rows(str(tmp_path / "d.tsv"), {}).column("text") == ["A, b.", "C."]
    with pytest.raises(DataError, match="expected a file"):
        read_rows(str(tmp_path / "d"), {})
    write_answers([np.array([1.0, 2.0])], str(tmp_path / "o.csv"))
    assert (tmp_path / "o.csv").read_text(encoding="utf-8").splitlines() == ["row,answer", '0,"[1.0, 2.0]"']
    with pytest.raises(OptionError, match=r"\.csv or \.jsonl"):
        write_answers([], "o.txt")
    assert plain(3) == {"answer": 3}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Detected(0.5, (DetectedObject("cat", 0.9, (0.0, 1.0, 4.0, 2.0)), DetectedObject("dog", 0.1, (0, 0, 1, 1)))),
            {"threshold": 0.5, "objects": [{"label": "cat", "probability": 0.9, "box": [0.0, 1.0, 4.0, 2.0]}]},
        ),
        (Detected(0.5, ()), {"threshold": 0.5, "objects": []}),
        (Embedded(np.array([0.6, 0.8], np.float32).tobytes()), {"embedding": [0.6, 0.8]}),
        (Segmented(("sky", "road"), {}, Plane(np.array([[1, 1, 0]]))), {"areas": {"road": 2, "sky": 1}}),
        (Verified(0.25, None, None), {"similarity": 0.25}),
    ],
)
def test_what_an_answer_works_out_is_written_too(answer: object, said: dict[str, object], tmp_path: Path) -> None:
    write_answers([answer], str(tmp_path / "o.jsonl"))
    written = json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))
    assert said.keys() <= written.keys() <= {"row", "label_names", *said}
    for name, value in said.items():
        assert np.allclose(written[name], value) if name == "embedding" else written[name] == value
    write_answers([answer], str(tmp_path / "o.csv"))
    (cells,) = csv.DictReader((tmp_path / "o.csv").read_text(encoding="utf-8").splitlines())
    assert cells.keys() == written.keys()


@pytest.mark.parametrize("task", ["image-embedding", "image-classification", None])
def test_the_task_of_a_folder_is_the_one_that_is_asked_for(task: str | None, tmp_path: Path) -> None:
    write_pictures(tmp_path, 6)
    asked = read_arguments(["fit", str(tmp_path), *([] if task is None else ["--task", task])])
    assert read_rows(asked.data, asked.reading).task == (task or "image-classification")
    assert read_rows(asked.data, {}, task="image-embedding").task == "image-embedding"  # of a saved model
    with pytest.raises(OptionError, match="delimiter"):
        read_rows(asked.data, {"delimiter": ";"})
