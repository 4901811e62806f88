"""Pictures beside the Trainer: the same model, files, batch and steps, in turn; only ratios are worth anything.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.picture_speed --model FOLDER [--rounds 3] [--rows 64]
    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.picture_speed --model vit-tiny

Pictures are ants and bees at 224 pixels, not augmented. The Trainer reads them as its users do: a data set whose rows
are opened and processed when they are asked for, with 0 and with 2 workers. ``vit-tiny`` is a ViT of 12 layers and
width 192 with random weights. Printed are times of a second epoch, of predicting all rows, and of the second and later
epochs of a body that keeps its weights: the median ratio of the rounds and its range.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image as Pillow

from sftlib import FineTuner, Image, TaskDataset
from sftlib.models.opening import open_image_processor, plain_image_processor
from tests.benchmarks.clocks import Epochs, HfEpochs
from tests.benchmarks.measure import Series, interleaved

DATA = Path(os.environ.get("SFTLIB_DATA", ""))
BATCH, RATE, WORKERS = 16, 5e-5, (0, 2)


class Files(torch.utils.data.Dataset[dict[str, Any]]):
    """Pictures that are opened and processed when they are asked for."""

    def __init__(self, files: Sequence[Path], processor: Any) -> None:
        self.files = files
        self.processor = processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> dict[str, Any]:
        picture = Pillow.open(self.files[row]).convert("RGB")
        pixels = self.processor(picture, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": int(self.files[row].parent.name == "bees")}


class Contest:
    """What both sides work on.

    Args:
        model: a folder, or ``"vit-tiny"``.
        rows: how many pictures.
    """

    def __init__(self, model: str, rows: int) -> None:
        files = sorted((DATA / "hymenoptera").glob("*/*"))
        self.files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:rows]]
        self.name = model
        self.processor: Any = (
            plain_image_processor(224, 224) if model == "vit-tiny" else open_image_processor(model, option="model")
        )
        labels = [file.parent.name for file in self.files]
        self.data = TaskDataset({"image": [str(file) for file in self.files], "label": labels})

    def model(self) -> Any:
        """The model with two labels, as a user of transformers makes it."""
        torch.manual_seed(0)
        if self.name != "vit-tiny":
            return transformers.AutoModelForImageClassification.from_pretrained(
                self.name, num_labels=2, ignore_mismatched_sizes=True
            )
        config = transformers.ViTConfig(
            hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=2, image_size=224
        )
        return transformers.ViTForImageClassification(config)

    def ours(self, **options: Any) -> FineTuner:
        """A tuner of this library with what both sides share."""
        inputs = Image(processor=self.processor, augment="none")
        given = {"learning_rate": RATE, "head_learning_rate": RATE, "batch_size": BATCH, "precision": "fp32", **options}
        return FineTuner(self.model(), task="image-classification", inputs=inputs, **given)

    def our_epochs(self, epochs: int, **options: Any) -> float:
        """Mean seconds of the second and later epochs."""
        clock = Epochs()
        self.ours(epochs=epochs, **options).fit(self.data, callbacks=[clock], progress=False)
        return float(np.diff(clock.stamps).mean())

    def trainer(self, workers: int, epochs: int, frozen: bool = False) -> Any:
        """The Trainer with what both sides share."""
        model = self.model()
        if frozen:
            model.base_model.requires_grad_(False)
        arguments = transformers.TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            num_train_epochs=epochs,
            learning_rate=RATE,
            dataloader_num_workers=workers,
            dataloader_persistent_workers=workers > 0,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        return transformers.Trainer(model=model, args=arguments, train_dataset=Files(self.files, self.processor))

    def their_epochs(self, workers: int, epochs: int, frozen: bool = False) -> float:
        """Mean seconds of the second and later epochs."""
        trainer, clock = self.trainer(workers, epochs, frozen), HfEpochs()
        trainer.add_callback(clock)
        trainer.train()
        return float(np.diff(clock.stamps).mean())


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def training(contest: Contest) -> dict[str, Callable[[int], float]]:
    """The second epoch of a model that is trained as a whole."""
    theirs = {f"Trainer, {n} workers": lambda _, n=n: contest.their_epochs(n, 2) for n in WORKERS}
    return {"sftlib": lambda _: contest.our_epochs(2), **theirs}


def predicting(contest: Contest) -> dict[str, Callable[[int], float]]:
    """All rows, by a model that is there."""
    tuner = contest.ours(max_steps=1).fit(contest.data, progress=False)
    trainers = {n: contest.trainer(n, 1) for n in WORKERS}
    theirs = {
        f"Trainer, {n} workers": lambda _, n=n: _timed(lambda: trainers[n].predict(trainers[n].train_dataset))
        for n in WORKERS
    }
    return {"sftlib": lambda _: _timed(lambda: tuner.predict(contest.data)), **theirs}


def frozen(contest: Contest) -> dict[str, Callable[[int], float]]:
    """Second and later epochs of a body that keeps its weights."""
    theirs = {f"Trainer, {n} workers": lambda _, n=n: contest.their_epochs(n, 2, frozen=True) for n in WORKERS}
    return {"sftlib": lambda _: contest.our_epochs(12, freeze="backbone"), **theirs}


PARTS: Mapping[str, Callable[[Contest], dict[str, Callable[[int], float]]]] = {
    "training": training,
    "predicting": predicting,
    "frozen": frozen,
}


def _told(part: str, found: Mapping[str, Series]) -> None:
    for name, series in found.items():
        median, least, most = series.ratio(found["sftlib"])
        print(f"{part}: {name}: {median:.2f} ({least:.2f} to {most:.2f}) times sftlib's time", flush=True)


def main() -> None:
    """Take turns, and print how many times the time of this library each takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=[*PARTS])
    asked = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    contest = Contest(asked.model, asked.rows)
    for part in asked.parts:
        _told(part, interleaved(PARTS[part](contest), asked.rounds))


if __name__ == "__main__":
    main()
