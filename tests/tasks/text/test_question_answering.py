"""Spans that answer questions: targets, windows, the best span, the threshold; against plain loops."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError, OptionError
from sftlib.metrics import Metrics
from sftlib.tasks.text.question_answering import Answer, QuestionAnswering, _best_spans, _best_threshold
from sftlib.testing import tiny_tokenizer
from tests.contracts.cases import case_of, encoder_for, losses, tuner_for

NAME = "question-answering"
FILLER = "A dull film, cold and slow from start to end. "


def row_of(before: int, after: int, answer: str | None = "zz 12", question: str = "Where is it?") -> dict[str, Any]:
    context = FILLER * before + (answer or "x") + ". " + FILLER * after
    found = (
        {"text": [], "answer_start": []}
        if answer is None
        else {"text": [answer], "answer_start": [context.index(answer)]}
    )
    return {"question": question, "context": context, "answers": found}


def data_of(*rows: dict[str, Any]) -> TaskDataset:
    return TaskDataset(list(rows), task=NAME)


LONG = data_of(
    row_of(0, 9), row_of(9, 0), row_of(4, 4), row_of(5, 1, None), row_of(0, 0), row_of(3, 3, "a longer answer")
)


def encoded_of(data: TaskDataset, limit: int = 64, **options: Any) -> Any:
    encoder = TextEncoder(tiny_tokenizer(), limit)
    task = QuestionAnswering(**options).learned_from(data)
    return task, encoder, task.encode(data, encoder)


@pytest.mark.parametrize("limit", [24, 40, 64])
@pytest.mark.parametrize("stride", [None, 0, 7])
def test_targets_say_the_answer(limit: int, stride: int | None) -> None:
    _, encoder, encoded = encoded_of(LONG, limit, stride=stride)
    assert encoded.cost.max() <= limit
    assert len(encoded.truncated) == 0
    control = encoder.tokenizer.encode("Where is it?")
    for window, row in enumerate(encoded.owners):
        ids, context, answers = encoded.inputs["input_ids"][window].tolist(), LONG[row]["context"], LONG[row]["answers"]
        starts, ends = encoded.notes["starts"][window], encoded.notes["ends"][window]
        assert ids[: len(control)] == control
        assert not ends[: len(control)].any()
        start, end = (int(encoded.targets[name][window]) for name in ("start", "end"))
        if (start, end) == (0, 0):  # the answer is not there as a whole
            seen = context[starts[len(control)] : ends[-2]]
            assert not answers["text"] or answers["text"][0] not in seen
        else:
            assert context[starts[start] : ends[end]] == answers["text"][0]


def test_every_character_of_a_context_is_read() -> None:
    _, _, encoded = encoded_of(LONG, 30)
    for row in range(len(LONG)):
        places = set()
        for window in np.flatnonzero(encoded.owners == row):
            for start, end in zip(encoded.notes["starts"][window], encoded.notes["ends"][window], strict=True):
                places |= set(range(start, end))
        assert places == {i for i, c in enumerate(LONG[row]["context"]) if c != " "}


def test_the_inputs_are_those_of_the_tokenizer() -> None:
    data = data_of(row_of(0, 1), row_of(1, 0))
    for family in ("bert", "roberta", "gpt2"):
        encoder = encoder_for(family)
        encoded = QuestionAnswering().learned_from(data).encode(data, encoder)
        for i, row in enumerate(data):
            expected = tiny_tokenizer(family)(row["question"], row["context"])
            for name, ragged in encoded.inputs.items():
                assert ragged[i].tolist() == expected[name]


def test_what_looks_like_a_control_token_is_text() -> None:
    data = data_of({"question": "[SEP]?", "context": "[MASK] x", "answers": {"text": ["x"], "answer_start": [7]}})
    _, _, encoded = encoded_of(data)
    ids = encoded.inputs["input_ids"][0].tolist()
    assert [token for token in ids if token in (2, 3, 4)] == [2, 3, 3]


def test_long_questions_leave_half_of_the_limit_and_are_reported() -> None:
    data = data_of(row_of(2, 2, question=FILLER * 9), row_of(2, 2))
    task, _, encoded = encoded_of(data, 43)
    assert set(encoded.owners[encoded.truncated].tolist()) == {0}
    assert len(task.unsupervised(encoded)) == 0
    assert encoded.cost.max() == 43


def test_an_answer_that_fits_no_window_is_not_taught_as_none() -> None:
    data = data_of(row_of(2, 2, FILLER.strip() * 2), row_of(1, 1))
    task, encoder, encoded = encoded_of(data, 20)
    lost = task.unsupervised(encoded)
    assert set(encoded.owners[lost].tolist()) == {0}
    assert len(lost) == int((encoded.owners == 0).sum())
    batch = task.collate(encoded, lost, encoder)
    total, count = task.loss(torch.zeros(*batch.inputs["input_ids"].shape, 2), batch)
    assert (float(total), float(count)) == (0.0, 0.0)
    tuner = tuner_for(NAME, max_length=20)
    assert "lost supervision" in str(tuner.report(data))
    with pytest.raises(DataError, match="nothing left|anything left"):
        tuner.fit(data[:1], progress=False)


def test_the_loss_is_cross_entropy_over_context_and_none() -> None:
    task, encoder, encoded = encoded_of(LONG, 40)
    batch = task.collate(encoded, np.arange(len(encoded)), encoder)
    outputs = torch.randn(*batch.inputs["input_ids"].shape, 2, dtype=torch.float64)
    expected = 0.0
    for window in range(len(encoded)):
        allowed = [0, *np.flatnonzero(encoded.notes["ends"][window]).tolist()]
        for end, name in enumerate(("start", "end")):
            target = allowed.index(int(encoded.targets[name][window]))
            scores = outputs[window, allowed, end]
            expected += float(torch.logsumexp(scores, 0) - scores[target]) / 2
    total, count = task.loss(outputs, batch)
    assert float(total) == pytest.approx(expected, rel=1e-9)
    assert float(count) == len(encoded)


def test_gradients() -> None:
    data = case_of(NAME).data(5)
    task = QuestionAnswering().learned_from(data)
    batch = task.collate(task.encode(data, encoder_for()), np.arange(5), encoder_for())
    outputs = case_of(NAME).fake(task, batch).requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: task.loss(scores, batch)[0], (outputs,), atol=1e-7)


@pytest.mark.parametrize("longest", [1, 3, 30])
def test_the_best_span_is_that_of_a_plain_search(longest: int) -> None:
    generator = torch.Generator().manual_seed(longest)
    scores = torch.randn(20, 17, 2, generator=generator)
    scores[torch.rand(20, 17, generator=generator) < 0.3] = float("-inf")
    scores[3] = float("-inf")
    best, start, end = _best_spans(scores, longest)
    for row in range(20):
        pairs = [(i, j) for i, j in itertools.product(range(17), repeat=2) if i <= j < i + longest]
        expected = max(float(scores[row, i, 0] + scores[row, j, 1]) for i, j in pairs)
        assert float(best[row]) == expected
        if expected > float("-inf"):
            assert float(scores[row, start[row], 0] + scores[row, end[row], 1]) == expected
            assert 0 <= end[row] - start[row] < longest


def test_the_best_of_all_windows_is_the_answer(tmp_path: Path) -> None:
    """Against transformers' own class, window by window."""
    tuner = tuner_for(NAME, max_steps=40, max_length=40, task=QuestionAnswering(stride=8), learning_rate=5e-3).fit(
        LONG, progress=False
    )
    tuner.save(tmp_path / "model")
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for row, mine in zip(LONG, tuner.predict(LONG), strict=True):
        windows = tokenizer(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=40,
            stride=8,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        places, _ = windows.pop("offset_mapping"), windows.pop("overflow_to_sample_mapping")
        with torch.no_grad():
            outputs = model(**windows)
        best, null = (float("-inf"), 0, 0), float("inf")
        for w in range(len(places)):
            inside = [i for i, part in enumerate(windows.sequence_ids(w)) if part == 1]
            start, end = outputs.start_logits[w], outputs.end_logits[w]
            spans = [(float(start[i] + end[j]), i, j) for i in inside for j in inside if i <= j < i + 30]
            score, i, j = max(spans, key=lambda span: span[0])
            best = max(best, (score, int(places[w, i, 0]), int(places[w, j, 1])), key=lambda span: span[0])
            null = min(null, float(start[0] + end[0]))
        assert mine.null_odds == pytest.approx(null - best[0], abs=1e-4)
        assert mine.best == row["context"][best[1] : best[2]]
        expected = (0, 0) if null > best[0] else best[1:]
        assert (mine.start, mine.end) == expected
        assert mine.answer == row["context"][mine.start : mine.end]
    assert FineTuner.load(tmp_path / "model").predict(LONG) == tuner.predict(LONG)


def test_without_unanswerable_questions_in_training_there_is_always_an_answer() -> None:
    data = data_of(row_of(0, 1), row_of(1, 0))
    tuner = tuner_for(NAME, max_steps=1).fit(data, progress=False)
    assert all(found.answer for found in tuner.predict(LONG))
    nothing = tuner.predict({"question": "a", "context": " "})
    assert (nothing.answer, nothing.start, nothing.end) == ("", 0, 0)
    assert "answer=''" in repr(nothing)


@pytest.mark.parametrize("seed", range(30))
def test_the_threshold_is_the_best_there_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(round(float(rng.normal()), 1), float(rng.choice([-1.0, 0.0, 0.5, 1.0]))) for _ in range(12)]
    rows += [(float("inf"), 1.0)]
    found = _best_threshold(rows)

    def gain(threshold: float) -> float:
        return sum(f1 for odds, f1 in rows if odds <= threshold)

    candidates = [-50.0, 0.0, 50.0, *(odds for odds, _ in rows if np.isfinite(odds))]
    assert gain(found) == pytest.approx(max(map(gain, candidates)))


