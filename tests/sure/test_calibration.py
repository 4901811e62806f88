"""`FineTuner.calibrate`, `conform`, `decide`: promises that are kept, against independent code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sftlib import FineTuner, TaskDataset
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.sure.calibration import best_temperature, brier, expected_error, log_loss, probabilities
from sftlib.sure.conformal import label_set, quantile
from sftlib.sure.deciding import answers_by
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
from tests.versions import sklearn_before


def noisy(rows: int, seed: int, *, first: int = 0) -> TaskDataset:
    """Rows whose label a word decides in three of four; a number in each keeps them apart."""
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(rows):
        words = draw.choice(" ".join(SENTENCES).lower().replace(",", "").replace(".", "").split(), 5).tolist()
        label = number % 3
        texts.append(" ".join([*words, ("joy", "pain", "idea")[label], str(first + number)]))
        labels.append(("a", "b", "c")[label if draw.random() < 0.75 else int(draw.integers(0, 3))])
    return TaskDataset({"text": texts, "label": labels})


@pytest.fixture(scope="module")
def too_sure() -> FineTuner:
    """A tuner that learned its rows by heart, wrong labels too."""
    tuner = FineTuner(
        tiny_model("bert", 3, 0.0), tokenizer=tiny_tokenizer(), max_steps=250, learning_rate=3e-3, precision="fp32"
    )
    return tuner.fit(noisy(96, 0), progress=False)


@pytest.fixture
def tuner(too_sure: FineTuner, tmp_path: Any) -> FineTuner:
    too_sure.save(tmp_path / "tuned")
    return FineTuner.load(tmp_path / "tuned")


VALID, TEST = noisy(300, 1, first=1000), noisy(300, 2, first=2000)


def test_probabilities_become_what_they_say_and_labels_stay(tuner: FineTuner) -> None:
    names = ["accuracy", "ece", "log_loss", "brier"]
    tuner.set_params(metrics=names)
    before, metrics = tuner.predict(TEST), tuner.evaluate(TEST)
    found = tuner.calibrate(VALID)
    after, metrics_after = tuner.predict(TEST), tuner.evaluate(TEST)
    assert found.temperature > 1.5  # it was too sure
    assert [p.label for p in before] == [p.label for p in after]
    assert metrics_after["accuracy"] == metrics["accuracy"]
    assert metrics_after["ece"] < metrics["ece"] / 2
    assert metrics_after["log_loss"] < metrics["log_loss"]
    assert found.after["log_loss"] < found.before["log_loss"]
    assert found.changed == 0
    assert "too sure" in str(found)


def test_what_is_folded_in_is_the_score_over_the_temperature(tuner: FineTuner, tmp_path: Any) -> None:
    """Transformers' own scores, of the folder as it is saved."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    before = {name: value.clone() for name, value in tuner.model.state_dict().items()}
    scores = _scores(tuner.model, TEST)
    found = tuner.calibrate(VALID)
    np.testing.assert_allclose(_scores(tuner.model, TEST), scores / found.temperature, rtol=1e-5, atol=1e-6)
    changed = [name for name, value in tuner.model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["classifier.weight", "classifier.bias"]
    tuner.save(tmp_path / "calibrated")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "calibrated")
    pipe = pipeline(
        "text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(tmp_path / "calibrated")
    )
    texts = TEST.column("text")[:20]
    ours, again = tuner.predict(texts), FineTuner.load(tmp_path / "calibrated").predict(texts)
    for own, loaded, theirs in zip(ours, again, pipe(texts), strict=True):
        assert theirs["label"] == own.label == loaded.label
        assert theirs["score"] == pytest.approx(own.probability, abs=1e-5)
        assert loaded.probability == own.probability
    assert FineTuner.load(tmp_path / "calibrated").settings["temperature"] == pytest.approx(found.temperature)


