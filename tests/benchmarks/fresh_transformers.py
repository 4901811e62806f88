"""One short run of the Trainer in a process of its own: ``python -m tests.benchmarks.fresh_transformers JSON``.

Nothing is imported that its user would not import.
"""

import json
import sys
import tempfile
import time
from typing import Any

from datasets import Dataset, disable_progress_bars
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging


class First(TrainerCallback):
    """Notes when the first step ended."""

    time = 0.0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.time = self.time or time.time()


def main() -> None:
    """Train, and print when the first step ended and how much memory there was at most."""
    asked = json.loads(sys.argv[1])
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    with open(asked["rows"], encoding="utf-8") as file:
        rows = json.load(file)
    names = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])

    def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
        tokens = tokenizer(batch["text"], truncation=True, max_length=asked["limit"])
        return {**tokens, "labels": [names.index(label) for label in batch["label"]]}

    data = Dataset.from_list(rows).map(encode, batched=True, remove_columns=["text", "label"])
    model = AutoModelForSequenceClassification.from_pretrained(asked["model"], num_labels=len(names))
    first = First()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=asked["steps"],
            per_device_train_batch_size=32,
            learning_rate=1e-4,
            weight_decay=0.01,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=asked["precision"] == "bf16",
            seed=asked["seed"],
            use_cpu=asked["cpu"],
        )
        Trainer(model, arguments, DataCollatorWithPadding(tokenizer), data, callbacks=[first]).train()

    from tests.benchmarks.measure import peak_mebibytes

    print(json.dumps({"first": first.time, "peak": peak_mebibytes()}))


if __name__ == "__main__":
    main()
