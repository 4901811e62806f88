"""Tokens that were kept are those that would be made, on every registered task; and nothing is tokenised twice."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from sftlib import CausalLM, QuestionAnswering, TaskDataset
from sftlib.data import scratch
from sftlib.data.scratch import in_memory
from sftlib.encoders.encoded import Encoded, Ragged
from sftlib.encoders.text import templates
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.encoders.writer import Writer
from sftlib.errors import SftlibError
from sftlib.run import encodings as module
from sftlib.run.encodings import Encodings
from sftlib.tasks.base import Task
from sftlib.tasks.pairs import Form
from sftlib.tasks.text.regression import TextRegression
from sftlib.tasks.text.texts import SequenceTask
from sftlib.testing import MAX_LENGTH, tiny_tokenizer
from tests.contracts.cases import OF_TEXTS as NAMES
from tests.contracts.cases import case_of, task_class, tuner_for

every = pytest.mark.parametrize("name", NAMES)
MORE_TASKS: Mapping[str, tuple[Task, ...]] = {
    "causal-lm": (CausalLM(train_on="last"), CausalLM(over_long="error")),
    "question-answering": (QuestionAnswering(stride=0),),
}
#: Other targets for the same rows, where those of another row will not do.
RELABELLED: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "tags": lambda rows: [row[::-1] for row in rows],
    "answers": lambda rows: [row if i % 2 else {"text": [], "answer_start": []} for i, row in enumerate(rows)],
}


def task_of(name: str, task: Task | None = None) -> Task:
    return (task or task_class(name)()).learned_from(case_of(name).data())


def encoder_of(name: str, max_length: int = MAX_LENGTH, family: str | None = None) -> TextEncoder:
    """A tokenizer with whatever the task adds to it."""
    tokenizer = copy.deepcopy(tiny_tokenizer(family or case_of(name).families[0]))
    tokenizer.add_special_tokens({"additional_special_tokens": list(task_of(name).markers)})
    return TextEncoder(tokenizer, max_length)


def facts(encoded: Encoded) -> dict[str, Any]:
    """Every field as plain values, with its type."""

    def plain(part: Any) -> Any:
        if isinstance(part, Ragged):
            return [part.values.dtype.str, part.lengths.tolist(), part.values.tolist()]
        return [part.dtype.str, part.tolist()]

    parts = {"inputs": encoded.inputs, "targets": encoded.targets, "notes": encoded.notes}
    fields = {kind: {name: plain(part) for name, part in there.items()} for kind, there in parts.items()}
    others = {"cut": encoded.cut, "owners": encoded.owners, "cost": encoded.cost}
    return {**fields, **{name: plain(part) for name, part in others.items()}, "digest": encoded.digest()}


def large_arrays(encoded: Encoded) -> list[Any]:
    """One number for each token."""
    parts = [*encoded.inputs.values(), *encoded.targets.values(), *encoded.notes.values()]
    return [part._flat for part in parts if isinstance(part, Ragged)]


def outcome(encode: Callable[[], Encoded]) -> Any:
    """What was made, or what was said against it."""
    try:
        return facts(encode())
    except SftlibError as error:
        return type(error), str(error)


def relabelled(data: TaskDataset) -> TaskDataset:
    columns = {role: data.column(role) for role in data.roles}
    for role in data.targets:
        columns[role] = RELABELLED.get(role, lambda rows: rows[1:] + rows[:1])(columns[role])
    return TaskDataset(columns, task=data.task)


def variants(data: TaskDataset) -> list[TaskDataset]:
    """The whole, its sides and folds, rows out of order and twice, and the same rows with other targets."""
    order = np.random.default_rng(5).permutation(len(data)).tolist()
    folds = [data.select([row for row in range(len(data)) if row % 4 != fold]) for fold in range(4)]
    return [data, *data.split(0.6, 0.4), *folds, data.select([*order, 3, 3]), data[:5], relabelled(data), data[::-1]]


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call to a tokenizer got, but for the few that ask after control tokens and examples."""
    calls: list[int] = []
    original = PreTrainedTokenizerBase.__call__

    def counted(self: Any, text: Any = None, *more: Any, **options: Any) -> Any:
        given = options.get("text_target") if text is None else text
        calls.extend([len(given)] if len(given) > 3 else [])
        return original(self, text, *more, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", counted)
    return calls


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each task was asked to write, but for examples."""
    rows: list[int] = []
    for task in {task_class(name) for name in NAMES}:

        def counted(self: Any, data: Any, *more: Any, original: Any = task.write) -> None:
            rows.extend([len(data)] if len(data) > 3 else [])
            original(self, data, *more)

        monkeypatch.setattr(task, "write", counted)
    return rows


@every
@pytest.mark.parametrize("place", ["memory", "folder", "scratch"])
def test_kept_tokens_are_those_that_would_be_made(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All data, options and tokenizers go through one store, so that whatever its key leaves out comes up."""
    monkeypatch.setattr(module, "_KEPT", 1000)
    monkeypatch.setattr(scratch, "MEMORY_LIMIT", 0 if place == "scratch" else scratch.MEMORY_LIMIT)
    kept = Encodings(tmp_path if place == "folder" else None)
    tasks = [*case_of(name).tasks, *MORE_TASKS.get(name, ())]
    other = next(family for family in ("gpt2", "roberta", "t5") if family != case_of(name).families[0])
    encoders = [encoder_of(name), encoder_of(name, 12), encoder_of(name, family=other)]
    compared = 0
    for encoder in encoders if place == "memory" else encoders[:1]:
        for task in (task_of(name, given) for given in tasks):
            for data in variants(case_of(name).data()):
                expected = outcome(lambda task=task, data=data, encoder=encoder: task.encode(data, encoder))  # type: ignore[misc]
                found = outcome(lambda task=task, data=data, encoder=encoder: kept.encode(task, data, encoder))  # type: ignore[misc]
                assert found == expected
                compared += isinstance(expected, dict)
    assert compared > 10
    bound = 0 if place != "memory" else 2**28  # beyond the limit, and in a folder, all but small arrays lie in files
    assert all(in_memory(part) <= bound for tokens in kept._kept.values() for part in large_arrays(tokens))
    plain = case_of(name).plain()
    assert facts(kept.encode(task_of(name), plain, encoders[0])) == facts(task_of(name).encode(plain, encoders[0]))


@every
def test_a_second_time_nothing_is_tokenised(name: str, texts: list[int]) -> None:
    kept, encoder, data = Encodings(), encoder_of(name), case_of(name).data()
    kept.encode(task_of(name), data, encoder)
    assert sum(texts) >= len(data) / 2
    texts.clear()
    for part in (data, *data.split(0.6, 0.4), data[::-1], data[:5], case_of(name).data()):
        kept.encode(task_of(name), part, encoder_of(name))
    assert texts == []


@every
def test_tuners_folds_and_later_processes_write_nothing_anew(name: str, written: list[int], tmp_path: Path) -> None:
    data = case_of(name).data()
    train, valid = data.split(0.7, 0.3)
    tuner = tuner_for(name, max_steps=1, cache_dir=tmp_path / "cache").fit(train, valid, progress=False)
    assert written == [32]
    tuner.fit(train, valid, progress=False).evaluate(valid)
    tuner.clone().fit(data.select([row for row in range(32) if row % 4]), progress=False)
    tuner_for(name, max_steps=1, cache_dir=tmp_path / "cache", seed=3).fit(train, progress=False)
    assert written == [32]


@every
def test_damage_is_noticed_in_every_file(name: str, written: list[int], tmp_path: Path) -> None:
    task, data, encoder = task_of(name), case_of(name).data(), encoder_of(name)
    expected = facts(Encodings(tmp_path).encode(task, data, encoder))
    (entry,) = tmp_path.iterdir()
    for path in sorted(entry.iterdir()):
        whole = path.read_bytes()
        for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-4], b""):
            path.write_bytes(damaged)
            written.clear()
            assert facts(Encodings(tmp_path).encode(task, data, encoder)) == expected
            assert written == [32]
        path.unlink()
        assert facts(Encodings(tmp_path).encode(task, data, encoder)) == expected
        assert facts(Encodings(tmp_path).encode(task, data, encoder)) == expected
        assert written == [32, 32]


