"""An embedding field by field: by hand, near the features at the start, and independent of other pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sftlib.errors import OptionError
from sftlib.models.embedder import PlaceEmbedder
from sftlib.testing import tiny_image_model


class Two(nn.Module):
    """The picture itself in fields of 4 and of 8 pixels."""

    def forward(self, pixels: Tensor) -> list[Tensor]:
        fine = nn.functional.avg_pool2d(pixels, 4)
        return [fine, nn.functional.avg_pool2d(fine, 2)]


PIXELS = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_by_hand() -> None:
    model = PlaceEmbedder(Two(), width=5, stride=4, rows=2, columns=2)
    parts = []
    for _ in range(2):  # both maps have the same means in a grid of two by two
        fields = torch.stack(
            [PIXELS[:, :, y : y + 16, x : x + 16].mean((2, 3)) for y in (0, 16) for x in (0, 16)], dim=2
        ).flatten(1)
        parts.append(fields / fields.norm(dim=1, keepdim=True))
    expected = model.embedding(torch.cat(parts, dim=1) / 2**0.5)
    assert torch.allclose(model(PIXELS), expected, atol=1e-6)


def test_it_begins_near_the_angles_of_the_features() -> None:
    model = PlaceEmbedder(Two(), width=2048, stride=4, rows=4, columns=4)
    maps = [nn.functional.adaptive_avg_pool2d(level, (4, 4)).flatten(1) for level in Two()(PIXELS)]
    features = torch.cat([nn.functional.normalize(level, dim=1) for level in maps], dim=1)
    found, wanted = (nn.functional.normalize(part, dim=1) for part in (model(PIXELS), features))
    assert (found @ found.T - wanted @ wanted.T).abs().max() < 0.1


def test_no_picture_depends_on_another() -> None:
    model = PlaceEmbedder(tiny_image_model("mobilenet_v2", auto_class="AutoModel", dropout=0.0), width=8).eval()
    with torch.no_grad():
        whole, alone = model(PIXELS), torch.cat([model(row[None]) for row in PIXELS])
    assert torch.allclose(whole, alone, atol=1e-6)


def test_what_will_not_do() -> None:
    with pytest.raises(OptionError, match="rows=0"):
        PlaceEmbedder(Two(), rows=0)
    with pytest.raises(OptionError, match="without a map of features"):
        PlaceEmbedder(nn.Flatten())
    one, same, other = (PlaceEmbedder(Two(), seed=seed).embedding.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
