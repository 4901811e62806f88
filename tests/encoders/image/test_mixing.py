"""Two pictures in one: which, and how much of each, depends on counters alone, and the loss is that of both."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib import (
    FineTuner,
    Image,
    ImageClassification,
    ImageRegression,
    MultiLabelImageClassification,
    TaskDataset,
)
from sftlib.encoders.draws import Draw
from sftlib.encoders.image.encoder import PIXELS, ImageEncoder
from sftlib.encoders.image.mixing import CutMix, Mixing, Mixup, mixings, partner
from sftlib.errors import OptionError
from sftlib.tasks.base import Task
from sftlib.tasks.single_label import SingleLabel
from sftlib.testing import FakeProcesses, pictures, scenes, tiny_detector, tiny_image_model, tiny_image_processor
from tests.trust.runs import BreakAt, Interrupted

pytest.importorskip("PIL")

ROWS = pictures(12, classes=3)
DATA = TaskDataset(ROWS)
EVERY = np.arange(len(ROWS))
PROCESSOR = tiny_image_processor("vit")
WAYS = [(Mixup(0.4),), (CutMix(1.0),), (Mixup(0.4), CutMix(1.0))]


def reading(**options: Any) -> Image:
    return Image(processor=PROCESSOR, **{"mixup": 0.4, "cutmix": 1.0, **options})


def tuner(**options: Any) -> FineTuner:
    settings = {"inputs": reading(), "max_steps": 4, "batch_size": 6, "learning_rate": 1e-3, "precision": "fp32"}
    return FineTuner(tiny_image_model("vit", num_labels=3), **{**settings, **options})


def collated(task: Task, rows: Any, ways: tuple[Mixing, ...], data: TaskDataset = DATA, epoch: int = 0) -> Any:
    encoder = ImageEncoder(PROCESSOR, Image(augment="light")._encoder(PROCESSOR).augment, mixings=ways)
    return task.collate(task.encode(data, encoder), np.ascontiguousarray(rows), encoder, partial(Draw, 0, epoch))


@pytest.mark.parametrize("ways", WAYS, ids=str)
def test_neither_cut_nor_order_changes_what_is_seen(ways: tuple[Mixing, ...]) -> None:
    task = ImageClassification().learned_from(DATA)
    whole = collated(task, EVERY, ways)
    for parts in (EVERY[:, None], EVERY.reshape(3, 4), EVERY[::-1].reshape(2, 6)):
        cut = [collated(task, part, ways) for part in parts]
        order = torch.argsort(torch.cat([part.rows for part in cut]))
        for name, read in (("inputs", PIXELS), ("targets", "target")):
            values = torch.cat([getattr(part, name)[read] for part in cut])[order]
            assert torch.equal(values, getattr(whole, name)[read])
    other = collated(task, EVERY, ways, epoch=1)
    assert not torch.equal(other.targets["target"], whole.targets["target"])


@pytest.mark.parametrize("ways", WAYS[:2], ids=str)
def test_pixels_and_targets_by_hand(ways: tuple[Mixing, ...]) -> None:
    """Beside a plain loop: each picture as it is shown alone, its partner's, and the share that was drawn."""
    task = ImageClassification().learned_from(DATA)
    mixed, alone = collated(task, EVERY, ways), collated(task, EVERY, ())
    pixels, labels = alone.inputs[PIXELS].numpy(), alone.targets["target"].tolist()
    for row in EVERY.tolist():
        draw = Draw(0, 0, row)
        other = partner(row, len(ROWS), draw)
        seen, share = ways[0](pixels[row], pixels[other], draw)
        assert other != row
        assert np.array_equal(mixed.inputs[PIXELS][row].numpy(), seen)
        expected = [0.0, 0.0, 0.0]
        expected[labels[row]] += share
        expected[labels[other]] += 1 - share
        assert mixed.targets["target"][row].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_share_of_cutmix_is_that_of_the_pixels_that_are_seen() -> None:
    own, other = np.zeros((3, 15, 10), np.float32), np.ones((3, 15, 10), np.float32)
    shares = []
    for row in range(300):
        seen, share = CutMix(1.0)(own, other, Draw(0, 0, row))
        assert seen.mean() == pytest.approx(1 - share, abs=1e-6)
        columns, rows = seen[0].any(0), seen[0].any(1)
        assert (seen[0] == np.outer(rows, columns)).all()  # one part, with straight edges
        shares.append(share)
    assert not own.any()
    assert min(shares) < 0.2
    assert max(shares) > 0.95


