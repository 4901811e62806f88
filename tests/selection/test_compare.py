"""Models beside baselines on the same rows; sizes and speeds beside scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sftlib import FineTuner, TaskDataset, compare
from sftlib.errors import OptionError
from tests.selection.helpers import numbers, reviews, tuner


def test_models_and_baselines_are_ranked_on_the_same_rows(folder_of: Callable[..., str]) -> None:
    folder = folder_of("bert")
    tree = make_pipeline(CountVectorizer(), DecisionTreeClassifier(random_state=0))
    board = compare([folder, tuner(epochs=4), tree], reviews(60), folds=3, progress=False)
    names = {one.name: one for one in board.standings}
    assert len(names) == 4
    assert board.rows == 60
    assert board.race_rows == 20
    assert names["Pipeline"].parameters is None
    assert names["words counted (tf-idf)"].frozen > 0.8
    learned = names["BertModel"]
    assert learned.parameters == sum(p.numel() for p in tuner().fit(reviews(), progress=False).model.parameters())
    assert learned.megabytes == pytest.approx(4 * learned.parameters / 2**20)
    assert learned.predicted > 0
    assert learned.trained > 0
    assert board.best in board.equals
    assert board.simplest in board.equals
    assert board.standings[0].name == board.best
    assert "the simplest" in str(board) or len(board.equals) == 1
    assert "<table>" in board._repr_html_()
    assert len(board.to_frame()) == 4
    assert board.to_dict()["best"] == board.best


def test_a_useless_estimator_is_told_apart() -> None:
    dummy = make_pipeline(CountVectorizer(), DummyClassifier(strategy="constant", constant="good"))
    board = compare([tuner(epochs=6), dummy], reviews(80), folds=2, progress=False)
    assert "Pipeline" not in board.equals
    assert next(one for one in board.standings if one.name == "Pipeline").frozen == pytest.approx(0.5)


def test_regression_too() -> None:
    board = compare([tuner()], numbers(), folds=2, metric="mae", progress=False)
    assert {one.name for one in board.standings} == {"BertModel", "words counted (tf-idf)"}


def test_a_model_that_cannot_be_opened_is_a_row(folder_of: Callable[..., str], tmp_path: Any) -> None:
    import shutil

    broken = shutil.copytree(folder_of("bert"), tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    board = compare([str(broken), folder_of("bert")], reviews(), folds=2, baseline=None, progress=False)
    assert "ArtifactError" in next(one for one in board.standings if one.name == "broken").error
    assert len(board.standings) == 2


def test_own_features_are_those_of_the_pretrained_body(folder_of: Callable[..., str]) -> None:
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder, data = folder_of("bert"), reviews(6)
    found = FineTuner(folder, precision="fp32").features(data)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for row, text in enumerate(data.column("text")):
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            assert found[row] == pytest.approx(torch.nn.functional.normalize(mean, dim=0).numpy(), abs=1e-5)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)
    pairs = TaskDataset({"text": ["a", "b"], "text_pair": ["c", "d"], "label": [0, 1]})
    assert FineTuner(folder).features(pairs).shape == (2, 4 * found.shape[1])


@pytest.mark.parametrize(
    ("models", "options", "expected"),
    [
        ([], {}, "at least one"),
        ("bert-base-uncased", {}, "expected a list"),
        ([3], {}, "neither a model nor an estimator"),
        (["/no/such/folder"], {}, "there is no such folder"),
        (["a-model", "a-model"], {}, "comes twice"),
        ([DummyClassifier()], {}, "no pretrained model among them"),
        ([tuner()], {"baseline": 3}, "baseline=3"),
        ([tuner()], {"folds": 99}, "folds=99"),
        ([tuner()], {"metric": "acuracy"}, "accuracy"),
        ([tuner()], {"metric": "loss"}, "rank by one of predictions"),
        ([tuner()], {"finalists": 0}, "finalists=0"),
    ],
)
def test_bad_input_is_refused_before_any_training(models: Any, options: Any, expected: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(FineTuner, "fit", lambda *_, **__: pytest.fail("something was fitted"))
    with pytest.raises(OptionError, match=expected):
        compare(models, reviews(), progress=False, **options)
