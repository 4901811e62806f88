"""Every layout and every kernel gives what the model gives by itself: scores and gradients, rows padded, all types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sftlib.models.layouts import kernels
from sftlib.models.layouts.kernels import Kernel, agrees, kernel_of
from sftlib.models.layouts.layout import Flat, Fused, Layout, OwnAttention, Padded, Watched
from sftlib.models.outputs import logits
from sftlib.models.precision import Bf16, Fp32
from sftlib.run.assemble import assemble
from tests.contracts.cases import case_of, task_class, tuner_for
from tests.gpu.conftest import CARD
from tests.models.layouts.test_kernels import KERNELS

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
LAYOUTS: dict[str, Callable[[], Layout]] = {
    "padded": Padded,
    "watched": Watched,
    "flat": Flat,
    "flat, first only": lambda: Flat(first_only=True),
    "fused": lambda: Fused(first_only=False),
}
BOUND = 1e-5  # of the largest score, and of the norm of the gradient, in fp32


def computed(family: str, layout: Layout, device: str, precision: Any = None) -> tuple[Tensor, Tensor]:
    """Scores of eight rows of different lengths, and the gradient of their sum of squares, without dropout."""
    tuner = tuner_for("text-classification", family, device=device, dropout=0.0)
    data = case_of("text-classification").data(8)
    arguments = tuner._arguments
    task = arguments.learning(task_class("text-classification")).learned_from(data)
    fitted = assemble(arguments, tuner._source, task)
    encoded = fitted.encode(data)
    forward = fitted.forward(layout, precision or Fp32())
    fitted.model.eval()
    batch = fitted.feed(encoded).of(torch.arange(8).numpy())
    with forward.prepared():
        scores = logits(forward(batch)).float()
        scores.square().sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in fitted.model.parameters() if p.grad is not None])
    return scores.detach().cpu(), gradient.cpu()


def close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], bound: float) -> None:
    assert float((found[0] - expected[0]).abs().max()) <= bound * float(expected[0].abs().max())
    assert float((found[1] - expected[1]).norm()) <= bound * float(expected[1].norm())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_a_layout_gives_what_the_model_gives(family: str, layout: str, device: str) -> None:
    if layout == "fused" and (device != "cpu" or family == "modernbert"):
        with pytest.raises(ValueError, match="no layer that can be fused"):
            computed(family, LAYOUTS[layout](), device)
        return
    if layout == "flat, first only" and family == "llama":
        pytest.skip("this model's scores hang on the last token")
    close(computed(family, LAYOUTS[layout](), device), computed(family, OwnAttention(), "cpu"), BOUND)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_rows_end_to_end_in_bf16(family: str, device: str) -> None:
    """Where a card has a kernel for 16 bits, this is that kernel inside a model."""
    close(computed(family, Flat(), device, Bf16()), computed(family, Padded(), device, Bf16()), 5e-2)


def candidates(dtype: torch.dtype, device: str) -> list[Kernel]:
    return kernels._candidates(dtype) if device == "cuda" else KERNELS[:1]  # the other has no gradient there


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [32, 64, 128])
def test_every_kernel_agrees_with_attention_written_out(width: int, dtype: torch.dtype, device: str) -> None:
    """On the processor a stand-in in fp32 proves what FlashAttention is asked for."""
    dtype = dtype if device == "cuda" else torch.float32
    for kernel in candidates(dtype, device):
        assert agrees(kernel, torch.device(device), dtype, width), type(kernel).__name__


def test_a_card_has_a_kernel_and_a_processor_none(device: str) -> None:
    found = kernel_of(torch.device(device), torch.bfloat16, 64)
    assert (found is not None) == (device == "cuda")
    if CARD and device == "cuda":
        assert type(found).__name__ == "Flash", "torch.nn.attention.varlen is there, and yet not taken"
