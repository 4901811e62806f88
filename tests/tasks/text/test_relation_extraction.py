"""Relations: markers where they belong, also in texts that are too long; against transformers' own reading of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError, OptionError
from sftlib.tasks.text.relation_extraction import MARKERS, Learned, RelationExtraction, _marked, _nearest
from sftlib.testing import tiny_tokenizer
from tests.contracts.cases import case_of, losses, tuner_for

NAME = "relation-extraction"
FILLER = "a dull film cold and slow from start to end "


def encoder_with_markers(limit: int = 64, family: str = "bert") -> TextEncoder:
    encoder = TextEncoder(tiny_tokenizer(family), limit)
    encoder.tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    return encoder


def data_of(*rows: dict[str, Any]) -> TaskDataset:
    return TaskDataset([{"label": "x", **row} for row in rows], task=NAME, label_names=["no_relation", "x"])


def read(row: dict[str, Any], limit: int = 64) -> list[str]:
    """The tokens of one row."""
    task, encoder = (
        RelationExtraction().learned_from(data_of({**row, "label": "no_relation"}, row)),
        encoder_with_markers(limit),
    )
    ids = task.encode(data_of(row), encoder).inputs["input_ids"][0].tolist()
    return list(encoder.tokenizer.convert_ids_to_tokens(ids))


def marked_text(row: dict[str, Any]) -> str:
    """The text with its markers written out, for spans that do not touch."""
    text = row["text"]
    opening = {"head": MARKERS[:2], "tail": MARKERS[2:]}
    for role in sorted(("head", "tail"), key=lambda role: -row[role][0]):
        (start, end), (before, after) = row[role], opening[role]
        text = text[:start] + before + text[start:end] + after + text[end:]
    return text


ROWS = [
    {"text": "the actor loved the story.", "head": (4, 9), "tail": (20, 25)},
    {"text": "the actor loved the story.", "head": (20, 25), "tail": (4, 9)},
    {"text": "zz12 in the film", "head": (0, 4), "tail": (8, 16)},
    {"text": "ab", "head": (0, 1), "tail": (1, 2)},
]


@pytest.mark.parametrize("row", ROWS)
def test_markers_stand_around_head_and_tail(row: dict[str, Any]) -> None:
    encoder = encoder_with_markers()
    expected = encoder.tokenizer.convert_ids_to_tokens(encoder.tokenizer(marked_text(row))["input_ids"])
    if row["text"] != "ab":  # one word: transformers would cut it into two
        assert read(row) == expected
    assert [token for token in read(row) if token in MARKERS] == [token for token in expected if token in MARKERS]


def test_words_and_texts_are_marked_alike() -> None:
    text = {"text": "zz12 loved the story .", "head": (0, 4), "tail": (11, 20)}
    words = {"tokens": text["text"].split(), "head": (0, 1), "tail": (2, 4)}
    assert read(words) == read(text)


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 2), (1, 2), "<a [b]>"),
        ((1, 2), (0, 2), "[a <b>]"),
        ((0, 3), (0, 1), "<[a] b c>"),
        ((0, 2), (1, 3), "<a [b> c]"),
        ((0, 1), (1, 2), "<a> [b]"),
        ((1, 1), (0, 1), "[a] <>"),
    ],
)
def test_spans_may_lie_in_each_other(head: tuple[int, int], tail: tuple[int, int], expected: str) -> None:
    found, apart = _marked(np.array([1, 2, 3]), (head, tail), np.array([11, 12, 13, 14]))
    names = {1: "a", 2: "b", 3: "c", 11: "<", 12: ">", 13: "[", 14: "]"}
    shown = "".join(names[token] for token in found)
    assert shown.startswith(expected.replace(" ", ""))
    assert sorted(found[apart == 0]) == [11, 12, 13, 14]


@pytest.mark.parametrize("limit", [10, 16, 31])
def test_of_a_long_text_what_is_nearest_to_a_marker_is_kept(limit: int) -> None:
    long = FILLER * 4 + "actor " + FILLER * 4 + "story " + FILLER * 4
    row = {
        "text": long,
        "head": (long.index("actor"), long.index("actor") + 5),
        "tail": (long.index("story"), long.index("story") + 5),
    }
    tokens = read(row, limit)
    assert len(tokens) == limit
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    for inside in (["[HEAD]", "actor", "[/HEAD]"], ["[TAIL]", "story", "[/TAIL]"]):
        place = tokens.index(inside[0])
        assert tokens[place : place + 3] == inside
    encoded = RelationExtraction(learned=Learned(label_names=("no_relation", "x"))).encode(
        data_of(row), encoder_with_markers(limit)
    )
    assert encoded.truncated.tolist() == [0]
    found, apart = _marked(np.arange(1000), ((100, 102), (300, 303)), np.array([-1, -2, -3, -4]))
    kept = _nearest(found, apart, 50)
    assert apart[np.isin(found, kept)].max() <= apart[~np.isin(found, kept)].min()
    assert len(kept) == 50
    assert {-1, -2, -3, -4, 100, 101, 300, 301, 302} <= set(kept)
    assert (np.diff(kept[kept >= 0]) > 0).all()


def test_a_marker_that_a_user_typed_is_text() -> None:
    tokens = read({"text": "[HEAD] actor [TAIL] story", "head": (7, 12), "tail": (20, 25)})
    assert [token for token in tokens if token in MARKERS] == ["[HEAD]", "[/HEAD]", "[TAIL]", "[/TAIL]"]
    assert tokens.index("[HEAD]") == tokens.index("actor") - 1


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_the_class_gives_the_same_scores(family: str, tmp_path: Path) -> None:
    tuner = tuner_for(NAME, family, max_steps=10, learning_rate=1e-2).fit(case_of(NAME).data(), progress=False)
    tuner.save(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    for row in ROWS[:3]:
        with torch.no_grad():
            scores = model(**tokenizer(marked_text(row), return_tensors="pt")).logits.softmax(-1)[0]
        mine = tuner.predict(row)
        assert model.config.id2label[int(scores.argmax())] == mine.label
        assert scores.tolist() == pytest.approx(list(mine.probabilities.values()), abs=2e-6)
    assert FineTuner.load(tmp_path / "model").predict(ROWS[:3]) == tuner.predict(ROWS[:3])


def test_new_embeddings_are_drawn_from_the_seed_and_learned() -> None:
    tuners = [tuner_for(NAME, max_steps=2, seed=seed).fit(case_of(NAME).data(), progress=False) for seed in (0, 0, 1)]
    first, second, third = (tuner.model.get_input_embeddings().weight[-4:] for tuner in tuners)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert losses(tuners[0]) == losses(tuners[1])


def test_rows_of_words_are_learned_and_predicted(tmp_path: Path) -> None:
    columns = {
        "tokens": [["film", str(i), "loved", "story"] for i in range(8)],
        "head": [(0, 1 + i % 2) for i in range(8)],
        "tail": [(3, 4)] * 8,
        "label": ["no_relation", "x"] * 4,
    }
    data = TaskDataset(columns)
    tuner = tuner_for(NAME, max_steps=60, learning_rate=1e-2, dropout=0.0).fit(data, data, progress=False)
    assert dict(tuner.evaluate(data))["f1_micro"] == 1.0
    tuner.save(tmp_path / "model")
    example = {"tokens": ["film", "7", "loved", "story"], "head": (0, 2), "tail": {"start": 3, "end": 4}}
    assert FineTuner.load(tmp_path / "model").predict(example).label == "x"
    with pytest.raises(DataError, match="the data set has texts"):
        tuner.evaluate(case_of(NAME).data())


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (["no_relation", "x"], None, "no_relation"),
        (["Other", "x"], None, "Other"),
        (["x", "y"], None, None),
        (["no_relation", "x"], "x", "x"),
        ([0, 1], 0, 0),
    ],
)
def test_the_label_for_not_related(labels: list[Any], given: Any, expected: Any) -> None:
    data = TaskDataset([{"text": "a b", "head": (0, 1), "tail": (2, 3), "label": label} for label in labels])
    task = RelationExtraction(negative_label=given).learned_from(data)
    assert task.known.negative_label == expected
    metrics = task.metrics(["f1_micro"]).update([labels[0]] * 2, [labels[0]] * 2)
    assert metrics["f1_micro"] == (0.0 if expected == labels[0] else 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": RelationExtraction(negative_label="norelation")}, "did you mean 'no_relation'"),
        ({"max_length": 9}, "at least 10"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tuner_for(NAME, **options).fit(case_of(NAME).data(), progress=False)
    with pytest.raises(OptionError, match=r"negative_label=1\.5"):
        RelationExtraction(negative_label=1.5)  # type: ignore[arg-type]


def test_models_whose_vocabulary_cannot_grow_are_refused() -> None:
    class Own(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids.float()

    with pytest.raises(OptionError, match="adds tokens"):
        FineTuner(Own(), tokenizer=tiny_tokenizer()).fit(case_of(NAME).data(), progress=False)


def test_what_is_frozen_is_computed_once() -> None:
    tuner = tuner_for(NAME, freeze=1, max_steps=4).fit(case_of(NAME).data(), progress=False)
    assert tuner._ready("test").recall is not None
