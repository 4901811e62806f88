"""What every task promises, tried on every registered task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import FineTuner, TaskDataset
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Column, Encoded, Filed
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.errors import DataError, LabelError, OptionError
from sftlib.tasks import TASKS, find_task
from sftlib.tasks.base import LossSum, Task
from tests.contracts.cases import NAMES, case_of, task_class, tuner_for, weights

pytestmark = pytest.mark.parametrize("name", NAMES)


def made(name: str, task: Task | None = None) -> tuple[Task, TaskDataset]:
    data = case_of(name).data()
    return (task or case_of(name).tasks[0]).learned_from(data), data


def collated(task: Task, encoded: Encoded, rows: list[int]) -> Batch:
    return task.collate(encoded, np.array(rows, dtype=np.int64), encoder_of(task))


def encoder_of(task: Task) -> Encoder:
    encoder = case_of(task.name).encoder()
    if isinstance(encoder, TextEncoder):
        encoder.tokenizer.add_tokens(list(task.markers), special_tokens=True)
    return encoder


def loss_of(task: Task, encoded: Encoded, rows: list[int]) -> LossSum:
    batch = collated(task, encoded, rows)
    return task.loss(case_of(task.name).fake(task, batch), batch)


def decoded(task: Task, encoded: Encoded, rows: list[int]) -> list[Any]:
    batch = collated(task, encoded, rows)
    return list(task.decode(case_of(task.name).fake(task, batch), batch))


def shuffled(encoded: Encoded) -> list[int]:
    return np.random.default_rng(0).permutation(len(encoded)).tolist()


def test_it_has_a_case(name: str) -> None:
    case = case_of(name)
    assert len(case.data()) == 32
    assert case.data().task == name


def test_it_is_found_by_its_name(name: str) -> None:
    assert find_task(name) is task_class(name)
    with pytest.raises(OptionError, match=name):
        find_task(name[:-1])
    assert len({task.name for task in TASKS}) == len(TASKS)


def test_encoding_is_pure(name: str) -> None:
    task, data = made(name)
    before = [dict(row) for row in data]
    encoder = encoder_of(task)
    first, second = task.encode(data, encoder), task.encode(data, encoder)
    assert_same_encoding(first, second)
    assert [dict(row) for row in data] == before


def test_encoding_is_row_wise(name: str) -> None:
    task, data = made(name)
    encoder = encoder_of(task)
    whole = task.encode(data, encoder)
    assert sorted(set(whole.owners.tolist())) == list(range(len(data)))
    for cut in (1, 9, 31):
        left, right = (task.encode(case_of(name).data(part), encoder) for part in (slice(cut), slice(cut, None)))
        assert len(left) + len(right) == len(whole)
        assert np.array_equal(whole.owners, np.concatenate([left.owners, right.owners + min(cut, len(data))]))
        for key, values in whole.inputs.items():
            assert rows_of(values) == [*rows_of(left.inputs[key]), *rows_of(right.inputs[key])]
        for key, values in whole.targets.items():
            assert rows_of(values) == [*rows_of(left.targets[key]), *rows_of(right.targets[key])]
        for key, values in whole.notes.items():
            assert rows_of(values) == [*rows_of(left.notes[key]), *rows_of(right.notes[key])]
        assert np.array_equal(whole.cut, np.concatenate([left.cut, right.cut]))


def test_unlabelled_rows_are_encoded_without_targets(name: str) -> None:
    task, data = made(name)
    plain = case_of(name).plain()
    encoded = task.encode(plain, encoder_of(task))
    assert sorted(set(encoded.owners.tolist())) == list(range(len(plain)))
    if case_of(name).supervised:
        assert not plain.is_labelled
        assert encoded.targets == {}
        labelled = task.encode(data, encoder_of(task))
        for key, values in labelled.inputs.items():
            assert rows_of(values) == rows_of(encoded.inputs[key])
        for key, values in labelled.notes.items():
            assert rows_of(values) == rows_of(encoded.notes[key])


def test_the_losses_of_two_parts_add_up(name: str) -> None:
    for asked in case_of(name).tasks:
        task, data = made(name, asked)
        if task.couples_rows:
            pytest.skip("declares that its rows depend on each other")
        encoded = task.encode(data, encoder_of(task))
        order = shuffled(encoded)
        whole = loss_of(task, encoded, order)
        for cut in (1, 5, 16):
            sums = [loss_of(task, encoded, part) for part in (order[:cut], order[cut:])]
            assert float(sum(s.total for s in sums)) == pytest.approx(float(whole.total), rel=1e-6)
            assert float(sum(s.count for s in sums)) == pytest.approx(float(whole.count), rel=1e-6)
        assert float(whole.count) > 0
        assert whole.total.shape == whole.count.shape == ()


def test_a_row_bears_the_same_loss_wherever_it_lies(name: str) -> None:
    task, data = made(name)
    if task.couples_rows:
        pytest.skip("declares that its rows depend on each other")
    encoded = task.encode(data, encoder_of(task))
    alone = [float(loss_of(task, encoded, [i]).total) for i in range(len(encoded))]
    together = float(loss_of(task, encoded, list(range(len(encoded)))).total)
    assert together == pytest.approx(sum(alone), rel=1e-6)


def test_rows_without_supervision_count_nothing(name: str) -> None:
    case = case_of(name)
    if case.unsupervised is None:
        pytest.skip("every row bears supervision")
    asked, columns = case.unsupervised
    task, _ = made(name, asked)
    data = TaskDataset(columns, task=name)
    total, count = loss_of(task, task.encode(data, encoder_of(task)), [0, 1])
    assert (float(total), float(count)) == (0.0, 0.0)


def test_the_model_never_sees_targets(name: str) -> None:
    task, data = made(name)
    encoded = task.encode(data, encoder_of(task))
    batch = collated(task, encoded, [0, 3, 1])
    assert not set(batch.inputs) & {"labels", "label", "target", "targets"}
    assert batch.rows.tolist()[:3] == [0, 3, 1]


def test_the_config_goes_round(name: str) -> None:
    for asked in case_of(name).tasks:
        task, data = made(name, asked)
        again = type(task).from_config(json.loads(json.dumps(task.config())))
        assert again == task
        assert again.config() == task.config()
        assert again.label_names == task.label_names
        assert data.label_names in (task.label_names, None)  # columns of no and yes bear no names as values
        assert again.head == task.head
        batch = collated(task, task.encode(data, encoder_of(task)), list(range(len(data))))
        outputs = case_of(name).fake(task, batch)
        assert again.loss(outputs, batch) == task.loss(outputs, batch)
        assert again.decode(outputs, batch) == task.decode(outputs, batch)


def test_one_prediction_a_row_in_order(name: str) -> None:
    task, data = made(name)
    encoded = task.encode(data, encoder_of(task))
    expected = [decoded(task, encoded, [i])[0] for i in range(len(data))]
    order = [5, 0, 31, 7]
    assert decoded(task, encoded, order) == [expected[i] for i in order]


def test_it_learns_ten_rows_by_heart(name: str) -> None:
    case = case_of(name)
    data = case.data(10)
    options = {"dropout": 0.0, "max_steps": 80, "batch_size": 10, "learning_rate": 1e-2, "weight_decay": 0.0}
    tuner = tuner_for(name, **{**options, **case.by_heart})
    tuner.fit(data, progress=False)
    metric, threshold = case.learned
    assert tuner.evaluate(data)[metric] >= threshold
    first, last = tuner.history.steps[0]["loss"], tuner.history.steps[-1]["loss"]
    assert last < 0.1 * first


def test_a_model_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    case = case_of(name)
    for number, task in enumerate(case.tasks):
        tuner = tuner_for(name, max_steps=2, task=task).fit(case.data(), progress=False)
        tuner.save(tmp_path / str(number))
        again = FineTuner.load(tmp_path / str(number))
        data = case.data(10 if number else 32)
        before, after = tuner.predict(data), again.predict(data)
        assert after == before
        assert [case.numbers(p) for p in after] == [case.numbers(p) for p in before]
        assert again.label_names == tuner.label_names
        assert again.task == tuner.task == name
        assert again.get_params()["task"] == task
        assert dict(again.evaluate(data)) == dict(tuner.evaluate(data))
        left, right = weights(tuner), weights(again)
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_metrics_agree_with_scikit_learn(name: str) -> None:
    case = case_of(name)
    tuner = tuner_for(name, max_steps=4, metrics=case.metrics).fit(case.data(), progress=False)
    found = tuner.evaluate(case.data())
    references = find_task(name)().learned_from(case.data()).references(case.data())
    expected = {**case.oracle(references, tuner.predict(case.data())), **case.of_model(tuner, case.data())}
    assert set(case.metrics or task_class(name).usual_metrics) <= set(expected)
    for metric, value in expected.items():
        tolerance = 1e-5 if metric in ("loss", "perplexity") else 1e-9
        assert found[metric] == pytest.approx(value, rel=tolerance, abs=tolerance), metric


def test_unlearnable_rows_are_refused_before_anything_is_built(name: str) -> None:
    for columns in case_of(name).unlearnable:
        with pytest.raises(LabelError):
            tuner_for(name).fit(TaskDataset(columns, task=name), progress=False)


def test_unlabelled_rows_are_refused(name: str) -> None:
    case = case_of(name)
    plain = case.plain()
    tuner = tuner_for(name, max_steps=1).fit(case.data(), progress=False)
    assert len(tuner.predict(plain)) == len(plain)
    if plain.is_labelled:
        pytest.skip("its rows supervise themselves")
    with pytest.raises(DataError, match="no labels"):
        tuner_for(name).fit(plain, progress=False)
    with pytest.raises(DataError, match="no labels"):
        tuner.evaluate(plain)


def test_labels_that_training_never_saw_are_refused(name: str) -> None:
    case = case_of(name)
    if case.strange is None:
        pytest.skip("knows no labels")
    strange = TaskDataset(case.strange, task=name)
    with pytest.raises(LabelError, match="row 1"):
        tuner_for(name, max_steps=1).fit(case.data(), strange, progress=False)
    tuner = tuner_for(name, max_steps=1).fit(case.data(), progress=False)
    with pytest.raises(LabelError, match="row 1"):
        tuner.evaluate(strange)


def test_inputs_of_another_shape_are_refused_with_their_row(name: str) -> None:
    case = case_of(name)
    tuner = tuner_for(name, max_steps=1).fit(case.data(), progress=False)
    for wrong in case.not_inputs:
        with pytest.raises(DataError, match="row 2"):
            tuner.predict([*case.examples, wrong])
    assert tuner.predict([]) == []


def test_the_rows_of_another_task_are_refused(name: str) -> None:
    tuner = tuner_for(name, max_steps=1).fit(case_of(name).data(), progress=False)
    for other in NAMES:
        if other != name:
            with pytest.raises(DataError, match=other):
                tuner.evaluate(case_of(other).data())
            with pytest.raises((DataError, OptionError), match=other):
                tuner_for(name, task=name).fit(case_of(other).data(), progress=False)


def test_shorthands_that_the_task_does_not_have_are_refused(name: str) -> None:
    shorthands: dict[str, Any] = {"class_weights": "balanced", "label_smoothing": 0.1}
    for option, value in shorthands.items():
        if option in task_class(name).option_names():
            task = task_class(name)(**{option: value})
            with pytest.raises(OptionError, match=f"{option} is given twice"):
                tuner_for(name, task=task, **{option: value})
        else:
            with pytest.raises(OptionError, match=f"{option}=.*: {name} has no such option"):
                tuner_for(name, task=name, **{option: value})
            with pytest.raises(OptionError, match=f"{option}=.*: {name} has no such option"):
                tuner_for(name, task=None, **{option: value}).fit(case_of(name).data(), progress=False)


def rows_of(values: Column) -> list[Any]:
    if isinstance(values, Filed):
        return [values.identity(row) for row in range(len(values))]
    return [values[row].tolist() for row in range(len(values))]


def assert_same_encoding(left: Encoded, right: Encoded) -> None:
    assert left.inputs.keys() == right.inputs.keys()
    assert left.targets.keys() == right.targets.keys()
    for key in left.inputs:
        assert rows_of(left.inputs[key]) == rows_of(right.inputs[key])
    for key in left.targets:
        assert rows_of(left.targets[key]) == rows_of(right.targets[key])
    for key in left.notes:
        assert rows_of(left.notes[key]) == rows_of(right.notes[key])
    assert np.array_equal(left.owners, right.owners)
    assert np.array_equal(left.cut, right.cut)
