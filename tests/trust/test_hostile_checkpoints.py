"""Trust 24, the checkpoints: a folder whose sums verify may still hold anything, and is refused without harm."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sftlib.support import storage
from sftlib.train.disk.checkpoint import Checkpoints
from sftlib.train.disk.locking import LOCK
from sftlib.train.disk.packed import pack, unpack
from tests.trust.conftest import Figure
from tests.trust.runs import SignalAt, fit, raising
from tests.trust.sandbox import watched
from tests.trust.test_hostile_artifacts import MEMORY, SECONDS, Payload, facts_of, header, marker_of

STEP = "step-00000003"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended after three steps."""
    place = tmp_path_factory.mktemp("run") / "run"
    with raising(KeyboardInterrupt):
        fit(place, callbacks=[SignalAt(3)])
    return place


def seal(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    files = {path.name: facts_of(path) for path in sorted(folder.iterdir())}
    manifest = {"kind": "sftlib checkpoint", "version": 1, "step": 3, "libraries": {}, "files": files}
    storage.write_json(folder / "manifest.json", {**manifest, "sha256": storage._digest(manifest)})


def state(*path: str | int, value: Any) -> Change:
    """Set one entry of the state."""

    def change(folder: Path) -> None:
        whole = json.loads((folder / "state.json").read_text())
        part = whole
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        (folder / "state.json").write_text(json.dumps(whole))

    return change


def without(name: str) -> Change:
    def change(folder: Path) -> None:
        whole = json.loads((folder / "state.json").read_text())
        del whole[name]
        (folder / "state.json").write_text(json.dumps(whole))

    return change


def pickled(name: str) -> Change:
    return lambda folder: (folder / name).write_bytes(pickle.dumps(Payload(marker_of(folder))))


def elsewhere(name: str) -> Change:
    """Weights outside of the folder, under a name that leads there."""

    def change(folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
        state(name.format(outside=folder.parent / "outside"), value={"$tensor": "x"})(folder)

    return change


def first_weight(**values: Any) -> Change:
    def change(folder: Path) -> None:
        whole = json.loads((folder / "state.json").read_text())
        next(iter(whole["model"].values())).update(values)
        (folder / "state.json").write_text(json.dumps(whole))

    return change


DEEP = 100_000
CASES: dict[str, Change] = {
    **{
        f"a pickle as {name}": pickled(name)
        for name in ("state.json", "model.safetensors", "optimizer.safetensors", "generators.safetensors")
    },
    "a pickle added": pickled("optimizer.pt"),
    "weights above the folder": elsewhere("../outside"),
    "weights at an absolute place": elsewhere("{outside}"),
    "nested 100,000 deep": lambda folder: (folder / "state.json").write_text("[" * DEEP + "]" * DEEP),
    "nested 900 deep": state("history", value=json.loads('{"$tuple":[' * 450 + "]}" * 450)),
    "a list": lambda folder: (folder / "state.json").write_text("[]"),
    "a key twice": lambda folder: (folder / "state.json").write_text('{"model": {}, "model": {}}'),
    **{f"without {name}": without(name) for name in ("position", "run", "history", "model", "optimizer", "callbacks")},
    "without generators": without("generators"),
    "another step": state("position", "step", value=4),
    "a step in words": state("position", "step", value="3"),
    "a reason that is a list": state("position", "stop_reason", value=["x"]),
    "a run without options": state("run", "options", value={}),
    "a run of texts": state("run", value={"options": "x", "data": "x", "start": "x", "resolved": "x"}),
    "10^9 threads": state("run", "resolved", "threads", value=10**9),
    "minus one thread": state("run", "resolved", "threads", value=-1),
    "a precision that is code": state("run", "resolved", "precision", value="__import__('os')"),
    "a device that is none": state("run", "resolved", "device", value="evil"),
    "other data": state("run", "data", "train", value={"rows": 5}),
    "a history of texts": state("history", value=["x"]),
    "weights that are numbers": state("model", value={"a": 1}),
    "no weights": state("model", value={}),
    "a weight that is not there": first_weight(**{"$tensor": "nowhere"}),
    "a weight named by a list": first_weight(**{"$tensor": ["x"]}),
    "strides of 10^12": first_weight(stride=[10**12, 1]),
    "strides that leave gaps": first_weight(stride=[10**5, 1]),
    "strides that overlap": first_weight(stride=[0, 0]),
    "strides below 0": first_weight(stride=[-32, 1]),
    "strides in words": first_weight(stride="32,1"),
    "keys that cannot be": state("callbacks", value={"$pairs": [[[1], 2]]}),
    "pairs of three": state("callbacks", value={"$pairs": [[1, 2, 3]]}),
    "callbacks of another run": state("callbacks", value=[{}]),
    "callbacks of other types": state("callbacks", value=[1, 2, 3]),
    "generators of other types": state("generators", value={"python": "x", "numpy": 1, "torch": None}),
    "moments without weights": state("optimizer", value={"state": {}, "param_groups": []}),
    "moments of another type": state("optimizer", value={"state": 1, "param_groups": 2}),
    "moments of another shape": state("optimizer", "state", value={"$pairs": [[0, {"exp_avg": {"$array": "x"}}]]}),
    "a shape of 2^80": header(
        lambda found: next(e for k, e in found.items() if k[0] != "_").update(shape=[2**40, 2**40])
    ),
    "state.json is a pipe": lambda folder: [(folder / "state.json").unlink(), os.mkfifo(folder / "state.json")],
}
#: These never verify; the run begins anew, and says why.
SKIPPED = ("state.json is a pipe",)
_seen: list[str] = []


def belongs(event: str, run: Path) -> bool:
    """Whether a run does this to every folder: see that it is there and can be written, and lock it."""
    place, lock = re.escape(str(run)), re.escape(str(run / LOCK))
    probe = rf"{place}/\.step-00000000\.tmp-\d+"
    own = (f"os.mkdir {place} 448.*", f"os.mkdir {probe} 448.*", f"os.rmdir {probe} .*")
    return any(
        re.fullmatch(one, event) for one in (*own, f"writes {lock}", f"os.truncate {lock} 0", f"os.remove {lock} .*")
    )


@pytest.mark.parametrize("name", CASES)
def test_24_hostile_checkpoints_are_refused(name: str, run: Path, tmp_path: Path, figure: Figure) -> None:
    whole = Path(shutil.copytree(run, tmp_path / "run"))
    folder = whole / STEP
    CASES[name](folder)
    if name not in SKIPPED:
        seal(folder)
    seen = watched(
        lambda: Checkpoints(whole).newest().folder and fit(whole, callbacks=[SignalAt(0)], resume=True),
        inside=whole,
        report=tmp_path / "report",
    )
    assert not (whole / "executed").exists(), "executed"
    assert seen.outcome == ("done" if name in SKIPPED else "CheckpointError"), seen
    assert [event for event in seen.events if not belongs(event, whole)] == []
    assert seen.seconds < SECONDS, seen
    assert seen.memory < MEMORY, seen
    _seen.append(name)
    figure("hostile checkpoints refused; nothing executed, nothing outside read or written, no socket", len(_seen))


def test_24_what_belongs_to_a_run_is_narrow(tmp_path: Path) -> None:
    """The control: other files, however near, do not belong."""

    def harm() -> None:
        descriptor = os.open(tmp_path / STEP, os.O_RDWR | os.O_CREAT)
        os.ftruncate(descriptor, 0)
        (tmp_path / "new").mkdir()
        (tmp_path / STEP).unlink()

    seen = watched(harm, inside=tmp_path, report=tmp_path.parent / f"{tmp_path.name}-report")
    assert seen.outcome == "done", seen
    assert len([event for event in seen.events if not belongs(event, tmp_path)]) == 4, seen.events


def test_24_the_same_checkpoint_sealed_anew_resumes(run: Path, tmp_path: Path) -> None:
    """The control: it is not the seal that is refused."""
    whole = Path(shutil.copytree(run, tmp_path / "run"))
    seal(whole / STEP)
    fit(whole, callbacks=[SignalAt(0)], resume=True)


def test_24_strides_come_back_unless_they_leave_gaps() -> None:
    """The other side of refusing strides: what is written can be read."""
    whole = torch.arange(24.0).reshape(2, 3, 4)
    for value in (whole, whole.permute(2, 0, 1), whole[:, :2], whole[:, :, ::2], whole[:1].expand(5, 3, 4)):
        again = unpack(*pack({"x": value}))["x"]
        assert torch.equal(again, value)
    assert unpack(*pack({"x": whole.mT}))["x"].stride() == whole.mT.stride()
