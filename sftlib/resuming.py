"""What a run leaves on disk, and how it goes on from there: the wiring of checkpoints.

`open_run` answers with a run in memory, which writes nothing, or with a run on disk. Both are asked the same questions.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import nn
from tqdm.auto import tqdm

from sftlib._version import __version__
from sftlib.arguments import PLACES, Arguments
from sftlib.data.dataset import TaskDataset
from sftlib.data.encoded import Encoded
from sftlib.errors import CheckpointError
from sftlib.fitted import Fitted
from sftlib.models.adapters import described as described_adapter
from sftlib.models.precision import Fp16
from sftlib.options import raise_together
from sftlib.train.callbacks import Callback, EarlyStopping
from sftlib.train.checkpoint import Checkpoints, Parts
from sftlib.train.comm import Comm
from sftlib.train.history import History
from sftlib.train.inference import Budget
from sftlib.train.locking import LOCK, FolderLock
from sftlib.train.micro_batches import MicroBatches
from sftlib.train.redaction import redacted
from sftlib.train.saving import Saver, check_state
from sftlib.train.signals import Signals
from sftlib.train.state import Training

_RESOLVED = ("precision", "device")  # "auto" is decided once, when the run begins
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


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
        encoded: Encoded,
        micro_batches: MicroBatches,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        """Take up the history so far; the callbacks to add, after all others.

        Raises:
            CheckpointError: the model or its tokens are not those of the run that is to go on.
        """

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
        encoded: Encoded,
        micro_batches: MicroBatches,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        return ()

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
        state: Parts | None,
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
        for name in (*_RESOLVED, "micro_batch_size"):
            if given[name] == "auto" or (name in _RESOLVED and given[name] == resolved[name]):
                given[name] = self._before["options"][name]
        self._refuse([*differences(self._before["options"], given), *differences(self._before["data"], self._data)])
        self._options = dict(self._before["options"])
        taken = {name: resolved[name] for name in _RESOLVED if getattr(arguments, name) == "auto"}
        return replace(arguments, **taken)

    def begin(
        self,
        training: Training,
        fitted: Fitted,
        encoded: Encoded,
        micro_batches: MicroBatches,
        members: Sequence[Callback],
    ) -> Sequence[Callback]:
        start = {
            "weights of the model given": digest_of_weights(fitted.model),
            "tokens of train": encoded.digest(),
        }
        if self._state is not None:
            self._refuse(differences(self._before["start"], start))
        self._comm.on_first(lambda: self._checkpoints.set_aside(self._damaged))
        if self._state is not None:
            training.step = self._state["position"]["step"]
            training.history = fitted.history = History(self._state["history"])
        run = {
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
            members=[*members, _Resolved(fitted, micro_batches)],
            run=run,
            facts={"libraries": libraries(), "options": _digest(self._options), "data": _digest(self._data)},
            save_every=self._save_every,
            signals=Signals(),
            comm=self._comm,
            resumed=self._state,
            tell=(lambda line: None) if self._quiet else tqdm.write,
        )
        self._state = None if self._state is None else {"run": self._before}  # the saver has the rest
        return [self._saver]

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


def open_run(
    output_dir: str | os.PathLike[str] | None, *, resume: bool, save_every: int | None, quiet: bool, comm: Comm
) -> Run:
    """The run that `FineTuner.fit` was asked for.

    Args:
        output_dir: where checkpoints go; None to write nothing.
        resume: whether to go on from the newest complete checkpoint.
        save_every: optimizer steps between two checkpoints; None for every end of an epoch.
        quiet: whether nobody reads what is told.
        comm: the processes of the run.

    Raises:
        OptionError: options that need an ``output_dir`` without one, or values they cannot have.
        CheckpointError: a folder that cannot be written, that a living run uses, or that is not empty although
            ``resume`` is False.
    """
    _check(output_dir, resume, save_every)
    if output_dir is None:
        return RunInMemory()
    checkpoints, lock = Checkpoints(Path(output_dir)), FolderLock(Path(output_dir))
    comm.on_first(checkpoints.open)
    comm.on_first(lock.take)
    try:
        return _open_on_disk(checkpoints, lock, resume=resume, save_every=save_every, quiet=quiet, comm=comm)
    except BaseException:
        lock.release()
        raise


def _open_on_disk(
    checkpoints: Checkpoints, lock: FolderLock, *, resume: bool, save_every: int | None, quiet: bool, comm: Comm
) -> RunOnDisk:
    """The run in a folder that is this run's own."""
    if not resume:
        _require_empty(checkpoints)
    found = checkpoints.newest()
    state = None if found.folder is None else checkpoints.read(found.folder)
    if state is not None:
        check_state(state, found.step)
    lines = [f"skipped {name}: {why}" for name, why in found.skipped.items()]
    if quiet and lines:
        logging.getLogger("sftlib").warning("%s", "; ".join(lines))
    if resume:
        lines.append("nothing to resume: starts at step 0" if state is None else f"resumes after step {found.step}")
    return RunOnDisk(
        checkpoints,
        state=state,
        damaged=found.skipped,
        save_every=save_every,
        lines=[*lines, *_lines_on_versions(found.manifest), *_lines_on_processes(state, comm), *_lines_on_signals()],
        quiet=quiet,
        comm=comm,
        lock=lock,
    )


