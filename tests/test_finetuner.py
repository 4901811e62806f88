"""`FineTuner`: options, copies of itself, what it says before, during and after a fit, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.base import clone

from sftlib import EarlyStopping, FineTuner, TaskDataset
from sftlib.errors import ArtifactError, DataError, NotFittedError, OptionError
from sftlib.testing import FAMILIES, MAX_LENGTH, tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"


def data(rows: int | None = None) -> TaskDataset:
    return case_of(NAME).data(rows)


# Options.


def test_options_come_back_as_they_were_given() -> None:
    model, tokenizer, stopping = tiny_model(), tiny_tokenizer(), EarlyStopping("loss")
    weights_of_labels = {"a": 1.0}
    given: dict[str, Any] = {
        "model": model,
        "tokenizer": tokenizer,
        "early_stopping": stopping,
        "class_weights": weights_of_labels,
        "epochs": 7,
        "warmup": 0,
        "metrics": ["accuracy"],
    }
    found = FineTuner(**given).get_params()
    for name, value in given.items():
        assert found[name] is value or found[name] == value
    assert found["model"] is model
    assert found["class_weights"] is weights_of_labels
    assert found["learning_rate"] is None
    assert found == FineTuner(**given).get_params(deep=False)


def test_a_clone_has_the_same_options_and_nothing_else() -> None:
    tuner = tuner_for(NAME, max_steps=1, seed=3).fit(data(), progress=False)
    copy = tuner.clone()
    assert copy is not tuner
    assert copy.get_params() == tuner.get_params()
    with pytest.raises(NotFittedError):
        copy.predict("A film.")
    assert losses(copy.fit(data(), progress=False)) == losses(tuner)


def test_scikit_learn_clones_it(bert_folder: str) -> None:
    for tuner in (
        tuner_for(NAME, max_steps=2, early_stopping=EarlyStopping("loss", patience=3), metrics=["accuracy"]),
        FineTuner(bert_folder, class_weights={"a": 1.0, "b": 2.0}, schedule="cosine"),
    ):
        copy = clone(tuner)
        assert isinstance(copy, FineTuner)
        assert repr(copy) == repr(tuner)
        plain = {name for name, value in tuner.get_params().items() if isinstance(value, str | int | float | None)}
        assert {name: copy.get_params()[name] for name in plain} == {name: tuner.get_params()[name] for name in plain}


def test_options_can_be_changed() -> None:
    tuner = tuner_for(NAME, max_steps=2)
    assert tuner.set_params(max_steps=3, seed=9) is tuner
    tuner.fit(data(), progress=False)
    assert len(tuner.history.steps) == 3
    before = tuner.predict("A film.")
    tuner.set_params(max_steps=1)
    assert tuner.predict("A film.") == before  # the fitted model stays until the next fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'"),
        ({"epochs": 0}, "epochs=0"),
        ({"model": "./nowhere"}, "nowhere"),
        ({"model": 7}, "expected a model's name"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(options: dict[str, Any], message: str) -> None:
    tuner = tuner_for(NAME, max_steps=1).fit(data(), progress=False)
    before, shown = tuner.get_params(), repr(tuner)
    with pytest.raises((OptionError, ArtifactError), match=message):
        tuner.set_params(**options)
    assert tuner.get_params() == before
    assert repr(tuner) == shown
    assert tuner.predict("A film.").label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"epochs": True}, "epochs=True"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"learning_rate": -1e-3}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"learning_rate": "1e-3"}, "learning_rate"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"micro_batch_size": 0}, "micro_batch_size=0"),
        ({"micro_batch_size": "full"}, "'auto'"),
        ({"max_length": 1}, "max_length=1"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"schedule": "linaer"}, "did you mean 'linear'"),
        ({"warmup": 1.5}, "warmup=1.5"),
        ({"warmup": -1}, "warmup=-1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm"),
        ({"label_smoothing": 1.1}, "label_smoothing"),
        ({"dropout": -0.1}, "dropout"),
        ({"precision": "bf32"}, "did you mean"),
        ({"early_stopping": True}, "EarlyStopping"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        FineTuner("some-model", **options)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(OptionError) as caught:
        FineTuner("some-model", epochs=0, batch_size=-1, schedule="step")
    assert len(str(caught.value).splitlines()) == 3
    with pytest.raises(OptionError) as caught:
        FineTuner("some-model", epoch=0, batchsize=-1)  # type: ignore[call-arg]
    assert len(str(caught.value).splitlines()) == 2


def test_only_the_model_is_positional() -> None:
    with pytest.raises(OptionError, match="positional"):
        FineTuner("some-model", "text-classification")  # type: ignore[misc]
    with pytest.raises(OptionError, match="model"):
        FineTuner()  # type: ignore[call-arg]


def test_its_repr_names_what_differs_from_the_defaults() -> None:
    assert repr(FineTuner("some/model")) == "FineTuner('some/model')"
    tuner = FineTuner("some/model", epochs=5, learning_rate=2e-5, early_stopping=EarlyStopping("f1_macro"), warmup=0.1)
    shown = "epochs=5, learning_rate=2e-05, early_stopping=EarlyStopping('f1_macro', patience=2, min_delta=0.0)"
    assert repr(tuner) == f"FineTuner('some/model', {shown})"
    assert repr(tuner_for(NAME)).startswith("FineTuner('BertForSequenceClassification', tokenizer=<")


# Before a fit.


@pytest.mark.parametrize("use", ["model", "history", "label_names", "precision", "settings"])
def test_what_is_known_only_after_a_fit(use: str) -> None:
    from sklearn.exceptions import NotFittedError as SklearnNotFittedError

    tuner = tuner_for(NAME)
    with pytest.raises(NotFittedError, match=use):
        getattr(tuner, use)
    for call in (lambda: tuner.predict("x"), lambda: tuner.evaluate(data())):
        with pytest.raises(SklearnNotFittedError):
            call()


def test_what_is_known_before() -> None:
    assert tuner_for(NAME).task is None
    assert tuner_for(NAME, task=NAME).task == NAME
    assert tuner_for(NAME).device == torch.device("cpu")


@pytest.mark.parametrize("wrong", [None, [{"text": "a", "label": "b"}], "train.csv", {"text": ["a"], "label": ["b"]}])
def test_data_that_is_no_data_set(wrong: Any) -> None:
    with pytest.raises(DataError, match="TaskDataset"):
        tuner_for(NAME).fit(wrong, progress=False)
    if wrong is not None:
        with pytest.raises(DataError, match="TaskDataset"):
            tuner_for(NAME).fit(data(), wrong, progress=False)
    with pytest.raises(DataError, match="TaskDataset"):
        tuner_for(NAME, max_steps=1).fit(data(), progress=False).evaluate(wrong)


def test_empty_data() -> None:
    with pytest.raises(DataError):
        tuner_for(NAME).fit(data().select([]), progress=False)
    tuner = tuner_for(NAME, max_steps=1).fit(data(), progress=False)
    with pytest.raises(DataError):
        tuner.evaluate(data().select([]))
    assert tuner.predict([]) == []


def test_problems_of_both_data_sets_come_at_once() -> None:
    unlabelled = TaskDataset({"text": ["a"]})
    with pytest.raises(DataError) as caught:
        tuner_for(NAME).fit(unlabelled, unlabelled, progress=False)
    assert "train" in str(caught.value)
    assert "valid" in str(caught.value)


def test_pairs_and_single_texts_do_not_mix() -> None:
    columns = case_of(NAME).columns
    pairs = TaskDataset({**columns, "text_pair": columns["text"]})
    with pytest.raises(DataError, match="text_pair"):
        tuner_for(NAME).fit(data(), pairs, progress=False)
    tuner = tuner_for(NAME, max_steps=1).fit(pairs, progress=False)
    with pytest.raises(DataError, match="text_pair"):
        tuner.evaluate(data())
    with pytest.raises(DataError, match="tuple of two strings"):
        tuner.predict("A film.")
    assert tuner.predict(("A film.", "Another.")) == tuner.predict({"text": "A film.", "text_pair": "Another."})


def test_models_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        FineTuner(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), "no-such-model-anywhere"):
        with pytest.raises((ArtifactError, OptionError), match="no-such|empty"):
            FineTuner(name).fit(data(), progress=False)
    with pytest.raises(OptionError, match="torch.nn.Module"):
        FineTuner(3)  # type: ignore[arg-type]


def test_a_device_that_is_not_there() -> None:
    for device in ("cuda:99", "gpu", ""):
        with pytest.raises(OptionError, match="device"):
            tuner_for(NAME, device=device).fit(data(), progress=False)


@pytest.mark.parametrize("kind", ["object", "string", "path"])
def test_every_form_of_a_tokenizer(kind: str, tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    forms = {"object": tiny_tokenizer(), "string": str(tmp_path / "tokenizer"), "path": tmp_path / "tokenizer"}
    tuner = FineTuner(tiny_model("bert", 3), tokenizer=forms[kind], max_steps=1)
    assert len(losses(tuner.fit(data(), progress=False))) == 1


@pytest.mark.parametrize("size", [0, -1, 2.5, "all", True])
def test_batch_sizes_that_cannot_be(size: Any) -> None:
    tuner = tuner_for(NAME, max_steps=1).fit(data(), progress=False)
    with pytest.raises(OptionError, match="batch_size"):
        tuner.predict(["a", "b"], batch_size=size)
    with pytest.raises(OptionError, match="batch_size"):
        tuner.evaluate(data(), batch_size=size)


# Length.


def test_the_models_own_limit_is_kept() -> None:
    tuner = tuner_for(NAME, max_steps=1).fit(data(), progress=False)
    assert tuner.settings["max_length"] == MAX_LENGTH
    for too_long in (MAX_LENGTH + 3, 10**6):
        with pytest.raises(OptionError, match=f"at most {MAX_LENGTH + 2} tokens"):
            tuner_for(NAME, max_length=too_long).fit(data(), progress=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_rows_a_model_can_take(family: str) -> None:
    texts = ["film " * 500, "a", "story " * (MAX_LENGTH - 2)]
    long = TaskDataset({"text": texts, "label": ["bad", "good", "bad"]})
    tuner = tuner_for(NAME, family, max_steps=2).fit(long, progress=False)
    assert len(tuner.predict(texts)) == 3


def test_what_lies_beyond_the_limit_is_not_read() -> None:
    tuner = tuner_for(NAME, max_steps=4, max_length=6, learning_rate=1e-2).fit(data(), progress=False)
    head = "I hated the noise"  # four words and two control tokens
    one, other = tuner.predict(f"{head} and every minute of it"), tuner.predict(f"{head}, what a joy!")
    assert one == other == tuner.predict(head)
    assert tuner.predict("I hated the story") != one


def test_truncation_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    rows = TaskDataset({"text": ["film " * 20, "a film", "story " * 30], "label": ["bad", "good", "bad"]})
    tuner_for(NAME, max_steps=1, max_length=8).fit(rows, progress=True)
    shown = capfd.readouterr()
    assert "2 rows" in shown.out + shown.err
    assert "8 tokens" in shown.out + shown.err


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_tokenizer_that_is_handed_over_is_never_changed(family: str) -> None:
    given = copy.deepcopy(tiny_tokenizer(family))
    before = given.backend_tokenizer.to_str(), len(given), given.padding_side, given.pad_token_id
    tuner = FineTuner(tiny_model(family, 3), tokenizer=given, max_steps=1).fit(data(), progress=False)
    tuner.predict("a film")
    assert (given.backend_tokenizer.to_str(), len(given), given.padding_side, given.pad_token_id) == before


def test_one_is_said_of_one(capfd: pytest.CaptureFixture[str]) -> None:
    of_one = "text-regression"  # classes need two rows
    tuner = tuner_for(of_one, max_steps=1, batch_size=1).fit(case_of(of_one).data(1), progress=True)
    shown = capfd.readouterr()
    assert "; 1 row, 1 step, peak rate 0.001\n" in shown.out + shown.err
    assert repr(tuner.history) == "History(1 step, 0 evaluations)"
    several = tuner_for(NAME, max_steps=2).fit(data(4), data(2), progress=True)
    shown = capfd.readouterr()
    assert "; 4 rows (+ 2 valid), 2 steps, peak rate 0.001\n" in shown.out + shown.err
    assert repr(several.history).startswith("History(2 steps, ")


# During and after a fit.


def test_what_is_known_afterwards() -> None:
    tuner = tuner_for(NAME, epochs=2, batch_size=10).fit(data(), data(9), progress=False)
    assert tuner.label_names == ("bad", "good", "so-so")
    assert tuner.task == NAME
    assert tuner.precision == "fp32"
    assert tuner.device == torch.device("cpu")
    assert not tuner.model.training
    steps = tuner.history.steps
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [record["epoch"] for record in steps] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [record["rows"] for record in steps] == [10, 10, 10, 2] * 2
    evaluations = tuner.history.evaluations
    assert [(record["step"], record["epoch"]) for record in evaluations] == [(4, 1), (8, 2)]
    assert evaluations[-1]["valid_accuracy"] == tuner.evaluate(data(9))["accuracy"]
    assert evaluations[-1]["valid_loss"] == pytest.approx(tuner.evaluate(data(9))["loss"], rel=1e-6)
    settings = tuner.settings
    assert settings["epochs"] == 2
    assert settings["task"] == NAME
    settings["epochs"] = 99
    assert tuner.settings["epochs"] == 2


def test_the_loss_of_a_step_is_the_mean_over_its_rows() -> None:
    """The first step, without dropout, is what the untrained model makes of those rows."""
    tuner = tuner_for(NAME, max_steps=1, batch_size=32, learning_rate=0.0, dropout=0.0).fit(data(), progress=False)
    assert losses(tuner)[0] == pytest.approx(tuner.evaluate(data())["loss"], rel=1e-6)


def test_epochs_and_steps() -> None:
    assert len(tuner_for(NAME, epochs=3, batch_size=12).fit(data(), progress=False).history.steps) == 9
    assert len(tuner_for(NAME, epochs=3, max_steps=5, batch_size=12).fit(data(), progress=False).history.steps) == 5
    assert len(tuner_for(NAME, epochs=1, batch_size=500).fit(data(), progress=False).history.steps) == 1


def test_metrics_can_be_chosen() -> None:
    def share_of_good(references: Any, predictions: Any) -> float:
        return sum(reference == "good" for reference in references) / len(references)

    tuner = tuner_for(NAME, max_steps=1, metrics=["f1_macro", "log_loss", share_of_good])
    tuner.fit(data(), data(6), progress=False)
    found = tuner.evaluate(data())
    assert list(found) == ["loss", "f1_macro", "log_loss", "share_of_good"]
    assert found["share_of_good"] == case_of(NAME).columns["label"].count("good") / 32
    assert found["log_loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert "valid_share_of_good" in tuner.history.evaluations[0]
    with pytest.raises(OptionError, match="did you mean 'accuracy'"):
        tuner_for(NAME, metrics=["acuracy"]).fit(data(), progress=False)
    with pytest.raises(OptionError, match="metrics"):
        tuner_for(NAME, metrics="accuracy").fit(data(), progress=False)


@pytest.mark.parametrize(
    "names",
    [
        ["roc_auc_macro", "average_precision_macro", "log_loss", "brier", "ece"],
        ["precision_micro", "recall_weighted", "cohen_kappa", "mcc"],
    ],
    ids=["of scores", "of labels"],
)
def test_metrics_of_real_predictions_warn_of_nothing(names: list[str]) -> None:
    """fp32 probabilities sum to 1 but for rounding; scikit-learn must not complain to the user."""
    from sftlib.metrics.classification import Classification

    known = [name for name in names if name in Classification.names]
    assert len(known) >= 2
    tuner = tuner_for(NAME, max_steps=2, metrics=known).fit(data(), data(), progress=False)
    assert all(math.isfinite(tuner.evaluate(data())[name]) for name in known)


@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_replaces_every_rate(family: str, rate: float) -> None:
    from torch import nn

    tuner = tuner_for(NAME, family, max_steps=1, dropout=rate).fit(data(8), progress=False)
    found = [module.p for module in tuner.model.modules() if isinstance(module, nn.Dropout)]
    assert all(p == rate for p in found)
    config = tuner.model.config.to_dict()  # type: ignore[union-attr, operator]
    named = {key: value for key, value in config.items() if "drop" in key and isinstance(value, float)}
    assert named
    assert set(named.values()) == {rate}


def test_weight_decay_spares_biases_and_norms() -> None:
    """A gradient of zero and a rate of decay: matrices shrink by exactly 1 - rate x decay, vectors stay."""
    columns = {"text": ["x"] * 4, "label": ["bad", "good", "good", "good"]}
    options: dict[str, Any] = {"weight_decay": 0.5, "learning_rate": 0.1, "schedule": "constant", "warmup": 0}
    frozen = tiny_model("bert", 2)
    for parameter in frozen.parameters():  # one layer learns; its input does not reach the others
        parameter.requires_grad_(False)
    frozen.classifier.weight.requires_grad_(True)
    frozen.classifier.bias.requires_grad_(True)
    spared = FineTuner(frozen, tokenizer=tiny_tokenizer(), max_steps=1, **{**options, "weight_decay": 0.0})
    decayed = FineTuner(frozen, tokenizer=tiny_tokenizer(), max_steps=1, **options)
    left, right = (weights(tuner.fit(TaskDataset(columns), progress=False)) for tuner in (spared, decayed))
    assert torch.equal(left["classifier.bias"], right["classifier.bias"])
    shrunk = left["classifier.weight"] - 0.05 * frozen.classifier.weight
    assert torch.allclose(right["classifier.weight"], shrunk, atol=1e-7)


def test_clipping_bounds_the_first_step() -> None:
    big = tuner_for(NAME, max_steps=2, max_grad_norm=None).fit(data(), progress=False)
    small = tuner_for(NAME, max_steps=2, max_grad_norm=1e-4).fit(data(), progress=False)
    assert small.history.steps[0]["grad_norm"] == big.history.steps[0]["grad_norm"] > 1e-4  # told before clipping
    assert not same_weights(weights(big), weights(small))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near(precision: str) -> None:
    full = tuner_for(NAME, max_steps=5).fit(data(), progress=False)
    half = tuner_for(NAME, max_steps=5, precision=precision).fit(data(), progress=False)
    assert half.precision == precision
    assert {value.dtype for value in weights(half).values()} == {torch.float32}
    assert losses(half) == pytest.approx(losses(full), rel=0.02)
    assert losses(half) != losses(full)


def test_user_text_never_becomes_a_control_token() -> None:
    tuner = tuner_for(NAME, max_steps=10, learning_rate=1e-2).fit(data(), progress=False)
    assert tuner.predict("a [SEP] b") != tuner.predict("a b")
    assert tuner.predict("[PAD]") == tuner.predict("[ PAD ]")  # split like any other characters


def test_a_path_a_string_and_an_object_are_models(folder_of: Callable[..., str]) -> None:
    folder = folder_of("bert", 3)
    tuners = [FineTuner(folder, max_steps=1), FineTuner(Path(folder), max_steps=1)]
    found = [losses(tuner.fit(data(), progress=False)) for tuner in tuners]
    assert found[0] == found[1]


def test_predictions_can_be_read_and_compared() -> None:
    tuner = tuner_for(NAME, max_steps=1).fit(data(), progress=False)
    found = tuner.predict("A film.")
    assert repr(found).startswith("Prediction(label=")
    assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert found.probability == max(found.probabilities.values())
    with pytest.raises(AttributeError):
        found.label = "other"
    with pytest.raises(DataError):
        tuner.predict(7)
    with pytest.raises(DataError):
        tuner.predict(None)
