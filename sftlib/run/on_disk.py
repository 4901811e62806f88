"""A run beside its steps: what it leaves on disk, and what it takes up from there.

One in memory leaves nothing; both are asked the same questions.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any, Self, final

import torch
from tqdm.auto import tqdm

from sftlib.arguments import Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.errors import CheckpointError
from sftlib.models.precision import Fp16, Precision
from sftlib.run.fitted import Fitted
from sftlib.run.identity import described_options, differences, digest_of, digest_of_weights, libraries
from sftlib.train.callbacks import Callback
from sftlib.train.comm import Comm
from sftlib.train.disk.checkpoint import Checkpoints, State
from sftlib.train.disk.locking import FolderLock
from sftlib.train.disk.saving import Saver
from sftlib.train.disk.signals import Signals
from sftlib.train.feed import Feed
from sftlib.train.plan import Budget
from sftlib.train.state import Training

#: Of what a run is known by; runs of another format do not go on.
FORMAT = 2

_RESOLVED = ("precision", "device")  # "auto" is decided once, when the run begins
_LENGTH = ("max_steps", "epochs")  # of a run, the first that is given


class Run(ABC):
    """Where a run stands, and what becomes of it; a context, at the end of which its folder is free for another.

    Attributes:
        lines: what to tell before the first step.
    """

    lines: Sequence[str] = ()

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Let go of what another run could need."""

    @abstractmethod
    def settle(
        self,
        arguments: Arguments,
        model: str,
        train: TaskDataset,
        valid: TaskDataset | None,
        callbacks: Sequence[Callback],
    ) -> Arguments:
        """The options with what the run was resolved to when it began.

        Raises:
            CheckpointError: options or data are not those of the run that is to go on; all differences at once.
        """

    @abstractmethod
    def begin(
        self,
        training: Training,
        fitted: Fitted,
        feed: Feed,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        """Take up the history so far; the callbacks to add, after all others.

        Raises:
            CheckpointError: the model or its rows are not those of the run that is to go on.
        """

    @abstractmethod
    def saves(self, step: int) -> bool:
        """Whether the run is saved after a step, whatever happens in it; the ends of epochs are not counted."""

    @abstractmethod
    def threads(self) -> AbstractContextManager[None]:
        """The context in which anything is computed that counts: with as many threads as when the run began."""

    @abstractmethod
    def running(self, optimizer: torch.optim.Optimizer) -> AbstractContextManager[None]:
        """The context in which the steps are made."""


@final
class RunInMemory(Run):
    """Begins at 0 and leaves nothing."""

    def __exit__(self, *error: object) -> None:
        return

    def settle(
        self,
        arguments: Arguments,
        model: str,
        train: TaskDataset,
        valid: TaskDataset | None,
        callbacks: Sequence[Callback],
    ) -> Arguments:
        return arguments

    def begin(
        self,
        training: Training,
        fitted: Fitted,
        feed: Feed,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        return ()

    def saves(self, step: int) -> bool:
        return False

    def threads(self) -> AbstractContextManager[None]:
        return nullcontext()

    def running(self, optimizer: torch.optim.Optimizer) -> AbstractContextManager[None]:
        return nullcontext()


@final
class RunOnDisk(Run):
    """Leaves checkpoints, and goes on from the newest when asked to.

    Args:
        checkpoints: opened.
        state: of the checkpoint to go on from, or None.
        damaged: newer ones that do not verify; out of the way when the run begins.
        save_every: optimizer steps between two checkpoints; None for every end of an epoch.
        lines: what to tell before the first step.
        quiet: whether nobody reads what is told.
        comm: the processes of the run, the first of which writes.
        lock: that the first of them holds.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        state: State | None,
        damaged: Mapping[str, str],
        save_every: int | None,
        lines: Sequence[str],
        quiet: bool,
        comm: Comm,
        lock: FolderLock,
    ) -> None:
        self.lines = lines
        self._lock = lock
        self._comm = comm
        self._checkpoints = checkpoints
        self._state = state
        self._damaged = damaged
        self._save_every = save_every
        self._quiet = quiet
        self._options: dict[str, Any] = {}
        self._data: dict[str, Any] = {}
        self._saver: Saver | None = None

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    @property
    def _before(self) -> Mapping[str, Any]:
        """What the run that is to go on was: ``options``, ``data``, ``start`` and ``resolved``; empty for a new one."""
        return {} if self._state is None else self._state["run"]

    def settle(
        self,
        arguments: Arguments,
        model: str,
        train: TaskDataset,
        valid: TaskDataset | None,
        callbacks: Sequence[Callback],
    ) -> Arguments:
        self._options = described_options(arguments, model, callbacks)
        self._data = {
            name: None if data is None else {"rows": len(data), "fingerprint": data.fingerprint()}
            for name, data in (("train", train), ("valid", valid))
        }
        if self._state is None:
            return arguments
        resolved = self._before["resolved"]
        given = dict(self._options)
        if given["device"] not in ("auto", resolved["device"]):
            moved = f"begun on {resolved['device']} and goes on on {given['device']}"
            self.lines = [*self.lines, f"{moved}: sums are added up in another order from here"]
            given["device"] = self._before["options"]["device"]
        for name in (*_RESOLVED, "micro_batch_size"):
            if given[name] == "auto" or (name in _RESOLVED and given[name] == resolved[name]):
                given[name] = self._before["options"][name]
        before = dict(self._before["options"])
        later = {**before, **{name: given[name] for name in _LENGTH}}
        others = [*differences(later, given), *differences(self._before["data"], self._data)]
        if _is_longer(before, given) and not others:
            self.lines = [*self.lines, _told_longer(before, given)]
            before = later
        self._refuse([*differences(before, given), *differences(self._before["data"], self._data)])
        self._options = before
        taken = {name: resolved[name] for name in _RESOLVED if getattr(arguments, name) == "auto"}
        return replace(arguments, **taken)

    def begin(
        self,
        training: Training,
        fitted: Fitted,
        feed: Feed,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        start = {
            "weights of the model given": digest_of_weights(fitted.model),
            "rows of train, as the model reads them": feed.encoded.digest(),
        }
        if self._state is not None:
            self._refuse(differences(self._before["start"], start))
        self._comm.on_first(lambda: self._checkpoints.set_aside(self._damaged))
        if self._state is not None:
            training.step = self._state["position"]["step"]
            training.history.begin_with(self._state["history"])
        run = {
            "format": FORMAT,
            "options": self._options,
            "data": self._data,
            "start": start,
            "resolved": {
                "precision": fitted.precision.name,
                "device": str(fitted.device),
                "threads": self._threads(),
                "processes": self._comm.size,
            },
        }
        self._saver = Saver(
            self._checkpoints,
            members=[*members, _Resolved(fitted.precision, feed)],
            run=run,
            facts={"libraries": libraries(), "options": digest_of(self._options), "data": digest_of(self._data)},
            save_every=self._save_every,
            signals=Signals(),
            comm=self._comm,
            resumed=self._state,
            tell=(lambda line: None) if self._quiet else tqdm.write,
        )
        self._state = None if self._state is None else {"run": self._before}  # the saver has the rest
        return [self._saver]

    def saves(self, step: int) -> bool:
        return self._save_every is not None and step % self._save_every == 0

    @contextmanager
    def threads(self) -> Iterator[None]:
        here, wanted = torch.get_num_threads(), self._threads()
        if here == wanted:
            yield
            return
        torch.set_num_threads(wanted)  # another number of threads sums products in another order
        try:
            yield
        finally:
            torch.set_num_threads(here)

    @contextmanager
    def running(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        assert self._saver is not None
        with self.threads(), self._saver.running(optimizer):
            yield

    def _threads(self) -> int:
        return int(self._before["resolved"]["threads"]) if self._before else torch.get_num_threads()

    def _refuse(self, found: Sequence[str]) -> None:
        if found:
            listed = "\n".join(f"  {line}" for line in found)
            raise CheckpointError(
                f"output_dir={os.fspath(self._checkpoints.folder)!r} holds another run, which resume=True cannot "
                f"continue (saved -> now):\n{listed}\nGive what it was begun with, or choose another output_dir."
            )


def _is_longer(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run is asked to go on beyond its end, in the measure in which that was given."""
    (name, end), (other, later) = _length(before), _length(now)
    return name == other and later > end


def _length(options: Mapping[str, Any]) -> tuple[str, int]:
    return next((name, options[name]) for name in _LENGTH if options[name] is not None)


def _told_longer(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    (name, end), (_, later) = _length(before), _length(now)
    unit = "epochs" if name == "epochs" else "steps"
    return (
        f"goes on beyond its end, from {end:,} to {later:,} {unit}: from here the learning rate is that of a schedule "
        f"over {later:,}, so what comes out is not what {later:,} {unit} from the start would have given"
    )


@final
class _Resolved(Callback):
    """What was found out on the way: the loss scale of fp16, what fits into memory."""

    def __init__(self, precision: Precision, feed: Feed) -> None:
        self._precision = precision
        self._feed = feed

    def state_dict(self) -> dict[str, Any]:
        precision = self._precision
        scale = [precision.loss_scale, precision.good_steps] if isinstance(precision, Fp16) else None
        return {"loss_scale": scale, "budget": asdict(self._feed.budget)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        given = state["budget"]
        budget = {"rows": int(given["rows"]), "cost": int(given["cost"]), "flat": given["flat"]}
        if not all(1 <= budget[name] <= 2**62 for name in ("rows", "cost")) or not isinstance(budget["flat"], bool):
            raise ValueError(f"budget {budget!r:.80}")
        self._feed.budget = Budget(**budget)
        if isinstance(self._precision, Fp16):
            scale, good_steps = state["loss_scale"]
            self._precision.loss_scale, self._precision.good_steps = float(scale), int(good_steps)
