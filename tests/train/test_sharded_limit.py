"""Weights in parts, under a limit of the system: what is too large for one process trains in four.

Bytes are told in units of those of the weights: whole weights, gradients and moments are 4 of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.distributed.fsdp import FSDPModule

from sftlib.train.sharded import _SUMS
from tests.train import limited
from tests.train.launching import Forked
from tests.train.shards import BOUND

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(FSDPModule, _SUMS), reason=f"torch {torch.__version__} cannot add up over parts"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process may take so"),
]

SHARE = 1.75  # the moments of all weights alone take 2
UNLIMITED = float("inf")


def begun(size: int, share: float, folder: Path) -> Forked:
    return Forked(size, lambda _: limited.run(folder, share), folder)


def test_what_is_too_large_for_one_process_trains_in_four(tmp_path: Path) -> None:
    limited.make(tmp_path / "model")
    alone = begun(1, SHARE, tmp_path)
    assert alone.ended() == [70]
    assert "can't allocate memory" in alone.said()
    several = begun(4, SHARE, tmp_path)
    assert several.ended() == [0] * 4, several.said()[-4000:]
    held = [json.loads((tmp_path / f"4-{rank}.json").read_text()) for rank in range(4)]
    sys.stdout.write(f"held after each step, and after fit: {held}\n")
    whole = begun(1, UNLIMITED, tmp_path)
    assert whole.ended() == [0], whole.said()[-4000:]
    sys.stdout.write(f"in one process without a limit: {json.loads((tmp_path / '1-0.json').read_text())}\n")
    found, expected = (load_file(tmp_path / f"by {size}" / "model.safetensors") for size in (4, 1))
    assert found.keys() == expected.keys()
    flat, other = (np.concatenate([part[name].ravel() for name in expected]) for part in (found, expected))
    begun_with = load_file(tmp_path / "model" / "model.safetensors")
    apart = np.linalg.norm(flat - other) / np.linalg.norm(other)
    moved = np.linalg.norm(other - np.concatenate([begun_with[name].ravel() for name in expected]))
    sys.stdout.write(f"saved weights are {apart:.1e} apart, and moved by {moved / np.linalg.norm(other):.1e}\n")
    assert apart <= BOUND
