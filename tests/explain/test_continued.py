"""`explain` of what a language model says: of its prompt, of each turn of a conversation, of a text that goes on."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from sftlib import FineTuner, TaskDataset
from sftlib.errors import DataError, OptionError
from sftlib.explain import explain
from sftlib.testing import tiny_model, tiny_tokenizer

WORDS = {"joy": "yes", "pain": "no"}
FILLERS = ("the film", "a cat", "every minute", "it", "noise of it")


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _rows(form: str) -> TaskDataset:
    """The answer is decided by one word, wherever it stands."""
    asked = [f"{filler} {word} {other}" for word in WORDS for filler in FILLERS for other in FILLERS]
    said = [WORDS[text.split()[next(i for i, w in enumerate(text.split()) if w in WORDS)]] for text in asked]
    if form == "messages":
        return TaskDataset(
            {
                "messages": [
                    [_user(one), {"role": "assistant", "content": other}]
                    for one, other in zip(asked, said, strict=True)
                ]
            }
        )
    if form == "text":
        return TaskDataset(
            {"text": [f"{one} {other}" for one, other in zip(asked, said, strict=True)]}, task="causal-lm"
        )
    return TaskDataset({"prompt": asked, "completion": [f" {answer}" for answer in said]})


@cache
def _knowing(form: str) -> FineTuner:
    family = "llama" if form == "messages" else "gpt2"
    tuner = FineTuner(
        tiny_model(family, auto_class="AutoModelForCausalLM", dropout=0.0),
        tokenizer=tiny_tokenizer(family),
        max_steps=120,
        learning_rate=5e-3,
        precision="fp32",
    )
    return tuner.fit(_rows(form), progress=False)


def _adds_up(why: Any) -> None:
    assert abs(sum(why.scores) - (why.score - why.baseline)) <= max(0.01, why.gap * 1.01) * abs(
        why.score - why.baseline
    )


def _deciding(form: str, tuner: FineTuner, text: str, **options: Any) -> str:
    """The word that speaks for one answer rather than the other, the last aside, from whose place the model speaks."""
    space = "" if form == "messages" else " "
    yes, no = (explain(tuner, text, target=f"{space}{answer}", **options) for answer in ("yes", "no"))
    return max(zip(yes.words[:-1], no.words[:-1], strict=True), key=lambda pair: abs(pair[0].score - pair[1].score))[
        0
    ].text


@pytest.mark.parametrize("form", ["prompt", "messages"])
def test_the_word_that_decides_the_answer_is_found(form: str) -> None:
    tuner = _knowing(form)
    for text, answer in (("a cat pain every minute", "no"), ("it joy the film", "yes")):
        why = explain(tuner, text)
        assert why.target.strip() == tuner.predict(text).text.strip() == answer
        assert why.probability > 0.6  # with the space that this tokenizer drops when it writes
        assert [text[word.start : word.end] for word in why.words] == text.split()
        assert _deciding(form, tuner, text, method="leave-one-out") in WORDS
        assert why.unread == 0
        _adds_up(why)


@pytest.mark.parametrize("form", ["prompt", "messages"])
def test_what_is_explained_is_minus_the_loss(form: str) -> None:
    tuner, text = _knowing(form), "a cat joy it"
    row = (
        {"messages": [[_user(text), {"role": "assistant", "content": "no"}]]}
        if form == "messages"
        else {"prompt": [text], "completion": [" no"]}
    )
    judged = tuner.judge(TaskDataset(row))
    why = explain(tuner, text, target="no" if form == "messages" else " no")
    assert why.score == pytest.approx(-judged.loss_sum, rel=1e-4)
    assert why.probability == pytest.approx(float(np.exp(-judged.loss_sum / judged.count)), rel=1e-4)


def test_of_a_text_that_goes_on_nothing_of_what_follows_is_a_piece() -> None:
    tuner, text = _knowing("text"), "a cat joy it"
    why = explain(tuner, text, target=" yes")
    assert [word.text for word in why.words] == text.split()
    judged = tuner.judge(TaskDataset({"text": [f"{text} yes"]}, task="causal-lm"))
    assert 0 < -why.score < judged.loss_sum  # the loss is over the text itself, too
    assert _deciding("text", tuner, text) == "joy"
    _adds_up(why)


def test_every_turn_has_words_of_its_own() -> None:
    tuner = _knowing("messages")
    talk = [
        {"role": "system", "content": "be  short "},
        _user("the film joy"),
        {"role": "assistant", "content": "yes"},
        _user(" a cat pain it"),
    ]
    why = explain(tuner, {"messages": talk})
    assert [text.role for text in why.texts] == ["system", "user", "assistant", "user 2"]
    assert [(word.role, word.text) for word in why.words[:3]] == [
        ("system", "be"),
        ("system", "short"),
        ("user", "the"),
    ]
    contents = {"system": talk[0], "user": talk[1], "assistant": talk[2], "user 2": talk[3]}
    assert all(contents[word.role]["content"][word.start : word.end] == word.text for word in why.words)
    assert why.unread == 0
    assert "user 2" in why._repr_html_()


def test_what_cannot_be_explained_says_why() -> None:
    tuner = _knowing("messages")
    with pytest.raises(OptionError, match="expected a text"):
        explain(tuner, "a cat", target=3)
    with pytest.raises(OptionError, match="longer together"):
        explain(tuner, "a cat", target="no " * 90)
    with pytest.raises(DataError, match="no word"):
        explain(_knowing("prompt"), " ", target="no")
