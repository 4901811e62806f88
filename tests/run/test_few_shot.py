"""Few labels: the head is scikit-learn's, the guard guards, the folder opens anywhere, a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, pipeline

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.models.open_head import close_head, open_head
from sftlib.run.few_shot import Recipe, _Head
from sftlib.tasks.contrast import BalancedPlan, Contrast
from sftlib.testing import tiny_folder, tiny_model, tiny_tokenizer
from tests.selection.helpers import numbers, reviews, tuner


@pytest.fixture
def encoder_folder(tmp_path: Path) -> str:
    """A tiny BERT whose folder says that it is read by the mean."""
    folder = tiny_folder(tmp_path / "encoder", dropout=0.0, auto_class="AutoModel")
    (tmp_path / "encoder" / "1_Pooling").mkdir()
    (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2"])
def test_without_its_output_layer_a_model_answers_with_what_that_reads(family: str) -> None:
    model = tiny_model(family, dropout=0.0)
    model.config.pad_token_id = 0
    batch = tiny_tokenizer(family)("a wonderful film", return_tensors="pt")
    with torch.no_grad():
        whole = model(**batch).logits
        last = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 2][-1]
        assert open_head(model, 2)
        features = model(**batch).logits
        assert features.shape == (1, 32)
        bias = torch.zeros(2) if last.bias is None else last.bias
        close_head(model, last.weight, bias)
        assert model(**batch).logits == pytest.approx(whole.numpy(), abs=1e-5)


def test_a_row_is_read_the_same_alone_and_beside_others_also_while_the_body_learns(encoder_folder: str) -> None:
    """The layer that averages attends within its row in every layout: rows lie end to end while they are learned."""
    data = reviews(16)
    options: dict[str, Any] = {"few_shot": "contrast", "max_steps": 3, "precision": "fp32", "dropout": 0.0}
    losses = [
        [r["loss"] for r in FineTuner(encoder_folder, **options, padding_free=flat).fit(data, progress=False).history]
        for flat in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_head_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    for labels in (2, 4):
        target = np.arange(40) % labels
        features = (generator.normal(size=(40, 6)) + target[:, None]).astype(np.float32)
        head = _Head.fitted(features, target, None, labels)
        scale = np.linalg.norm(features, axis=1).mean()
        x = features.astype(np.float64) / float(scale)
        best = min(
            np.abs(
                LogisticRegression(C=strength, max_iter=1000).fit(x, target).predict_proba(x)
                - torch.softmax(torch.from_numpy(features @ head.weight.T + head.bias), dim=1).numpy()
            ).max()
            for strength in (1.0, 3.0, 10.0, 30.0, 100.0)
        )
        assert best < 1e-5


def test_a_frozen_body_is_the_head_on_its_features(encoder_folder: str) -> None:
    data = reviews(32)
    learned = FineTuner(encoder_folder, few_shot=True, freeze="backbone", precision="fp32").fit(data, progress=False)
    assert learned.decided["few_shot"]["kept"] == "frozen"
    model, tokenizer = AutoModel.from_pretrained(encoder_folder).eval(), AutoTokenizer.from_pretrained(encoder_folder)
    features = []
    with torch.no_grad():
        for text in data.column("text"):
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            features.append(torch.tanh(torch.nn.functional.layer_norm(mean, mean.shape)).numpy())
    target = np.array([("bad", "good").index(label) for label in data.column("label")])
    head = _Head.fitted(np.stack(features), target, None, 2)
    scores = torch.softmax(torch.from_numpy(np.stack(features) @ head.weight.T + head.bias), dim=1).numpy()
    found = [[p.probabilities["bad"], p.probabilities["good"]] for p in learned.predict(data)]
    assert found == pytest.approx(scores, abs=2e-3)


def test_it_learns_and_the_folder_opens_in_a_pipeline_with_the_same_answers(
    encoder_folder: str, tmp_path: Path
) -> None:
    learner = FineTuner(encoder_folder, few_shot="contrast", learning_rate=3e-3, precision="fp32")
    train, test = reviews(48).split(0.5, 0.5)
    learned = learner.fit(train, test, progress=False)
    assert learned.history.evaluations[-1]["valid_accuracy"] > 0.9
    assert learned.decided["few_shot"]["kept"] == "tuned"
    assert len(learned.history.steps) == 40
    texts = test.column("text")
    learned.save(tmp_path / "saved")
    again = FineTuner.load(tmp_path / "saved")
    assert again.predict(texts) == learned.predict(texts)
    opened = pipeline("text-classification", model=str(tmp_path / "saved"))
    for own, other in zip(learned.predict(texts), opened(texts), strict=True):
        assert other["label"] == own.label
        assert other["score"] == pytest.approx(own.probability, abs=1e-4)


def test_shuffled_labels_give_chance_and_the_guard_looks(encoder_folder: str) -> None:
    data = reviews(48)
    labels = np.random.default_rng(1).permutation(data.column("label")).tolist()
    shuffled = TaskDataset({"text": data.column("text"), "label": labels})
    learned = FineTuner(encoder_folder, few_shot=True, learning_rate=1e-3).fit(shuffled, progress=False)
    facts = learned.decided["few_shot"]
    assert facts["looked_at"] == 24
    assert (facts["kept"] == "tuned") == (facts["right_after"] >= facts["right_before"])
    fresh = TaskDataset({"text": [f"{t} anew" for t in data.column("text")], "label": data.column("label")})
    assert 0.2 < learned.evaluate(fresh)["accuracy"] < 0.8


def test_two_rows_a_label_and_one_and_pairs(encoder_folder: str) -> None:
    for rows in (
        {"text": ["a film", "the story", "an actor", "the year"], "label": [0, 0, 1, 1]},
        {"text": ["a film", "the story", "an actor"], "label": [0, 0, 1]},
        {"text": ["a film", "the story", "an actor", "x"], "text_pair": list("abcd"), "label": [0, 0, 1, 1]},
    ):
        learned = FineTuner(encoder_folder, few_shot=True, max_steps=2).fit(TaskDataset(rows), progress=False)
        assert len(learned.predict(TaskDataset(rows))) == len(rows["text"])


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "electra"])
def test_other_families_are_read_as_their_head_reads(family: str, folder_of: Callable[..., str]) -> None:
    learned = FineTuner(folder_of(family), few_shot="contrast", learning_rate=3e-3, max_steps=60)
    data = reviews(32)
    assert learned.fit(data, progress=False).evaluate(data)["accuracy"] > 0.8


def test_the_same_seed_gives_the_same_bits_and_micro_batches_the_same_result(encoder_folder: str) -> None:
    data = reviews(24)
    options: dict[str, Any] = {"few_shot": "contrast", "max_steps": 4, "precision": "fp32"}
    first = FineTuner(encoder_folder, **options).fit(data, progress=False)
    second = FineTuner(encoder_folder, **options).fit(data, progress=False)
    assert first.history == second.history
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    cut = FineTuner(encoder_folder, **options, micro_batch_size=5).fit(data, progress=False)
    losses = [record["loss"] for record in first.history.steps]
    assert [record["loss"] for record in cut.history.steps] == pytest.approx(losses, rel=1e-5)


def test_a_killed_run_goes_on_to_the_bit(encoder_folder: str, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            if training.step == 3:
                raise KeyboardInterrupt

    data = reviews(24)
    options: dict[str, Any] = {"few_shot": "contrast", "max_steps": 6, "precision": "fp32"}
    whole = FineTuner(encoder_folder, **options).fit(data, progress=False)
    learner = FineTuner(encoder_folder, **options)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(data, output_dir=tmp_path / "run", save_every=2, callbacks=[Stop()], progress=False)
    found = FineTuner(encoder_folder, **options)

    class Still(Callback):
        pass

    Still.__qualname__ = Stop.__qualname__
    found.fit(data, output_dir=tmp_path / "run", save_every=2, resume=True, callbacks=[Still()], progress=False)
    assert found.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), whole.model.parameters(), strict=True))


def test_an_adapter_is_taught_and_its_folder_opens_on_its_base(encoder_folder: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    data = reviews(24)
    learned = FineTuner(encoder_folder, few_shot="contrast", adapter="lora", max_steps=3).fit(data, progress=False)
    learned.save(tmp_path / "saved")
    assert FineTuner.load(tmp_path / "saved", model=encoder_folder).predict(data) == learned.predict(data)
    merged = [one.probability for one in learned.merge().predict(data)]
    assert merged == pytest.approx([one.probability for one in learned.predict(data)], abs=1e-3)


def test_checks_before_a_run_look_at_a_run_by_itself(encoder_folder: str) -> None:
    learner = FineTuner(encoder_folder, few_shot=True, learning_rate="find", max_steps=4)
    assert learner.self_check(reviews(24)).holds
    assert learner.plan(reviews(24)).ways


def test_pairs_by_hand() -> None:
    data = TaskDataset({"text": list("abcd"), "label": [0, 0, 1, 1]})
    task = Contrast(inner=__import__("sftlib").TextClassification().learned_from(data))
    found = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0], [-1.0, 0.0]])
    batch: Any = type("B", (), {"targets": {"target": torch.tensor([0, 0, 1, 1])}})
    total, count = task.loss(found, batch)
    cosines = {(0, 1): 0.6, (0, 2): 0.0, (0, 3): -1.0, (1, 2): 0.8, (1, 3): -0.6, (2, 3): 0.0}
    wanted = {(0, 1): 1.0, (2, 3): 1.0}
    assert float(total) == pytest.approx(sum((c - wanted.get(p, 0.0)) ** 2 for p, c in cosines.items()))
    assert float(count) == 6


def test_batches_are_balanced_and_show_labels_twice_where_they_are_many() -> None:
    target = np.repeat(np.arange(77), 8)
    rows = BalancedPlan(target, batch_size=32, seed=0).rows(3)
    assert np.unique(target[rows], return_counts=True)[1].tolist() == [2] * 16
    assert len(set(rows.tolist())) == 32
    assert Recipe.of(tuner()._arguments, 48, 6).steps == 48  # 8 rows a step were asked for


@pytest.mark.parametrize(
    ("options", "data", "expected"),
    [
        ({"few_shot": "contrastive"}, None, "expected True, False, 'contrast' or 'head-first'"),
        ({"few_shot": 3}, None, "few_shot=3"),
        ({"few_shot": True}, numbers(), "needs one label a row"),
        ({"few_shot": True, "keep_best": "accuracy"}, reviews(), "keep_best"),
    ],
)
def test_what_it_cannot_do_is_refused(options: dict[str, Any], data: Any, expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        tuner(**options).fit(data, data, progress=False)
