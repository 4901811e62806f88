"""Dirty words, spans, answers, messages and completions: a typed error that names the row, never a raw traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sftlib.data import TaskDataset
from sftlib.data.files import spool
from sftlib.data.kinds.answers import AnswersRole
from sftlib.data.kinds.messages import _FOLLOWS, ROLES, MessagesRole
from sftlib.data.kinds.spans import SpanRole
from sftlib.data.kinds.values import FilledTextRole
from sftlib.data.kinds.words import TagsRole, TokensRole
from sftlib.data.roles.relations import AnswersInside
from sftlib.errors import DataError, LabelError, SftlibError

NAN = float("nan")
TEXT = "Ada met Bob in Paris."


def tagged(tokens: Any, tags: Any) -> TaskDataset:
    return TaskDataset({"tokens": [["a"], tokens], "tags": [["O"], tags]})


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        (None, "a missing value: row 1"),
        (NAN, "a missing value: row 1"),
        ("a b", r"a str instead of a list of words: row 1 \('a b'\); cut it into words"),
        ({"a"}, "a set instead of a list of words"),
        (7, "an int instead of a list of words"),
        ([], r"no words: row 1 \(\[\]\)"),
        (np.array([]), "no words: row 1"),
        (["a", None], "a missing word: row 1"),
        (["a", NAN], "a missing word: row 1"),
        (["a", 3], r"an int instead of a word: row 1 \(3\)"),
        (["a", ["b"]], "a list instead of a word"),
        (["a", b"b"], "a bytes instead of a word"),
        (["a", ""], "a blank word"),
        (["a", "\u00a0"], "a blank word"),
        (["a", "\ud800"], "a lone surrogate.* in a word"),
        (np.array([["a"], ["b"]]), "a list instead of a word"),
    ],
    ids=repr,
)
def test_words_that_are_none(tokens: Any, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        tagged(tokens, ["O", "O"])
    assert type(caught.value) is DataError


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        (None, "missing tags: row 1"),
        ("O O", "a str instead of a list of tags"),
        (["O"], r"another number of tags than of tokens: row 1 \(tokens: 2, tags: 1\)"),
        ([], "another number of tags than of tokens: row 1"),
        (["O", None], "a missing tag: row 1"),
        (["O", 1], r"an int instead of a tag: row 1 \(1\); write each tag by its name"),
        (["O", ["O"]], "a list instead of a tag"),
        (["O", " "], "a blank tag"),
        (["O", "\udfff"], "a tag that holds a lone surrogate"),
    ],
    ids=repr,
)
def test_tags_that_are_none(tags: Any, match: str) -> None:
    with pytest.raises(LabelError, match=match):
        tagged(["a", "b"], tags)


def test_words_and_tags_become_lists_of_pythons_own() -> None:
    words = [("a", np.str_("b")), np.array(["c"]), np.array(["d"], object)]
    data = TaskDataset({"tokens": words, "tags": [("B-X", "O"), np.array(["O"]), ["I-X"]]})
    assert data.column("tokens") == [["a", "b"], ["c"], ["d"]]
    assert data.column("tags") == [["B-X", "O"], ["O"], ["I-X"]]
    assert {type(word) for row in data for word in row["tokens"] + row["tags"]} == {str}
    assert data.label_names == ("B-X", "I-X", "O")
    assert data.label_counts() == {"B-X": 1, "I-X": 1, "O": 2}


def test_tags_outside_the_declared_names() -> None:
    names = ["O", "B-PER", "I-PER"]
    assert TaskDataset({"tokens": [["a"]], "tags": [["O"]]}, label_names=names).label_names == tuple(names)
    with pytest.raises(LabelError, match=r"row 0 \('B-PRE', did you mean 'B-PER'\?\)"):
        TaskDataset({"tokens": [["a"]], "tags": [["B-PRE"]]}, label_names=names)


def test_class_numbers_become_the_names_of_their_feature() -> None:
    datasets = pytest.importorskip("datasets")
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-PER", "B-ORG"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[1, 0]]}, features)
    data = TaskDataset(rows, tags="ner_tags")
    assert (data[0]["tags"], data.label_names) == (["B-PER", "O"], ("O", "B-PER", "B-ORG"))
    rows = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[-1, 0]]}, features)
    with pytest.raises(LabelError, match="a missing tag: row 0"):
        TaskDataset(rows, tags="ner_tags")


def related(head: Any, **more: Any) -> TaskDataset:
    rows = {"text": [TEXT, TEXT], "head": [(0, 3), head], "tail": [(8, 11), (8, 11)], "label": ["knows", "knows"]}
    return TaskDataset(rows | more)


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (None, "a missing span: row 1"),
        ("Ada", "a str instead of a span"),
        ((0, 3, 4), "a tuple instead of a span"),
        ({"start": 0}, "a dict instead of a span"),
        ((0.0, 3.0), "a span that is no pair of whole numbers"),
        ((0, None), "a span that is no pair of whole numbers"),
        ((False, True), "a span that is no pair of whole numbers"),
        ((-3, 2), "a span that begins before the text"),
        ((3, 3), "an empty span"),
        ((5, 3), "a span that ends before it begins"),
        ((0, 22), r"a span beyond the end of text: row 1 \(\(0, 22\), text has 21 characters\)"),
        ((8, 11), "the same span as head and tail: row 1"),
        (np.array([[0, 1]]), "a ndarray instead of a span"),
    ],
    ids=repr,
)
def test_spans_that_are_none(head: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        related(head)


@pytest.mark.parametrize("head", [(15, 20), [15, 20], np.array([15, 20]), {"start": np.int64(15), "end": 20}])
def test_spans_become_pairs(head: Any) -> None:
    data = related(head)
    assert data[1]["head"] == (15, 20)
    assert {type(place) for place in data[1]["head"]} == {int}
    assert TEXT[slice(*data[1]["head"])] == "Paris"


def test_spans_count_words_where_there_are_words() -> None:
    tokens = TEXT.split()
    data = TaskDataset({"tokens": [tokens], "head": [(0, 1)], "tail": [(2, 3)], "label": ["knows"]})
    assert (data.task, data.inputs) == ("relation-extraction", ("tokens", "head", "tail"))
    with pytest.raises(DataError, match=r"a span beyond the end of tokens: row 0 \(\(4, 6\), tokens has 5 words\)"):
        TaskDataset({"tokens": [tokens], "head": [(0, 1)], "tail": [(4, 6)], "label": ["knows"]})


def test_everything_wrong_with_several_roles_comes_in_one_error() -> None:
    rows = {
        "text": [TEXT, None, TEXT, TEXT],
        "head": [None, (0, 3), (0, 30), (0, 3)],
        "tail": [(8, 11), (8, 11), (8, 11), (0, 3)],
        "label": ["a", "b", "c", None],
    }
    with pytest.raises(DataError) as caught:
        TaskDataset(rows)
    found = [line.split(";")[0] for line in str(caught.value).splitlines()]
    assert found == [
        "role 'text': 1 row with a missing value: row 1",
        "role 'head': 1 row with a missing span: row 0",
        "role 'label': 1 row with a missing label: row 3",
        "role 'head': 1 row with a span beyond the end of text: row 2 ((0, 30), text has 21 characters)",
        "role 'tail': 1 row with the same span as head and tail: row 3 ((0, 3))",
    ]


def asked(answers: Any) -> TaskDataset:
    return TaskDataset({"question": ["Where?"], "context": [TEXT], "answers": [answers]})


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        (None, "missing answers: row 0"),
        ("Paris", "a str that holds no answers"),
        (["Paris"], "a list that holds no answers"),
        ({"text": "Paris", "answer_start": 15}, "a dict that holds no answers"),
        ({"text": ["Paris"]}, "a dict that holds no answers"),
        ({"text": ["Paris"], "answer_start": []}, r"another number of texts than of starts: row 0 \(1 and 0\)"),
        ({"text": [None], "answer_start": [15]}, "a missing value as answer"),
        ({"text": [3], "answer_start": [15]}, "an int as answer"),
        ({"text": [" "], "answer_start": [14]}, "a blank answer"),
        ({"text": ["\ud800"], "answer_start": [14]}, "lone surrogate"),
        ({"text": ["Paris"], "answer_start": ["15"]}, "an answer_start that is no whole number"),
        ({"text": ["Paris"], "answer_start": [True]}, "an answer_start that is no whole number"),
        ({"text": ["Paris"], "answer_start": [-1]}, "an answer_start that is no whole number"),
        ([{"text": "Paris", "answer_start": 14}], r"row 0 \('Paris', not at 14 but at 15\)"),
        ([{"text": "Rome", "answer_start": 14}], r"row 0 \('Rome', not at 14 nor anywhere else\)"),
        ([{"text": "Paris", "answer_start": 10**9}], "not at 1000000000 but at 15"),
        ([{"text": "Paris", "answer_start": 15}, {"text": "paris", "answer_start": 15}], "nor anywhere else"),
    ],
    ids=repr,
)
def test_answers_that_are_none(answers: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        asked(answers)


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Paris"], "answer_start": [15]},
        {"text": np.array(["Paris"]), "answer_start": np.array([15], np.int32)},
        [{"text": "Paris", "answer_start": 15, "answer_end": 20}],
        ({"text": np.str_("Paris"), "answer_start": np.int64(15)},),
    ],
    ids=repr,
)
def test_answers_become_two_lists(answers: Any) -> None:
    found = asked(answers)[0]["answers"]
    assert found == {"text": ["Paris"], "answer_start": [15]}
    assert (type(found["text"][0]), type(found["answer_start"][0])) == (str, int)


@pytest.mark.parametrize("answers", [[], {"text": [], "answer_start": []}, ()])
def test_a_question_without_an_answer(answers: Any) -> None:
    data = asked(answers)
    assert data[0]["answers"] == {"text": [], "answer_start": []}
    assert data.is_labelled


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(0, 12))
def test_an_answer_is_found_where_it_stands(context: str, text: str, start: int) -> None:
    breach = AnswersInside("context", "answers").breach(context, {"text": [text], "answer_start": [start]})
    places = [place for place in range(len(context)) if context[place : place + len(text)] == text]
    assert (breach is None) == (start in places)
    if breach is not None and places:
        named = int(breach.note.rpartition(" ")[2])
        assert named in places
        assert abs(named - start) == min(abs(place - start) for place in places)


def turn(role: Any, content: Any = "x", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def said(messages: Any) -> TaskDataset:
    return TaskDataset({"messages": [[turn("user"), turn("assistant")], messages]})


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        (None, "a missing value: row 1"),
        ("Hi.", "a str instead of a list of turns"),
        (turn("user"), "a dict instead of a list of turns"),
        ([], "a conversation in which nobody speaks"),
        ([turn("system")], "a conversation in which nobody speaks"),
        (["Hi."], "a str instead of a turn"),
        ([{"role": "user"}], r"a turn that lacks its role or its content: row 1 \(turn 0: 'role'\)"),
        ([{"content": "x"}], "a turn that lacks its role"),
        ([{}], "a turn that lacks its role"),
        (
            [turn("asistant")],
            r"an unknown role: row 1 \('asistant'\); did you mean 'assistant'\?; the roles are system",
        ),
        ([turn(None)], "an unknown role"),
        ([turn(["user"])], "an unknown role"),
        ([turn("user", None)], "a turn without content"),
        ([turn("user", 3)], "an int as content"),
        ([turn("user", [{"type": "image", "image": "x.png"}])], "content with parts that are no text.*turn 0"),
        ([turn("user", ["x"])], "content with parts that are no text"),
        ([turn("user", {"x": 1})], "a dict as content.*json.dumps"),
        (
            [turn("user"), turn("assistant", "x", weight=1.5)],
            "a weight that is no number from 0 to 1: row 1 .1.5, turn 1: weight",
        ),
        ([turn("user"), turn("assistant", "x", train="yes")], "a weight that is no number from 0 to 1"),
        ([turn("user"), turn("assistant", "", tool_calls="add")], "calls of tools that are no list of calls"),
        (
            [turn("user"), turn("assistant", "", tool_calls=[{"name": "a", "arguments": "{x"}])],
            "that are no JSON object",
        ),
        ([turn("user"), turn("assistant", "", tool_calls=[{"name": "a", "arguments": "[1]"}])], "no JSON object"),
        ([turn("user", "\ud800")], "lone surrogate"),
        ([turn("user"), turn("assistant", " ")], "a blank turn of the assistant"),
        ([turn("user"), turn("assistant", None)], "a turn without content"),
        ([turn("user"), turn("assistant", "x", tool_calls=[{1, 2}])], "a turn that holds more than JSON knows"),
        ([turn("user", name="\ud800")], "a turn that holds more than JSON knows"),
        ([turn("assistant")], "roles out of order: row 1 .turn 0: assistant at the beginning."),
        ([turn("tool")], "turn 0: tool at the beginning"),
        ([turn("user"), turn("system")], "turn 1: system after user"),
        ([turn("system"), turn("system")], "a conversation in which nobody speaks"),
        ([turn("system"), turn("system"), turn("assistant")], "turn 2: assistant after system"),
        ([turn("system"), turn("assistant")], "turn 1: assistant after system"),
        ([turn("user"), turn("user")], "turn 1: user after user"),
        ([turn("user"), turn("tool")], "turn 1: tool after user"),
        ([turn("user"), turn("assistant"), turn("assistant")], "turn 2: assistant after assistant"),
        ([turn("user"), turn("assistant"), turn("tool"), turn("user")], "turn 3: user after tool"),
    ],
    ids=repr,
)
def test_messages_that_are_none(messages: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        said(messages)


@given(st.lists(st.sampled_from(ROLES), max_size=6))
def test_the_order_of_roles(roles: list[str]) -> None:
    fault = MessagesRole().fault([turn(role) for role in roles])
    steps = zip([None, *roles], roles, strict=False)
    good = all(role in _FOLLOWS[before] for before, role in steps) and bool({"user"} & set(roles))
    assert (fault is None) == good


def test_messages_become_plain_turns() -> None:
    call = {"function": {"name": "look_up", "arguments": {"n": np.int64(3), "where": ("a", None)}}}
    rows = np.array(
        [
            {"from": "system", "value": "Be kind."},
            {"from": "human", "value": np.str_("Hi."), "weight": None},
            turn("assistant", None, tool_calls=[call]),
            {"from": "observation", "value": "42"},
            {"from": "gpt", "value": "It is 42.", "weight": np.float32(1)},
        ],
        object,
    )
    messages = said(rows)[1]["messages"]
    assert messages == [
        turn("system", "Be kind."),
        turn("user", "Hi."),
        turn(
            "assistant", "", tool_calls=[{"function": {"name": "look_up", "arguments": {"n": 3, "where": ["a", None]}}}]
        ),
        turn("tool", "42"),
        turn("assistant", "It is 42.", weight=1.0),
    ]
    assert json.loads(json.dumps(messages)) == messages


def test_messages_supervise_themselves_where_the_assistant_speaks() -> None:
    whole, asking = [turn("user"), turn("assistant")], [turn("user")]
    assert TaskDataset({"messages": [whole]}).is_labelled
    data = TaskDataset({"messages": [whole, asking, whole, asking]})
    assert (data.task, data.is_labelled, data.without_target.tolist()) == ("causal-lm", False, [1, 3])
    answered = data.filter(lambda row: row["messages"][-1]["role"] == "assistant")
    assert (len(answered), answered.is_labelled) == (2, True)
    assert data.select([3, 0]).without_target.tolist() == [0]
    assert (answered + data.select([1])).without_target.tolist() == [2]
    assert TaskDataset({"prompt": ["a"], "completion": ["b"]}).is_labelled
    assert not TaskDataset({"prompt": ["a"]}).is_labelled
    assert TaskDataset({"text": ["a"]}, task="masked-lm").is_labelled


@pytest.mark.parametrize(
    ("completion", "match"),
    [
        ("", r"a blank text, with nothing to learn: row 1 \(''\)"),
        (" \n", "a blank text"),
        (None, "missing"),
        (3, "int"),
    ],
)
def test_completions_that_are_none(completion: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        TaskDataset({"prompt": ["a", "b"], "completion": ["c", completion]})


SAMPLES: dict[str, dict[str, list[Any]]] = {
    "token-classification": {
        "tokens": [["a", str(i // 2)] for i in range(20)],
        "tags": [["O", "B-X" if i % 3 else "O"] for i in range(20)],
    },
    "relation-extraction": {
        "text": [f"{TEXT} {i // 2}" for i in range(20)],
        "head": [(0, 3)] * 20,
        "tail": [[8, 11]] * 20,
        "label": ["yes", "no"] * 10,
    },
    "question-answering": {
        "question": [f"Where? {i // 2}" for i in range(20)],
        "context": [TEXT] * 20,
        "answers": [[{"text": "Paris", "answer_start": 15}] * (i % 2) for i in range(20)],
    },
    "seq2seq": {"source": [str(i // 2) for i in range(20)], "target": [str(i) for i in range(20)]},
    "causal-lm": {"messages": [[turn("user", str(i // 2)), turn("assistant", str(i))] for i in range(20)]},
}


@pytest.mark.parametrize("task", SAMPLES)
def test_a_data_set_of_each_task_works_throughout(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = TaskDataset(SAMPLES[task])
    assert (data.task, data.is_labelled) == (task, True)
    train, test = data.split(0.7, 0.3)
    assert sorted([*train.positions, *test.positions]) == list(range(20))
    groups = [{int(position) // 2 for position in part.positions} for part in (train, test)]
    assert not groups[0] & groups[1]  # every input stands there twice
    report = data.report(train, other_name="train")
    assert (report.duplicates.count, report.leakage.exact.count) == (10, len(train))  # type: ignore[union-attr]
    assert str(report)
    assert data._repr_html_()
    assert data.map(dict).fingerprint() == data.fingerprint()
    assert (train + test).select(np.argsort([*train.positions, *test.positions])).fingerprint() == data.fingerprint()
    before = data.fingerprint()
    for row in data:
        change(row)
    assert data.fingerprint() == before
    path = tmp_path / "rows.jsonl"
    columns = SAMPLES[task]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert TaskDataset.from_jsonl(path).fingerprint() == before
    monkeypatch.setattr(spool, "FILE_LIMIT", 0)
    large = TaskDataset.from_jsonl(path)
    assert large.fingerprint() == before
    assert large.without_target.tolist() == []
    assert list(large) == list(data)
    for one, other in zip(large.split(0.7, 0.3), (train, test), strict=True):
        assert one.fingerprint() == other.fingerprint()
    assert str(large.report()) == str(data.report())


def change(value: Any) -> None:
    """Change everything in a value that can be changed."""
    if isinstance(value, list | dict):
        for member in value if isinstance(value, list) else value.values():
            change(member)
        value.clear()


def test_bad_rows_of_a_large_file_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "FILE_LIMIT", 0)
    path = tmp_path / "rows.jsonl"
    rows = [{"tokens": ["a"], "tags": ["O"]}, {"tokens": [], "tags": []}, {"tokens": ["a", "b"], "tags": ["O"]}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError) as caught:
        TaskDataset.from_jsonl(path)
    assert "role 'tokens': 1 row with no words: row 1" in str(caught.value)
    assert "role 'tags': 1 row with another number of tags than of tokens: row 2" in str(caught.value)


def test_cells_of_a_table_hold_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('tokens,tags\n"[""a"", ""b""]","[""O"", ""B-X""]"\n')
    assert TaskDataset.from_csv(path)[0] == {"tokens": ["a", "b"], "tags": ["O", "B-X"]}
    path.write_text("tokens,tags\na b,O O\n,\n")
    with pytest.raises(DataError, match="a str instead of a list of words: row 0") as caught:
        TaskDataset.from_csv(path)
    assert "missing tags: row 1" in str(caught.value)
    path.write_text('messages\n"[{""role"": ""user"", ""content"": ""Hi.""}]"\n')
    assert TaskDataset.from_csv(path)[0]["messages"] == [turn("user", "Hi.")]


def test_the_report_counts_words_by_their_tags() -> None:
    data = TaskDataset({"tokens": [["a", "b", "c"], ["A", "b", "c"]], "tags": [["O", "O", "X"], ["X", "O", "O"]]})
    report = data.report()
    assert (report.label_counts, report.unit, report.imbalance) == ({"O": 4, "X": 2}, "words", None)
    assert report.lengths["tokens"]["max"] == 3
    assert report.measures == {"tokens": "words"}
    assert report.conflicts.count == 1  # the same tags in another order are others
    assert report.normalised_duplicates.count == 1
    only = TaskDataset({"tokens": [["a", "b"]], "tags": [["O", "O"]]}, label_names=["O", "X"]).report()
    assert only.problems == ["every word has the label 'O': there is nothing to learn", "1 class without words: 'X'"]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 30), st.floats(), st.text(max_size=3), st.binary(max_size=2),
    st.sampled_from(["user", "assistant", "human", "\ud800", "a", np.int64(1), np.str_("x"), NAN]),
)  # fmt: skip
KEYS = st.sampled_from(["role", "content", "from", "value", "text", "answer_start", "start", "end", "tool_calls", 3])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
KINDS = [TokensRole(), TagsRole(), SpanRole(), AnswersRole(), MessagesRole(), FilledTextRole()]


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES)
def test_a_kind_refuses_a_value_or_makes_it_plain(value: Any) -> None:
    for kind in KINDS:
        if kind.check([value]):
            continue
        (plain,) = kind.normalise([value])
        assert not kind.check([plain])
        assert kind.normalise([plain]) == [plain]
        assert not kind.check(kind.parse([json.dumps(plain)]))
        hash(kind.comparable(plain))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_rows_with_a_value_that_is_anything(task: str, draw: st.DataObject) -> None:
    rows = [{role: values[row] for role, values in SAMPLES[task].items()} for row in range(2)]
    rows[1][draw.draw(st.sampled_from(sorted(rows[1])))] = draw.draw(VALUES)
    try:
        data = TaskDataset(rows)
    except SftlibError as error:
        str(error).encode("utf-8")
        return
    assert data.map(dict).fingerprint() == data.fingerprint()
    assert str(data.report(data))
    assert data._repr_html_()
