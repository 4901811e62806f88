"""The saved folder: verified, self-contained, and a model folder for transformers too."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoTokenizer, pipeline

from sftlib import FineTuner, TaskDataset, TextClassification
from sftlib.errors import ArtifactError, NotFittedError, OptionError
from sftlib.models.image_processors import saved_processor
from sftlib.saved import artifact
from sftlib.tasks import find_task
from sftlib.tasks.multi_label import MultiLabel
from sftlib.tasks.single_label import Classification
from sftlib.testing import tiny_image_processor, tiny_model, tiny_tokenizer
from tests.contracts.cases import OF_TEXTS, case_of, having, same_weights, tuner_for, weights

FAMILIES = ("bert", "gpt2", "roberta", "modernbert")
TEXTS = ["A wonderful film.", "dull", "I hated the noise, and every minute of it was too long!", "PIN of my card?"]


def fitted(name: str, family: str = "bert", **options: Any) -> FineTuner:
    tuner = tuner_for(name, family, **{"max_steps": 6, "learning_rate": 1e-2, **options})
    return tuner.fit(case_of(name).data(), progress=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model; copy it before changing it."""
    place = tmp_path_factory.mktemp("saved") / "model"
    fitted("text-classification").save(place)
    return place


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


# transformers opens it.


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_gives_the_same_labels_and_scores(family: str, tmp_path: Path) -> None:
    tuner = fitted("text-classification", family)
    tuner.save(tmp_path / "model")
    classify = pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    for text, mine in zip(TEXTS, tuner.predict(TEXTS), strict=True):
        (best,) = classify([text])
        assert best["label"] == mine.label
        assert best["score"] == pytest.approx(mine.probability, abs=2e-6)
        everything = {item["label"]: item["score"] for item in classify([text], top_k=None)[0]}
        assert everything == pytest.approx(dict(mine.probabilities), abs=2e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_reads_pairs(family: str, tmp_path: Path) -> None:
    columns = case_of("text-classification").columns
    data = TaskDataset({**columns, "text_pair": list(reversed(columns["text"]))})
    tuner = tuner_for("text-classification", family, max_steps=6, learning_rate=1e-2).fit(data, progress=False)
    tuner.save(tmp_path / "model")
    classify = pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    for text in TEXTS:
        mine = tuner.predict((text, "A lazy script."))
        best = classify({"text": text, "text_pair": "A lazy script."})
        best = best[0] if isinstance(best, list) else best
        assert best["label"] == mine.label
        assert best["score"] == pytest.approx(mine.probability, abs=2e-6)
    again = FineTuner.load(tmp_path / "model")
    assert again.predict((TEXTS[0], "x")) == tuner.predict((TEXTS[0], "x"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_gives_the_same_several_labels(family: str, tmp_path: Path) -> None:
    tuner = fitted("multi-label-classification", family)
    tuner.save(tmp_path / "model")
    classify = pipeline("text-classification", str(tmp_path / "model"), device="cpu", top_k=None)
    for text, mine in zip(TEXTS, tuner.predict(TEXTS), strict=True):
        everything = {item["label"]: item["score"] for item in classify([text])[0]}
        assert everything == pytest.approx(dict(mine.probabilities), abs=2e-6)
        assert {label for label, score in everything.items() if score >= 0.5} == set(mine.labels)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pipeline_gives_the_same_number(family: str, tmp_path: Path) -> None:
    tuner = fitted("text-regression", family)
    tuner.save(tmp_path / "model")
    measure = pipeline("text-classification", str(tmp_path / "model"), device="cpu")
    for text, mine in zip(TEXTS, tuner.predict(TEXTS), strict=True):
        (found,) = measure([text])
        assert found["score"] == pytest.approx(mine.value, abs=2e-6)


@pytest.mark.parametrize(("name", "family"), having(FAMILIES))
def test_the_auto_class_opens_it(name: str, family: str, tmp_path: Path) -> None:
    tuner = fitted(name, family)
    tuner.save(tmp_path / "model")
    auto_class = getattr(transformers, case_of(name).auto_class)
    model, report = auto_class.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    task = find_task(name)().learned_from(case_of(name).data())
    own = {key: weight for key, weight in weights(tuner).items() if key.partition(".")[0] not in task.attached}
    assert same_weights(model.state_dict(), own)
    if task.head.outputs is not None:
        assert model.config.num_labels == case_of(name).outputs
    if tuner.label_names is not None and task.head.outputs is not None:
        assert list(model.config.id2label.values()) == [str(label) for label in tuner.label_names]
    if name in OF_TEXTS or case_of(name).reads_sequences:
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
        texts, mine = (
            (TEXTS, tiny_tokenizer(family))
            if name in OF_TEXTS
            else (["ACGT", "gau"], tuner._ready("").encoder.tokenizer)
        )  # type: ignore[attr-defined]
        assert tokenizer(texts)["input_ids"] == mine(texts)["input_ids"]
    elif "image" in case_of(name).inputs:
        processor = saved_processor(tmp_path / "model", local=True)
        assert processor.size == tiny_image_processor(family).size


def test_labels_that_transformers_leaves_out_of_its_config(tmp_path: Path) -> None:
    columns = {"text": TEXTS, "label": ["LABEL_0", "LABEL_1"] * 2}
    tuner = tuner_for("text-classification", max_steps=1).fit(TaskDataset(columns), progress=False)
    tuner.save(tmp_path / "model")
    assert "id2label" not in json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))
    assert FineTuner.load(tmp_path / "model").label_names == ("LABEL_0", "LABEL_1")


def test_nothing_but_safetensors_json_and_text_is_written(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ".md", ".txt"}
    assert {"config.json", "model.safetensors", "manifest.json", "README.md"} <= {path.name for path in saved.iterdir()}
    for path in saved.iterdir():
        assert not path.read_bytes().startswith(b"\x80")  # no pickle under another name
        assert str(saved.parent).encode() not in path.read_bytes()


# Labels come back in their own type.


@pytest.mark.parametrize(
    "labels",
    [["no", "yes", "maybe"], [0, 1, 2], [3, -1, 10], [False, True], ["0", "1"], ["naïve ☃", "b\nc", " d"], [2**40, 7]],
    ids=str,
)
def test_labels_keep_their_type(labels: list[Any], tmp_path: Path) -> None:
    rows = [labels[i % len(labels)] for i in range(12)]
    data = TaskDataset({"text": [f"film {i}" for i in range(12)], "label": rows})
    tuner = FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), max_steps=2).fit(data, progress=False)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert again.label_names == tuner.label_names == tuple(sorted(labels))
    assert [type(label) for label in again.label_names] == [type(label) for label in sorted(labels)]
    found = again.predict(["film 1", "film 2"])
    assert [type(p.label) for p in found] == [type(labels[0])] * 2
    assert found == tuner.predict(["film 1", "film 2"])
    assert dict(again.evaluate(data)) == dict(tuner.evaluate(data))


