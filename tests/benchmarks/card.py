"""Training on a card beside the peers: tokens a second, peak memory, share of the card's matrix rate, waits a step.

Weights are drawn at random and words are made up (`tests.gpu.models`), so nothing is fetched; speed does not hang on
either. Without a card, ``--quick`` runs the same lines on tiny models on the processor, which proves them and measures
nothing.
"""

from __future__ import annotations

import gc
import itertools
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from sftlib import Callback, CausalLM, FineTuner, TaskDataset
from tests.benchmarks.figures import Asked, Figures, spread
from tests.benchmarks.measure import WARM, Series, mean_step, seconds_of
from tests.gpu.models import sized, texts

CARD = torch.cuda.is_available()
HALF = {"bf16": True, "optim": "adamw_torch_fused"}


@dataclass(frozen=True)
class Size:
    """A model of a size that people tune, and rows for it.

    Attributes:
        name: for the table.
        family: of `tests.gpu.models.sized`.
        layers: of the stack.
        width: of hidden states.
        batch: rows of a step.
        longest: tokens of a row at most.
        decoder: whether it learns to write all of its tokens; otherwise it tells two labels apart.
    """

    name: str
    family: str
    layers: int
    width: int
    batch: int
    longest: int
    decoder: bool = False

    def made(self) -> tuple[Any, Any]:
        """Model and tokenizer."""
        kind = "AutoModelForCausalLM" if self.decoder else "AutoModelForSequenceClassification"
        return sized(self.family, layers=self.layers, width=self.width, auto_class=kind)


SIZES = (
    Size("BERT-base", "bert", 12, 768, 32, 256),
    Size("ModernBERT-base", "modernbert", 22, 768, 32, 512),
    Size("decoder, 135 M", "llama", 12, 896, 16, 512, decoder=True),
    Size("decoder, 360 M", "llama", 24, 1024, 16, 512, decoder=True),
    Size("decoder, 1.5 B", "llama", 28, 2048, 8, 512, decoder=True),
)
TINY = (
    Size("tiny encoder", "bert", 2, 128, 4, 32),
    Size("tiny decoder", "llama", 2, 128, 4, 32, decoder=True),
)


@dataclass(frozen=True)
class Run:
    """What a contender took: seconds of a step, and the most bytes that the card held; 0 without one."""

    step: float
    peak: int


class Clock(Callback):
    """Notes when each step ended, the card's work included."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.stamps.append(_now())


class HfClock(transformers.TrainerCallback):
    """The same for the Trainer."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.stamps.append(_now())


def _now() -> float:
    if CARD:
        torch.cuda.synchronize()
    return time.perf_counter()


def _rows(size: Size, steps: int) -> list[str]:
    return texts(size.batch * steps, size.longest)


def tuner_of(size: Size, steps: int, **options: Any) -> FineTuner:
    """A tuner of this library with the settings that all share."""
    model, tokenizer = size.made()
    given = {"max_steps": steps, "batch_size": size.batch, "learning_rate": 1e-4, "max_length": size.longest}
    task = CausalLM(train_on="all") if size.decoder else None
    return FineTuner(model, tokenizer=tokenizer, task=task, **{**given, **options})


def data_of(size: Size, steps: int) -> TaskDataset:
    """Rows for this library."""
    rows = _rows(size, steps)
    if size.decoder:
        halves = [text.split(" ", 1) for text in rows]
        return TaskDataset({"prompt": [a + " " for a, _ in halves], "completion": [b for _, b in halves]})
    return TaskDataset({"text": rows, "label": [str(i % 2) for i in range(len(rows))]})


def ours(size: Size, steps: int, **options: Any) -> Run:
    """A run of this library."""
    clock = Clock()
    return _measured(
        lambda: tuner_of(size, steps, **options).fit(data_of(size, steps), callbacks=[clock], progress=False), clock
    )


class Encoded(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows tokenised beforehand, as users of the Trainer do it."""

    def __init__(self, size: Size, steps: int, tokenizer: Any) -> None:
        self.inputs = tokenizer(_rows(size, steps), truncation=True, max_length=size.longest)
        self.decoder = size.decoder

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        labels = {} if self.decoder else {"labels": index % 2}
        return {**{name: values[index] for name, values in self.inputs.items()}, **labels}


def trainer(size: Size, steps: int, **options: Any) -> Run:
    """A run of Hugging Face's Trainer."""
    model, tokenizer = size.made()
    clock = HfClock()
    fields = transformers.TrainingArguments.__dataclass_fields__
    if options.pop("grouped", False):
        options |= (
            {"train_sampling_strategy": "group_by_length"}
            if "train_sampling_strategy" in fields
            else {"group_by_length": True}
        )
    arguments = transformers.TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=size.batch,
        max_steps=steps,
        learning_rate=1e-4,
        weight_decay=0.01,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=not CARD,
        **options,
    )
    padding = (
        transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False)
        if size.decoder
        else transformers.DataCollatorWithPadding(tokenizer)
    )
    data = Encoded(size, steps, tokenizer)
    return _measured(transformers.Trainer(model, arguments, padding, data, callbacks=[clock]).train, clock)


