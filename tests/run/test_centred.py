"""An embedding begins in the middle of what it is learned from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sftlib import FineTuner, Image, TaskDataset
from sftlib.models.embedder import PlaceEmbedder
from sftlib.testing import pictures, tiny_image_model

pytest.importorskip("PIL")

FACES = TaskDataset(pictures(12, classes=3), task="image-embedding")


def tuner(**options: object) -> FineTuner:
    model = PlaceEmbedder(tiny_image_model("mobilenet_v2", auto_class="AutoModel"), width=16, rows=2, columns=2)
    given = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.0, "precision": "fp32", **options}
    return FineTuner(model, inputs=Image(size=32), **given)  # type: ignore[arg-type]


def bias(found: FineTuner) -> torch.Tensor:
    model = found.model
    assert isinstance(model, PlaceEmbedder)
    return model.embedding.bias.detach().clone()


def test_the_mean_of_the_training_rows_is_taken_away() -> None:
    found = tuner().fit(FACES, progress=False)
    seen: list[torch.Tensor] = []
    hook = found.model.register_forward_hook(lambda _, __, output: seen.append(output))
    found.evaluate(FACES)
    hook.remove()
    mean = torch.cat(seen).mean(0)
    assert mean.abs().max() < 1e-5 < bias(found).abs().max()


def test_it_depends_neither_on_cutting_nor_on_resuming(tmp_path: Path) -> None:
    whole = tuner(learning_rate=1e-3, max_steps=4).fit(FACES, progress=False)
    cut = tuner(learning_rate=1e-3, max_steps=4, micro_batch_size=1).fit(FACES, progress=False)
    losses = [[record["loss"] for record in one.history.steps] for one in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    folder = tmp_path / "run"
    tuner(learning_rate=1e-3, max_steps=4).fit(FACES, output_dir=folder, save_every=2, progress=False)
    for step in folder.glob("step-*4"):
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    again = tuner(learning_rate=1e-3, max_steps=4).fit(FACES, output_dir=folder, resume=True, progress=False)
    assert torch.equal(bias(again), bias(whole))


class Shifts(torch.nn.Module):
    """Somebody else's model, whose method of that name does something else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)

    def shift(self, mean: object) -> None:
        raise AssertionError("it is not ours to call")

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 4) of pictures (B, 3, H, W)."""
        found: torch.Tensor = self.layer(pixel_values.mean((2, 3)))
        return found


def test_a_method_of_that_name_in_a_model_of_ones_own_is_left_alone() -> None:
    FineTuner(Shifts(), inputs=Image(size=32), max_steps=1, batch_size=4).fit(FACES, progress=False)
