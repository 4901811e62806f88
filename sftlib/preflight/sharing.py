"""What a step takes when several processes share it: arithmetic on what one takes, and on the link between them.

Two ways to share. *Data parallel*, as this library does it: each process has a whole model, computes some of the rows,
and gradients are added up over a ring. *Sharded* (FSDP; Zhao et al., 2023, "PyTorch FSDP"), with ``shard=True``: each
process holds one part of weights, gradients and optimizer, and a layer's weights are gathered when they are needed.
Numbers for it are for paper: of the steps alone, and with exchanges that do not wait for one another.

A ring adds up or gathers in ``p - 1`` rounds, in each of which every process sends one part in ``p`` of the whole
(Patarasuk and Yuan, 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations"): gathering sends
``(p - 1) / p`` of it, adding up and handing the sums to all twice that. Latency is not counted.

Letters: ``p`` processes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn

from sftlib.errors import OptionError
from sftlib.support.checking import raise_together, whole_number
from sftlib.support.display import text_table
from sftlib.train.comm import BUCKET, ON_THE_WAY, Status

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)(bit|B)/s\s*")
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_NUMBER = 4  # bytes of a gradient, and of a weight as it is kept
_MOMENTS = 2  # of a weight, that AdamW keeps
_STATUS = 8 * len(Status._fields)


def link_rate(link: object) -> float:
    """Bytes a second of a link, one way.

    Args:
        link: such as ``"100 Gbit/s"``, ``"25 GB/s"`` or ``"25 GiB/s"``.

    Raises:
        OptionError: it is none of these.

    Example:
        >>> link_rate("100 Gbit/s"), link_rate("2 MiB/s")
        (12500000000.0, 2097152.0)
    """
    found = _RATE.fullmatch(link) if isinstance(link, str) else None
    if found is None or not float(found[1]):
        raise OptionError(f"link={link!r:.60}: expected bits or bytes a second, such as '100 Gbit/s' or '25 GB/s'")
    number, power, binary, unit = found.groups()
    step = 1024.0 if binary else 1000.0
    return float(number) * math.pow(step, _POWERS[power]) / (8 if unit == "bit" else 1)


@final
@dataclass(frozen=True)
class Work:
    """What a step takes in one process.

    Attributes:
        rows: of a step.
        seconds: of a step that one process makes alone.
        weights: how many the model has.
        trained: how many of them are trained.
        tensors: in how many tensors these lie.
        unit: weights of the largest part that is gathered at once (a layer, or all that is in none).
        passing_bytes: of memory beside weights, gradients and optimizer: what a pass keeps, and the program.
        gathered: bytes of a weight or a gradient on its way, where they are sharded: 4, or 2 in half precision.
    """

    rows: int
    seconds: float
    weights: int
    trained: int
    tensors: int = 1
    unit: int = 0
    passing_bytes: int = 0
    gathered: int = _NUMBER

    @property
    def weight_bytes(self) -> int:
        """Of the weights, as they are kept."""
        return _NUMBER * self.weights

    @property
    def gradient_bytes(self) -> int:
        """Of the gradients."""
        return _NUMBER * self.trained

    @property
    def optimizer_bytes(self) -> int:
        """Of the optimizer."""
        return _MOMENTS * _NUMBER * self.trained

    def seconds_of(self, processes: int) -> float:
        """What the slowest of several processes computes: its rows, as fast as one process alone computes them."""
        return self.seconds * math.ceil(self.rows / processes) / self.rows


@final
@dataclass(frozen=True)
class Shared:
    """A step that several processes share.

    Attributes:
        way: ``"data parallel"`` or ``"sharded"``.
        processes: how many.
        compute_seconds: of the slowest.
        sent_bytes: by each process.
        link_seconds: that takes.
        memory_bytes: of a process.
        rows: of a step.
    """

    way: str
    processes: int
    compute_seconds: float
    sent_bytes: int
    link_seconds: float
    memory_bytes: int
    rows: int

    @property
    def step_seconds(self) -> float:
        """Where nothing is sent while something is computed, as in this library."""
        return self.compute_seconds + self.link_seconds

    @property
    def least_seconds(self) -> float:
        """Where all that is sent is sent while something is computed, which none reaches."""
        return max(self.compute_seconds, self.link_seconds)


def said_bytes(work: Work) -> int:
    """What each process puts into the exchanges of a step, data parallel: gradients, which it has, and the status.

    Example:
        >>> said_bytes(Work(rows=8, seconds=1.0, weights=100, trained=10, tensors=2))
        96
    """
    return _NUMBER * (work.trained + work.tensors) + _STATUS


def data_parallel(work: Work, *, processes: int, rate: float) -> Shared:
    """Each process has the whole model; gradients are added up over a ring.

    Args:
        work: of one process.
        processes: how many share it.
        rate: bytes a second of the slowest link of the ring.

    Example:
        >>> work = Work(rows=8, seconds=2.0, weights=1000, trained=1000, tensors=0)
        >>> shared = data_parallel(work, processes=4, rate=1000.0)
        >>> shared.compute_seconds, shared.sent_bytes, shared.link_seconds, shared.step_seconds
        (0.5, 6072, 6.072, 6.572)
    """
    sent = _of_ring(2, said_bytes(work), processes)
    on_the_way = min(work.gradient_bytes, (ON_THE_WAY + 1) * BUCKET * _NUMBER) if processes > 1 else 0
    memory = work.weight_bytes + work.gradient_bytes + work.optimizer_bytes + work.passing_bytes + on_the_way
    return _shared("data parallel", work, processes, sent, rate, memory)


def sharded(work: Work, *, processes: int, rate: float) -> Shared:
    """Each process has a part of weights, gradients and optimizer, as with ``shard=True``; on paper.

    Weights are gathered for the forward pass and again for the backward pass, and gradients are added up into parts:
    three times one whole over the link, against twice that of data parallel. A unit is held whole while it is computed,
    its weights and its gradients.

    Args:
        work: of one process.
        processes: how many share it.
        rate: bytes a second of the slowest link of the ring.

    Example:
        >>> work = Work(rows=8, seconds=2.0, weights=1000, trained=1000, unit=100, passing_bytes=50)
        >>> shared = sharded(work, processes=4, rate=1000.0)
        >>> shared.sent_bytes, shared.memory_bytes
        (9000, 4850)
    """
    sent = _of_ring(1, work.gathered * (2 * work.weights + work.trained), processes)
    kept = -(-(work.weight_bytes + work.gradient_bytes + work.optimizer_bytes) // processes)
    whole = 2 * work.gathered * work.unit if processes > 1 else 0
    return _shared("sharded", work, processes, sent, rate, kept + whole + work.passing_bytes)


def _of_ring(times: int, size: int, processes: int) -> int:
    """Bytes that each process sends where so many are gathered, or added up, over a ring."""
    return -(-times * size * (processes - 1) // processes)


def _shared(way: str, work: Work, processes: int, sent: int, rate: float, memory: int) -> Shared:
    return Shared(way, processes, work.seconds_of(processes), sent, sent / rate, memory, work.rows)


def both_ways(work: Work, *, processes: int, link: str) -> tuple[Shared, Shared]:
    """The step shared in either way.

    Args:
        work: of one process.
        processes: how many share it.
        link: the slowest between two neighbours of the ring, one way, such as ``"100 Gbit/s"``.

    Raises:
        OptionError: a number or a link that cannot be.
    """
    rate = check_sharing(processes, link)
    return (
        data_parallel(work, processes=processes, rate=rate),
        sharded(work, processes=processes, rate=rate),
    )


def check_sharing(processes: object, link: object) -> float:
    """Bytes a second of the link, after a look at both.

    Raises:
        OptionError: what is wrong with either, or one of them is lacking.
    """
    problems = [whole_number("processes", processes, at_least=1)]
    rate = 0.0
    try:
        rate = link_rate(link)
    except OptionError as error:
        problems.append(str(error))
    raise_together(problems)
    return rate


def table_of(found: Sequence[tuple[str, Shared]]) -> tuple[list[str], list[list[object]]]:
    """Header and lines of a table: what is trained, and how it is shared."""
    header = [
        "trained",
        "shared",
        "processes",
        "s computing",
        "GB sent",
        "s on the link",
        "s a step",
        "at least",
        "GiB",
    ]
    lines: list[list[object]] = [
        [
            name,
            f"{shared.way}{' (on paper)' if shared.way == 'sharded' else ''}",
            shared.processes,
            f"{shared.compute_seconds:.3g}",
            f"{shared.sent_bytes / 1e9:.3g}",
            f"{shared.link_seconds:.3g}",
            f"{shared.step_seconds:.3g}",
            f"{shared.least_seconds:.3g}",
            f"{shared.memory_bytes / 2**30:.3g}",
        ]
        for name, shared in found
    ]
    return header, lines


def shown(found: Sequence[tuple[str, Shared]]) -> str:
    """The same as text."""
    return text_table(*table_of(found))


def unit_of(model: nn.Module) -> int:
    """Weights of the largest part of a model that is gathered at once: a layer of a list, or all that is in none.

    Example:
        >>> unit_of(
        ...     nn.Sequential(nn.Linear(3, 3, bias=False), nn.ModuleList([nn.Linear(2, 2, bias=False)] * 2))
        ... )
        9
    """
    layers: dict[int, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            layers.update({id(layer): layer for layer in module})
    inside = {id(p) for layer in layers.values() for p in layer.parameters()}
    rest = sum(p.numel() for p in model.parameters() if id(p) not in inside)
    return max([rest, *(sum(p.numel() for p in layer.parameters()) for layer in layers.values())])
