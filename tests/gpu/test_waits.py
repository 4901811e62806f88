"""The host waits for the device once a step: told by a device that is elsewhere, and on a card by CUDA itself."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable

import pytest
import torch

from sftlib import Callback
from sftlib.models.layouts.layout import Flat, Layout, Padded
from tests.contracts.cases import case_of, tuner_for
from tests.gpu.conftest import ON_A_CARD
from tests.gpu.waits import ELSEWHERE, Made, Waits, waits_of_a_step

ONE = ["train/loop.py: on_host"]


def test_waits_are_noticed() -> None:
    there = torch.ones(4, device=ELSEWHERE)
    with Waits() as waits, Made(waits):
        float(there.sum())
        bool((there > 0).all())
        there.cpu()
        there.tolist()
        there[there > 0]
        (there > 0).nonzero()
        torch.ones(3).to(ELSEWHERE)
        there.new_tensor([1.0])
        torch.tensor(1.0, device=ELSEWHERE)
        assert len(waits.found) == 9
        there.new_full((), 1.0)
        torch.ones(3).to(ELSEWHERE, non_blocking=True)
        float(torch.ones(2).sum())
        there + 1
        there[torch.arange(2, device=ELSEWHERE)]
        assert len(waits.found) == 9


@pytest.mark.parametrize("layout", [Padded, Flat, lambda: Flat(first_only=True)], ids=["padded", "flat", "first only"])
@pytest.mark.parametrize("rows", [8, 2], ids=["one pass", "four passes"])
def test_a_step_waits_once(layout: Callable[[], Layout], rows: int) -> None:
    assert waits_of_a_step("text-classification", layout, rows=rows) == ONE


class Synced(Callback):
    """From the end of the first step on, CUDA warns whenever the host waits for it; how often it did in each step."""

    def __init__(self, told: list[warnings.WarningMessage]) -> None:
        self._told = told
        self.ends: list[int] = []

    def on_step_end(self, training: object, record: object) -> None:
        torch.cuda.set_sync_debug_mode("warn")
        self.ends.append(sum("synchronizing" in str(warning.message) for warning in self._told))


@ON_A_CARD
@pytest.mark.parametrize("padding_free", [False, True], ids=["padded", "end to end"])
def test_a_step_waits_once_on_a_card(padding_free: bool) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        seen = Synced(told)
        options = {"padding_free": padding_free, "max_steps": 4, "batch_size": 8, "micro_batch_size": 4}
        try:
            tuner_for("text-classification", "bert", device="cuda", **options).fit(
                case_of("text-classification").data(), callbacks=[seen], progress=False
            )
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert [after - before for before, after in itertools.pairwise(seen.ends)] == [1, 1, 1]
