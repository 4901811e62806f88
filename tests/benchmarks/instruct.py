"""One run of instruction tuning in a process of its own: ``python -m tests.benchmarks.instruct JSON``.

Both libraries open the same folder, learn the same rows, and are scored by the same lines of plain transformers.
"""

import json
import sys
import tempfile
import time
from typing import Any

import torch
from torch.nn import functional

from tests.benchmarks.measure import peak_mebibytes

BATCH = 8
LIMIT = 512
RATE = 2e-5

Turns = list[dict[str, str]]


class Clock:
    """Seconds from the first step's start to the last one's end, and the loss of each step."""

    def __init__(self) -> None:
        self.start = self.end = 0.0
        self.losses: list[float] = []

    def found(self, rows: list[Turns], tokenizer: Any) -> dict[str, Any]:
        """What is told of the run; memory is looked at before anything is scored."""
        tokens = sum(len(encoded(turns, tokenizer)[0]) for turns in rows)
        seconds = self.end - self.start
        return {"tokens": tokens, "seconds": seconds, "rate": tokens / seconds, "losses": self.losses}


def encoded(turns: Turns, tokenizer: Any) -> tuple[list[int], int]:
    """Tokens of a conversation, and how many of them come before the answer."""
    before = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, tokenize=True, return_dict=False)
    whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    return whole[:LIMIT], len(before)


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: Any, rows: list[Turns]) -> float:
    """Cross-entropy of a token of the answers, one row at a time, in fp32."""
    model = model.float().eval()
    total, count = 0.0, 0
    for turns in rows:
        ids, before = encoded(turns, tokenizer)
        if len(ids) > before:
            scores = model(input_ids=torch.tensor([ids])).logits[0, before - 1 : -1]
            total += float(functional.cross_entropy(scores, torch.tensor(ids[before:]), reduction="sum"))
            count += len(ids) - before
    return total / count


def ours(asked: dict[str, Any]) -> dict[str, Any]:
    """Train with sftlib."""
    from sftlib import Callback, FineTuner, TaskDataset

    clock = Clock()

    class Ticks(Callback):
        def on_fit_start(self, *_: Any) -> None:
            clock.start = time.perf_counter()

        def on_step_end(self, _: Any, record: Any) -> None:
            clock.end = time.perf_counter()
            clock.losses.append(record["loss"])

    options = {"batch_size": BATCH, "max_length": LIMIT, "learning_rate": RATE, "epochs": 1, **asked["options"]}
    tuner = FineTuner(asked["model"], **options)
    tuner.fit(TaskDataset({"messages": asked["rows"]}), callbacks=[Ticks()], progress=False)
    peak = peak_mebibytes()
    plain = tuner.merge() if tuner.settings.get("adapter") else tuner
    return {"peak": peak, "model": plain.model, "clock": clock}


def theirs(asked: dict[str, Any]) -> dict[str, Any]:
    """Train with TRL's ``SFTTrainer``; the loss is that of the answers here too."""
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    clock = Clock()

    class Ticks(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end = time.perf_counter()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                clock.losses.append(float(logs["loss"]))

    rows = Dataset.from_list([{"prompt": turns[:-1], "completion": turns[-1:]} for turns in asked["rows"]])
    options = {"per_device_train_batch_size": BATCH, "max_length": LIMIT, **asked["options"]}
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            folder,
            num_train_epochs=1,
            learning_rate=RATE,
            weight_decay=0.01,
            warmup_steps=0.1,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **options,
        )
        trainer = SFTTrainer(asked["model"], args=config, train_dataset=rows, callbacks=[Ticks()])
        trainer.train()
    return {"peak": peak_mebibytes(), "model": trainer.model, "clock": clock}


def main() -> None:
    """Train, score, and print what was found."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    asked = json.loads(sys.argv[1])
    with open(asked["rows"], encoding="utf-8") as file:
        asked.update(json.load(file))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])
    found: dict[str, Any] = {}
    if asked["library"] == "none":
        model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    else:
        run = {"sftlib": ours, "trl": theirs}[asked["library"]](asked)
        model = run["model"]
        found = {"peak": run["peak"], **run["clock"].found(asked["rows"], tokenizer)}
    print(json.dumps({**found, "first": time.time(), "held_out": held_out_loss(model, tokenizer, asked["held_out"])}))


if __name__ == "__main__":
    main()
