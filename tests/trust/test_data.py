"""Trust 18, 20, 21 and 22: losses, what truncation takes away, dirty rows, and leakage."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.encoders.batch import IGNORED
from sftlib.encoders.encoded import Ragged
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError, NonFiniteError, SftlibError
from sftlib.models.language.output_layers import Hidden
from sftlib.tasks import TASKS, find_task
from sftlib.tasks.audio.by_frames import Frames
from sftlib.tasks.base import Task
from sftlib.tasks.identities import Seen
from sftlib.tasks.text.classification import TextClassification
from sftlib.testing import SENTENCES, tiny_model, tiny_tokenizer
from tests.chat_templates import byte_tokenizer
from tests.contracts.cases import case_of, tuner_for
from tests.data.look.test_report import disguised, sentences
from tests.tasks.test_losses import LOSSES, NAMES, ROWS, batch_of, labels, loss_of, scores
from tests.tasks.text.test_causal_lm import byte_model, chat
from tests.trust.conftest import Figure

NAN = float("nan")
GOOD = [f"{text} {i}" for i, text in enumerate(SENTENCES[:8])]
BITS = [i % 2 for i in range(8)]
ROW = r"row \d|rows \d|line \d"

Make = Callable[[Path], TaskDataset]


def opened(answer: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """The numbers of a model's answer that gradients go through, and the answer with others in their place."""
    if isinstance(answer, Tensor):
        return answer, lambda z: z
    if isinstance(answer, Hidden):
        return answer.states, lambda z: answer._replace(states=z)
    if isinstance(answer, Frames):
        return answer.scores, lambda z: answer._replace(scores=z)
    if isinstance(answer, Seen):  # of those that compare rows the embeddings count, of the others cosines with centres
        parts = [part for part in answer if part is not None]
        width = answer.embeddings.shape[1]
        return torch.cat(parts, dim=1), lambda z: Seen(z[:, :width], None if answer.cosines is None else z[:, width:])
    return answer.logits, lambda z: replace(answer, logits=z)


class TestLosses:
    """Every own loss in float64 against finite differences, and weights and smoothing against torch."""

    @pytest.mark.parametrize(("name", "asked"), LOSSES, ids=str)
    def test_18_gradients(self, name: str, asked: Task, figure: Figure) -> None:
        data = case_of(name).data()
        task = asked.learned_from(data)
        batch = batch_of(task, data)
        outputs = case_of(name).fake(task, batch).requires_grad_()
        assert outputs.dtype == torch.float64
        # gradcheck's two points, 1e-6 apart, tell no more than 1e-7 of a sum of this size; five points tell 1e-9.
        assert torch.autograd.gradcheck(lambda z: task.loss(z, batch)[0], (outputs,), atol=1e-7)
        task.loss(outputs, batch)[0].backward()  # type: ignore[no-untyped-call]
        assert outputs.grad is not None
        slopes = five_point_slopes(lambda z: task.loss(z, batch)[0], outputs.detach())
        worst = float((outputs.grad - slopes).abs().max())
        assert worst <= 1e-9
        figure(f"{asked}, gradient against five-point differences (bound 1e-9)", f"{worst:.1e}")
        figure(
            "losses and their options whose gradients pass gradcheck in float64 (its own tolerance, 1e-7)", len(LOSSES)
        )

    @pytest.mark.parametrize("name", [task.name for task in TASKS])
    def test_18_gradients_of_every_task(self, name: str, figure: Figure) -> None:
        """Along random directions, which any number of scores allows."""
        case = case_of(name)
        for asked in case.tasks:
            data = case.data(5)
            task = asked.learned_from(case.data())
            encoder = case.encoder(case.families[0])
            if isinstance(encoder, TextEncoder):
                encoder.tokenizer.add_tokens(list(task.markers), special_tokens=True)
            encoded = task.encode(data, encoder)
            batch = task.collate(encoded, np.arange(len(encoded)), encoder)
            given, whole = opened(case.fake(task, batch))
            assert given.dtype == torch.float64

            def loss(z: Tensor, task: Any = task, batch: Any = batch, whole: Any = whole) -> Tensor:
                total: Tensor = task.loss(whole(z), batch).total
                return total

            assert torch.autograd.gradcheck(loss, (given.requires_grad_(),), fast_mode=True, atol=1e-7)
        figure(f"{name}: losses under its options whose gradients pass gradcheck in float64", len(case.tasks))

    def test_18_weights_and_smoothing(self, figure: Figure) -> None:
        worst = 0.0
        target = torch.tensor([NAMES.index(label) for label in labels()])
        for smoothing in (0.0, 0.1, 0.9):
            for weights in (None, {"a": 0.5, "b": 2.0, "c": 1.0, "d": 7.0}, {"a": 1, "b": 0, "c": 1, "d": 1}):
                data = TaskDataset({"text": ["x"] * ROWS, "label": labels()})
                task = TextClassification(class_weights=weights, label_smoothing=smoothing).learned_from(data)
                given = None if weights is None else torch.tensor([float(weights[name]) for name in NAMES]).double()
                outputs, other = scores(4).requires_grad_(), scores(4).requires_grad_()
                total, count = loss_of(task, data, outputs)
                expected = functional.cross_entropy(other, target, weight=given, label_smoothing=smoothing)
                (total / count).backward()
                expected.backward()  # type: ignore[no-untyped-call]
                assert outputs.grad is not None
                assert other.grad is not None
                worst = max(
                    worst,
                    abs(float((total / count - expected).detach())),
                    float((outputs.grad - other.grad).abs().max()),
                )
        assert worst <= 1e-9
        figure("weights and smoothing against torch, loss and gradient, worst difference (bound 1e-9)", f"{worst:.1e}")


