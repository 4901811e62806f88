"""Callbacks: when they are called, when a run ends, and which weights come back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import sftlib.train.loop
from sftlib import Callback, EarlyStopping, FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.tasks.text.classification import TextClassification
from sftlib.testing import tiny_model, tiny_tokenizer
from sftlib.train.callbacks import is_better
from sftlib.train.comm import Alone
from sftlib.train.plan import ShuffledPlan
from sftlib.train.state import Training
from tests.contracts.cases import case_of, losses, same_weights, tuner_for, weights

NAME = "text-classification"


class Recorder(Callback):
    """Writes events down, with the weights at the end of each epoch."""

    def __init__(self, events: list[str] | None = None) -> None:
        self.events = [] if events is None else events
        self.epochs: list[dict[str, Tensor]] = []
        self.steps: list[dict[str, Tensor]] = []
        self.metrics: list[Mapping[str, float] | None] = []

    def on_fit_start(self, training: Training) -> None:
        self.events.append("on_fit_start")

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        assert record is not None
        assert training.history.steps[-1]["step"] == record["step"] == training.step
        self.events.append("on_step_end")
        self.steps.append({key: value.clone() for key, value in training.model.state_dict().items()})

    def on_epoch_end(self, training: Training, metrics: Mapping[str, float] | None) -> None:
        self.events.append("on_epoch_end")
        self.metrics.append(None if metrics is None else dict(metrics))
        self.epochs.append({key: value.clone() for key, value in training.model.state_dict().items()})

    def on_fit_end(self, training: Training) -> None:
        self.events.append("on_fit_end")


# The order of events is the pseudocode's.

LINES = {
    "rows = plan.rows(step)": "rows",
    "outputs = model(inputs)": "model",
    "total, count = task.loss(outputs, targets)": "loss",
    "total.backward()": "backward",
    "comm.add_up(sums, gradients)": "add_up",
    "gradients /= sum of counts": "divide",
    "norm = clip(gradients)": "clip",
    "if loss and norm are finite: optimizer.step()": "step",
    "callbacks.on_step_end()": "on_step_end",
    "evaluate(); callbacks.on_epoch_end()": "evaluate on_epoch_end",
}


def pseudocode() -> list[tuple[int, str]]:
    """(depth, statement) of each line of the loop's docstring, comments taken off."""
    block = (sftlib.train.loop.__doc__ or "").split("::\n\n", 1)[1].split("\n\nEverything", 1)[0]
    lines = [line.split("#")[0].rstrip() for line in block.splitlines()]
    return [((len(line) - len(line.lstrip())) // 4, line.strip()) for line in lines if line]


def events_told(steps: int, parts: int, ends: set[int]) -> list[str]:
    """The events that the pseudocode tells for a run."""
    lines = pseudocode()
    assert [line for _, line in lines[:1]] == ["for each optimizer step:"]
    before: list[str] = []
    inner: list[str] = []
    after: list[str] = []
    epoch: list[str] = []
    now = before
    for depth, line in lines[1:]:
        if line.startswith("for each micro-batch"):
            now = inner
            continue
        if depth == 2 and now is inner:
            now = after
        if line.startswith("at the end of an epoch: "):
            epoch += LINES[line.removeprefix("at the end of an epoch: ")].split()
        else:
            now += LINES[line].split()
    told: list[str] = []
    for step in range(steps):
        told += before + inner * parts + after + (epoch if step in ends else [])
    return told


def _begun(events: list[str]) -> int:
    """Where the step in progress begins."""
    ends = [number for number, event in enumerate(events) if event in ("on_step_end", "on_epoch_end")]
    return ends[-1] + 1 if ends else 0


def test_events_come_in_the_order_of_the_pseudocode(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    statements = {line.removeprefix("at the end of an epoch: ") for _, line in pseudocode()}
    assert set(LINES) <= statements

    def spy(owner: Any, attribute: str, event: str) -> None:
        original = getattr(owner, attribute)

        def told(*args: Any, **kwargs: Any) -> Any:
            again = event == "rows" and "rows" in events[_begun(events) :]  # a pure function, which the feed asks too
            if not again and (event != "loss" or torch.is_grad_enabled()):
                events.append(event)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, attribute, told)

    spy(ShuffledPlan, "rows", "rows")
    spy(TextClassification, "loss", "loss")
    spy(Tensor, "backward", "backward")
    spy(Alone, "add_up", "add_up")
    spy(sftlib.train.loop, "divide_gradients", "divide")
    spy(sftlib.train.loop, "clip_gradients", "clip")
    spy(torch.optim.AdamW, "step", "step")

    class Hooked(Recorder):
        def on_fit_start(self, training: Training) -> None:
            events.clear()  # what the parts were tried with before is not the loop's
            training.model.register_forward_pre_hook(
                lambda module, _: events.append("model") if module.training else None
            )

    def seen(references: Any, predictions: Any) -> float:
        events.append("evaluate")
        return 0.0

    tuner = tuner_for(NAME, epochs=2, batch_size=16, micro_batch_size=8, metrics=[seen])
    recorder = Hooked(events)
    tuner.fit(case_of(NAME).data(24), case_of(NAME).data(4), callbacks=[recorder], progress=False)
    # 24 rows: a batch of two parts, then one of a single part, in each epoch.
    expected = events_told(1, 2, set()) + events_told(1, 1, {0})
    # A metric may be asked for more than once; an evaluation is one event.
    found = [event for i, event in enumerate(events) if not (event == "evaluate" and events[i - 1] == "evaluate")]
    assert found == [*expected, *expected, "on_fit_end"]


def test_events_of_a_run_that_ends_inside_an_epoch() -> None:
    recorder = Recorder()
    tuner = tuner_for(NAME, max_steps=6, batch_size=8)  # 4 steps an epoch
    tuner.fit(case_of(NAME).data(), callbacks=[recorder], progress=False)
    assert recorder.events == [
        "on_fit_start",
        *["on_step_end"] * 4,
        "on_epoch_end",
        *["on_step_end"] * 2,
        "on_epoch_end",
        "on_fit_end",
    ]
    assert recorder.metrics == [None, None]
    assert [record["epoch"] for record in tuner.history.steps] == [1, 1, 1, 1, 2, 2]


def test_callbacks_are_called_in_their_order() -> None:
    order: list[str] = []

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
            order.append(self.name)

    tuner_for(NAME, max_steps=2).fit(case_of(NAME).data(), callbacks=[Named("a"), Named("b")], progress=False)
    assert order == ["a", "b", "a", "b"]


def test_a_callback_ends_the_run() -> None:
    class StopAfter(Recorder):
        def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
            super().on_step_end(training, record)
            if training.step == 3:
                training.stop_reason = "enough"

    recorder = StopAfter()
    tuner = tuner_for(NAME, epochs=5, batch_size=8)
    tuner.fit(case_of(NAME).data(), case_of(NAME).data(5), callbacks=[recorder], progress=False)
    assert recorder.events == ["on_fit_start", *["on_step_end"] * 3, "on_epoch_end", "on_fit_end"]
    assert len(tuner.history.steps) == 3
    assert [record["step"] for record in tuner.history.evaluations] == [3]


def test_a_run_that_was_stopped_is_the_beginning_of_the_longer_one() -> None:
    class StopAfter(Callback):
        def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
            if training.step == 3:
                training.stop_reason = "enough"

    recorder = Recorder()
    tuner_for(NAME, max_steps=8).fit(case_of(NAME).data(), callbacks=[recorder], progress=False)
    stopped = tuner_for(NAME, max_steps=8).fit(case_of(NAME).data(), callbacks=[StopAfter()], progress=False)
    assert same_weights(weights(stopped), recorder.steps[2])


def test_an_error_in_a_callback_reaches_the_user_and_leaves_the_model_whole() -> None:
    class Breaks(Callback):
        def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
            raise RuntimeError("mine")

    tuner = tuner_for(NAME, epochs=1)
    with pytest.raises(RuntimeError, match="mine"):
        tuner.fit(case_of(NAME).data(), callbacks=[Breaks()], progress=False)
    assert all(type(module).__module__.startswith(("torch.", "transformers.")) for module in tuner.model.modules())
    assert not tuner.model.training


# Early stopping and the best weights. Validation labels are the training labels turned round, so that learning makes
# the validation worse: the first epoch is the best.


def opposites() -> tuple[TaskDataset, TaskDataset]:
    columns = case_of(NAME).columns
    labels = [str(i % 2) for i in range(32)]
    wrong = [str(1 - i % 2) for i in range(32)]
    train = TaskDataset({"text": columns["text"], "label": labels})
    return train, TaskDataset({"text": columns["text"], "label": wrong})


def learner(**options: Any) -> FineTuner:
    defaults: dict[str, Any] = {
        "learning_rate": 2e-3,
        "batch_size": 8,
        "warmup": 0,
        "dropout": 0.0,
        "schedule": "constant",
    }
    return FineTuner(tiny_model("bert", 2), tokenizer=tiny_tokenizer(), **{**defaults, "epochs": 6, **options})


@pytest.mark.parametrize("metric", ["loss", "accuracy", "f1_macro", "mcc"])
def test_the_best_weights_come_back(metric: str) -> None:
    train, valid = opposites()
    recorder = Recorder()
    tuner = learner(keep_best=metric).fit(train, valid, callbacks=[recorder], progress=False)
    values = [record[f"valid_{metric}"] for record in tuner.history.evaluations]
    assert len(values) == 6
    best = values.index(min(values) if metric == "loss" else max(values))  # the first of equals
    assert best != 5, "the last is the best: this run shows nothing"
    assert same_weights(weights(tuner), recorder.epochs[best])
    assert not same_weights(weights(tuner), recorder.epochs[-1])
    assert tuner.evaluate(valid)[metric] == pytest.approx(values[best], rel=1e-6)


def test_without_asking_the_last_weights_come_back() -> None:
    train, valid = opposites()
    recorder = Recorder()
    tuner = learner().fit(train, valid, callbacks=[recorder], progress=False)
    assert same_weights(weights(tuner), recorder.epochs[-1])


def test_the_card_shows_the_metrics_of_the_weights_in_the_folder(tmp_path: Any) -> None:
    train, valid = opposites()
    tuner = learner(keep_best="loss").fit(train, valid, progress=False)
    best = min(record["valid_loss"] for record in tuner.history.evaluations)
    assert tuner.history.evaluations[-1]["valid_loss"] > 1.02 * best
    tuner.save(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    shown = re.search(r"^ *loss +([0-9.]+)", card, re.MULTILINE)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience(patience: int) -> None:
    train, valid = opposites()
    recorder = Recorder()
    stopping = EarlyStopping("loss", patience=patience)
    tuner = learner(epochs=9, early_stopping=stopping).fit(train, valid, callbacks=[recorder], progress=False)
    values = [record["valid_loss"] for record in tuner.history.evaluations]
    best = values.index(min(values))
    assert len(values) == best + 1 + patience < 9
    assert same_weights(weights(tuner), recorder.epochs[best])


def test_one_object_serves_several_runs() -> None:
    train, valid = opposites()
    stopping = EarlyStopping("loss", patience=1)
    first = learner(early_stopping=stopping).fit(train, valid, progress=False)
    second = learner(early_stopping=stopping).fit(train, valid, progress=False)
    assert losses(first) == losses(second)


def stopped_after(stopping: EarlyStopping, values: list[float]) -> int | None:
    """How many evaluations pass before the run is to end."""
    training: Any = SimpleNamespace(stop_reason=None, step=0, tell=lambda line: None)
    stopping.on_fit_start(training)
    for number, value in enumerate(values, start=1):
        stopping.on_epoch_end(training, {stopping.metric: value})
        if training.stop_reason is not None:
            return number
    return None


def test_improvement_starts_the_count_again() -> None:
    assert stopped_after(EarlyStopping("accuracy", patience=2), [0.5, 0.4, 0.6, 0.6, 0.7, 0.1, 0.2]) == 7
    assert stopped_after(EarlyStopping("loss", patience=2), [0.5, 0.4, 0.6, 0.39, 0.4, 0.38]) is None
    assert stopped_after(EarlyStopping("loss", patience=2), [0.5, 0.5, 0.5]) == 3


def test_what_counts_as_better() -> None:
    assert stopped_after(EarlyStopping("accuracy", patience=1, min_delta=0.05), [0.5, 0.56, 0.6]) == 3
    assert stopped_after(EarlyStopping("accuracy", patience=1), [0.5, 0.56, 0.6]) is None
    nan = float("nan")
    assert stopped_after(EarlyStopping("loss", patience=2), [nan, nan]) is None  # said, and passed over
    assert not is_better("loss", nan, None)
    assert is_better("loss", 0.1, 0.2)
    assert not is_better("loss", 0.2, 0.1)
    assert is_better("accuracy", 0.2, 0.1)
    assert not is_better("accuracy", 0.1, 0.1)
    assert is_better("rmse", 0.1, 0.2)


def test_early_stopping_refuses_what_it_cannot_do() -> None:
    with pytest.raises(OptionError, match="patience"):
        EarlyStopping("loss", patience=0)
    with pytest.raises(OptionError, match="min_delta"):
        EarlyStopping("loss", min_delta=-1.0)
    with pytest.raises(OptionError, match="did you mean 'patience'"):
        EarlyStopping("loss", patients=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("option", ["keep_best", "early_stopping"])
def test_an_unknown_metric_is_refused_before_training(option: str) -> None:
    train, valid = opposites()
    recorder = Recorder()
    tuner = learner(**{option: "f1_macr" if option == "keep_best" else EarlyStopping("f1_macr")})
    with pytest.raises(OptionError, match="did you mean 'f1_macro'"):
        tuner.fit(train, valid, callbacks=[recorder], progress=False)
    assert recorder.events == []


@pytest.mark.parametrize("option", ["keep_best", "early_stopping"])
def test_watching_needs_validation_rows(option: str) -> None:
    tuner = learner(**{option: "loss" if option == "keep_best" else EarlyStopping("loss")})
    with pytest.raises(OptionError, match=r"fit\(train, valid\)"):
        tuner.fit(opposites()[0], progress=False)


def test_early_stopping_must_be_an_object() -> None:
    with pytest.raises(OptionError, match="EarlyStopping"):
        learner(early_stopping="loss")
