"""The state of a run as JSON and safetensors: nothing that could be executed is written, and nothing is guessed.

A value is a tree of dicts, lists, tuples, numbers, strings, tensors and numpy arrays. `pack` parts it into a tree that
JSON can hold and a flat dict of tensors; `unpack` puts it together again, with the very types, keys and strides.

Where several processes hold a tensor together, each has a `Part` of it, and writes a file of its own: what a process
reads again is its part among those that there are then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, final

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from sftlib.train.held import Part, rows_of

NO_PARTS: Final[Mapping[str, Part | Tensor]] = MappingProxyType({})

_MARK = "$"  # starts the key of everything that JSON has no word for
_CHUNK = 2**22  # bytes handed to the system at once
_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


class Packed(NamedTuple):
    """What `pack` makes of a value.

    Attributes:
        tree: what JSON holds.
        tensors: under their paths in the tree; what shares all its memory is there once.
        parts: the rows of each `Part`, likewise.
    """

    tree: Any
    tensors: dict[str, Tensor]
    parts: dict[str, Tensor]


def pack(value: object) -> Packed:
    """Part a value into what JSON holds and what safetensors holds.

    Raises:
        TypeError: something that is neither a JSON value nor a tensor, with its path.

    Example:
        >>> tree, tensors, _ = pack({"seen": 3, "mean": torch.ones(2), 7: (1, None)})
        >>> unpack(tree, tensors)
        {'seen': 3, 'mean': tensor([1., 1.]), 7: (1, None)}
    """
    packer = _Packer()
    return Packed(packer.pack(value, ()), packer.tensors, packer.parts)


def unpack(tree: Any, tensors: Mapping[str, Tensor], parts: Mapping[str, Part | Tensor] = NO_PARTS) -> Any:
    """Put together again what `pack` parted; every tensor is a copy of its own.

    Args:
        tree: as packed.
        tensors: as packed.
        parts: as `read_parts` gives them.
    """
    if isinstance(tree, list):
        return [unpack(item, tensors, parts) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$part" in tree:
        return parts[tree["$part"]]
    if "$tensor" in tree:
        return _laid_out(tensors[tree["$tensor"]], tree.get("stride"))
    if "$array" in tree:
        return tensors[tree["$array"]].clone().numpy()
    if "$tuple" in tree:
        return tuple(unpack(item, tensors, parts) for item in tree["$tuple"])
    if "$pairs" in tree:
        return {unpack(key, tensors, parts): unpack(item, tensors, parts) for key, item in tree["$pairs"]}
    return {key: unpack(item, tensors, parts) for key, item in tree.items()}


def tensor_chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """A safetensors file piece by piece, so that no second copy of a model is ever in memory.

    8 bytes for the length of the header, the header as JSON, the values.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # the widest first: all aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        value = tensors[name]
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        data: memoryview = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file."""
    return safetensors.torch.load_file(path)


def read_parts(paths: Sequence[Path], *, rank: int, size: int) -> dict[str, Part | Tensor]:
    """What a process has of tensors whose rows lie in several files: of its part no more than that is read.

    Args:
        paths: in the order of the processes that wrote them, however many these were.
        rank: of this process.
        size: how many there are now; one has everything, as plain tensors.

    Raises:
        ValueError: the files do not hold the same tensors.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(safetensors.safe_open(path, framework="pt")) for path in paths]
        names = [set(file.keys()) for file in files]
        if any(found != names[0] for found in names):
            raise ValueError(f"{paths[0].name} and the others do not hold parts of the same tensors")
        return {name: _own_part([file.get_slice(name) for file in files], rank, size) for name in sorted(names[0])}


def _own_part(slices: Sequence[Any], rank: int, size: int) -> Part | Tensor:
    """The rows of a tensor that are a process's; ``slices`` are files' parts of it, not read yet."""
    lengths = [found.get_shape()[0] for found in slices]
    first, last = rows_of(sum(lengths), rank, size)
    pieces, begin = [], 0
    for found, length in zip(slices, lengths, strict=True):
        lower, upper = max(first - begin, 0), min(last - begin, length)
        pieces.append(found[min(lower, length) : max(lower, upper)] if length else found[:])
        begin += length
    rows = torch.cat(pieces)
    return rows if size == 1 else Part(rows, sum(lengths))


@final
class _Packer:
    """Collects the tensors of a value."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.parts: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def pack(self, value: object, path: tuple[str, ...]) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, Part):
            name = ".".join(path)
            self.parts[name] = _savable(value.rows.detach(), path)
            return {"$part": name}
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            return {"$array": self._named(torch.from_numpy(value.copy()), path)}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, list | tuple):
            items = [self.pack(item, (*path, str(i))) for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"$tuple": items}
        where = ".".join(path) or "the state"
        raise TypeError(f"{where} is a {type(value).__name__}: only JSON values, tensors and numpy arrays can be saved")

    def _mapping(self, value: Mapping[Any, object], path: tuple[str, ...]) -> Any:
        if all(isinstance(key, str) and not key.startswith(_MARK) for key in value):
            return {key: self.pack(item, (*path, key)) for key, item in value.items()}
        return {"$pairs": [[self.pack(key, path), self.pack(item, (*path, str(key)))] for key, item in value.items()]}

    def _tensor(self, value: Tensor, path: tuple[str, ...]) -> dict[str, Any]:
        value = _savable(value.detach(), path)
        same = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.device)
        name = self._names.get(same) if value.numel() else None
        if name is None:
            name = self._names[same] = self._named(value, path)
        plain = value.is_contiguous() or not _is_dense(tuple(value.shape), list(value.stride()))
        return {"$tensor": name} if plain else {"$tensor": name, "stride": list(value.stride())}

    def _named(self, value: Tensor, path: tuple[str, ...]) -> str:
        name = stem = ".".join(path) or "value"
        number = 1
        while name in self.tensors:
            number += 1
            name = f"{stem}#{number}"
        self.tensors[name] = value
        return name


def _savable(value: Tensor, path: tuple[str, ...]) -> Tensor:
    if value.layout is not torch.strided or value.dtype not in _NAMES:
        raise TypeError(f"{'.'.join(path)} is a tensor of {value.dtype}, {value.layout}, which cannot be saved")
    return value


def _laid_out(value: Tensor, stride: list[int] | None) -> Tensor:
    """A copy with its strides: fused optimizers walk a weight and its moments side by side."""
    if stride is None:
        return value.clone()
    if not _is_dense(tuple(value.shape), stride):
        raise ValueError(f"strides {stride!r:.60} do not fit the shape {tuple(value.shape)}")
    return torch.empty_strided(tuple(value.shape), stride, dtype=value.dtype).copy_(value)


def _is_dense(shape: tuple[int, ...], stride: list[int]) -> bool:
    """Whether strides lay the values out without gaps or overlaps: others would take memory that nobody filled."""
    if len(stride) != len(shape):
        return False
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True
