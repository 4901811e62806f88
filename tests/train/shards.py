"""What each process does that ``torchrun`` starts to hold weights in parts.

``python -m tests.train.shards FOLDER RUN ...``

The same functions run in one process, which has all parts. Each process writes down what it saw, under its number.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import PreTrainedModel

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.models import memory as memory_of
from sftlib.run.identity import digest_of_weights
from sftlib.testing import SENTENCES, tiny_config, tiny_model, tiny_tokenizer
from sftlib.testing.models import built
from sftlib.train.comm import open_comm
from sftlib.train.disk.checkpoint import Checkpoints
from tests.contracts.cases import case_of, tuner_for

#: 13 + 13 + 6 of 32 rows, so that shares and passes differ; 1 and 2 rows of it are fewer than processes.
OPTIONS: dict[str, Any] = {"batch_size": 13, "micro_batch_size": 3, "epochs": 2, "seed": 3, "shard": True}

BOUND = 1e-6
RATE = 1e-3  # of these runs
#: Biases that softmax takes away again: their gradient is 0 but for rounding, of which AdamW makes whole steps.
MOOT = ("key.bias", "k_proj.bias", "qa_outputs.bias")
#: The same of what is added to all positions before a softmax over them.
MOOT_OF = {"spans": "encoder.layer.1.output.LayerNorm.bias"}

TEXTS = "text-classification"
#: Name of a run -> its task, and what is particular about it.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "texts": (TEXTS, {}),
    "end to end": (TEXTS, {"padding_free": True}),
    "layers computed twice": (TEXTS, {"checkpointing": True}),
    "fewer rows than processes": (TEXTS, {"batch_size": 1, "max_steps": 3}),
    "an adapter": (TEXTS, {"adapter": "lora"}),
    "a frozen layer": (TEXTS, {"freeze": 1}),
    "a head alone": (TEXTS, {"freeze": "backbone"}),
    "rates by part": (TEXTS, {"head_learning_rate": 1e-2, "layer_decay": 0.5}),
    "the best weights": (TEXTS, {"keep_best": "loss", "warmup": 0}),
    "clipped": (TEXTS, {"max_grad_norm": 0.1}),
    "tied weights": ("causal-lm", {"metrics": ["loss"]}),
    "a decoder, end to end": ("causal-lm", {"family": "llama", "metrics": ["loss"], "padding_free": True}),
    "two stacks": ("seq2seq", {"metrics": ["loss"]}),
    "spans": ("question-answering", {}),
    "tokens": ("token-classification", {}),
    "gaps": ("masked-lm", {}),
    "pictures": ("image-classification", {}),
    "waves": ("audio-classification", {}),
}
#: Those that a usual test makes; the others take the time of a slow one.
QUICK = (
    "texts",
    "end to end",
    "fewer rows than processes",
    "an adapter",
    "a frozen layer",
    "tied weights",
    "two stacks",
)


def tuner_of(run: str) -> FineTuner:
    name, options = RUNS[run]
    return tuner_for(name, **{**OPTIONS, **options})


def trained(run: str, folder: Path) -> dict[str, Any]:
    """A run with dropout, shuffling and evaluation, and what its model is good for afterwards."""
    case, tuner = case_of(RUNS[run][0]), tuner_of(run)
    data = case.data()
    tuner.fit(data, data, progress=False)
    comm = open_comm()
    kept = {name: value.numpy() for name, value in tuner.model.state_dict().items()}
    if comm.rank == 0:
        np.savez(folder / f"{run} {comm.size}.npz", **kept)
    return {
        "losses": [record["loss"] for record in tuner.history.steps],
        "norms": [record["grad_norm"] for record in tuner.history.steps],
        "valid": [record["valid_loss"] for record in tuner.history if "valid_loss" in record],
        "weights": digest_of_weights(tuner.model),
        "plain": [type(tuner.model).__name__, all(type(p) is nn.Parameter for p in tuner.model.parameters())],
        "left": sorted(_left_over(tuner.model)),
        "layout": type(getattr(tuner._fitted.layout, "inner", tuner._fitted.layout)).__name__,
        "loss after": dict(tuner.evaluate(data))["loss"],
    }


def _left_over(model: nn.Module) -> set[str]:
    """What is not a model's own: names and hooks of whoever cut it."""
    names = {name for module in model.modules() for name in vars(module)}
    dicts = [found for module in model.modules() for name, found in vars(module).items() if "_hooks" in name]
    hooks = {repr(getattr(hook, "hook", hook)) for found in dicts if isinstance(found, dict) for hook in found.values()}
    marks = {name for name in names if "_is_fsdp" in name or "composable_api" in name}
    return marks | {hook for hook in hooks if "FSDP" in hook}