def five_point_slopes(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-3) -> Tensor:
    """(…) slopes to the fourth order in the step; rounding adds some 1e-11."""
    slopes = torch.empty_like(at)
    for place in np.ndindex(*at.shape):
        sides = []
        for factor in (-2, -1, 1, 2):
            moved = at.clone()
            moved[place] += factor * step
            sides.append(float(function(moved)))
        slopes[place] = (sides[0] - 8 * sides[1] + 8 * sides[2] - sides[3]) / (12 * step)
    return slopes


class Steps(Callback):
    """Remembers the steps that were made."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_step_end(self, training: Any, record: Any) -> None:
        self.seen.append(training.step)


class TestTruncation:
    """What is cut off is counted and named; a row keeps its label, so no loss becomes 0.0."""

    def test_20_cut_rows_are_counted_and_named(self, capsys: pytest.CaptureFixture[str], figure: Figure) -> None:
        texts = ["word " * 40 if i % 5 == 3 else "bad film" for i in range(50)]
        data = TaskDataset({"text": texts, "label": [i % 2 for i in range(50)]})
        tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), max_length=8, max_steps=2, device="cpu")
        report = tuner.report(data)
        assert report.train.truncated_rows == tuple(range(3, 50, 5))
        assert report.train.truncated == 10
        tuner.fit(data)
        assert "10 rows (20.0%) cut to 8 tokens" in "".join(capsys.readouterr())
        assert all(record["loss"] > 0 for record in tuner.history.steps)
        figure("rows cut off, counted and named", f"{report.train.truncated} of 10")

    def test_20_rows_without_supervision_are_refused_before_step_1(self) -> None:
        steps = Steps()
        tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), device="cpu")
        for columns in ({"labels": [[] for _ in GOOD]}, {"label": ["only"] * 8}):
            with pytest.raises(DataError):
                tuner.fit(TaskDataset({"text": GOOD, **columns}), callbacks=[steps], progress=False)
        with pytest.raises(DataError):
            tuner.fit(TaskDataset({"text": GOOD}), callbacks=[steps], progress=False)
        assert steps.seen == []

    def test_20_answers_beyond_the_limit_are_refused_before_step_1(self, figure: Figure) -> None:
        """A language model learns from answers; cut off, a row would have a loss of 0.0, or of nothing."""
        tuner = FineTuner(byte_model(), tokenizer=byte_tokenizer(None), max_length=64, max_steps=2, device="cpu")
        steps, lost = Steps(), list(range(3, 16, 4))
        some = chat(*(("long " * 30 if i in lost else "short", f"fine {i}") for i in range(16)))
        report = tuner.report(some)
        assert report.train.unsupervised_rows == tuple(lost)
        assert "4 rows lost supervision with their end" in str(report.problems)
        with pytest.raises(DataError, match="row 3, row 7, row 11, row 15"):
            tuner.fit(some, callbacks=[steps], progress=False)
        with pytest.raises(DataError, match="row 4 and 11 more"):
            tuner.fit(chat(*(("long " * 30, f"fine {i}") for i in range(16))), callbacks=[steps], progress=False)
        assert steps.seen == []
        kept = tuner.fit(some.select([i for i in range(16) if i not in lost]), callbacks=[steps], progress=False)
        assert all(record["loss"] > 0 for record in kept.history.steps)
        figure("rows whose answer lies beyond the limit, counted and named", f"{len(lost)} of 4")

    @pytest.mark.parametrize("limit", [16, 33])
    def test_20_long_rows_of_words_are_read_in_windows(self, limit: int, figure: Figure) -> None:
        """Every tag of every word counts once, whatever the limit: the sums are those of rows that are not cut."""
        words = [f"word{i} film".split() * (1 + i * 3) for i in range(8)]
        tags = [["B-x", "O"] * (len(row) // 2) for row in words]
        data = TaskDataset({"tokens": words, "tags": tags}, task="token-classification")
        report = tuner_for("token-classification", max_length=limit).report(data)
        assert (report.train.rows, report.train.truncated, report.train.unsupervised) == (8, 0, 0)
        assert report.train.windows > 8
        task = find_task("token-classification")().learned_from(data)
        encoded = task.encode(data, TextEncoder(tiny_tokenizer(), limit))
        targets = encoded.targets["tags"]
        assert isinstance(targets, Ragged)
        assert int((targets.values != IGNORED).sum()) == sum(len(row) for row in words)
        figure("rows of words beyond the limit: words without a tag to learn", 0)

    def test_20_answers_that_no_window_holds_are_counted_and_named(self) -> None:
        """A question is answered from windows; an answer longer than one is said to be lost, not taught as none."""
        context = "good film " * 20
        spans = [(0, "good film"), (150, "good film"), (0, context.strip())]
        answers = [{"text": [text], "answer_start": [start]} for start, text in spans]
        columns = {"question": ["which?"] * 3, "context": [context] * 3, "answers": answers}
        data, steps = TaskDataset(columns, task="question-answering"), Steps()
        tuner = tuner_for("question-answering", max_length=20, max_steps=2)
        report = tuner.report(data)
        assert (report.train.unsupervised_rows, report.train.truncated) == ((2,), 0)
        assert "1 row lost supervision with its end: row 2" in str(report.problems)
        with pytest.raises(DataError, match="none of the 1 rows"):
            tuner.fit(data.select([2]), callbacks=[steps], progress=False)
        assert steps.seen == []
        assert all(record["loss"] > 0 for record in tuner.fit(data, progress=False).history.steps)


def texts(*strange: Any) -> Make:
    """Good rows, and strange texts in place of the last of them."""
    return lambda folder: TaskDataset({"text": [*GOOD[: 8 - len(strange)], *strange], "label": BITS})


def targets(*strange: Any, role: str = "label") -> Make:
    good: list[Any] = {"label": BITS, "labels": [["a"], ["b"]] * 4, "target": [0.5] * 8}[role]
    return lambda folder: TaskDataset({"text": GOOD, role: [*good[: 8 - len(strange)], *strange]})


def csv(content: bytes | str, **options: Any) -> Make:
    def make(folder: Path) -> TaskDataset:
        raw = content.encode() if isinstance(content, str) else content
        (folder / "rows.csv").write_bytes(raw)
        return TaskDataset.from_csv(folder / "rows.csv", **options)

    return make


def jsonl(content: bytes | str) -> Make:
    def make(folder: Path) -> TaskDataset:
        (folder / "rows.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
        return TaskDataset.from_jsonl(folder / "rows.jsonl")

    return make


LINES = "text,label\n" + "".join(f"good {i},{i % 2}\n" for i in range(8))

#: A typed error before the first step, and what its message names.
REFUSED: dict[str, tuple[Make, str]] = {
    "None as text": (texts(None), ROW),
    "NaN as text": (texts(NAN), ROW),
    "a number as text": (texts(3), ROW),
    "bytes as text": (texts(b"x"), ROW),
    "a list as text": (texts(["x"]), ROW),
    "a lone surrogate in a text": (texts("x\ud800"), ROW),
    "None as label": (targets(None), ROW),
    "NaN as label": (targets(NAN), ROW),
    "labels of several types": (targets("a"), ROW),
    "a bool among whole numbers": (targets(True), ROW),
    "floats as labels": (targets(0.5), ROW),
    "a blank label": (lambda folder: TaskDataset({"text": GOOD, "label": [*"abababa", " "]}), ROW),
    "a list as label": (targets(["a"]), ROW),
    "a label not declared": (
        lambda folder: TaskDataset({"text": GOOD, "label": [*"abababa", "c"]}, label_names=["a", "b"]),
        ROW,
    ),
    "a single class": (lambda folder: TaskDataset({"text": GOOD, "label": ["a"] * 8}), "all 8 rows have the label"),
    "no labels at all": (lambda folder: TaskDataset({"text": GOOD}), "has no labels"),
    "no row": (lambda folder: TaskDataset({"text": [], "label": []}), "no rows"),
    "one row": (lambda folder: TaskDataset({"text": ["x"], "label": [1]}), "all 1 rows have the label"),
    "None in a list of labels": (targets([None], role="labels"), ROW),
    "None instead of a list of labels": (targets(None, role="labels"), ROW),
    "no label anywhere": (lambda folder: TaskDataset({"text": GOOD, "labels": [[]] * 8}), "no row has any label"),
    "NaN as target": (targets(NAN, role="target"), ROW),
    "infinity as target": (targets(math.inf, role="target"), ROW),
    "a text as target": (targets("2", role="target"), ROW),
    "a target beyond floats": (targets(10**400, role="target"), ROW),
    "columns of unequal length": (lambda folder: TaskDataset({"text": GOOD, "label": BITS[:5]}), "5|8"),
    "no such column": (lambda folder: TaskDataset({"txet": GOOD, "label": BITS}, text="text"), "did you mean 'txet'"),
    "an empty file": (csv(""), "is empty"),
    "a header alone": (csv("text,label\n"), "no rows"),
    "a column twice": (csv("text,text\na,b\n"), "more than once"),
    "ragged lines": (csv(LINES + "one cell\na,b,c\n"), ROW),
    "a quote never closed": (csv(LINES + '"open,1\n'), ROW),
    "bad UTF-8": (csv(LINES.encode() + b"caf\xe9,1\n"), ROW),
    "UTF-16": (csv(LINES.encode("utf-16")), "utf-16"),
    "a cell without label": (csv(LINES + "x,\n"), ROW),
    "bad JSON in a line": (jsonl('{"text": "a", "label": 1}\n{"text": \n'), ROW),
    "a key twice in a line": (jsonl('{"text": "a", "text": "b", "label": 1}\n'), ROW),
    "a line nested 100,000 deep": (jsonl("[" * 100_000), ROW),
}

#: Kept as they are, and trained on.
HANDLED: dict[str, Make] = {
    "blank texts": texts("", " \t"),
    "NUL in a text": texts("a\x00b"),
    "a byte order mark in a text": texts("\ufeffgood"),
    "right to left": texts("שלום עולם", "\u202eabc"),
    "zero width": texts("a\u200bb", "\u200d"),
    "a text of 1 MB": texts("word " * 2**18),
    "a text of 1 MB in one word": texts("x" * 2**20),
    "emoji and noncharacters": texts("👨‍👩‍👧", "\ufdd0"),
    "texts beyond the limit": texts("word " * 500),
    "CRLF and quoted newlines": csv(LINES.replace("\n", "\r\n") + '"two\r\nlines, ""quoted""",1\r\n'),
    "a byte order mark in a file": csv(b"\xef\xbb\xbf" + LINES.encode()),
    "another encoding, given": csv((LINES + "café,1\n").encode("cp1252"), encoding="cp1252"),
    "a class with one row": targets(7),
    "numpy's own types": lambda folder: TaskDataset({"text": np.array(GOOD), "label": np.array(BITS, np.int8)}),
}


