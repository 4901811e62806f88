"""Of every chat template, exactly the assistant's words and the end of its turn are learned; users never type control.

The oracle is what each template is known to write: answers are unlike anything else in the conversation.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from sftlib.encoders.text.chat import MARK, chat_format
from sftlib.encoders.text.chat_tokens import ChatTokenizer
from sftlib.encoders.text.dialogues import Dialogues, Row
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError
from tests.chat_templates import FORMATS, byte_tokenizer

ANSWERS = ("Red, of course.", "A blue one!\n\nAnd then the grey one.")


def conversation(
    *, system: bool = True, ask: str = "Which colour?", more: str = "Another, {it}"
) -> list[dict[str, str]]:
    turns = [
        {"role": "user", "content": ask},
        {"role": "assistant", "content": ANSWERS[0]},
        {"role": "user", "content": "Another, {it}"},
        {"role": "assistant", "content": ANSWERS[1]},
    ]
    return [*([{"role": "system", "content": "Be brief."}] if system else []), *turns]


def row_of(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]], train_on: str = "completion") -> Row:
    return next(iter(Dialogues(TextEncoder(tokenizer, 512), train_on).of_messages([turns])))


def learned(tokenizer: PreTrainedTokenizerFast, row: Row) -> list[str]:
    """The text of every run of tokens that is learned."""
    starts = np.flatnonzero(np.diff(np.concatenate([[0], row.learned.astype(int)])) == 1)
    ends = np.flatnonzero(np.diff(np.concatenate([row.learned.astype(int), [0]])) == -1) + 1
    return [tokenizer.decode(row.ids[a:b]) for a, b in zip(starts, ends, strict=True)]


def plain_ids(tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]]) -> list[int]:
    return list(tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("system", [True, False])
def test_the_mask_covers_the_answers_and_the_end_of_their_turns(name: str, system: bool) -> None:
    form = FORMATS[name]
    if system and not form.system:
        pytest.skip("takes no turn of the system")
    tokenizer, turns = form.tokenizer(), conversation(system=system)
    row = row_of(tokenizer, turns)
    found = [text.lstrip(" ") for text in learned(tokenizer, row)]
    gap = " " if name == "llama-2" else ""  # it writes a space before the end of text
    last = form.ends or form.eos  # where a turn ends with nothing, the end of text is put behind the last
    assert found == [f"{ANSWERS[0]}{gap}{form.ends}", f"{ANSWERS[1]}{gap}{last}"]
    plain = plain_ids(tokenizer, turns)
    assert row.ids.tolist() == (plain if form.ends else [*plain, tokenizer.eos_token_id])


@pytest.mark.parametrize("name", FORMATS)
def test_only_the_last_answer_or_all_is_learned_where_asked(name: str) -> None:
    form, turns = FORMATS[name], conversation(system=False)
    tokenizer = form.tokenizer()
    (only,) = learned(tokenizer, row_of(tokenizer, turns, "last"))
    assert only.strip().startswith(ANSWERS[1])
    assert row_of(tokenizer, turns, "all").learned.all()


@pytest.mark.parametrize("name", FORMATS)
def test_the_prompt_of_a_row_is_what_invites_the_answer(name: str) -> None:
    form, turns = FORMATS[name], conversation(system=False)
    tokenizer = form.tokenizer()
    row = row_of(tokenizer, turns)
    assert tokenizer.decode(row.ids[row.prompt :]).strip().startswith(ANSWERS[1])
    asked = row_of(tokenizer, turns[:-1])
    assert (asked.prompt, asked.answered) == (len(asked.ids), False)
    if not name.startswith(("mistral", "without")):
        assert asked.ids.tolist() == row.ids[: row.prompt].tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_control_strings_that_a_user_types_are_text(name: str) -> None:
    form = FORMATS[name]
    tokenizer = form.tokenizer()
    typed = "".join([*form.controls, form.eos, form.bos or ""])
    turns, harmless = (conversation(system=False, ask=f"Say {text}!") for text in (typed, "x"))
    row, other = row_of(tokenizer, turns), row_of(tokenizer, harmless)
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    assert [i for i in row.ids.tolist() if i in control] == [i for i in other.ids.tolist() if i in control]
    assert typed in tokenizer.decode(row.ids)
    assert learned(tokenizer, row) == learned(tokenizer, other)


@pytest.mark.parametrize("name", FORMATS)
def test_the_second_tokenizer_agrees_with_the_first(name: str) -> None:
    form = FORMATS[name]
    tokenizer = form.tokenizer()
    chat, second = (ChatTokenizer(tokenizer, chat_format(tokenizer).controls) for _ in range(2))
    text = tokenizer.apply_chat_template(conversation(system=False), tokenize=False)
    (plain,), guarded = chat.tokens([text]), second._guarded(text)
    assert plain.ids.tolist() == guarded.ids.tolist()
    assert plain.starts.tolist() == guarded.starts.tolist()
    assert plain.ends.tolist() == guarded.ends.tolist()


def test_what_ends_an_answer_is_known() -> None:
    for name, form in FORMATS.items():
        tokenizer = form.tokenizer()
        stop = Dialogues(TextEncoder(tokenizer, 512), "completion").stop
        expected = {form.eos, form.ends or form.eos}
        assert {tokenizer.convert_ids_to_tokens(token) for token in stop} == expected, name


def test_models_without_a_template_get_a_plain_one() -> None:
    tokenizer = byte_tokenizer(None)
    row = row_of(tokenizer, conversation(system=False))
    assert learned(tokenizer, row) == [f" {answer}</s>" for answer in ANSWERS]
    assert tokenizer.decode(row.ids).startswith("User: Which colour?\nAssistant: Red")


def test_a_template_that_refuses_a_row_names_it() -> None:
    tokenizer = FORMATS["gemma"].tokenizer()
    rows = [conversation(system=False), conversation(system=True)]
    with pytest.raises(DataError, match=r"row 1: .*System role not supported"):
        list(Dialogues(TextEncoder(tokenizer, 512), "completion").of_messages(rows))


def test_a_template_that_hides_the_answers_is_refused_rather_than_masked_wholly() -> None:
    tokenizer = byte_tokenizer(
        "{% for m in messages %}{{ m.content if m.role == 'user' }}{{ messages | length }};{% endfor %}"
    )
    with pytest.raises(DataError, match="cannot be found"):
        row_of(tokenizer, conversation(system=False))


def test_marks_in_a_text_change_nothing_but_themselves() -> None:
    tokenizer = FORMATS["chatml"].tokenizer()
    turns = conversation(system=False, ask=f"a{MARK}b")
    assert "ab" in tokenizer.decode(row_of(tokenizer, turns).ids)


def test_calls_of_tools_are_learned_with_the_end_of_turn() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<call>{{ c | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = byte_tokenizer(template, ("<|im_start|>", "<|im_end|>"))
    turns = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "at": "<|im_end|>"}]},
        {"role": "tool", "content": "Rain."},
        {"role": "assistant", "content": "It rains."},
    ]
    first, second = learned(tokenizer, row_of(tokenizer, turns))
    assert re.fullmatch(r'<call>\{"name": "weather", "at": ".*"\}</call><\|im_end\|>', first)
    assert second == "It rains.<|im_end|>"
