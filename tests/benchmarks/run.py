"""Measure everything and write the figures between the markers of ``docs/benchmarks.md``.

``python -m tests.benchmarks.run [section ...]``; without names, every section. A section keeps its last figures until
it is measured again.
"""

from __future__ import annotations

import argparse
import platform
import re
from collections.abc import Callable
from pathlib import Path

import torch

from tests.benchmarks import contenders as c
from tests.benchmarks import domains, pronunciation, texts, words
from tests.benchmarks.measure import in_fresh_process, interleaved, product_rate, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
ROUNDS, STEPS = 5, 16
#: Weights of MiniLM's linear layers: each token costs 2 FLOP a weight forwards and 4 backwards.
LINEAR_WEIGHTS = 6 * (4 * 384 * 384 + 2 * 384 * 1536)


def training() -> str:
    """Seconds of a step on short texts."""
    rows = texts.movies()[::3]
    found = interleaved(
        {
            "sftlib": lambda: c.our_step(rows, STEPS),
            "sftlib, fp32": lambda: c.our_step(rows, STEPS, precision="fp32"),
            "HF Trainer, default": lambda: c.hf_step(rows, STEPS),
            "HF Trainer, bf16, grouped by length": lambda: c.hf_step(rows, STEPS, best=True),
            "Lightning, bf16-mixed": lambda: c.lightning_step(rows, STEPS),
            "skorch": lambda: c.skorch_step(rows, STEPS),
        },
        ROUNDS,
    )
    lines = []
    for name, series in found.items():
        factor, low, high = series.ratio(found["sftlib"])
        in_fp32, *_ = series.ratio(found["sftlib, fp32"])
        step = f"{series.best * 1e3:.0f}"
        lines.append(
            [name, step, f"{c.BATCH / series.best:.0f}", f"{factor:.2f} ({low:.2f} to {high:.2f})", f"{in_fp32:.2f}"]
        )
    return (
        table(["training MiniLM, short texts", "ms a step", "rows/s", "times sftlib", "times sftlib fp32"], lines)
        + "\n\n"
        + _floor(rows, found["sftlib"].best)
    )


def _floor(rows: list[dict[str, object]], step: float) -> str:
    data = c.Encoded(rows, 512)
    tokens = c.BATCH * sum(map(len, data.inputs["input_ids"])) / len(data)
    rate = product_rate(torch.bfloat16)
    floor = 6 * LINEAR_WEIGHTS * tokens / rate
    return (
        f"The floor: {tokens:.0f} real tokens a step through {LINEAR_WEIGHTS / 1e6:.1f} M weights of linear layers are "
        f"{6 * LINEAR_WEIGHTS * tokens / 1e9:.0f} GFLOP; at the {rate / 1e9:.0f} GFLOP/s measured for bf16 products "
        f"of these shapes they take {floor * 1e3:.0f} ms. A step takes {step * 1e3:.0f} ms:"
        f" {floor / step:.0%} of the floor is reached."
    )


def long_texts() -> str:
    """Seconds of a step on texts of review length."""
    rows = texts.long_reviews()
    found = interleaved(
        {
            "sftlib": lambda: c.our_step(rows, 8, max_length=256),
            "HF Trainer, default": lambda: c.hf_step(rows, 8, 256),
            "HF Trainer, bf16, grouped by length": lambda: c.hf_step(rows, 8, 256, best=True),
        },
        3,
    )
    lines = []
    for name, series in found.items():
        factor, low, high = series.ratio(found["sftlib"])
        lines.append([name, f"{series.best * 1e3:.0f}", f"{factor:.2f} ({low:.2f} to {high:.2f})"])
    return table(["training MiniLM, texts cut at 256 tokens", "ms a step", "times sftlib"], lines)


def predicting() -> str:
    """Seconds to predict 2,000 short texts."""
    rows = texts.movies()
    calls = c.predictors(rows[::20], [row["text"] for row in rows[::5]][:2000])
    found = interleaved({name: lambda call=call: c.seconds_to_predict(call) for name, call in calls.items()}, ROUNDS)
    lines = []
    for name, series in found.items():
        factor, low, high = series.ratio(found["sftlib"])
        lines.append([name, f"{2000 / series.best:.0f}", f"{factor:.2f} ({low:.2f} to {high:.2f})"])
    return table(["predicting 2,000 short texts", "rows/s", "times sftlib"], lines)