def trl_packed(size: Size, steps: int, **options: Any) -> Run:
    """A run of TRL's trainer, rows packed."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = size.made()
    clock = HfClock()
    arguments = SFTConfig(
        tempfile.mkdtemp(),
        per_device_train_batch_size=max(1, size.batch // 4),  # packed rows hold some four of ours
        max_steps=steps,
        max_length=size.longest,
        packing=True,
        learning_rate=1e-4,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=not CARD,
        **options,
    )
    rows = Dataset.from_list([{"text": text} for text in _rows(size, steps)])
    made = SFTTrainer(model, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    return _measured(made.train, clock)


def _measured(run: Callable[[], object], clock: Clock | HfClock) -> Run:
    gc.collect()
    if CARD:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run()
    peak = torch.cuda.max_memory_allocated() if CARD else 0
    return Run(mean_step(clock.stamps, min(WARM, len(clock.stamps) - 1)), peak)


def contenders(size: Size) -> dict[str, Callable[[int], Run]]:
    """Who trains a model of this size, the library first."""
    half = HALF if CARD else {"optim": "adamw_torch_fused"}
    found: dict[str, Callable[[int], Run]] = {
        "sftlib": lambda steps: ours(size, steps),
        "sftlib, padded": lambda steps: ours(size, steps, padding_free=False),
        "HF Trainer, default": lambda steps: trainer(size, steps),
        "HF Trainer, bf16, grouped, fused AdamW": lambda steps: trainer(size, steps, grouped=True, **half),
    }
    if size.decoder and _is_there("trl"):
        found["TRL, packed, bf16"] = lambda steps: trl_packed(size, steps, **half)
    return found


def _is_there(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def gpu(asked: Asked) -> Figures:
    """A line for each model and contender; rounds in turn, ratios pair by pair."""
    steps, rounds = WARM + asked.size(18, 1), asked.size(3, 1)
    rate = matrix_rate(asked.size(8192, 256))
    lines: list[list[object]] = []
    seconds: dict[str, Sequence[float]] = {}
    ratios: dict[str, Sequence[float]] = {}
    notes = [f"Products of {asked.size(8192, 256)} squared in {'bf16' if CARD else 'fp32'}: {rate / 1e12:.3g} TFLOP/s."]
    for size in asked.pick(SIZES, TINY) if CARD else TINY:
        tokens, weights = _tokens(size, steps), _linear_weights(size)
        runs: dict[str, list[Run]] = {}
        for number in range(rounds):
            order = list(contenders(size).items())[:: 1 if number % 2 == 0 else -1]
            for name, run in order:
                runs.setdefault(name, []).append(run(steps))
                print(f"  {size.name}, {name}: {runs[name][-1]}", flush=True)
        first = Series(tuple(run.step for run in runs["sftlib"]))
        for name in contenders(size):
            series = Series(tuple(run.step for run in runs[name]))
            peak = max(run.peak for run in runs[name]) / 2**30
            share = 6 * weights * tokens / series.median / rate
            ratios[f"{size.name}: {name}"] = series.ratio(first)
            seconds[f"{size.name}: {name}"] = series.seconds
            lines.append(
                [
                    size.name,
                    name,
                    f"{series.median * 1e3:.1f}",
                    f"{tokens / series.median:.0f}",
                    f"{peak:.2f}" if CARD else "",
                    f"{share:.0%}",
                    spread(series.ratio(first)),
                ]
            )
        notes.append(f"{size.name}: {waits_and_launches(size)}")
    header = ["model", "", "ms a step", "tokens/s", "peak GiB", "share of the products", "times sftlib's time"]
    return Figures(header, lines, notes, ratios, seconds)


def matrix_rate(width: int) -> float:
    """FLOP/s of one large product, the best of ten."""
    device, dtype = ("cuda", torch.bfloat16) if CARD else ("cpu", torch.float32)
    a = torch.randn(width, width, device=device, dtype=dtype)

    def product() -> None:
        a @ a
        _now()

    product()
    return 2 * width**3 / min(seconds_of(product) for _ in range(10))


def waits_and_launches(size: Size) -> str:
    """How often the host waits, and how many kernels are launched, in a step of this library."""
    if not CARD:
        return "waits and launches are counted on a card alone; tests/gpu/test_waits.py counts waits without one."
    from torch.profiler import ProfilerActivity, profile

    seen: list[int] = []
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with warnings.catch_warnings(record=True) as told, profile(activities=kinds) as profiled:
        warnings.simplefilter("always")

        class Look(Callback):
            def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
                torch.cuda.set_sync_debug_mode("warn")
                seen.append(len(told))

        try:
            tuner_of(size, 6).fit(data_of(size, 6), callbacks=[Look()], progress=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    launches = sum(event.count for event in profiled.key_averages() if "LaunchKernel" in event.key)
    waits = [b - a for a, b in itertools.pairwise(seen)]
    return f"waits of the host in a step: {waits}; {launches / 6:.0f} launches a step, the start of the run included."


def _tokens(size: Size, steps: int) -> float:
    """Real tokens of a step, on average."""
    return sum(len(text.split()) + 2 for text in _rows(size, steps)) / steps


def _linear_weights(size: Size) -> int:
    """Weights that every token passes through in products: those of matrices, without the tables of tokens."""
    with torch.device("meta"):
        model, _ = size.made()
    inside = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)
    layer = model.get_output_embeddings()
    return inside + (
        layer.weight.numel() if size.decoder and layer is not None and model.config.tie_word_embeddings else 0
    )
