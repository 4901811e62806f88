"""How many tokens fit: from the sizes of the model and the memory that this process may use, never by trying."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

_FEWEST, _MOST_CPU, _MOST_GPU = 2**9, 2**14, 2**17
_SHARE = 0.6  # of the memory, for weights, optimizer and activations; the rest is for data, caches and other people
_MOMENTS = 3  # beside a trained weight: its gradient and two moments, all of its size
_CHUNK_OF_SCORES = 10 * 2**24  # bytes; see `sftlib.models.language.chunked_loss`
_VECTORS_A_LAYER = 34  # hidden vectors a layer keeps for the backward pass (Korthikanti et al., 2022, at 1 byte a unit)


def memory_limit(device: torch.device) -> int:
    """Bytes that may be used: the device's, or for the CPU the smaller of the machine's and the control group's.

    Example:
        >>> memory_limit(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**33
    groups = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    limits = [int(text) for text in map(_read, groups) if text.isdigit()]
    return min([machine, *limits])


def tokens_of_a_pass(model: nn.Module, device: torch.device, *, checkpointing: bool = False) -> int:
    """Tokens of one forward and backward pass that fit beside weights, and gradients and optimizer of what is trained.

    A rule of thumb on the safe side: it bounds the memory and never changes a result.
    """
    held = sum(p.numel() * p.element_size() * (1 + _MOMENTS * p.requires_grad) for p in model.parameters())
    room = _SHARE * memory_limit(device) - held - _of_scores(model)
    fitting = int(room / _bytes_a_token(getattr(model, "config", None), checkpointing))
    most = _MOST_CPU if device.type == "cpu" else _MOST_GPU
    return max(_FEWEST, min(most, fitting))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: CUDA's own error, or the CPU's, which is a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "out of memory" in str(error))


def _of_scores(model: nn.Module) -> int:
    """Bytes that a chunk of scores over the vocabulary takes, and the gradient of the layer that makes them."""
    layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    return 0 if layer is None else _CHUNK_OF_SCORES + 6 * int(layer.weight.numel())


def _bytes_a_token(config: Any, checkpointing: bool) -> float:
    width = getattr(config, "hidden_size", None) or getattr(config, "n_embd", None) or getattr(config, "dim", None)
    layers = getattr(config, "num_hidden_layers", None) or getattr(config, "n_layer", None)
    # Of checkpointed layers the input is kept, and of one at a time all the rest.
    vectors = (layers or 24) + _VECTORS_A_LAYER if checkpointing else (layers or 24) * _VECTORS_A_LAYER
    return 4.0 * vectors * (width or 1024)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""  # no such control group: then it sets no limit
