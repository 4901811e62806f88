"""The contract, and the pipeline of a saved folder, over every family of transformers with a head for classes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

from sftlib import FineTuner, Image, TaskDataset
from sftlib.errors import OptionError
from sftlib.testing import pictures
from tests.tasks.image.families import CONFIGS, REFUSED, SIZE, SIZES, tiny

pytest.importorskip("PIL")

ROWS = pictures(12, classes=3, size=40)
DATA = TaskDataset(ROWS)


def tuner(family: str, cut: int, **options: Any) -> FineTuner:
    size = SIZES.get(family, SIZE)
    more = {"max_steps": 3, "batch_size": 12, "learning_rate": 1e-3, "precision": "fp32", "device": "cpu", **options}
    return FineTuner(tiny(family), inputs=Image(size=size), micro_batch_size=cut, **more)


@functools.cache
def whole(family: str) -> FineTuner:
    return tuner(family, 12).fit(DATA, progress=False)


def losses(found: FineTuner) -> list[float]:
    return [record["loss"] for record in found.history.steps]


def test_every_family_is_here() -> None:
    known = set(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    assert known - CONFIGS.keys() - REFUSED.keys() == set()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_batch_may_be_cut(family: str) -> None:
    assert len(losses(whole(family))) == 3
    assert losses(whole(family))[0] != losses(whole(family))[1]
    for cut in (5, 1):
        other = tuner(family, cut).fit(DATA, progress=False)
        assert losses(other) == pytest.approx(losses(whole(family)), rel=1e-5), f"rows of a cut: {cut}"
        norms = [[record["grad_norm"] for record in run.history.steps] for run in (other, whole(family))]
        assert norms[0][0] == pytest.approx(norms[1][0], rel=1e-4)


@pytest.mark.parametrize("family", CONFIGS)
def test_predictions_know_no_neighbours(family: str) -> None:
    found = whole(family)
    alone = [list(p.probabilities.values()) for p in found.predict(DATA, batch_size=1)]
    together = [list(p.probabilities.values()) for p in found.predict(DATA, batch_size=12)]
    assert together == [pytest.approx(row, abs=5e-6) for row in alone]
    assert len({tuple(np.round(row, 4)) for row in alone}) > 3, "all pictures look alike to it"


@pytest.mark.parametrize("family", CONFIGS)
def test_the_pipeline_of_the_folder_gives_the_same_scores(family: str, tmp_path: Path) -> None:
    found = whole(family)
    found.save(tmp_path / "model")
    again = FineTuner.load(tmp_path / "model")
    files = []
    for number, row in enumerate(ROWS[:4]):
        from PIL import Image as Pillow

        files.append(str(tmp_path / f"{number}.png"))
        Pillow.fromarray(row["image"]).save(files[-1])
    expected = found.predict(files)
    assert again.predict(files) == expected
    opened = transformers.pipeline("image-classification", model=str(tmp_path / "model"), device="cpu")
    for file, prediction in zip(files, expected, strict=True):
        scores = {item["label"]: item["score"] for item in opened(file, top_k=3)}
        # Two orders of summing in fp32, and what a family's own layers make of it: textnet 5.01e-6 on one machine.
        assert scores == pytest.approx(dict(prediction.probabilities), abs=2e-5)


@pytest.mark.parametrize("family", ["siglip2", "imagegpt"])
def test_what_reads_no_picture_is_refused(family: str) -> None:
    small: dict[str, dict[str, Any]] = {
        "siglip2": {
            "vision_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "num_patches": 16,
                "patch_size": 8,
            },
            "text_config": {
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "vocab_size": 99,
            },
        },
        "imagegpt": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 17, "n_positions": 64},
    }
    config = transformers.AutoConfig.for_model(family, num_labels=3, **small[family])
    model = transformers.AutoModelForImageClassification.from_config(config)
    with pytest.raises(OptionError, match=r"it cannot be called with pixel_values \(rows, channels, height, width\)"):
        FineTuner(model, inputs=Image(size=32), max_steps=1).fit(DATA, progress=False)


def test_a_model_that_takes_any_size_is_not_held_to_that_of_its_config() -> None:
    """DINOv2 was trained at 518 pixels, and its image processor makes 224 of them."""
    for family in ("dinov2", "dinov2_with_registers", "swin"):
        found = FineTuner(tiny(family), inputs=Image(size=48), max_steps=1, batch_size=4).fit(DATA, progress=False)
        assert torch.isfinite(torch.tensor(losses(found))).all()
    with pytest.raises(OptionError, match="reads pictures of 32 x 32 pixels, and its inputs are 48 x 48"):
        FineTuner(tiny("vit"), inputs=Image(size=48), max_steps=1).fit(DATA, progress=False)
