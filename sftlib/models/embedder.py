"""An embedding that remembers where things lie: for aligned pictures, such as faces, of few identities.

Letters: ``B`` pictures, ``D`` numbers of an embedding, ``H`` and ``W`` pixels, ``C`` features of a place.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.models.pyramid import maps_of, widths_of
from sftlib.support.checking import checked, raise_together, whole_number


@final
class PlaceEmbedder(nn.Module):
    """A body of any make, and a head that reads its maps of features field by field.

    The usual embedding is the mean over all places, which forgets where an eye or a mouth is. Here the mean is taken in
    each field of a grid, in every map of the body, from coarse to fine; each map is brought to length 1, and one linear
    layer makes the embedding of all of them. The layer begins as a random projection, which keeps angles (Johnson and
    Lindenstrauss, 1984): before any training the embedding tells apart what the features of the body do. A run begins
    by taking the mean of its training rows away, since features without it tell more.

    Args:
        body: a model of pictures of transformers, or any module that returns a map (B, C, h, w), several of them, or
            something with ``feature_maps`` or ``hidden_states``.
        width: numbers of the embedding.
        stride: pixels of a place of the finest map, as far as the body has maps so fine.
        rows: of the grid.
        columns: of the grid.
        seed: of its weights.

    Raises:
        OptionError: numbers that cannot be, or a body that makes no maps.

    Example:
        >>> PlaceEmbedder(nn.Conv2d(3, 8, 8, stride=8), width=16)(torch.zeros(2, 3, 32, 48)).shape
        torch.Size([2, 16])
    """

    #: Its layer does not begin at nothing, but keeps angles that are worth something: small steps.
    usual_rate = 5e-4

    @checked
    def __init__(
        self, body: nn.Module, *, width: int = 128, stride: int = 8, rows: int = 4, columns: int = 4, seed: int = 0
    ) -> None:
        super().__init__()
        self.options = {"width": width, "stride": stride, "rows": rows, "columns": columns}
        raise_together([whole_number(name, value, at_least=1) for name, value in self.options.items()])
        self.body = body
        features = rows * columns * sum(widths_of(body, stride))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embedding = nn.Linear(features, width)
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        nn.init.zeros_(self.embedding.bias)

    def shift(self, mean: Tensor) -> None:
        """Take (D,) away from every embedding, from now on."""
        with torch.no_grad():
            self.embedding.bias.sub_(mean.to(self.embedding.bias))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, D) of pictures (B, 3, H, W), not yet of length 1."""
        grid = self.options["rows"], self.options["columns"]
        maps = maps_of(self.body, pixel_values, self.options["stride"])
        fields = [functional.adaptive_avg_pool2d(level, grid).flatten(1) for level in maps]  # (B, C * fields) each
        whole = torch.cat([functional.normalize(level, dim=1) for level in fields], dim=1)
        embedded: Tensor = self.embedding(whole * len(maps) ** -0.5)
        return embedded
