"""Losses of detectors: those of transformers on one batch, and sums wherever a batch is cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sftlib import Detection, TaskDataset
from sftlib.encoders.batch import Batch
from sftlib.encoders.image.encoder import ImageEncoder
from sftlib.models.detection.boxes import edges_of, middles_of, overlaps
from sftlib.models.detection.places import edges_around, heat_sums, peaks
from sftlib.models.detection.sets import Truth
from sftlib.testing import DETECTORS, scenes, tiny_detector, tiny_image_processor

ROWS = scenes(8, classes=3, size=(24, 40), seed=3)
DATA = TaskDataset({role: [row[role] for row in ROWS] for role in ("image", "objects")})
TASK = Detection().learned_from(DATA)


def collated(family: str, rows: list[int]) -> Batch:
    encoder = ImageEncoder(tiny_image_processor(family))
    encoded = TASK.encode(DATA, encoder)
    batch = TASK.collate(encoded, np.array(rows), encoder)
    return Batch(**{**vars(batch), "of_step": TASK.counts(encoded, np.array(rows))})


def ours(model: torch.nn.Module, batch: Batch) -> Any:
    found = TASK.ask(model, lambda module, inputs: module(inputs["pixel_values"]), batch.inputs)
    return TASK.loss(found, batch)


def labels(batch: Batch) -> list[dict[str, Tensor]]:
    """As transformers wants them."""
    made = []
    for row in range(len(batch.rows)):
        true = batch.targets["labels"][row] >= 0
        boxes = middles_of(batch.targets["edges"][row][true])
        made.append({"class_labels": batch.targets["labels"][row][true], "boxes": boxes})
    return made


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3], [6, 2, 5, 7, 1]])
@pytest.mark.parametrize("family", DETECTORS)
def test_it_is_the_loss_of_transformers(family: str, rows: list[int]) -> None:
    batch = collated(family, rows)
    model = tiny_detector(family, 3, dropout=0.0)
    model.config.num_denoising = 0
    expected = model(pixel_values=batch.inputs["pixel_values"], labels=labels(batch)).loss
    total, count = ours(model, batch)
    assert float((total / count).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(count) == sum(len(ROWS[row]["objects"]) for row in rows)


@pytest.mark.parametrize("family", DETECTORS)
def test_its_gradient_is_that_of_transformers(family: str) -> None:
    batch = collated(family, [0, 1, 6, 2])
    gradients = []
    for theirs in (True, False):
        model = tiny_detector(family, 3, dropout=0.0)
        model.config.num_denoising = 0
        if theirs:
            loss = model(pixel_values=batch.inputs["pixel_values"], labels=labels(batch)).loss
        else:
            total, count = ours(model, batch)
            loss = total / count
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-5 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("family", DETECTORS)
@pytest.mark.parametrize("size", [1, 3])
def test_parts_of_a_step_add_up(family: str, size: int) -> None:
    rows = [0, 1, 6, 2, 5, 7]
    model = tiny_detector(family, 3, dropout=0.0)
    whole = collated(family, rows)
    total, count = ours(model, whole)
    parts = []
    for start in range(0, len(rows), size):
        part = collated(family, rows[start : start + size])
        parts.append(ours(model, Batch(**{**vars(part), "of_step": whole.of_step})))
    assert float(sum(part.total.detach() for part in parts)) == pytest.approx(float(total.detach()), rel=1e-6)
    assert float(sum(part.count for part in parts)) == pytest.approx(float(count), rel=1e-6)


@pytest.mark.parametrize("family", DETECTORS)
def test_a_step_without_objects_is_divided_by_one(family: str) -> None:
    empty = [row for row, scene in enumerate(ROWS) if not scene["objects"]]
    assert empty
    batch = collated(family, empty * 2)
    model = tiny_detector(family, 3, dropout=0.0)
    model.config.num_denoising = 0
    expected = model(pixel_values=batch.inputs["pixel_values"], labels=labels(batch)).loss
    total, count = ours(model, batch)
    assert float(count) == 1.0
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    total.backward()


def test_boxes_go_round_and_overlap_as_transformers_has_it() -> None:
    from transformers.loss.loss_for_object_detection import box_iou, generalized_box_iou

    numbers = torch.Generator().manual_seed(0)
    edges = torch.rand(40, 4, generator=numbers).reshape(40, 2, 2).sort(1).values.flatten(1)
    edges[:, 2:] += 0.01
    assert torch.allclose(edges_of(middles_of(edges)), edges, atol=1e-6)
    plain, general = overlaps(edges[:20, None], edges[None, 20:])
    assert torch.allclose(plain, box_iou(edges[:20], edges[20:])[0], atol=1e-6)
    assert torch.allclose(general, generalized_box_iou(edges[:20], edges[20:]), atol=1e-6)


def truths(rows: int) -> list[Truth]:
    numbers = torch.Generator().manual_seed(1)
    found = []
    for row in range(rows):
        edges = torch.rand(row % 3, 4, generator=numbers).reshape(-1, 2, 2).sort(1).values.flatten(1)
        edges[:, 2:] += 0.05
        found.append(Truth(torch.arange(row % 3), edges))
    return found


def test_losses_of_places_add_up() -> None:
    numbers = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 2, 8, 10, generator=numbers, dtype=torch.float64)
    distances = torch.rand(6, 4, 8, 10, generator=numbers, dtype=torch.float64)
    whole = heat_sums(logits, distances, truths(6))
    parts = [heat_sums(logits[row : row + 1], distances[row : row + 1], truths(6)[row : row + 1]) for row in range(6)]
    assert float(sum(part.classes for part in parts)) == pytest.approx(float(whole.classes), rel=1e-9)
    assert float(sum(part.boxes for part in parts)) == pytest.approx(float(whole.boxes), rel=1e-9)


def test_the_least_loss_of_places_is_that_of_the_truth() -> None:
    """At the middle of a box sure of its label, elsewhere sure of nothing, and edges where they are."""
    truth = Truth(torch.tensor([1]), torch.tensor([[0.125, 0.25, 0.625, 0.75]]))
    logits = torch.full((1, 2, 8, 8), -20.0)
    logits[0, 1, 4, 3] = 20.0  # the middle is at 0.375 and 0.5
    middles = torch.stack(torch.meshgrid(*[(torch.arange(8) + 0.5) / 8] * 2, indexing="ij"))
    x, y = middles[1], middles[0]
    distances = torch.stack([x - 0.125, y - 0.25, 0.625 - x, 0.75 - y])[None]
    assert torch.allclose(edges_around(distances), truth.edges[0][None, :, None, None].expand(1, 4, 8, 8))
    sums = heat_sums(logits, distances, [truth])
    assert float(sums.classes + sums.boxes) == pytest.approx(0.0, abs=1e-5)
    scores, codes, places = peaks(logits, 5)
    assert scores[0, 0] > 0.99
    assert (int(codes[0, 0]), int(places[0, 0])) == (1, 4 * 8 + 3)


def test_what_a_model_must_answer_is_told() -> None:
    batch = SimpleNamespace(rows=torch.arange(2), notes={}, of_step={}, targets={})
    found = SimpleNamespace(logits=torch.zeros(2, 5, 9), boxes=torch.zeros(2, 5, 4), earlier=(), config=None)
    with pytest.raises(Exception, match=r"needs \(2, queries, 3 or 4\) and \(2, queries, 4\), or \(2, 3, h, w\)"):
        TASK.decode(found, batch)  # type: ignore[arg-type]
