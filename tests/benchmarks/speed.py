"""Training and predicting with MiniLM, side by side in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from sftlib import TaskDataset
from tests.benchmarks import contenders as c
from tests.benchmarks import texts
from tests.benchmarks.figures import Asked, Figures, compared, spread
from tests.benchmarks.measure import WARM, interleaved, product_rate, seconds_of

#: Weights of MiniLM's linear layers: each token costs 2 FLOP a weight forwards and 4 backwards.
LINEAR_WEIGHTS = 6 * (4 * 384 * 384 + 2 * 384 * 1536)
HF, HF_BEST = "HF Trainer, default", "HF Trainer, bf16, grouped by length"


def training(asked: Asked) -> Figures:
    """Seconds of a step on sentences of movie reviews."""
    rows, steps = texts.movies()[::3], WARM + asked.size(13, 2)
    contenders = {
        **_ours_and_theirs(rows, steps),
        "HF Trainer, fp32, grouped by length": lambda seed: c.hf_step(rows, steps, seed=seed, best=True, bf16=False),
        "Lightning, bf16-mixed": lambda seed: c.lightning_step(rows, steps, seed),
        "skorch": lambda seed: c.skorch_step(rows, steps, seed),
    }
    found = interleaved(contenders, asked.size(3, 1))
    notes = [_both_in_fp32(found), _floor(rows, found["sftlib"].median)]
    return compared("training, movie-review sentences", found, ("ms a step", 1e3), ("rows/s", c.BATCH), notes=notes)


def banking(asked: Asked) -> Figures:
    """Seconds of a step on questions to a bank, 77 labels."""
    both = texts.banking()
    if both is None:
        raise SystemExit("this section reads banking77 from the folder that SFTLIB_DATA names; it is not set")
    rows = both[0][::3]
    found = interleaved(_ours_and_theirs(rows, WARM + asked.size(13, 2)), asked.size(3, 1))
    notes = [_both_in_fp32(found), _floor(rows, found["sftlib"].median)]
    return compared("training, banking77", found, ("ms a step", 1e3), ("rows/s", c.BATCH), notes=notes)


def long_texts(asked: Asked) -> Figures:
    """Seconds of a step on texts of review length."""
    rows, steps = texts.long_reviews(), WARM + asked.size(4, 1)
    found = interleaved(_ours_and_theirs(rows, steps, 256), asked.size(2, 1))
    notes = [_both_in_fp32(found)]
    return compared("training, texts cut at 256 tokens", found, ("ms a step", 1e3), ("rows/s", c.BATCH), notes=notes)


def _ours_and_theirs(rows: Sequence[c.Row], steps: int, limit: int = 512) -> dict[str, Any]:
    return {
        "sftlib": lambda seed: c.our_step(rows, steps, seed=seed, max_length=limit),
        "sftlib, fp32": lambda seed: c.our_step(rows, steps, seed=seed, max_length=limit, precision="fp32"),
        HF: lambda seed: c.hf_step(rows, steps, limit, seed=seed),
        HF_BEST: lambda seed: c.hf_step(rows, steps, limit, seed=seed, best=True),
    }


def _both_in_fp32(found: dict[str, Any]) -> str:
    ratio = spread(found[HF].ratio(found["sftlib, fp32"]))
    return f"In fp32 on both sides the Trainer's default takes {ratio} times sftlib's time."


def _floor(rows: Sequence[c.Row], step: float) -> str:
    data = c.Encoded(rows, 512)
    tokens = c.BATCH * sum(map(len, data.inputs["input_ids"])) / len(data)
    rates = {"fp32": product_rate(torch.float32), "bf16": product_rate(torch.bfloat16)}
    fastest = max(rates, key=rates.__getitem__)
    floor = 6 * LINEAR_WEIGHTS * tokens / rates[fastest]
    return (
        f"The floor: {tokens:.0f} real tokens a step through {LINEAR_WEIGHTS / 1e6:.1f} M weights of linear layers are "
        f"{6 * LINEAR_WEIGHTS * tokens / 1e9:.0f} GFLOP. Products of these shapes were measured at "
        f"{rates['fp32'] / 1e9:.0f} GFLOP/s in fp32 and {rates['bf16'] / 1e9:.0f} in bf16; in {fastest} the step's "
        f"take {floor * 1e3:.0f} ms. A step takes {step * 1e3:.0f} ms: {floor / step:.0%} of the floor is reached."
    )


def predicting(asked: Asked) -> Figures:
    """Seconds to predict short texts."""
    rows, count = texts.movies(), asked.size(1000, 64)
    chosen = [row["text"] for row in rows[:: len(rows) // count]][:count]
    calls = _predictors(rows[::20], chosen)
    found = interleaved({name: lambda _, call=call: seconds_of(call) for name, call in calls.items()}, asked.size(3, 1))
    return compared(f"predicting {count:,} movie-review sentences", found, ("s", 1), ("rows/s", count))


def _predictors(rows: Sequence[c.Row], chosen: Sequence[str]) -> dict[str, Any]:
    """Ways to predict the same texts with a model tuned for two steps: name -> call."""
    train = TaskDataset(rows, text="text", label="label")
    tuners = {name: c.ours(2, precision=name).fit(train, progress=False) for name in ("auto", "fp32")}
    data = c.Encoded(rows, 512)
    model = c.hf_model(len(data.names)).eval()
    unlabelled = c.Encoded([{"text": text, "label": data.names[0]} for text in chosen], 512)
    default, best = c.hf_trainer(data, model=model), c.hf_trainer(data, model=model, best=True)
    pipe = transformers.pipeline("text-classification", model=model, tokenizer=data.tokenizer, device=_device())
    return {
        "sftlib": lambda: tuners["auto"].predict(list(chosen)),
        "sftlib, fp32": lambda: tuners["fp32"].predict(list(chosen)),
        "HF Trainer.predict, default (batch 8), tokenised before": lambda: default.predict(unlabelled),
        "HF Trainer.predict, bf16, batch 128, by length, tokenised before": lambda: best.predict(unlabelled),
        "HF pipeline": lambda: pipe(list(chosen), truncation=True),
    }


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def lengths(asked: Asked) -> Figures:
    """Seconds of a step on rows that all have the same number of tokens, so that there is no padding to leave out."""
    header = [
        "tokens of every row",
        "sftlib, ms a step",
        HF,
        HF_BEST,
        "default, times sftlib's",
        "best, times sftlib's",
    ]
    lines, seconds, steps = [], {}, WARM + asked.size(3, 1)
    for tokens in asked.pick((16, 32, 64, 128, 256, 512), (16, 32)):
        words = " ".join(["film"] * (tokens - 2))  # beside [CLS] and [SEP]
        rows = [{"text": words, "label": label} for label in ("a", "b")] * 8 * steps
        found = interleaved(
            {
                "sftlib": lambda seed, rows=rows: c.our_step(rows, steps, seed=seed, batch_size=8),
                HF: lambda seed, rows=rows: c.hf_step(rows, steps, seed=seed, per_device_train_batch_size=8),
                HF_BEST: lambda seed, rows=rows: c.hf_step(
                    rows, steps, seed=seed, best=True, per_device_train_batch_size=8
                ),
            },
            asked.size(2, 1),
        )
        times = [f"{series.median * 1e3:.0f}" for series in found.values()]
        lines.append([tokens, *times, *(spread(found[name].ratio(found["sftlib"])) for name in (HF, HF_BEST))])
        seconds.update({f"{name}, {tokens} tokens": series.seconds for name, series in found.items()})
    return Figures(header, lines, ["Batches of 8 rows."], seconds=seconds)
