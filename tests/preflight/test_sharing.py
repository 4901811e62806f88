"""A step that several processes share: the arithmetic by hand, and the bytes that processes really say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from sftlib import Callback, FineTuner, TaskDataset
from sftlib.errors import OptionError
from sftlib.preflight.sharing import (
    Work,
    both_ways,
    check_sharing,
    data_parallel,
    link_rate,
    said_bytes,
    sharded,
    unit_of,
)
from sftlib.testing import SENTENCES, FakeProcesses, tiny_model, tiny_tokenizer

ROWS = TaskDataset([{"text": text, "label": i % 2} for i, text in enumerate(SENTENCES)])


def work_of(model: torch.nn.Module, **more: Any) -> Work:
    trained = [p.numel() for p in model.parameters() if p.requires_grad]
    weights = sum(p.numel() for p in model.parameters())
    return Work(rows=6, seconds=1.0, weights=weights, trained=sum(trained), tensors=len(trained), **more)


class Said(Callback):
    """What each process has said by the end of each step."""

    def __init__(self, processes: FakeProcesses) -> None:
        self.processes = processes
        self.bytes: list[int] = []

    def on_step_end(self, training: Any, record: Mapping[str, Any]) -> None:
        self.bytes.append(self.processes.bytes)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("freeze", [None, 1])
def test_what_processes_say_is_what_is_planned(processes: int, freeze: int | None) -> None:
    """Every byte of a step, counted by the fake of processes; the ring sends 2 (p - 1) / p of it."""
    fake, heard = FakeProcesses(processes), []

    def run() -> torch.nn.Module:
        said = Said(fake)
        heard.append(said)
        tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer(), batch_size=6, epochs=5, max_steps=3, freeze=freeze)
        return tuner.fit(ROWS[:18], callbacks=[said], progress=False).model

    model = fake.run(run)[0]
    a_step = heard[0].bytes[1] - heard[0].bytes[0]
    work = work_of(model)
    assert said_bytes(work) == a_step
    assert data_parallel(work, processes=processes, rate=1.0).sent_bytes == -(
        -2 * a_step * (processes - 1) // processes
    )


def test_seven_billion_weights_on_eight_cards_by_hand() -> None:
    """Worked out by hand: 28 GB of weights, 28 of gradients, 56 of moments; 256 rows in 109.9 s on one card."""
    work = Work(rows=256, seconds=109.9, weights=7_000_000_000, trained=7_000_000_000, passing_bytes=4 * 10**9)
    plain, apart = both_ways(work, processes=8, link="400 Gbit/s")  # 50 GB/s
    assert plain.compute_seconds == pytest.approx(109.9 / 8)
    assert plain.sent_bytes == pytest.approx(2 * 7 / 8 * 28e9)  # 49 GB
    assert plain.link_seconds == pytest.approx(49e9 / 50e9, rel=1e-6)
    assert plain.step_seconds == pytest.approx(13.7375 + 0.98, rel=1e-6)
    assert plain.least_seconds == pytest.approx(13.7375)
    assert plain.memory_bytes == pytest.approx(28e9 + 28e9 + 56e9 + 4e9 + 3 * 2**23 * 4)
    assert apart.sent_bytes == pytest.approx(3 * 7 / 8 * 28e9)  # 73.5 GB
    assert apart.memory_bytes == pytest.approx(112e9 / 8 + 4e9)
    half = Work(rows=256, seconds=109.9, weights=7 * 10**9, trained=7 * 10**9, gathered=2, unit=10**6)
    assert sharded(half, processes=8, rate=5e10).sent_bytes == pytest.approx(3 * 7 / 8 * 14e9)
    assert sharded(half, processes=8, rate=5e10).memory_bytes == pytest.approx(112e9 / 8 + 4e6)


def test_one_process_sends_nothing() -> None:
    work = work_of(tiny_model(), passing_bytes=77)
    for shared in both_ways(work, processes=1, link="1 Mbit/s"):
        assert (shared.sent_bytes, shared.step_seconds, shared.least_seconds) == (0, 1.0, 1.0)
        assert shared.memory_bytes == 16 * work.weights + 77


def test_rows_that_do_not_go_round() -> None:
    work = Work(rows=10, seconds=5.0, weights=1, trained=1)
    found = [data_parallel(work, processes=p, rate=1e9).compute_seconds for p in (1, 3, 4, 10, 64)]
    assert found == pytest.approx([5.0, 2.0, 1.5, 0.5, 0.5]), "the slowest has 10, 4, 3, 1 and 1 rows"


def test_units() -> None:
    model = tiny_model("bert", 2)
    layer = sum(p.numel() for p in model.bert.encoder.layer[0].parameters())
    rest = sum(p.numel() for p in model.parameters()) - 2 * layer
    assert unit_of(model) == max(layer, rest)


@pytest.mark.parametrize(
    ("link", "rate"),
    [("100 Gbit/s", 12.5e9), ("25GB/s", 25e9), (" 1.5 GiB/s ", 1.5 * 2**30), ("8 bit/s", 1.0), ("2 Tbit/s", 2.5e11)],
)
def test_links(link: str, rate: float) -> None:
    assert link_rate(link) == rate


@pytest.mark.parametrize("link", ["100", "100 Gb/s", "fast", "", "0 GB/s", "-1 GB/s", 100, None])
def test_what_is_no_link(link: object) -> None:
    with pytest.raises(OptionError, match="Gbit/s"):
        link_rate(link)


def test_all_problems_at_once() -> None:
    with pytest.raises(OptionError, match=r"(?s)processes=0.*link=None"):
        check_sharing(0, None)
    tuner = FineTuner(tiny_model(), tokenizer=tiny_tokenizer())
    with pytest.raises(OptionError, match="link=None"):
        tuner.plan(ROWS, processes=4)
    with pytest.raises(OptionError, match="processes=None"):
        tuner.plan(ROWS, link="10 Gbit/s")


def test_a_plan_says_it() -> None:
    tuner = FineTuner(tiny_model("bert"), tokenizer=tiny_tokenizer(), batch_size=6, max_steps=5)
    plan = tuner.plan(ROWS, processes=4, link="10 Gbit/s")
    assert [(name.split(":")[0], shared.way) for name, shared in plan.shared] == [
        ("everything", "data parallel"),
        ("everything", "sharded"),
        ("head only", "data parallel"),
        ("head only", "sharded"),
    ]
    way, shared = plan.ways[0], plan.shared[0][1]
    assert way.work.trained == way.parameters == way.work.weights
    assert shared == data_parallel(way.work, processes=4, rate=1.25e9)
    assert shared.compute_seconds == pytest.approx(way.step_seconds * 2 / 6), "6 rows in 4 processes"
    assert "on paper" in str(plan)
    assert plan._repr_html_().count("<table>") >= 3
    assert plan.to_dict()["shared"][0]["processes"] == 4
