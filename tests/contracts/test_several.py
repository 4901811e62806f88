"""Several tasks on one body: alone each is the plain run, together they are what the rows say, however they are cut."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import pipeline

from sftlib import FineTuner, MultiTask, TaskDataset
from sftlib.testing import FakeProcesses, tiny_model, tiny_tokenizer
from tests.contracts.cases import NAMES, case_of, losses, same_weights, task_class, tuner_for, weights
from tests.trust.runs import BreakAt, Interrupted, raising

JOINING = [name for name in NAMES if task_class(name).shares_body]
OF_TEXTS = [name for name in JOINING if case_of(name).reads_texts]
OPTIONS: dict[str, Any] = {"max_steps": 6, "batch_size": 8, "learning_rate": 1e-3, "device": "cpu", "precision": "fp32"}


def rows_of(*names: str) -> MultiTask:
    """The rows of these tasks, of which some have more than others."""
    parts = {name.replace("-", "_"): case_of(name).data(32 - 6 * place) for place, name in enumerate(names)}
    return MultiTask(parts, weights={next(iter(parts)): 2.0})


def together(*names: str, family: str = "bert", **options: Any) -> FineTuner:
    model = tiny_model(family, auto_class="AutoModel", dropout=options.pop("dropped", 0.1))
    return FineTuner(model, tokenizer=tiny_tokenizer(family), **{**OPTIONS, **options})


@functools.cache
def of_three() -> tuple[FineTuner, MultiTask]:
    data = rows_of("text-classification", "token-classification", "text-regression")
    tuner = together()
    return tuner.fit(data, data, progress=False), data


@pytest.mark.parametrize("name", JOINING)
def test_one_task_alone_is_the_plain_run_to_the_bit(name: str) -> None:
    data, options = case_of(name).data(), {"max_steps": 5, "batch_size": 8, "task": None}
    plain = tuner_for(name, **options).fit(data, data, progress=False)
    alone = tuner_for(name, **options).fit(MultiTask({"own": data}), MultiTask({"own": data}), progress=False)
    assert losses(alone) == losses(plain)
    assert same_weights(weights(alone), weights(plain))
    assert dict(alone.evaluate(data)) == dict(plain.evaluate(data))
    assert alone.predict(case_of(name).plain()) == plain.predict(case_of(name).plain())


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_one_task_alone_is_the_plain_run_where_a_part_is_frozen(freeze: Any) -> None:
    data = case_of("text-classification").data()
    plain = tuner_for("text-classification", freeze=freeze, max_steps=5, batch_size=8).fit(data, progress=False)
    alone = tuner_for("text-classification", freeze=freeze, max_steps=5, batch_size=8, task=None)
    alone.fit(MultiTask({"own": data}), progress=False)
    assert losses(alone) == losses(plain)


@functools.cache
def whole(family: str) -> tuple[float, ...]:
    data = rows_of("text-classification", "token-classification", "text-regression")
    return tuple(losses(together(family=family, micro_batch_size=8).fit(data, progress=False)))


@pytest.mark.parametrize(
    ("family", "cut"), [("bert", 1), ("bert", 3), ("distilbert", 3), ("modernbert", 3), ("deberta-v2", 3)]
)
def test_cuts_of_a_batch_give_the_same_losses(family: str, cut: int) -> None:
    data = rows_of("text-classification", "token-classification", "text-regression")
    other = together(family=family, micro_batch_size=cut).fit(data, progress=False)
    assert losses(other) == pytest.approx(whole(family), rel=1e-5, abs=1e-7)


def test_end_to_end_or_filled_up_the_losses_are_the_same() -> None:
    data = rows_of("text-classification", "token-classification", "text-regression")
    flat, padded = (together(padding_free=way).fit(data, progress=False) for way in (True, False))
    assert flat.settings["layout"] == "padding-free"
    assert losses(flat) == pytest.approx(losses(padded), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("size", [2, 4])
def test_any_number_of_processes_gives_the_same(size: int, tmp_path: Path) -> None:
    tuner, data = of_three()

    def run() -> tuple[list[float], dict[str, dict[str, float]]]:
        found = together().fit(data, data, progress=False)
        found.save(tmp_path / "together")
        return losses(found), found.evaluate(data).to_dict()

    processes = FakeProcesses(size).run(run)
    assert all(found == processes[0] for found in processes)
    curve, metrics = processes[0]
    assert curve == pytest.approx(losses(tuner), rel=1e-6, abs=1e-6)
    found = FineTuner.load(tmp_path / "together")
    for name, alone in found.evaluate(data).to_dict().items():
        assert metrics[name] == pytest.approx(alone, rel=1e-6, abs=1e-6)
        # What rounding made of the weights is seen in the answers: a correlation of answers that hardly differ, as they
        # do after six steps, makes many times as much of it.
        case = case_of(name.replace("_", "-"))
        answers = [[case.numbers(p) for p in one.predict(case.plain(), task=name)] for one in (found, tuner)]
        assert answers[0] == [pytest.approx(numbers, rel=1e-5, abs=1e-6) for numbers in answers[1]]


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_run_that_was_interrupted_goes_on_to_the_bit(step: int, tmp_path: Path) -> None:
    tuner, data = of_three()
    with raising(Interrupted):
        together().fit(
            data, data, progress=False, output_dir=tmp_path / "run", save_every=1, callbacks=[BreakAt(step + 1)]
        )
    again = together().fit(
        data, data, progress=False, output_dir=tmp_path / "run", save_every=1, resume=True, callbacks=[BreakAt(0)]
    )
    assert losses(again) == losses(tuner)
    assert same_weights(weights(again), weights(tuner))


def test_a_step_is_the_weighted_mean_over_rows_with_the_gradient_of_a_plain_loop() -> None:
    """Each task by itself, with its own copy of the body, in plain PyTorch; their gradients are added up."""
    moods, stars = case_of("text-classification").data(24), case_of("text-regression").data(12)
    data = MultiTask({"mood": moods, "stars": stars}, mixing=1.0, weights={"stars": 3.0})
    tuner = together(dropout=0.0, max_steps=1, batch_size=36, max_grad_norm=None, weight_decay=0.0)
    tuner.set_params(learning_rate=0.0).fit(data, progress=False)  # leaves the weights it began with
    tokenizer = tiny_tokenizer()
    sums, gradients = 0.0, dict[str, torch.Tensor]()
    for name, rows, weight in (("mood", moods, 1.0), ("stars", stars, 3.0)):
        part = tuner.task(name)  # type: ignore[operator]
        inputs = tokenizer(
            rows.column("text"),
            padding=True,
            truncation=True,
            max_length=part.settings["max_length"],
            return_tensors="pt",
        )
        scores = part.model.double().eval()(**inputs).logits
        if name == "mood":
            wanted = torch.tensor([part.label_names.index(label) for label in rows.column("label")])
            loss = functional.cross_entropy(scores, wanted, reduction="sum")
        else:
            loss = functional.mse_loss(scores[:, 0], torch.tensor(rows.column("target")).double(), reduction="sum")
        (weight * loss / (24 + 3.0 * 12)).backward()
        sums += weight * float(loss.detach()) / (24 + 3.0 * 12)
        for key, parameter in part.model.named_parameters():
            own = key if key.startswith("bert.") else f"{name}.{key}"
            gradients[own] = gradients.get(own, 0) + parameter.grad
    (record,) = tuner.history.steps
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert record["loss"] == pytest.approx(sums, rel=1e-5)
    assert record["grad_norm"] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("name", JOINING)
def test_units_are_what_the_counts_of_the_loss_add_up_to(name: str) -> None:
    for task in case_of(name).tasks:
        data = case_of(name).data()
        encoder = case_of(name).encoder()
        known = task.learned_from(data)
        encoded = known.encode(data, encoder)
        batch = known.collate(encoded, np.arange(len(encoded)), encoder)
        counted = float(known.loss(case_of(name).fake(known, batch), batch).count)
        windows = len(encoded) / len(data) if name == "question-answering" else 1.0  # of which it counts each
        assert known.units(data) * windows == pytest.approx(counted, rel=1e-5), task


@pytest.mark.parametrize("others", [("token-classification",), ("multi-label-classification", "question-answering")])
def test_each_task_is_saved_as_a_folder_that_anything_opens(others: tuple[str, ...], tmp_path: Path) -> None:
    data = rows_of("text-classification", *others)
    tuner = together().fit(data, progress=False)
    tuner.save(tmp_path / "out")
    texts = case_of("text-classification").columns["text"][:5]
    mine = tuner.predict(texts, task="text_classification")
    theirs = pipeline("text-classification", model=str(tmp_path / "out" / "text_classification"))(texts)
    assert [found["label"] for found in theirs] == [str(found.label) for found in mine]
    assert [found["score"] for found in theirs] == pytest.approx([found.probability for found in mine], abs=1e-5)
    again = FineTuner.load(tmp_path / "out")
    assert again.task == "multi-task"
    for name in data.names:
        own = FineTuner.load(tmp_path / "out" / name)
        inputs = case_of(name.replace("_", "-")).plain()
        assert own.predict(inputs) == tuner.predict(inputs, task=name) == again.predict(inputs, task=name)
        assert set(own.model.state_dict()) == set(tuner.task(name).model.state_dict())  # type: ignore[operator]
    assert again.evaluate(data).to_dict() == tuner.evaluate(data).to_dict()


def test_the_metrics_of_a_run_are_those_of_its_tasks() -> None:
    tuner, data = of_three()
    watched = tuner.history.evaluations[-1]
    for name, metrics in tuner.evaluate(data).items():
        for metric in metrics:
            if metric != "loss":
                assert watched[f"valid_{name}.{metric}"] == pytest.approx(metrics[metric], rel=1e-6, abs=1e-7), metric


def test_the_best_weights_of_one_task_can_be_kept() -> None:
    data = rows_of("text-classification", "text-regression")
    tuner = together(keep_best="text_regression.mse", max_steps=None, epochs=3).fit(data, data, progress=False)
    best = min(record["valid_text_regression.mse"] for record in tuner.history.evaluations)
    assert tuner.evaluate(data)["text_regression"]["mse"] == pytest.approx(best, rel=1e-6)


def test_what_is_no_text_has_several_tasks_as_well() -> None:
    labels, numbers = case_of("image-classification").data(16), case_of("image-regression").data(12)
    data = MultiTask({"kind": labels, "size": numbers})
    tuner = tuner_for("image-classification", max_steps=4, batch_size=8, task=None).fit(data, data, progress=False)
    assert set(tuner.evaluate(data)) == {"kind", "size"}
    assert len(tuner.predict(case_of("image-regression").plain(), task="size")) == len(
        case_of("image-regression").plain()
    )


def test_a_task_without_rows_has_metrics_that_are_no_numbers() -> None:
    tuner, data = of_three()
    found = tuner.evaluate(MultiTask({"text_regression": data["text_regression"]}))
    assert np.isnan(found["text_classification"]["accuracy"])
    assert found["text_regression"] == tuner.evaluate(data)["text_regression"]
    assert "mean" not in str(found)


def test_a_part_is_a_plain_tuner() -> None:
    tuner, data = of_three()
    part = tuner.task("text_classification")  # type: ignore[operator]
    assert part.task == "text-classification"
    assert type(part.model).__name__ == "BertForSequenceClassification"
    assert part is tuner.task("text_classification")  # type: ignore[operator]
    assert isinstance(data["text_classification"], TaskDataset)
    body = tuner.body()
    assert type(body).__name__ == "BertModel"
    before, after = body.state_dict(), part.model.bert.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
