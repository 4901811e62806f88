"""Real rows to measure on."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from vader import sentiments


def movies() -> list[dict[str, Any]]:
    """10,568 sentences of movie reviews with the sign of their score (27 tokens on average)."""
    return [{"text": row["text"], "label": row["label"]} for row in sentiments("movies")]


def long_reviews(sentences: int = 11) -> list[dict[str, Any]]:
    """Texts of review length: sentences of one label joined, so that most fill 256 tokens."""
    by_label: dict[str, list[str]] = {}
    for row in movies():
        by_label.setdefault(row["label"], []).append(row["text"])
    return [
        {"text": " ".join(texts[i : i + sentences]), "label": label}
        for label, texts in sorted(by_label.items())
        for i in range(0, len(texts) - sentences, sentences)
    ]


def banking() -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Train and test rows of banking77 from the folder that ``SFTLIB_DATA`` names; None without it."""
    folder = os.environ.get("SFTLIB_DATA")
    if folder is None:
        return None
    train, test = (_rows(Path(folder) / f"banking77_{part}.csv") for part in ("train", "test"))
    return train, test


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]
