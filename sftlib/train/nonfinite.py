"""What happens when a loss or a gradient is not finite. The loop has kept it from the weights already."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from numpy.typing import NDArray

from sftlib.errors import NonFiniteError

Rows = NDArray[np.int64]


@final
class RaiseNonFinite:
    """Ends the run with the step and the rows; the weights are those of the step before.

    Args:
        suspects: of a step (from 0) and its rows, the rows of the data whose own loss is not finite, and all of them.
        named: what a row of the data is called, by a step and its number.
    """

    def __init__(self, suspects: Callable[[int, Rows], tuple[Rows, Rows]], named: Callable[[int, int], str]) -> None:
        self._suspects = suspects
        self._named = named

    def __call__(self, *, step: int, rows: Rows, loss: float, grad_norm: float) -> None:
        found, everyone = self._suspects(step - 1, rows)
        named = found if len(found) else everyone
        shown = ", ".join(self._named(step - 1, row) for row in named[:10].tolist())
        shown += ", ..." if len(named) > 10 else ""
        blame = (
            "the loss of these rows is not finite by itself" if len(found) else "each row by itself has a finite loss"
        )
        raise NonFiniteError(
            f"step {step}: loss {loss}, gradient norm {grad_norm}; training rows {shown} ({blame}). The weights are "
            f"those after step {step - 1}. Try a smaller learning_rate, precision='fp32', or on_nonfinite='skip'.",
            step=step,
            rows=named.tolist(),
        )


@final
class SkipNonFinite:
    """Leaves the step out; the record in the history bears its loss, and `skipped` counts it."""

    def __init__(self) -> None:
        self.skipped = 0

    def __call__(self, *, step: int, rows: Rows, loss: float, grad_norm: float) -> None:
        self.skipped += 1
