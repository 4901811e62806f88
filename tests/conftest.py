"""Fixtures for all tests: tiny models and tokenizers, offline, made once a session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before transformers is imported: it reads these once. No test may reach a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("MPLBACKEND", "Agg")
# Tiny models gain nothing from a second thread, and lose a lot where another process uses the core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tiny WordPiece tokenizer with BERT's special tokens."""
    from sftlib.testing import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture
def model() -> Any:
    """A fresh tiny BERT with two labels; a test may change it."""
    from sftlib.testing import tiny_model

    return tiny_model("bert")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """``folder_of(family, num_labels)``: the path of a saved tiny model, written once a session; do not change it."""
    made: dict[tuple[str, int], str] = {}

    def folder(family: str = "bert", num_labels: int = 2) -> str:
        from sftlib.testing import tiny_folder

        if (family, num_labels) not in made:
            place: Path = tmp_path_factory.mktemp(family)
            made[family, num_labels] = tiny_folder(place, family, num_labels)
        return made[family, num_labels]

    return folder


@pytest.fixture(scope="session")
def bert_folder(folder_of: Callable[..., str]) -> str:
    """A saved tiny BERT with two labels."""
    return folder_of("bert")
