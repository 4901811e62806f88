"""From rows to batches: tokenising and laying out, and how the cost of all that grows with the number of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

from sftlib import TaskDataset
from sftlib.encoders.encoded import Encoded
from sftlib.run.fitted import Fitted
from sftlib.train.plan import ShuffledPlan
from tests.benchmarks import contenders as c
from tests.benchmarks import rows as big
from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures, compared
from tests.benchmarks.measure import interleaved, seconds_of, table


def datapath(asked: Asked) -> Figures:
    """Seconds of a batch of an epoch, and of tokenising the rows before it."""
    rows = texts.movies()[:8000]
    datasets.disable_progress_bars()
    tokenizer = transformers.AutoTokenizer.from_pretrained(c.MODEL)
    batches, rounds = asked.size(200, 20), asked.size(5, 1)
    tokenised = _hf_tokens(rows, tokenizer)
    found = interleaved(
        {
            "sftlib": _our_batches(rows, batches),
            "datasets, DataLoader, collator": _theirs(tokenised, tokenizer, batches),
        },
        rounds,
    )
    encoding = interleaved(
        {
            "sftlib": lambda _: seconds_of(lambda: _our_tokens(rows)),
            "datasets.map, batched": lambda _: seconds_of(lambda: _hf_tokens(rows, tokenizer)),
        },
        asked.size(3, 1),
    )
    second = compared(f"tokenising and storing {len(rows):,} sentences", encoding, ("s", 1), ("rows/s", len(rows)))
    return compared(
        f"making a batch of {c.BATCH} sentences",
        found,
        ("ms", 1e3),
        ("batches/s", 1),
        notes=[table(second.header, second.lines)],
    )


def _our_tokens(rows: Sequence[c.Row]) -> tuple[Fitted, Encoded]:
    """Rows tokenised by a fresh tuner that has seen one row of each label, so that its model is open."""
    data = TaskDataset(rows, text="text", label="label")
    by_label = {row["label"]: i for i, row in enumerate(rows)}
    tuner = c.ours(1).fit(data.select(sorted(by_label.values())), progress=False)
    fitted = tuner._ready("")
    return fitted, fitted.encode(data)


def _our_batches(rows: Sequence[c.Row], batches: int) -> Any:
    fitted, encoded = _our_tokens(rows)

    def run(seed: int) -> float:
        plan = ShuffledPlan(len(rows), batch_size=c.BATCH, seed=seed)
        parts = map(plan.rows, range(batches))
        return seconds_of(lambda: [fitted.task.collate(encoded, part, fitted.encoder) for part in parts]) / batches

    return run


def _hf_tokens(rows: Sequence[c.Row], tokenizer: Any) -> Any:
    names = sorted({row["label"] for row in rows})

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        return {**tokenizer(batch["text"], truncation=True), "labels": [names.index(x) for x in batch["label"]]}

    return datasets.Dataset.from_list(list(rows)).map(encode, batched=True, remove_columns=["text", "label"])


def _theirs(tokenised: Any, tokenizer: Any, batches: int) -> Any:
    collate = transformers.DataCollatorWithPadding(tokenizer)

    def run(seed: int) -> float:
        torch.manual_seed(seed)
        loader = iter(torch.utils.data.DataLoader(tokenised, c.BATCH, shuffle=True, collate_fn=collate))
        return seconds_of(lambda: [next(loader) for _ in range(batches)]) / batches

    return run


def growth(asked: Asked) -> Figures:
    """The processor's time of a row, and memory, from 1,000 rows to a million; each size in a process of its own."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for size in asked.pick((1_000, 10_000, 100_000, 1_000_000), (1_000, 2_000)):
            path = Path(folder) / f"{size}.jsonl"
            big.write_rows(path, size)
            found.append(big.in_process(path))
            path.unlink()
            print(found[-1], flush=True)
    header = [
        "rows", "read, check and split, µs a row", "tokenise and store, µs a row", "train, µs a row", "together",
        "a batch, ms", "own memory, MiB", "with mapped files, MiB",
    ]  # fmt: skip
    lines = [_grown(run) for run in found]
    totals = {f"{line[0]} rows": [float(line[4])] for line in lines}
    last, base = float(lines[-1][4]), float(lines[min(1, len(lines) - 1)][4])
    note = (
        f"A row of {lines[-1][0]} costs {last / base - 1:+.1%} against one of {lines[min(1, len(lines) - 1)][0]}. "
        "Tiny model of one narrow layer, batches of 32, one thread; tokenising includes a whole first fit of one step. "
        "Memory is what the process holds beyond what it held before it opened the file."
    )
    return Figures(header, lines, [note], seconds=totals)


def _grown(run: dict[str, float]) -> list[str]:
    rows = run["rows"]
    reading = sum(run[stage] for stage in ("read", "report", "split")) / rows * 1e6
    encoding = run["encode"] / rows * 1e6
    training = run["steps"] / (big.STEPS * c.BATCH) * 1e6
    costs = [f"{value:.1f}" for value in (reading, encoding, training, reading + encoding + training)]
    return [f"{int(rows):,}", *costs, f"{run['batch_ms']:.3f}", f"{run['own']:.0f}", f"{run['all']:.0f}"]