@pytest.mark.parametrize("labels", [[["a"], [], ["a", "b"]], [[1], [], [2, 1]]])
def test_several_labels_keep_their_type(labels: list[list[Any]], tmp_path: Path) -> None:
    data = TaskDataset({"text": ["x", "y", "z"], "labels": labels})
    tuner = FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), max_steps=2).fit(data, progress=False)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert again.label_names == tuple(sorted({label for row in labels for label in row}))
    assert [dict(p.probabilities) for p in again.predict(["x"])] == [
        dict(p.probabilities) for p in tuner.predict(["x"])
    ]


# It verifies itself.


def test_any_changed_byte_is_found_and_the_file_is_named(copy: Path) -> None:
    dice = random.Random(0)
    for path in sorted(copy.iterdir()):
        if path.name == "README.md":
            continue
        good = path.read_bytes()
        places = [0, len(good) - 1, *(dice.randrange(len(good)) for _ in range(10))]
        for place in places:
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << dice.randrange(8)]) + good[place + 1 :])
            with pytest.raises(ArtifactError, match=path.name):
                FineTuner.load(copy)
        for changed in (good[: len(good) // 2], good + b" ", b"", bytes(len(good))):
            path.write_bytes(changed)
            with pytest.raises(ArtifactError, match=path.name):
                FineTuner.load(copy)
        path.write_bytes(good)
    FineTuner.load(copy)


def test_files_that_are_missing_added_or_renamed(copy: Path) -> None:
    for name in sorted(path.name for path in copy.iterdir() if path.name != "README.md"):
        (copy / name).rename(copy.parent / name)
        with pytest.raises(ArtifactError, match=name):
            FineTuner.load(copy)
        (copy.parent / name).rename(copy / f"{name}.bak")
        with pytest.raises(ArtifactError, match=name):
            FineTuner.load(copy)
        (copy / f"{name}.bak").rename(copy / name)
    for name in ("pytorch_model.bin", "modeling_own.py", "added_tokens.json", "chat_template.jinja"):
        (copy / name).write_text("{}")
        with pytest.raises(ArtifactError, match=name):
            FineTuner.load(copy)
        (copy / name).unlink()
    FineTuner.load(copy)


def test_the_card_may_be_edited(copy: Path) -> None:
    before = FineTuner.load(copy).predict(TEXTS)
    (copy / "README.md").write_text("mine", encoding="utf-8")
    assert FineTuner.load(copy).predict(TEXTS) == before
    (copy / "README.md").unlink()
    assert FineTuner.load(copy).predict(TEXTS) == before


def test_the_card_says_what_it_is(saved: Path) -> None:
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    for word in ("text-classification", "BertForSequenceClassification", "bad, good, so-so", "64 tokens"):
        assert word in card


def test_a_folder_can_be_moved(copy: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert FineTuner.load("elsewhere").predict(TEXTS) == FineTuner.load(saved).predict(TEXTS)


def test_what_is_not_a_saved_model(tmp_path: Path, bert_folder: str) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "file", bert_folder):
        with pytest.raises(ArtifactError):
            FineTuner.load(path)


# Where it may be written.


def test_it_replaces_a_saved_model_and_an_empty_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    first, second = fitted("text-classification"), fitted("text-classification", seed=5)
    first.save(target)
    second.save(str(target))
    assert FineTuner.load(target).predict(TEXTS) == second.predict(TEXTS) != first.predict(TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_it_refuses_what_it_did_not_write(tmp_path: Path, folder_of: Callable[..., str]) -> None:
    tuner = fitted("text-classification")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("x")
    theirs = shutil.copytree(folder_of("bert"), tmp_path / "theirs")
    for target in (tmp_path / "work", tmp_path / "file", Path(theirs)):
        before = sorted((path.name, path.read_bytes()) for path in ([target] if target.is_file() else target.iterdir()))
        with pytest.raises(ArtifactError, match=target.name):
            tuner.save(target)
        after = sorted((path.name, path.read_bytes()) for path in ([target] if target.is_file() else target.iterdir()))
        assert after == before


@pytest.mark.parametrize("failing", ["write_model", "_card", "load"])
def test_a_failure_in_the_middle_leaves_the_old_one(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = fitted("text-classification"), fitted("text-classification", seed=5)
    first.save(tmp_path / "model")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(artifact, failing, fail)
        with pytest.raises(ArtifactError, match="No space left"):
            second.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert FineTuner.load(tmp_path / "model").predict(TEXTS) == first.predict(TEXTS)


def test_a_folder_that_predicts_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check after writing is a real one: weights that change on their way are noticed."""
    tuner = fitted("text-classification")
    read = artifact.load

    def wrong(*args: Any, **kwargs: Any) -> artifact.Contents:
        contents = read(*args, **kwargs)
        with torch.no_grad():
            contents.model.classifier.bias[0] += 1e-3  # type: ignore[union-attr, operator, index]
        return contents

    monkeypatch.setattr(artifact, "load", wrong)
    with pytest.raises(ArtifactError, match="predicts"):
        tuner.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_predictions_are_compared_whole() -> None:
    """Not only the parts that `==` looks at: all probabilities."""
    with pytest.raises(ArtifactError, match="predicts"):
        artifact.require_same([MultiLabel((), {"a": 0.1})], [MultiLabel((), {"a": 0.2})])
    one = Classification("a", 0.5, {"a": 0.5, "b": 0.3, "c": 0.2})
    with pytest.raises(ArtifactError, match="predicts"):
        artifact.require_same([one], [Classification("a", 0.5, {"a": 0.5, "b": 0.2, "c": 0.3})])
    artifact.require_same([one], [one])


def test_there_must_be_a_model_to_save(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        tuner_for("text-classification").save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


# What is loaded is a tuner.


def test_a_loaded_tuner_keeps_its_options_and_trains_on(tmp_path: Path) -> None:
    tuner = fitted("text-classification", weight_decay=0.03, schedule="cosine", label_smoothing=0.1)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    for option in ("weight_decay", "schedule", "learning_rate", "max_steps", "seed", "batch_size"):
        assert again.get_params()[option] == tuner.get_params()[option]
    assert again.get_params()["task"] == TextClassification(label_smoothing=0.1)
    assert again.get_params()["task__label_smoothing"] == 0.1
    before = tuner.evaluate(case_of("text-classification").data())["loss"]
    again.set_params(max_steps=20, schedule="linear", dropout=0.0)
    again.fit(case_of("text-classification").data(), progress=False)
    assert again.evaluate(case_of("text-classification").data())["loss"] < before
    again.save(tmp_path / "again")
    assert FineTuner.load(tmp_path / "again").predict(TEXTS) == again.predict(TEXTS)


def test_a_folder_opens_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuner = fitted("text-classification", device="cpu")
    # On a machine with a card, what was tuned beside it is read back beside it, and compared like with like.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model", device="cpu")
    assert (str(again.device), again.get_params()["device"]) == ("cpu", "cpu")
    assert again.predict(TEXTS) == tuner.predict(TEXTS)
    with pytest.raises(OptionError, match="nothing can be computed there"):
        FineTuner.load(tmp_path / "model", device="meta")


class Words(nn.Module):
    """A model that transformers does not know."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.words = nn.Embedding(300, 16)
            self.drop = nn.Dropout(0.1)
            self.layer = nn.Linear(16, outputs)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask[..., None].float()
        scores: Tensor = self.layer(self.drop((self.words(input_ids) * mask).sum(1) / mask.sum(1)))
        return scores


def test_any_module_is_saved_and_loaded(tmp_path: Path) -> None:
    tuner = FineTuner(Words(), tokenizer=tiny_tokenizer(), max_steps=10, learning_rate=1e-2, max_length=40)
    tuner.fit(case_of("text-classification").data(), progress=False)
    tuner.save(tmp_path / "model")
    empty = Words()
    again = FineTuner.load(tmp_path / "model", model=empty)
    assert again.predict(TEXTS) == tuner.predict(TEXTS)
    assert again.label_names == tuner.label_names
    assert again.settings["max_length"] == 40
    with pytest.raises(ArtifactError, match="model="):
        FineTuner.load(tmp_path / "model")
    with pytest.raises(ArtifactError):
        FineTuner.load(tmp_path / "model", model=Words(5))
    with pytest.raises(ArtifactError):
        FineTuner.load(tmp_path / "model", model=tiny_model("bert"))
    again.fit(case_of("text-classification").data(), progress=False)


def test_a_module_needs_a_tokenizer_and_the_right_width() -> None:
    with pytest.raises(OptionError, match="tokenizer"):
        FineTuner(Words()).fit(case_of("text-classification").data(), progress=False)
    with pytest.raises(OptionError, match=r"shape \(.*, 5\)"):
        FineTuner(Words(5), tokenizer=tiny_tokenizer()).fit(case_of("text-classification").data(), progress=False)


def test_the_config_has_no_trace_of_the_library(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert "sftlib" not in json.dumps(config)
    assert "auto_map" not in config
    assert config["problem_type"] == "single_label_classification"


def test_what_a_base_brought_along_and_no_folder_may_have_is_left_out(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("bert"), tiny_tokenizer("bert")
    model.config.auto_map = {"AutoModel": "code.Model"}
    model.config._model_name_or_path = "somewhere"
    tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": ["code.Slow", "code.Fast"]}
    tuner = FineTuner(model, tokenizer=tokenizer, max_steps=1)
    tuner.fit(case_of("text-classification").data(), progress=False)
    tuner.save(tmp_path / "model")
    written = {file.name: file.read_text() for file in (tmp_path / "model").glob("*config.json")}
    assert len(written) == 2
    assert not [name for name, text in written.items() if "auto_map" in text or "somewhere" in text]
    assert FineTuner.load(tmp_path / "model").predict(TEXTS) == tuner.predict(TEXTS)
