"""Products by oneDNN and by torch: the same numbers, whatever the type, the bias and the number of tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sftlib.models.layouts import products

TYPES = [torch.float32, torch.bfloat16, torch.float64]
#: Of a sum of 48 products, each in the type's own rounding.
BOUND = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-13}


def drawn(tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = ((tokens, 48), (80, 48), (80,))
    x, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return x, weight, bias


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    assert found.dtype == dtype
    return bool((found.double() - expected).norm() <= BOUND[dtype] * expected.norm())


@pytest.fixture(params=["as found", "without oneDNN"])
def either_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without oneDNN":
        monkeypatch.setattr(products, "_ONEDNN", False)


@pytest.mark.usefixtures("either_kernel")
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("tokens", [1, 7, products._LAID_OUT_FROM + 3])
class TestAgainstDoublePrecision:
    @pytest.mark.parametrize("biased", [True, False])
    def test_linear(self, tokens: int, dtype: torch.dtype, biased: bool) -> None:
        x, weight, bias = drawn(tokens, dtype)
        expected = x.double() @ weight.double().t() + (bias.double() if biased else 0.0)
        assert close(products.linear(x, weight, bias if biased else None), expected, dtype)

    def test_linear_gelu(self, tokens: int, dtype: torch.dtype) -> None:
        x, weight, bias = drawn(tokens, dtype)
        expected = nn.functional.gelu(x.double() @ weight.double().t() + bias.double())
        assert close(products.linear_gelu(x, weight, bias), expected, dtype)

    def test_into_input(self, tokens: int, dtype: torch.dtype) -> None:
        x, weight, _ = drawn(tokens, dtype)
        gradient = products.linear(x, weight, None)
        assert close(products.into_input(gradient, weight), gradient.double() @ weight.double(), dtype)

    def test_a_part_of_a_weight(self, tokens: int, dtype: torch.dtype) -> None:
        """As the last layer takes its queries apart from its keys and values."""
        x, weight, bias = drawn(tokens, dtype)
        expected = x.double() @ weight[32:].double().t() + bias[32:].double()
        assert close(products.linear(x, weight[32:], bias[32:]), expected, dtype)


def test_a_weight_that_changed_is_laid_out_anew() -> None:
    x, weight, bias = drawn(products._LAID_OUT_FROM, torch.float32)
    before = products.linear(x, weight, bias)
    weight.mul_(2.0)
    after = products.linear(x, weight, bias)
    assert torch.allclose(after - bias, 2.0 * (before - bias), atol=1e-4)
