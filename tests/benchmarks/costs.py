"""What trust costs: ``python -m tests.benchmarks.costs [save] [gate] [checks]``, some two minutes on a quiet machine.

Hashing and flushing as a share of a save of 500 MB; the gate as a share of a training step; the checks of data in
microseconds a character.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final
from unittest import mock

import numpy as np
import torch

from sftlib import TaskDataset
from sftlib.support import storage
from sftlib.train.disk.checkpoint import Checkpoints
from sftlib.train.held import Whole
from tests.benchmarks.measure import table

SAVES, MEGABYTES = 15, 500
ROWS = 20_000


def saves() -> str:
    """Seconds of a save with everything, and without hashing, without flushing; the disk is let rest in between."""
    parts = {"model": weights(MEGABYTES // 3), "optimizer": {"state": weights(2 * MEGABYTES // 3)}}
    arms: dict[str, Callable[[], Any]] = {
        "neither": lambda: without(hashing=True, flushing=True),
        "flushed": lambda: without(hashing=True, flushing=False),
        "hashed": lambda: without(hashing=False, flushing=True),
        "hashed and flushed": lambda: without(hashing=False, flushing=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    settled: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(SAVES):
            for name in list(arms)[:: 1 if number % 2 == 0 else -1]:
                store = Checkpoints(Path(folder) / "run", keep_last=1)
                store.open()
                sync()
                start = time.perf_counter()
                with arms[name]():
                    store.save(parts, step=1 + sum(map(len, seconds.values())))
                seconds[name].append(time.perf_counter() - start)
                sync()
                settled[name].append(time.perf_counter() - start)
    gone, plain = statistics.median(seconds["neither"]), statistics.median(settled["neither"])
    lines = []
    for name in arms:
        returned, low, whole, high = statistics.median(seconds[name]), *statistics.quantiles(settled[name], n=4)
        shares = [f"{1 - gone / returned:.0%}", f"{1 - plain / whole:.0%}"]
        lines.append([name, f"{returned:.2f}", shares[0], f"{whole:.2f} ({low:.2f} to {high:.2f})", shares[1]])
    header = [f"a save of {MEGABYTES} MB, medians of {SAVES}", "seconds", "cost"]
    return table([*header, "seconds until the disk has it (quartiles)", "cost"], lines)


def weights(megabytes: int) -> dict[str, torch.Tensor]:
    """Random numbers in pieces of the size of a layer's."""
    return {f"layer.{i}": torch.randn(2**20) for i in range(megabytes * 10**6 // (4 * 2**20))}


def sync() -> None:
    """Wait until the disk has everything."""
    os.sync()


@final
class _NoDigest:
    """Stands in for a SHA-256 that nobody computes."""

    def update(self, chunk: object) -> None:
        pass

    def hexdigest(self) -> str:
        return "0" * 64


@contextmanager
def without(*, hashing: bool, flushing: bool) -> Iterator[None]:
    """Within this context nothing is hashed, or flushed."""
    digest = (lambda *_: _NoDigest()) if hashing else hashlib.sha256
    flush = (lambda descriptor: None) if flushing else storage.os.fsync
    with mock.patch.object(storage.hashlib, "sha256", digest), mock.patch.object(storage.os, "fsync", flush):
        yield


def gate() -> str:
    """The gate's own operations beside a whole step, of MiniLM on short texts.

    The norm is computed for clipping anyway; it is shown, and not counted where gradients are clipped.
    """
    from tests.benchmarks import contenders as c

    generator = np.random.default_rng(0)
    words = ["film", "story", "music", "actor", "idea", "piece", "picture", "script", "drama", "work", "warm", "dull"]
    rows = [
        {"text": " ".join(generator.choice(words, size=int(generator.integers(5, 40)))), "label": int(i % 2)}
        for i in range(640)
    ]
    step = statistics.median([c.our_step(rows, 15) for _ in range(3)])
    model = c.ours(1).fit(TaskDataset(rows[:64]), progress=False).model
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    norm = each(lambda: Whole().norm(parameters), 20)
    check = each(lambda: bool(np.isfinite(0.69) and np.isfinite(1.3)), 10_000)
    loss = each(lambda: float(torch.stack([torch.tensor(0.69)]).sum(dtype=torch.float64)), 1_000)
    lines = [
        ["is the loss finite, is the norm", f"{check * 1e6:.1f}", f"{check / step:.4%}"],
        ["the loss as a number", f"{loss * 1e6:.1f}", f"{loss / step:.4%}"],
        ["the norm, which clipping and the history need too", f"{norm * 1e6:.0f}", f"{norm / step:.2%}"],
    ]
    return table([f"the gate, in a step of {step * 1e3:.0f} ms", "µs", "share of the step"], lines)


def each(function: Callable[[], object], times: int) -> float:
    """Seconds of a call, the best of five rounds."""
    best = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(times):
            function()
        best.append((time.perf_counter() - start) / times)
    return min(best)


def checks() -> str:
    """Everything that is looked for before a run: roles and values, duplicates, conflicts, leakage."""
    generator = np.random.default_rng(0)
    alphabet = {"ASCII": "abcdefghijklmnopqrstuvwxyz     ", "other letters": "абвгдежзийклмнопрсту é    "}
    lines = []
    for name, letters in alphabet.items():
        for size in (30, 200, 2000):
            count = min(ROWS, 6_000_000 // size)
            texts = ["".join(generator.choice(list(letters), size=size)) for _ in range(count)]
            labels = [i % 7 for i in range(count)]
            cut = count * 4 // 5
            taken = []
            for _ in range(3):
                start = time.perf_counter()
                first = TaskDataset({"text": texts[:cut], "label": labels[:cut]})
                second = TaskDataset({"text": texts[cut:], "label": labels[cut:]})
                first.report(second)
                taken.append(time.perf_counter() - start)
            best = min(taken)
            lines.append([name, f"{count:,}", size, f"{best:.2f}", f"{best / (count * size) * 1e6:.3f}"])
    return table(["checks of data", "rows", "characters a row", "seconds", "µs a character"], lines)


SECTIONS: dict[str, Callable[[], str]] = {"save": saves, "gate": gate, "checks": checks}


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all when none is given")
    for name in parser.parse_args().sections or SECTIONS:
        print(SECTIONS[name](), flush=True)


if __name__ == "__main__":
    main()