_COMMON = """
import json, time
start = time.perf_counter()
from tests.benchmarks import contenders as c, texts
from tests.benchmarks.measure import peak_megabytes
rows = texts.movies()[:8568]
"""


def starting() -> str:
    """Seconds from nothing to the first step on 8,568 rows, and peak memory after 20 steps."""
    ours = _COMMON + (
        "clock = c.Clock()\n"
        "c.ours(20).fit(c.TaskDataset(rows, text='text', label='label'), callbacks=[clock], progress=False)\n"
    )
    theirs = _COMMON + (
        "data, clock = c.Encoded(rows, 512), c.HfClock()\n"
        "c.hf_trainer(data, model=c.hf_model(2), clock=clock, max_steps=20).train()\n"
    )
    end = "print(json.dumps({'first': clock.stamps[0] - start, 'memory': peak_megabytes()}))"
    lines = []
    for _ in range(3):
        for name, code in (("sftlib", ours), ("HF Trainer, default", theirs)):
            found = in_fresh_process(code + end)
            lines.append([name, f"{found['first']:.1f}", f"{found['memory']:.0f}"])
    header = [
        "fresh process, 8,568 rows (both import every peer's module)",
        "seconds to the first step",
        "peak MB, 20 steps",
    ]
    return table(header, sorted(lines))


def accuracy() -> str:
    """Accuracy on 2,000 held-out rows after one epoch with the same steps, three seeds."""
    from sftlib import TaskDataset

    data = TaskDataset(texts.movies(), text="text", label="label")
    train, test = data.split(1 - 2000 / len(data), 2000 / len(data), seed=0)
    steps = -(-len(train) // c.BATCH)
    lines, differences = [], []
    for seed in range(3):
        tuner = c.ours(steps, seed=seed).fit(train, progress=False)
        mine = [guess.label == row["label"] for guess, row in zip(tuner.predict(test), test, strict=True)]
        encoded = c.Encoded(list(train), 512)
        torch.manual_seed(seed)
        trainer = c.hf_trainer(encoded, model=c.hf_model(2), max_steps=steps, seed=seed)
        trainer.train()
        held_out = c.Encoded(list(test), 512)
        theirs = (trainer.predict(held_out).predictions.argmax(-1) == held_out.labels).tolist()
        lines.append([seed, f"{sum(mine) / len(mine):.4f}", f"{sum(theirs) / len(theirs):.4f}"])
        differences += [int(a) - int(b) for a, b in zip(mine, theirs, strict=True)]
        print(lines[-1], flush=True)
    paired = torch.tensor(differences, dtype=torch.float64)
    mean, error = float(paired.mean()), float(paired.std() / len(paired) ** 0.5)
    return table(["seed", "sftlib", "HF Trainer, default"], lines) + (
        f"\n\nPaired difference over {len(differences):,} predictions: {mean:+.4f} "
        f"(95 % interval {mean - 1.96 * error:+.4f} to {mean + 1.96 * error:+.4f})."
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "training": training,
    "long-texts": long_texts,
    "predicting": predicting,
    "starting": starting,
    "accuracy": accuracy,
    "entities": words.entities,
    "entities-scores": words.entities_scores,
    "questions": words.questions,
    "questions-scores": words.questions_scores,
    "pronunciation": pronunciation.pronunciation,
    "domains": domains.domains,
}


def main() -> None:
    """Measure the sections asked for, and write each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="what to measure (default: everything)")
    for name in parser.parse_args().sections or SECTIONS:
        print(name, flush=True)
        write(name, SECTIONS[name]())


def write(section: str, figures: str) -> None:
    """Put figures between the markers of a section, with the machine they were measured on."""
    machine = (
        f"*{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, "
    )
    machine += f"Python {platform.python_version()}.*"
    start, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    between = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"{PAGE.name} has no section {section!r}")
    PAGE.write_text(between.sub(lambda _: f"{start}\n{figures}\n\n{machine}\n{end}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
