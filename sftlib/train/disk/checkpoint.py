"""Checkpoints on disk: each is there whole or not at all, and is believed only when its manifest verifies.

::

    output_dir/
      step-00000100/
        state.json              position, history, callbacks, generators, what the run was asked for; tensors by name
        model.safetensors       weights as they are at this step
        optimizer.safetensors   its moments
        callbacks.safetensors   such as the weights of the best evaluation
        generators.safetensors
        manifest.json           size and SHA-256 of every file, and of itself
      step-00000200/            the same; where several processes hold the weights together (shard=True), beside it:
        model-1-of-2.safetensors      each process's rows of what lies in parts; likewise of optimizer and callbacks
        ...
      .step-00000300.tmp-4711   being written; what a killed run left is removed by the next one

A folder gets its name by a rename, after every byte is on disk; only then older ones go.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from torch import Tensor

from sftlib.errors import CheckpointError
from sftlib.support import storage
from sftlib.support.checkpoints import STEP
from sftlib.train.comm import Comm
from sftlib.train.disk.packed import NO_PARTS, Packed, pack, read_parts, read_tensors, tensor_chunks, unpack

_KIND = "sftlib checkpoint"
_STATE = "state.json"
_LEFTOVER = re.compile(r"\.step-\d+\.(?:tmp|old)-(\d+)")
_PART = re.compile(r"[a-z_]+")  # names a file of the folder, so it must not name one elsewhere
_ASIDE = "damaged-"
_RANKS = re.compile(r"([1-9]\d{0,5})-of-([1-9]\d{0,5})\.safetensors")
_NOTHING: Mapping[str, Any] = MappingProxyType({})

State = dict[str, Any]


@final
@dataclass(frozen=True)
class Found:
    """What `Checkpoints.newest` came upon.

    Attributes:
        folder: the newest checkpoint that verifies, or None.
        skipped: name of each newer folder that does not verify -> why.
        manifest: its manifest; empty without one.
    """

    folder: Path | None
    skipped: Mapping[str, str]
    manifest: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Its optimizer step; 0 when there is none."""
        return 0 if self.folder is None else step_of(self.folder)


@final
class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: holds them and nothing else.
        keep_last: how many of the newest are kept, beside the best.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoints = Checkpoints(Path(folder) / "run")
        ...     checkpoints.open()
        ...     for step in (1, 2, 3):
        ...         saved = checkpoints.save({"position": {"step": step}}, step=step, best_step=1)
        ...     checkpoints.steps(), checkpoints.read(checkpoints.newest().folder)
        ([1, 2, 3], {'position': {'step': 3}})
    """

    def __init__(self, folder: Path, *, keep_last: int = 2) -> None:
        self.folder = folder
        self._keep_last = keep_last

    def open(self) -> None:
        """Make the folder, see that it can be written, and remove what killed runs left behind.

        Raises:
            CheckpointError: it cannot be made or written.
        """
        with self._telling("cannot be used for checkpoints"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                found = _LEFTOVER.fullmatch(path.name)
                if found and not _is_running(int(found[1])):
                    shutil.rmtree(path)
            probe = self.folder / f".step-00000000.tmp-{os.getpid()}"
            probe.mkdir(mode=0o700)
            probe.rmdir()

    def names(self) -> list[str]:
        """Everything in the folder, in sorted order."""
        with self._telling("cannot be read"):
            return sorted(path.name for path in self.folder.iterdir())

    def steps(self) -> list[int]:
        """The steps that have a folder, in rising order; whether it verifies is another question."""
        return sorted(int(found[1]) for name in self.names() if (found := STEP.fullmatch(name)))

    def newest(self) -> Found:
        """The newest checkpoint whose every file is what its manifest says."""
        skipped: dict[str, str] = {}
        for step in reversed(self.steps()):
            folder = self._place(step)
            try:
                manifest = storage.verify(folder, kind=_KIND)
                if manifest.get("step") != step:
                    raise storage.StorageError(f"it holds step {manifest.get('step')}")
                return Found(folder, skipped, manifest)
            except (storage.StorageError, OSError) as error:
                skipped[folder.name] = str(error)
        return Found(None, skipped, {})

    def set_aside(self, names: Mapping[str, str]) -> None:
        """Rename damaged folders out of the way; they are kept for whoever wants to know what happened.

        Args:
            names: as `newest` skipped them.
        """
        with self._telling("cannot be written"):
            for name in names:
                aside = self.folder / f"{_ASIDE}{name}"
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / name).rename(aside)

    def read(self, folder: Path, *, rank: int = 0, size: int = 1) -> State:
        """The state that a verified folder holds; of what lies in parts, those of this process among so many.

        Raises:
            CheckpointError: it cannot be read.
        """
        try:
            trees = storage.read_json(folder / _STATE)
            if strange := [name for name in trees if not _PART.fullmatch(name)]:
                raise ValueError(f"{_STATE} has a part {strange[0]!r:.60}")
            parted = {name: _part_files(folder, name) for name in trees}
            own = {_STATE, storage.MANIFEST, *(_tensor_file(folder, name).name for name in trees)}
            own |= {path.name for paths in parted.values() for path in paths}
            if more := sorted(path.name for path in folder.iterdir() if path.name not in own):
                raise ValueError(f"{more[0]!r:.60} does not belong there")
            return {
                name: unpack(
                    tree,
                    read_tensors(path) if (path := _tensor_file(folder, name)).is_file() else {},
                    read_parts(parted[name], rank=rank, size=size) if parted[name] else NO_PARTS,
                )
                for name, tree in trees.items()
            }
        except Exception as error:  # its writer may have computed sums over anything
            raise CheckpointError(f"{folder.name} verifies but cannot be read: {error!s:.500}") from error

    def save(
        self,
        parts: Mapping[str, Any],
        *,
        step: int,
        best_step: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint; when this returns it is on disk, and older ones are gone but for the last and the best.

        A step that has its checkpoint already is not written again.

        Args:
            parts: name -> state: JSON values and tensors.
            step: optimizer steps done.
            best_step: step of the best evaluation so far.
            facts: what the manifest says beside.

        Raises:
            CheckpointError: it cannot be written, or an older one not be removed; nothing partial is left.
        """
        folder = self._place(step)
        if not folder.exists():
            with (
                self._telling(f"cannot take the checkpoint of step {step}"),
                storage.written_whole(folder, private=True, replace=False) as place,
            ):
                _write(place, _pack(parts), {"step": step, **(facts or {})})
        self._rotated(step, best_step)
        return folder

    def save_together(
        self,
        parts: Mapping[str, Any],
        comm: Comm,
        *,
        step: int,
        best_step: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Path:
        """As `save`, by all processes of a run: each writes its own parts, the first the rest, and the manifest last.

        The folder is one that all of them see. It gets its name when everything in it is on disk, or never.

        Args:
            parts: what this process has.
            comm: the processes.
            step: optimizer steps done.
            best_step: step of the best evaluation so far.
            facts: what the manifest says beside.

        Raises:
            CheckpointError: it cannot be written, or an older one not be removed; nothing partial is left.
            ProcessError: another process could not write.
        """
        folder = self._place(step)
        packed, (there, *_) = _pack(parts), comm.exchange([folder.exists()])
        if not there:
            is_first = comm.rank == 0
            beside = storage.written_whole(folder, private=True, replace=False) if is_first else nullcontext(None)
            with self._telling(f"cannot take the checkpoint of step {step}"), beside as place:
                names = comm.exchange([None if place is None else place.name])
                place = self.folder / str(next(names))
                list(names)
                with storage.Files(place, private=True) as files:
                    for name, part in packed.items():
                        if part.parts:
                            files.write(_part_file(place, name, comm.rank, comm.size).name, tensor_chunks(part.parts))
                written = list(comm.exchange([files.facts]))
                if is_first:
                    known = {name: fact for said in written for name, fact in said.items()}
                    _write(place, packed, {"step": step, **(facts or {})}, known)
        comm.on_first(lambda: self._rotated(step, best_step))
        return folder

    def _rotated(self, step: int, best_step: int | None) -> None:
        with self._telling(f"holds the checkpoint of step {step}, but an older one cannot be removed"):
            self._rotate(best_step)

    def _rotate(self, best_step: int | None) -> None:
        steps = self.steps()
        for step in steps[: -self._keep_last]:
            if step != best_step:
                going = self._place(step).rename(self.folder / f".{self._place(step).name}.old-{os.getpid()}")
                shutil.rmtree(going)

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08}"

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Turn what the system refuses into an error that says where and why."""
        try:
            yield
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(f"output_dir={os.fspath(self.folder)!r} {what}: {error}") from error


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name says."""
    found = STEP.fullmatch(folder.name)
    assert found is not None
    return int(found[1])


