"""The steps of a run over a stream: a block of rows is at hand, and the next takes its place when it is used up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from sftlib.data.stream import PLACE, Block, TaskStream
from sftlib.data.streams.order import Cursor, Reader, order_of_rows
from sftlib.encoders.encoded import Encoded
from sftlib.errors import CheckpointError, DataError
from sftlib.run.fitted import Fitted
from sftlib.run.identity import differences
from sftlib.run.supervision import check_supervision, with_supervision
from sftlib.support.display import counted
from sftlib.tasks.plan import Plan
from sftlib.train.callbacks import Callback
from sftlib.train.state import Training

Rows = NDArray[np.int64]

_COUNTED = ("rows", "left_out", "truncated", "units_lost", "unsupervised")


class Begun(NamedTuple):
    """A stream whose first block was read.

    Attributes:
        reader: stands after it.
        rows: of a block, at most.
        block: the first.
    """

    reader: Reader
    rows: int
    block: Block


@dataclass(frozen=True)
class _Block:
    """The rows at hand.

    Attributes:
        number: of the block, from 0.
        start: where it begins.
        first: the step that begins with it.
        block: its rows.
        encoded: those of which something can be learned, as the model reads them.
        order: (N,) their numbers, in the order in which they are learned from.
        counts: of this block alone.
    """

    number: int
    start: Cursor
    first: int
    block: Block
    encoded: Encoded
    order: Rows
    counts: Mapping[str, int]


@final
class StreamPlan(Plan):
    """The rows of each step: those of a block, shuffled, batch by batch; the last batch of a block may be smaller.

    Row numbers are those of a row in its block. Steps are asked for in their order, each as often as one likes: where a
    block begins is known once the one before it was read, or from a checkpoint.

    Args:
        stream: settled.
        begun: its first block, and what reads on.
        fitted: settled; encodes blocks.
        encoded: of the first block, the rows of which something can be learned.
        batch_size: rows of one optimizer step.
        seed: the run's seed.
        steps_per_epoch: after how many steps the run looks at its validation rows.
    """

    def __init__(
        self,
        stream: TaskStream,
        begun: Begun,
        fitted: Fitted,
        encoded: Encoded,
        *,
        batch_size: int,
        seed: int,
        steps_per_epoch: int,
    ) -> None:
        self.steps_per_epoch = steps_per_epoch
        self._stream = stream
        self._reader = begun.reader
        self._size = begun.rows
        self._fitted = fitted
        self._batch_size = batch_size
        self._seed = seed
        self._before: Counter[str] = Counter()  # of the blocks before the one at hand
        whole = fitted.encode(begun.block.data)
        self._block = self._at_hand(0, Cursor(), 0, begun.block, whole, encoded)

    def rows(self, step: int) -> Rows:
        block = self._of(step)
        start = (step - block.first) * self._batch_size
        return block.order[start : start + self._batch_size]

    def columns(self, step: int, encoded: Encoded) -> Encoded:
        return self._of(step).encoded

    def named(self, step: int, row: int) -> str:
        return str(self._of(step).block.data.view(PLACE)[row])

    def _of(self, step: int) -> _Block:
        """The block of a step, read if it is the next."""
        if step < self._block.first:  # steps come in order, so a checkpoint said so
            raise CheckpointError(f"the stream stands at step {self._block.first}, beyond step {step} of the run")
        while step >= self._block.first + self._steps(self._block):
            self._before.update(self._block.counts)
            self._block = self._read(self._block.number + 1, self._block.first + self._steps(self._block))
        return self._block

    def _steps(self, block: _Block) -> int:
        return math.ceil(len(block.encoded) / self._batch_size)

    def _read(self, number: int, first: int) -> _Block:
        """The next rows of the stream."""
        start = self._reader.cursor
        taken = self._reader.block(self._size)
        block = self._stream.block(taken)
        task, data = self._fitted.task, block.data
        try:
            task.check(data)
            whole = self._fitted.encode_once(data)
            check_supervision(task, whole, data)
        except DataError as error:
            where = f"block {number} of the stream, whose row 0 is {taken[0].place}"
            raise type(error)(f"{where}: {error}") from None
        return self._at_hand(number, start, first, block, whole, with_supervision(task, whole))

    def _at_hand(
        self, number: int, start: Cursor, first: int, block: Block, whole: Encoded, encoded: Encoded
    ) -> _Block:
        counts = {
            "rows": len(block.data),
            "left_out": block.left_out,
            "truncated": len(np.unique(whole.owners[whole.truncated])),
            "units_lost": int(whole.cut.sum()),
            "unsupervised": len(np.unique(whole.owners[self._fitted.task.shortened(whole)])),
        }
        order = order_of_rows(len(encoded), seed=self._seed, block=number)
        return _Block(number, start, first, block, encoded, order, counts)

    # What is told, and what is saved.

    def found(self) -> dict[str, int]:
        """What was counted in the blocks read so far: rows, those left out, and what was lost of the others."""
        so_far = Counter(self._before)
        so_far.update(self._block.counts)
        return {"blocks": self._block.number + 1, **{name: so_far[name] for name in _COUNTED}}

    @property
    def lost(self) -> bool:
        """Whether rows, or parts of them, were not learned from."""
        found = self.found()
        return any(found[name] for name in ("left_out", "truncated", "unsupervised"))

    def sentence(self) -> str:
        """The same, for people."""
        found, limit = self.found(), self._fitted.encoder.limit
        parts = [
            f"{found['left_out']:,} left out" if found["left_out"] else "",
            f"{found['truncated']:,} cut to {limit}" if found["truncated"] else "",
            f"{found['unsupervised']:,} lost supervision with their end" if found["unsupervised"] else "",
        ]
        read = f"read of the stream: {counted(found['rows'] + found['left_out'], 'row')}"
        passes = self._reader.cursor.done
        again = f" (it began anew {counted(passes, 'time')})" if passes else ""
        return f"{read} in {counted(found['blocks'], 'block')}{again}{''.join(f', {part}' for part in parts if part)}"

    def state(self) -> dict[str, Any]:
        """Where the block at hand begins, as JSON values."""
        block = self._block
        return {
            "stream": self._stream.facts(),
            "cursor": block.start.to_dict(),
            "block": block.number,
            "first": block.first,
            "rows": block.encoded.digest(),
            "before": dict(self._before),
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Read the block that was at hand when this was the state.

        Raises:
            ValueError: it is another stream, or its rows are others now.
        """
        changed = differences(state["stream"], self._stream.facts())
        if changed:
            raise ValueError(f"the stream is another one (saved -> now): {'; '.join(changed)}")
        number, first = int(state["block"]), int(state["first"])
        if number != self._block.number:
            self._reader.close()
            self._reader = Reader(self._stream.shards, seed=self._seed, cursor=Cursor.from_dict(state["cursor"]))
            self._block = self._read(number, first)
        if self._block.encoded.digest() != state["rows"]:
            raise ValueError(f"the rows of block {number} of the stream are not what they were")
        self._before = Counter({name: int(state["before"].get(name, 0)) for name in _COUNTED})

    def close(self) -> None:
        """Let go of what is open."""
        self._reader.close()


@final
class Position(Callback):
    """Saves where a run stands in its stream, and tells at its end what was lost of it.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: StreamPlan) -> None:
        self._plan = plan

    def on_fit_end(self, training: Training) -> None:
        if self._plan.lost:
            training.tell(self._plan.sentence())
        self._plan.close()

    def state_dict(self) -> dict[str, Any]:
        return self._plan.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._plan.go_on(state)
