"""A model that was tuned elsewhere is used as it came, before any fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.errors import LabelError, NotFittedError
from sftlib.testing import (
    SENTENCES,
    pictures,
    tiny_folder,
    tiny_image_model,
    tiny_image_processor,
    tiny_model,
    tiny_tokenizer,
)

TEXTS = list(SENTENCES)


def named(model: Any, *labels: str) -> Any:
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {name: i for i, name in enumerate(labels)}
    return model


def use(model: Any, **options: Any) -> FineTuner:
    return FineTuner(model, tokenizer=tiny_tokenizer(), precision="fp32", **options)


def logits(model: Any, text: str) -> torch.Tensor:
    inputs = tiny_tokenizer()(text, return_tensors="pt")
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits[0]
    return found


def test_a_classifier_answers_under_its_own_names(tmp_path: Path) -> None:
    model = named(tiny_model("bert"), "good", "bad")
    found = use(model).predict(TEXTS[:3])
    for text, prediction in zip(TEXTS, found, strict=False):
        expected = logits(model, text).softmax(-1)
        assert prediction.probabilities == pytest.approx(
            {"good": float(expected[0]), "bad": float(expected[1])}, abs=1e-6
        )
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert FineTuner(tmp_path / "model", precision="fp32").predict(TEXTS[:3]) == found
    assert use(model).predict((TEXTS[0], TEXTS[1])).label in ("good", "bad")


def test_it_is_judged_as_it_came() -> None:
    from sklearn.metrics import accuracy_score

    model = named(tiny_model("bert"), "good", "bad")
    data = TaskDataset({"text": TEXTS, "label": ["bad", "good"] * 8})
    tuner = use(model)
    expected = accuracy_score(data.column("label"), [p.label for p in tuner.predict(TEXTS)])
    assert tuner.evaluate(data)["accuracy"] == pytest.approx(expected)
    assert tuner.evaluate(data.select([0, 2]))["accuracy"] <= 1.0, "rows of one label are enough to judge"
    with pytest.raises(LabelError, match="'fine' is not among the 2 labels"):
        tuner.evaluate(TaskDataset({"text": TEXTS[:2], "label": ["fine", "bad"]}))
    with pytest.raises(NotFittedError):
        tuner.save("nowhere")
    tuner.fit(data, progress=False)
    assert tuner.label_names == ("bad", "good")


@pytest.mark.parametrize(
    ("names", "labels"), [(("LABEL_0", "LABEL_1"), [0, 1]), (("3", "7"), [7, 3]), (("True", "False"), [True, False])]
)
def test_labels_come_in_the_type_of_the_data(names: tuple[str, ...], labels: list[Any]) -> None:
    data = TaskDataset({"text": TEXTS, "label": labels * 8})
    tuner = use(named(tiny_model("bert"), *names))
    assert 0 <= tuner.evaluate(data)["accuracy"] <= 1
    assert type(tuner.predict(data)[0].label) is type(labels[0])


def test_other_tasks() -> None:
    tagger = named(tiny_model("bert", auto_class="AutoModelForTokenClassification"), "O", "B-X")
    assert set(use(tagger).predict("A film.").tags) <= {"O", "B-X"}
    several = named(tiny_model("bert"), "a", "b")
    several.config.problem_type = "multi_label_classification"
    assert use(several).predict("A film.").probabilities.keys() == {"a", "b"}
    number = tiny_model("bert", 1)
    number.config.problem_type = "regression"
    assert use(number).predict("A film.").value == pytest.approx(float(logits(number, "A film.")), abs=1e-6)
    asked = {"question": "What?", "context": "A dull film."}
    reader = tiny_model("bert", auto_class="AutoModelForQuestionAnswering")
    assert use(reader).predict(asked).answer in asked["context"]
    writer = tiny_model("llama", auto_class="AutoModelForCausalLM")
    told = FineTuner(writer, tokenizer=tiny_tokenizer("llama"), task="causal-lm")
    assert isinstance(told.predict("a film").text, str)
    assert told.evaluate(TaskDataset({"text": TEXTS}, task="causal-lm"))["perplexity"] > 1
    model = named(tiny_image_model("vit", 2), "cat", "dog")
    from sftlib import Image

    seen = FineTuner(model, inputs=Image(processor=tiny_image_processor("vit")))
    assert seen.predict(TaskDataset({"image": [row["image"] for row in pictures(4, classes=2)]}))[0].label in (
        "cat",
        "dog",
    )


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: tiny_model("bert"), "no names"),
        (lambda: tiny_model("bert", auto_class="AutoModel"), "name it with task="),
        (lambda: tiny_model("bert", auto_class="AutoModelForMaskedLM"), "name it with task="),
        (lambda: torch.nn.Linear(2, 2), "module of one's own"),
    ],
)
def test_a_model_without_such_a_head_is_told_as_that(model: Any, why: str) -> None:
    with pytest.raises(NotFittedError, match=why) as caught:
        use(model()).predict("A film.")
    assert "call fit(train)" in str(caught.value)


def test_a_head_that_is_not_there_is_no_head(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, auto_class="AutoModelForMaskedLM")
    data = TaskDataset({"text": TEXTS, "label": [0, 1] * 8})
    with pytest.raises(NotFittedError, match="does not hold"):
        FineTuner(folder).evaluate(data)
