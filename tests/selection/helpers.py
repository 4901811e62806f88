"""Rows that a tiny model learns in a few steps, and tuners for them."""

from __future__ import annotations

from typing import Any

from sftlib import FineTuner, TaskDataset, Text
from sftlib.testing import tiny_model, tiny_tokenizer

GOOD = ["wonderful", "funny", "joy", "clever", "moving", "beautiful"]
BAD = ["dull", "awful", "pain", "lazy", "ugly", "empty"]
FILLING = ["a film", "the story", "the music", "an actor", "the script", "the ending", "a picture", "the year"]


def reviews(rows: int = 48, *, noise: int = 0) -> TaskDataset:
    """Distinct texts whose label a word decides; every ``noise``-th label is wrong; ``place`` is a group of 12 rows."""
    texts, labels = [], []
    for row in range(rows):
        words = GOOD if row % 2 else BAD
        filling = FILLING[(row // 2) % len(FILLING)]
        texts.append(f"{filling} so {words[(row // 3) % len(words)]} number {row}")
        label = "good" if row % 2 else "bad"
        labels.append(("bad" if label == "good" else "good") if noise and row % noise == 0 else label)
    return TaskDataset({"text": texts, "label": labels, "place": [f"place {row // 12}" for row in range(rows)]})


def numbers(rows: int = 40) -> TaskDataset:
    """Texts with a number that a word decides."""
    data = reviews(rows)
    return TaskDataset(
        {
            "text": data.column("text"),
            "target": [float(label == "good") + 0.01 * i for i, label in enumerate(data.column("label"))],
        }
    )


def tuner(**options: Any) -> FineTuner:
    """A tiny BERT that learns fast."""
    usual: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "dropout": 0.0}
    model = tiny_model(auto_class="AutoModel")
    return FineTuner(model, inputs=Text(tokenizer=tiny_tokenizer()), **{**usual, **options})
