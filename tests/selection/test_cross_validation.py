"""Cross-validation: out-of-fold predictions, merged metrics, intervals over rows, and nothing seen before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from sftlib import EarlyStopping, FineTuner, TaskDataset, cross_validate
from sftlib.errors import CheckpointError, OptionError
from sftlib.models.sources import HeldSource
from sftlib.models.tried import Tried
from sftlib.run import settle
from sftlib.testing import tiny_folder
from tests.selection.helpers import numbers, reviews, tuner


def test_merged_metrics_are_those_of_the_predictions_in_row_order() -> None:
    data = reviews(48, noise=7)
    found = cross_validate(tuner(), data, folds=4, progress=False)
    labels = [prediction.label for prediction in found.predictions]
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(data.column("label"), labels), abs=1e-9)
    assert found.metrics["f1_macro"] == pytest.approx(f1_score(data.column("label"), labels, average="macro"), abs=1e-9)
    assert len(found.folds) == 4
    assert sum(fold.rows for fold in found.folds) == found.metrics.rows == 48
    assert np.isfinite(found.metrics["loss"])
    low, high = found.interval()
    assert low <= found.score <= high
    assert found.seconds > 0
    assert found.epochs is None


def test_predictions_are_those_of_a_clone_fitted_on_the_other_folds() -> None:
    data, learner = reviews(40), tuner()
    found = cross_validate(learner, data, folds=4, progress=False)
    held_out = found.held_out[2]
    train = [row for row in range(40) if row not in set(held_out.tolist())]
    again = learner.clone().fit(data.select(train), progress=False).judge(data.select(held_out))
    assert [found.predictions[row] for row in held_out] == again.predictions
    assert again.metrics.to_dict() == found.folds[2].to_dict()


def test_no_row_is_predicted_by_a_model_that_saw_it() -> None:
    """Each text has a word of its own and its label is a coin's: only who saw a row can know it."""
    generator = np.random.default_rng(0)
    words = [f"{a}{b}" for a in "abcdefghij" for b in "abcde"]
    data = TaskDataset({"text": [f"{word} {word} {word}" for word in words], "label": generator.integers(0, 2, 50)})
    learner = tuner(epochs=40)
    seen = learner.clone().fit(data, progress=False).evaluate(data)["accuracy"]
    assert seen > 0.9
    assert cross_validate(learner, data, folds=5, progress=False).score < 0.75


def test_frozen_layers_computed_once_change_nothing() -> None:
    data = reviews(40)
    shared = cross_validate(tuner(freeze="backbone"), data, folds=4, progress=False)
    for number, held_out in enumerate(shared.held_out):
        train = [row for row in range(40) if row not in set(held_out.tolist())]
        alone = tuner(freeze="backbone").fit(data.select(train), progress=False).judge(data.select(held_out))
        assert [one.label for one in alone.predictions] == [shared.predictions[row].label for row in held_out]
        assert alone.metrics["loss"] == pytest.approx(shared.folds[number]["loss"], rel=1e-4)


@pytest.mark.parametrize("freeze", [None, "backbone", 1])
def test_what_was_tried_of_a_model_is_tried_once_for_all_folds(freeze: object, tmp_path: Path) -> None:
    """The folds are parts of rows that were tried whole; a model that is tried anew for each gives the same."""
    data, folder = reviews(40), tiny_folder(tmp_path / "model", dropout=0.0)
    options = {"freeze": freeze, "epochs": 2, "batch_size": 8, "learning_rate": 3e-3}
    tried = {"layout": 0, "frozen": 0}

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **keywords: Any) -> Any:
            tried[name] += 1
            return function(*args, **keywords)

        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "fitting_layout", counting("layout", settle.fitting_layout))
        patch.setattr(settle, "try_recall", counting("frozen", settle.try_recall))
        once = cross_validate(FineTuner(folder, **options), data, folds=4, progress=False)
    largest_first = 1 if freeze is not None else 4  # without a common run a fold may have larger rows than those before
    assert 1 <= tried["layout"] <= largest_first
    assert tried["frozen"] == (0 if freeze is None else 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeldSource, "tried", property(lambda _: Tried()))
        anew = cross_validate(FineTuner(folder, **options), data, folds=4, progress=False)
    assert once.predictions == anew.predictions
    assert once.metrics.to_dict() == anew.metrics.to_dict()


def test_a_repetition_has_other_folds_and_the_interval_counts_a_row_once() -> None:
    data = reviews(40, noise=5)
    once = cross_validate(tuner(), data, folds=4, progress=False)
    twice = cross_validate(tuner(), data, folds=4, repeats=2, progress=False)
    assert twice.predictions == once.predictions
    assert len(twice.folds) == 8
    assert [found.rows for found in twice.repeats] == [40, 40]
    assert twice.score == pytest.approx(np.mean([found["accuracy"] for found in twice.repeats]))
    low, high = twice.interval()
    assert low <= twice.score <= high


