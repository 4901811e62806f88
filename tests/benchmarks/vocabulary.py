"""What training only the embedding rows in use saves: XLM-R's vocabulary of 250,000 tokens over a small body.

``python -m tests.benchmarks.vocabulary`` prints a table; each line is a fresh process, in turn with the others.
"""

from __future__ import annotations

import statistics

from tests.benchmarks.measure import in_fresh_process, table

_CODE = """
import json, time
from sftlib import Callback, FineTuner, TaskDataset
from sftlib.models.language import vocabulary
from tests.benchmarks.measure import peak_mebibytes, mean_step
from tests.multilingual import multilingual_model, multilingual_rows, multilingual_tokenizer
vocabulary._SMALLEST_TABLE = {smallest}
class Clock(Callback):
    def __init__(self):
        self.stamps = []
    def on_step_end(self, training, record):
        self.stamps.append(time.perf_counter())
        self.rows = len(training.model.get_input_embeddings().weight)
clock = Clock()
tuner = FineTuner(multilingual_model(384, 6), tokenizer=multilingual_tokenizer(), max_steps=12, batch_size=32)
tuner.fit(TaskDataset(multilingual_rows(2_000)), callbacks=[clock], progress=False)
print(json.dumps({{"step": mean_step(clock.stamps), "rows": clock.rows, "peak": peak_mebibytes()}}))
"""


def main(rounds: int = 3) -> None:
    """Print the table."""
    cases = {"whole table": 2**30, "rows in use": 2**13}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, smallest in cases.items():
            found[name].append(in_fresh_process(_CODE.format(smallest=smallest)))
    lines = [
        [
            name,
            f"{series[0]['rows']:,}",
            f"{min(one['step'] for one in series) * 1e3:.0f}",
            f"{statistics.median(one['peak'] for one in series):.0f}",
        ]
        for name, series in found.items()
    ]
    print(table(["250,000 tokens, 6 layers of width 384", "rows trained", "ms a step", "peak MiB"], lines))


if __name__ == "__main__":
    main()
