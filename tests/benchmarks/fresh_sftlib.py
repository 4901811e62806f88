"""One short run of sftlib in a process of its own: ``python -m tests.benchmarks.fresh_sftlib JSON``.

Nothing is imported that its user would not import.
"""

import json
import sys
import time
from typing import Any

from sftlib import Callback, FineTuner, TaskDataset


class First(Callback):
    """Notes when the first step ended."""

    time = 0.0

    def on_step_end(self, training: Any, record: Any) -> None:
        self.time = self.time or time.time()


def main() -> None:
    """Train, and print when the first step ended and how much memory there was at most."""
    asked = json.loads(sys.argv[1])
    with open(asked["rows"], encoding="utf-8") as file:
        rows = json.load(file)
    first = First()
    tuner = FineTuner(
        asked["model"],
        max_steps=asked["steps"],
        batch_size=32,
        learning_rate=1e-4,
        max_length=asked["limit"],
        precision=asked["precision"],
        seed=asked["seed"],
    )
    tuner.fit(TaskDataset(rows, text="text", label="label"), callbacks=[first], progress=False)

    from tests.benchmarks.measure import peak_mebibytes

    print(json.dumps({"first": first.time, "peak": peak_mebibytes()}))


if __name__ == "__main__":
    main()