def test_in_bf16_labels_stay_to_the_row_and_a_folder_predicts_the_same(tmp_path: Any) -> None:
    tuner = FineTuner(
        tiny_model("bert", 3, 0.0), tokenizer=tiny_tokenizer(), max_steps=20, learning_rate=1e-3, precision="bf16"
    )
    tuner.fit(noisy(96, 0), progress=False)  # unsure, so that many labels are nearly tied
    before = tuner.predict(TEST)
    for _ in range(2):
        assert tuner.calibrate(VALID).changed == 0
    after = tuner.predict(TEST)
    assert [p.label for p in after] == [p.label for p in before]
    assert [p.probability for p in after] != [p.probability for p in before]
    tuner.save(tmp_path / "calibrated")
    assert FineTuner.load(tmp_path / "calibrated").predict(TEST) == after


def _scores(model: nn.Module, data: TaskDataset) -> Any:
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in data.column("text")[:40]]
    return torch.stack(rows).numpy()


@pytest.mark.skipif(sklearn_before("1.8"), reason="scikit-learn finds temperatures since 1.8")
def test_the_temperature_is_that_of_scikit_learn() -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(400, 5)), draw.integers(0, 3, 400)
    features[np.arange(400), labels] += 1.0
    model = LogisticRegression(C=1e6).fit(features[:60], labels[:60])
    model.coef_ *= 4  # too sure
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(features[60:], labels[60:])
    scores = model.decision_function(features[60:])
    ours = probabilities(scores / best_temperature(scores, np.eye(3)[labels[60:]]), several=False)
    np.testing.assert_allclose(ours, theirs.predict_proba(features[60:]), atol=1e-4)


def test_measures_are_those_of_scikit_learn_and_of_code_of_its_own() -> None:
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as theirs

    draw = np.random.default_rng(1)
    for labels in (2, 4):
        found = probabilities(draw.normal(size=(500, labels)) * 2, several=False)
        true = draw.integers(0, labels, 500)
        truth = np.eye(labels)[true]
        assert log_loss(found, truth, several=False) == pytest.approx(
            theirs(true, found, labels=range(labels)), abs=1e-12
        )
        apart = [brier_score_loss(true == label, found[:, label]) for label in range(labels)]
        expected = apart[1] if labels == 2 else sum(apart)  # of two labels that of one of them, as it is given
        assert brier(found, truth, several=False) == pytest.approx(expected, abs=1e-12)
        assert expected_error(found, truth, several=False) == pytest.approx(_ece(found, true), abs=1e-12)


def _ece(found: Any, true: Any) -> float:
    """Row by row, as the definition has it."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(found, true, strict=True):
        sure = max(row)
        bins.setdefault(math.ceil(sure * 15) - 1, []).append((sure, list(row).index(sure) == label))
    return sum(abs(sum(good for _, good in part) - sum(sure for sure, _ in part)) for part in bins.values()) / len(true)


def test_several_labels_each_for_itself(tmp_path: Any) -> None:
    rows = noisy(96, 0)

    def several(data: TaskDataset) -> TaskDataset:
        return TaskDataset(
            {
                "text": data.column("text"),
                "labels": [[label, "x"] if n % 2 else [label] for n, label in enumerate(data.column("label"))],
            }
        )

    tuner = FineTuner(tiny_model(dropout=0.0), tokenizer=tiny_tokenizer(), max_steps=200, learning_rate=3e-3)
    tuner.fit(several(rows), progress=False)
    before = tuner.predict(TEST.column("text"))
    found = tuner.calibrate(several(VALID))
    assert found.after["log_loss"] < found.before["log_loss"]
    assert [p.labels for p in tuner.predict(TEST.column("text"))] == [p.labels for p in before]


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "modernbert", "gpt2"])
def test_the_last_layer_is_found_whatever_it_is_called(family: str) -> None:
    tuner = FineTuner(tiny_model(family, 3, 0.0), tokenizer=tiny_tokenizer(family), max_steps=10, precision="fp32")
    tuner.fit(noisy(30, 0), progress=False)
    before = tuner.predict(VALID)
    found = tuner.calibrate(VALID)
    for old, new in zip(before, tuner.predict(VALID), strict=True):
        powers = {name: value ** (1 / found.temperature) for name, value in old.probabilities.items()}
        expected = {name: value / sum(powers.values()) for name, value in powers.items()}
        assert new.probabilities == pytest.approx(expected, abs=1e-5)


class _NoHead(nn.Module):
    """Its scores are a product of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(len(tiny_tokenizer()), 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.tanh(self.table(input_ids))


def test_sets_cover_what_they_promise(tuner: FineTuner) -> None:
    found = tuner.conform(VALID, level=0.9)
    predictions = tuner.predict(TEST, sets=True)
    covered = np.mean([row["label"] in p.labels for row, p in zip(TEST, predictions, strict=True)])
    assert 0.84 <= covered <= 0.96  # of 300 rows
    assert found.coverage >= 0.9
    assert all(p.labels and p.labels[0] == p.label for p in predictions)
    assert predictions[0].label == tuner.predict(TEST[:1])[0].label
    assert tuner.predict(TEST[:1])[0].labels is None


def test_sets_are_those_of_mapie() -> None:
    conformity = pytest.importorskip("mapie.classification")
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(500, 4)), draw.integers(0, 4, 500)
    features[np.arange(500), labels] += 1.2
    model = LogisticRegression().fit(features[:200], labels[:200])
    theirs = conformity.SplitConformalClassifier(model, confidence_level=0.9, prefit=True, conformity_score="lac")
    theirs.conformalize(features[200:350], labels[200:350])
    _, sets = theirs.predict_set(features[350:])
    found = model.predict_proba(features)
    threshold = quantile(1 - found[np.arange(200, 350), labels[200:350]], 0.9)
    for row, expected in zip(found[350:], sets[:, :, 0], strict=True):
        own = set(label_set(dict(enumerate(row)), threshold))
        assert own == set(np.flatnonzero(expected)) or not expected.any()