def test_shares_of_mixup_are_drawn_from_beta() -> None:
    """Mean and variance of Beta(a, a) are 1/2 and 1 / (4 (2 a + 1))."""
    blank = np.zeros((3, 1, 1), np.float32)
    shares = np.array([Mixup(0.4)(blank, blank, Draw(1, 0, row))[1] for row in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / 7.2, abs=0.006)


def test_partners_are_any_other_row() -> None:
    found = [partner(3, 7, Draw(0, epoch, 3)) for epoch in range(700)]
    assert np.bincount(found, minlength=7)[3] == 0
    assert np.bincount(found, minlength=7)[[0, 1, 2, 4, 5, 6]].min() > 80
    assert partner(0, 1, Draw(0, 0, 0)) == 0


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_both_labels(weights: Any, smoothing: float) -> None:
    """Row by row: the share times the loss of one label, and the rest times that of the other; so are the counts."""
    labels = SingleLabel(("a", "b", "c"), weights, smoothing)
    scores = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, two = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 1, 0, 2, 0])
    share = torch.tensor([0.25, 1.0, 0.5, 0.125, 0.75])
    hot = [torch.nn.functional.one_hot(part, 3).float() for part in (one, two)]
    found = labels.loss(scores, share[:, None] * hot[0] + (1 - share)[:, None] * hot[1])
    total = count = 0.0
    for row in range(5):
        for part, of in ((share[row], one), (1 - share[row], two)):
            single = labels.loss(scores[row : row + 1], of[row : row + 1])
            total, count = total + float(part * single.total), count + float(part * single.count)
    assert float(found.total) == pytest.approx(total, rel=1e-12)
    assert float(found.count) == pytest.approx(count, rel=1e-12)


def test_numbers_and_several_labels_are_shared_too() -> None:
    number = TaskDataset({"image": [row["image"] for row in ROWS], "target": [float(n) for n in range(12)]})
    several = TaskDataset({"image": [row["image"] for row in ROWS], "labels": [["a"], ["b"], ["a", "b"]] * 4})
    for task, data in ((ImageRegression(), number), (MultiLabelImageClassification(), several)):
        learned = task.learned_from(data)
        targets = collated(learned, EVERY, (), data).targets["target"]
        batch = collated(learned, EVERY, (Mixup(0.4),), data)
        for row in range(12):
            draw = Draw(0, 0, row)
            share = Mixup(0.4)(np.zeros((3, 1, 1), np.float32), np.zeros((3, 1, 1), np.float32), draw)[1]
            expected = share * targets[row] + (1 - share) * targets[partner(row, 12, draw)]
            assert torch.allclose(batch.targets["target"][row], expected, atol=1e-5)


def losses(tuned: FineTuner) -> list[float]:
    return [record["loss"] for record in tuned.history.steps]


def test_runs_do_not_depend_on_the_cut_or_on_processes() -> None:
    whole = tuner(micro_batch_size=6).fit(DATA, progress=False)
    for cut in (4, 1):
        assert losses(tuner(micro_batch_size=cut).fit(DATA, progress=False)) == pytest.approx(losses(whole), rel=1e-5)
    shared = FakeProcesses(2).run(lambda: losses(tuner().fit(DATA, progress=False)))
    assert shared[0] == pytest.approx(losses(whole), rel=1e-5)
    plain = tuner(inputs=Image(processor=PROCESSOR)).fit(DATA, progress=False)
    assert losses(plain) != pytest.approx(losses(whole), rel=1e-3)


def test_a_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    whole = tuner().fit(DATA, progress=False)
    with pytest.raises(Interrupted):
        tuner().fit(DATA, output_dir=tmp_path, save_every=1, callbacks=[BreakAt(3)], progress=False)
    resumed = {"resume": True, "save_every": 1, "callbacks": [BreakAt(0)]}
    again = tuner().fit(DATA, output_dir=tmp_path, progress=False, **resumed)
    assert losses(again) == losses(whole)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name])


def test_evaluation_is_untouched() -> None:
    tuned = tuner().fit(DATA, progress=False)
    metrics = tuned.evaluate(DATA)
    found = tuned.predict(DATA)
    chances = [prediction.probabilities[row["label"]] for prediction, row in zip(found, ROWS, strict=True)]
    assert metrics["loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-5)


def test_a_frozen_body_is_computed_anew_for_every_mixture() -> None:
    """Nothing may be kept of pictures that are others in every epoch."""
    kept = tuner(freeze="backbone", inputs=reading(augment="none")).fit(DATA, progress=False)
    plain = tuner(freeze="backbone", inputs=Image(processor=PROCESSOR, augment="none")).fit(DATA, progress=False)
    assert losses(kept) != pytest.approx(losses(plain), rel=1e-3)


def test_what_cannot_be_mixed_is_refused() -> None:
    rows = scenes(4, classes=2, seed=0)
    boxes = TaskDataset({role: [row[role] for row in rows] for role in ("image", "objects")})
    model = tiny_detector("deformable_detr", num_labels=2)
    detector = FineTuner(model, inputs=Image(processor=tiny_image_processor("deformable_detr"), mixup=0.2), max_steps=1)
    with pytest.raises(OptionError, match="which object-detection cannot learn from"):
        detector.fit(boxes, progress=False)
    with pytest.raises(OptionError, match="mixup=-1: expected 0 for none"):
        Image(mixup=-1)
    assert mixings(0.0, 0.0) == ()


def test_options_are_found_again() -> None:
    tuned = tuner()
    assert tuned.get_params()["inputs__cutmix"] == 1.0
    assert ImageEncoder(PROCESSOR, mixings=WAYS[2]).given["inputs"].mixup == 0.4
