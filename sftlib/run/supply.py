"""Where the rows of a run come from: all are at hand, or they come block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, final

from sftlib.arguments import Arguments
from sftlib.data.stream import TaskStream
from sftlib.data.streams.order import Reader
from sftlib.encoders.encoded import Encoded
from sftlib.encoders.text.inputs import Text
from sftlib.errors import OptionError
from sftlib.run.assemble import plan_of
from sftlib.run.fitted import Fitted
from sftlib.run.streamed import Begun, Position, StreamPlan
from sftlib.support.checking import raise_together
from sftlib.support.display import counted
from sftlib.tasks import find_task
from sftlib.tasks.plan import Plan
from sftlib.train.callbacks import Callback


class Supply(ABC):
    """What a run asks of its training rows beyond those that are at hand when it begins.

    Attributes:
        lasting: whether these are all that it will ever learn from.
        lines: what to tell before the first step.
    """

    lasting: ClassVar[bool]
    lines: Sequence[str] = ()

    @abstractmethod
    def plan(self, arguments: Arguments, fitted: Fitted, encoded: Encoded) -> Plan:
        """Which rows make up which step.

        Args:
            arguments: the options.
            fitted: settled.
            encoded: the rows at hand of which something can be learned.
        """

    @abstractmethod
    def held(self, fitted: Fitted, told: str) -> tuple[Fitted, str]:
        """What is frozen, computed once for each row where rows come again; and what to say of that."""

    @abstractmethod
    def watchers(self) -> Sequence[Callback]:
        """Callbacks whose state belongs to the run; asked after `plan`."""

    @abstractmethod
    def found(self) -> Mapping[str, Any]:
        """What has come to light of the rows so far, for ``decided``."""


@final
class AtHand(Supply):
    """All rows, from the beginning."""

    lasting = True

    def plan(self, arguments: Arguments, fitted: Fitted, encoded: Encoded) -> Plan:
        return plan_of(arguments, fitted.task, encoded)

    def held(self, fitted: Fitted, told: str) -> tuple[Fitted, str]:
        return fitted, told

    def watchers(self) -> Sequence[Callback]:
        return ()

    def found(self) -> Mapping[str, Any]:
        return {}


@final
class Streamed(Supply):
    """The rows of a stream; those at hand are its first block.

    Args:
        stream: settled by its first block.
        begun: that block, and what reads on.
    """

    lasting = False

    def __init__(self, stream: TaskStream, begun: Begun) -> None:
        self._stream = stream
        self._begun = begun
        self._plan: StreamPlan | None = None
        rows, shards = counted(begun.rows, "row"), counted(len(stream.shards), "shard")
        self.lines = [f"a stream of {shards}, {rows} at a time; what is said of rows is said of the first of these"]

    def plan(self, arguments: Arguments, fitted: Fitted, encoded: Encoded) -> Plan:
        size, seed = arguments.batch_size, arguments.seed
        if fitted.task.plan(encoded, batch_size=size, seed=seed) is not None:
            raise OptionError(f"{fitted.task.name} chooses among all rows, and a stream has them block by block")
        steps = arguments.max_steps or 1
        between = self._stream.rows_per_epoch
        self._plan = StreamPlan(
            self._stream,
            self._begun,
            fitted,
            encoded,
            batch_size=size,
            seed=seed,
            steps_per_epoch=steps if between is None else max(1, between // size),
        )
        return self._plan

    def held(self, fitted: Fitted, told: str) -> tuple[Fitted, str]:
        if not told:
            return fitted, told
        said = "frozen layers are computed anew in every step: the rows of a stream come once"
        return replace(fitted, recall=None), said

    def watchers(self) -> Sequence[Callback]:
        assert self._plan is not None, "there is no plan yet"
        return [Position(self._plan)]

    def found(self) -> Mapping[str, Any]:
        return {} if self._plan is None else {"stream": self._plan.found()}


def supplied(train: Any, arguments: Arguments, around: Mapping[str, object] | None = None) -> tuple[Any, Supply]:
    """The rows that are at hand when a run begins, and what supplies the others.

    Args:
        train: as `FineTuner.fit` was given it.
        arguments: the options.
        around: what else `FineTuner.fit` was given that takes all rows, under its name.

    Raises:
        OptionError: options that do not go with a stream, all of them.
        DataError: rows of its first block that cannot be used.
    """
    if not isinstance(train, TaskStream):
        return train, AtHand()
    given = {**(around or {}), "few_shot=": arguments.few_shot}
    weights = getattr(arguments.task, "class_weights", None) or arguments.class_weights
    decided = {"class_weights": weights, "learning_rate": arguments.learning_rate}  # where it is a word, by the rows
    raise_together(
        [
            arguments.max_steps is None and "a stream has no known length: say how many steps, with max_steps=...",
            *(f"{name}... takes rows that are all at hand, not a stream" for name, value in given.items() if value),
            *(
                f"{name}={value!r} needs all rows before the first step, which a stream does not have"
                for name, value in decided.items()
                if isinstance(value, str)
            ),
        ]
    )
    size = max(1, train.buffer // arguments.batch_size) * arguments.batch_size
    reader = Reader(train.shards, seed=arguments.seed)
    taken = reader.block(size)
    block = train.block(taken)
    if block.data.task is not None and find_task(block.data.task).inputs is not Text:
        raise OptionError(f"a stream holds texts so far, and {block.data.task} does not learn from texts")
    return block.data, Streamed(train.settled(block.data), Begun(reader, size, block))
