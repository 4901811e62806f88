"""Numbers of version 0.1 that no change of the insides may move: of training, predicting and evaluating, every task.

On a machine like the one that wrote `goldens.json` (processor, vector width, versions of torch, transformers and numpy)
every bit is compared: losses, norms of gradients, a digest of the weights, predictions, metrics. Elsewhere sums come
out otherwise in their last bits, so digests are left aside and numbers compared: losses to 1e-5; norms, the length of
all weights, metrics and predictions to 1e-4; relative, or absolute below 1. Where even the random weights that a tiny
model begins with are others, since another version draws them in another order, the two ways to cut a step are compared
with each other, and a run with one way only has to come to its end. Names of tests say which it was: ``pytest -v``
shows ``[bits-...]`` or ``[numbers-...]``.

Where a number is meant to change, ``python -m tests.golden.make`` writes them all anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sftlib.tasks import TASKS
from tests.golden.runs import KINDS, LATER, RUNS
from tests.golden.values import differences, machine, one_thread

HERE = Path(__file__).parent
GOLDENS: dict[str, Any] = json.loads((HERE / "goldens.json").read_text(encoding="utf-8"))

with one_thread():
    EXACT = machine() == GOLDENS["machine"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def test_every_task_has_goldens() -> None:
    assert {task.name for task in TASKS} - LATER == KINDS.keys()
    assert GOLDENS["runs"].keys() == RUNS.keys()


@pytest.mark.filterwarnings("ignore:.*use_cache:UserWarning")
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("exact", [EXACT], ids=["bits" if EXACT else "numbers"])
def test_a_run_is_what_it_was(exact: bool, name: str) -> None:
    expected, found = GOLDENS["runs"][name], RUNS[name].numbers()
    if not exact and differences(expected["start"], found["start"], exact=False, tolerance=1e-6):
        first, *others = found["cuts"].values()
        problems = [line for other in others for line in differences(first, other, exact=False)]
    else:
        problems = differences(expected, found, exact=exact)
    assert not problems, "\n".join(problems)


def test_the_comparison_notices() -> None:
    """The control: the last bit where bits count, the fourth digit of a loss where they do not, and what is missing."""
    true = {"losses": [(1.1).hex()], "digest": "a", "label": "good"}
    bit, digit = {**true, "losses": ["0x1.199999999999bp+0"]}, {**true, "losses": [(1.1002).hex()]}
    assert [bool(differences(true, other, exact=True)) for other in (true, bit, digit)] == [False, True, True]
    assert [bool(differences(true, other, exact=False)) for other in (true, bit, digit)] == [False, False, True]
    other = {**true, "digest": "b", "label": "bad"}
    assert len(differences(true, other, exact=True)) == 2
    assert not differences(true, other, exact=False)
    assert differences(true, {"losses": true["losses"]}, exact=False)
