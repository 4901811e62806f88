"""Sounds of one to four seconds: training and frozen epochs beside Hugging Face's Trainer, on the same rows.

The models have the sizes of published ones and random weights, which take as long.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers

from sftlib import Audio, Callback, FineTuner, TaskDataset
from tests.benchmarks.figures import Asked, Figures, compared
from tests.benchmarks.measure import WARM, Series, interleaved, mean_step

RATE, BATCH, HZ = 1e-4, 8, 16_000
LABELS = ("high", "low", "noise")


def whisper(labels: int = len(LABELS)) -> Any:
    """A classifier of the size of Whisper tiny's encoder."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        num_labels=labels,
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_layers=1,
    )
    return transformers.WhisperForAudioClassification(config)


def sounds(count: int) -> list[dict[str, Any]]:
    """Tones and noise, each of another length between one second and four."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        time_line = np.arange(int(HZ * draw.uniform(1, 4))) / HZ
        tone = np.sin(2 * np.pi * draw.uniform(200, 400) * (4 if label == "high" else 1) * time_line)
        array = draw.normal(0, 0.1, len(time_line)) + (0 if label == "noise" else 0.4 * tone)
        rows.append({"audio": {"array": array.astype(np.float32), "sampling_rate": HZ}, "label": label})
    return rows


class Clock(Callback):
    """Notes when each step and each epoch ended."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def on_step_end(self, training: Any, record: Any) -> None:
        self.steps.append(time.perf_counter())

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self.epochs.append(time.perf_counter())


class HfClock(transformers.TrainerCallback):
    """Notes when each step and each epoch ended."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.epochs: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter())

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.epochs.append(time.perf_counter())


def ours(rows: Sequence[dict[str, Any]], seed: int, **options: Any) -> Clock:
    """A run of this library, from samples."""
    clock, reading = Clock(), Audio(processor=transformers.WhisperFeatureExtractor())
    tuner = FineTuner(whisper(), inputs=reading, batch_size=BATCH, learning_rate=RATE, seed=seed, **options)
    tuner.fit(TaskDataset(rows), callbacks=[clock], progress=False)
    return clock


def theirs(rows: Sequence[dict[str, Any]], seed: int, *, frozen: bool = False, **options: Any) -> HfClock:
    """A run of the Trainer, from features that were computed before and are not counted."""
    extractor = transformers.WhisperFeatureExtractor()
    data = [
        {
            "input_features": extractor(row["audio"]["array"], sampling_rate=HZ)["input_features"][0],
            "labels": LABELS.index(row["label"]),
        }
        for row in rows
    ]
    model, clock = whisper(), HfClock()
    if frozen:
        model.freeze_encoder()
    arguments = transformers.TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=0.01,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        **options,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[clock])  # type: ignore[arg-type]
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return clock


def training(asked: Asked) -> Figures:
    """Seconds of a step."""
    steps = WARM + asked.size(8, 2)
    rows = sounds(BATCH * steps)
    found = interleaved(
        {
            "sftlib": lambda seed: mean_step(ours(rows, seed, max_steps=steps).steps),
            "sftlib, fp32": lambda seed: mean_step(ours(rows, seed, max_steps=steps, precision="fp32").steps),
            "HF Trainer, features computed before": lambda seed: mean_step(theirs(rows, seed, max_steps=steps).steps),
        },
        asked.size(3, 1),
    )
    note = "The Trainer's model hears half a minute, as it was published; sftlib cuts the window to the longest sound."
    return compared("Whisper's encoder, clips of 1 to 4 s", found, ("ms a step", 1e3), ("rows/s", BATCH), notes=[note])


def frozen(asked: Asked) -> Figures:
    """Seconds of the second epoch and of those that follow it."""
    rows = sounds(asked.size(96, 24))

    def of_ours(seed: int) -> float:
        return float(np.diff(ours(rows, seed, epochs=8, freeze="backbone").epochs).mean())

    def of_theirs(seed: int) -> float:
        return float(np.diff(theirs(rows, seed, frozen=True, num_train_epochs=asked.size(3, 2)).epochs).mean())

    found: dict[str, Series] = interleaved(
        {"sftlib": of_ours, "HF Trainer, encoder frozen, features computed before": of_theirs}, asked.size(3, 1)
    )
    title = f"encoder frozen, {len(rows):,} clips: second and later epochs"
    return compared(title, found, ("ms an epoch", 1e3), ("rows/s", len(rows)))
