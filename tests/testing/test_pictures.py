"""Pictures of shapes, and the tiny models that learn them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sftlib.errors import MissingExtraError, OptionError
from sftlib.testing import (
    IMAGE_FAMILIES,
    SHAPES,
    pictures,
    tiny_image_model,
    tiny_image_processor,
    write_pictures,
)


def test_rows_are_those_of_their_seed() -> None:
    rows, same, other = pictures(7, seed=3), pictures(7, seed=3), pictures(7, seed=4)
    assert [row["label"] for row in rows] == [SHAPES[i % 3] for i in range(7)]
    assert all(row["image"].shape == (32, 32, 3) and row["image"].dtype == np.uint8 for row in rows)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(rows, same, strict=True))
    assert not any(np.array_equal(a["image"], b["image"]) for a, b in zip(rows, other, strict=True))
    assert pictures(1, size=48)[0]["image"].shape == (48, 48, 3)
    assert pictures(0) == []


def test_all_that_cannot_be_is_named_at_once() -> None:
    with pytest.raises(OptionError, match=r"count=-1(.|\n)*classes=7(.|\n)*size=4"):
        pictures(-1, classes=7, size=4)
    with pytest.raises(OptionError, match="did you mean 'classes'"):
        pictures(1, klasses=2)  # type: ignore[call-arg]


def test_a_folder_holds_every_pixel(tmp_path: Path) -> None:
    from PIL import Image

    folder = Path(write_pictures(tmp_path / "shapes", 6, classes=2, seed=1))
    rows = pictures(6, classes=2, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == ["circle", "square"]
    for number, row in enumerate(rows):
        with Image.open(folder / row["label"] / f"{number:05}.png") as read:
            assert np.array_equal(np.asarray(read), row["image"])
    assert len(list(Path(write_pictures(tmp_path / "more", 3, suffix="jpg")).rglob("*.jpg"))) == 3
    with pytest.raises(OptionError, match="suffix='gif'"):
        write_pictures(tmp_path / "no", suffix="gif")


def test_without_pillow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"sftlib\[image\]"):
        write_pictures(tmp_path)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_a_tiny_model_sees_what_its_processor_makes(family: str) -> None:
    rows = pictures(4, size=40)
    inputs = tiny_image_processor(family)([row["image"] for row in rows], return_tensors="pt")
    assert inputs["pixel_values"].shape == (4, 3, 32, 32)
    model = tiny_image_model(family, 3)
    assert not model.training
    assert model.num_parameters() < 60_000
    with torch.no_grad():
        logits = model(**inputs).logits
    assert logits.shape == (4, 3)
    assert torch.isfinite(logits).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-4, "the answer does not depend on the picture"


def test_pixels_are_classified_too() -> None:
    model = tiny_image_model("segformer", 3, auto_class="AutoModelForSemanticSegmentation")
    assert model(torch.zeros(2, 3, 32, 32)).logits.shape == (2, 3, 8, 8)


@pytest.mark.parametrize(("family", "rate", "steps"), [("resnet", 5e-3, 40), ("vit", 2e-3, 250)])
def test_the_class_can_be_learned(family: str, rate: float, steps: int) -> None:
    processor, model = tiny_image_processor(family), tiny_image_model(family, 3, dropout=0.0)

    def batch(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows: list[dict[str, Any]] = pictures(count, seed=seed)
        pixels = processor([row["image"] for row in rows], return_tensors="pt")["pixel_values"]
        return pixels, torch.tensor([SHAPES.index(row["label"]) for row in rows])

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for step in range(steps):
        pixels, labels = batch(24, seed=step)
        torch.nn.functional.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    pixels, labels = batch(60, seed=1000)
    with torch.no_grad():  # batch statistics, which so few steps have not gathered
        right = (model(pixels).logits.argmax(-1) == labels).float().mean().item()
    assert right >= 0.8, right  # a guess is right in 0.33; processors differ by 0.1
