"""One micro-batch as tensors, against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sftlib.encoders.batch import Batch, laid_out
from sftlib.encoders.encoded import Encoded, Filed, Ragged
from sftlib.encoders.text.tokenizer import TextEncoder
from sftlib.tasks import find_task
from sftlib.testing import tiny_tokenizer


def encoded() -> Encoded:
    ids = Ragged.from_lists([[2, 7, 3], [2, 3], [2, 8, 9, 4, 3]])
    types = Ragged.from_lists([[0, 0, 1], [0, 1], [0, 0, 0, 1, 1]])
    targets = {"target": np.array([5, 6, 7]), "value": np.array([[0.5], [1.5], [2.5]], dtype=np.float32)}
    return Encoded({"input_ids": ids, "token_type_ids": types}, targets)


def batch_of(source: Encoded, *rows: int) -> Batch:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token_id, tokenizer._pad_token_type_id = 99, 4
    task = find_task("text-classification").from_config({"label_names": ["a", "b"]})
    return task.collate(source, np.array(rows), TextEncoder(tokenizer, 8))


def test_rows_lie_side_by_side_in_the_order_asked_for() -> None:
    batch = batch_of(encoded(), 1, 2)
    assert batch.inputs["input_ids"].tolist() == [[2, 3, 99, 99, 99], [2, 8, 9, 4, 3]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 1, 4, 4, 4], [0, 0, 0, 1, 1]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.rows.tolist() == [1, 2]
    assert batch.cost.tolist() == [2, 5]
    assert batch.targets["target"].tolist() == [6, 7]
    assert batch.targets["value"].tolist() == [[1.5], [2.5]]
    assert {value.dtype for value in batch.inputs.values()} == {torch.int64}
    assert batch.targets["value"].dtype == torch.float32


def test_the_width_is_that_of_the_longest_row() -> None:
    assert batch_of(encoded(), 1).inputs["input_ids"].shape == (1, 2)


def test_the_data_set_is_not_changed() -> None:
    source = encoded()
    batch = batch_of(source, 0, 2)
    batch.inputs["input_ids"].fill_(-1)
    batch.targets["target"].fill_(-1)
    assert source.inputs["input_ids"].values.tolist() == [2, 7, 3, 2, 3, 2, 8, 9, 4, 3]
    assert source.targets["target"].tolist() == [5, 6, 7]


def test_on_the_cpu_nothing_is_copied() -> None:
    batch = batch_of(encoded(), 0)
    assert batch.to(torch.device("cpu")) is batch


def test_columns_of_any_type_and_shape_are_laid_out() -> None:
    boxes = Ragged(np.arange(12, dtype=np.float32).reshape(3, 4) / 8, np.array([0, 2, 2, 3]))
    found = laid_out({"boxes": boxes, "mask": np.eye(3, dtype=bool)}, np.array([2, 0, 1]), -1)
    assert found["boxes"].dtype == torch.float32
    assert found["boxes"].shape == (3, 2, 4)
    assert found["boxes"][0].tolist() == [[1.0, 1.125, 1.25, 1.375], [-1.0] * 4]
    assert found["boxes"][2].tolist() == [[-1.0] * 4] * 2
    assert found["mask"].tolist() == np.eye(3, dtype=bool)[[2, 0, 1]].tolist()


def test_references_are_for_an_encoder_to_load() -> None:
    with pytest.raises(TypeError, match="load it"):
        laid_out({"image": Filed(["a.png"], str.encode)}, np.array([0]), 0)
