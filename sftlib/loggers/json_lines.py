"""`JsonLines`: the records of a run in a file, a line each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from sftlib.loggers.base import Logger
from sftlib.support.checking import checked, folder_path


@final
class JsonLines(Logger):
    """Writes a line of JSON for each step and each evaluation; whatever reads text can follow it.

    Args:
        path: of the file; a new run writes it anew.
        config: values that describe the run; they stand in the first line.
        every: optimizer steps between two lines of training.

    Raises:
        OptionError: it is no path.

    Example:
        >>> import tempfile
        >>> from sftlib import FineTuner, TaskDataset
        >>> from sftlib.testing import tiny_model, tiny_tokenizer
        >>> rows = TaskDataset({"text": ["A warm film.", "A cold film."] * 4, "label": ["good", "bad"] * 4})
        >>> tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), max_steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "run.jsonl"
        ...     _ = tuner.fit(rows, callbacks=[JsonLines(path)], progress=False)
        ...     [sorted(json.loads(line))[:2] for line in path.read_text().splitlines()]
        [['config', 'step'], ['step', 'train/grad_norm'], ['epoch', 'step'], ...]
    """

    @checked
    def __init__(
        self, path: str | os.PathLike[str], *, config: Mapping[str, Any] | None = None, every: int = 1
    ) -> None:
        super().__init__(config, every=every)
        self.path = folder_path(path)

    def open(self, run: str | None, last: int) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [] if run is None else [line for line in _lines(self.path) if _step(line) <= last]
        first = [] if kept else [json.dumps({"step": 0, "config": self.config})]
        self.path.write_text("".join(f"{line}\n" for line in [*first, *kept]), encoding="utf-8")
        return str(self.path)

    def write(self, values: Mapping[str, float], *, step: int) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _step(line: str) -> int:
    """The step of a line; of one that a killed process did not finish one that never counts."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62
