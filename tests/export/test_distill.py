"""`distill`: the loss is the formula, the student learns what the teacher says, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from sftlib import FineTuner, Image, TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.errors import DataError, NotFittedError, OptionError
from sftlib.export import distill
from sftlib.export.comparing import agreement
from sftlib.export.students import shortened
from sftlib.inside import fitted_of
from sftlib.run.looking import scores_of
from sftlib.tasks.distilled import Distilled, TeacherScores
from sftlib.testing import (
    SENTENCES,
    pictures,
    tiny_image_model,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)


def rows(count: int = 48) -> TaskDataset:
    words = ["film", "card"]
    texts = [f"{words[n % 2]} {SENTENCES[n % 16]} {words[n % 2]} {n}" for n in range(count)]
    return TaskDataset({"text": texts, "label": [words[n % 2] for n in range(count)]})


def tuned(**options: Any) -> FineTuner:
    given = {"max_steps": 40, "learning_rate": 3e-3, "batch_size": 16, **options}
    return FineTuner(tiny_model("bert", dropout=0.0), tokenizer=tiny_tokenizer(), **given)


@pytest.fixture(scope="module")
def teacher() -> FineTuner:
    return tuned().fit(rows(), progress=False)


def batch_of(scores: torch.Tensor, **targets: torch.Tensor) -> Batch:
    numbers = torch.arange(len(scores))
    return Batch(rows=numbers, cost=numbers, inputs={}, targets=targets)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_the_paper(teacher: FineTuner, alpha: float) -> None:
    draw = torch.Generator().manual_seed(0)
    student, said = (torch.randn(6, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    target = torch.tensor([0, 1, 1, 0, 1, 0])
    task = Distilled(
        inner=fitted_of(teacher, "test").task,
        teacher=TeacherScores(rows(2), np.zeros((2, 2), np.float32)),
        temperature=3.0,
        alpha=alpha,
    )
    total, count = task.loss(student, batch_of(student, target=target, teacher=said))
    p, q = (torch.softmax(part / 3.0, dim=1) for part in (said, student))
    soft = 9.0 * (p * (p.log() - q.log())).sum()
    hard = -torch.log_softmax(student, dim=1)[torch.arange(6), target].sum()
    assert float(total) == pytest.approx(float(alpha * soft + (1 - alpha) * hard), rel=1e-9)
    assert int(count) == 6
    unlabelled = task.loss(student, batch_of(student, teacher=said))
    assert float(unlabelled.total) == pytest.approx(float(soft), rel=1e-9)
    judged = task.loss(student, batch_of(student, target=target))
    assert float(judged.total) == pytest.approx(float(hard), rel=1e-9)


def test_the_loss_of_several_labels_and_of_numbers() -> None:
    texts = {"text": SENTENCES[:8]}
    several = tuned(max_steps=1).fit(TaskDataset({**texts, "labels": [["a"], ["a", "b"]] * 4}), progress=False)
    number = tuned(max_steps=1).fit(TaskDataset({**texts, "target": [0.5, 2.0] * 4}), progress=False)
    nothing = TeacherScores(rows(2), np.zeros((2, 2), np.float32))
    draw = torch.Generator().manual_seed(0)
    student, said = (torch.randn(4, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    found = Distilled(inner=fitted_of(several, "test").task, teacher=nothing, temperature=2.0).loss(
        student, batch_of(student, teacher=said)
    )
    p, q = (torch.sigmoid(part / 2.0) for part in (said, student))
    apart = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert float(found.total) == pytest.approx(float(4.0 * apart.sum() / 2), rel=1e-9)
    found = Distilled(inner=fitted_of(number, "test").task, teacher=nothing).loss(
        student[:, :1], batch_of(student, teacher=said[:, :1])
    )
    assert float(found.total) == pytest.approx(float(functional.mse_loss(student[:, 0], said[:, 0], reduction="sum")))


def test_a_student_learns_from_texts_without_labels(teacher: FineTuner) -> None:
    texts = [f"{word} {SENTENCES[n % 16]} {word} again {n}" for n in range(24) for word in ("film", "card")]
    learner = tuned(seed=3, max_steps=60)
    small = distill(teacher, learner, texts, valid=rows(32), progress=False)
    made = small.decided["distilled"]
    assert small.label_names == teacher.label_names
    assert [line.name for line in made.lines] == ["teacher", "student"]
    assert made.lines[1].score == small.evaluate(rows(32))["accuracy"]
    assert made.lines[1].agreement >= 0.95
    assert not made.labelled
    assert made.rows == 48
    assert "as the teacher" in str(made)
    assert learner.get_params()["seed"] == 3
    with pytest.raises(NotFittedError):
        learner.model  # noqa: B018 - it raises


def test_a_teacher_is_asked_once(teacher: FineTuner, monkeypatch: pytest.MonkeyPatch) -> None:
    from sftlib.export import distilling

    asked = []
    monkeypatch.setattr(distilling, "scores_of", lambda *given: asked.append(1) or scores_of(*given))
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    distill(teacher, texts=rows(16), layers=1, progress=False)
    assert len(asked) == 1
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert"])
def test_layers_of_the_teacher_begin_the_student(family: str) -> None:
    options = {"max_steps": 1, "learning_rate": 0.0}
    large = FineTuner(tiny_model(family, dropout=0.0), tokenizer=tiny_tokenizer(), **options).fit(
        rows(16), progress=False
    )
    cut = shortened(large, 1)
    assert cut.config.num_hidden_layers == 1
    learner = FineTuner(cut, tokenizer=tiny_tokenizer(), **options)
    small = distill(large, learner, rows(16), progress=False)
    ours = small.model.state_dict()
    assert ours.keys() == cut.state_dict().keys()
    assert all(torch.equal(ours[name], value) for name, value in cut.state_dict().items())  # rate 0: as it began
    whole = shortened(large, 2)
    assert all(torch.equal(value, large.model.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_kept_layers_are_spread_evenly() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    from sftlib.models.pooling import MEAN, averages, pool

    config = BertConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=16,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=16,
    )
    model = BertForSequenceClassification(config)
    pool(model, MEAN)
    large = FineTuner(model, tokenizer=tiny_tokenizer(), max_steps=1, learning_rate=0.0)
    large.fit(rows(8), progress=False)
    cut = shortened(large, None)
    layers, found = large.model.bert.encoder.layer, cut.bert.encoder.layer
    assert len(layers) == 7
    assert len(found) == 4
    for mine, place in zip(found, (0, 2, 5, 6), strict=True):
        theirs = layers[place].state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in mine.state_dict().items())
    assert [averages(layer) for layer in found] == [False, False, False, True]


def test_pictures_and_class_weights() -> None:
    data = TaskDataset(pictures(24, classes=2))
    large = FineTuner(
        tiny_image_model("vit"),
        inputs=Image(processor=tiny_image_processor("vit")),
        max_steps=2,
        class_weights="balanced",
    )
    large.fit(data, progress=False)
    small = distill(large, texts=data, layers=1, progress=False)
    assert small.model.config.num_hidden_layers == 1
    assert 0 <= small.decided["distilled"].lines[1].agreement <= 1


def test_a_student_saves_and_opens(teacher: FineTuner, tmp_path: Path) -> None:
    small = distill(teacher, texts=rows(16), layers=1, baseline=True, valid=rows(8), progress=False)
    small.save(tmp_path / "small")
    again, texts = FineTuner.load(tmp_path / "small"), list(SENTENCES)
    assert [one.label for one in again.predict(texts)] == [one.label for one in small.predict(texts)]
    assert [line.name for line in small.decided["distilled"].lines] == ["teacher", "student", "student alone"]
    assert small.decided["distilled"].to_dict()["lines"][2]["parameters"] > 0


def test_the_same_again(teacher: FineTuner) -> None:
    one, two = (distill(teacher, texts=rows(16), layers=1, progress=False).model.state_dict() for _ in range(2))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_what_is_refused(teacher: FineTuner) -> None:
    with pytest.raises(NotFittedError):
        distill(tuned(), texts=SENTENCES)
    for given, message in [
        ({}, "texts: give the rows that"),
        ({"texts": SENTENCES, "alpha": 1.5}, "alpha"),
        ({"texts": SENTENCES, "temperature": 0}, "temperature"),
        ({"texts": SENTENCES, "layers": 3}, "layers"),
        ({"texts": SENTENCES, "layers": 1, "student": "x"}, "one or the other"),
        ({"texts": SENTENCES, "student": teacher}, "the teacher itself"),
        ({"texts": SENTENCES, "tempreature": 3}, "temperature"),
    ]:
        with pytest.raises(OptionError, match=message):
            distill(teacher, progress=False, **given)
    for wrong, message in [([], "no rows"), ([3], "row 0"), (7, "distill: found 7")]:
        with pytest.raises(DataError, match=message):
            distill(teacher, texts=wrong, progress=False)
    with pytest.raises(DataError, match="these rows have none"):
        distill(teacher, texts=SENTENCES, baseline=True, progress=False)
    tags = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=1)
    tags.fit(TaskDataset({"tokens": [["a", "film"]] * 4, "tags": [["O", "B-X"]] * 4}), progress=False)
    with pytest.raises(OptionError, match="not token-classification"):
        distill(tags, texts=[["a"]])


def test_numbers_agree_when_they_are_near(teacher: FineTuner) -> None:
    number = tuned(max_steps=1).fit(TaskDataset({"text": SENTENCES[:8], "target": [0.5, 2.0] * 4}), progress=False)
    task = fitted_of(number, "test").task
    kind = type(number.predict("A film."))
    first = [kind(value=float(n)) for n in range(4)]  # standard deviation 1.118
    second = [kind(value=n + (0.1 if n else 0.2)) for n in range(4)]
    assert agreement(task, first, second) == 0.75
