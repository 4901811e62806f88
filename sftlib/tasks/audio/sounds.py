"""What tasks with one output vector per sound have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from sftlib.data.dataset import TaskDataset
from sftlib.data.problems import brief
from sftlib.encoders.audio.inputs import Audio
from sftlib.errors import DataError
from sftlib.tasks.vector import VectorTask

_HZ = 16_000


def longest_of(data: TaskDataset) -> float:
    """Seconds of the longest sound."""
    kind = data.kinds["audio"]
    return max(kind.size(sound) for sound in data.view("audio")) / 1000


@dataclass(frozen=True, kw_only=True, repr=False)
class SoundTask(VectorTask):
    """A sound in."""

    inputs = Audio
    auto_class = "AutoModelForAudioClassification"

    @final
    @property
    def reads(self) -> tuple[str, ...]:
        return ("audio",)

    @final
    def inputs_of(self, example: object) -> dict[str, Any]:
        return {"audio": sound_in(example)}

    def examples(self) -> list[object]:
        return example_sounds()


def sound_in(example: object) -> object:
    """The sound of one input to ``predict``.

    Raises:
        DataError: it does not have the shape of one.
    """
    value = example.get("audio") if isinstance(example, Mapping) and example.keys() == {"audio"} else example
    is_array = isinstance(value, Mapping) and "array" in value
    if not is_array and not isinstance(value, str | os.PathLike | bytes):
        raise DataError(
            'this model takes sounds: a path, bytes, {"array": samples, "sampling_rate": 16000}, or a mapping with '
            f"'audio'; found {brief(example, 80)}"
        )
    return value


def example_sounds() -> list[object]:
    """Sounds of different lengths: a tone, one that rises, and noise."""
    noise = np.random.Generator(np.random.Philox(key=0)).normal(0, 0.1, _HZ // 2)
    rising = np.sin(np.cumsum(np.linspace(0.05, 0.5, _HZ)))
    tone = 0.5 * np.sin(np.arange(_HZ * 3 // 4) * 0.2)
    return [{"array": array.astype(np.float32), "sampling_rate": _HZ} for array in (tone, rising, noise)]