def test_early_stopping_looks_at_a_part_of_the_training_rows_and_its_epoch_is_told() -> None:
    data = reviews(48)
    found = cross_validate(tuner(epochs=4, keep_best="accuracy"), data, folds=3, progress=False)
    assert found.epochs in (1, 2, 3, 4)
    stopped = cross_validate(tuner(epochs=4, early_stopping=EarlyStopping("loss", patience=1)), data, folds=3)
    assert stopped.epochs in (1, 2, 3, 4)


def test_leaving_out_a_group_shows_the_worst_and_what_a_new_group_costs() -> None:
    data = reviews(48)
    # In one place words mean the opposite: nobody who has not been there can know.
    turned = [
        {"good": "bad", "bad": "good"}[label] if place == "place 2" else label
        for label, place in zip(data.column("label"), data.column("place"), strict=True)
    ]
    data = TaskDataset({"text": data.column("text"), "label": turned, "place": data.column("place")})
    found = cross_validate(tuner(epochs=15), data, folds="groups", groups="place", progress=False)
    assert found.names == ("place 0", "place 1", "place 2", "place 3")
    assert found.worst == "place 2"
    assert found.in_domain is not None
    assert found.gap == pytest.approx(found.in_domain["accuracy"] - found.metrics["accuracy"])
    assert "worst group: place 2" in str(found)


def test_regression_and_its_metric() -> None:
    found = cross_validate(tuner(), numbers(), folds=3, metric="mae", progress=False)
    errors = [abs(p.value - t) for p, t in zip(found.predictions, numbers().column("target"), strict=True)]
    assert found.score == pytest.approx(np.mean(errors), abs=1e-9)


def test_it_prints_as_a_table_is_html_and_becomes_a_frame() -> None:
    found = cross_validate(tuner(epochs=1), reviews(32), folds=2, progress=False)
    assert "all rows" in str(found)
    assert "not independent" in str(found)
    assert "<table>" in found._repr_html_()
    assert len(found.to_frame()) == 2
    assert found.to_dict()["metric"] == "accuracy"
    assert repr(found).startswith("CrossValidation(accuracy=")


def test_the_tuner_and_the_data_are_not_changed_and_a_repetition_is_bit_equal() -> None:
    learner, data = tuner(epochs=1), reviews(32)
    before = learner.get_params()
    first = cross_validate(learner, data, folds=2, progress=False)
    assert learner.get_params() == before
    second = cross_validate(tuner(epochs=1), reviews(32), folds=2, progress=False)
    assert first.predictions == second.predictions
    assert [p.probability for p in first.predictions] == [p.probability for p in second.predictions]
    assert first.metrics.to_dict() == second.metrics.to_dict()


def test_finished_folds_are_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, folder = reviews(40), tmp_path / "cv"
    whole = cross_validate(tuner(), data, folds=4, progress=False)
    fits = _stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(tuner(), data, folds=4, output_dir=folder, progress=False)
    monkeypatch.undo()
    fits = _stop_after(monkeypatch, 99)
    found = cross_validate(tuner(), data, folds=4, output_dir=folder, progress=False)
    assert fits == [2]
    assert found.predictions == whole.predictions
    assert [dict(p.probabilities) for p in found.predictions] == [dict(p.probabilities) for p in whole.predictions]
    assert found.metrics.to_dict() == whole.metrics.to_dict()
    with pytest.raises(CheckpointError, match="epochs: 2 -> 3"):
        cross_validate(tuner(epochs=3), data, folds=4, output_dir=folder, progress=False)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"thesis\.txt"):
        cross_validate(tuner(), reviews(32), folds=2, output_dir=tmp_path, progress=False)


def test_what_is_no_tuner_or_no_data_is_refused() -> None:
    with pytest.raises(OptionError, match="expected a FineTuner"):
        cross_validate("bert", reviews(32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a TaskDataset"):
        cross_validate(tuner(), [{"text": "a", "label": 1}])  # type: ignore[arg-type]


def _stop_after(monkeypatch: pytest.MonkeyPatch, fits: int) -> list[int]:
    """Interrupt the fit after so many; the list holds how many there were."""
    count, fit = [0], FineTuner.fit

    def counting(self: FineTuner, *args: object, **options: object) -> FineTuner:
        if count[0] == fits:
            raise KeyboardInterrupt
        count[0] += 1
        return fit(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FineTuner, "fit", counting)
    return count
