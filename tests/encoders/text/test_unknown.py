"""Signs that a tokenizer does not know: counted for each role, in the report, and told at the start if it matters."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.testing import tiny_folder, tiny_model, tiny_tokenizer
from tests.chat_templates import byte_tokenizer


def lines(tuner: FineTuner, data: TaskDataset, capsys: pytest.CaptureFixture[str]) -> str:
    tuner.fit(data)
    out, err = capsys.readouterr()
    return out + err


def test_targets_are_told_at_the_start(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_folder(tmp_path, "t5", auto_class="AutoModelForSeq2SeqLM")
    rows = {"source": ["a card"] * 4, "target": ["card", "€5 card", "the €5", "a card"]}
    tuner, data = FineTuner(tmp_path, max_steps=1), TaskDataset(rows)
    report = tuner.report(data)
    (signs,) = report.unknown
    assert (signs.role, signs.learned, signs.count, signs.rows, signs.of) == ("target", True, 2, 2, 4)
    assert (signs.row_numbers, signs.examples) == ((1, 2), ("€5",))
    sentence = "target: the tokenizer does not know 2 signs or words in 2 rows (50.0%), such as '€5'"
    assert any(problem.startswith(sentence) for problem in report.problems)
    assert "target: signs the tokenizer does not know" in str(report)
    assert report.to_dict()["unknown"][0]["count"] == 2
    assert sentence in lines(tuner, data, capsys)


def test_inputs_are_told_where_they_are_many(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["A wonderful film."] * 149 + ["A ☃ film."]
    tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=1)
    data = TaskDataset({"text": texts, "label": [i % 2 for i in range(150)]})
    (signs,) = tuner.report(data).unknown
    assert (signs.role, signs.count, signs.examples, signs.learned) == ("text", 1, ("☃",), False)
    assert "does not know" not in lines(tuner, data, capsys)
    many = TaskDataset({"text": [f"A ☃ film {i}." for i in range(20)], "label": [0, 1] * 10})
    assert "text: the tokenizer does not know 20 signs or words in 20 rows (100.0%)" in lines(tuner, many, capsys)


def test_words_pairs_and_conversations() -> None:
    tagger = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_steps=1)
    words = TaskDataset({"tokens": [["Ada", "☃☃"], ["€5"]], "tags": [["O", "X"], ["O"]]})
    assert [(signs.role, signs.count) for signs in tagger.report(words).unknown] == [("tokens", 2)]
    pairs = TaskDataset({"text": ["a ☃", "b"], "text_pair": ["c", "€ ☃"], "label": [0, 1]})
    assert [(s.role, s.count, s.rows) for s in tagger.report(pairs).unknown] == [("text", 1, 1), ("text_pair", 2, 1)]
    talks = [
        [{"role": "user", "content": f"{asked} card"}, {"role": "assistant", "content": answer}]
        for asked, answer in (("☃", "a"), ("a", "€"), ("a", "a card"))
    ]
    speaker = FineTuner(
        tiny_model("llama", auto_class="AutoModelForCausalLM"), tokenizer=tiny_tokenizer("llama"), max_steps=1
    )
    found = speaker.report(TaskDataset({"messages": talks})).unknown
    assert [(s.role, s.learned, s.row_numbers) for s in found] == [
        ("messages (learned)", True, (1,)),
        ("messages", False, (0,)),
    ]


def test_texts_that_supervise_themselves_are_learned(capsys: pytest.CaptureFixture[str]) -> None:
    texts = TaskDataset({"text": ["a card"] * 199 + ["a ☃"]}, task="causal-lm")
    model = tiny_model("llama", auto_class="AutoModelForCausalLM")
    tuner = FineTuner(model, tokenizer=tiny_tokenizer("llama"), max_steps=1)
    assert "text: the tokenizer does not know 1 sign or word in 1 row (0.5%)" in lines(tuner, texts, capsys)


def test_what_vanishes_without_a_trace() -> None:
    letters = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate("abc</>s")}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="</s>")
    encoder = TextEncoder(tokenizer, 64)
    assert encoder.tokenizer.unk_token_id is None
    found = encoder.unknown("text", enumerate(["abc", "a☃b €", "a\u200bb"]), learned=False, of=3)
    assert found is not None
    assert (found.count, found.row_numbers, set(found.examples)) == (2, (1,), {"☃", "€"})


def test_a_tokenizer_of_bytes_knows_everything() -> None:
    encoder = TextEncoder(byte_tokenizer(None), 64)
    assert encoder.unknown("text", enumerate(["☃ € 東京"]), learned=True, of=1) is None


@pytest.mark.parametrize("text", ["  a  film ", "A WONDERFUL film!", "Wónderful", "a\tfilm\n", ""])
def test_what_is_only_written_otherwise_is_known(text: str) -> None:
    assert TextEncoder(tiny_tokenizer(), 64).unknown("text", [(0, text)], learned=False, of=1) is None
