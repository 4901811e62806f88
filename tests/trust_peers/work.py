"""What every library is asked to do: the same model, rows, batch and steps, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, final

import torch
import transformers
from torch import Tensor, nn
from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

from sftlib import TaskDataset
from sftlib.testing import tiny_model, tiny_tokenizer
from tests.contracts.cases import case_of

RATE = 1e-3
EPOCH = 5  # steps, of 20 rows in batches of 4

Hook = Callable[[int, nn.Module], None]


class Interrupted(Exception):  # noqa: N818
    """Ends a run in a probe."""


@final
class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows as the peers take them: tokenised, with labels."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.rows[index])


@final
class Criterion(nn.Module):
    """Mean loss over what is labelled: the usual one of each kind of head."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        if scores.shape[-1] == 1:
            return nn.functional.mse_loss(scores.squeeze(-1), labels)
        return nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1))


@final
@dataclass(frozen=True)
class Job:
    """A task with its rows.

    Attributes:
        task: its name.
        columns: role -> values.
        max_length: tokens of a row.
    """

    task: str
    columns: Mapping[str, list[Any]]
    max_length: int = 64

    @property
    def family(self) -> str:
        """Of the tiny model."""
        return "gpt2" if self.task == "causal-lm" else "bert"

    def model(self, dropout: float = 0.1) -> Any:
        """The same weights at every call."""
        case = case_of(self.task)
        return tiny_model(self.family, case.outputs or 2, dropout, auto_class=case.auto_class)

    def ours(self) -> TaskDataset:
        """For this library."""
        return TaskDataset(dict(self.columns), task=self.task)

    def tokenizer(self) -> Any:
        """With a token to pad with."""
        tokenizer = tiny_tokenizer(self.family)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    def theirs(self) -> Rows:
        """Tokenised as the documentation of transformers does it for each task."""
        encode = {
            "text-classification": self._classified,
            "text-regression": self._scored,
            "token-classification": self._tagged,
            "causal-lm": self._completed,
        }[self.task]
        return Rows(encode())

    def _classified(self) -> list[dict[str, Any]]:
        names = sorted(set(self.columns["label"]))
        return [{**row, "labels": names.index(label)} for row, label in self._texts("label")]

    def _scored(self) -> list[dict[str, Any]]:
        return [{**row, "labels": float(value)} for row, value in self._texts("target")]

    def _texts(self, role: str) -> list[tuple[dict[str, Any], Any]]:
        tokenizer = self.tokenizer()
        rows = [dict(tokenizer(text, truncation=True, max_length=self.max_length)) for text in self.columns["text"]]
        return list(zip(rows, self.columns[role], strict=True))

    def _tagged(self) -> list[dict[str, Any]]:
        tokenizer, rows = self.tokenizer(), []
        names = sorted({tag for tags in self.columns["tags"] for tag in tags})
        for words, tags in zip(self.columns["tokens"], self.columns["tags"], strict=True):
            row = tokenizer(words, is_split_into_words=True, truncation=True, max_length=self.max_length)
            owners = row.word_ids()
            first = [owner is not None and owner not in owners[:place] for place, owner in enumerate(owners)]
            labels = [names.index(tags[owner]) if begins else -100 for owner, begins in zip(owners, first, strict=True)]
            rows.append({**row, "labels": labels})
        return rows

    def _completed(self) -> list[dict[str, Any]]:
        tokenizer, rows = self.tokenizer(), []
        for prompt, completion in zip(self.columns["prompt"], self.columns["completion"], strict=True):
            seen = tokenizer(prompt)["input_ids"]
            learned = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
            ids = [*seen, *learned][: self.max_length]
            labels = [*[-100] * len(seen), *learned][: self.max_length]
            rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
        return rows

    def collator(self) -> Any:
        """Pads rows, and labels of tokens with -100."""
        if self.task in ("token-classification", "causal-lm"):
            return DataCollatorForTokenClassification(self.tokenizer())
        return DataCollatorWithPadding(self.tokenizer())


def job(task: str = "text-classification", rows: int = 20, **more: Any) -> Job:
    """The first rows of a task's example."""
    return Job(task, {role: values[:rows] for role, values in case_of(task).columns.items()}, **more)


def _nothing(step: int, model: nn.Module) -> None:
    """The hook of a run that nobody watches."""


@final
@dataclass(frozen=True)
class Run:
    """How to train.

    Attributes:
        job: what.
        folder: of checkpoints.
        save_every: optimizer steps between two of them; 0 for none.
        resume: from the newest checkpoint in ``folder``.
        batch: rows of one pass.
        parts: passes of one optimizer step.
        epochs: over the rows.
        dropout: of the model.
        clip: whether to clip gradients at norm 1.
        evaluating: on the same rows, after each epoch.
        logging: the loss of every step.
        guard: an event for which the library has a switch that is off by default, and that shall be on:
            ``"signal"``, ``"memory"``, ``"nan"``.
        prepare: done to the fresh model.
        on_step: called after an optimizer step, before its checkpoint, with its number and the model.
        log: losses as the library logged them are added to it.
    """

    job: Job = field(default_factory=job)
    folder: Path | None = None
    save_every: int = 0
    resume: bool = False
    batch: int = 4
    parts: int = 1
    epochs: int = 2
    dropout: float = 0.1
    clip: bool = True
    evaluating: bool = False
    logging: bool = False
    guard: str = ""
    prepare: Callable[[nn.Module], object] = lambda model: None
    on_step: Hook = _nothing
    log: list[float] = field(default_factory=list)

    def model(self) -> Any:
        """A fresh one."""
        model = self.job.model(self.dropout)
        self.prepare(model)
        return model


class Peer(ABC):
    """A library that trains."""

    name: str
    package: str
    saves_inside_epochs = True
    guards: ClassVar[Mapping[str, str]] = {}  # event -> the switch to name

    @abstractmethod
    def fit(self, run: Run) -> dict[str, Tensor]:
        """The weights at the end."""

    @abstractmethod
    def loss(self, job: Job, batch: int) -> float:
        """The loss that the library's own evaluation gives for the untrained model."""

    @abstractmethod
    def predict(self, job: Job) -> Tensor:
        """(N, classes) scores of the untrained model, rows grouped by length where the library can do that."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def quiet() -> None:
    """Only errors of the libraries are shown."""
    import logging
    import warnings

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
