"""What users of version 0.1 import is there still."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

NAMES: dict[str, list[str]] = json.loads((Path(__file__).parent / "public_paths.json").read_text(encoding="utf-8"))[
    "names"
]


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_there(module: str) -> None:
    found = import_module(module)
    assert not [name for name in NAMES[module] if not hasattr(found, name)]
