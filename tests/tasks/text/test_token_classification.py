"""Tags of words: alignment, windows, raw texts, entities; against plain loops and transformers' own pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import pipeline

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.batch import IGNORED
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.text.words import split_words, splitting_of
from sftlib.errors import DataError, OptionError
from sftlib.tasks.text.token_classification import TokenClassification, TokenLabels
from sftlib.testing import tiny_tokenizer
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

NAME = "token-classification"
NAMES = ("B-long", "B-short", "I-long", "O")


def data_of(*rows: str, tags: list[list[str]] | None = None) -> TaskDataset:
    words = [row.split() for row in rows]
    cycled = [[NAMES[(len(word) + i) % 4] for i, word in enumerate(row)] for row in words]
    return TaskDataset({"tokens": words, "tags": tags or cycled}, task=NAME, label_names=NAMES)


def task_for(data: TaskDataset, **options: Any) -> TokenClassification:
    return TokenClassification(**options).learned_from(data)


LONG = "a wonderful film warm and funny from start to end unbelievablylongword x1 y22 " * 8


def test_the_first_sub_word_bears_the_tag() -> None:
    data = data_of("Film zzz, a.b")
    encoder = encoder_for()
    encoded = task_for(data).encode(data, encoder)
    ids, tags = encoded.inputs["input_ids"][0], encoded.targets["tags"][0]
    expected: list[tuple[str, int]] = [("[CLS]", IGNORED)]
    for word, tag in zip(data[0]["tokens"], data[0]["tags"], strict=True):
        pieces = encoder.tokenizer.tokenize(word)
        expected += [(piece, NAMES.index(tag) if i == 0 else IGNORED) for i, piece in enumerate(pieces)]
    expected.append(("[SEP]", IGNORED))
    assert list(zip(encoder.tokenizer.convert_ids_to_tokens(ids.tolist()), tags.tolist(), strict=True)) == expected
    assert encoded.notes["words"][0].tolist() == [int(tag != IGNORED) for _, tag in expected]


def test_a_word_of_which_the_tokenizer_leaves_nothing_keeps_its_place() -> None:
    data = TaskDataset({"tokens": [["a", "\u200d", "\x00", "b"]], "tags": [["O", "B-x", "O", "O"]]}, task=NAME)
    encoder = encoder_for()
    assert encoder.tokenizer.tokenize("\u200d") == []
    encoded = task_for(data).encode(data, encoder)
    assert encoder.tokenizer.convert_ids_to_tokens(encoded.inputs["input_ids"][0].tolist()) == [
        "[CLS]",
        "a",
        "[UNK]",
        "[UNK]",
        "b",
        "[SEP]",
    ]
    tuner = tuner_for(NAME, max_steps=1).fit(case_of(NAME).data(), progress=False)
    assert len(tuner.predict({"tokens": ["a", "\u200d", "\x00", "b"]}).tags) == 4


def test_what_looks_like_a_control_token_is_text() -> None:
    data = data_of("[SEP] film [MASK]")
    ids = task_for(data).encode(data, encoder_for()).inputs["input_ids"][0].tolist()
    assert [place for place, token in enumerate(ids) if token < 5] == [0, len(ids) - 1]


@pytest.mark.parametrize("stride", [None, 0, 3, 8])
@pytest.mark.parametrize("limit", [6, 20, 33])
def test_windows_lose_no_word(limit: int, stride: int | None) -> None:
    if stride is not None and stride > (limit - 2) // 2:
        pytest.skip("more than half of a window")
    data = data_of(LONG, "dull", LONG + "x")
    task, encoder = task_for(data, stride=stride), TextEncoder(tiny_tokenizer(), limit)
    encoded = task.encode(data, encoder)
    assert encoded.cost.max() <= limit
    assert len(encoded.truncated) == 0
    for row in range(3):
        windows = np.flatnonzero(encoded.owners == row)
        seen = [t for w in windows for t in encoded.targets["tags"][w].tolist() if t != IGNORED]
        assert [NAMES[number] for number in seen] == data[row]["tags"]
        first_pieces = [encoder.tokenizer.encode(word, add_special_tokens=False)[0] for word in data[row]["tokens"]]
        spoken = [
            token
            for w in windows
            for token, word in zip(encoded.inputs["input_ids"][w], encoded.notes["words"][w], strict=True)
            if word
        ]
        assert spoken == first_pieces


def test_the_windows_of_a_row_are_put_together(tmp_path: Path) -> None:
    data = data_of(LONG, "dull film", LONG + "x", "a")
    tuner = tuner_for(NAME, max_steps=60, learning_rate=1e-2, max_length=24, dropout=0.0).fit(
        data, data, progress=False
    )
    found = tuner.predict(data)
    assert [len(p.tags) for p in found] == [len(row["tokens"]) for row in data]
    assert tuner.evaluate(data)["accuracy"] == np.mean(
        [a == b for p, row in zip(found, data, strict=True) for a, b in zip(p.tags, row["tags"], strict=True)]
    )
    assert tuner.predict(data, batch_size=1) == found
    report = tuner.report(data)
    assert (report.train.rows, report.train.truncated) == (4, 0)
    assert report.train.windows > 4
    assert "windows of at most 24 tokens" in str(report)
    tuner.save(tmp_path / "model")
    assert FineTuner.load(tmp_path / "model").predict(data) == found


def test_the_loss_counts_words() -> None:
    """Against a loop over words."""
    data = case_of(NAME).data()
    weights = {"O": 0.5, "B-long": 2.0, "I-long": 1.0, "B-short": 3.0}
    task = TokenClassification(class_weights=weights, label_smoothing=0.1).learned_from(data)
    encoded = task.encode(data, encoder_for())
    batch = task.collate(encoded, np.arange(len(data)), encoder_for())
    outputs = case_of(NAME).fake(task, batch)
    total, count = task.loss(outputs, batch)
    vector = torch.tensor([weights[name] for name in task.label_names], dtype=torch.float64)
    expected, words = 0.0, 0.0
    for row in range(len(data)):
        spoken = np.flatnonzero(encoded.notes["words"][row])
        for place, tag in zip(spoken, data[row]["tags"], strict=True):
            target = torch.tensor([task.label_names.index(tag)])
            one = functional.cross_entropy(
                outputs[row, place][None], target, weight=vector, label_smoothing=0.1, reduction="sum"
            )
            expected, words = expected + float(one), words + weights[tag]
    assert float(total) == pytest.approx(expected, rel=1e-9)
    assert float(count) == pytest.approx(words, rel=1e-9)


def test_gradients() -> None:
    data = case_of(NAME).data(6)
    task = TokenClassification(label_smoothing=0.2, class_weights="balanced").learned_from(data)
    batch = task.collate(task.encode(data, encoder_for()), np.arange(6), encoder_for())
    outputs = case_of(NAME).fake(task, batch).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: task.loss(scores, batch)[0], (outputs,), atol=1e-7)


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "distilbert", "gpt2"])
def test_the_pipeline_gives_the_same_tags_and_scores(family: str, tmp_path: Path) -> None:
    tuner = tuner_for(NAME, family, max_steps=30, learning_rate=1e-2).fit(case_of(NAME).data(), progress=False)
    tuner.save(tmp_path / "model")
    tagger = pipeline("token-classification", str(tmp_path / "model"), device="cpu", ignore_labels=[])
    for text in ("A wonderful film", "bad , bad acting and an awful ending", "zzz 12 film x"):
        mine, theirs = tuner.predict(text), {item["start"]: item for item in tagger(text)}
        places = [start for start, _ in split_words(text, "spaces")]
        assert [theirs[place]["entity"] for place in places] == list(mine.tags)
        assert [theirs[place]["score"] for place in places] == pytest.approx(mine.scores, abs=2e-6)


def test_entities_of_the_pipeline(tmp_path: Path) -> None:
    """With words that are one token each, its groups are our entities."""
    words = "i loved the story and every actor in it".split()
    tags = "O O B-work I-work O O B-person O O".split()
    data = TaskDataset({"tokens": [words], "tags": [tags]}, task=NAME)
    tuner = tuner_for(NAME, max_steps=60, learning_rate=1e-2, dropout=0.0).fit(data, progress=False)
    tuner.save(tmp_path / "model")
    text = " ".join(words)
    theirs = pipeline("token-classification", str(tmp_path / "model"), device="cpu", aggregation_strategy="first")(text)
    mine = tuner.predict(text).entities
    assert [(e.text, e.label, e.start, e.end) for e in mine] == [
        ("the story", "work", 8, 17),
        ("actor", "person", 28, 33),
    ]
    assert [(e["word"], e["entity_group"], e["start"], e["end"]) for e in theirs] == [
        (e.text, e.label, e.start, e.end) for e in mine
    ]
    assert [e["score"] for e in theirs] == pytest.approx([e.score for e in mine], abs=2e-6)
    by_words = tuner.predict({"tokens": words}).entities
    assert [(e.text, e.start, e.end) for e in by_words] == [("the story", 2, 4), ("actor", 6, 7)]


@pytest.mark.parametrize(
    "tags",
    [
        ["B-a", "I-a", "O", "B-b", "B-b"],
        ["S-a", "O", "B-b", "I-b", "E-b"],
        ["I-a", "I-a", "O", "I-b", "I-a"],
        ["NOUN", "VERB", "NOUN", "NOUN", "DET"],
    ],
)
def test_every_scheme_is_read_and_kept(tags: list[str]) -> None:
    data = TaskDataset({"tokens": ["a film so bad .".split()] * 2, "tags": [tags] * 2}, task=NAME)
    tuner = tuner_for(NAME, max_steps=60, learning_rate=1e-2, dropout=0.0).fit(data, progress=False)
    assert tuner.label_names == tuple(sorted(set(tags)))
    assert tuner.predict({"tokens": data[0]["tokens"]}).tags == tuple(tags)
    assert tuner.evaluate(data)["f1"] == 1.0


def test_numbers_of_tags_that_have_names() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-x"])),
        }
    )
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "tags": [[0, 1]]}, features=features)
    data = TaskDataset(rows)
    assert data.label_names == ("O", "B-x")
    assert TokenClassification().learned_from(data).label_names == ("O", "B-x")
    assert data[0]["tags"] == ["O", "B-x"]


def test_raw_texts_are_cut_as_the_training_words_were() -> None:
    assert splitting_of([["It", "works", "."], ["e.g.", "so"]]) == "words"
    assert splitting_of([["It", "works."], ["No", "!"], ["Yes,", "so"]]) == "spaces"
    assert splitting_of([["It", "works"]]) == "words"
    assert splitting_of([["我", "爱", "北京"]]) == "characters"
    assert splitting_of([["我们", "爱", "北京"]]) == "words"
    text = "他说 OK,3.5!"
    assert [text[a:b] for a, b in split_words(text, "characters")] == ["他", "说", "OK,3.5", "!"]
    for splitting in ("spaces", "words", "characters"):
        for raw in ("", "  ", "...", "'s", "(a)", "\u00e9t\u00e9, \U0001f600!", '"\'"'):
            places = split_words(raw, splitting)
            assert "".join(raw[a:b] for a, b in places) == "".join(raw.split())
            assert all(a < b for a, b in places)


def test_inputs_of_several_kinds_in_one_list() -> None:
    tuner = tuner_for(NAME, max_steps=1).fit(data_of("A film .", "b , c"), progress=False)
    first, second = tuner.predict(["A film.", {"tokens": ["A", "film", "."]}])
    assert first.tags == second.tags
    assert first.tokens == second.tokens
    assert isinstance(first, TokenLabels)
    assert "tags=" in repr(first)
    with pytest.raises(DataError, match="row 1.*no word"):
        tuner.predict(["fine", "\n"])


def test_a_column_of_texts_beside_the_words_is_no_matter() -> None:
    data = TaskDataset({"tokens": [["a", "b"]] * 4, "tags": [["O", "B-x"]] * 4, "text": ["c d e f"] * 4}, task=NAME)
    tuner = tuner_for(NAME, max_steps=30, learning_rate=1e-2, dropout=0.0).fit(data, data, progress=False)
    assert tuner.predict(data)[0].entities[0].text == "b"


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "gpt2"])
def test_windows_are_cut_up_in_any_way(family: str) -> None:
    data = data_of(LONG, "dull film", LONG + "x", "a", "b c")
    options = {"max_length": 24, "max_steps": 3, "batch_size": 16, "task": TokenClassification(stride=7)}
    whole = tuner_for(NAME, family, micro_batch_size=16, **options).fit(data, progress=False)
    for cut in (1, 5):
        other = tuner_for(NAME, family, micro_batch_size=cut, **options).fit(data, progress=False)
        assert losses(other) == pytest.approx(losses(whole), rel=1e-5)
    flat = tuner_for(NAME, family, padding_free=True, **options).fit(data, progress=False)
    assert losses(flat) == pytest.approx(losses(whole), rel=1e-5)


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_what_is_frozen_is_computed_once(freeze: Any) -> None:
    data = data_of(LONG, "dull film", LONG + "x", "a", "b c")
    tuner = tuner_for(NAME, freeze=freeze, max_length=24, max_steps=4, batch_size=8).fit(data, data, progress=False)
    assert tuner._ready("test").recall is not None
    assert len(tuner.predict(data)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": TokenClassification(stride=12), "max_length": 24}, "half of their 22 tokens at most, 11"),
        ({"max_length": 2}, "no room"),
        ({"class_weights": {"O": 1.0}}, "lacks the label"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tuner_for(NAME, **options).fit(case_of(NAME).data(), progress=False)
    with pytest.raises(OptionError, match="stride=-1"):
        TokenClassification(stride=-1)


def test_models_with_other_outputs_are_refused() -> None:
    class Wrong(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(300, 3)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.table(input_ids)

    with pytest.raises(OptionError, match="rows times tokens times tags"):
        FineTuner(Wrong(), tokenizer=tiny_tokenizer()).fit(case_of(NAME).data(), progress=False)
