"""Pictures, scored on rows that were neither learned from nor watched, beside plain rivals.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.pictures ants --model FOLDER --seeds 3
    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.pictures streets --model FOLDER --epochs 5
    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.pictures faces --model FOLDER --seeds 5

``--model`` is a folder of transformers with a body that makes maps and its image processor, such as a MobileNetV2 of
ImageNet. All options are fixed beforehand: nothing is chosen on the scored rows. Rivals see the same rows: logistic
regression on what the frozen body makes of the pictures; the pixels themselves.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from transformers import AutoModel

from sftlib import FineTuner, Image, ImageEmbedding, SemanticSegmentation, TaskDataset
from sftlib.data.pixels import decode
from sftlib.encoders.image.augment import Flip
from sftlib.metrics.verification import Curve
from sftlib.models.embedder import PlaceEmbedder
from sftlib.models.opening import open_image_processor
from sftlib.models.pyramid import PlaceSegmenter

DATA = Path(os.environ.get("SFTLIB_DATA", ""))
Floats = np.ndarray[Any, np.dtype[np.float64]]


def _features(asked: argparse.Namespace, data: TaskDataset) -> Floats:
    """(N, D) what the frozen body makes of pictures: the mean over all places."""
    body = AutoModel.from_pretrained(asked.model).eval()
    processor = open_image_processor(asked.model, option="model")
    found = []
    with torch.no_grad():
        for picture in data.view("image"):
            pixels = processor.preprocess([decode(picture)], return_tensors="pt", input_data_format="channels_last")
            found.append(body(pixels["pixel_values"]).last_hidden_state.mean((2, 3))[0].double().numpy())
    return np.stack(found)


def ants(asked: argparse.Namespace) -> None:
    """Ants and bees, accuracy, five folds over all of them; the tuner with its defaults."""
    data = TaskDataset.from_folder(DATA / "hymenoptera")
    labels, features = np.array(data.column("label")), _features(asked, data)
    folds = [*StratifiedKFold(5, shuffle=True, random_state=0).split(features, labels)]
    plain = []
    for train, test in folds:
        rival = LogisticRegression(max_iter=2000).fit(features[train], labels[train])
        plain.append(float(rival.score(features[test], labels[test])))
    print(f"frozen and logistic regression: {np.mean(plain):.4f}, folds {_list(plain)}", flush=True)
    means = []
    for seed in range(asked.first, asked.first + asked.seeds):
        scores = []
        for train, test in folds:
            tuner = FineTuner(asked.model, seed=seed, **_given(asked)).fit(data.select(train), progress=False)
            scores.append(tuner.evaluate(data.select(test))["accuracy"])
            print(f"  fold {len(scores)}: {scores[-1]:.4f}", flush=True)
        means.append(float(np.mean(scores)))
        print(f"tuned, seed {seed}: {means[-1]:.4f}, folds {_list(scores)}", flush=True)
    print(f"tuned, mean of the seeds: {np.mean(means):.4f}, lowest {min(means):.4f}")


def streets(asked: argparse.Namespace) -> None:
    """Streets, mean intersection over union of eleven labels on the pictures for validation."""
    train, test = (
        TaskDataset.from_masks(
            DATA / "camvid" / side / "images",
            DATA / "camvid" / side / "masks",
            names=DATA / "camvid" / "classes.txt",
            ignore_index=11,
        )
        for side in ("train", "val")
    )
    size = asked.size or (176, 240)
    for seed in range(asked.first, asked.first + asked.seeds):
        body = AutoModel.from_pretrained(asked.model)
        model = PlaceSegmenter(body, labels=len(train.label_names or ()), stride=asked.stride, seed=seed)
        task = SemanticSegmentation(class_weights=asked.weights)
        tuner = FineTuner(
            model, task=task, inputs=Image(size=size, augment=_augment(asked)), seed=seed, **_given(asked)
        )
        tuner.fit(train, progress=False)
        metrics = tuner.evaluate(test)
        each = {label: round(row["iou"], 3) for label, row in metrics.per_class().items()}
        print(
            f"seed {seed}: miou {metrics['miou']:.4f}, pixel_accuracy {metrics['pixel_accuracy']:.4f}, {each}",
            flush=True,
        )


def faces(asked: argparse.Namespace) -> None:
    """Faces, equal error rate on persons that nobody learned from; ``--choose`` cuts those to learn from again."""
    data = TaskDataset.from_folder(DATA / "orl_faces", task="image-embedding")
    person = np.array([int(str(label)[1:]) for label in data.column("label")])
    sides = [(person <= 18, person > 18)]
    if asked.choose:
        sides = [((person <= 18) & (person % 3 != k), (person <= 18) & (person % 3 == k)) for k in range(3)]
    for train, test in [(np.flatnonzero(one), np.flatnonzero(other)) for one, other in sides]:
        learn, score = data.select(train.tolist()), data.select(test.tolist())
        print(f"pixels: {_pixels(score, person[test]):.4f}", flush=True)
        found = []
        for seed in range(asked.first, asked.first + asked.seeds):
            start, body = time.process_time(), AutoModel.from_pretrained(asked.model)
            model = PlaceEmbedder(body, rows=asked.grid[0], columns=asked.grid[1], seed=seed)
            inputs = Image(size=asked.size or (112, 96), augment=Flip())
            tuner = FineTuner(model, task=ImageEmbedding(), inputs=inputs, seed=seed, **_given(asked))
            tuner.fit(learn, progress=False)
            found.append(tuner.evaluate(score)["eer"])
            print(f"seed {seed}: eer {found[-1]:.4f}, {time.process_time() - start:.0f} s of processor", flush=True)
        print(f"mean {np.mean(found):.4f} ({min(found):.4f} to {max(found):.4f})", flush=True)


def _pixels(data: TaskDataset, person: np.ndarray[Any, Any]) -> float:
    """The equal error rate of grey pixels, 28 x 28, by their cosine."""
    import PIL.Image

    rows = [PIL.Image.fromarray(decode(one)).convert("L").resize((28, 28), 2) for one in data.view("image")]
    flat = np.stack([np.asarray(row, np.float32).ravel() for row in rows])
    return Curve.of_embeddings(flat / np.linalg.norm(flat, axis=1, keepdims=True), person).eer()


def _given(asked: argparse.Namespace) -> dict[str, Any]:
    """Options of the tuner that were named; it has its own for the others."""
    named = {
        "epochs": asked.epochs,
        "learning_rate": asked.rate,
        "head_learning_rate": asked.head_rate,
        "batch_size": asked.batch,
        "freeze": asked.freeze,
    }
    return {name: value for name, value in named.items() if value is not None}


def _augment(asked: argparse.Namespace) -> Any:
    return Flip() if asked.augment == "flip" else asked.augment


def _list(scores: list[float]) -> str:
    return ", ".join(f"{score:.3f}" for score in scores)


def _pair(written: str) -> tuple[int, int]:
    height, _, width = written.partition("x")
    return int(height), int(width)


SETS: dict[str, Callable[[argparse.Namespace], None]] = {"ants": ants, "streets": streets, "faces": faces}


def main() -> None:
    """Score one set and print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--head-rate", type=float, default=None)
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--freeze", default=None)
    parser.add_argument("--size", type=_pair, default=None, help="height x width")
    parser.add_argument("--augment", default="auto", help="of streets: auto, none, light, medium or flip")
    parser.add_argument("--stride", type=int, default=4, help="of streets")
    parser.add_argument("--weights", default="sqrt", help="of the labels of streets", nargs="?")
    parser.add_argument("--grid", type=_pair, default=(4, 4), help="of faces")
    parser.add_argument("--choose", action="store_true", help="faces: score six of the persons to learn from, in turn")
    asked = parser.parse_args()
    SETS[asked.set](asked)


if __name__ == "__main__":
    main()
