"""Estimators of scikit-learn: its own tools run on them, with a tiny model, and what they say is the tuner's."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    permutation_test_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from sftlib import FineTuner, TaskDataset, Text
from sftlib.errors import DataError, LabelError, NotFittedError, OptionError
from sftlib.sklearn import AudioClassifier, ImageClassifier, TextClassifier, TextFeatures, TextRegressor
from sftlib.testing import tiny_folder, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of
from tests.selection.helpers import numbers, reviews
from tests.versions import sklearn_before

DATA = reviews(24)
X, Y = DATA.column("text"), DATA.column("label")
OPTIONS: dict[str, Any] = {"max_steps": 4, "batch_size": 8, "learning_rate": 3e-3, "dropout": 0.0}


def classifier(**options: Any) -> TextClassifier:
    inputs = Text(tokenizer=tiny_tokenizer())
    return TextClassifier(tiny_model(auto_class="AutoModel"), inputs=inputs, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def fitted() -> TextClassifier:
    return classifier(max_steps=12).fit(X, Y)


def test_parameters_are_the_options_of_a_tuner() -> None:
    own, theirs = (inspect.signature(kind).parameters for kind in (TextClassifier, FineTuner))
    assert [name for name in own if name != "columns"] == list(theirs)
    assert all(own[name].default == theirs[name].default for name in theirs)
    features = inspect.signature(TextFeatures).parameters
    assert all(features[name].default == theirs[name].default for name in features if name != "columns")


def test_it_is_the_tuner_with_these_options(fitted: TextClassifier) -> None:
    options = {name: value for name, value in fitted.get_params(deep=False).items() if name != "columns"}
    tuner = FineTuner(**options).fit(DATA, progress=False)
    found = tuner.predict(X)
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert fitted.predict_proba(X)[:, 1] == pytest.approx([one.probabilities["good"] for one in found], abs=1e-6)
    assert fitted.predict(X).tolist() == [one.label for one in found]
    assert fitted.score(X, Y) == pytest.approx(tuner.evaluate(DATA)["accuracy"])
    margins = fitted.decision_function(X)
    assert ((margins > 0) == (fitted.predict(X) == "good")).all()


def test_clones_have_the_very_objects(fitted: TextClassifier) -> None:
    twin = clone(fitted)
    assert not hasattr(twin, "tuner_")
    assert twin.get_params(deep=False).keys() == fitted.get_params(deep=False).keys()
    assert twin.set_params(max_steps=7, seed=3).get_params()["max_steps"] == 7
    assert "max_steps=12" in repr(fitted)


@pytest.mark.parametrize(
    "rows",
    [
        X,
        np.array(X),
        np.array(X, dtype=object)[:, None],
        pandas.Series(X, index=range(5, 29)),
        pandas.DataFrame({"review": X}),
        [(text,) for text in X],
    ],
    ids=["list", "array", "column", "series", "frame", "tuples"],
)
def test_rows_come_in_many_forms(rows: Any, fitted: TextClassifier) -> None:
    assert fitted.predict_proba(rows) == pytest.approx(fitted.predict_proba(X))


def test_pairs_are_tuples_or_two_columns() -> None:
    pairs = [(text, text[::-1]) for text in X]
    one = classifier().fit(pairs, Y)
    frame = pandas.DataFrame({"number": range(24), "first": X, "second": [text[::-1] for text in X]})
    other = classifier(columns={"text": "first", "text_pair": "second"}).fit(frame, Y)
    assert other.predict_proba(frame) == pytest.approx(one.predict_proba(pairs))


@pytest.mark.parametrize("labels", [np.array([3, 7] * 12), np.array([1.0, 2.0] * 12), np.array([True, False] * 12)])
def test_labels_keep_their_type(labels: Any) -> None:
    found = classifier(max_steps=1).fit(X, labels)
    assert found.classes_.tolist() == sorted(set(labels.tolist()))
    assert found.predict(X).dtype == labels.dtype


def test_wantedpictures_and_sounds_have_estimators_too() -> None:
    data = numbers(16)
    inputs = Text(tokenizer=tiny_tokenizer())
    found = TextRegressor(tiny_model(auto_class="AutoModel"), inputs=inputs, **OPTIONS)
    found.fit(data.column("text"), np.array(data.column("target")))
    assert found.predict(data.column("text")).shape == (16,)
    assert np.isfinite(found.score(data.column("text"), data.column("target")))
    for kind, name, role in (
        (ImageClassifier, "image-classification", "image"),
        (AudioClassifier, "audio-classification", "audio"),
    ):
        case = case_of(name)
        rows, labels = case.data(8).column(role), case.data(8).column("label")
        model = kind(case.model(), **case.reading(), max_steps=1, batch_size=4)
        assert model.fit(rows, labels).predict_proba(rows[:3]).shape == (3, len(model.classes_))


def test_searches_and_folds_run(fitted: TextClassifier) -> None:
    grid = GridSearchCV(classifier(), {"learning_rate": [0.0, 3e-3]}, cv=StratifiedKFold(2)).fit(X, Y)
    rows, labels = np.array(X), np.array(Y)
    scores = [
        classifier(learning_rate=0.0).fit(rows[train], labels[train]).score(rows[test], labels[test])
        for train, test in StratifiedKFold(2).split(rows, labels)
    ]
    assert grid.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(scores))
    assert grid.predict(X).tolist() == classifier(**grid.best_params_).fit(X, Y).predict(X).tolist()
    halving = HalvingGridSearchCV(
        classifier(), {"learning_rate": [0.0, 1e-2]}, cv=2, resource="max_steps", max_resources=8, min_resources=4
    )
    assert halving.fit(X, Y).best_params_["learning_rate"] in (0.0, 1e-2)
    chances = cross_val_predict(classifier(), X, Y, cv=3, method="predict_proba")
    assert chances.shape == (24, 2)
    assert chances.sum(axis=1) == pytest.approx(np.ones(24))


def calibrating(fitted: TextClassifier) -> CalibratedClassifierCV:
    """Around what is fitted already; scikit-learn has a class for that since 1.6, before it was a word."""
    if sklearn_before("1.6"):
        return CalibratedClassifierCV(fitted, cv="prefit")
    from sklearn.frozen import FrozenEstimator

    return CalibratedClassifierCV(FrozenEstimator(fitted))


def test_it_is_calibrated_voted_on_and_teaches_itself(fitted: TextClassifier) -> None:
    calibrated = calibrating(fitted).fit(X, Y)
    assert (calibrated.predict(X) == Y).mean() >= 0.5
    numbered = np.array([int(label == "good") for label in Y])
    voting = VotingClassifier([("one", classifier()), ("two", classifier(seed=1))], voting="soft").fit(X, numbered)
    assert voting.predict(X).shape == (24,)
    some = numbered.copy()
    some[16:] = -1
    features = TextFeatures(tiny_model(auto_class="AutoModel"), inputs=Text(tokenizer=tiny_tokenizer()))
    taught = make_pipeline(features, SelfTrainingClassifier(LogisticRegression(), max_iter=1, threshold=0.5))
    assert taught.fit(X, some).predict(X).shape == (24,)  # which reads numbers alone
    score, _, chance = permutation_test_score(classifier(max_steps=1), np.array(X), Y, cv=2, n_permutations=2)
    assert 0 <= score <= 1
    assert 0 < chance <= 1


def test_features_stand_in_pipelines_and_beside_columns() -> None:
    inputs = Text(tokenizer=tiny_tokenizer())
    features = TextFeatures(tiny_model(auto_class="AutoModel"), inputs=inputs)
    tuner = FineTuner(features.model, inputs=inputs)
    assert features.fit_transform(X) == pytest.approx(tuner.features(DATA))
    pipe = make_pipeline(features, LogisticRegression())
    assert cross_val_score(pipe, X, Y, cv=2).shape == (2,)
    frame = pandas.DataFrame({"text": X, "stars": np.arange(24.0)})
    beside = ColumnTransformer([("text", features, ["text"]), ("stars", StandardScaler(), ["stars"])])
    whole = Pipeline([("columns", beside), ("head", LogisticRegression())]).fit(frame, Y)
    assert whole[:-1].transform(frame).shape == (24, 33)
    assert len(whole[:-1].get_feature_names_out()) == 33
    assert pickle.loads(pickle.dumps(features)).transform(X[:2]) == pytest.approx(features.transform(X[:2]))


def test_a_copy_is_made_of_the_files_that_save_writes(fitted: TextClassifier) -> None:
    state = fitted.__getstate__()
    assert "model.safetensors" in state["saved"]
    assert "tuner_" not in state
    twin = pickle.loads(pickle.dumps(fitted))
    assert twin.predict_proba(X).tolist() == fitted.predict_proba(X).tolist()
    assert twin.classes_.tolist() == fitted.classes_.tolist()


def test_folds_run_in_two_processes(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model", dropout=0.0)
    scores = [cross_val_score(TextClassifier(folder, **OPTIONS), X, Y, cv=2, n_jobs=jobs) for jobs in (1, 2)]
    assert scores[0].tolist() == scores[1].tolist()


@pytest.mark.parametrize(
    ("rows", "labels", "error", "words"),
    [
        (X, Y[:-1], DataError, "different numbers of rows: text 24, y 23"),
        (X, ["one"] * 24, LabelError, "y has 1 class; a classifier needs at least two"),
        ("a text", Y, DataError, "expected a list, an array or a frame"),
        ([], [], LabelError, "y has 0 classes"),
        (X, [[1, 2]] * 24, DataError, "expected one value a row"),
        ([1.5] * 24, Y, DataError, "text"),
        (pandas.DataFrame({"a": X, "b": X, "c": X}), Y, DataError, "say which are read"),
    ],
)
def test_what_cannot_be_learned_is_refused(rows: Any, labels: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        classifier().fit(rows, labels)


def test_what_is_asked_wrongly_is_refused() -> None:
    with pytest.raises(NotFittedError):
        classifier().predict(X)
    with pytest.raises(NotFittedError):
        TextFeatures(tiny_model()).transform(X)
    with pytest.raises(OptionError, match="epochs=0"):
        classifier(epochs=0).fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter"):
        classifier().set_params(epoch=3)
    with pytest.raises(DataError, match="did you mean 'first'"):
        classifier(columns={"text": "frist"}).fit(pandas.DataFrame({"first": X}), Y)


class TestWeightsOfRows:
    """By oracles: no weights, rows left out, and the gradient of a weighted mean written once more."""

    @staticmethod
    def chances(**weights: Any) -> Any:
        return classifier().fit(X, Y, **weights).predict_proba(X)

    def test_equal_weights_are_none(self) -> None:
        for weight in (1.0, 3.0):
            found = self.chances(sample_weight=np.full(len(X), weight))
            np.testing.assert_allclose(found, self.chances(), atol=1e-5)

    def test_a_row_of_weight_0_is_left_out(self) -> None:
        weights = np.arange(len(X)) % 3 > 0
        texts, labels = ([v for v, w in zip(values, weights, strict=True) if w] for values in (X, Y))
        found = self.chances(sample_weight=weights.astype(int))
        np.testing.assert_allclose(found, classifier().fit(texts, labels).predict_proba(X), atol=1e-5)
        assert np.abs(found - self.chances()).max() > 1e-3

    def test_weights_of_labels_are_weights_of_their_rows(self) -> None:
        first, second = sorted(set(Y))
        by_row = self.chances(sample_weight=[3.0 if label == first else 1.0 for label in Y])
        by_label = classifier(class_weights={first: 3.0, second: 1.0}).fit(X, Y).predict_proba(X)
        np.testing.assert_allclose(by_row, by_label, atol=1e-5)

    def test_the_loss_is_the_weighted_mean_however_it_is_cut(self) -> None:
        weights = np.linspace(0.1, 2.0, len(X))
        wanted = np.linspace(-1.0, 1.0, len(X))
        whole, cut = (
            TextRegressor(
                tiny_model(dropout=0.0),
                tokenizer=tiny_tokenizer(),
                max_steps=1,
                batch_size=len(X),
                micro_batch_size=size,
            ).fit(X, wanted, sample_weight=weights)
            for size in (len(X), 5)
        )
        start = FineTuner(tiny_model(dropout=0.0), tokenizer=tiny_tokenizer(), max_steps=1, learning_rate=0.0)
        start.fit(TaskDataset({"text": X, "target": wanted}), progress=False)
        values = np.array([one.value for one in start.predict(X)])
        expected = float((weights * (values - wanted) ** 2).sum() / weights.sum())
        for one in (whole, cut):
            assert next(iter(one.tuner_.history))["loss"] == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("weights", "said"),
        [
            ([1.0], r"shape \(1,\), expected \(24,\)"),
            ([-1.0] + [1.0] * 23, "row 0: -1.0"),
            ([1.0] * 23 + [float("nan")], "row 23: nan"),
            ([0.0] * 24, "all weights are zero"),
            (["heavy"] * 24, "expected a number for each row"),
        ],
    )
    def test_what_cannot_be_is_said(self, weights: Any, said: str) -> None:
        with pytest.raises(DataError, match=said):
            classifier().fit(X, Y, sample_weight=weights)

    def test_recipes_do_not_know_of_weights(self) -> None:
        for options in ({"few_shot": True}, {"learning_rate": "find"}):
            with pytest.raises(OptionError, match="sample_weight and .* do not go together"):
                classifier(**options).fit(X, Y, sample_weight=np.ones(24))
