"""One micro-batch as tensors, against plain lists."""

from __future__ import annotations

import numpy as np
import torch

from sftlib.encoders.batch import pad
from sftlib.encoders.encoded import Encoded, Ragged


def encoded() -> Encoded:
    ids = Ragged.from_lists([[2, 7, 3], [2, 3], [2, 8, 9, 4, 3]])
    types = Ragged.from_lists([[0, 0, 1], [0, 1], [0, 0, 0, 1, 1]])
    targets = {"target": np.array([5, 6, 7]), "value": np.array([[0.5], [1.5], [2.5]], dtype=np.float32)}
    return Encoded({"input_ids": ids, "token_type_ids": types}, targets, np.array([3, 2, 5]))


def test_rows_lie_side_by_side_in_the_order_asked_for() -> None:
    batch = pad(encoded(), np.array([1, 2]), fill={"input_ids": 99, "token_type_ids": 4})
    assert batch.inputs["input_ids"].tolist() == [[2, 3, 99, 99, 99], [2, 8, 9, 4, 3]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 1, 4, 4, 4], [0, 0, 0, 1, 1]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.rows.tolist() == [1, 2]
    assert batch.lengths.tolist() == [2, 5]
    assert batch.targets["target"].tolist() == [6, 7]
    assert batch.targets["value"].tolist() == [[1.5], [2.5]]
    assert {value.dtype for value in batch.inputs.values()} == {torch.int64}
    assert batch.targets["value"].dtype == torch.float32


def test_the_width_is_that_of_the_longest_row() -> None:
    batch = pad(encoded(), np.array([1]), fill={"input_ids": 0, "token_type_ids": 0})
    assert batch.inputs["input_ids"].shape == (1, 2)


def test_the_data_set_is_not_changed() -> None:
    source = encoded()
    batch = pad(source, np.array([0, 2]), fill={"input_ids": 0, "token_type_ids": 0})
    batch.inputs["input_ids"].fill_(-1)
    batch.targets["target"].fill_(-1)
    assert source.inputs["input_ids"].values.tolist() == [2, 7, 3, 2, 3, 2, 8, 9, 4, 3]
    assert source.targets["target"].tolist() == [5, 6, 7]


def test_on_the_cpu_nothing_is_copied() -> None:
    batch = pad(encoded(), np.array([0]), fill={"input_ids": 0, "token_type_ids": 0})
    assert batch.to(torch.device("cpu")) is batch