def test_the_threshold_is_fitted_on_validation_data_and_saved(tmp_path: Path) -> None:
    train = data_of(*(row_of(i % 3, 1, None if i % 2 else "zz 12") for i in range(12)))
    valid = data_of(*(row_of(2, i % 3, None if i % 4 == 0 else "zz 12", "Where is the noise?") for i in range(12)))
    options = {"max_steps": 6, "learning_rate": 3e-3, "dropout": 0.0}
    plain = tuner_for(NAME, **options).fit(train, progress=False)
    assert plain._ready("test").task.known.threshold == 0.0
    tuner = tuner_for(NAME, **options).fit(train, valid, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(plain.model.parameters(), tuner.model.parameters(), strict=True))
    threshold = tuner._ready("test").task.known.threshold
    assert threshold != 0.0
    assert tuner.evaluate(valid)["f1"] >= plain.evaluate(valid)["f1"]
    best = max(
        dict(Metrics(["f1"]).update(_cut(tuner.predict(valid), cut), valid.column("answers")))["f1"]
        for cut in [-99.0, 99.0, *(p.null_odds for p in tuner.predict(valid))]
    )
    assert tuner.evaluate(valid)["f1"] == pytest.approx(best)
    tuner.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    assert again._ready("test").task.known.threshold == threshold
    assert dict(again.evaluate(valid)) == dict(tuner.evaluate(valid))
    assert f"{tuner.evaluate(valid)['f1']:.4f}" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def _cut(predictions: list[Answer], threshold: float) -> list[str]:
    return ["" if found.null_odds > threshold else found.best for found in predictions]


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_windows_are_cut_up_in_any_way(family: str) -> None:
    options = {"max_length": 40, "max_steps": 3, "batch_size": 16}
    whole = tuner_for(NAME, family, micro_batch_size=16, **options).fit(LONG, progress=False)
    other = tuner_for(NAME, family, micro_batch_size=3, **options).fit(LONG, progress=False)
    flat = tuner_for(NAME, family, padding_free=True, **options).fit(LONG, progress=False)
    assert losses(other) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(flat) == pytest.approx(losses(whole), rel=1e-5)
    found = [[(p.answer, p.start) for p in whole.predict(LONG, batch_size=size)] for size in (1, 6)]
    assert found[0] == found[1]


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_what_is_frozen_is_computed_once(freeze: Any) -> None:
    tuner = tuner_for(NAME, freeze=freeze, max_length=40, max_steps=4, batch_size=8).fit(LONG, LONG, progress=False)
    assert tuner._ready("test").recall is not None
    assert len(tuner.predict(LONG)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": QuestionAnswering(stride=31)}, "half of their 61 tokens at most, 30"),
        ({"max_length": 3}, "no room"),
        ({"label_smoothing": 0.1}, "label_smoothing"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        tuner_for(NAME, **options).fit(LONG, progress=False)
    with pytest.raises(OptionError, match=r"stride=-1: .*\nmax_answer_length=0: "):
        QuestionAnswering(max_answer_length=0, stride=-1)


class Ends(torch.nn.Module):
    """A module of somebody's own."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(300, 2)
        self.form = form

    def forward(self, input_ids: torch.Tensor) -> Any:
        scores = self.table(input_ids)
        start, end = scores.unbind(-1)
        forms = {"tensor": scores, "tuple": (start, end), "dict": {"start_logits": start, "end_logits": end}}
        return forms.get(self.form, {"logits": scores})


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_modules_of_any_form(form: str) -> None:
    tuner = FineTuner(Ends(form), tokenizer=tiny_tokenizer(), max_steps=2, precision="fp32").fit(LONG, progress=False)
    assert len(tuner.predict(LONG)) == 6


def test_modules_of_another_form_are_refused() -> None:
    with pytest.raises(OptionError, match="start_logits"):
        FineTuner(Ends("other"), tokenizer=tiny_tokenizer()).fit(LONG, progress=False)
