"""Every error that sftlib raises on purpose.

::

    SftlibError (Exception)
    ├── DataError (ValueError)               rows, columns or roles that cannot be used
    │   └── LabelError                       labels that cannot be used
    ├── OptionError (TypeError)              an option that does not exist, or a value it cannot have
    │   └── RoleError (and DataError)        a keyword that is neither an option nor a role of the data
    ├── NotFittedError (scikit-learn's own)  used before ``fit`` or ``load``
    ├── CheckpointError (OSError)            a checkpoint that cannot be written or read
    ├── ArtifactError (ValueError)           a saved model that cannot be written, trusted or opened
    ├── NonFiniteError (ArithmeticError)     NaN or infinity in a loss or a gradient; has ``.step`` and ``.rows``
    ├── ProcessError (RuntimeError)          another process of the same run failed or is gone
    └── MissingExtraError (ImportError)      an optional package that is not installed

Each one also is the built-in exception in brackets, so callers that know nothing of sftlib can still catch it.
``NotFittedError`` inherits scikit-learn's class of that name and is built when it is first touched, so that importing
this module imports nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__all__ = [
    "ArtifactError",
    "CheckpointError",
    "DataError",
    "LabelError",
    "MissingExtraError",
    "NonFiniteError",
    "NotFittedError",
    "OptionError",
    "ProcessError",
    "RoleError",
    "SftlibError",
]


class SftlibError(Exception):
    """The root: catches everything that sftlib raises on purpose."""


class DataError(SftlibError, ValueError):
    """Rows, columns or roles that cannot be used; the message names each row and column.

    Attributes:
        rows: every row that is refused, by its position in the data, where leaving them out would do; otherwise empty.
    """

    rows: tuple[int, ...] = ()


class LabelError(DataError):
    """Labels that cannot be used: unseen, missing, of mixed types, or of one class only."""


class OptionError(SftlibError, TypeError):
    """An option that does not exist, or a value that it cannot have; the message names the nearest one."""


class RoleError(OptionError, DataError):
    """A keyword of a data set that is neither an option nor a role."""


class CheckpointError(SftlibError, OSError):
    """A checkpoint that cannot be written or read."""


class ArtifactError(SftlibError, ValueError):
    """A model folder that cannot be written, does not verify, or cannot be opened."""


class NonFiniteError(SftlibError, ArithmeticError):
    """NaN or infinity in a loss or a gradient, found before the weights changed.

    Attributes:
        step: the optimizer step (from 1) that would have used it.
        rows: positions in the training data of the rows in that step's batch.
    """

    def __init__(self, message: str, *, step: int, rows: Sequence[int]) -> None:
        super().__init__(message)
        self.step = step
        self.rows = tuple(rows)


class ProcessError(SftlibError, RuntimeError):
    """Another process of the same run failed, and so this one ends too; the message says which and how."""


class MissingExtraError(SftlibError, ImportError):
    """An optional package that is not installed; the message has the install command."""


if TYPE_CHECKING:

    class NotFittedError(SftlibError, ValueError, AttributeError):
        """Used before ``fit`` or ``load``; scikit-learn's ``NotFittedError`` catches it too."""


def __getattr__(name: str) -> Any:
    if name != "NotFittedError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sklearn.exceptions import NotFittedError as SklearnNotFittedError

    built = type(
        "NotFittedError",
        (SftlibError, SklearnNotFittedError),
        {"__doc__": "Used before ``fit`` or ``load``.", "__module__": __name__},
    )
    return globals().setdefault(name, built)
