"""Drawing from a seed without touching anybody's generator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generators start from ``seed`` inside and are put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