@every
def test_labels_beside_tokens_are_no_part_of_the_key(name: str, written: list[int]) -> None:
    kept, data, encoder = Encodings(), case_of(name).data(), encoder_of(name)
    kept.encode(task_of(name), data, encoder)
    kept.encode(task_of(name), relabelled(data), encoder)
    woven = {"causal-lm", "seq2seq", "question-answering", "text-embedding"}
    assert written == ([32, 32] if name in woven else [32])


@final
class Shouting(SequenceTask):
    """A user's task that reads what others read and writes something else."""

    name = "text-regression"

    def write(self, data: Any, encoder: Any, writer: Writer) -> None:  # type: ignore[misc]
        for chunk in encoder.encode([text.upper() for text in data.view("text")]):
            writer.add(chunk.inputs, lengths=chunk.lengths, cut=chunk.cut)

    targets = loss = decode = references = None  # type: ignore[assignment]


def test_tasks_that_read_the_same_but_write_something_else(tmp_path: Path) -> None:
    data = case_of("text-embedding").data()
    pairs = TaskDataset({role: data.column(role) for role in ("text", "text_pair")}, task="text-regression")
    encoder, kept = encoder_of("text-embedding"), Encodings(tmp_path)
    classes = TextRegression(learned=Form(pair=True))
    for task, rows in ((task_of("text-embedding"), data), (classes, pairs), (task_of("text-embedding"), data)):
        assert facts(kept.encode(task, rows, encoder)) == facts(task.encode(rows, encoder))
    single = TaskDataset({"text": data.column("text")}, task="text-regression")
    plain = TextRegression(learned=Form())
    for task in (plain, Shouting(learned=Form()), plain):
        assert facts(kept.encode(task, single, encoder)) == facts(task.encode(single, encoder))


