"""How to measure on a machine that others use too: interleaved, many times, ratios pair by pair."""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WARM = 2  # steps that are not counted


@dataclass(frozen=True)
class Series:
    """Seconds of one contender, one number a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Series) -> tuple[float, float, float]:
        """How many times this is slower than ``other``: median, smallest and largest over the rounds, pair by pair."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def interleaved(contenders: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, Series]:
    """Run every contender once a round, in turn; the order is reversed every other round.

    Contenders are given the number of the round, as a seed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            seconds[name].append(contenders[name](number))
            print(f"  round {number + 1}/{rounds}  {name:42} {seconds[name][-1]:8.3f} s", flush=True)
    return {name: Series(tuple(values)) for name, values in seconds.items()}


def mean_step(stamps: Sequence[float], skip: int = WARM) -> float:
    """The mean time of a step, the first few left out: batches differ in length, so that a median would not do."""
    return (stamps[-1] - stamps[skip - 1]) / (len(stamps) - skip)


def evenly(order: Sequence[int], batch: int, steps: int, warm: int = WARM) -> list[int]:
    """Rows of ``warm`` batches to get warm and of ``steps`` - ``warm`` batches from the whole of an epoch.

    Loaders that group rows by length begin with the longest, so that the first steps say nothing about an epoch.

    Args:
        order: row numbers in the order of the epoch.
        batch: rows of a batch.
        steps: batches in all.
        warm: the first of them, which are not counted.
    """
    batches = [order[i : i + batch] for i in range(0, len(order) - batch + 1, batch)]
    counted = steps - warm
    chosen = [batches[int((i + 0.5) * len(batches) / counted)] for i in range(counted)]
    first = [chosen[i * counted // max(warm, 1)] for i in range(warm)]
    return [row for part in [*first, *chosen] for row in part]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def kept(name: str, measure: Callable[[], list[str]]) -> list[str]:
    """One line of a long table: read from the folder that ``SFTLIB_PIECES`` names, or measured and written there.

    An interrupted run then loses only the piece it was at. Without the variable everything is measured.
    """
    folder = os.environ.get("SFTLIB_PIECES")
    path = Path(folder or ".") / f"{name}.json"
    if folder and path.exists():
        line: list[str] = json.loads(path.read_text(encoding="utf-8"))
        return line
    line = measure()
    print(line, flush=True)
    if folder:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(line), encoding="utf-8")
    return line


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of matrix products of the shapes that MiniLM has in a batch of short texts; the best of many."""
    a, b = torch.randn(864, 384).to(dtype), torch.randn(384, 1536).to(dtype)
    best = min(seconds_of(lambda: [a @ b for _ in range(20)]) for _ in range(30))
    return 20 * 2 * 864 * 384 * 1536 / best


def seconds_of(function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fresh(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of this package in a new process; its last line is a JSON object.

    Returns:
        That, with ``"first"``, which is a time of day, as seconds since before the process began.
    """
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
    start = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "first": found["first"] - start}


def in_fresh_process(code: str) -> dict[str, float]:
    """Run code in a new process; it ends by printing one JSON object."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def peak_mebibytes() -> float:
    """Peak resident memory of this process: since its ``exec``, which ``ru_maxrss`` does not promise."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
