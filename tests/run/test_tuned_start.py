"""Starting from a model that is tuned already: its rows keep their names, and what is drawn anew is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import FineTuner, LoRA, TaskDataset
from sftlib.errors import ArtifactError, OptionError
from sftlib.models.head_rows import Seats, label_axes
from sftlib.testing import tiny_config, tiny_model, tiny_tokenizer

WORDS = {"film": "wonderful", "card": "transfer", "music": "story"}
OPTIONS: dict[str, Any] = {"learning_rate": 5e-3, "batch_size": 8, "precision": "fp32", "dropout": 0.0, "warmup": 0}
STILL: dict[str, Any] = {**OPTIONS, "learning_rate": 0.0, "max_steps": 1}  # what a run begins with is what comes out
LORA = LoRA(r=4)


def rows(task: str, names: dict[str, str], count: int = 8) -> TaskDataset:
    """Rows that say in plain words which label they have; ``names`` gives each kind of row its label."""
    texts = [(kind, f"{word} {kind} {word} {i}") for kind, word in WORDS.items() if kind in names for i in range(count)]
    if task == "text-classification":
        return TaskDataset({"text": [text for _, text in texts], "label": [names[kind] for kind, _ in texts]})
    if task == "multi-label-classification":
        return TaskDataset({"text": [text for _, text in texts], "labels": [[names[kind]] for kind, _ in texts]})
    if task == "token-classification":
        tags = [[names[kind] if word == kind else "O" for word in text.split()] for kind, text in texts]
        return TaskDataset({"tokens": [text.split() for _, text in texts], "tags": tags})
    return TaskDataset(
        {
            "text": [f"Ada met {text}" for _, text in texts],
            "head": [(0, 3)] * len(texts),
            "tail": [(4, 7)] * len(texts),
            "label": [names[kind] for kind, _ in texts],
        }
    )


TASKS = ("text-classification", "multi-label-classification", "token-classification", "relation-extraction")
SCORE = {"multi-label-classification": "f1_macro", "token-classification": "f1"}
TWO = {"film": "b", "card": "a"}
THREE = {**TWO, "music": "aa"}  # sorts between the two


def auto_class(task: str) -> str:
    return "AutoModelForTokenClassification" if task.startswith("token") else "AutoModelForSequenceClassification"


def tuned(task: str, family: str = "bert", **more: Any) -> FineTuner:
    model = tiny_model(family, dropout=0.0, auto_class=auto_class(task))
    options = {**OPTIONS, "max_steps": 40, **more}
    return FineTuner(model, tokenizer=tiny_tokenizer(family), **options).fit(rows(task, TWO), progress=False)


def score(tuner: FineTuner, data: TaskDataset) -> float:
    return tuner.evaluate(data)[SCORE.get(str(tuner.task), "accuracy")]


@pytest.mark.parametrize(
    ("task", "how"),
    [
        *[(TASKS[0], how) for how in ("object", "folder", "load", "adapter", "lora object")],
        *[(task, how) for task in TASKS[1:] for how in ("load", "adapter")],
    ],
)
def test_a_class_more_keeps_the_rows_of_the_others(
    task: str, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = {"adapter": LORA, "learning_rate": 2e-2} if how in ("adapter", "lora object") else {}
    first = tuned(task, **adapter)
    if how in ("object", "lora object"):
        second = FineTuner(first.model, tokenizer=first._ready("x").encoder.tokenizer, **STILL)  # type: ignore[attr-defined]
    else:
        first.save(tmp_path / "model")
        base = {"model": tiny_model("bert", dropout=0.0, auto_class=auto_class(task))} if how == "adapter" else {}
        second = (
            FineTuner(tmp_path / "model", **STILL)
            if how == "folder"
            else FineTuner.load(tmp_path / "model", **base).set_params(**STILL)
        )
    second.fit(rows(task, THREE))
    said = "".join(capsys.readouterr())
    assert "drawn anew for aa" in said, said
    old, new = weights_of_rows(first), weights_of_rows(second)
    for name in first.label_names or ():
        assert torch.equal(old[name], new[name]), name


def weights_of_rows(tuner: FineTuner) -> dict[Any, torch.Tensor]:
    model: Any = tuner.model
    weight = dict(model.named_parameters(remove_duplicate=False))
    found = next(
        w for name, w in weight.items() if name in ("classifier.weight", "classifier.modules_to_save.default.weight")
    )
    return {name: found[place].detach() for place, name in enumerate(tuner.label_names or ())}


@pytest.mark.parametrize(
    ("family", "order"),
    [
        ("bert", ["z-film", "a-card"]),
        ("roberta", ["a-film", "z-card"]),
        ("distilbert", ["z-film", "a-card"]),
        ("modernbert", ["z-film", "a-card"]),
        ("llama", ["a-film", "z-card"]),
    ],
)
def test_another_order_gives_the_same_answers(family: str, order: list[str], tmp_path: Path) -> None:
    """A classifier whose names stand in another order than ours, as others save them."""
    names = {"film": order[0], "card": order[1]}
    data = rows("text-classification", names)
    first = FineTuner(
        tiny_model(family, dropout=0.0), tokenizer=tiny_tokenizer(family), **{**OPTIONS, "max_steps": 50}
    ).fit(data, progress=False)
    assert score(first, data) == 1.0
    loss = first.evaluate(data)["loss"]
    # As somebody else would have saved it: the same rows, the other way round.
    model: Any = first.model
    axes = label_axes("AutoModelForSequenceClassification", model.config, 2)
    with torch.no_grad():
        for name in axes:
            model.get_parameter(name).copy_(model.get_parameter(name).flip(0))
    model.config.id2label = dict(enumerate(reversed(first.label_names or ())))
    model.config.label2id = {name: i for i, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path / "theirs")
    tiny_tokenizer(family).save_pretrained(tmp_path / "theirs")
    for again in (FineTuner(model, tokenizer=tiny_tokenizer(family), **STILL), FineTuner(tmp_path / "theirs", **STILL)):
        assert score(again.fit(data, progress=False), data) == 1.0
        assert again.evaluate(data)["loss"] == pytest.approx(loss, rel=1e-4)


def test_other_names_are_told_and_drawn(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    first = tuned("text-classification")
    other = rows("text-classification", {"film": "x", "card": "y"})
    second = FineTuner(first.model, tokenizer=tiny_tokenizer(), **STILL).fit(other)
    assert "the head is drawn anew: it was trained for a, b, the data has x, y" in "".join(capsys.readouterr())
    old: Any = first.model
    new: Any = second.model
    assert not torch.equal(old.classifier.weight, new.classifier.weight)
    assert torch.equal(old.bert.pooler.dense.weight, new.bert.pooler.dense.weight)
    with caplog.at_level("WARNING", logger="sftlib"):
        FineTuner(first.model, tokenizer=tiny_tokenizer(), **STILL).fit(other, progress=False)
    assert "the head is drawn anew" in caplog.text
    assert not "".join(capsys.readouterr())


def test_a_head_of_another_kind_is_drawn_anew(capsys: pytest.CaptureFixture[str]) -> None:
    tagger = tuned("token-classification")
    data = rows("text-classification", {"film": "b", "card": "O"})  # names that its tags have too
    FineTuner(tagger.model, tokenizer=tiny_tokenizer(), **STILL).fit(data)
    assert "the head is drawn anew: it is that of BertForTokenClassification" in "".join(capsys.readouterr())


def test_rows_without_names_keep_their_places_and_fresh_models_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows("text-classification", TWO)
    model = tiny_model("bert", dropout=0.0)
    FineTuner(model, tokenizer=tiny_tokenizer(), **STILL).fit(data)
    assert "have no names (LABEL_0, LABEL_1): they are taken over in their order, for a, b" in "".join(
        capsys.readouterr()
    )
    tiny_model("bert", dropout=0.0, auto_class="AutoModelForMaskedLM").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    FineTuner(tmp_path / "base", **STILL).fit(data)
    said = "".join(capsys.readouterr())
    assert "head" not in said, said


def test_numbers_are_places() -> None:
    seats = Seats.of(["0", "1", "2"], ["LABEL_0", "LABEL_1"])
    assert seats.pairs == {0: 0, 1: 1}
    assert Seats.of(["a", "b", "c"], ["LABEL_0", "LABEL_1"]).pairs == {}
    assert Seats.of(["True", "False"], ["False", "True"]).pairs == {0: 1, 1: 0}


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to")
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_lora_tuned_object_begins_where_it_was(family: str) -> None:
    data = rows("text-classification", TWO)
    first = tuned("text-classification", family, adapter=LORA, learning_rate=2e-2)
    assert score(first, data) == 1.0
    before = first.evaluate(data)["loss"]
    again = FineTuner(first.model, tokenizer=tiny_tokenizer(family), **STILL).fit(data, progress=False)
    assert again.evaluate(data)["loss"] == pytest.approx(before, abs=1e-5)
    peft = pytest.importorskip("peft")
    theirs = peft.get_peft_model(tiny_model(family, dropout=0.0), peft.LoraConfig(r=2, target_modules="all-linear"))
    wrapped = FineTuner(theirs, tokenizer=tiny_tokenizer(family), **STILL).fit(data, progress=False)
    plain = FineTuner(tiny_model(family, dropout=0.0), tokenizer=tiny_tokenizer(family), **STILL).fit(
        data, progress=False
    )
    assert wrapped.evaluate(data)["loss"] == pytest.approx(plain.evaluate(data)["loss"], abs=1e-5)
    prompts = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    with pytest.raises(OptionError, match="adds tokens to the input"):
        FineTuner(peft.get_peft_model(tiny_model("bert"), prompts), tokenizer=tiny_tokenizer())


def test_a_checkpoint_says_how_to_get_a_model(tmp_path: Path) -> None:
    data = rows("text-classification", TWO)
    options = {**OPTIONS, "max_steps": 2}
    first = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), **options)
    first.fit(data, output_dir=tmp_path / "run", progress=False)
    step = next((tmp_path / "run").glob("step-*"))
    for place, what in ((step, "a checkpoint of a run"), (tmp_path / "run", "the output_dir of a run")):
        for use in (lambda place=place: FineTuner(place), lambda place=place: FineTuner.load(place)):
            with pytest.raises(ArtifactError, match=what) as caught:
                use()
            assert "resume=True" in str(caught.value)
            assert str(tmp_path / "run") in str(caught.value)
    # What the message says is what works.
    again = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), **options)
    again.fit(data, output_dir=tmp_path / "run", resume=True, progress=False).save(tmp_path / "model")
    assert dict(FineTuner.load(tmp_path / "model").evaluate(data)) == dict(first.evaluate(data))


def test_an_adapter_folder_says_how_to_go_on(tmp_path: Path) -> None:
    first = tuned("text-classification", adapter=LORA)
    first.save(tmp_path / "adapter")
    with pytest.raises(ArtifactError, match=r"FineTuner.load\(.*model=base"):
        FineTuner(tmp_path / "adapter")


def test_axes_are_found_and_not_read_off_names() -> None:
    for family in ("bert", "roberta", "llama", "bart"):
        found = label_axes("AutoModelForSequenceClassification", tiny_config(family), 3)
        assert set(found.values()) == {(0,)}
        assert all(tiny_model(family, 3).state_dict()[name].shape[0] == 3 for name in found)