def _pack(parts: Mapping[str, Any]) -> dict[str, Packed]:
    packed: dict[str, Packed] = {}
    for name, part in parts.items():
        try:
            packed[name] = pack(part)
        except TypeError as error:
            raise CheckpointError(f"a checkpoint cannot hold this: {name}: {error}") from error
    return packed


def _write(
    place: Path, packed: Mapping[str, Packed], facts: Mapping[str, Any], known: Mapping[str, Any] = _NOTHING
) -> None:
    """Write what lies whole, and the manifest.

    Args:
        place: the folder.
        packed: every part of the state.
        facts: of the manifest.
        known: what is to be said there of files that others wrote.
    """
    with storage.Files(place, private=True) as files:
        for name in sorted(packed, key=lambda name: -_size(packed[name].tensors)):  # the largest first, for the disk
            if packed[name].tensors:
                files.write(_tensor_file(place, name).name, tensor_chunks(packed[name].tensors))
        files.write(_STATE, [json.dumps({name: part.tree for name, part in packed.items()}).encode()])
    hashed = {**known, **files.facts}
    storage.write_manifest(place, kind=_KIND, hashed=hashed, private=True, **facts)


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _tensor_file(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def _part_file(folder: Path, part: str, rank: int, size: int) -> Path:
    return folder / f"{part}-{rank + 1}-of-{size}.safetensors"


def _part_files(folder: Path, part: str) -> list[Path]:
    """The files of all processes that wrote a part, in their order.

    Raises:
        ValueError: one is missing, or there are those of two runs.
    """
    found = [path.name.removeprefix(f"{part}-") for path in folder.glob(f"{part}-*-of-*.safetensors")]
    sizes = {int(ranks[2]) for name in found if (ranks := _RANKS.fullmatch(name))}
    if not sizes:
        return []
    paths = [_part_file(folder, part, rank, max(sizes)) for rank in range(max(sizes))]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise ValueError(f"{missing[0]!r:.60} is missing")
    return paths


def _is_running(process: int) -> bool:
    """Whether another process of this number lives."""
    if process == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


__all__ = ["Checkpoints", "Found", "step_of"]
