"""Several tasks at once: a task around tasks, with one body and a head for each.

Rows of all tasks make up a step, rows of one task a pass. Losses are sums over counts of different things (rows, words,
labels): each is scaled so that a row of one task weighs as much as a row of another, or as its weight says.

Letters: ``N`` rows of all tasks, ``B`` rows of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sftlib.data.several import MULTI_TASK, Member, MultiTask
from sftlib.encoders.base import Encoder
from sftlib.encoders.batch import Batch
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.joined import joined, own_columns
from sftlib.errors import DataError
from sftlib.metrics import Metrics
from sftlib.metrics.several import FlatMetrics
from sftlib.models.shared_body import HEADS, model_of, shared
from sftlib.models.sources import Head, ModelSource
from sftlib.support.checking import nearest
from sftlib.tasks.base import LossSum, Task
from sftlib.tasks.mixing import MixedPlan, shares
from sftlib.tasks.plan import Plan

_TASK = "task number"  # among the inputs of a batch; the model never sees it
_ROW = "task"  # among the inputs of a row


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Several(Task):
    """Tasks that share a body.

    Args:
        parts: name -> a task that knows its data. The body is that of the first one's model.
        mixing: share of a task in an epoch ∝ rows ** mixing.
        scales: of each task, in order: what its loss and its count are multiplied by.
    """

    name = MULTI_TASK
    usual_metrics = ()

    parts: Mapping[str, Task]
    mixing: float = 1.0
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(auto_class=self.first.auto_class, inputs=self.first.inputs)

    @staticmethod
    def of(parts: Mapping[str, Task], data: MultiTask) -> Several:
        """The tasks of these training rows; first those with one answer a row, whose bodies lack nothing.

        A count of task ``t`` is multiplied by ``w_t / u_t``: its weight over the units that a row of it has on average;
        all relative to the first, which is as it would be alone.

        Args:
            parts: name -> a task that knows its data.
            data: the training rows.
        """
        order = sorted(parts, key=lambda name: parts[name].auto_class in _OF_TOKENS)
        counted = [data.weights[name] * len(data[name]) / parts[name].units(data[name]) for name in order]
        return Several(
            parts={name: parts[name] for name in order},
            mixing=data.mixing,
            scales=tuple(value / counted[0] for value in counted),
        )

    @property
    def first(self) -> Task:
        """Whose model has the body."""
        return next(iter(self.parts.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tasks, in the order of their numbers."""
        return tuple(self.parts)

    def beside(self, source: ModelSource, inputs: Any) -> Several:
        return replace(self, parts={name: task.beside(source, inputs) for name, task in self.parts.items()})

    # The model.

    @property
    def head(self) -> Head:
        return self.first.head

    @property
    def markers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(marker for task in self.parts.values() for marker in task.markers))

    def build(self, source: ModelSource, *, dropout: float | None, seed: int, pooled: bool = False) -> nn.Module:
        """The model of the first task, with the heads of the others on its body.

        A body that averages for heads that read one place would blur what heads of tokens read: it does so only where
        all heads are alike.
        """
        alike = len({task.auto_class for task in self.parts.values()}) == 1
        reverse = list(self.parts.items())[::-1]  # the first is built last: what its source tells is told
        built = {
            name: task.build(source, dropout=dropout, seed=seed, pooled=pooled and alike) for name, task in reverse
        }
        return shared({name: built[name] for name in self.parts})

    def attach(self, model: nn.Module, encoder: Any, *, seed: int) -> Collection[str]:
        made = [list(task.attach(model_of(model, name), encoder, seed=seed)) for name, task in self.parts.items()]
        others = [name for name, _ in model.named_parameters() if name.startswith(f"{HEADS}.")]
        return [*made[0], *others]  # the other heads with whatever was attached to them

    def prepare(self, model: nn.Module, encoder: Encoder) -> None:
        for name, task in self.parts.items():
            task.prepare(model_of(model, name), encoder)

    # Rows.

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def check_rows(self, data: Any) -> None:
        problems = []
        for name, part in _parts_of(data).items():
            try:
                if name not in self.parts:
                    raise DataError(f"the model has no such task: {nearest(name, self.parts)}")
                self.parts[name].check(part)
            except DataError as error:
                problems += [f"{name}: {line}" for line in str(error).splitlines()]
        if problems:
            raise DataError("\n".join(problems))

    def encode(self, data: Any, encoder: Any, columns: Encoded | None = None) -> Encoded:
        parts = {name: task.encode(part, encoder) for name, task, part in self._with_rows(data)}
        found = joined(parts, {name: len(part) for name, _, part in self._with_rows(data)})
        assert found.apart is not None
        found.apart = np.array([self.names.index(name) for name in parts])[found.apart]  # some may have no rows here
        return found

    def _with_rows(self, data: Any) -> list[tuple[str, Task, Any]]:
        """Name, task and rows of the tasks that have rows here, in the order of their numbers."""
        found = _parts_of(data)
        return [(name, task, found[name]) for name, task in self.parts.items() if name in found]

    def place(self, batch: Batch, encoded: Encoded, encoder: Any, moved: NDArray[np.float64] | None) -> Batch:
        assert encoded.apart is not None
        number = int(encoded.apart[int(batch.rows[0])])
        name = self.names[number]
        return replace(
            batch,
            inputs={**batch.inputs, _TASK: torch.full_like(batch.rows, number)},
            targets=own_columns(batch.targets, name),
            notes=own_columns(batch.notes, name),
        )

    def plan(self, encoded: Encoded, *, batch_size: int, seed: int) -> Plan:
        assert encoded.apart is not None
        members = [np.flatnonzero(encoded.apart == number) for number in range(len(self.parts))]
        return MixedPlan(members, mixing=self.mixing, batch_size=batch_size, seed=seed)

    def unsupervised(self, encoded: Encoded) -> NDArray[np.int64]:
        return self._of_each(encoded, lambda task, own: task.unsupervised(own))

    def shortened(self, encoded: Encoded) -> NDArray[np.int64]:
        return self._of_each(encoded, lambda task, own: task.shortened(own))

    def _of_each(self, encoded: Encoded, find: Callable[[Task, Encoded], NDArray[np.int64]]) -> NDArray[np.int64]:
        assert encoded.apart is not None
        found = [np.empty(0, dtype=np.int64)]
        for number, (name, task) in enumerate(self.parts.items()):
            rows = np.flatnonzero(encoded.apart == number)
            part = encoded.take(rows)
            part.targets, part.notes = own_columns(part.targets, name), own_columns(part.notes, name)
            found.append(rows[find(task, part)] if len(rows) else rows)
        return np.sort(np.concatenate(found))

    # What the model says.

    def ask(self, model: nn.Module, call: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
        name, task = self._of(inputs)
        own = {key: value for key, value in inputs.items() if key != _TASK}
        return task.ask(model_of(model, name), call, own)

    def loss(self, outputs: Any, batch: Batch) -> LossSum:
        name, task = self._of(batch.inputs)
        total, count = task.loss(outputs, _own(batch))
        scale = self.scales[self.names.index(name)]
        return LossSum(total * scale, count * scale)

    def decode(self, outputs: Any, batch: Batch) -> Sequence[Any]:
        return self._of(batch.inputs)[1].decode(outputs, _own(batch))

    def _of(self, inputs: Mapping[str, Tensor]) -> tuple[str, Task]:
        name = self.names[int(inputs[_TASK][0])]
        return name, self.parts[name]

    def complete(self, data: Any, row: int, pieces: Sequence[Any]) -> Member:
        parts = self._with_rows(data)
        ends = list(accumulate(len(part) for _, _, part in parts))
        number = int(np.searchsorted(ends, row, side="right"))
        name, task, part = parts[number]
        return Member(name, task.complete(part, row - (ends[number - 1] if number else 0), pieces))

    def references(self, data: Any) -> Sequence[Member]:
        return [Member(name, value) for name, task, part in self._with_rows(data) for value in task.references(part)]

    @property
    def settles(self) -> bool:
        return any(task.settles for task in self.parts.values())

    def settled(self, data: Any, predictions: Sequence[Member]) -> Several:
        there = _parts_of(data)
        return replace(
            self,
            parts={
                name: task.settled(there[name], [found.value for found in predictions if found.task == name])
                if task.settles and name in there
                else task
                for name, task in self.parts.items()
            },
        )

    @property
    def unsettled(self) -> str:
        return "; ".join(f"{name}: {task.unsettled}" for name, task in self.parts.items() if task.unsettled)

    def metrics(self, names: Sequence[Any] | None = None) -> Metrics:
        """Those of each task; a name with the name of a task in front, ``"mood.accuracy"``, is of that task alone."""
        common, own = [], {name: list[Any]() for name in self.parts}
        for asked in names or ():
            task, dot, metric = asked.partition(".") if isinstance(asked, str) else ("", "", "")
            if dot and task in own:
                own[task].append(metric)
            elif asked != "loss":
                common.append(asked)
        return FlatMetrics(
            {
                name: task.metrics(list(dict.fromkeys([*(common or task.usual_metrics), *own[name]])))
                for name, task in self.parts.items()
            }
        )

    # What goes in.

    def inputs_of(self, example: object) -> dict[str, Any]:
        if not isinstance(example, Member) or example.task not in self.parts:
            raise DataError(f"this model has several tasks: say which, task={self.names[0]!r} or another")
        return {_ROW: example.task, **self.parts[example.task].inputs_of(example.value)}

    def data_of(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        of_task = {
            name: [{role: value for role, value in row.items() if role != _ROW} for row in rows if row[_ROW] == name]
            for name in self.parts
        }
        return MultiTask({name: self.parts[name].data_of(own) for name, own in of_task.items() if own})

    def samples(self, data: Any) -> Sequence[Mapping[str, Any]]:
        return [{_ROW: name, **row} for name, task, part in self._with_rows(data) for row in task.samples(part)]

    def examples(self) -> Sequence[object]:
        return [Member(name, example) for name, task in self.parts.items() for example in task.examples()]

    def said(self, train: Any, valid: Any) -> Sequence[str]:
        drawn = shares([len(train[name]) for name in self.names], self.mixing)
        parts = ", ".join(f"{name} {count / len(train):.0%}" for name, count in zip(self.names, drawn, strict=True))
        theirs = {} if valid is None else _parts_of(valid)
        own = [
            f"{name}: {line}" for name, task in self.parts.items() for line in task.said(train[name], theirs.get(name))
        ]
        return [f"rows of a step by task: {parts}", *own]


_OF_TOKENS = ("AutoModelForTokenClassification", "AutoModelForQuestionAnswering")  # their bodies have no pooler


def _parts_of(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, MultiTask):
        raise DataError(f"this model has several tasks; expected a MultiTask, found {type(data).__name__}")
    return data.parts


def _own(batch: Batch) -> Batch:
    """As the task of these rows knows a batch."""
    return replace(batch, inputs={name: value for name, value in batch.inputs.items() if name != _TASK})
