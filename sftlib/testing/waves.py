"""Short sounds whose class can be learned, made on the spot, and folders of them."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sftlib.support.checking import checked, folder_path, raise_together, real_number, whole_number

Numbers = NDArray[np.float64]

_NOISE = 0.01  # standard deviation of a sample, of 1

# The pitch in Hertz of each class, over the time from 0 to 1.
_PITCH: dict[str, Callable[[Numbers], Numbers]] = {
    "low": lambda t: np.full_like(t, 300.0),
    "high": lambda t: np.full_like(t, 1500.0),
    "rising": lambda t: 300 + 1200 * t,
    "falling": lambda t: 1500 - 1200 * t,
    "trill": lambda t: np.where(np.sin(40 * t) > 0, 300.0, 1500.0),
}
SOUNDS = tuple(_PITCH)


@checked
def waves(
    count: int, *, classes: int = 3, sampling_rate: int = 16_000, seconds: float = 0.25, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of short sounds: as many of each class, of different lengths and loudness, with a little noise.

    Args:
        count: how many.
        classes: the first so many of `SOUNDS`.
        sampling_rate: samples of a second.
        seconds: of the longest; the others are up to half shorter.
        seed: of everything that is drawn.

    Returns:
        Rows ``{"audio": {"array": samples, "sampling_rate": sampling_rate}, "label": name of the sound}``, the samples
        (S,) float32 from -1 to 1; equal for equal arguments.

    Raises:
        OptionError: numbers that cannot be.

    Example:
        >>> rows = waves(4, classes=2)
        >>> [row["label"] for row in rows], rows[0]["audio"]["sampling_rate"]
        (['low', 'high', 'low', 'high'], 16000)
    """
    raise_together(
        [
            whole_number("count", count, at_least=0),
            whole_number("classes", classes, at_least=1, at_most=len(SOUNDS)),
            whole_number("sampling_rate", sampling_rate, at_least=4_000),  # twice the highest pitch, and some
            real_number("seconds", seconds, 0, ends=False, expected="a number above 0"),
            whole_number("seed", seed, at_least=0),
        ]
    )
    numbers = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = SOUNDS[i % classes]
        array = _wave(label, max(1, round(seconds * numbers.uniform(0.5, 1) * sampling_rate)), sampling_rate, numbers)
        rows.append({"audio": {"array": array, "sampling_rate": sampling_rate}, "label": label})
    return rows


def _wave(label: str, samples: int, sampling_rate: int, numbers: np.random.Generator) -> NDArray[np.float32]:
    """(samples,): a sine of this class's pitch, a little off."""
    pitch = _PITCH[label](np.linspace(0, 1, samples)) * numbers.uniform(0.9, 1.1)
    phase = 2 * np.pi * (np.cumsum(pitch) / sampling_rate + numbers.uniform())
    clean = numbers.uniform(0.3, 0.9) * np.sin(phase)
    return np.clip(clean + numbers.normal(0, _NOISE, samples), -1, 1).astype(np.float32)


@checked
def write_waves(
    folder: str | os.PathLike[str],
    count: int = 12,
    *,
    classes: int = 3,
    sampling_rate: int = 16_000,
    seconds: float = 0.25,
    seed: int = 0,
) -> str:
    """Write `waves` into a folder with one folder for each class, as 16 bits and one channel: ``low/00000.wav`` ...

    Args:
        folder: to write to; made where it is not there.
        count: as of `waves`, and so are the rest.
        classes: the first so many of `SOUNDS`.
        sampling_rate: samples of a second.
        seconds: of the longest.
        seed: of everything that is drawn.

    Returns:
        The path.

    Raises:
        OptionError: numbers that cannot be.
    """
    rows = waves(count, classes=classes, sampling_rate=sampling_rate, seconds=seconds, seed=seed)
    place = folder_path(folder, option="folder")
    for number, row in enumerate(rows):
        (place / row["label"]).mkdir(parents=True, exist_ok=True)
        with wave.open(str(place / row["label"] / f"{number:05}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sampling_rate)
            file.writeframes(np.round(row["audio"]["array"] * 32767).astype("<i2").tobytes())
    return str(place)
