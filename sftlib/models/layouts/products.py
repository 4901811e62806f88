"""Products of a layer's input with its weights, by the fastest kernel that is at hand.

On x86 processors torch carries oneDNN, whose linear layer adds the bias and bends by GELU while a block of the result
is still in the cache, and reads weights that were laid out for it. With two threads of an EPYC with AVX512-BF16 and
3,400 tokens, 384 x 1,536 with its GELU took 10.9 ms that way and 18.5 by `torch.addmm` and a GELU in bf16, 19.6 and
36.1 in fp32, where torch's own products go through MKL. The numbers differ by the order of summation, and in bf16 a
fused GELU sees a sum that has not been rounded yet.

torch compiles to these functions (`torch.ops.mkldnn`) but does not document them for others: where one is missing, or
on another device, plain products do the same.

Letters: ``N`` tokens, ``H`` features in, ``F`` features out.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

_KINDS = (torch.float32, torch.bfloat16)
_LAID_OUT_FROM = 1536  # tokens; below, laying out a weight (0.2 ms for 384 x 1,536) is not repaid


def _found() -> bool:
    """Whether this torch has the functions, and this processor is one that they were measured on."""
    there = all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    return there and platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


_ONEDNN = _found()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(N, H) by (F, H) -> (N, F), without a graph; all of one type."""
    if _goes_there(x) and (bias is not None or x.dtype == torch.float32):  # in bf16 a bias is what costs torch's own
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, _laid_out(weight, len(x)), bias, "none", [], "")
        return made
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The exact GELU of `linear`, for when what it bends is not needed again."""
    if _goes_there(x):
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, _laid_out(weight, len(x)), bias, "gelu", [], "none")
        return made
    return nn.functional.gelu(linear(x, weight, bias))


def into_input(gradient: Tensor, weight: Tensor) -> Tensor:
    """(N, F) by (F, H) -> (N, H), the gradient of what entered `linear`; all of one type."""
    if _goes_there(gradient) and gradient.dtype == torch.float32:  # in bf16 torch's own is as fast
        made: Tensor = torch.ops.mkldnn._linear_pointwise(gradient, weight.t(), None, "none", [], "")
        return made
    return torch.mm(gradient, weight)


def _laid_out(weight: Tensor, tokens: int) -> Tensor:
    """A weight as oneDNN wants it for so many tokens, where they repay it; itself otherwise."""
    if tokens < _LAID_OUT_FROM:
        return weight
    made: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, tokens)
    return made


def _goes_there(x: Tensor) -> bool:
    if not _ONEDNN or x.device.type != "cpu" or x.dtype not in _KINDS:
        return False
    return x.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
