"""Weights in parts: what several processes make of a run together is what one makes of it.

One start of the processes serves all: see `tests.train.shards`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule

from sftlib import FineTuner
from sftlib.errors import OptionError
from sftlib.models.structure import repeated_layers
from sftlib.testing import FakeProcesses, tiny_model, tiny_tokenizer
from sftlib.train.disk.packed import pack, read_parts, tensor_chunks, unpack
from sftlib.train.held import Part, rows_of
from sftlib.train.sharded import _SUMS
from tests.contracts.cases import case_of, tuner_for
from tests.train import shards
from tests.train.launching import start
from tests.train.shards import BOUND, require_same_weights

Many = tuple[Path, list[dict[str, Any]]]
One = tuple[Path, Callable[[str], dict[str, Any]]]
COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=COUNTS)
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Many:
    """Where the processes wrote, and what each of them saw."""
    if not hasattr(FSDPModule, _SUMS):
        pytest.skip(f"torch {torch.__version__} cannot add gradients up over parts")
    place, count = tmp_path_factory.mktemp("shards"), request.param
    shards.cut(place / "from one")  # a run of one process, ended after its third step
    ended = start(count, str(place), *(shards.QUICK if count == 2 else shards.RUNS))
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "UserWarning" not in ended.stderr
    return place, [json.loads((place / f"{count}-{rank}.json").read_text()) for rank in range(count)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> One:
    """The same in one process, each run when it is asked for."""
    place = tmp_path_factory.mktemp("alone")
    return place, functools.cache(lambda run: shards.trained(run, place))


def test_runs_are_those_of_one_process(alone: One, many: Many) -> None:
    place, parts = many
    for run in parts[0]["trained"]:
        one = alone[1](run)
        for part in (process["trained"][run] for process in parts):
            for name in ("losses", "norms", "valid", "loss after"):
                assert part[name] == pytest.approx(one[name], rel=BOUND, abs=BOUND), (run, name)
            assert part["weights"] == parts[0]["trained"][run]["weights"], "all have the same, to the bit"
            assert part["plain"] == [*one["plain"][:1], True], "parameters are plain tensors again"
            assert part["left"] == [], "and nothing of what cut them is left"
            assert part["layout"] == one["layout"], "so that a saved folder predicts the same to the bit"
        found, expected = (
            dict(np.load(file)) for file in (place / f"{run} {len(parts)}.npz", alone[0] / f"{run} 1.npz")
        )
        require_same_weights(found, expected, run)


def test_each_process_has_its_part_of_everything(many: Many) -> None:
    whole, parts = shards.memory(), [process["memory"] for process in many[1]]
    assert whole["moments"] == 2 * whole["weights"] == 2 * whole["gradients"]
    for name in ("weights", "gradients", "moments", "of the model"):
        assert sum(part[name] for part in parts) == whole[name], "nothing twice"
        assert max(part[name] for part in parts) <= whole[name] / len(parts) * 1.01
    assert all(part["every"] == whole["every"] for part in parts), "and all of it in the end"


def test_a_pass_may_hold_what_parts_leave_free(many: Many, tmp_path: Path) -> None:
    """Counted by hand: a part of everything, and whole what is gathered, weights and gradients, of two layers."""
    model, parts = shards.deep(), len(many[1])
    layers = [sum(p.numel() for p in layer.parameters()) for layer in model.bert.encoder.layer]
    every = sum(p.numel() for p in model.parameters())
    gathered = 8 * (every - sum(layers) + 2 * layers[0])
    of_a_token = 4 * 34 * 8 * 32  # bytes of a number, vectors a layer, layers, width
    expected = (0.6 * shards.LIMIT - 16 * every / parts - gathered) / of_a_token
    costs = {process["cost of a pass"] for process in many[1]}
    assert max(costs) == min(costs) == pytest.approx(expected, abs=1)
    assert min(costs) > 1.3 * shards.cost_of_a_pass(tmp_path / "one") > 0


def test_a_run_goes_on_to_the_bit(many: Many) -> None:
    _, parts = many
    for rank, process in enumerate(parts):
        failed = rank == len(parts) - 1
        assert process["error"].startswith("ValueError: no" if failed else "ProcessError: ")
        assert process["resumed"]["weights"] == process["whole"]["weights"] == parts[0]["whole"]["weights"]
        assert process["resumed"]["losses"] == process["whole"]["losses"]
        assert len(process["kept"]) <= 3
        assert process["kept"][-1] == "step-00000006"


def test_a_checkpoint_has_a_file_of_each_process(many: Many) -> None:
    _, parts = many
    ranks = [f"{rank + 1}-of-{len(parts)}" for rank in range(len(parts))]
    names = [f"{part}-{rank}.safetensors" for part in ("callbacks", "model", "optimizer") for rank in ranks]
    assert set(names) <= set(parts[0]["files"])
    assert "model.safetensors" not in parts[0]["files"], "a text classifier has no weights that stay whole"
    assert {"state.json", "manifest.json"} <= set(parts[0]["files"])


def test_a_run_goes_on_in_another_number_of_processes(many: Many) -> None:
    place, parts = many
    whole = shards.whole_run()
    back = shards.resumed(place / "to one")
    for found in [back, *(process["from one"] for process in parts)]:
        assert np.abs(np.array(found["flat"]) - np.array(whole["flat"])).max() <= BOUND
        assert found["losses"] == pytest.approx(whole["losses"], rel=BOUND)


def test_what_cannot_be_done_is_said(many: Many) -> None:
    expected = [
        "OptionError: shard=True: text-embedding compares rows of all processes",
        "OptionError: shard=True: these metrics need texts that the model writes",
        "OptionError: save: with shard=True the weights are in parts until fit has ended",
        "NonFiniteError: ",
        "CheckpointError: ",
    ]
    for rank, process in enumerate(many[1]):
        for found, begin in zip(process["refused"], expected, strict=True):
            said = "ProcessError: " if rank and begin.startswith("OptionError: save") else begin
            assert found.startswith(said), found
        assert "shard: true -> false" in process["refused"][-1]


def test_a_callback_may_ask_the_model(many: Many) -> None:
    for process in many[1]:
        during, after = process["predicted"][:3], process["predicted"][3:]
        assert during == after, "it did not learn, so it answers the same"
        assert process["predicted"] == many[1][0]["predicted"]


def test_all_end_after_the_step_after_which_one_wanted_to(many: Many) -> None:
    assert all(process["early"] == [2, 3] for process in many[1])


def test_the_saved_folder_is_an_ordinary_one(alone: One, many: Many) -> None:
    place, parts = many
    tuner = FineTuner.load(place / f"by {len(parts)}")
    alone[1]("texts")
    found = {name: value.numpy() for name, value in tuner.model.state_dict().items()}
    require_same_weights(found, dict(np.load(alone[0] / "texts 1.npz")), "saved")
    assert tuner.predict("A wonderful film.") is not None


# Without processes.


def test_alone_nothing_is_cut() -> None:
    data = case_of(shards.TEXTS).data()
    runs = [
        tuner_for(shards.TEXTS, **{**shards.OPTIONS, "shard": on}).fit(data, progress=False) for on in (True, False)
    ]
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_processes_that_nothing_connects_are_told() -> None:
    with pytest.raises(OptionError, match="not started by torchrun|needs a newer torch"):
        FakeProcesses(2).run(
            lambda: tuner_for(shards.TEXTS, **shards.OPTIONS).fit(case_of(shards.TEXTS).data(), progress=False)
        )


def test_weights_in_fewer_bits_are_not_cut() -> None:
    from sftlib import Pretrained

    with pytest.raises(OptionError, match="shard=True and quantize= do not go together"):
        FineTuner(Pretrained("some/model", quantize="4bit"), adapter="lora", tokenizer=tiny_tokenizer(), shard=True)
    with pytest.raises(OptionError, match="shard='yes': expected True or False"):
        FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), shard="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 8, 9, 17])
@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_parts_are_read_by_any_number_of_processes(rows: int, before: int, tmp_path: Path) -> None:
    whole = torch.arange(rows * 3.0).view(rows, 3)
    paths = []
    for rank in range(before):
        first, last = rows_of(rows, rank, before)
        state = {"a": [Part(whole[first:last], rows)], "b": 1}
        tree, tensors, parts = pack(state)
        assert tensors == {}
        paths.append(tmp_path / f"{rank}.safetensors")
        paths[-1].write_bytes(b"".join(bytes(chunk) for chunk in tensor_chunks(parts)))
    for now in (1, 2, 3, 7):
        found = [unpack(tree, {}, read_parts(paths, rank=rank, size=now))["a"][0] for rank in range(now)]
        pieces = found if now == 1 else [part.rows for part in found]
        assert torch.equal(torch.cat(pieces), whole)
        assert all(part.of == rows for part in found if isinstance(part, Part))


def test_files_of_different_tensors_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        parts = pack({name: Part(torch.ones(1, 2), 2)}).parts
        (tmp_path / name).write_bytes(b"".join(bytes(chunk) for chunk in tensor_chunks(parts)))
    with pytest.raises(ValueError, match="do not hold parts of the same tensors"):
        read_parts([tmp_path / "a", tmp_path / "b"], rank=0, size=1)


def test_layers_are_found_by_structure() -> None:
    assert len(repeated_layers(tiny_model())) == tiny_model().config.num_hidden_layers
    for family in ("gpt2", "llama", "t5"):
        task = "seq2seq" if family == "t5" else "causal-lm"
        layers = repeated_layers(case_of(task).model(family))
        assert len({type(layer).__name__ for layer in layers}) == 1
        assert len(layers) >= 2
    one = nn.Sequential(nn.Linear(2, 2))
    other = nn.Sequential(nn.Linear(2, 2))
    shared = nn.Sequential(one, nn.ModuleList([nn.Sequential(one[0]), other]))
    assert repeated_layers(shared) == [other], "a layer that shares a weight with the outside is left out"
    assert repeated_layers(nn.Sequential(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]))) == [], "no single weights"