class TestDirtyData:
    """A typed error that names the row before the first step, or handling that is documented; no raw traceback."""

    @staticmethod
    def fit(data: TaskDataset) -> FineTuner:
        tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), batch_size=8, epochs=1, device="cpu")
        return tuner.fit(data, progress=False)

    @pytest.mark.parametrize("name", REFUSED)
    def test_21_refused(self, name: str, tmp_path: Path, figure: Figure) -> None:
        make, said = REFUSED[name]
        with pytest.raises(SftlibError, match=said) as caught:
            self.fit(make(tmp_path))
        assert not isinstance(caught.value, NonFiniteError), "only when a step was computed"
        figure("dirty data refused before the first step by a typed error, row or line named", len(REFUSED))

    @pytest.mark.parametrize("name", HANDLED)
    def test_21_handled(self, name: str, tmp_path: Path, figure: Figure) -> None:
        data = HANDLED[name](tmp_path)
        assert data.report().rows == len(data)
        tuner = self.fit(data)
        assert all(math.isfinite(record["loss"]) for record in tuner.history.steps)
        assert len(tuner.predict(data)) == len(data)
        figure("dirty data kept as it is, trained on and predicted", len(HANDLED))

    def test_21_a_class_absent_from_training(self) -> None:
        train = TaskDataset({"text": GOOD, "label": ["a", "b"] * 4})
        valid = TaskDataset({"text": GOOD, "label": ["a", "c"] * 4})
        tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), device="cpu")
        with pytest.raises(DataError, match=ROW):
            tuner.fit(train, valid, progress=False)