def _check(output_dir: object, resume: object, save_every: object) -> None:
    problems = []
    if not isinstance(output_dir, str | os.PathLike | None):
        problems.append(f"output_dir={output_dir!r}: expected the path of a folder, or None")
    if not isinstance(resume, bool):
        problems.append(f"resume={resume!r}: expected True or False")
    elif resume and output_dir is None:
        problems.append("resume=True: say where the checkpoints are, with output_dir=...")
    if save_every is not None and (not isinstance(save_every, int) or save_every is True or save_every < 1):
        problems.append(f"save_every={save_every!r}: expected a whole number of at least 1")
    elif save_every is not None and output_dir is None:
        problems.append(f"save_every={save_every}: say where to save, with output_dir=...")
    raise_together(problems)


def described_options(arguments: Arguments, model: str, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Every option as JSON values that can be compared, without secrets; objects by their name.

    Args:
        arguments: as given.
        model: what the model is called; where it lies does not matter, its weights are compared.
        callbacks: of the user.
    """
    options = {name: _described(value) for name, value in arguments.as_dict().items() if name not in PLACES}
    options["adapter"] = described_adapter(arguments.adapter)
    if isinstance(arguments.tokenizer, str | os.PathLike):
        options["tokenizer"] = Path(arguments.tokenizer).name
    kinds = [_named(callback) for callback in callbacks]  # by kind alone: what they hold is state, which is restored
    described: dict[str, Any] = redacted({**options, "model": model, "callbacks": kinds})
    return described


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each entry that is not what it was.

    Example:
        >>> differences({"epochs": 3, "warmup": 1}, {"epochs": 4, "warmup": 1})
        ['epochs: 3 -> 4']
    """
    names = list(dict.fromkeys([*before, *now]))
    lines = []
    for name in names:
        old, new = before.get(name), now.get(name)
        if json.dumps(old) == json.dumps(new):  # 1 is not 1.0
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys() and "rows" not in old:
            lines += [f"{name}.{line}" for line in differences(old, new)]
        else:
            lines.append(f"{name}: {_shown(old)} -> {_shown(new)}")
    return lines


def digest_of_weights(model: nn.Module) -> str:
    """Hex SHA-256 over every weight and its name."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def libraries() -> dict[str, str]:
    """Versions that could change a result."""
    return {"python": platform.python_version(), "sftlib": __version__, **{name: version(name) for name in _LIBRARIES}}


@final
class _Resolved(Callback):
    """What was found out on the way: metrics for the card, the loss scale of fp16, what fits into memory."""

    def __init__(self, fitted: Fitted, micro_batches: MicroBatches) -> None:
        self._fitted = fitted
        self._micro_batches = micro_batches

    def state_dict(self) -> dict[str, Any]:
        precision = self._fitted.precision
        scale = [precision.loss_scale, precision.good_steps] if isinstance(precision, Fp16) else None
        budget = asdict(self._micro_batches.budget)
        return {"metrics": dict(self._fitted.metrics), "loss_scale": scale, "budget": budget}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._fitted.metrics = dict(state["metrics"])
        given = state["budget"]
        budget = {"rows": int(given["rows"]), "tokens": int(given["tokens"]), "flat": given["flat"]}
        if not all(1 <= budget[name] <= 2**62 for name in ("rows", "tokens")) or not isinstance(budget["flat"], bool):
            raise ValueError(f"budget {budget!r:.80}")
        self._micro_batches.budget = Budget(**budget)
        precision = self._fitted.precision
        if isinstance(precision, Fp16):
            scale, good_steps = state["loss_scale"]
            precision.loss_scale, precision.good_steps = float(scale), int(good_steps)


def _require_empty(checkpoints: Checkpoints) -> None:
    names = [name for name in checkpoints.names() if name != LOCK]
    if names:
        steps = checkpoints.steps()
        holds = f"checkpoints up to step {steps[-1]}" if steps else f"{', '.join(map(repr, names[:5]))}"
        raise CheckpointError(
            f"output_dir={os.fspath(checkpoints.folder)!r} is not empty (it holds {holds}): pass resume=True to "
            "continue the run in it, or choose another folder"
        )


def _lines_on_signals() -> list[str]:
    if Signals.can_be_caught():
        return []
    return [
        "not in the main thread, so SIGTERM and SIGINT are not caught: the steps since the last checkpoint are lost"
    ]


def _lines_on_processes(state: Parts | None, comm: Comm) -> list[str]:
    before = comm.size if state is None else int(state["run"]["resolved"].get("processes", 1))
    if before == comm.size:
        return []
    return [f"begun in {before} processes and goes on in {comm.size}: sums are added up in another order from here"]


def _lines_on_versions(manifest: Mapping[str, Any]) -> list[str]:
    saved = manifest.get("libraries")
    changed = differences(saved, libraries()) if isinstance(saved, dict) else []
    return [f"other versions than when it was saved, so not to the bit: {'; '.join(changed)}"] if changed else []


def _described(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, EarlyStopping | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):  # such as a `Generation`; without what it leaves open
        given = {item.name: _described(getattr(value, item.name)) for item in fields(value) if item.compare}
        return {type(value).__qualname__: given}
    return _named(value)


def _named(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return str(named.__qualname__)  # without its module: a script is `__main__` today and imported tomorrow


def _shown(value: Any) -> str:
    if isinstance(value, dict) and isinstance(value.get("rows"), int):
        return f"{value['rows']:,} rows, fingerprint {value.get('fingerprint')!s:.12}"
    text = json.dumps(value)
    is_digest = isinstance(value, str) and len(value) == 64
    return f"SHA-256 {value[:12]}" if is_digest else text


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
