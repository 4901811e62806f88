"""Emotions, spoken digits and speakers, scored on voices that were not learned from.

    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.voices emotions --model FOLDER --layers 3 --balanced
    SFTLIB_DATA=... PYTHONPATH=. python -m tests.benchmarks.voices spelling --model FOLDER --augment medium

``--model`` is a folder of Whisper. Each speaker is left out in turn, and all options are fixed beforehand. Speakers are
told apart (``speakers``) on people that were not learned from, beside the mean of the spectra alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from sklearn.metrics import recall_score
from torch import Tensor, nn

from sftlib import Audio, FineTuner, TaskDataset
from sftlib.encoders.audio.decode import decode
from sftlib.metrics.verification import Curve
from sftlib.models.pretrained import Pretrained
from tests.benchmarks.sciences import DATA

Floats = np.ndarray[Any, np.dtype[np.float64]]


def encoder_of(folder: str, layers: int | None) -> Any:
    """Whisper's encoder, or its lowest layers alone."""
    encoder: Any = transformers.WhisperModel.from_pretrained(folder).encoder
    if layers is not None:
        del encoder.layers[layers:]
    return encoder


class Listener(nn.Module):
    """Whisper's encoder with a layer for a character a frame."""

    def __init__(self, folder: str, outputs: int, layers: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder_of(folder, layers)
        torch.manual_seed(0)
        self.head = nn.Linear(self.encoder.config.d_model, outputs)

    def forward(self, input_features: Tensor) -> Tensor:
        """(B, T, V) scores of spectrograms (B, M, 2 T)."""
        scores: Tensor = self.head(self.encoder(input_features).last_hidden_state)
        return scores


class Voice(nn.Module):
    """The mean over the frames of Whisper's encoder."""

    def __init__(self, folder: str, layers: int | None = None) -> None:
        super().__init__()
        self.encoder = encoder_of(folder, layers)

    def forward(self, input_features: Tensor) -> Tensor:
        """(B, D) of spectrograms (B, M, 2 T)."""
        mean: Tensor = self.encoder(input_features).last_hidden_state.mean(1)
        return mean


class Fold(NamedTuple):
    """Who is left out, and rows without and with them."""

    people: str
    train: TaskDataset
    test: TaskDataset


def folds(data: TaskDataset, column: str, apart: int = 1) -> Iterator[Fold]:
    """Each speaker in turn, or so many of them at once."""
    spoken = np.array(data.column(column))
    people = sorted(set(spoken.tolist()))
    for first in range(0, len(people), apart):
        out = np.isin(spoken, people[first : first + apart])
        train, test = (data.select(np.flatnonzero(side).tolist()) for side in (~out, out))
        yield Fold(", ".join(people[first : first + apart]), train, test)


def emotions(asked: argparse.Namespace, options: dict[str, Any]) -> None:
    """Seven emotions of six speakers; recall, each emotion alike, over all."""
    _labels("emodb", "emotion", asked, options)


def digits(asked: argparse.Namespace, options: dict[str, Any]) -> None:
    """Ten digits of four speakers, as labels."""
    _labels("fsdd", "text", asked, options)


def _labels(name: str, label: str, asked: argparse.Namespace, options: dict[str, Any]) -> None:
    data = TaskDataset.from_manifest(DATA / name / "labels.csv", audio="file", label=label)
    model: Any = Pretrained(asked.model, layers=asked.layers) if asked.layers else asked.model
    weights = "balanced" if asked.balanced else None
    found: list[Any] = []
    for fold in _some(folds(data, "speaker"), asked):
        start = time.process_time()
        tuner = FineTuner(model, class_weights=weights, **options).fit(fold.train, progress=False)
        said = [one.label for one in tuner.predict(fold.test)]
        true = fold.test.column("label")
        found += zip(true, said, strict=True)
        right = np.mean([one == other for one, other in zip(true, said, strict=True)])
        _told(fold, f"accuracy {right:.3f}", start, tuner)
    true, said = np.array(found).T
    recall, right = recall_score(true, said, average="macro"), (true == said).mean()
    print(f"{asked.set}: unweighted recall {recall:.3f}, accuracy {right:.3f}, {len(true)} rows")


def spelling(asked: argparse.Namespace, options: dict[str, Any]) -> None:
    """Ten digits of four speakers, as words spelled by CTC."""
    data = TaskDataset.from_manifest(DATA / "fsdd" / "labels.csv", audio="file", text="text")
    errors, words = [], []
    if options["freeze"] == "backbone":
        options["freeze"] = ["encoder"]
    for fold in _some(folds(data, "speaker"), asked):
        start = time.process_time()
        outputs = 3 + len(set("".join(fold.train.column("text"))))
        model = Listener(asked.model, outputs, asked.layers)
        tuner = FineTuner(model, task="speech-recognition", **options).fit(fold.train, progress=False)
        metrics = tuner.evaluate(fold.test)
        errors.append(metrics["cer"])
        words.append(1 - metrics["wer"])
        _told(fold, f"CER {metrics['cer']:.4f}, words {1 - metrics['wer']:.3f}", start, tuner)
    print(f"{asked.set}: CER {np.mean(errors):.4f}, words {np.mean(words):.3f}, {len(errors)} speakers")


def speakers(asked: argparse.Namespace, options: dict[str, Any]) -> None:
    """Are two sounds of the same person? Two people of six are left out in turn."""
    data = TaskDataset.from_manifest(
        DATA / "emodb" / "labels.csv", audio="file", label="speaker", task="audio-embedding"
    )
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(asked.model)
    rates = []
    for fold in _some(folds(data, "label", apart=2), asked):
        start = time.process_time()
        model = Voice(asked.model, asked.layers)
        tuner = FineTuner(model, task="audio-embedding", **options).fit(fold.train, progress=False)
        ours = np.stack([one.embedding for one in tuner.predict(fold.test)])
        plain = _spectra(fold.test, extractor) - _spectra(fold.train, extractor).mean(0)
        people = np.unique(fold.test.column("label"), return_inverse=True)[1]
        found = [Curve.of_embeddings(_long_as_one(part), people).eer() for part in (ours, plain)]
        rates.append(found)
        _told(fold, f"EER {found[0]:.3f}, mean spectra {found[1]:.3f}", start, tuner)
    mean = np.mean(rates, axis=0)
    print(f"speakers: EER {mean[0]:.3f}, mean spectra {mean[1]:.3f}, {len(rates)} cuts")


def _spectra(data: TaskDataset, extractor: Any) -> Floats:
    """(N, M) the mean over time of each sound's spectrogram."""
    return np.stack(
        [
            extractor(decode(one, 16_000), sampling_rate=16_000, padding="do_not_pad")["input_features"][0].mean(1)
            for one in data.view("audio")
        ]
    )


def _long_as_one(found: Floats) -> Any:
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def _some(all_of_them: Iterator[Fold], asked: argparse.Namespace) -> Iterator[Fold]:
    for number, fold in enumerate(all_of_them):
        if number == asked.folds:
            return
        yield fold


def _told(fold: Fold, score: str, start: float, tuner: FineTuner) -> None:
    rate, loss = tuner.settings["learning_rate"], tuner.history.steps[-1]["loss"]
    seconds = time.process_time() - start
    print(f"without {fold.people}: {score}; rate {rate:g}, loss {loss:.3f}, {seconds:.0f} s of processor", flush=True)


SETS: dict[str, Callable[[argparse.Namespace, dict[str, Any]], None]] = {
    "emotions": emotions,
    "digits": digits,
    "spelling": spelling,
    "speakers": speakers,
}


def main() -> None:
    """Score one set and print a line for each cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--model", required=True, type=lambda folder: str(Path(folder)))
    parser.add_argument("--layers", type=int, default=None)
    parser.add_argument("--freeze", default=None)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--augment", default="none")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--folds", type=int, default=None)
    parser.add_argument("--balanced", action="store_true")
    asked = parser.parse_args()
    options: dict[str, Any] = {
        "inputs": Audio(processor=asked.model, seconds=asked.seconds, augment=asked.augment),
        "freeze": int(asked.freeze) if asked.freeze and asked.freeze.isdigit() else asked.freeze,
        "epochs": asked.epochs,
        "learning_rate": asked.rate,
        "batch_size": asked.batch,
    }
    SETS[asked.set](asked, options)


if __name__ == "__main__":
    main()
