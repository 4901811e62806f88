"""How cost grows with the number of rows: ``python -m tests.benchmarks.rows [10000 100000 1000000]``.

For each size a process of its own reads a generated JSONL file of short texts, looks through it, splits it, tokenises
it, takes 50 steps of a tiny model (so that the data path shows, not the model), and evaluates on 10,000 rows.

Memory is what the process holds for itself beyond what it held before it opened the file; pages of mapped files, which
the system takes back when it needs them, are in the second column only. Times are the processor's for one row, so that
a machine shared with others measures the same; that of a batch is the clock's. "Encode" is a whole first fit of one
step, "start" the part of another fit before its first step, both by the rows of the file; "steps" by the rows trained
on, the best of three runs; "evaluate" by the rows evaluated. ``--reference`` adds a run with all rows in memory.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sftlib.train.callbacks import Callback
from sftlib.train.state import Training

STAGES = ("read", "report", "split", "encode", "start", "steps", "evaluate")
STEPS = 50
EVALUATED = 10_000


def write_rows(path: Path, rows: int, words: int = 12) -> None:
    """Short texts, nearly all different, with a label that depends on one of the words."""
    vocabulary = "good bad film story actor music long short joy pain quiet loud warm cold small great work".split()
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            chosen = draw.choices(vocabulary, k=words)
            row = {"text": f"{' '.join(chosen)} {number}", "label": int(chosen[0] < "h"), "id": number}
            file.write(json.dumps(row) + "\n")


def memory() -> tuple[float, float]:
    """MiB that this process holds for itself, and with pages of files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, files = (int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return own, own + files


class Peak(threading.Thread):
    """Looks at the memory every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own, self.all = 0.0, 0.0
        self.stages: dict[str, float] = {}
        self.stage = ""
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.005):
            own, everything = memory()
            self.own, self.all = max(self.own, own), max(self.all, everything)
            self.stages[self.stage] = max(self.stages.get(self.stage, 0.0), own)

    def stop(self) -> None:
        self._done.set()
        self.join()


class Clock(Callback):
    """Time from the first step to the end of the last."""

    def on_fit_start(self, training: Training) -> None:
        self._start = time.process_time()

    def on_fit_end(self, training: Training) -> None:
        self.steps = time.process_time() - self._start


def measure(path: Path, file_limit: int | None) -> dict[str, float]:
    """One size, in this process."""
    import torch

    from sftlib import FineTuner, TaskDataset
    from sftlib.data.dataset import Rows
    from sftlib.data.files import spool
    from sftlib.testing import tiny_model, tiny_tokenizer

    torch.set_num_threads(1)
    if file_limit is not None:
        spool.FILE_LIMIT = file_limit
    options = {"tokenizer": tiny_tokenizer("bert"), "precision": "fp32", "device": "cpu", "batch_size": 32}
    warm = FineTuner(tiny_model("bert"), max_steps=2, **options)
    warm.fit(TaskDataset({"text": ["a", "b"] * 10, "label": [0, 1] * 10}), progress=False)
    before, before_all = memory()
    peak = Peak()
    peak.start()
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        peak.stage = stage
        start = time.process_time()
        yield
        seconds[stage] = time.process_time() - start

    with timed("read"):
        data: Rows = TaskDataset.from_jsonl(path)
    with timed("report"):
        data.report()
    with timed("split"):
        train, rest = data.split(0.9, 0.1)
    tuner = FineTuner(tiny_model("bert"), max_steps=1, **options)
    with timed("encode"):
        tuner.fit(train, progress=False)
    tuner.set_params(max_steps=STEPS)
    clocks = [Clock() for _ in range(3)]
    for clock in clocks:
        with timed("start"):
            tuner.fit(train, progress=False, callbacks=[clock])
        seconds["start"] -= clock.steps
    seconds["steps"] = min(clock.steps for clock in clocks)
    evaluated = (rest if len(rest) >= EVALUATED else data)[:EVALUATED]
    with timed("evaluate"):
        tuner.evaluate(evaluated)
    peak.stop()

    fitted = tuner._ready("")
    encoded = fitted.encode(train)
    draws = [np.random.default_rng(i).integers(0, len(train), 32) for i in range(200)]
    batch = best_of(lambda: [fitted.task.collate(encoded, rows, fitted.encoder) for rows in draws], 5) / len(draws)
    own = {f"memory_{stage}": held - before for stage, held in peak.stages.items()}
    return {
        "rows": len(data),
        "evaluated": len(evaluated),
        **seconds,
        **own,
        "batch_ms": batch * 1e3,
        "own": peak.own - before,
        "all": peak.all - before_all,
    }


def best_of(function: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def in_process(path: Path, *more: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.rows", "--measure", str(path), *more]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    from sftlib.support.display import text_table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--file-limit", type=int)
    parser.add_argument("--measure", type=Path)
    asked = parser.parse_args()
    if asked.measure is not None:
        print(json.dumps(measure(asked.measure, asked.file_limit)))
        return
    found: list[tuple[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in asked.sizes:
            path = Path(folder) / f"{size}.jsonl"
            write_rows(path, size)
            limit = [] if asked.file_limit is None else ["--file-limit", str(asked.file_limit)]
            found.append((f"{size:,}", in_process(path, *limit)))
        if asked.reference:
            found.append((f"{asked.sizes[-1]:,} in memory", in_process(path, "--file-limit", str(2**62))))
    units = {"steps": STEPS * 32, "evaluate": None}
    header = ["rows", *(f"{stage} µs" for stage in STAGES), "batch ms", "own MiB", "with files MiB"]
    table = [
        [
            name,
            *(round(run[stage] / (units.get(stage, run["rows"]) or run["evaluated"]) * 1e6, 1) for stage in STAGES),
            *(round(run[name], 3) for name in ("batch_ms", "own", "all")),
        ]
        for name, run in found
    ]
    print(text_table(header, table))
    held = [[name, *(round(run.get(f"memory_{stage}", 0.0)) for stage in STAGES)] for name, run in found]
    print(text_table(["own MiB at most in", *STAGES], held))


if __name__ == "__main__":
    main()
