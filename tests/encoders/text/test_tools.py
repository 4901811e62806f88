"""Nothing of a conversation is lost in silence: tools, calls, weights, further keys; whatever form rows came in.

The oracle is transformers' own ``apply_chat_template`` with the tools of the row.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sftlib import CausalLM, FineTuner, TaskDataset
from sftlib.encoders.text.dialogues import Dialogues, Row
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError
from tests.chat_templates import CHATML, byte_tokenizer

IM = ("<|im_start|>", "<|im_end|>")
_EACH = "{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
_START = "{% if tools %}<|im_start|>system\n# Tools\n" + _EACH + "<|im_end|>\n{% endif %}"
_ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

#: Writes calls as JSON, wants arguments as a mapping.
MAPPING = (
    _START + "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}"
    "</call>{% endfor %}<|im_end|>\n{% endfor %}" + _ASK
)
#: Writes arguments as they stand, and so wants them as text.
TEXT = (
    _START + "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }} {{ c.function.arguments }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}" + _ASK
)
#: Adds text to arguments: a mapping is an error there.
JOINED = TEXT.replace(
    "{{ c.function.name }} {{ c.function.arguments }}", "{{ c.function.name + ' ' + c.function.arguments }}"
)
#: A parameter a line, as some coders want it.
LINES = TEXT.replace(
    "{{ c.function.name }} {{ c.function.arguments }}",
    "{{ c.function.name }}{% for k, v in c.function.arguments | items %} {{ k }}={{ v }}{% endfor %}",
)
TEMPLATES = {"mapping": MAPPING, "text": TEXT, "joined": JOINED, "lines": LINES}

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
OTHER = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}},
}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def asked(arguments: Any, name: str = "weather", content: Any = "") -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Bonn?"},
        {"role": "assistant", "content": content, "tool_calls": [call(name, arguments)]},
        {"role": "tool", "content": "Rain."},
        {"role": "assistant", "content": "It rains."},
    ]


def small(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes))


def rows(data: TaskDataset, template: str | None, train_on: str = "completion") -> list[tuple[str, list[str]]]:
    """The text of each row, and of what is learned of it."""
    tokenizer = byte_tokenizer(template, IM)
    task, encoder = CausalLM(train_on=train_on).learned_from(data), TextEncoder(tokenizer, 2048)
    return [told(tokenizer, row) for row in task._rows(data, Dialogues(encoder, train_on))]


def told(tokenizer: PreTrainedTokenizerFast, row: Row) -> tuple[str, list[str]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.learned.astype(int), [0]])))
    pairs = edges.reshape(-1, 2)
    return tokenizer.decode(row.ids), [tokenizer.decode(row.ids[a:b]) for a, b in pairs]


def plain(template: str, turns: Any, tools: Any = None, **more: Any) -> str:
    text: str = byte_tokenizer(template, IM).apply_chat_template(turns, tools=tools, tokenize=False, **more)
    return text


@pytest.mark.parametrize("tools", [[TOOL], [TOOL, OTHER], json.dumps([TOOL]), [json.dumps(OTHER)], None, []], ids=repr)
def test_tools_of_a_row_are_handed_to_the_template(tools: Any) -> None:
    data = TaskDataset([{"messages": asked({"city": "Bonn"}), "tools": tools}, {"messages": asked({"city": "Ulm"})}])
    read = (
        json.loads(tools)
        if isinstance(tools, str)
        else tools and [json.loads(t) if isinstance(t, str) else t for t in tools]
    )
    (first, _), (second, _) = rows(data, MAPPING)
    assert first == plain(MAPPING, asked({"city": "Bonn"}), read)
    assert second == plain(MAPPING, asked({"city": "Ulm"}))


def test_what_else_a_template_is_told_of_a_row() -> None:
    template = CHATML.replace(
        "{% for m in messages %}", "{% if thinking %}(thinks){% endif %}{% for m in messages %}", 1
    )
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    given = [{"thinking": True}, '{"thinking": false}', None]
    data = TaskDataset({"messages": [turns] * 3, "chat_template_kwargs": given})
    assert [text.startswith("(thinks)") for text, _ in rows(data, template)] == [True, False, False]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("spelled", ["mapping", "text", "twice"])
def test_arguments_are_learned_as_the_template_means_them(name: str, spelled: str) -> None:
    meant = {"city": "São Paulo", "days": 3, "flags": [True, None]}
    texts = {"mapping": meant, "text": json.dumps(meant), "twice": json.dumps(json.dumps(meant))}
    data = TaskDataset([{"messages": asked(texts[spelled])}])
    assert data[0]["messages"][1]["tool_calls"] == [call("weather", meant)]
    ((_, (first, second)),) = rows(data, TEMPLATES[name])
    written = json.dumps(meant, ensure_ascii=False)
    expected = {
        "mapping": f'{{"name": "weather", "arguments": {written}}}',
        "text": f"weather {written}",
        "joined": f"weather {written}",
        "lines": "weather city=São Paulo days=3 flags=[True, None]",
    }
    assert first == f"<call>{expected[name]}</call><|im_end|>"
    assert second == "It rains.<|im_end|>"


def forms() -> dict[str, Any]:
    given = [
        {"messages": asked({"city": "Bonn"}), "tools": [TOOL]},
        {"messages": asked({"zone": "CET", "more": {"a": "1"}}, "clock"), "tools": [OTHER]},
    ]
    given = json.loads(json.dumps(given, sort_keys=True))  # older Arrow sorts the fields of a struct
    return {"rows": given, "text": [{key: json.dumps(value) for key, value in row.items()} for row in given]}


@pytest.mark.parametrize(
    "form", ["text", "datasets", "stream", "arrow", "parquet", "polars", "pandas", "pandas of parquet"]
)
def test_every_form_of_the_rows_gives_the_same_texts(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = forms()["rows"]
    source: Any = forms()["text"]
    if form != "text":
        table = pytest.importorskip("pyarrow").Table.from_pylist(given)
        path = tmp_path / "rows.parquet"
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    if form in ("datasets", "stream"):
        source = pytest.importorskip("datasets").Dataset(table)
        source = source.to_iterable_dataset() if form == "stream" else source
    elif form == "arrow":
        source = table
    elif form == "polars":
        source = pytest.importorskip("polars").from_arrow(table)
    elif form == "pandas":
        source = pytest.importorskip("pandas").DataFrame(given)
    elif form == "pandas of parquet":
        source = pytest.importorskip("pandas").read_parquet(path)
    expected = rows(TaskDataset(given), MAPPING)
    assert "null" not in expected[0][0] + expected[1][0]
    data = TaskDataset.from_parquet(path) if form == "parquet" else TaskDataset(source)
    assert rows(data, MAPPING) == expected
    if form == "parquet":
        monkeypatch.setattr("sftlib.data.files.spool.FILE_LIMIT", 0)
        assert rows(TaskDataset.from_parquet(path), MAPPING) == expected


def test_null_that_a_row_itself_has_is_kept() -> None:
    ((_, (first, _)),) = rows(TaskDataset([{"messages": asked({"city": None})}]), MAPPING)
    assert '"arguments": {"city": null}' in first


# What a template leaves out.


def test_an_answer_that_comes_out_empty_is_an_error() -> None:
    data = TaskDataset([{"messages": asked({"city": "Bonn"})}, {"messages": asked({"city": "Ulm"}, content=None)}])
    with pytest.raises(
        DataError, match=r"row 0: turn 1: the template writes nothing .*'tool_calls'(.|\n)*row 1: turn 1"
    ):
        rows(data, CHATML)


def warned(caplog: pytest.LogCaptureFixture, turns: Any, template: str = CHATML, **beside: Any) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        rows(TaskDataset([{"messages": turns, **beside}] * 3), template)
    return "\n".join(record.getMessage() for record in caplog.records)


USER = {"role": "user", "content": "Hi."}
SAID = {"role": "assistant", "content": "Hello."}
NO_TOOLS = (
    "{% for m in messages %}{% if m.role in ('user', 'assistant') %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>\n{% endif %}{% endfor %}" + _ASK
)
FIRST_SYSTEM = "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}" + NO_TOOLS


@pytest.mark.parametrize(
    ("turns", "template", "named"),
    [
        ([USER, SAID | {"reasoning_content": "They greet."}], CHATML, "'reasoning_content' of assistant turns"),
        ([USER | {"name": "Ada"}, SAID], CHATML, "'name' of user turns"),
        ([USER, *asked({"a": 1}, content="I look.")[1:]], CHATML, "'tool_calls' of assistant turns"),
        ([{"role": "system", "content": "Be kind."}, USER, SAID], NO_TOOLS, "the content of system turns"),
        (asked({"a": 1}, content="I look."), NO_TOOLS, "the content of tool turns"),
        (
            [{"role": "system", "content": "A"}, {"role": "system", "content": "B"}, USER, SAID],
            FIRST_SYSTEM,
            "the content",
        ),
        (
            [USER, {"role": "assistant", "content": "", "tool_calls": [call("f", {"a": 1}) | {"id": "x1"}]}],
            MAPPING,
            "the id in 'tool_calls' of assistant turns",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_template_leaves_out_is_told_once(
    turns: Any, template: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = warned(caplog, turns, template)
    assert f"the chat template leaves out {named}" in said or f", {named}" in said
    assert said.count(named) == 1
    assert "first in row 0" in said


def test_tools_that_a_template_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    assert "leaves out the tools" in warned(caplog, [USER, SAID], tools=[TOOL])
    assert "knows nothing of 'thinkin'" in warned(caplog, [USER, SAID], chat_template_kwargs={"thinkin": True})


def test_nothing_is_told_where_all_is_written(caplog: pytest.LogCaptureFixture) -> None:
    assert warned(caplog, asked({"city": "Bonn"}, content="I look."), MAPPING, tools=[TOOL]) == ""
    assert warned(caplog, asked(json.dumps({"city": "Bonn"})), TEXT, tools=[TOOL]) == ""
    assert warned(caplog, [{"role": "system", "content": "Be kind."}, USER, SAID, USER, SAID]) == ""


def test_thoughts_that_are_cut_from_earlier_turns(caplog: pytest.LogCaptureFixture) -> None:
    said = "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}<|im_end|>"
    cut = CHATML.replace(
        "{{ m.content }}<|im_end|>",
        "{% if m.role == 'assistant' %}{% generation %}" + said + "{% endgeneration %}"
        "{% else %}{{ m.content }}<|im_end|>{% endif %}",
    )
    thought = {"role": "assistant", "content": "<think>They greet.</think>Hello."}
    assert "what stands before </think> of assistant turns" in warned(caplog, [USER, thought, USER, thought], cut)
    assert warned(caplog, [USER, thought], cut) == ""


def test_words_that_are_cut_at_one_end_are_not_left_out(caplog: pytest.LogCaptureFixture) -> None:
    for cut in ("{{ m.content.split('</answer>')[0] }}", "{{ m.content.split('<answer>')[-1] }}"):
        said = {"role": "assistant", "content": "<answer>Hello.</answer>"}
        assert warned(caplog, [USER, said], CHATML.replace("{{ m.content }}", cut)) == ""


def test_a_model_without_a_template_reads_tools_and_calls(caplog: pytest.LogCaptureFixture) -> None:
    data = TaskDataset([{"messages": asked({"city": "Bonn"}, content="I look."), "tools": [TOOL]}])
    with caplog.at_level(logging.WARNING, logger="sftlib"):
        ((text, (first, second)),) = rows(data, None)
    assert text.startswith("Tools: [{")
    assert first.startswith(' I look.\n[{"type": "function", "function": {"name": "weather"')
    assert second == " It rains.</s>"
    assert not caplog.records


# Weights.


@pytest.mark.parametrize(
    ("key", "off"),
    [
        *((key, 0) for key in ("weight", "train", "training", "loss")),
        *(("weight", off) for off in (False, 0.0, np.int64(0))),
        *(
            pytest.param(key, off, marks=pytest.mark.slow)
            for key in ("train", "training", "loss")
            for off in (False, 0.0, np.int64(0))
        ),
    ],
)
def test_a_turn_without_weight_is_read_and_not_learned(key: str, off: Any) -> None:
    turns = [USER, SAID | {key: off}, USER, SAID | {"content": "Yes?", key: 1}]
    whole = plain(CHATML, [USER, SAID, USER, SAID | {"content": "Yes?"}])
    for train_on, learned in (("completion", ["Yes?<|im_end|>"]), ("last", ["Yes?<|im_end|>"])):
        assert rows(TaskDataset([{"messages": turns}]), CHATML, train_on) == [(whole, learned)]
    ((_, parts),) = rows(TaskDataset([{"messages": turns}]), CHATML, "all")
    assert "".join(parts) == whole.replace("Hello.<|im_end|>", "", 1)


def test_rows_without_any_weight_have_nothing_to_learn() -> None:
    data = TaskDataset({"messages": [[USER, SAID | {"weight": 0}], [USER, SAID]]})
    assert (data.is_labelled, data.without_target.tolist()) == (False, [0])
    tuner = FineTuner(small(byte_tokenizer(CHATML, IM)), tokenizer=byte_tokenizer(CHATML, IM), max_steps=1)
    with pytest.raises(DataError, match="says nothing in row 0 of 2.*weight of 0"):
        tuner.fit(data, progress=False)


def test_weights_of_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    said = warned(caplog, [USER | {"train": True}, SAID])
    assert "a weight of user turns is not used" in said
    assert warned(caplog, [USER | {"weight": 0}, SAID | {"weight": 1}]) == ""


# Layouts.


def test_roles_and_calls_of_other_layouts() -> None:
    old = [
        {"role": "developer", "content": "Be brief."},
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Bonn"}'}},
        {"role": "function", "name": "weather", "content": "Rain."},
        SAID,
    ]
    shared = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Hi."},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Bonn"}}'},
        {"from": "observation", "value": "Rain."},
        {"from": "gpt", "value": "Hello."},
    ]
    modern = [{"role": "system", "content": "Be brief."}, USER, *asked({"city": "Bonn"})[1:3], SAID]
    expected = rows(TaskDataset([{"messages": modern}]), MAPPING)
    assert rows(TaskDataset([{"messages": shared}]), MAPPING) == expected
    assert rows(TaskDataset([{"messages": old}]), MAPPING) == expected


def test_calls_in_turns_of_their_own_are_made_at_once() -> None:
    turns = [
        {"role": "user", "content": "Bonn and Ulm?"},
        {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Bonn"}}'},
        {"role": "tool_call", "content": '{"name": "weather", "arguments": {"city": "Ulm"}}'},
        {"role": "tool_response", "content": "Rain."},
        {"role": "tool_response", "content": "Sun."},
        SAID,
    ]
    messages = TaskDataset([{"messages": turns}])[0]["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert messages[1]["tool_calls"] == [call("weather", {"city": "Bonn"}), call("weather", {"city": "Ulm"})]


def test_words_of_a_call_that_are_no_call_stay_words() -> None:
    turns = [{"from": "human", "value": "Hi."}, {"from": "function_call", "value": "weather(Bonn)"}]
    assert TaskDataset([{"messages": turns}])[0]["messages"][1] == {"role": "assistant", "content": "weather(Bonn)"}


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Hello."}],
        [{"type": "text", "text": "Hel"}, {"type": "output_text", "text": "lo."}],
        [{"text": "Hello.", "type": None, "image_url": None}],
        np.array([{"type": "text", "text": "Hello."}], object),
    ],
    ids=repr,
)
def test_content_in_parts_is_their_text(content: Any) -> None:
    data = TaskDataset([{"messages": [USER, {"role": "assistant", "content": content}]}])
    assert data[0]["messages"][1] == SAID


@pytest.mark.parametrize(
    ("turns", "match"),
    [
        ([SAID, USER], "turn 0: assistant at the beginning"),
        ([USER, USER, SAID], "turn 1: user after user"),
        ([USER, SAID, SAID], "turn 2: assistant after assistant"),
        ([{"role": "tool", "content": "Rain."}, USER], "turn 0: tool at the beginning"),
        ([USER, {"role": "assistant", "content": [{"type": "image_url", "image_url": "x"}]}], "parts that are no text"),
        ([USER, SAID | {"weight": 2}], "no number from 0 to 1"),
    ],
)
def test_what_cannot_be_read_is_named_or_left_out(turns: Any, match: str, caplog: pytest.LogCaptureFixture) -> None:
    given = {"messages": [[USER, SAID], turns]}
    with pytest.raises(DataError, match=f"row 1.*{match}|{match}.*row 1|{match}"):
        TaskDataset(given)
    assert len(TaskDataset(given, on_invalid="drop")) == 1
    assert "1 of 2 rows left out" in caplog.text


@pytest.mark.parametrize("tools", ["add", 3, [3], [{"f": {1, 2}}], {"name": "add"}], ids=repr)
def test_tools_that_are_none(tools: Any) -> None:
    given = {"messages": [[USER, SAID]] * 2, "tools": [None, tools]}
    with pytest.raises(DataError, match="role 'tools': 1 row with .*row 1"):
        TaskDataset(given)
    assert len(TaskDataset(given, on_invalid="drop")) == 1
    assert "tools" not in TaskDataset(given, tools=None).inputs


@pytest.mark.parametrize("options", ["x", 3, [1], {"tools": []}, {"messages": 1}], ids=repr)
def test_template_options_that_are_none(options: Any) -> None:
    with pytest.raises(DataError, match="chat_template_kwargs"):
        TaskDataset({"messages": [[USER, SAID]], "chat_template_kwargs": [options]})


def test_a_tuner_reads_tools_in_training_in_a_preview_and_in_predicting(tmp_path: Path) -> None:
    template, tokenizer = MAPPING, byte_tokenizer(MAPPING, IM)
    model = small(tokenizer)
    given = [
        {"messages": asked({"city": city}), "tools": [TOOL] if city != "Ulm" else None} for city in ("Bonn", "Ulm")
    ]
    data = TaskDataset(given * 2)
    tuner = FineTuner(model, tokenizer=tokenizer, max_steps=1, max_length=None).fit(
        data, TaskDataset([given[1]]), progress=False
    )
    assert '"name": "weather", "parameters"' in "".join(piece.text for piece in tuner.preview(data, 0))
    inputs = [{"messages": row["messages"][:1], "tools": row["tools"]} for row in given]
    fitted = tuner._ready("predict")
    encoded = fitted.read([fitted.task.inputs_of(each) for each in inputs])[1]
    texts = [tokenizer.decode(encoded.inputs["input_ids"][row]) for row in range(2)]
    expected = [plain(template, each["messages"], each["tools"], add_generation_prompt=True) for each in inputs]
    assert texts == expected
    with pytest.raises(DataError, match="tools: an int instead of a list of tools"):
        tuner.predict({"messages": [USER], "tools": 3})


def test_the_same_words_with_other_tools_are_another_question() -> None:
    given = {"messages": [[USER, SAID]] * 3, "tools": [[TOOL], None, [TOOL]]}
    data = TaskDataset(given)
    assert data.report().duplicates.pairs == ((0, 2),)
    bare = TaskDataset({"messages": [[USER, SAID]]})
    assert bare.report(data).leakage is not None
    assert data.report(bare).leakage.exact.pairs == ((1, 0),)  # type: ignore[union-attr]


def test_data_with_tools_and_without_are_added() -> None:
    one, other = TaskDataset({"messages": [[USER, SAID]], "tools": [[TOOL]]}), TaskDataset({"messages": [[USER, SAID]]})
    for both, tools in ((one + other, [[TOOL], None]), (other + one, [None, [TOOL]])):
        assert (both.column("tools"), both.inputs) == (tools, ("messages", "tools"))
        assert len(both.split(0.5, 0.5)) == 2
