"""How many tokens fit: from the sizes of the model and the memory that this process may use, never by trying."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sftlib.models.structure import repeated_layers

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


def held_bytes(model: nn.Module, *, parts: int = 1) -> int:
    """Bytes of weights, and of gradients and moments of what is trained, that a process holds while it steps.

    Args:
        model: with whole weights.
        parts: over how many processes they are cut (`sftlib.train.sharded`). What is gathered counts beside: weights
            and gradients of all that lies outside the layers, and of two layers, since the next one is on its way.

    Example:
        >>> layer = lambda: nn.Sequential(nn.Linear(4, 4, bias=False))
        >>> model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ModuleList([layer(), layer(), layer()]))
        >>> held_bytes(model), held_bytes(model, parts=2)
        (864, 736)
    """
    every = sum(_bytes(p) * (1 + _MOMENTS * p.requires_grad) for p in model.parameters())
    return every if parts == 1 else -(-every // parts) + _gathered_bytes(model)


def _gathered_bytes(model: nn.Module) -> int:
    layers = [sum(_bytes(p) * (1 + p.requires_grad) for p in layer.parameters()) for layer in repeated_layers(model)]
    every = sum(_bytes(p) * (1 + p.requires_grad) for p in model.parameters())
    return every - sum(layers) + 2 * max(layers, default=0)


def _bytes(value: torch.Tensor) -> int:
    return value.numel() * value.element_size()


def tokens_of_a_pass(model: nn.Module, device: torch.device, *, checkpointing: bool = False, parts: int = 1) -> int:
    """Tokens of one forward and backward pass that fit beside weights, and gradients and optimizer of what is trained.

    A rule of thumb on the safe side: it bounds the memory and never changes a result.

    Args:
        model: with whole weights.
        device: where it lies.
        checkpointing: whether layers compute twice what they would have to keep.
        parts: as `held_bytes` takes them.
    """
    room = _SHARE * memory_limit(device) - held_bytes(model, parts=parts) - _of_scores(model)
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
