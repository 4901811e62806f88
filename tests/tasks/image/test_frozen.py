"""A frozen body is computed once for each picture: later epochs read no file and run no layer of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib import FineTuner, Image, TaskDataset
from sftlib.encoders.image import encoder as module
from sftlib.testing import tiny_image_model, tiny_image_processor, write_pictures

pytest.importorskip("PIL")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every picture that is decoded from now on."""
    found: list[Any] = []
    decode = module.decode

    def counting(value: Any) -> Any:
        found.append(value)
        return decode(value)

    monkeypatch.setattr(module, "decode", counting)
    return found


def tuner(family: str, augment: Any, **options: Any) -> FineTuner:
    reading = Image(processor=tiny_image_processor(family), augment=augment)
    more = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-2, "freeze": "backbone", "device": "cpu", **options}
    return FineTuner(tiny_image_model(family, 3), inputs=reading, **more)


@pytest.fixture
def data(tmp_path: Path) -> TaskDataset:
    return TaskDataset.from_folder(write_pictures(tmp_path / "shapes", 24, classes=3))


@pytest.mark.parametrize("family", ["vit", "resnet", "mobilenet_v2", "swin", "dinov2"])
def test_each_picture_is_decoded_once(
    family: str, data: TaskDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, valid = data.split(0.75, 0.25)
    decoded = counted(monkeypatch)
    found = tuner(family, "auto").fit(train, valid)
    assert "frozen layers are computed once for each row, and shown as it is" in capsys.readouterr().out
    files = [value for value in decoded if isinstance(value, str)]
    assert len(files) <= len(data) + 15, "six epochs, each with an evaluation, and a few looks at the model"
    plain = tuner(family, "none").fit(train, valid, progress=False)
    assert [r["loss"] for r in found.history.steps] == [r["loss"] for r in plain.history.steps]


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_the_run_is_that_of_layers_that_are_computed_anew(family: str, data: TaskDataset) -> None:
    """With augmentation nothing can be kept; a crop of the whole picture is no augmentation, but nobody knows."""
    from sftlib.encoders.image.augment import Flip

    once = tuner(family, "auto", dropout=0.1).fit(data, progress=False)
    anew = tuner(family, [Flip(p=0.0)], dropout=0.1).fit(data, progress=False)
    expected = [record["loss"] for record in anew.history.steps]
    assert [record["loss"] for record in once.history.steps] == pytest.approx(expected, rel=1e-5)


def test_augmentation_that_was_asked_for_stays(data: TaskDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = counted(monkeypatch)
    tuner("vit", "light", epochs=3).fit(data, progress=False)
    assert len([value for value in decoded if isinstance(value, str)]) >= 3 * len(data)


def test_auto_is_light_where_the_body_is_trained(data: TaskDataset) -> None:
    runs = [tuner("vit", augment, freeze=None, epochs=1).fit(data, progress=False) for augment in ("auto", "light")]
    assert torch.equal(*(run.model.state_dict()["classifier.weight"] for run in runs))
    lowest = tuner("vit", "auto", freeze=1, epochs=1).fit(data, progress=False)
    same = tuner("vit", "light", freeze=1, epochs=1).fit(data, progress=False)
    assert torch.equal(*(run.model.state_dict()["classifier.weight"] for run in (lowest, same)))


def test_what_was_not_read_cannot_pass_for_a_picture(data: TaskDataset) -> None:
    """Should a model look at it after all, its scores are no numbers, and not those of an empty picture."""
    reading = module.ImageEncoder(tiny_image_processor("vit"))
    from sftlib.tasks import ImageClassification

    task = ImageClassification().learned_from(data)
    encoded = task.encode(data, reading)
    batch = task.collate(encoded, torch.arange(4).numpy(), reading, read=False)
    assert batch.inputs["pixel_values"].shape == (4, 3, 32, 32)
    assert torch.isnan(tiny_image_model("vit", 3)(**batch.inputs).logits).all()
