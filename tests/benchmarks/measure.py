"""How to measure on a machine that others use too: interleaved, many times, ratios pair by pair."""

from __future__ import annotations

import json
import os
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


@dataclass(frozen=True)
class Series:
    """Seconds of one contender, one number a round."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least disturbed round."""
        return min(self.seconds)

    def ratio(self, other: Series) -> tuple[float, float, float]:
        """How many times this is slower than ``other``: median, smallest and largest over the rounds, pair by pair."""
        ratios = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Series]:
    """Run every contender once a round, in turn; the order is reversed every other round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            seconds[name].append(contenders[name]())
            print(f"  round {number + 1}/{rounds}  {name:42} {seconds[name][-1]:8.3f} s", flush=True)
    return {name: Series(tuple(values)) for name, values in seconds.items()}


def typical_step(stamps: Sequence[float], skip: int = 3) -> float:
    """The median time of a step, the first few left out."""
    return statistics.median([b - a for a, b in zip(stamps[skip:], stamps[skip + 1 :], strict=False)])


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
    best = min(_seconds(lambda: [a @ b for _ in range(20)]) for _ in range(30))
    return 20 * 2 * 864 * 384 * 1536 / best


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def in_fresh_process(code: str) -> dict[str, float]:
    """Run code in a new process; it ends by printing one JSON object."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "process_seconds": time.perf_counter() - start}


def peak_megabytes() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
