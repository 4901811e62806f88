"""Names that other libraries have for things are answered with ours; and ``~`` is the home folder everywhere."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from sftlib import Audio, EarlyStopping, FineTuner, LoRA, Metrics, Sequence, TaskDataset, Text, TextClassification
from sftlib.errors import OptionError, RoleError
from sftlib.support.elsewhere import ELSEWHERE, FIT, PREDICT
from sftlib.testing import tiny_model, tiny_tokenizer

DATA = TaskDataset({"text": ["Fine.", "Poor."] * 4, "label": ["good", "bad"] * 4})


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("max_seq_length", "max_length"),
        ("num_train_epochs", "epochs"),
        ("per_device_train_batch_size", "batch_size"),
        ("gradient_accumulation_steps", "micro_batch_size"),
        ("evaluation_strategy", "fit(train, valid)"),
        ("eval_strategy", "fit(train, valid)"),
        ("metric_for_best_model", "keep_best"),
        ("load_best_model_at_end", "keep_best"),
        ("early_stopping_patience", "early_stopping=EarlyStopping"),
        ("warmup_ratio", "warmup=0.1"),
        ("warmup_steps", "warmup=100"),
        ("lr", "learning_rate"),
        ("lr_scheduler_type", "schedule"),
        ("fp16", "precision"),
        ("gradient_checkpointing", "checkpointing"),
        ("peft_config", "adapter"),
        ("lora_alpha", "adapter=LoRA"),
        ("output_dir", "fit(train, output_dir="),
        ("save_steps", "save_every"),
        ("train_dataset", "fit(train, valid)"),
        ("load_in_4bit", "Pretrained"),
        ("num_labels", "label_names"),
        ("compute_metrics", "metrics"),
        ("optim", "AdamW"),
        ("max_epochs", "epochs"),
        ("accumulate_grad_batches", "batch_size"),
        ("stride", "QuestionAnswering"),
        ("size", "inputs=Image(size=...)"),
        ("image_size", "inputs=Image(size=224)"),
        ("augment", "inputs=Image(augment=...) or "),
        ("seconds", "inputs=Audio(seconds=...)"),
        ("alphabet", "inputs=Sequence(alphabet=...)"),
        ("add_tokens", "inputs=Text(add_tokens=...)"),
        ("threshold", "task=Detection(threshold=...)"),
        ("standardize", "task=SequenceRegression(standardize=...)"),
        ("layers", "model=Pretrained(name, layers=...)"),
        ("rslora", "adapter=LoRA(rslora=...)"),
        ("epoch", "did you mean 'epochs'"),
    ],
)
def test_options_of_others(name: str, ours: str) -> None:
    with pytest.raises(OptionError, match=f"has no option '{name}'") as caught:
        FineTuner("bert-base-uncased", **{name: 3})
    assert ours in str(caught.value)
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer())
    with pytest.raises(OptionError) as caught:
        tuner.set_params(**{name: 3})
    assert ours in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": Text(max_length=9), "max_length": 8},
        {"inputs": Text(tokenizer="a"), "tokenizer": "b"},
        {"inputs": Sequence(max_length=9), "max_length": 8, "task": "sequence-classification"},
        {"inputs": Audio(tokenizer="a"), "tokenizer": "b"},
        {"task": TextClassification(label_smoothing=0.1), "label_smoothing": 0.1},
    ],
)
def test_what_is_given_twice_is_said_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="is given twice"):
        FineTuner("bert-base-uncased", **options)


def test_no_hint_is_about_an_option_that_there_is() -> None:
    for function, hints in ((FineTuner, ELSEWHERE), (FineTuner.fit, FIT), (FineTuner.predict, PREDICT)):
        assert not hints.keys() & inspect.signature(function).parameters.keys()


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        (lambda tuner: tuner.fit(DATA, eval_dataset=DATA), "valid"),
        (lambda tuner: tuner.fit(DATA, validation_data=DATA), "valid"),
        (lambda tuner: tuner.fit(DATA, epochs=3), "FineTuner(model, epochs=3"),
        (lambda tuner: tuner.fit(DATA, num_train_epochs=3), "epochs=3"),
        (lambda tuner: tuner.fit(DATA, resume_from_checkpoint=True), "resume=True"),
        (lambda tuner: tuner.fit(DATA, verbose=0), "progress=False"),
        (lambda tuner: tuner.fit(train_dataset=DATA), "first argument"),
        (lambda tuner: tuner.predict("Hi.", max_new_tokens=5), "generation=Generation(max_new_tokens=64"),
        (lambda tuner: tuner.predict("Hi.", truncation=True), "cut"),
    ],
)
def test_arguments_of_others(call: Any, ours: str) -> None:
    with pytest.raises(OptionError) as caught:
        call(FineTuner(tiny_model(), tokenizer=tiny_tokenizer()))
    assert ours in str(caught.value)


@pytest.mark.parametrize(
    ("name", "ours"),
    [("eval_loss", "loss"), ("eval_accuracy", "accuracy"), ("val_f1_macro", "f1_macro"), ("macro_f1", "f1_macro")],
)
def test_metrics_of_others(name: str, ours: str) -> None:
    for options in ({"keep_best": name}, {"early_stopping": EarlyStopping(name)}, {"metrics": [name]}):
        with pytest.raises(OptionError, match=f"unknown metric '{name}': it is called '{ours}' here"):
            FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), **options).fit(DATA, DATA, progress=False)
    with pytest.raises(OptionError, match=f"it is called '{ours}' here"):
        Metrics([name])
    metrics = Metrics(["accuracy", "f1_macro", "loss"])
    metrics.update(["a"], ["a"], loss_sum=1.0, count=1)
    with pytest.raises(KeyError, match=f"it is called '{ours}' here"):
        metrics[name]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("sep", "delimiter"),
        ("quotechar", "quoting"),
        ("text_column", "text="),
        ("label_col", "label="),
        ("id2label", "label_names"),
        ("on_bad_lines", "on_invalid"),
    ],
)
def test_options_of_data_elsewhere(name: str, ours: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(RoleError, match=f"has no role or option '{name}'") as caught:
        TaskDataset.from_csv(path, **{name: "label"})
    assert ours in str(caught.value)


def test_tokens_that_a_user_added_say_how_to_use_them() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<smile>"])
    data = TaskDataset({"text": ["Fine <smile>", "Poor."] * 4, "label": ["good", "bad"] * 4})
    model = tiny_model()
    with pytest.raises(
        OptionError, match=r"'<smile>'.*model.resize_token_embeddings\(len\(tokenizer\)\).*adapter"
    ) as caught:
        FineTuner(model, tokenizer=tokenizer, max_steps=1).fit(data, progress=False)
    assert "belong together" not in str(caught.value)
    model.resize_token_embeddings(len(tokenizer))
    tuner = FineTuner(model, tokenizer=tokenizer, max_steps=1).fit(data, progress=False)
    assert tuner.model.get_input_embeddings().num_embeddings == len(tokenizer)
    with pytest.raises(OptionError, match="they do not belong together"):
        FineTuner(tiny_model(), tokenizer=_larger(), max_steps=1).fit(DATA, progress=False)


def _larger() -> Any:
    from tests.chat_templates import byte_tokenizer

    return byte_tokenizer(None)


def test_the_home_folder_in_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=1, cache_dir="~/cache")
    tuner.fit(DATA, output_dir="~/run", progress=False)
    tuner.save("~/model")
    assert sorted(path.name for path in home.iterdir()) == ["cache", "model", "run"]
    assert not list(elsewhere.iterdir())
    assert len(FineTuner.load("~/model").predict(["Fine."])) == 1
    again = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=1)
    again.fit(DATA, output_dir="~/run", resume=True, progress=False)
    assert not list(elsewhere.iterdir())


def test_what_is_ours_is_taken() -> None:
    FineTuner("bert-base-uncased", task=TextClassification(), adapter=LoRA(), label_smoothing=0.1)