class TestLeakage:
    """Fifty exact and fifty disguised rows of training among ten thousand: all are found, and nothing else."""

    def test_22_planted_duplicates_across_splits(self, figure: Figure) -> None:
        # Every other text in ASCII, which takes a shorter way.
        train, valid = (
            [text.encode("ascii", "ignore").decode() if i % 2 else text for i, text in enumerate(found)]
            for found in (sentences(8000, 11), sentences(2000, 12))
        )
        draw = random.Random(22)
        places, sources = draw.sample(range(2000), 100), draw.sample(range(8000), 100)
        for number, (place, source) in enumerate(zip(places, sources, strict=True)):
            valid[place] = train[source] if number < 50 else disguised(train[source], number)
        first = TaskDataset({"text": train, "label": [i % 2 for i in range(8000)]})
        second = TaskDataset({"text": valid, "label": [i % 2 for i in range(2000)]})
        start = time.perf_counter()
        leakage = first.report(second).leakage
        seconds = time.perf_counter() - start
        assert leakage is not None
        planted = list(zip(sources, places, strict=True))
        assert set(leakage.exact.pairs) == set(planted[:50])
        assert set(leakage.normalised.pairs) == set(planted[50:])
        assert (leakage.exact.count, leakage.normalised.count) == (50, 50)
        figure("planted rows found, exact and normalised; others found", "50 of 50, 50 of 50; 0")
        figure("10,000 rows compared, seconds", round(seconds, 2))
