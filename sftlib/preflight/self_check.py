"""Proof of the invariance contract on a user's own model and data, in a few small steps.

Built on `FineTuner`'s public methods alone: every check is two short runs, or two readings of one run, that must agree.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import torch

from sftlib.arguments import without_recipes
from sftlib.data.dataset import TaskDataset
from sftlib.support.display import counted, html_table, text_table
from sftlib.train.callbacks import Callback
from sftlib.train.state import Training

if TYPE_CHECKING:
    from sftlib.finetuner import FineTuner

_ROWS, _BATCH = 24, 8
#: Largest relative difference of two losses that are the same sum in another order, by precision.
_BOUNDS = {"fp32": 1e-5, "bf16": 5e-2, "fp16": 1e-2}


@final
@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: what was varied.
        compared: what was compared.
        difference: the largest found; relative for losses and metrics, absolute for weights.
        bound: the largest allowed; 0 means bit-equal.
    """

    name: str
    compared: str
    difference: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the bound."""
        return self.difference <= self.bound


@final
class CheckReport(Sequence[Check]):
    """The outcome of `FineTuner.self_check`, as a table.

    Args:
        checks: in the order they were made.
        precision: that they were made in.
    """

    def __init__(self, checks: Sequence[Check], *, precision: str) -> None:
        self._checks = tuple(checks)
        self.precision = precision

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self._checks)

    def __len__(self) -> int:
        return len(self._checks)

    def __getitem__(self, index: Any) -> Any:
        return self._checks[index]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "holds": self.holds,
            "precision": self.precision,
            "checks": [{**vars(check), "holds": check.holds} for check in self._checks],
        }

    def _rows(self) -> list[list[object]]:
        return [
            [c.name, c.compared, f"{c.difference:.1e}", "bit-equal" if c.bound == 0 else f"{c.bound:.0e}", _verdict(c)]
            for c in self._checks
        ]

    def __str__(self) -> str:
        last = "every check holds" if self.holds else "NOT every check holds: do not trust results that depend on it"
        return f"{text_table(_HEADER, self._rows())}\n{last} ({self.precision})"

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._rows(), caption=f"self check in {self.precision}")


_HEADER = ["varied", "compared", "difference", "allowed", "holds"]


def self_check(tuner: FineTuner, data: TaskDataset, *, steps: int) -> CheckReport:
    """Make every check on a few rows of the data.

    Args:
        tuner: its options are used; it is not changed.
        data: labelled rows.
        steps: optimizer steps of each short run.
    """
    rows = _sample(data)

    def short(**options: Any) -> FineTuner:
        plain = {"schedule": "constant", "warmup": 0, "keep_best": None, "early_stopping": None}
        plain |= without_recipes(tuner.get_params(deep=False))
        return tuner.clone().set_params(**{"max_steps": steps, "batch_size": _BATCH, **plain, **options})

    def run(valid: TaskDataset | None = None, **options: Any) -> FineTuner:
        return short(**options).fit(rows, valid, progress=False)

    whole = run(micro_batch_size=_BATCH)
    flat, padded = run(padding_free=True), run(padding_free=False)
    bound = _BOUNDS[whole.precision]

    def losses(name: str, other: FineTuner, expected: FineTuner = whole) -> Check:
        return Check(name, f"losses of {counted(steps, 'step')}", _apart(_losses(expected), _losses(other)), bound)

    return CheckReport(
        [
            losses("micro-batches of 1 row", run(micro_batch_size=1)),
            losses("micro-batches of 3 rows", run(micro_batch_size=3)),
            losses(_layouts(flat, padded), flat, padded),
            _bits("the same run again", whole, run(micro_batch_size=_BATCH)),
            _bits("evaluating after each epoch", whole, run(micro_batch_size=_BATCH, valid=rows)),
            _bits("interrupted and resumed", whole, _resumed(lambda: short(micro_batch_size=_BATCH), rows)),
            _evaluation("evaluation batch of 1 row", whole, lambda: whole.evaluate(rows, batch_size=1), rows, bound),
            _order("order of the inputs", whole, rows, bound),
        ],
        precision=whole.precision,
    )


def _layouts(flat: FineTuner, padded: FineTuner) -> str:
    """What lies between two runs, one of which was asked to leave padding out."""
    first, second = (tuner.settings["layout"] for tuner in (flat, padded))
    return f"layout: {first} or {second}" if first != second else "layout: asked for another, has this one only"


@final
class _Interrupt(Callback):
    """Ends a run in a step, as a lost connection would.

    Args:
        step: to end in; 0 for never.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, training: Training, record: Mapping[str, Any]) -> None:
        if training.step == self.step:
            raise _OnPurposeError