# What is the same.


def require_same_weights(found: Mapping[str, Any], expected: Mapping[str, Any], what: str) -> None:
    """As one vector within the bound, and each within a fiftieth of a step; but for what moves no score."""
    assert found.keys() == expected.keys()
    names = [name for name in expected if not name.endswith((*MOOT, MOOT_OF.get(what, "(none)")))]
    flat, other = (np.concatenate([values[name].ravel() for name in names]) for values in (found, expected))
    assert np.linalg.norm(flat - other) <= BOUND * np.linalg.norm(other), what
    assert np.abs(flat - other).max() <= RATE / 50, what


# Memory.


@contextmanager
def weighed(found: list[dict[str, int]]) -> Iterator[None]:
    """Bytes of what an optimizer of this process has, after each of its steps."""

    def weigh(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
        gradients = [p.grad for p in parameters if p.grad is not None]
        lists = {"weights": parameters, "gradients": gradients, "moments": moments}
        found.append({name: sum(map(_bytes, values)) for name, values in lists.items()})

    handle = register_optimizer_step_post_hook(weigh)
    try:
        yield
    finally:
        handle.remove()


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()


class Whole(Callback):
    """How many bytes of weights a model has between two steps."""

    def __init__(self) -> None:
        self.bytes = 0

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        local = [p.to_local() if hasattr(p, "to_local") else p for p in training.model.parameters()]
        self.bytes = sum(_bytes(p) for p in local)


def memory() -> dict[str, int]:
    seen: list[dict[str, int]] = []
    whole, data = Whole(), case_of(TEXTS).data()
    with weighed(seen):
        tuner = tuner_for(TEXTS, **{**OPTIONS, "max_steps": 1}).fit(data, progress=False, callbacks=[whole])
    every = sum(_bytes(p) for p in tuner.model.parameters())
    return {**seen[-1], "of the model": whole.bytes, "every": every}


# What fits into a pass.

LIMIT = 3_500_000  # bytes of memory, so that what is held beside a pass decides


def deep() -> PreTrainedModel:
    """A model most of whose weights lie in layers, as those do that outgrow a process."""
    config = tiny_config("bert", num_labels=3)
    config.num_hidden_layers = 8
    return built(config, "AutoModelForSequenceClassification", 0)


def cost_of_a_pass(folder: Path) -> int:
    """The tokens that are found to fit into one."""
    options = {**OPTIONS, "micro_batch_size": "auto", "max_steps": 1, "model": deep()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_of, "memory_limit", lambda _: LIMIT)
        patch.setattr(memory_of, "_FEWEST", 1)
        tuner_for(TEXTS, **options).fit(case_of(TEXTS).data(), output_dir=folder, progress=False)
    resolved = Checkpoints(folder).read(folder / "step-00000001")["callbacks"][-1]
    cost: int = resolved["budget"]["cost"]
    return cost


# What becomes of a run.


class StopOne(Callback):
    """The last process wants to end, or fails."""

    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.step = step
        self.error = error

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        if training.step == self.step and open_comm().rank == open_comm().size - 1:
            if self.error is not None:
                raise self.error
            training.stop_reason = "one of us has had enough"


def whole_run(**options: Any) -> dict[str, Any]:
    """A run that is left alone."""
    data = case_of(TEXTS).data()
    tuner = tuner_for(TEXTS, **{**OPTIONS, "keep_best": "loss", **options}).fit(
        data, data, progress=False, callbacks=[StopOne(99)]
    )
    return _outcome(tuner)


def cut(folder: Path, step: int = 4) -> str:
    """A run that ends by an error of the last process, in a step before it is saved."""
    data, failing = case_of(TEXTS).data(), StopOne(step, ValueError("no"))
    try:
        _keeping().fit(data, data, output_dir=folder, save_every=1, progress=False, callbacks=[failing])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def resumed(folder: Path) -> dict[str, Any]:
    """The run of such a folder, to its end."""
    data, tuner = case_of(TEXTS).data(), _keeping()
    again: dict[str, Any] = {"output_dir": folder, "save_every": 1, "resume": True}
    tuner.fit(data, data, progress=False, callbacks=[StopOne(99)], **again)
    return _outcome(tuner)


def _keeping() -> FineTuner:
    return tuner_for(TEXTS, **OPTIONS, keep_best="loss")


def _outcome(tuner: FineTuner) -> dict[str, Any]:
    return {
        "weights": digest_of_weights(tuner.model),
        "flat": torch.cat([p.detach().flatten() for p in tuner.model.parameters()]).tolist(),
        "losses": [record["loss"] for record in tuner.history.steps],
    }


class Saves(Callback):
    """Saves a model while its weights are in parts."""

    def __init__(self, tuner: FineTuner, folder: Path) -> None:
        self.tuner = tuner
        self.folder = folder

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.tuner.save(self.folder)


class Predicts(Callback):
    """Asks the model while its weights are in parts."""

    def __init__(self, tuner: FineTuner) -> None:
        self.tuner = tuner
        self.seen: list[str] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.seen += [str(one) for one in self.tuner.predict(list(SENTENCES[:3]))]


def predicted() -> list[str]:
    """What a callback sees of a model that does not learn, and what is seen after."""
    data, tuner = case_of(TEXTS).data(), tuner_for(TEXTS, **{**OPTIONS, "max_steps": 1, "learning_rate": 0.0})
    asking = Predicts(tuner)
    tuner.fit(data, progress=False, callbacks=[asking])
    return [*asking.seen, *(str(one) for one in tuner.predict(list(SENTENCES[:3])))]


def early() -> list[int]:
    """Steps after which all have ended when one wanted to; in the middle of an epoch and at its end."""
    found = []
    for step in (2, 3):
        tuner, data = tuner_for(TEXTS, **OPTIONS), case_of(TEXTS).data()
        found.append(len(tuner.fit(data, progress=False, callbacks=[StopOne(step)]).history.steps))
    return found


def refused(folder: Path) -> list[str]:
    """What cannot be done with weights in parts, and errors that one process meets by itself."""
    texts, errors = case_of(TEXTS).data(), []
    tuner, pairs = tuner_for(TEXTS, **OPTIONS), {"text": list(SENTENCES), "text_pair": list(SENTENCES)}
    poisoned = tiny_model()
    with torch.no_grad():
        next(poisoned.parameters())[:] = float("nan")
    calls = [
        lambda: tuner_for("text-embedding", **OPTIONS).fit(TaskDataset(pairs, task="text-embedding"), progress=False),
        lambda: tuner_for("causal-lm", **OPTIONS, metrics=["exact_match"]).fit(
            case_of("causal-lm").data(), case_of("causal-lm").data(), progress=False
        ),
        lambda: tuner.fit(texts, progress=False, callbacks=[Saves(tuner, folder / "never")]),
        lambda: FineTuner(poisoned, tokenizer=tiny_tokenizer(), **OPTIONS).fit(texts, progress=False),
        lambda: tuner_for(TEXTS, **{**OPTIONS, "shard": False}).fit(texts, output_dir=folder / "parts", resume=True),
    ]
    for call in calls:
        try:
            call()  # type: ignore[no-untyped-call]
            errors.append("")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def main(folder: Path, runs: Sequence[str]) -> None:
    torch.set_num_threads(1)
    comm = open_comm()
    found: dict[str, Any] = {"trained": {run: trained(run, folder) for run in runs}, "memory": memory()}
    found["cost of a pass"] = cost_of_a_pass(folder / "budget")
    found["whole"] = whole_run()
    found["error"] = cut(folder / "parts")
    found["files"] = sorted(path.name for path in (folder / "parts" / "step-00000003").iterdir())
    comm.on_first(lambda: shutil.copytree(folder / "parts", folder / "to one"))
    found["resumed"] = resumed(folder / "parts")
    found["kept"] = sorted(path.name for path in (folder / "parts").iterdir())
    found["from one"] = resumed(folder / "from one")
    found["refused"] = refused(folder)
    found["predicted"] = predicted()
    found["early"] = early()
    data = case_of(TEXTS).data()
    tuner_of("texts").fit(data, data, progress=False).save(folder / f"by {comm.size}")
    comm.any(False)  # nobody leaves while others are at work
    (folder / f"{comm.size}-{comm.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