def test_coverage_over_many_halves() -> None:
    draw = np.random.default_rng(0)
    found = probabilities(draw.normal(size=(800, 5)) * 2, several=False)
    true = np.array([draw.choice(5, p=row) for row in found])
    lacks = 1 - found[np.arange(800), true]
    covered = []
    for _ in range(200):
        order = draw.permutation(800)
        threshold = quantile(lacks[order[:400]], 0.9)
        covered.append(np.mean(lacks[order[400:]] <= threshold))
    assert 0.89 <= np.mean(covered) <= 0.91


def test_intervals_of_numbers() -> None:
    draw = np.random.default_rng(0)

    def rows(count: int, first: int) -> TaskDataset:
        values = draw.normal(size=count)
        return TaskDataset(
            {"text": [f"{'joy' if v > 0 else 'pain'} {first + n}" for n, v in enumerate(values)], "target": values}
        )

    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=60, learning_rate=3e-3)
    tuner.fit(rows(100, 0), progress=False)
    found, test = tuner.conform(rows(300, 1000), level=0.8), rows(300, 2000)
    predictions = tuner.predict(test, sets=True)
    covered = np.mean([p.low <= row["target"] <= p.high for row, p in zip(test, predictions, strict=True)])
    assert 0.72 <= covered <= 0.88
    assert predictions[0].high - predictions[0].low == pytest.approx(found.mean_size)


def test_a_promise_for_each_label(tuner: FineTuner, tmp_path: Any) -> None:
    found = tuner.conform(VALID, level=0.8, per_label=True)
    assert isinstance(found.threshold, tuple)
    assert len(found.threshold) == 3
    tuner.save(tmp_path / "promised")
    again = FineTuner.load(tmp_path / "promised")
    assert [p.labels for p in again.predict(TEST, sets=True)] == [p.labels for p in tuner.predict(TEST, sets=True)]


def test_a_new_temperature_forgets_promises(tuner: FineTuner) -> None:
    tuner.conform(VALID)
    tuner.calibrate(VALID)
    with pytest.raises(OptionError, match="conform"):
        tuner.predict("a joy", sets=True)


def test_answers_are_withheld_below_a_probability(tuner: FineTuner) -> None:
    plain, asked = tuner.predict(TEST), tuner.predict(TEST, abstain_below=0.8)
    assert [p.abstained for p in asked] == [p.probability < 0.8 for p in plain]
    assert [p.label for p in asked] == [p.label for p in plain]
    assert not any(p.abstained for p in plain)
    one = tuner.predict("a joy", abstain_below=1.0)
    assert one.abstained
    assert "abstained" in repr(one)