class _OnPurposeError(Exception):
    pass


def _resumed(fresh: Callable[[], FineTuner], rows: TaskDataset) -> FineTuner:
    """A run that was interrupted after its first step and resumed by another tuner."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(_OnPurposeError):
            fresh().fit(rows, output_dir=folder, save_every=1, callbacks=[_Interrupt(2)], progress=False)
        return fresh().fit(
            rows, output_dir=folder, save_every=1, resume=True, callbacks=[_Interrupt(0)], progress=False
        )


def _sample(data: TaskDataset) -> TaskDataset:
    """A few rows spread over the data, with as many different targets as can be had."""
    target = data.column(data.targets[0]) if data.targets else list(range(len(data)))
    first: dict[str, int] = {}
    for row, value in enumerate(target):
        first.setdefault(repr(value), row)
    spread = range(0, len(data), max(1, len(data) // _ROWS))
    chosen = dict.fromkeys([*list(first.values())[: _ROWS // 2], *spread])
    return data.select(sorted(list(chosen)[:_ROWS]))


def _losses(tuner: FineTuner) -> list[float]:
    return [record["loss"] for record in tuner.history.steps]


def _apart(expected: Sequence[float], found: Sequence[float]) -> float:
    """The largest relative difference; infinite where a number is missing or not finite."""
    if len(expected) != len(found) or not all(map(math.isfinite, [*expected, *found])):
        return math.inf
    return max((abs(a - b) / max(abs(a), 1e-8) for a, b in zip(expected, found, strict=True)), default=0.0)


def _bits(name: str, expected: FineTuner, found: FineTuner) -> Check:
    pairs = zip(expected.model.state_dict().values(), found.model.state_dict().values(), strict=True)
    apart = max((float((a.double() - b.double()).abs().max()) for a, b in pairs if not torch.equal(a, b)), default=0.0)
    return Check(name, "weights", apart, 0.0)


def _evaluation(name: str, tuner: FineTuner, other: Callable[[], Any], rows: TaskDataset, bound: float) -> Check:
    expected, found = tuner.evaluate(rows), other()
    names = ["loss"] if math.isfinite(expected["loss"]) else [n for n, v in expected.items() if math.isfinite(v)]
    what = "loss" if names == ["loss"] else "metrics"
    return Check(name, what, _apart([expected[n] for n in names], [found[n] for n in names]), bound)


def _order(name: str, tuner: FineTuner, rows: TaskDataset, bound: float) -> Check:
    order = [*range(1, len(rows), 2), *range(0, len(rows), 2)]
    expected, found = tuner.predict(rows), tuner.predict(rows.select(order))
    differing = sum(not _same(expected[row], prediction, bound) for row, prediction in zip(order, found, strict=True))
    return Check(name, "predictions that differ", float(differing), 0.0)


def _same(expected: Any, found: Any, bound: float) -> bool:
    """Whether two predictions agree: numbers within the bound, everything else exactly."""
    pairs = [(getattr(expected, item.name), getattr(found, item.name)) for item in fields(expected) if item.compare]
    return all(math.isclose(a, b, rel_tol=bound) if isinstance(a, float) else a == b for a, b in pairs)


def _verdict(check: Check) -> str:
    return "yes" if check.holds else "NO"
