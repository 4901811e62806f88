"""Models that normalise over time, so that padding reaches the samples beside it: each row by itself.

The first layer of wav2vec2's kind has a group norm over all frames of a row. Padded rows would be normalised with the
padding among them (transformers#21534). Here every row is normalised over its own frames, whatever stands beside it.

Letters: ``B`` rows, ``C`` channels, ``T`` frames of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from sftlib.models.device import HOST
from sftlib.models.dropout import DropoutMasks
from sftlib.models.layouts.layout import Around, Layout
from sftlib.models.structure import hooked

Step = tuple[int, int]  # kernel and stride of a convolution


def frames_after(samples: Tensor, steps: Sequence[Step]) -> Tensor:
    """How many frames convolutions without padding leave of so many samples, at least 0.

    Example:
        >>> frames_after(
        ...     torch.tensor([400, 16000]), [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]
        ... ).tolist()
        [1, 49]
    """
    for kernel, stride in steps:
        samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
    return samples.clamp(min=0)


def norms_over_time(model: nn.Module) -> list[tuple[nn.GroupNorm, list[Step]]]:
    """Every group norm among the first convolutions of a model, and the convolutions before it."""
    found: list[tuple[nn.GroupNorm, list[Step]]] = []
    for module in model.modules():
        layers = getattr(module, "conv_layers", None)
        if not isinstance(layers, nn.ModuleList):
            continue
        steps: list[Step] = []
        for layer in layers:
            conv = getattr(layer, "conv", None)
            if not isinstance(conv, nn.Conv1d):
                break
            steps.append((conv.kernel_size[0], conv.stride[0]))
            found += [(part, list(steps)) for part in layer.children() if isinstance(part, nn.GroupNorm)]
    return found


@final
class RowByRow(Around):
    """A layout in which norms over time see the frames of one row at a time.

    Args:
        inner: how rows lie.
    """

    def __init__(self, inner: Layout) -> None:
        super().__init__(inner)
        self._samples: Tensor | None = None  # (B,) of the rows of the pass

    @contextmanager
    def installed(self, model: nn.Module) -> Iterator[None]:
        hooks = [norm.register_forward_hook(self._over(steps)) for norm, steps in norms_over_time(model)]
        with hooked(hooks), self.inner.installed(model):
            yield

    def arguments(
        self,
        masks: DropoutMasks,
        inputs: Mapping[str, Tensor],
        known_by: Sequence[bytes] = (),
        *,
        device: torch.device = HOST,
    ) -> dict[str, Any]:
        mask = inputs.get("attention_mask")
        self._samples = None if mask is None else mask.sum(dim=1)
        return self.inner.arguments(masks, inputs, known_by, device=device)

    def works(self, masks: DropoutMasks) -> bool:
        return self.inner.works(masks)

    def _over(self, steps: Sequence[Step]) -> Any:
        def over_rows(norm: nn.GroupNorm, given: tuple[Tensor], found: Tensor) -> Tensor | None:
            (x,) = given  # (B, C, T)
            if self._samples is None or len(self._samples) != len(x):
                return None
            frames = frames_after(self._samples, steps).tolist()
            if all(count == x.shape[2] for count in frames):
                return None
            return torch.cat([_of_row(norm, x[i : i + 1], count) for i, count in enumerate(frames)])

        return over_rows


def _of_row(norm: nn.GroupNorm, x: Tensor, frames: int) -> Tensor:
    """(1, C, T) a row that is normalised over its own frames, and 0 beyond them."""
    inside = functional.group_norm(x[:, :, :frames], norm.num_groups, norm.weight, norm.bias, norm.eps)
    return functional.pad(inside, (0, x.shape[2] - frames))