def test_a_decision_says_how_much_is_answered(tuner: FineTuner) -> None:
    found = tuner.decide(VALID, accuracy=0.4)
    assert found.coverage > 0
    given = [p for p in tuner.predict(VALID, abstain_below=found.threshold) if not p.abstained]
    assert len(given) / len(VALID) == pytest.approx(found.coverage)
    assert "answers" in str(found)
    none = tuner.decide(VALID, accuracy=0.999)
    assert none.coverage == 0
    assert all(p.abstained for p in tuner.predict(TEST, abstain_below=none.threshold))
    assert "do not show" in str(none)


def test_a_promised_accuracy_is_kept() -> None:
    """Of rows with known chances: the true accuracy above the threshold is at least what was promised."""
    draw, kept, answered = np.random.default_rng(0), 0, 0
    for _ in range(200):
        sure = draw.uniform(0.5, 1.0, 400)
        right = draw.random(400) < sure**2  # too sure
        good = [part for part in answers_by(sure, right, doubt=0.05 / 20) if part.at_least >= 0.75]
        answered += bool(good)
        limit = good[-1].threshold if good else 1.0
        many = np.linspace(limit, 1.0, 1000)
        kept += not good or float((many**2).mean()) >= 0.75
    assert kept >= 190
    assert answered >= 100


def test_pictures_are_drawn(tuner: FineTuner, tmp_path: Any) -> None:
    tuner.calibrate(VALID).plot().figure.savefig(tmp_path / "reliability.png")
    tuner.decide(VALID, accuracy=0.7).plot().figure.savefig(tmp_path / "coverage.png")


NUMBERS = TaskDataset({"text": [f"joy {n}" for n in range(60)], "target": [float(n) for n in range(60)]})


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: t.calibrate(VALID[:49]), DataError, "at least 50"),
        (lambda t: t.calibrate(VALID, method="isotonic"), OptionError, "temperature"),
        (lambda t: t.calibrate(TaskDataset({"text": ["a"] * 60})), DataError, "label"),
        (lambda t: t.clone().calibrate(VALID), NotFittedError, "calibrate"),
        (lambda t: t.calibrate(NUMBERS), DataError, "text-regression"),
        (lambda t: t.conform(VALID, level=1.0), OptionError, "level=1.0"),
        (lambda t: t.conform(VALID[:9]), DataError, "at least 10"),
        (lambda t: t.conform(VALID[:30], level=0.95, per_label=True), DataError, "of each label"),
        (lambda t: t.decide(VALID, accuracy=95), OptionError, "accuracy=95"),
        (lambda t: t.predict("joy", abstain_below=80), OptionError, "abstain_below=80"),
        (lambda t: t.predict("joy", abstain=0.8), OptionError, "abstain_below"),
        (lambda t: t.predict("joy", sets=True), OptionError, "conform(valid, level=0.9)"),
        (lambda t: t.predict("joy", sets="yes"), OptionError, "True or False"),
    ],
)
def test_mistakes_are_told(
    tuner: FineTuner, call: Callable[[FineTuner], Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        call(tuner)
    assert said in str(raised.value)


def test_rows_that_were_learned_are_refused(too_sure: FineTuner) -> None:
    for use in (too_sure.calibrate, too_sure.conform, too_sure.decide):
        with pytest.raises(DataError, match="96 of 396 rows are among those that the model learned from"):
            use(VALID + noisy(96, 0))


def test_scores_that_say_nothing_are_told_so(tuner: FineTuner) -> None:
    draw = np.random.default_rng(0)
    temperature = best_temperature(5 * draw.normal(size=(4000, 3)), np.eye(3)[draw.integers(0, 3, 4000)])
    assert temperature > 40
    found = tuner.calibrate(VALID)
    assert "sure of nothing" in str(replace(found, temperature=temperature))
    assert "sure of nothing" not in str(found)


def test_a_model_without_a_last_layer_is_refused() -> None:
    tuner = FineTuner(_NoHead(), tokenizer=tiny_tokenizer(), task="text-classification", max_steps=1)
    tuner.fit(noisy(30, 0), progress=False)
    before = {name: value.clone() for name, value in tuner.model.state_dict().items()}
    with pytest.raises(OptionError, match="no linear layer"):
        tuner.calibrate(VALID)
    assert all(torch.equal(before[name], value) for name, value in tuner.model.state_dict().items())
