"""When epochs ended, of a run of this library and of one of the Trainer."""

from __future__ import annotations

import time
from typing import Any

import transformers

from sftlib import Callback


class Epochs(Callback):
    """Notes when each epoch ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_epoch_end(self, training: Any, metrics: Any) -> None:
        self.stamps.append(time.perf_counter())


class HfEpochs(transformers.TrainerCallback):
    """Notes when each epoch ended."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.stamps.append(time.perf_counter())
