"""Every test of this folder runs twice: on the processor, which proves its own code, and on a card where there is one.

``python -m tests.gpu`` runs them all and says what it ran on; ``nox -s gpu`` does so in an environment of its own.
"""

from __future__ import annotations

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product: the same sums in every run

from collections.abc import Iterator

import pytest
import torch

CARD = torch.cuda.is_available()
ON_A_CARD = pytest.mark.skipif(not CARD, reason="this machine has no CUDA card")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_A_CARD)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device; on a card products in fp32 are exact to the type, and its cache is empty afterwards."""
    name: str = request.param
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield name
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        if CARD:
            torch.cuda.empty_cache()