def conversations(count: int = 20) -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": f"{i} and 1?"}, {"role": "assistant", "content": f"{i + 1}, I think."}]
        for i in range(count)
    ]


def chat_encoder(template: str, longest: int | None = None) -> TextEncoder:
    tokenizer = copy.deepcopy(tiny_tokenizer("gpt2"))
    tokenizer.chat_template = template
    return TextEncoder(tokenizer, 32, longest)


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"


def test_another_template_makes_other_tokens(tmp_path: Path) -> None:
    data = TaskDataset({"messages": conversations()})
    kept, task = Encodings(tmp_path), task_class("causal-lm")().learned_from(data)
    found = [
        facts(kept.encode(task, data, chat_encoder(template)))
        for template in (TEMPLATE, TEMPLATE.replace("<", "["), TEMPLATE)
    ]
    assert found[0] == found[2] == facts(task.encode(data, chat_encoder(TEMPLATE)))
    assert found[1] == facts(task.encode(data, chat_encoder(TEMPLATE.replace("<", "["))))
    assert found[1] != found[0]
    assert len(list(tmp_path.iterdir())) == 2


def test_rows_that_cannot_be_encoded_concern_only_data_that_holds_them(tmp_path: Path, texts: list[int]) -> None:
    rows = conversations()
    rows[17] = [{"role": "user", "content": "many words " * 40}]  # leaves no room for an answer
    data = TaskDataset({"messages": rows})
    kept, task, encoder = Encodings(tmp_path), task_class("causal-lm")().learned_from(data), chat_encoder(TEMPLATE, 40)
    train, rest = data[:15], data[15:]
    assert facts(kept.encode(task, train, encoder)) == facts(task.encode(train, encoder))
    texts.clear()
    kept.encode(task, rest[:2], encoder)
    assert texts == []  # too few to be counted
    for part, row in ((data, 17), (rest, 2), (data[::-1], 2)):
        with pytest.raises(SftlibError, match=rf"no room for an answer .* row {row};"):
            kept.encode(task, part, encoder)
    assert len(list(tmp_path.iterdir())) == 2


def test_questions_are_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their template may tell the time; the rows with answers, which are told a fixed one, are kept."""
    rows = conversations()
    rows[3] = rows[3][:1]
    data = TaskDataset({"messages": rows})
    answered = data.filter(lambda row: len(row["messages"]) == 2)
    assert answered.is_labelled > data.is_labelled
    kept, task = Encodings(tmp_path), task_class("causal-lm")().learned_from(answered)
    found = []
    for year in (2026, 2031):
        monkeypatch.setattr(templates, "datetime", SimpleNamespace(now=lambda year=year: datetime(year, 5, 1)))
        encoder = chat_encoder("{{ strftime_now('%Y') }} " + TEMPLATE)
        for part in (answered, data, data[2:5], data[5:]):
            found.append(facts(kept.encode(task, part, encoder)))
            assert found[-1] == facts(task.encode(part, chat_encoder("{{ strftime_now('%Y') }} " + TEMPLATE)))
    assert [one == other for one, other in zip(found[:4], found[4:], strict=True)] == [True, False, False, True]


def test_the_language_of_targets_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    task, encoder = task_of("seq2seq"), encoder_of("seq2seq")
    before = task.write_options(encoder)
    assert task.write_options(encoder_of("seq2seq")) == before
    monkeypatch.setattr(TextEncoder, "around_targets", lambda self: [5, 1])
    assert task.write_options(encoder) != before
