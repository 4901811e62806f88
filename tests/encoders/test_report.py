"""`FineTuner.report`: tokens, truncation and padding beside what the data set's own report says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sftlib import DataReport, FineTuner, TaskDataset
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.report import NAMED, InputReport, TrainingReport, padding_share
from sftlib.errors import DataError, OptionError
from sftlib.testing import tiny_model, tiny_tokenizer

# The control tokens [CLS] and [SEP], and a word or a mark each.
TEXTS = ["great", "bad film", "great film and a story", "bad"]
LENGTHS = [3, 4, 7, 3]
LABELS = [1, 0, 1, 0]


def tuner(**options: Any) -> FineTuner:
    return FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), batch_size=2, **options)


def data(texts: list[str] = TEXTS, labels: list[int] = LABELS) -> TaskDataset:
    return TaskDataset({"text": texts, "label": labels})


def test_counts_tokens_and_what_is_cut() -> None:
    report = tuner(max_length=5).report(data())
    assert isinstance(report, TrainingReport)
    assert report.train.rows == 4
    assert report.train.lengths["total"] == sum(LENGTHS)
    assert report.train.lengths["max"] == 7
    assert report.train.lengths["median"] == 3.5
    assert (report.train.truncated, report.train.truncated_rows, report.train.tokens_lost) == (1, (2,), 2)
    assert report.train.unsupervised == 0
    assert (report.max_length, report.batch_size, report.valid) == (5, 2, None)
    assert "1 row (25.0%) cut to 5 tokens, 11.8% of all tokens lost: row 2" in report.problems


def test_says_nothing_where_there_is_nothing_to_say() -> None:
    report = tuner().report(data())
    assert report.train.truncated == 0
    assert report.problems == []


def test_holds_the_report_of_the_data() -> None:
    train, valid = data(), data(TEXTS[:2], LABELS[:2])
    report = tuner(max_length=4).report(train, valid)
    assert report.data == DataReport.of(train, valid)
    assert report.valid is not None
    assert report.valid.rows == 2
    assert any("valid" in problem for problem in report.problems)
    assert report.problems[: len(report.data.problems)] == report.data.problems


def test_is_the_same_before_and_after_fitting() -> None:
    subject = tuner(max_length=5, max_steps=1)
    before = subject.report(data())
    assert subject.fit(data(), progress=False).report(data()) == before


def test_before_fitting_it_leaves_the_tuner_unfitted() -> None:
    subject = tuner()
    subject.report(data())
    with pytest.raises(Exception, match="holds no model yet"):
        _ = subject.model


def test_shows_a_table() -> None:
    report = tuner(max_length=5).report(data(), data(TEXTS[2:], LABELS[2:]))
    names = [name for name, _ in report.table()]
    assert len(names) == len(set(names))
    for name in ("rows", "tokens, max", "truncated rows", "valid: truncated rows", "longest input, tokens"):
        assert name in names
        assert name in str(report)
    assert "* 1 row (25.0%) cut to 5 tokens" in str(report)
    assert report._repr_html_().count("<table>") == 2
    assert "<table>" in tuner().report(data())._repr_html_()


def test_becomes_json() -> None:
    report = tuner(max_length=5).report(data(), data())
    found = json.loads(json.dumps(report.to_dict()))
    assert found["train"]["truncated_rows"] == [2]
    assert found["problems"] == report.problems
    assert found["data"]["rows"] == 4


def test_names_a_bounded_number_of_rows() -> None:
    rows, longer = 3 * NAMED, 9
    lists = [[1, 2]] * rows
    encoded = Encoded({"input_ids": Ragged.from_lists(lists)}, {}, cut=np.full(rows, longer - 2))
    report = InputReport.of(encoded, np.arange(rows))
    assert report.truncated == report.unsupervised == rows
    assert len(report.truncated_rows) == len(report.unsupervised_rows) == NAMED
    assert report.tokens_lost == rows * (longer - 2)
    lost, cut = report.sentences("2 tokens", "valid")
    assert lost == "300 rows of valid lost supervision with their end: row 0, row 1, row 2, row 3, row 4 and 295 more"
    assert cut.startswith("300 rows of valid (100.0%) cut to 2 tokens, 77.8% of all tokens lost: row 0")


def test_padding() -> None:
    lengths = np.array([1, 4])
    assert padding_share(lengths, [np.array([0, 1])]) == 3 / 8
    assert padding_share(lengths, [np.array([0]), np.array([1])]) == 0.0
    assert padding_share(lengths, []) == 0.0
    assert tuner(micro_batch_size=1).report(data()).padding == 0.0


def test_refuses_what_fit_refuses() -> None:
    with pytest.raises(DataError, match="expected a TaskDataset"):
        tuner().report([{"text": "good", "label": 1}])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no labels"):
        tuner().report(TaskDataset({"text": TEXTS}))
    with pytest.raises(OptionError, match="'vaild': did you mean 'valid'"):
        tuner().report(data(), vaild=data())  # type: ignore[call-arg]


QUIET = """
import sys
from sftlib import FineTuner, TaskDataset
data = TaskDataset({"text": ["great", "bad film " * 60, "great film"], "label": [1, 0, 1]})
tuner = FineTuner(sys.argv[1], epochs=2, keep_best="loss").fit(data, data, progress=False)
tuner.evaluate(data), tuner.predict(["good", "bad"]), tuner.report(data, data)
tuner.save(sys.argv[2])
FineTuner.load(sys.argv[2]).predict("good")
"""


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_without_progress_nothing_is_printed(family: str, folder_of: Any, tmp_path: Any) -> None:
    """To no file descriptor, by nobody, with every warning shown."""
    # torch before 2.13 leaves a temporary folder of its own to the end of the process, and Python says so.
    theirs = "ignore:Implicitly cleaning up:ResourceWarning"
    command = [
        sys.executable,
        "-W",
        "always",
        "-W",
        theirs,
        "-c",
        QUIET,
        str(folder_of(family)),
        str(tmp_path / "saved"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ}, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
