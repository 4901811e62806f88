"""What each process does that is allowed little memory: less than the moments of an optimizer take for a whole model.

The limit is one of the system (``RLIMIT_DATA`` of Linux), set when all that a program imports is there: to what it
takes by then and so many times the bytes of the weights. It holds until ``fit`` has ended.
"""

from __future__ import annotations

import ctypes
import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sftlib import Callback, FineTuner
from sftlib.testing import tiny_config, tiny_tokenizer
from sftlib.testing.models import built
from sftlib.train.comm import open_comm
from tests.contracts.cases import case_of
from tests.train.shards import TEXTS

_MMAP_THRESHOLD, _BYTES = -3, 2**18  # see `mallopt(3)`


def make(folder: Path) -> None:
    """A model of 29 million weights, in a folder."""
    config = tiny_config("bert", num_labels=3)
    config.update({"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 16})
    built(config, "AutoModelForSequenceClassification", 0).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def taken() -> int:
    """Bytes that count against the limit."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return 1024 * int(line.split()[1])


class Weighed(Callback):
    """What a process takes after each step."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.bytes.append(taken())


def run(folder: Path, share: float) -> None:
    """Train and save the model of a folder.

    Args:
        folder: holds it.
        share: of the bytes of the weights, that may be taken; infinity for as much as there is.
    """
    torch.set_num_threads(1)
    # The allocator of glibc keeps what it was given back, unless a piece is larger than this, and lifts that by itself:
    # so it would be measured, and not what is held. From outside it is the variable MALLOC_MMAP_THRESHOLD_.
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _BYTES)
    comm, weights = open_comm(), (folder / "model" / "model.safetensors").stat().st_size
    options: dict[str, Any] = {"precision": "fp32", "device": "cpu", "batch_size": 4, "micro_batch_size": 1, "seed": 3}
    options |= {"learning_rate": 1e-4, "warmup": 0, "max_steps": 3, "max_length": 16}
    tuner = FineTuner(str(folder / "model"), **options, shard=True)
    data, weighed, begun = case_of(TEXTS).data(), Weighed(), taken()
    most = resource.RLIM_INFINITY if share == float("inf") else begun + int(share * weights)
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    tuner.fit(data, progress=False, callbacks=[weighed])
    ended = taken()
    resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    tuner.save(folder / f"by {comm.size}")  # reads it back, so that the weights are there twice
    held = [(now - begun) / weights for now in [*weighed.bytes, ended]]
    comm.any(False)  # nobody leaves while others are at work
    (folder / f"{comm.size}-{comm.rank}.json").write_text(json.dumps(held))
